//! Thirty seconds of the soak with a fixed seed, which `.ci/run` asks for: here, because `cargo test --workspace` has built all
//! that it needs.

use std::process::Command;

fn soak(more: &[&str]) {
    let mut soak = Command::new(env!("CARGO_BIN_EXE_benches"));
    soak.args(["soak", "--seconds", "15", "--seed", "17"]).args(more);
    let status = soak.status().unwrap();
    assert!(status.success(), "{soak:?}: {status}; its report is above");
}

#[test]
#[ignore = "takes 30 s; cargo test --workspace --test soak -- --ignored --test-threads=1"]
fn on_one_server() {
    soak(&[]);
}

#[test]
#[ignore = "takes 30 s; cargo test --workspace --test soak -- --ignored --test-threads=1"]
fn on_a_cluster() {
    soak(&["--cluster"]);
}
