//! Reads on standbys: what was written is seen, wherever a read runs.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sea_orm::{
    ConnectionTrait, IsolationLevel,
    sea_query::{Expr, ExprTrait, Query},
};
use wharf::{CausalToken, Error, Pg, ServerRole};

use crate::{
    cluster::{Cluster, TABLE, insert, port},
    proxy::Proxy,
    support::{number, say, until},
};

/// A built SELECT, as SeaORM makes it.
async fn has(on: &impl ConnectionTrait, id: i64) -> Result<bool, Error> {
    let mut select = Query::select();
    select.column("id").from("entry").and_where(Expr::col("id").eq(id));
    Ok(on.query_one(&select).await?.is_some())
}

async fn cluster(standbys: usize, lines: &[&str]) -> (Cluster, Pg) {
    let cluster = Cluster::start(standbys);
    cluster.node(0).execute_unprepared(TABLE).await.unwrap();
    let nodes: Vec<usize> = (0..=standbys).collect();
    let pg = cluster.pg(&nodes, lines);
    (cluster, pg)
}

#[tokio::test]
async fn reads_run_on_standbys_and_all_else_on_the_primary() {
    let (cluster, pg) = cluster(2, &["reads: causal"]).await;
    cluster.serves(&pg, &[1, 2]).await;
    let standbys = BTreeSet::from([cluster.ports[1], cluster.ports[2]]);
    let read = pg.read();
    assert!(read.is_read_only());
    let mut seen = BTreeSet::new();
    for _ in 0..8 {
        seen.insert(port(&read).await);
        let s = read.session().await.unwrap();
        seen.insert(port(&s).await);
        s.commit().await.unwrap();
        let s = read.begin().await.unwrap();
        seen.insert(port(&s).await);
    }
    assert_eq!(seen, standbys);
    for on in [&pg, &pg.read_only()] {
        assert_eq!(port(on).await, cluster.ports[0]);
    }
    // What no standby offers runs on the primary.
    let s = read.session().isolation(IsolationLevel::Serializable).await.unwrap();
    assert_eq!(port(&s).await, cluster.ports[0]);
    let refused = insert(&read, 1).await.unwrap_err();
    assert_eq!(refused.sqlstate().as_deref(), Some("25006"), "{refused}");

    let primary = cluster.pg(&[0, 1, 2], &[]);
    assert_eq!(port(&primary.read()).await, cluster.ports[0]);
    assert_eq!(primary.causal_token().await.unwrap(), None);
}

/// How a row is written.
const WAYS: u32 = 3;

async fn write(pg: &Pg, id: i64) -> Result<(), Error> {
    match u32::try_from(id).unwrap() % WAYS {
        0 => insert(pg, id).await,
        1 => pg.session().run(async |s| insert(s, id).await).await,
        _ => {
            let s = pg.session().set_local("synchronous_commit", "off");
            s.run(async |s| insert(s, id).await).await
        }
    }
}

/// Reads it in one of four ways.
async fn read(pg: &Pg, id: i64, way: u32) -> Result<bool, Error> {
    let read = pg.read();
    match way {
        0 => has(&read, id).await,
        1 => {
            let count = format!("SELECT count(*) FROM entry WHERE id = {id}");
            Ok(number(&read, &count).await == 1)
        }
        2 => has(&read.session().await?, id).await,
        _ => has(&read.session().isolation(IsolationLevel::RepeatableRead).await?, id).await,
    }
}

/// Writes and reads at once under delays, pauses and asynchronous commits. Returns how many reads missed what their task had
/// written, and how many ran on a standby.
async fn stale(cluster: &Cluster, pg: &Pg, reads: usize) -> (usize, usize) {
    const TASKS: i64 = 8;
    let (done, stale) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let on_standby = Arc::new(AtomicUsize::new(0));
    let base = number(pg, "SELECT coalesce(max(id), -1) + 1 FROM entry").await;
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let (pg, done, stale) = (pg.clone(), Arc::clone(&done), Arc::clone(&stale));
            let on_standby = Arc::clone(&on_standby);
            tokio::spawn(async move {
                let mut id = base + task;
                while done.load(Ordering::SeqCst) < reads {
                    wharf::causal(async {
                        write(&pg, id).await.unwrap();
                        for way in 0..4 {
                            let found = read(&pg, id, way).await.unwrap();
                            stale.fetch_add(usize::from(!found), Ordering::SeqCst);
                            done.fetch_add(1, Ordering::SeqCst);
                        }
                        let server = "SELECT pg_is_in_recovery()::int::int8";
                        let is_standby = number(&pg.read(), server).await == 1;
                        on_standby.fetch_add(usize::from(is_standby), Ordering::SeqCst);
                    })
                    .await;
                    id += TASKS;
                }
            })
        })
        .collect();
    // One standby replays late, the other not at all at times.
    let mut is_paused = false;
    while done.load(Ordering::SeqCst) < reads {
        let call = if is_paused { "pg_wal_replay_resume" } else { "pg_wal_replay_pause" };
        cluster.node(2).execute_unprepared(&format!("SELECT {call}()")).await.unwrap();
        is_paused = !is_paused;
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
    for task in tasks {
        task.await.unwrap();
    }
    cluster.node(2).execute_unprepared("SELECT pg_wal_replay_resume()").await.unwrap();
    (stale.load(Ordering::SeqCst), on_standby.load(Ordering::SeqCst))
}

#[tokio::test(flavor = "multi_thread")]
async fn no_causal_read_is_stale_and_eventual_ones_are() {
    let (cluster, pg) = cluster(2, &["reads: causal"]).await;
    cluster.serves(&pg, &[1, 2]).await;
    cluster.set(1, "recovery_min_apply_delay", "'400ms'").await;
    let (missed, on_standby) = stale(&cluster, &pg, 10_000).await;
    say(&format!("causal: {missed} of 10000 reads stale; {on_standby} last reads on a standby"));
    assert_eq!(missed, 0);
    assert!(on_standby > 0);
    // The same without the check.
    let eventual = cluster.pg(&[0, 1, 2], &["reads: eventual"]);
    cluster.serves(&eventual, &[1, 2]).await;
    let (missed, _) = stale(&cluster, &eventual, 1_000).await;
    say(&format!("eventual: {missed} of 1000 reads stale"));
    assert!(missed > 0);
}

/// A request writes, and the next one comes 200 ms later, with the standbys 50 ms behind.
#[tokio::test(flavor = "multi_thread")]
async fn reads_soon_after_a_write_run_on_standbys() {
    const REQUESTS: i64 = 40;
    let (cluster, pg) = cluster(2, &["reads: causal"]).await;
    cluster.serves(&pg, &[1, 2]).await;
    for standby in [1, 2] {
        cluster.set(standby, "recovery_min_apply_delay", "'50ms'").await;
    }
    let requests = (0..REQUESTS).map(async |id| {
        wharf::causal(async {
            write(&pg, id).await.unwrap();
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert!(read(&pg, id, 0).await.unwrap());
            number(&pg.read(), "SELECT pg_is_in_recovery()::int::int8").await
        })
        .await
    });
    let on_standby: i64 = futures_util::future::join_all(requests).await.into_iter().sum();
    say(&format!("{on_standby} of {REQUESTS} reads ran on standbys"));
    assert!(on_standby * 2 > REQUESTS, "{on_standby}");
}

#[tokio::test]
async fn a_scope_waits_for_its_own_writes_only() {
    let (cluster, pg) = cluster(1, &["reads: causal", "replica: {wait: 0}"]).await;
    cluster.serves(&pg, &[1]).await;
    cluster.node(1).execute_unprepared("SELECT pg_wal_replay_pause()").await.unwrap();
    pg.session().run(async |s| insert(s, 1).await).await.unwrap();
    // The process has written.
    assert_eq!(port(&pg.read()).await, cluster.ports[0]);
    wharf::causal(async {
        assert_eq!(port(&pg.read()).await, cluster.ports[1]);
        pg.session().run(async |s| insert(s, 2).await).await.unwrap();
        assert!(has(&pg.read(), 2).await.unwrap());
        // A task of its own is not in the scope.
        let spawned = pg.clone();
        let elsewhere = tokio::spawn(async move { port(&spawned.read()).await });
        assert_eq!(elsewhere.await.unwrap(), cluster.ports[0]);
    })
    .await;
    // A write that failed, a rollback and a read change nothing.
    wharf::causal(async {
        let rolled_back = pg.session().await.unwrap();
        insert(&rolled_back, 3).await.unwrap();
        rolled_back.rollback().await.unwrap();
        number(&pg, "SELECT count(*) FROM entry").await;
        assert_eq!(port(&pg.read()).await, cluster.ports[1]);
    })
    .await;
}

#[tokio::test]
async fn a_token_has_the_reads_of_another_process_see_what_was_written() {
    let lines = ["reads: causal", "replica: {wait: 0}", "topology: {interval: 100ms}"];
    let (cluster, pg) = cluster(1, &lines).await;
    let other = cluster.pg(&[0, 1], &lines);
    cluster.serves(&other, &[1]).await;
    assert_eq!(pg.causal_token().await.unwrap(), None);
    cluster.node(1).execute_unprepared("SELECT pg_wal_replay_pause()").await.unwrap();

    // After a single statement, and after a session.
    insert(&pg, 1).await.unwrap();
    let first = pg.causal_token().await.unwrap().unwrap();
    pg.session().run(async |s| insert(s, 2).await).await.unwrap();
    let second = pg.causal_token().await.unwrap().unwrap();
    assert_ne!(first, second);
    assert_eq!(port(&other.read()).await, cluster.ports[1]);
    for (token, id) in [(first, 1), (second, 2)] {
        let token: CausalToken = token.to_string().parse().unwrap();
        assert!(has(&other.read().at_least(token), id).await.unwrap());
        assert_eq!(port(&other.at_least(token).read()).await, cluster.ports[0]);
        assert_eq!(other.at_least(token).causal_token().await.unwrap(), Some(token));
    }
    // The later of two holds.
    for (a, b) in [(first, second), (second, first)] {
        assert_eq!(other.at_least(a).at_least(b).causal_token().await.unwrap(), Some(second));
    }
    cluster.node(1).execute_unprepared("SELECT pg_wal_replay_resume()").await.unwrap();
    until("the standby serves it", async || {
        port(&other.read().at_least(second)).await == cluster.ports[1]
    })
    .await;
    assert!(has(&other.read().at_least(second), 2).await.unwrap());

    // Of the future: that of the moment in which it came.
    let text = second.to_string();
    let (cluster_part, rest) = text.split_once('.').unwrap();
    let (timeline, _) = rest.split_once('.').unwrap();
    let future: CausalToken =
        format!("{cluster_part}.{timeline}.ffffffffffffffff").parse().unwrap();
    let read = other.read().at_least(future);
    assert!(has(&read, 2).await.unwrap());
    until("the standby serves it", async || port(&read).await == cluster.ports[1]).await;
    // A timeline that nobody was seen on, and another cluster.
    let unknown: CausalToken = format!("{cluster_part}.ff.1").parse().unwrap();
    let foreign: CausalToken = "123.1.1".parse().unwrap();
    for token in [unknown, foreign] {
        assert_eq!(port(&other.read().at_least(token)).await, cluster.ports[0]);
    }
}

#[tokio::test]
async fn a_standby_that_catches_up_within_wait_serves_the_read() {
    let (cluster, pg) = cluster(1, &["reads: causal", "replica: {wait: 60s}"]).await;
    cluster.serves(&pg, &[1]).await;
    let standby = cluster.node(1);
    standby.execute_unprepared("SELECT pg_wal_replay_pause()").await.unwrap();
    pg.session().run(async |s| insert(s, 1).await).await.unwrap();
    let reader = pg.clone();
    let reading = tokio::spawn(async move {
        let s = reader.read().session().isolation(IsolationLevel::RepeatableRead).await.unwrap();
        (has(&s, 1).await.unwrap(), port(&s).await)
    });
    let asked = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'BEGIN%replay%' OR query = 'ROLLBACK'";
    until("the standby is asked", async || number(&standby, asked).await > 0).await;
    standby.execute_unprepared("SELECT pg_wal_replay_resume()").await.unwrap();
    assert_eq!(reading.await.unwrap(), (true, cluster.ports[1]));
}

#[tokio::test]
async fn a_read_that_no_standby_may_serve_fails_where_the_entry_says_so() {
    let lines = ["reads: causal", "replica: {wait: 0, fallback: error}"];
    let (cluster, pg) = cluster(1, &lines).await;
    until("the standby is known", async || has(&pg.read(), 0).await.is_ok()).await;
    cluster.node(1).execute_unprepared("SELECT pg_wal_replay_pause()").await.unwrap();
    pg.session().run(async |s| insert(s, 1).await).await.unwrap();
    let error = has(&pg.read(), 1).await.unwrap_err();
    let Error::NoStandby(no_standby) = &error else { panic!("{error}") };
    assert_eq!(no_standby.servers.len(), 2);
    let said = error.to_string();
    for part in [
        "database `cluster`: no standby can serve this read: no standby has replayed",
        &format!("127.0.0.1:{}: primary, timeline 1", cluster.ports[0]),
        &format!("127.0.0.1:{}: standby, timeline 1", cluster.ports[1]),
        "fallback: primary",
    ] {
        assert!(said.contains(part), "{said}");
    }
}

#[tokio::test]
async fn a_standby_that_is_too_far_behind_serves_no_reads() {
    let lines = ["reads: eventual", "replica: {max_lag_bytes: 64kB}", "topology: {interval: 50ms}"];
    let (cluster, pg) = cluster(2, &lines).await;
    cluster.serves(&pg, &[1, 2]).await;
    let by_time = cluster.pg(
        &[0, 1, 2],
        &["reads: eventual", "replica: {max_lag: 300ms}", "topology: {interval: 50ms}"],
    );
    cluster.serves(&by_time, &[1, 2]).await;
    cluster.node(1).execute_unprepared("SELECT pg_wal_replay_pause()").await.unwrap();
    let more = "INSERT INTO entry SELECT generate_series(1, 5000)";
    pg.execute_unprepared(more).await.unwrap();
    // A primary that writes nothing more leaves nobody behind, whatever the clock says.
    for pg in [&pg, &by_time] {
        until("the other serves all", async || {
            let mut ports = BTreeSet::new();
            for _ in 0..6 {
                ports.insert(port(&pg.read()).await);
            }
            ports == BTreeSet::from([cluster.ports[2]])
        })
        .await;
        let servers = pg.servers().await.unwrap();
        let lagging = servers.iter().find(|it| it.port == cluster.ports[1]).unwrap();
        assert_eq!(lagging.role, ServerRole::Standby);
        assert!(lagging.lag_bytes.unwrap() > 64 << 10, "{lagging}");
        let other = servers.iter().find(|it| it.port == cluster.ports[2]).unwrap();
        assert_eq!((other.role, &other.problem), (ServerRole::Standby, &None), "{other}");
    }
    cluster.node(1).execute_unprepared("SELECT pg_wal_replay_resume()").await.unwrap();
    cluster.serves(&pg, &[1, 2]).await;
}

/// The old primary goes on, and its standby gets ahead of the new one, in bytes.
#[tokio::test]
async fn a_standby_of_the_old_timeline_serves_no_reads() {
    let cluster = Cluster::start(2);
    cluster.node(0).execute_unprepared(TABLE).await.unwrap();
    let pg = cluster.pg(&[1, 2], &["reads: causal", "pool_timeout: 60"]);
    cluster.promote(1);
    let old = cluster.node(0);
    let more = "INSERT INTO entry SELECT generate_series(1000, 9000)";
    old.execute_unprepared(more).await.unwrap();
    pg.session().run(async |s| insert(s, 1).await).await.unwrap();
    until("both servers are known", async || {
        let servers = pg.servers().await.unwrap();
        servers.iter().any(|it| it.role == ServerRole::Primary)
            && servers.iter().any(|it| it.role == ServerRole::Standby)
    })
    .await;
    let behind = "SELECT pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::int8";
    let written = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::int8";
    until("the orphan is ahead in bytes", async || {
        number(&cluster.node(2), behind).await > number(&cluster.node(1), written).await
    })
    .await;
    for _ in 0..50 {
        assert!(has(&pg.read(), 1).await.unwrap());
        assert_eq!(port(&pg.read()).await, cluster.ports[1]);
    }
    let servers = pg.servers().await.unwrap();
    assert!(
        servers[1].to_string().contains("it is on timeline 1, and the primary on 2"),
        "{}",
        servers[1]
    );
}

/// What causality costs, counted on the wire.
#[tokio::test]
async fn a_commit_with_its_position_and_a_check_cost_no_round_trip_more() {
    let (cluster, _) = cluster(1, &[]).await;
    let before = async |node: usize| {
        Proxy::start_before(("127.0.0.1".to_owned(), cluster.ports[node])).await
    };
    let (primary, standby) = (before(0).await, before(1).await);
    // So that the topology says nothing meanwhile.
    let pg = Cluster::entry(&[
        format!("hosts: [\"127.0.0.1:{}\", \"127.0.0.1:{}\"]", primary.port(), standby.port()),
        "reads: causal".to_owned(),
        "replica: {wait: 60s}".to_owned(),
        "pool_size: 1".to_owned(),
        "max_overflow: 0".to_owned(),
        "pool_pre_ping: false".to_owned(),
        "topology: {interval: 1h, probe_timeout: 60s}".to_owned(),
    ]);
    until("the standby is known", async || port(&pg.read()).await == cluster.ports[1]).await;
    for id in 0..2 {
        // Prepared, and the connections are open.
        pg.session().run(async |s| insert(s, id).await).await.unwrap();
        assert!(has(&pg.read(), id).await.unwrap());
        assert!(has(&pg.read().session().await.unwrap(), id).await.unwrap());
    }
    let replayed = |id: i64| {
        let standby = cluster.node(1);
        async move { until("it is replayed", async || has(&standby, id).await.unwrap()).await }
    };
    primary.asked();
    pg.session().run(async |s| insert(s, 2).await).await.unwrap();
    assert_eq!(primary.asked(), 3, "BEGIN, INSERT, and COMMIT with its position");
    replayed(2).await;
    standby.asked();
    let s = pg.read().session().await.unwrap();
    assert!(has(&s, 2).await.unwrap());
    assert_eq!(standby.asked(), 2, "BEGIN with the check, SELECT");
    drop(s);
    // It is known by now that the standby has it.
    has(&pg.read(), 2).await.unwrap();
    standby.asked();
    has(&pg.read(), 2).await.unwrap();
    assert_eq!(standby.asked(), 1, "a built SELECT");
    assert_eq!(primary.asked(), 0);
    pg.session().run(async |s| insert(s, 3).await).await.unwrap();
    replayed(3).await;
    has(&pg.read(), 3).await.unwrap();
    has(&pg.read(), 3).await.unwrap();
    assert_eq!(standby.asked(), 3 + 1, "BEGIN with the check, SELECT, ROLLBACK; then one");
}

/// A transaction that sees one moment has to begin after the check: replay goes on between a snapshot and the next statement.
#[tokio::test(flavor = "multi_thread")]
async fn a_repeatable_read_begins_after_the_check() {
    const TASKS: i64 = 16;
    const ROUNDS: i64 = 250;
    let (cluster, pg) = cluster(1, &["reads: causal", "pool_size: 16"]).await;
    cluster.serves(&pg, &[1]).await;
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let pg = pg.clone();
            tokio::spawn(async move {
                let mut stale = 0;
                for round in 0..ROUNDS {
                    let id = round * TASKS + task;
                    wharf::causal(async {
                        pg.session().run(async |s| insert(s, id).await).await.unwrap();
                        let read = pg.read().session().isolation(IsolationLevel::RepeatableRead);
                        stale += u32::from(!has(&read.await.unwrap(), id).await.unwrap());
                    })
                    .await;
                }
                stale
            })
        })
        .collect();
    let mut stale = 0;
    for task in tasks {
        stale += task.await.unwrap();
    }
    assert_eq!(stale, 0);
}

/// A login that may not read the control file learns a standby's timeline by pg_monitor, and no cluster's identifier.
#[tokio::test]
async fn a_login_with_few_rights_reads_where_it_knows_enough() {
    let (cluster, admin) = cluster(1, &[]).await;
    let restrict = "REVOKE EXECUTE ON FUNCTION pg_control_system(), pg_control_checkpoint(), pg_control_recovery() FROM PUBLIC; \
                    CREATE ROLE app LOGIN; GRANT SELECT, INSERT ON entry TO app";
    admin.execute_unprepared(restrict).await.unwrap();
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", cluster.ports[0], cluster.ports[1]);
    let mut config =
        wharf::config::DatabaseConfig::from_url(&format!("postgres://app@{hosts}/postgres"))
            .unwrap();
    config.reads = wharf::config::Reads::Causal;
    config.topology.interval = Duration::from_millis(100);
    let pg = Pg::from_config("restricted", config);
    until("the servers are known", async || {
        let servers = pg.servers().await.unwrap();
        servers.iter().any(|it| it.to_string().contains("grant it pg_monitor"))
    })
    .await;
    assert_eq!(port(&pg.read()).await, cluster.ports[0]);
    pg.session().run(async |s| insert(s, 1).await).await.unwrap();
    let token = pg.causal_token().await.unwrap().unwrap();
    admin.execute_unprepared("GRANT pg_monitor TO app").await.unwrap();
    cluster.serves(&pg, &[1]).await;
    insert(&pg, 2).await.unwrap();
    let later = pg.causal_token().await.unwrap().unwrap();
    assert_ne!(token, later);
    for token in [token, later] {
        until("the standby serves it", async || {
            port(&pg.read().at_least(token)).await == cluster.ports[1]
        })
        .await;
        assert!(has(&pg.read().at_least(token), 1).await.unwrap());
    }
}
