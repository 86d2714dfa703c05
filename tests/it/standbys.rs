//! Standbys that fail, are replaced, or are none: what reads come to then.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use sea_orm::{
    ConnectionTrait,
    sea_query::{Expr, Query},
};
use wharf::{Error, Pg, ServerRole};

use crate::{
    cluster::{Cluster, TABLE, free_port, port},
    proxy::{Network, Proxy},
    support::{Log, number, until},
};

async fn write(pg: &Pg, id: i64) {
    let sql = format!("INSERT INTO entry VALUES ({id})");
    pg.session().run(async |s| s.execute_unprepared(&sql).await).await.unwrap();
}

#[tokio::test]
async fn reads_go_on_when_a_standby_dies_and_when_the_primary_does_and_follow_the_new_one() {
    let cluster = Cluster::start(2);
    let lines = ["reads: causal", "pool_timeout: 60", "topology: {interval: 100ms}"];
    let pg = cluster.pg(&[0, 1, 2], &lines);
    pg.execute_unprepared(TABLE).await.unwrap();
    cluster.serves(&pg, &[1, 2]).await;
    write(&pg, 1).await;

    cluster.kill(1);
    // No read fails, and none waits for the dead one.
    for _ in 0..20 {
        assert_eq!(number(&pg.read(), "SELECT count(*) FROM entry").await, 1);
    }
    cluster.serves(&pg, &[2]).await;
    cluster.up(1);
    cluster.serves(&pg, &[1, 2]).await;

    cluster.kill(0);
    for _ in 0..20 {
        assert_eq!(number(&pg.read(), "SELECT count(*) FROM entry").await, 1);
    }
    cluster.promote(1);
    cluster.follow(2, 1).await;
    write(&pg, 2).await;
    assert_eq!(number(&pg.read(), "SELECT count(*) FROM entry").await, 2);
    cluster.serves(&pg, &[2]).await;
    let servers = pg.servers().await.unwrap();
    assert_eq!(servers[1].role, ServerRole::Primary);
    assert_eq!((servers[2].role, servers[2].timeline), (ServerRole::Standby, Some(2)));
    assert_eq!(servers[0].role, ServerRole::Unknown);
    assert!(servers[0].to_string().contains("unreachable"), "{}", servers[0]);
}

#[tokio::test]
async fn a_standby_that_swallows_everything_costs_a_read_no_more_than_probe_timeout() {
    let cluster = Cluster::start(2);
    let proxy = Proxy::start_before(("127.0.0.1".to_owned(), cluster.ports[1])).await;
    let pg = Cluster::entry(&[
        format!("hosts: [\"127.0.0.1:{}\", \"127.0.0.1:{}\"]", cluster.ports[0], proxy.port()),
        "reads: eventual".to_owned(),
        "connect_timeout: 300".to_owned(),
        "pool_timeout: 300".to_owned(),
        "topology: {interval: 60s, probe_timeout: 1s}".to_owned(),
    ]);
    cluster.serves(&pg, &[1]).await;
    proxy.set(Network::Swallows);
    let limit = Duration::from_secs(60);
    // On a connection that is open, and then on a new one.
    for _ in 0..2 {
        let read = tokio::time::timeout(limit, number(&pg.read(), "SELECT 1::int8")).await;
        assert_eq!(read.unwrap(), 1);
    }
}

/// Recovery needs a lock that a read holds: the read is canceled, and runs again where there is no recovery.
#[tokio::test]
async fn what_a_standby_cancels_runs_again_on_the_primary() {
    let cluster = Cluster::start(2);
    cluster.set(1, "max_standby_streaming_delay", "0").await;
    let pg = cluster.pg(&[0, 1], &["reads: causal"]);
    pg.execute_unprepared(TABLE).await.unwrap();
    write(&pg, 1).await;
    cluster.serves(&pg, &[1]).await;
    let (standby, primary) = (cluster.node(1), cluster.node(0));
    let running = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";

    // A built statement, on its own and in a view.
    for (round, read) in
        [pg.read(), pg.read().with_local("app.tenant", "7")].into_iter().enumerate()
    {
        let reading = tokio::spawn(async move {
            let sleep = "CASE WHEN pg_is_in_recovery() THEN pg_sleep(600)::text END";
            let mut select = Query::select();
            select.column("id").expr(Expr::cust(sleep)).from("entry");
            let row = read.query_one(&select).await.map_err(Error::from)?;
            Ok::<_, Error>(row.unwrap().try_get_by_index::<i64>(0).unwrap())
        });
        until("it reads", async || number(&standby, running).await > 0).await;
        let lock = format!("ALTER TABLE entry ADD COLUMN more_{round} int");
        primary.execute_unprepared(&lock).await.unwrap();
        assert_eq!(reading.await.unwrap().unwrap(), 1);
    }

    // A session that does nothing is closed (FATAL), and runs again by `retry`.
    let (attempts, read) = (AtomicU32::new(0), pg.read());
    let reading = read.session().retry(1).run(async |s| {
        number(s, "SELECT count(*) FROM entry").await;
        let at = port(s).await;
        let own = number(s, "SELECT pg_backend_pid()::int8").await;
        if attempts.fetch_add(1, Ordering::SeqCst) == 0 {
            let alive = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {own}");
            until("it is closed", async || number(&standby, &alive).await == 0).await;
        }
        s.execute_unprepared("SELECT 1").await?;
        Ok::<_, Error>(at)
    });
    let locking = async {
        until("it has read", async || attempts.load(Ordering::SeqCst) > 0).await;
        primary.execute_unprepared("ALTER TABLE entry ADD COLUMN last int").await.unwrap();
    };
    let (read_at, ()) = futures_util::future::join(reading, locking).await;
    assert_eq!(read_at.unwrap(), cluster.ports[0]);
    assert_eq!(attempts.load(Ordering::SeqCst), 2);
}

/// `host` is the primary and `replicas` its standbys.
#[tokio::test]
async fn given_roles_are_verified() {
    let cluster = Cluster::start(2);
    cluster.node(0).execute_unprepared(TABLE).await.unwrap();
    let entry = |primary: usize, replicas: &[u16]| {
        let replicas: Vec<String> =
            replicas.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        Cluster::entry(&[
            "host: 127.0.0.1".to_owned(),
            format!("port: {}", cluster.ports[primary]),
            format!("replicas: [{}]", replicas.join(", ")),
            "reads: causal".to_owned(),
            "topology: {interval: 100ms}".to_owned(),
        ])
    };
    let pg = entry(0, &[cluster.ports[1], cluster.ports[2]]);
    cluster.serves(&pg, &[1, 2]).await;
    write(&pg, 1).await;

    // It would log what the last one is to log.
    drop(pg);

    // A standby as the primary.
    let error = entry(1, &[cluster.ports[2]]).ping().await.map_err(Error::from).unwrap_err();
    assert!(error.to_string().contains("is a standby"), "{error}");

    // A primary among the standbys, and a server of another cluster.
    let (log, _guard) = Log::of_this_thread();
    let other = Cluster::start(0);
    cluster.promote(2);
    let pg = entry(0, &[cluster.ports[1], cluster.ports[2], other.ports[0]]);
    cluster.serves(&pg, &[1]).await;
    until("both are logged", async || {
        log.times("a server of `replicas` is a primary") == 1
            && log.times("the server belongs to another cluster") == 1
    })
    .await;
    let servers = pg.servers().await.unwrap();
    assert!(servers[2].to_string().contains("claims to be the primary"), "{}", servers[2]);
    assert!(servers[3].to_string().contains("belongs to another cluster"), "{}", servers[3]);
}

/// A name behind which there are several servers, as a hosted reader endpoint is: what one of them has replayed says nothing
/// of the next.
#[tokio::test]
async fn behind_one_name_every_read_is_checked_on_the_server_that_it_gets() {
    let cluster = Cluster::start(2);
    let vip = crate::cluster::Vip::start(cluster.ports[1]).await;
    let pg = Cluster::entry(&[
        "host: 127.0.0.1".to_owned(),
        format!("port: {}", cluster.ports[0]),
        format!("replicas: [\"127.0.0.1:{}\"]", vip.port),
        "reads: causal".to_owned(),
        "replica: {wait: 0}".to_owned(),
    ]);
    pg.execute_unprepared(TABLE).await.unwrap();
    cluster.serves(&pg, &[1]).await;
    // From here on, connections lead to the other one, which stands still.
    cluster.node(2).execute_unprepared("SELECT pg_wal_replay_pause()").await.unwrap();
    vip.move_to(cluster.ports[2]);
    let held = pg.read().session().await.unwrap();
    let count = "SELECT count(*) FROM entry";
    for id in 1..=5 {
        write(&pg, id).await;
        assert_eq!(number(&pg.read(), count).await, id);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(number(&pg.read(), count).await, id);
    }
    cluster.node(2).execute_unprepared("SELECT pg_wal_replay_resume()").await.unwrap();
    until("the other one serves a read", async || port(&pg.read()).await == cluster.ports[2]).await;
    assert_eq!(port(&held).await, cluster.ports[1]);
}

/// Servers that suspend when nobody asks them.
#[tokio::test]
async fn a_lazy_topology_leaves_servers_alone_while_nothing_is_read() {
    let cluster = Cluster::start(2);
    let lines = ["reads: eventual", "topology: {interval: 100ms, lazy: true}"];
    let pg = cluster.pg(&[0, 1], &lines);
    cluster.serves(&pg, &[1]).await;
    let asked = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_postmaster_start_time%' \
                 AND query LIKE '%pg_walfile_name%' AND pid <> pg_backend_pid()";
    let standby = cluster.node(1);
    until("it is asked while something is read", async || {
        port(&pg.read()).await;
        number(&standby, asked).await > 0
    })
    .await;
    until("it is left alone", async || number(&standby, asked).await == 0).await;
    cluster.serves(&pg, &[1]).await;
}

#[tokio::test]
async fn a_closed_database_asks_its_servers_no_more() {
    let cluster = Cluster::start(2);
    let pg = cluster.pg(&[0, 1], &["reads: eventual"]);
    cluster.serves(&pg, &[1]).await;
    let (limit, standby) = (Duration::from_secs(20), cluster.node(1));
    pg.close_within(limit).await.unwrap();
    let others = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
    until("nobody is connected", async || number(&standby, others).await == 0).await;
    assert!(matches!(pg.read().ping().await.map_err(Error::from), Err(Error::Closed { .. })));
}

#[tokio::test]
async fn no_standby_is_no_error_and_is_seen() {
    let cluster = Cluster::start(0);
    let gone = free_port();
    let pg = Cluster::entry(&[
        format!("hosts: [\"127.0.0.1:{}\", \"127.0.0.1:{gone}\"]", cluster.ports[0]),
        "reads: causal".to_owned(),
    ]);
    for _ in 0..3 {
        assert_eq!(port(&pg.read()).await, cluster.ports[0]);
    }
    let servers = pg.servers().await.unwrap();
    assert_eq!(servers[0].role, ServerRole::Primary);
    assert_eq!(servers[1].role, ServerRole::Unknown);
    assert!(servers[1].problem.as_ref().unwrap().contains("is unreachable"), "{}", servers[1]);
}
