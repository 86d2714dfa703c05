//! Thirty seconds of the soak with a fixed seed, which `.ci/run` asks for: here, because `cargo test --workspace` has built all
//! that it needs.

use std::process::Command;

fn soak() -> Command {
    let mut soak = Command::new(env!("CARGO_BIN_EXE_benches"));
    soak.args(["soak", "--seconds", "15", "--seed", "17"]);
    soak
}

#[test]
#[ignore = "takes 30 s; cargo test --workspace --test soak -- --ignored --test-threads=1"]
fn on_one_server() {
    assert!(soak().status().unwrap().success(), "its report is above");
}

#[test]
#[ignore = "takes 30 s; cargo test --workspace --test soak -- --ignored --test-threads=1"]
fn on_a_cluster() {
    assert!(soak().arg("--cluster").status().unwrap().success(), "its report is above");
}
