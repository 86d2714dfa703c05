//! The verdicts, from the history and from what the server has at the end, which is read past wharf.

use std::collections::BTreeSet;

use anyhow::Result;
use futures_util::{StreamExt, pin_mut};
use tokio_postgres::Client;

use super::{
    cluster::{Cluster, USER, until},
    history::{History, Outcome},
    tables::{self, Transfer},
    workers::World,
};

/// The verdicts, in the order in which they are printed. Violations that a worker sees during the run count, too.
pub const VERDICTS: [&str; 10] = [
    "nothing is lost or doubled",
    "nothing stale was read",
    "no tenant or setting leaked",
    "streams are whole",
    "copies are whole",
    "notifications are heard once, or Lost",
    "migrations are applied once",
    "pools add up, no transaction stays",
    "nobody waited longer than documented",
    "errors that no fault explains",
];
pub const MEMORY: &str = "memory is flat";
const LOST: &str = VERDICTS[0];
const LEAKED: &str = VERDICTS[2];
const COPIES: &str = VERDICTS[4];
const HEARD: &str = VERDICTS[5];
const POOLS: &str = VERDICTS[7];

/// Waits until the pools of a world without workers are at rest, and says what is not.
pub async fn pools(world: &World, cluster: &Cluster, primary: usize) {
    let history = &world.history;
    for (name, pg) in [("the first Pg", &world.pg), ("the other Pg", &world.other)] {
        let stats = || [pg.stats().writer, pg.stats().reader];
        let rests = until("all connections have come back", async || {
            stats().iter().all(|it| it.in_use == 0 && it.waiting == 0 && it.opening == 0)
        });
        if let Err(error) = rests.await {
            history.violation(POOLS, format!("{name}: {error}: {:?}", pg.stats()));
        }
    }
    let old = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE usename = '{USER}' AND xact_start < clock_timestamp() - interval '3 s'"
    );
    for server in 0..cluster.ports.len() {
        let ended = until("old transactions have ended", async || {
            cluster.number(server, &old).await.is_ok_and(|count| count == 0)
        });
        if let Err(error) = ended.await {
            history
                .violation(POOLS, format!("server {server} (the primary is {primary}): {error}"));
        }
    }
}

/// Whether the figures of the pools fit each other. While they are at work.
pub fn figures(world: &World) {
    for pg in [&world.pg, &world.other] {
        for it in [pg.stats().writer, pg.stats().reader] {
            if it.open > it.max || it.idle + it.in_use > it.open {
                world.history.violation(POOLS, format!("{it:?}"));
            }
        }
    }
}

/// Compares the tables with the history. Nobody may be at work any more.
pub async fn tables(world: &World, cluster: &Cluster, primary: usize) -> Result<()> {
    let client = cluster.client(primary).await?;
    let history = &world.history;
    ledger(&client, world).await?;
    accounts(&client, history).await?;
    copies(&client, world).await?;
    for number in 0..tables::TENANTS {
        let schema = tables::tenant(number);
        let count = format!("SELECT count(*) FROM {schema}.note WHERE tenant <> {number}");
        let foreign: i64 = client.query_one(&count, &[]).await?.get(0);
        if foreign != 0 {
            history.violation(LEAKED, format!("{schema} has {foreign} rows of others"));
        }
    }
    Ok(())
}

/// Notes violations of one verdict.
struct Told<'a> {
    history: &'a History,
    verdict: &'static str,
}

impl<'a> Told<'a> {
    fn new(history: &'a History, verdict: &'static str) -> Told<'a> {
        Told { history, verdict }
    }

    fn add(&self, what: String) {
        self.history.violation(self.verdict, what);
    }
}

async fn ledger(client: &Client, world: &World) -> Result<()> {
    let outcomes = world.history.ledger.outcomes();
    let mut found = vec![0_u32; outcomes.len()];
    let told = Told::new(&world.history, LOST);
    let no_values: [i64; 0] = [];
    let rows = client.query_raw("SELECT id, source, target, cents FROM ledger", no_values).await?;
    pin_mut!(rows);
    while let Some(row) = rows.next().await {
        let row = row?;
        let (id, cents): (i64, i64) = (row.get(0), row.get(3));
        let transfer = Transfer { source: row.get(1), target: row.get(2), cents };
        match usize::try_from(id).ok().and_then(|at| found.get_mut(at)) {
            Some(times) => *times += 1,
            None => told.add(format!("row {id} was never written")),
        }
        // A causal reader's rows move nothing.
        if cents != 0 && transfer != Transfer::new(world.seed, id) {
            told.add(format!("row {id} is {transfer:?}"));
        }
    }
    for (id, (times, outcome)) in found.into_iter().zip(outcomes).enumerate() {
        match (times, outcome) {
            (0, Outcome::Acknowledged) => {
                told.add(format!("row {id} was acknowledged and is not there"))
            }
            (1.., Outcome::Failed) => told.add(format!("row {id} failed and is there")),
            (2.., _) => told.add(format!("row {id} is there {times} times")),
            _ => {}
        }
    }
    let orphans = "SELECT count(*) FROM ledger AS inner_one WHERE parent IS NOT NULL \
                   AND NOT EXISTS (SELECT FROM ledger WHERE id = inner_one.parent)";
    let orphans: i64 = client.query_one(orphans, &[]).await?.get(0);
    if orphans != 0 {
        told.add(format!("{orphans} rows of nested sessions without that of their outer one"));
    }
    Ok(())
}

async fn accounts(client: &Client, history: &History) -> Result<()> {
    let total: i64 = client.query_one("SELECT sum(cents)::int8 FROM account", &[]).await?.get(0);
    if total != tables::TOTAL {
        history.violation(LOST, format!("all accounts have {total} cents, not {}", tables::TOTAL));
    }
    let wrong = format!(
        "SELECT count(*) FROM account WHERE cents <> {} + coalesce((SELECT sum(cents) FROM ledger WHERE target = account.id), 0) \
         - coalesce((SELECT sum(cents) FROM ledger WHERE source = account.id), 0)",
        tables::TOTAL / i64::from(tables::ACCOUNTS)
    );
    let wrong: i64 = client.query_one(&wrong, &[]).await?.get(0);
    if wrong != 0 {
        history.violation(LOST, format!("{wrong} accounts differ from the ledger"));
    }
    Ok(())
}

async fn copies(client: &Client, world: &World) -> Result<()> {
    let outcomes = world.history.copies.outcomes();
    let mut found = vec![0; outcomes.len()];
    let told = Told::new(&world.history, COPIES);
    for row in client.query("SELECT batch, count(*) FROM batch GROUP BY batch", &[]).await? {
        let (batch, rows): (i64, i64) = (row.get(0), row.get(1));
        match usize::try_from(batch).ok().and_then(|at| found.get_mut(at)) {
            Some(it) => *it = rows,
            None => told.add(format!("batch {batch} was never copied")),
        }
    }
    for (batch, (rows, outcome)) in (0..).zip(found.into_iter().zip(outcomes)) {
        let all = i64::from(tables::batch_rows(world.seed, batch));
        let is_right = match outcome {
            Outcome::Acknowledged => rows == all,
            Outcome::Failed => rows == 0,
            Outcome::Unknown => rows == 0 || rows == all,
        };
        if !is_right {
            told.add(format!("batch {batch} ({outcome:?}) has {rows} of {all} rows"));
        }
    }
    Ok(())
}

/// Looks for notifications that were acknowledged and not heard, though nothing was lost around them.
pub fn notifications(world: &World) {
    let outcomes = world.history.notified.outcomes();
    let outcome = |number: i64| usize::try_from(number).ok().and_then(|at| outcomes.get(at));
    let acknowledged: BTreeSet<i64> = (0..)
        .zip(&outcomes)
        .filter(|(_, it)| **it == Outcome::Acknowledged)
        .map(|(n, _)| n)
        .collect();
    let told = Told::new(&world.history, HEARD);
    let mut heard = BTreeSet::new();
    // The last one that was heard without anything lost since. None after `Lost`, until the next one.
    let mut last: Option<i64> = None;
    for event in world.heard.events() {
        let Some(number) = event else {
            last = None;
            continue;
        };
        if !heard.insert(number) {
            told.add(format!("notification {number} was heard twice"));
        }
        match outcome(number) {
            Some(Outcome::Acknowledged) => {}
            // It may come late.
            Some(Outcome::Unknown) => continue,
            Some(Outcome::Failed) => {
                told.add(format!("notification {number} failed and was heard"));
                continue;
            }
            None => {
                told.add(format!("notification {number} was never sent"));
                continue;
            }
        }
        if let Some(last) = last {
            if number < last {
                told.add(format!("notification {number} was heard after {last}"));
            }
            for missed in acknowledged.range(last.min(number)..number).filter(|it| **it != last) {
                told.add(format!(
                    "notification {missed} was not heard, between {last} and {number}"
                ));
            }
        }
        last = Some(number);
    }
    if let Some(last) = last {
        for missed in acknowledged.range(last + 1..) {
            told.add(format!("notification {missed} was not heard, after {last}"));
        }
    }
}
