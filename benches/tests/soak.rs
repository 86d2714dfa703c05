//! Thirty seconds of random faults with a fixed seed: fifteen on one server, fifteen on a cluster.

use std::process::Command;

/// One after the other, because each has its own idea of how long a call may take on this machine.
#[test]
fn no_promise_is_broken_by_random_faults_on_one_server_and_on_a_cluster() {
    for servers in [&[][..], &["--cluster"]] {
        let mut soak = Command::new(env!("CARGO_BIN_EXE_benches"));
        soak.args(["soak", "--seconds", "15", "--seed", "17"]).args(servers);
        assert!(soak.status().unwrap().success(), "its report is above");
    }
}
