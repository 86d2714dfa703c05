//! A cluster that Patroni runs (see [`Nodes`]): wharf follows its leader through a switchover and a crash.

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use sea_orm::{
    ConnectionTrait,
    sea_query::{Expr, ExprTrait, Query},
};
use tokio::task::JoinHandle;
use wharf::{Error, Pg};

use super::nodes::{Nodes, PATIENCE};
use crate::{
    cluster::{TABLE, insert},
    support::{number, say, until_within},
};

/// As many as the primary's pool has connections.
const WRITERS: i64 = 8;

/// Beyond any failover.
const LINES: [&str; 4] = ["reads: causal", "pool_size: 8", "max_overflow: 0", "pool_timeout: 300"];

/// Writers who read after each write what they have written.
struct Writers {
    pg: Pg,
    seen: Arc<Seen>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    is_over: AtomicBool,
    /// What was acknowledged, and when.
    written: Mutex<Vec<(i64, Instant)>>,
    /// Reads that did not find what was written.
    stale: AtomicUsize,
    on_replicas: AtomicUsize,
    errors: Mutex<Vec<Error>>,
}

impl Writers {
    fn start(pg: &Pg) -> Writers {
        let seen = Arc::<Seen>::default();
        let tasks = (0..WRITERS).map(|writer| {
            let (pg, seen) = (pg.clone(), Arc::clone(&seen));
            tokio::spawn(async move {
                let mut id = writer;
                while !seen.is_over.load(Ordering::SeqCst) {
                    if let Err(error) = wharf::causal(seen.round(&pg, id)).await {
                        seen.errors.lock().unwrap().push(error);
                    }
                    id += WRITERS;
                }
            })
        });
        Writers { pg: pg.clone(), tasks: tasks.collect(), seen }
    }

    fn written(&self) -> usize {
        self.seen.written.lock().unwrap().len()
    }

    /// Waits until they have written more.
    async fn until_more(&self, what: &str) {
        let before = self.written();
        until_within(PATIENCE, what, async || {
            tokio::time::sleep(Duration::from_millis(10)).await;
            self.written() > before + 100
        })
        .await;
    }

    /// Ends them. Each connection may have failed once. Nothing that was acknowledged is lost, no read was stale, and some ran on
    /// replicas.
    async fn end(self, what: &str) {
        self.seen.is_over.store(true, Ordering::SeqCst);
        for task in self.tasks {
            task.await.unwrap();
        }
        let written = std::mem::take(&mut *self.seen.written.lock().unwrap());
        let errors = std::mem::take(&mut *self.seen.errors.lock().unwrap());
        let gap = longest_gap(&written);
        let (count, failed) = (written.len(), i64::try_from(errors.len()).unwrap());
        let on_replicas = self.seen.on_replicas.load(Ordering::SeqCst);
        say(&format!(
            "{what}: {count} writes, {on_replicas} reads on replicas, {failed} errors, no write for {gap:?}"
        ));
        assert!(on_replicas > 0);
        assert!(failed <= WRITERS, "{failed} errors: {errors:#?}");
        assert_eq!(self.seen.stale.load(Ordering::SeqCst), 0, "stale reads");
        let ids: Vec<String> = written.iter().map(|(id, _)| id.to_string()).collect();
        let lost = format!(
            "SELECT count(*) FROM unnest('{{{}}}'::int8[]) AS written WHERE written NOT IN (SELECT id FROM entry)",
            ids.join(",")
        );
        assert_eq!(number(&self.pg, &lost).await, 0, "what was acknowledged is lost");
    }
}

impl Seen {
    async fn round(&self, pg: &Pg, id: i64) -> Result<(), Error> {
        if id % 2 == 0 {
            insert(pg, id).await?;
        } else {
            pg.session().retry(3).run(async move |s| insert(s, id).await).await?;
        }
        self.written.lock().unwrap().push((id, Instant::now()));
        // A built SELECT, as SeaORM makes it, with where it runs.
        let mut select = Query::select();
        select.expr(Expr::cust("pg_is_in_recovery()")).from("entry");
        match pg.read().query_one(select.and_where(Expr::col("id").eq(id))).await? {
            Some(row) => {
                let is_replica: bool = row.try_get_by_index(0)?;
                self.on_replicas.fetch_add(usize::from(is_replica), Ordering::SeqCst);
            }
            None => drop(self.stale.fetch_add(1, Ordering::SeqCst)),
        }
        // Patroni needs the processor, too.
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok(())
    }
}

/// The longest time without a write.
fn longest_gap(written: &[(i64, Instant)]) -> Duration {
    written.windows(2).map(|pair| pair[1].1 - pair[0].1).max().unwrap_or_default()
}

/// Waits until reads run on all nodes but this one, and on no other.
async fn reads_run_beside(nodes: &Nodes, pg: &Pg, leader: usize) {
    let replicas: BTreeSet<usize> = (0..3).filter(|node| *node != leader).collect();
    until_within(PATIENCE, "reads run on the replicas", async || {
        let mut seen = BTreeSet::new();
        for _ in 0..6 {
            // Of a scope that has written nothing: others write all the time.
            seen.insert(wharf::causal(nodes.of(&pg.read())).await);
        }
        seen == replicas
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_run_on_the_leader_and_reads_on_the_replicas() {
    let Some(nodes) = Nodes::start("").await else { return };
    let leader = nodes.leader().await.unwrap();
    // Two addresses of three.
    let pg = nodes.entry(&[0, 2], &LINES);
    pg.execute_unprepared(TABLE).await.unwrap();
    assert_eq!(nodes.of(&pg).await, leader);
    reads_run_beside(&nodes, &pg, leader).await;
    let writers = Writers::start(&pg);
    writers.until_more("they write").await;
    for _ in 0..50 {
        assert_eq!(nodes.of(&pg).await, leader);
    }
    assert_eq!(writers.seen.errors.lock().unwrap().len(), 0);
    writers.end("steady").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_switchover_writes_go_on_at_the_new_leader_and_reads_at_the_old_one_too() {
    let Some(nodes) = Nodes::start("").await else { return };
    let old = nodes.leader().await.unwrap();
    let new = (old + 1) % 3;
    let pg = nodes.entry(&[0, 1, 2], &LINES);
    pg.execute_unprepared(TABLE).await.unwrap();
    reads_run_beside(&nodes, &pg, old).await;
    let writers = Writers::start(&pg);
    writers.until_more("they write").await;
    nodes.switch_over(old, new).await;
    writers.until_more("they write to the new leader").await;
    assert_eq!(nodes.of(&pg).await, new);
    // The old one comes back as a replica.
    reads_run_beside(&nodes, &pg, new).await;
    writers.until_more("they still write").await;
    writers.end("switchover").await;
}

/// A synchronous replica has what was acknowledged. Patroni waits for its ttl before it leads.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_crash_of_the_leader_writes_go_on_at_the_replica_that_patroni_has_lead() {
    let settings = "    synchronous_mode: true";
    let Some(mut nodes) = Nodes::start(settings).await else { return };
    let old = nodes.leader().await.unwrap();
    let pg = nodes.entry(&[0, 1, 2], &LINES);
    pg.execute_unprepared(TABLE).await.unwrap();
    nodes
        .until("a replica is synchronous", async |nodes| {
            !nodes.members("role", "sync_standby").await.is_empty()
        })
        .await;
    reads_run_beside(&nodes, &pg, old).await;
    let writers = Writers::start(&pg);
    writers.until_more("they write").await;
    nodes.crash(old);
    // Reads of a scope that has written nothing need no leader.
    for _ in 0..20 {
        assert_ne!(wharf::causal(nodes.of(&pg.read())).await, old);
    }
    nodes
        .until("another node leads", async |nodes| {
            nodes.leader().await.is_some_and(|leader| leader != old)
        })
        .await;
    let new = nodes.leader().await.unwrap();
    writers.until_more("they write to the new leader").await;
    assert_eq!(nodes.of(&pg).await, new);
    writers.end("crash").await;
}
