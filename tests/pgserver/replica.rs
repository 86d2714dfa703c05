//! Standbys of this machine's PostgreSQL programs.

use std::net::{TcpListener, TcpStream};
use std::path::Path;

use wharf::config::{PgServerConfig, Runtime};
use wharf::pgserver::{Endpoint, PgServer, PgServerError};

use crate::support::{Dir, answers, config, run, server, signal, try_run, wait_until};

pub fn with_standbys(count: u32) -> PgServerConfig {
    let mut config = config(Runtime::Native);
    (config.replica.enabled, config.replica.count) = (true, count);
    config
}

/// The same server at another port.
pub fn at(endpoint: &Endpoint, port: u16) -> Endpoint {
    let mut at = endpoint.clone();
    at.port = port;
    at
}

/// Marks a data folder with its name, so that another clone is known from it, of a marked one, too.
pub fn mark(dir: &Dir, data: &str) {
    std::fs::write(dir.native().join(data).join("marked"), data).unwrap();
}

pub fn is_marked(dir: &Dir, data: &str) -> bool {
    std::fs::read(dir.native().join(data).join("marked")).is_ok_and(|name| name == data.as_bytes())
}

pub fn pid_of(data: &Path) -> u32 {
    let text = std::fs::read_to_string(data.join("postmaster.pid")).unwrap();
    text.lines().next().unwrap().parse().unwrap()
}

const SLOTS: &str = "SELECT count(*)::text FROM pg_replication_slots";
const ACTIVE: &str = "SELECT count(*)::text FROM pg_replication_slots WHERE active";

#[tokio::test]
async fn they_follow_their_primary_and_no_start_clones_them_again() {
    let dir = Dir::new("replica-follow");
    let pg = server(&dir, with_standbys(2));
    let first = pg.start().await.unwrap();
    assert_eq!(first.replica_ports.len(), 2);
    run(&first, "CREATE TABLE t AS SELECT 1 AS n").await;
    for port in &first.replica_ports {
        let standby = at(&first, *port);
        answers(&standby, "SELECT count(*)::text FROM t", "1").await;
        let refused = try_run(&standby, "INSERT INTO t VALUES (2)").await.unwrap_err();
        assert!(refused.to_string().contains("read-only transaction"), "{refused}");
    }
    let report = pg.report().await.unwrap().unwrap();
    let ports: Vec<u16> = report.standbys.iter().filter_map(|standby| standby.port).collect();
    assert_eq!(ports.len(), 2, "{:?}", report.standbys);
    assert!(ports.iter().all(|port| first.replica_ports.contains(port)), "{ports:?}");
    assert!(report.standbys.iter().all(|it| it.state == "streaming"), "{:?}", report.standbys);
    assert!(pg.differences().await.unwrap().is_empty());
    assert_eq!(pg.running().await.unwrap().unwrap().replica_ports, first.replica_ports);
    mark(&dir, "data-1");
    mark(&dir, "data-2");

    pg.stop().await.unwrap();
    for port in [&[first.port], first.replica_ports.as_slice()].concat() {
        TcpStream::connect(("127.0.0.1", port)).unwrap_err();
    }
    let second = pg.start().await.unwrap();
    assert_eq!((second.port, &second.replica_ports), (first.port, &first.replica_ports));
    run(&second, "INSERT INTO t VALUES (2)").await;
    // One that was killed is started again beside the others, which are left alone.
    let (killed, other) = (dir.native().join("data-2"), pid_of(&dir.native().join("data-1")));
    signal("-KILL", pid_of(&killed));
    wait_until("it is gone", || {
        TcpStream::connect(("127.0.0.1", second.replica_ports[1])).is_err()
    });
    let found = pg.running().await.unwrap().unwrap().replica_ports;
    assert_eq!(found, second.replica_ports[..1]);
    let third = pg.start().await.unwrap();
    assert_eq!(third.replica_ports, first.replica_ports);
    assert_eq!(pid_of(&dir.native().join("data-1")), other);
    let third = pg.restart().await.unwrap();
    run(&third, "INSERT INTO t VALUES (3)").await;
    for port in &third.replica_ports {
        answers(&at(&third, *port), "SELECT count(*)::text FROM t", "3").await;
    }
    assert!(is_marked(&dir, "data-1") && is_marked(&dir, "data-2"), "one was cloned again");
    assert_eq!(run(&third, SLOTS).await.unwrap(), "2");
    pg.remove().await.unwrap();
    assert!(!dir.native().exists());
}

#[tokio::test]
async fn they_follow_a_primary_that_was_killed_and_has_another_port_and_password() {
    let dir = Dir::new("replica-moved");
    let mut config = with_standbys(1);
    config.pass = Some("first".into());
    let first = server(&dir, config.clone()).start().await.unwrap();
    run(&first, "CREATE TABLE t AS SELECT 1 AS n").await;
    mark(&dir, "data-1");
    let standby = pid_of(&dir.native().join("data-1"));
    signal("-KILL", dir.postmaster());
    wait_until("it is gone", || TcpStream::connect(("127.0.0.1", first.port)).is_err());
    let taken = TcpListener::bind(("127.0.0.1", first.port)).unwrap();
    let second = server(&dir, config.clone()).start().await.unwrap();
    assert_ne!(second.port, first.port);
    run(&second, "INSERT INTO t VALUES (2)").await;
    let rows = "SELECT count(*)::text FROM t";
    answers(&at(&second, second.replica_ports[0]), rows, "2").await;
    assert_eq!(pid_of(&dir.native().join("data-1")), standby, "the standby was restarted");

    config.pass = Some("it's a: \\ \"second\"".into());
    let third = server(&dir, config.clone()).restart().await.unwrap();
    run(&third, "INSERT INTO t VALUES (3)").await;
    answers(&at(&third, third.replica_ports[0]), rows, "3").await;
    assert!(is_marked(&dir, "data-1"), "it was cloned again");
    drop(taken);
    server(&dir, config).stop().await.unwrap();
}

#[tokio::test]
async fn one_that_can_never_follow_is_cloned_again() {
    let dir = Dir::new("replica-reclone");
    let pg = server(&dir, with_standbys(1));
    let first = pg.start().await.unwrap();
    mark(&dir, "data-1");
    signal("-INT", pid_of(&dir.native().join("data-1")));
    answers(&first, ACTIVE, "0").await;
    run(&first, "SELECT pg_drop_replication_slot(slot_name)::text FROM pg_replication_slots").await;
    run(&first, "CREATE TABLE t AS SELECT 1 AS n").await;
    let second = pg.start().await.unwrap();
    answers(&at(&second, second.replica_ports[0]), "SELECT count(*)::text FROM t", "1").await;
    assert!(!is_marked(&dir, "data-1"));

    // Nor one that does not start, as after max_connections was lowered.
    mark(&dir, "data-1");
    let mut config = with_standbys(1);
    config.postgres_conf.insert("max_connections".into(), "20".into());
    let third = server(&dir, config).restart().await.unwrap();
    run(&third, "INSERT INTO t VALUES (2)").await;
    answers(&at(&third, third.replica_ports[0]), "SELECT count(*)::text FROM t", "2").await;
    assert_eq!(run(&third, SLOTS).await.unwrap(), "1");
    pg.stop().await.unwrap();
}

#[tokio::test]
async fn an_interrupted_clone_is_not_taken_for_a_standby() {
    let dir = Dir::new("replica-half");
    let alone = server(&dir, config(Runtime::Native));
    let first = alone.start().await.unwrap();
    run(&first, "CREATE TABLE t AS SELECT 1 AS n").await;
    let half = dir.native().join("data-1.new-0");
    std::fs::create_dir(&half).unwrap();
    std::fs::write(half.join("PG_VERSION"), "15\n").unwrap();
    run(&first, "SELECT pg_create_physical_replication_slot('wharf_half', true)::text").await;
    let pg = server(&dir, with_standbys(1));
    let second = pg.start().await.unwrap();
    assert!(!half.exists());
    answers(&at(&second, second.replica_ports[0]), "SELECT count(*)::text FROM t", "1").await;
    // What the primary kept for it is let go.
    assert_eq!(run(&second, SLOTS).await.unwrap(), "1");
    assert_eq!(run(&second, ACTIVE).await.unwrap(), "1");
    pg.stop().await.unwrap();
}

#[tokio::test]
async fn their_number_changes_beside_a_running_primary() {
    let dir = Dir::new("replica-number");
    let first = server(&dir, config(Runtime::Native)).start().await.unwrap();
    let postmaster = dir.postmaster();
    run(&first, "SELECT pg_create_physical_replication_slot('mine', true)::text").await;
    let limit = "SHOW max_slot_wal_keep_size";
    for (count, data, slots) in [(2, 3, "3"), (1, 2, "2"), (0, 1, "1")] {
        let config = match count {
            0 => config(Runtime::Native),
            count => with_standbys(count),
        };
        let pg = server(&dir, config);
        let now = pg.start().await.unwrap();
        assert_eq!((now.port, now.replica_ports.len()), (first.port, count as usize));
        assert_eq!(dir.postmaster(), postmaster, "the primary was restarted");
        let names = std::fs::read_dir(dir.native()).unwrap().flatten();
        let names: Vec<_> = names.filter(|it| it.path().join("PG_VERSION").exists()).collect();
        assert_eq!(names.len(), data, "{names:?}");
        assert_eq!(run(&now, SLOTS).await.unwrap(), slots, "one that is not wharf's is kept");
        // What standbys keep is limited, without a restart.
        answers(&now, limit, if count == 0 { "-1" } else { "8GB" }).await;
        assert!(pg.differences().await.unwrap().is_empty());
    }
    server(&dir, config(Runtime::Native)).stop().await.unwrap();
}

#[tokio::test]
async fn one_that_somebody_promoted_is_told_of_and_kept() {
    let dir = Dir::new("replica-promoted");
    let pg = server(&dir, with_standbys(1));
    let first = pg.start().await.unwrap();
    let standby = at(&first, first.replica_ports[0]);
    run(&standby, "SELECT pg_promote()::text").await;
    run(&standby, "CREATE TABLE only_here (n int)").await;
    let error = pg.start().await.unwrap_err().to_string();
    assert!(error.contains("was promoted and no longer follows"), "{error}");
    pg.stop().await.unwrap();
    let error = pg.start().await.unwrap_err().to_string();
    assert!(error.contains("data-1 was promoted"), "{error}");
    // Nor where it is not asked for any more.
    server(&dir, config(Runtime::Native)).start().await.unwrap();
    assert!(dir.native().join("data-1/PG_VERSION").exists());
    pg.stop().await.unwrap();
}

/// Two ports in a row that nobody listens at.
fn two_free_ports() -> u16 {
    for _ in 0..100 {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
    panic!("no two ports in a row are free");
}

#[tokio::test]
async fn the_files_port_is_that_of_the_first_and_the_others_follow_it() {
    let dir = Dir::new("replica-ports");
    let mut config = with_standbys(2);
    let port = two_free_ports();
    config.replica.port = Some(port);
    let pg = server(&dir, config.clone());
    let taken = TcpListener::bind(("127.0.0.1", port + 1)).unwrap();
    let error = pg.start().await.unwrap_err();
    assert!(matches!(error, PgServerError::PortTaken { port: p, .. } if p == port + 1), "{error}");
    drop(taken);
    let now = pg.start().await.unwrap();
    assert_eq!(now.replica_ports, [port, port + 1]);
    config.replica.port = Some(1);
    let shown: Vec<String> =
        server(&dir, config).differences().await.unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [format!("replica.port ({port} -> 1)"), format!("replica.port ({} -> 2)", port + 1)]
    );
    pg.stop().await.unwrap();
}

#[tokio::test]
async fn a_number_that_cannot_be_is_refused_before_anything_starts() {
    let dir = Dir::new("replica-bad");
    for count in [0, 9] {
        let error = server(&dir, with_standbys(count)).start().await.unwrap_err().to_string();
        assert!(error.contains("`replica.count` must be 1 to 8"), "{error}");
    }
    assert!(!dir.native().exists());
}

#[tokio::test]
async fn nothing_is_left_of_a_temporary_servers() {
    let pg = PgServer::temporary(with_standbys(1), []);
    let now = pg.start().await.unwrap();
    let standby = at(&now, now.replica_ports[0]);
    let data = run(&standby, "SHOW data_directory").await.unwrap();
    assert!(Path::new(&data).exists());
    pg.stop().await.unwrap();
    assert!(!Path::new(&data).exists());
    // One whose files are gone would refuse a login, and still listen.
    TcpStream::connect(("127.0.0.1", standby.port)).unwrap_err();
}
