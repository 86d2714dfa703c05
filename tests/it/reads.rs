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
use wharf::{Error, Pg};

use crate::{
    cluster::Cluster,
    support::{number, say, until},
};

const TABLE: &str = "CREATE TABLE entry (id int8 PRIMARY KEY)";

async fn insert(on: &impl ConnectionTrait, id: i64) -> Result<(), Error> {
    let mut insert = Query::insert();
    insert.into_table("entry").columns(["id"]).values_panic([id.into()]);
    on.execute(&insert).await.map(drop).map_err(Error::from)
}

/// A built SELECT, as SeaORM makes it.
async fn has(on: &impl ConnectionTrait, id: i64) -> Result<bool, Error> {
    let mut select = Query::select();
    select.column("id").from("entry").and_where(Expr::col("id").eq(id));
    Ok(on.query_one(&select).await?.is_some())
}

/// The port of the server that answers.
async fn port(on: &impl ConnectionTrait) -> u16 {
    u16::try_from(number(on, "SELECT inet_server_port()::int8").await).unwrap()
}

/// Waits until every standby is known.
async fn settled(pg: &Pg, standbys: usize) {
    until("the standbys are known", async || {
        let mut ports = BTreeSet::new();
        for _ in 0..standbys * 2 {
            ports.insert(port(&pg.read()).await);
        }
        ports.len() == standbys
    })
    .await;
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
    settled(&pg, 2).await;
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
    settled(&pg, 2).await;
    cluster.set(1, "recovery_min_apply_delay", "'400ms'").await;
    let (missed, on_standby) = stale(&cluster, &pg, 10_000).await;
    say(&format!("causal: {missed} of 10000 reads stale; {on_standby} last reads on a standby"));
    assert_eq!(missed, 0);
    assert!(on_standby > 0);
    // The same without the check.
    let eventual = cluster.pg(&[0, 1, 2], &["reads: eventual"]);
    settled(&eventual, 2).await;
    let (missed, _) = stale(&cluster, &eventual, 1_000).await;
    say(&format!("eventual: {missed} of 1000 reads stale"));
    assert!(missed > 0);
}
