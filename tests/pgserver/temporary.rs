//! Servers for a test run leave nothing behind.

use std::net::TcpStream;
use std::path::PathBuf;

use wharf::config::Runtime;
use wharf::pgserver::PgServer;

use crate::support::{Part, config, run, wait_until};

fn folders(pid: u32) -> Vec<PathBuf> {
    let prefix = format!("wharf-pgserver-{pid}-");
    let entries = std::fs::read_dir(std::env::temp_dir()).unwrap().flatten();
    let ours = entries.filter(|e| e.file_name().to_string_lossy().starts_with(&prefix));
    ours.map(|e| e.path()).collect()
}

async fn runs_and_goes(runtime: Runtime) {
    let server = PgServer::temporary(config(runtime), []);
    server.stop().await.unwrap();
    let endpoint = server.start().await.unwrap();
    assert_eq!(endpoint.runtime, runtime);
    assert_eq!(run(&endpoint, "SHOW synchronous_commit").await.unwrap(), "off");
    assert_eq!(server.clone().start().await.unwrap().port, endpoint.port);
    server.stop().await.unwrap();
    server.stop().await.unwrap();
    TcpStream::connect(("127.0.0.1", endpoint.port)).unwrap_err();

    // Again, and then without a stop.
    let endpoint = server.start().await.unwrap();
    drop(server);
    wait_until("a dropped server is gone", || {
        TcpStream::connect(("127.0.0.1", endpoint.port)).is_err()
    });
}

async fn dies_with_its_process(part: &str) {
    let mut part = Part::play(part, &std::env::temp_dir());
    let pid = part.pid();
    let said = part.says();
    let port: u16 = said.split(' ').next().unwrap().parse().unwrap();
    TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert_eq!(folders(pid).len(), 1);
    part.kill();
    wait_until("folder and server of a killed process are gone", || {
        folders(pid).is_empty() && TcpStream::connect(("127.0.0.1", port)).is_err()
    });
}

#[tokio::test]
async fn native_runs_and_goes() {
    runs_and_goes(Runtime::Native).await;
}

#[tokio::test]
async fn embedded_runs_and_goes() {
    runs_and_goes(Runtime::Embedded).await;
}

#[tokio::test]
async fn native_dies_with_its_process() {
    dies_with_its_process("temporary native").await;
}

#[tokio::test]
async fn embedded_dies_with_its_process() {
    dies_with_its_process("temporary embedded").await;
}
