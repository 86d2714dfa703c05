//! A standby takes the place of the primary.

use sea_orm::ConnectionTrait as _;
use wharf::Manager;
use wharf::config::{Config, Runtime};
use wharf::pgserver::{Endpoint, PgServer, PgServerError};

use crate::replica::{at, is_marked, mark, pid_of, with_standbys};
use crate::support::{Dir, answers, config, run, server, signal, try_run, wait_until};

const TIMELINE: &str = "SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)";
const RECOVERS: &str = "SELECT pg_is_in_recovery()::text";
const ROWS: &str = "SELECT count(*)::text FROM t";
const SLOTS: &str = "SELECT count(*)::text FROM pg_replication_slots";

async fn is_standby(primary: &Endpoint, port: u16) -> bool {
    run(&at(primary, port), RECOVERS).await.unwrap() == "true"
}

#[tokio::test]
async fn a_standby_becomes_the_primary_and_all_others_follow_it_without_another_clone() {
    let dir = Dir::new("failover");
    let pg = server(&dir, with_standbys(2));
    let old = pg.start().await.unwrap();
    run(&old, "CREATE TABLE t AS SELECT 1 AS n").await;
    for data in ["data", "data-1", "data-2"] {
        mark(&dir, data);
    }
    let promoted = pid_of(&dir.native().join("data-1"));
    let new = pg.failover(false).await.unwrap();
    assert_eq!(new.port, old.replica_ports[0]);
    assert_eq!(new.replica_ports, [old.port, old.replica_ports[1]]);
    assert_eq!(pid_of(&dir.native().join("data-1")), promoted, "its connections were closed");
    assert_eq!(run(&new, TIMELINE).await.unwrap(), "00000002");
    run(&new, "INSERT INTO t VALUES (2)").await;
    for port in &new.replica_ports {
        assert!(is_standby(&new, *port).await);
        answers(&at(&new, *port), ROWS, "2").await;
    }
    assert_eq!(run(&new, SLOTS).await.unwrap(), "2");
    // What it kept as the primary, it keeps no more.
    assert_eq!(run(&at(&new, old.port), SLOTS).await.unwrap(), "0");

    // The server is where its primary is, for whoever looks, and after a stop.
    let found = pg.running().await.unwrap().unwrap();
    assert_eq!((found.port, &found.replica_ports), (new.port, &new.replica_ports));
    assert!(pg.differences().await.unwrap().is_empty());
    let recorded = std::fs::read_to_string(dir.path().join("wharf/endpoint")).unwrap();
    assert!(recorded.contains(&format!("\nport={}\n", new.port)), "{recorded}");
    pg.stop().await.unwrap();
    let again = pg.start().await.unwrap();
    assert_eq!((again.port, &again.replica_ports), (new.port, &new.replica_ports));
    run(&again, "INSERT INTO t VALUES (3)").await;

    // And back.
    let back = pg.failover(false).await.unwrap();
    assert_eq!((back.port, &back.replica_ports), (old.port, &old.replica_ports));
    assert_eq!(run(&back, TIMELINE).await.unwrap(), "00000003");
    run(&back, "INSERT INTO t VALUES (4)").await;
    for port in &back.replica_ports {
        answers(&at(&back, *port), ROWS, "4").await;
    }
    for data in ["data", "data-1", "data-2"] {
        assert!(is_marked(&dir, data), "{data} was cloned again");
    }
    pg.stop().await.unwrap();
}

#[tokio::test]
async fn entries_of_the_file_and_of_several_hosts_reach_the_new_primary() {
    let dir = Dir::new("failover-entries");
    let pg = server(&dir, with_standbys(1));
    let old = pg.start().await.unwrap();
    run(&old, "CREATE TABLE t (n int)").await;
    run(&old, "CREATE ROLE app SUPERUSER LOGIN PASSWORD 'app'").await;
    let file = format!(
        "pgserver: {{version: 15, replica: {{enabled: true}}}}\ndatabases:\n  \
         own: {{pgserver: true, database: postgres}}\n  \
         hosts: {{hosts: ['127.0.0.1:{}', '127.0.0.1:{}'], database: postgres, user: app, password: app}}",
        old.port, old.replica_ports[0]
    );
    let file = Config::loader("infra.yaml").text(&file).env([]).load().unwrap();
    let manager = Manager::with_pgserver(file, pg.clone());
    for name in ["own", "hosts"] {
        manager.db(name).unwrap().execute_unprepared("INSERT INTO t VALUES (1)").await.unwrap();
    }
    let new = pg.failover(false).await.unwrap();
    assert_ne!(new.port, old.port);
    for name in ["own", "hosts"] {
        let pg = manager.db(name).unwrap();
        // The first may meet the connection that the old primary has ended.
        let _ = pg.execute_unprepared("SELECT 1").await;
        pg.execute_unprepared("INSERT INTO t VALUES (2)").await.unwrap();
    }
    assert_eq!(run(&new, "SELECT count(*)::text FROM t WHERE n = 2").await.unwrap(), "2");
    manager.close().await;
    pg.stop().await.unwrap();
}

#[tokio::test]
async fn one_that_would_lose_data_is_refused_unless_that_is_allowed() {
    let dir = Dir::new("failover-loss");
    let pg = server(&dir, with_standbys(1));
    let old = pg.start().await.unwrap();
    run(&old, "CREATE TABLE t AS SELECT 1 AS n").await;
    let standby = at(&old, old.replica_ports[0]);
    answers(&standby, ROWS, "1").await;
    // It receives nothing from now on.
    run(&standby, "ALTER SYSTEM SET primary_conninfo = ''").await;
    run(&standby, "SELECT pg_reload_conf()::text").await;
    answers(&old, "SELECT count(*)::text FROM pg_stat_replication", "0").await;
    run(&old, "INSERT INTO t VALUES (2)").await;
    let primary = dir.postmaster();
    let error = pg.failover(false).await.unwrap_err();
    assert!(matches!(error, PgServerError::WouldLose { .. }), "{error}");
    assert!(error.to_string().contains("bytes of the primary's log"), "{error}");
    assert_eq!(dir.postmaster(), primary, "it was stopped for nothing");
    assert_eq!(run(&old, ROWS).await.unwrap(), "2");

    run(&standby, "ALTER SYSTEM RESET primary_conninfo").await;
    let new = pg.failover(true).await.unwrap();
    assert_eq!((new.port, new.replica_ports.as_slice()), (standby.port, &[old.port][..]));
    assert_eq!(run(&new, ROWS).await.unwrap(), "1");
    run(&new, "INSERT INTO t VALUES (3)").await;
    let former = at(&new, old.port);
    answers(&former, "SELECT string_agg(n::text, ' ' ORDER BY n) FROM t", "1 3").await;
    assert!(is_standby(&new, old.port).await);
    pg.stop().await.unwrap();
}

#[tokio::test]
async fn one_that_was_interrupted_is_completed_by_the_next_start() {
    let dir = Dir::new("failover-half");
    let pg = server(&dir, with_standbys(1));
    let old = pg.start().await.unwrap();
    run(&old, "CREATE TABLE t AS SELECT 1 AS n").await;
    signal("-INT", dir.postmaster());
    let pid_file = dir.native().join("data/postmaster.pid");
    wait_until("the primary has stopped", || !pid_file.exists());
    let state = dir.native().join("state");
    let text = std::fs::read_to_string(&state).unwrap();
    let text = text.lines().filter(|line| !line.starts_with("demoted="));
    let text: String = text.map(|line| format!("{line}\n")).collect();
    std::fs::write(&state, format!("{text}primary=1\ndemoted=0\n")).unwrap();
    // Stopped or not, what starts next is one primary with one standby.
    let new = pg.start().await.unwrap();
    assert_eq!((new.port, new.replica_ports.as_slice()), (old.replica_ports[0], &[old.port][..]));
    assert_eq!(run(&new, TIMELINE).await.unwrap(), "00000002");
    assert_eq!(run(&new, "INSERT INTO t VALUES (2) RETURNING n::text").await.unwrap(), "2");
    answers(&at(&new, old.port), ROWS, "2").await;
    assert!(is_standby(&new, old.port).await);
    pg.stop().await.unwrap();
}

#[tokio::test]
async fn the_new_primary_stays_where_standbys_are_no_longer_asked_for() {
    let dir = Dir::new("failover-alone");
    let pg = server(&dir, with_standbys(1));
    let old = pg.start().await.unwrap();
    run(&old, "CREATE TABLE t AS SELECT 1 AS n").await;
    let new = pg.failover(false).await.unwrap();
    run(&new, "INSERT INTO t VALUES (2)").await;
    let alone = server(&dir, config(Runtime::Native));
    let now = alone.restart().await.unwrap();
    assert_eq!((now.port, now.replica_ports.len()), (new.port, 0));
    assert_eq!(run(&now, ROWS).await.unwrap(), "2");
    assert!(!dir.native().join("data").exists());
    // It has standbys again, the first of them where the first primary was.
    let again = pg.start().await.unwrap();
    answers(&at(&again, again.replica_ports[0]), ROWS, "2").await;
    assert!(dir.native().join("data/standby.signal").exists());
    pg.remove().await.unwrap();
}

#[tokio::test]
async fn without_a_standby_or_a_server_nothing_is_stopped() {
    let dir = Dir::new("failover-none");
    let pg = server(&dir, config(Runtime::Native));
    let error = pg.failover(false).await.unwrap_err().to_string();
    assert!(error.contains("run `wharf server up`"), "{error}");
    let at = pg.start().await.unwrap();
    let error = pg.failover(true).await.unwrap_err().to_string();
    assert!(error.contains("no standby is running; set `pgserver.replica"), "{error}");
    try_run(&at, "SELECT 'runs'").await.unwrap();
    pg.stop().await.unwrap();
    let embedded = PgServer::temporary(config(Runtime::Embedded), []);
    embedded.start().await.unwrap();
    let error = embedded.failover(false).await.unwrap_err().to_string();
    assert!(error.contains("not supported by runtime embedded; set `runtime: native`"), "{error}");
    embedded.stop().await.unwrap();
}
