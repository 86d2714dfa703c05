//! A standby in Docker.

use std::time::{Duration, Instant};

use wharf::config::{Address, Config, DatabaseConfig, PgServerConfig};
use wharf::pgserver::{Endpoint, PgServer, StandbyReport};
use wharf::{Manager, Pg};

use crate::docker::{Server, docker, engine, said};
use crate::support::{answers, connect, run};

fn with_standby(server: &Server) -> PgServerConfig {
    let mut config = server.config();
    config.replica.enabled = true;
    config
}

fn standby(primary: &Endpoint) -> Endpoint {
    let mut at = primary.clone();
    at.port = primary.replica_ports[0];
    at
}

/// Marks the clone, so that another one is known from it.
fn mark(server: &Server) {
    said(&["exec", &server.standby(), "sh", "-c", "touch \"$PGDATA/marked\""]);
}

fn is_marked(server: &Server) -> bool {
    let look = "test -e \"$PGDATA/marked\"";
    docker(&["exec", &server.standby(), "sh", "-c", look]).status.success()
}

async fn follower(pg: &PgServer) -> StandbyReport {
    let begun = Instant::now();
    loop {
        let standbys = pg.report().await.unwrap().unwrap().standbys;
        assert_eq!(standbys.len(), 1, "{standbys:?}");
        if standbys[0].state == "streaming" && standbys[0].lag_bytes == Some(0) {
            return standbys.into_iter().next().unwrap();
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{standbys:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn it_follows_its_primary_and_no_restart_of_either_clones_anew() {
    if !engine() {
        return;
    }
    let server = Server::new("standby");
    let pg = server.pg(with_standby(&server));
    let first = pg.start().await.unwrap();
    run(&first, "CREATE TABLE t AS SELECT 1 AS n").await;
    answers(&standby(&first), "SELECT count(*)::text FROM t", "1").await;
    let refused = sqlx::raw_sql("INSERT INTO t VALUES (2)")
        .execute(&mut connect(&standby(&first)).await.unwrap())
        .await;
    assert!(refused.unwrap_err().to_string().contains("read-only transaction"));
    let at = standby(&first);
    let mut config = DatabaseConfig::from_url("postgres://it@localhost/postgres").unwrap();
    config.address = Address::Host { host: at.host, port: at.port };
    (config.user, config.password) = (at.user, at.password);
    let refused = Pg::from_config("standby", config).listen(["a"]).await.unwrap_err();
    assert!(refused.to_string().contains("a standby, where LISTEN is not possible"), "{refused}");
    assert_eq!(follower(&pg).await.name, server.standby());
    mark(&server);

    // The whole server, the engine's restart of either, and the file's again.
    pg.stop().await.unwrap();
    assert!(pg.running().await.unwrap().is_none());
    let second = pg.start().await.unwrap();
    assert_eq!((second.port, &second.replica_ports), (first.port, &first.replica_ports));
    run(&second, "INSERT INTO t VALUES (2)").await;
    answers(&standby(&second), "SELECT count(*)::text FROM t", "2").await;
    said(&["restart", &server.name]);
    answers(&second, "SELECT count(*)::text FROM t", "2").await;
    run(&second, "INSERT INTO t VALUES (3)").await;
    answers(&standby(&second), "SELECT count(*)::text FROM t", "3").await;
    said(&["restart", &server.standby()]);
    answers(&standby(&second), "SELECT count(*)::text FROM t", "3").await;
    said(&["kill", &server.standby()]);
    run(&second, "INSERT INTO t VALUES (4)").await;
    let third = pg.start().await.unwrap();
    answers(&standby(&third), "SELECT count(*)::text FROM t", "4").await;
    assert!(is_marked(&server), "it was cloned anew");
}

#[tokio::test]
async fn one_that_cannot_follow_any_more_clones_anew() {
    if !engine() {
        return;
    }
    let server = Server::new("reclone");
    let pg = server.pg(with_standby(&server));
    let at = pg.start().await.unwrap();
    mark(&server);
    said(&["stop", &server.standby()]);
    let drop = "SELECT pg_drop_replication_slot(slot_name)::text FROM pg_replication_slots";
    run(&at, drop).await;
    run(&at, "CREATE TABLE t AS SELECT 1 AS n").await;
    let at = pg.start().await.unwrap();
    answers(&standby(&at), "SELECT count(*)::text FROM t", "1").await;
    assert!(!is_marked(&server));
    follower(&pg).await;
}

#[tokio::test]
async fn one_that_was_promoted_is_told_of_and_kept() {
    if !engine() {
        return;
    }
    let server = Server::new("promoted");
    let pg = server.pg(with_standby(&server));
    let at = pg.start().await.unwrap();
    run(&standby(&at), "SELECT pg_promote()::text").await;
    run(&standby(&at), "CREATE TABLE only_here (n int)").await;
    let error = pg.start().await.unwrap_err().to_string();
    assert!(error.contains("its standby was promoted"), "{error}");
    // Not even where it would have to clone anew.
    said(&["stop", &server.standby()]);
    let drop = "SELECT pg_drop_replication_slot(slot_name)::text FROM pg_replication_slots";
    run(&at, drop).await;
    let error = pg.start().await.unwrap_err().to_string();
    assert!(error.contains("its data is kept"), "{error}");
    let mount = format!("{}-replica-data:/data", server.name);
    let kept = "test -s /data/standby/PG_VERSION";
    said(&["run", "--rm", "-v", &mount, "postgres:17", "sh", "-c", kept]);
}

#[tokio::test]
async fn one_that_the_file_no_longer_asks_for_goes_with_what_the_primary_kept_for_it() {
    if !engine() {
        return;
    }
    let server = Server::new("nomore");
    let at = server.pg(with_standby(&server)).start().await.unwrap();
    assert_eq!(at.replica_ports.len(), 1);
    let at = server.pg(server.config()).start().await.unwrap();
    assert!(at.replica_ports.is_empty());
    assert!(!docker(&["inspect", &server.standby()]).status.success());
    assert_eq!(run(&at, "SELECT count(*)::text FROM pg_replication_slots").await.unwrap(), "0");
}

#[tokio::test]
async fn read_only_databases_of_the_file_are_read_from_it() {
    if !engine() {
        return;
    }
    let server = Server::new("replica-entry");
    let yaml = format!(
        "pgserver: {{name: {}, version: 17, runtime: docker, replica: {{enabled: true}}}}\n\
         databases:\n  shop: {{pgserver: true, database: shop, create_db: true}}\n  reports: \
         {{pgserver: replica, database: shop, readonly: true}}\n",
        server.name
    );
    let config = Config::loader("standby.yaml").text(yaml).env([]).load().unwrap();
    let pg = server.pg(config.pgserver.clone().unwrap());
    let manager = Manager::with_pgserver(config, pg);
    let at = manager.start_pgserver().await.unwrap();
    let mut shop = at.clone();
    shop.port = at.replica_ports[0];
    answers(&shop, "SELECT count(*)::text FROM pg_database WHERE datname = 'shop'", "1").await;
    assert!(!in_recovery(&manager.db("shop").unwrap()).await);
    assert!(in_recovery(&manager.db("reports").unwrap()).await);
    manager.close().await;
}

async fn in_recovery(pg: &Pg) -> bool {
    use sea_orm::{ConnectionTrait, DbBackend, Statement};
    let sql = "SELECT pg_is_in_recovery()";
    let row = pg.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await;
    row.unwrap().unwrap().try_get_by_index(0).unwrap()
}

#[tokio::test]
async fn several_have_a_container_and_a_slot_each() {
    if !engine() {
        return;
    }
    let server = Server::new("several");
    let mut config = with_standby(&server);
    config.replica.count = 2;
    let pg = server.pg(config.clone());
    let first = pg.start().await.unwrap();
    run(&first, "CREATE TABLE t AS SELECT 1 AS n").await;
    let standbys = |at: &Endpoint| -> Vec<Endpoint> {
        let at = |port: &u16| {
            let mut standby = at.clone();
            standby.port = *port;
            standby
        };
        first.replica_ports.iter().map(at).collect()
    };
    assert_eq!(first.replica_ports.len(), 2);
    for standby in standbys(&first) {
        answers(&standby, "SELECT count(*)::text FROM t", "1").await;
    }
    let report = pg.report().await.unwrap().unwrap();
    let ports: Vec<_> = report.standbys.iter().map(|it| it.port.unwrap()).collect();
    assert_eq!(ports, first.replica_ports, "{:?}", report.standbys);
    mark(&server);
    pg.stop().await.unwrap();
    for standby in standbys(&first) {
        assert!(connect(&standby).await.is_err());
    }
    let second = pg.start().await.unwrap();
    assert_eq!((second.port, &second.replica_ports), (first.port, &first.replica_ports));
    run(&second, "INSERT INTO t VALUES (2)").await;
    for standby in standbys(&second) {
        answers(&standby, "SELECT count(*)::text FROM t", "2").await;
    }
    assert!(is_marked(&server), "it was cloned anew");
    assert_eq!(pg.running().await.unwrap().unwrap().replica_ports, first.replica_ports);
    let error = pg.failover(false).await.unwrap_err().to_string();
    assert!(error.contains("not supported by runtime docker; set `runtime: native`"), "{error}");

    config.replica.count = 1;
    let pg = server.pg(config);
    let third = pg.start().await.unwrap();
    assert_eq!(third.replica_ports, first.replica_ports[..1]);
    let second = format!("{}-2", server.standby());
    assert!(!docker(&["inspect", &second]).status.success());
    // The slot of a container that is gone is free a moment later; the next start drops it.
    answers(&third, "SELECT count(*)::text FROM pg_replication_slots WHERE active", "1").await;
    pg.start().await.unwrap();
    assert_eq!(run(&third, "SELECT count(*)::text FROM pg_replication_slots").await.unwrap(), "1");
    // Its data is removed with all else.
    assert!(pg.holdings().await.unwrap().iter().any(|it| it.contains(&format!("{second}-data"))));
    pg.remove().await.unwrap();
    assert!(pg.holdings().await.unwrap().is_empty());
}

#[tokio::test]
async fn one_that_was_removed_by_hand_costs_the_primary_no_disk() {
    if !engine() {
        return;
    }
    let server = Server::new("orphan");
    let at = server.pg(with_standby(&server)).start().await.unwrap();
    let slots = "SELECT count(*)::text FROM pg_replication_slots";
    assert_eq!(run(&at, slots).await.unwrap(), "1");
    said(&["rm", "-f", &server.standby()]);
    let released = "SELECT bool_and(NOT active)::text FROM pg_replication_slots";
    answers(&at, released, "true").await;
    let at = server.pg(server.config()).start().await.unwrap();
    assert_eq!(run(&at, slots).await.unwrap(), "0");
    // Somebody else's is left alone, and so is one that is beside the standby's.
    run(&at, "SELECT pg_create_physical_replication_slot('mine', true)::text").await;
    run(&at, "SELECT pg_create_physical_replication_slot('wharf_0', true)::text").await;
    run(&at, "SELECT pg_create_physical_replication_slot('wharf_1', true)::text").await;
    server.pg(with_standby(&server)).start().await.unwrap();
    let names = "SELECT string_agg(slot_name, ' ' ORDER BY slot_name) FROM pg_replication_slots";
    assert_eq!(run(&at, names).await.unwrap(), "mine wharf_0");
    let at = server.pg(server.config()).restart().await.unwrap();
    assert_eq!(run(&at, names).await.unwrap(), "mine");
}
