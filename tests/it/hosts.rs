//! An entry with several hosts, and an address behind which the server changes: what is written goes to the primary.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use wharf::{ConnectErrorKind, Error, Pg, config::DatabaseConfig, listen::Event};

use crate::{
    cluster::{Cluster, TABLE, Vip, free_port, insert},
    proxy::{Network, Proxy},
    support::{number, say, until},
};

fn connect_error(error: Error) -> wharf::ConnectError {
    match error {
        Error::Connect(error) => error,
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_waits_for_its_synchronous_standby_is_canceled_by_nothing() {
    let cluster = Cluster::start(1);
    cluster.set(0, "synchronous_standby_names", "'*'").await;
    let lines = [
        "statement_timeout: 100ms",
        "settings: {synchronous_commit: remote_apply}",
        "readonly: false",
    ];
    let (pg, watch, standby) = (cluster.pg(&[0], &lines), cluster.node(0), cluster.node(1));
    pg.execute_unprepared(TABLE).await.unwrap();
    standby.execute_unprepared("SELECT pg_wal_replay_pause()").await.unwrap();
    let paused = "SELECT (pg_get_wal_replay_pause_state() = 'paused')::int4::int8";
    until("its replay is paused", async || number(&standby, paused).await == 1).await;
    let commit = tokio::spawn(async move {
        let session = pg.session().await.unwrap();
        insert(&session, 1).await.unwrap();
        session.commit().await
    });
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE 'COMMIT%' \
                 AND now() - query_start > interval '500 ms'";
    until("it waits for longer than statement_timeout", async || number(&watch, waits).await == 1)
        .await;
    standby.execute_unprepared("SELECT pg_wal_replay_resume()").await.unwrap();
    commit.await.unwrap().unwrap();
    assert_eq!(number(&standby, "SELECT count(*) FROM entry").await, 1);
}

#[tokio::test]
async fn connections_go_to_the_primary_wherever_it_stands_in_the_list() {
    let cluster = Cluster::start(1);
    let primary = cluster.ports[0];
    let port = "SELECT inet_server_port()::int8";
    for nodes in [[1, 0], [0, 1]] {
        let manager = wharf::Manager::from_config(cluster.file(&nodes, &[]));
        let pg = manager.db("cluster").unwrap();
        assert_eq!(number(&pg, port).await, i64::from(primary));
        assert_eq!(number(&pg.read_only(), port).await, i64::from(primary));
        let own = manager.connection("cluster").unwrap();
        let row = own.query_one_raw(Statement::from_string(DbBackend::Postgres, port)).await;
        let found: i64 = row.unwrap().unwrap().try_get_by_index(0).unwrap();
        assert_eq!(found, i64::from(primary));
    }
    let url = format!(
        "postgres://it@127.0.0.1:{},127.0.0.1:{primary}/postgres?target_session_attrs=primary",
        cluster.ports[1]
    );
    let pg = Pg::from_url(&url).await.unwrap();
    assert_eq!(number(&pg, port).await, i64::from(primary));

    // A login that may not read the cluster's identity.
    let restricted =
        "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC; CREATE ROLE app LOGIN";
    pg.execute_unprepared(restricted).await.unwrap();
    let pg = Pg::from_url(&url.replace("it@", "app@")).await.unwrap();
    assert_eq!(number(&pg, port).await, i64::from(primary));
}

#[tokio::test]
async fn a_list_of_hosts_that_code_left_empty_is_refused() {
    let mut config = DatabaseConfig::from_url("postgres://it@pg1,pg2/postgres").unwrap();
    config.address = wharf::config::Address::Hosts(Vec::new());
    let error = Pg::from_config("none", config).ping().await.map_err(Error::from).unwrap_err();
    assert!(error.to_string().contains("database `none`: its list of hosts is empty"), "{error}");
}

/// A host that swallows everything and one that is not there cost no more than the wait for a newer primary.
#[tokio::test]
async fn hosts_that_do_not_answer_do_not_take_the_time_of_the_others() {
    let cluster = Cluster::start(0);
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = silent.local_addr().unwrap().port();
    let url = format!(
        "postgres://it@127.0.0.1:{silent},127.0.0.1:{},127.0.0.1:{}/postgres?connect_timeout=60",
        free_port(),
        cluster.ports[0]
    );
    let limit = Duration::from_secs(30);
    let pg = tokio::time::timeout(limit, Pg::from_url(&url)).await.unwrap().unwrap();
    assert_eq!(number(&pg, "SELECT 1::int8").await, 1);
}

/// The old primary says nothing, so all that was heard is that the other one is a standby. It is asked again meanwhile.
#[tokio::test]
async fn a_promotion_is_noticed_while_the_old_primary_is_silent() {
    let cluster = Cluster::start(1);
    cluster.freeze(0, "STOP");
    let pg = cluster.pg(&[0, 1], &["connect_timeout: 120", "pool_timeout: 240"]);
    let asking = tokio::spawn(async move { number(&pg, "SELECT inet_server_port()::int8").await });
    let standby = cluster.node(1);
    let asked = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_control_system%' AND pid <> pg_backend_pid()";
    until("the standby is asked", async || number(&standby, asked).await > 0).await;
    cluster.promote(1);
    let found = tokio::time::timeout(Duration::from_secs(60), asking).await;
    assert_eq!(found.unwrap().unwrap(), i64::from(cluster.ports[1]));
}

#[tokio::test]
async fn what_is_no_cluster_with_one_primary_is_refused_with_what_each_host_said() {
    let cluster = Cluster::start(2);
    let refused = async |pg: &Pg| {
        let error = connect_error(pg.ping().await.map_err(Error::from).unwrap_err());
        (error.kind, error.to_string())
    };
    let at = |node: usize| format!("127.0.0.1:{}", cluster.ports[node]);

    let (kind, said) = refused(&cluster.pg(&[1, 2], &[])).await;
    assert_eq!(kind, ConnectErrorKind::NoPrimary, "{said}");
    for node in [1, 2] {
        assert!(said.contains(&format!("{} is a standby", at(node))), "{said}");
    }

    let other = Cluster::start(0);
    let url = format!("postgres://it@{},127.0.0.1:{}/postgres", at(1), other.ports[0]);
    let mixed = Pg::from_config("mixed", DatabaseConfig::from_url(&url).unwrap());
    let (kind, said) = refused(&mixed).await;
    assert_eq!(kind, ConnectErrorKind::OtherCluster, "{said}");
    assert!(said.contains(&at(1)) && said.contains("has system identifier"), "{said}");

    // The old one goes on, and has the lower timeline.
    cluster.promote(1);
    let pg = cluster.pg(&[0, 1], &[]);
    let port = number(&pg, "SELECT inet_server_port()::int8").await;
    assert_eq!(port, i64::from(cluster.ports[1]));

    // Two of the same timeline.
    cluster.promote(2);
    let (kind, said) = refused(&cluster.pg(&[0, 1, 2], &[])).await;
    assert_eq!(kind, ConnectErrorKind::SplitBrain, "{said}");
    assert!(said.contains(&format!("{} (timeline 2)", at(1))) && said.contains(&at(2)), "{said}");

    let gone =
        format!("postgres://it@127.0.0.1:{},127.0.0.1:{}/postgres", free_port(), free_port());
    let gone = Pg::from_config("gone", DatabaseConfig::from_url(&gone).unwrap());
    let (kind, said) = refused(&gone).await;
    assert_eq!(kind, ConnectErrorKind::Unreachable, "{said}");
    assert_eq!(said.matches("refused").count(), 2, "{said}");
}

/// However many wait, each host is asked once at a time, and afterwards no more connections are opened than there may be.
#[tokio::test(flavor = "multi_thread")]
async fn callers_who_wait_out_an_outage_do_not_besiege_the_hosts() {
    const CALLERS: usize = 200;
    const POOL: u32 = 5;
    let cluster = Cluster::start(1);
    let mut hosts = Vec::new();
    for port in &cluster.ports {
        hosts.push(Proxy::start_before(("127.0.0.1".to_owned(), *port)).await);
    }
    let pg = Cluster::entry(&[
        format!("hosts: [\"127.0.0.1:{}\", \"127.0.0.1:{}\"]", hosts[0].port(), hosts[1].port()),
        format!("pool_size: {POOL}"),
        "max_overflow: 0".to_owned(),
        "connect_timeout: 120".to_owned(),
        "pool_timeout: 120".to_owned(),
        "ssl_mode: disable".to_owned(),
    ]);
    pg.ping().await.unwrap();
    // Its connections are lost, and from then on nothing is answered.
    hosts.iter().for_each(|host| host.set(Network::Resets));
    until("the connection is found lost", async || pg.ping().await.is_err()).await;
    let is_at_rest = async || pg.stats().writer.open + pg.stats().writer.opening == 0;
    until("nobody asks", is_at_rest).await;
    hosts.iter().for_each(|host| host.set(Network::Swallows));
    // Counted from here on.
    for host in &hosts {
        let _ = host.accepted();
    }
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let pg = pg.clone();
            tokio::spawn(async move { number(&pg, "SELECT 1::int8").await })
        })
        .collect();
    until("all wait", async || pg.stats().writer.waiting == CALLERS).await;
    let mut asked = 0;
    until("the host is asked", async || {
        asked += hosts[0].accepted();
        asked > 0
    })
    .await;
    assert_eq!((asked + hosts[0].accepted(), hosts[1].accepted()), (1, 0));
    hosts.iter().for_each(|host| host.set(Network::Whole));
    for caller in callers {
        assert_eq!(caller.await.unwrap(), 1);
    }
    let opened = 1 + hosts[0].accepted();
    assert!(opened <= POOL && hosts[1].accepted() == 0, "{opened}");
}

/// A pooler between may answer with nothing.
#[tokio::test]
async fn an_answer_that_is_nothing_makes_no_primary() {
    let cluster = Cluster::start(0);
    let nothing = "SET allow_system_table_mods = on; \
                   ALTER FUNCTION pg_catalog.pg_is_in_recovery() RENAME TO pg_was_in_recovery; \
                   CREATE FUNCTION pg_catalog.pg_is_in_recovery() RETURNS bool LANGUAGE sql AS 'SELECT NULL::bool'";
    cluster.node(0).execute_unprepared(nothing).await.unwrap();
    let error = cluster.pg(&[0], &[]).ping().await.map_err(Error::from).unwrap_err();
    let error = connect_error(error);
    assert!(error.to_string().contains("does not say whether it is the primary"), "{error}");
}

/// The old primary alone says that it is one, and it is not.
#[tokio::test]
async fn a_primary_that_a_promotion_has_left_behind_is_not_returned_to() {
    let cluster = Cluster::start(1);
    let pg = cluster.pg(&[0, 1], &["pool_timeout: 2"]);
    let port = "SELECT inet_server_port()::int8";
    assert_eq!(number(&pg, port).await, i64::from(cluster.ports[0]));
    cluster.promote(1);
    // Connections to the old one are left when it is gone.
    cluster.kill(0);
    until("the new one is found", async || pg.ping().await.is_ok()).await;
    assert_eq!(number(&pg, port).await, i64::from(cluster.ports[1]));
    cluster.kill(1);
    cluster.up(0);
    let mut said = None;
    until("it is refused", async || {
        if let Err(Error::Connect(error)) = pg.ping().await.map_err(Error::from) {
            said = Some(error);
        }
        said.as_ref().is_some_and(|error| error.kind == ConnectErrorKind::NoPrimary)
    })
    .await;
    let error = said.unwrap();
    for part in ["is a primary (timeline 1)", "a primary on timeline 2 was seen before"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    cluster.up(1);
    until("the new one is back", async || pg.ping().await.is_ok()).await;
    assert_eq!(number(&pg, port).await, i64::from(cluster.ports[1]));
}

/// With a synchronous standby, what was acknowledged is there; each connection fails once at most, and no writer has to be
/// told where the primary is.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_of_the_primary_writes_go_on_at_the_promoted_one() {
    const WRITERS: u32 = 8;
    let cluster = Cluster::start(1);
    let file = cluster.file(&[0, 1], &["pool_size: 8", "max_overflow: 0", "pool_timeout: 60"]);
    let manager = wharf::Manager::from_config(file);
    let (pg, own) = (manager.db("cluster").unwrap(), manager.connection("cluster").unwrap());
    pg.execute_unprepared(TABLE).await.unwrap();
    insert(&own, -1).await.unwrap();
    pg.execute_unprepared("ALTER SYSTEM SET synchronous_standby_names = '*'").await.unwrap();
    pg.execute_unprepared("SELECT pg_reload_conf()").await.unwrap();
    let mut listener = pg.listen(["told"]).await.unwrap();

    let (stop, errors) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let kept = Arc::new(Mutex::new(Vec::new()));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (pg, stop, errors, kept) = (pg.clone(), stop.clone(), errors.clone(), kept.clone());
            tokio::spawn(async move {
                for round in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let id = i64::from(round * WRITERS + writer);
                    match insert(&pg, id).await {
                        Ok(()) => kept.lock().unwrap().push(id),
                        Err(_) => {
                            errors.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
            })
        })
        .collect();
    let written = || kept.lock().unwrap().len();
    until("they write", async || written() > 100).await;
    cluster.kill(0);
    let before = written();
    let began = std::time::Instant::now();
    cluster.promote(1);
    let promoted = began.elapsed();
    // Nobody stands by the new primary yet.
    let new = cluster.node(1);
    new.execute_unprepared("ALTER SYSTEM RESET synchronous_standby_names").await.unwrap();
    new.execute_unprepared("SELECT pg_reload_conf()").await.unwrap();
    until("they write to the new one", async || written() > before + 100).await;
    say(&format!("promoted after {promoted:?}, 100 writes after {:?}", began.elapsed()));
    stop.store(true, Ordering::SeqCst);
    for writer in writers {
        writer.await.unwrap();
    }
    assert!(errors.load(Ordering::SeqCst) <= WRITERS, "{errors:?} errors");
    let kept = format!("{:?}", kept.lock().unwrap()).replace('[', "{").replace(']', "}");
    let lost = format!(
        "SELECT count(*) FROM unnest('{kept}'::int8[]) AS kept WHERE kept NOT IN (SELECT id FROM entry)"
    );
    assert_eq!(number(&new, &lost).await, 0, "what was acknowledged is lost");

    // SeaORM's own connection follows.
    let mut tries = -2;
    until("SeaORM's own connection writes", async || {
        tries -= 1;
        insert(&own, tries).await.is_ok()
    })
    .await;

    // The listener follows, and says what it may have missed.
    assert!(matches!(listener.recv().await.unwrap(), Event::Lost { .. }));
    new.execute_unprepared("NOTIFY told, 'here'").await.unwrap();
    loop {
        if let Event::Notification(told) = listener.recv().await.unwrap() {
            assert_eq!(told.payload, "here");
            break;
        }
    }
}

/// An address that was handed on while connections to a standby stayed open: a ping passes there, and writes failed until
/// the connections were old.
#[tokio::test]
async fn a_server_that_has_become_a_standby_is_left_at_the_first_write_that_it_refuses() {
    let cluster = Cluster::start(1);
    cluster.node(0).execute_unprepared(TABLE).await.unwrap();
    let has_it = "SELECT count(*) FROM pg_tables WHERE tablename = 'entry'";
    until("the standby has the table", async || number(&cluster.node(1), has_it).await == 1).await;
    let vip = Vip::start(cluster.ports[1]).await;
    let url = format!("postgres://it@127.0.0.1:{}/postgres", vip.port);
    let pg = || {
        let mut config = DatabaseConfig::from_url(&url).unwrap();
        (config.pool_size, config.min_connections) = (3, 3);
        Pg::from_config("vip", config)
    };
    let is_on_primary = async |pg: &Pg| {
        number(pg, "SELECT CASE WHEN pg_is_in_recovery() THEN 0 ELSE 1 END::int8").await == 1
    };

    // A single statement that was built has done nothing, and is sent again.
    let single = pg();
    let nested = pg();
    let alone = pg();
    let viewed = pg();
    for pg in [&single, &nested, &alone, &viewed] {
        pg.warm_up().await.unwrap();
    }
    let refused = insert(&single, 1).await.unwrap_err();
    assert_eq!(refused.sqlstate().as_deref(), Some("25006"), "{refused}");
    single.warm_up().await.unwrap();
    vip.move_to(cluster.ports[0]);
    insert(&single, 1).await.unwrap();
    assert!(is_on_primary(&single).await);

    // A view has a transaction around it.
    insert(&viewed.with_local("app.tenant", "7"), 4).await.unwrap();

    // A session fails once, and its retry goes elsewhere.
    nested.session().retry(1).run(async |s| insert(s, 2).await).await.unwrap();

    // Without one, the next begins elsewhere.
    let session = alone.session().await.unwrap();
    assert_eq!(insert(&session, 3).await.unwrap_err().sqlstate().as_deref(), Some("25006"));
    drop(session);
    until("the next is elsewhere", async || is_on_primary(&alone).await).await;
    insert(&alone, 3).await.unwrap();
}

#[tokio::test]
async fn a_primary_that_an_administrator_made_read_only_is_kept() {
    let cluster = Cluster::start(0);
    let pg = cluster.pg(&[0], &["pool_size: 1", "max_overflow: 0"]);
    pg.execute_unprepared(TABLE).await.unwrap();
    cluster
        .node(0)
        .execute_unprepared("ALTER DATABASE postgres SET default_transaction_read_only = on")
        .await
        .unwrap();
    let pg = cluster.pg(&[0], &["pool_size: 1", "max_overflow: 0"]);
    let backend = "SELECT pg_backend_pid()::int8";
    let before = number(&pg, backend).await;
    for id in 0..2 {
        let refused = insert(&pg, id).await.unwrap_err();
        assert_eq!(refused.sqlstate().as_deref(), Some("25006"), "{refused}");
        let session = pg.session().retry(1).run(async |s| insert(s, id).await).await;
        assert_eq!(session.unwrap_err().sqlstate().as_deref(), Some("25006"));
    }
    assert_eq!(number(&pg, backend).await, before);
}
