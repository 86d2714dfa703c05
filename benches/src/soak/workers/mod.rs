//! The work that goes on while the nemesis is at it: one file a kind.

mod causal;
mod copies;
mod dropped;
mod listeners;
pub mod migrations;
mod nested;
mod readers;
mod settings;
mod singles;
mod streams;
mod tenants;
mod transfers;

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement, Value};
use tokio::task::JoinHandle;
use wharf::{Error, Pg, Session};

use super::{
    history::{History, Outcome},
    tables::Transfer,
    waits::{Call, Overdue, Waits},
};

pub use listeners::Heard;

/// The state that the workers share.
pub struct World {
    pub pg: Pg,
    /// The same entry, opened once more, as another process has it.
    pub other: Pg,
    pub history: History,
    pub waits: Waits,
    pub seed: u64,
    pub is_cluster: bool,
    pub is_stopped: AtomicBool,
    /// The notifications that the listeners received.
    pub heard: Heard,
}

/// A worker's name and the world: what a session's closure takes its own copy of.
#[derive(Clone)]
pub struct Hand {
    name: &'static str,
    world: Arc<World>,
}

pub struct Worker {
    rng: Rng,
    hand: Hand,
}

impl Deref for Worker {
    type Target = Hand;

    fn deref(&self) -> &Hand {
        &self.hand
    }
}

/// Starts all workers. They end when the world is stopped.
pub fn start(world: &Arc<World>) -> Vec<(&'static str, JoinHandle<()>)> {
    let mut number = 0;
    let mut worker = |name: &'static str| {
        number += 1;
        let rng = Rng::with_seed(world.seed.wrapping_add(number));
        Worker { rng, hand: Hand { name, world: Arc::clone(world) } }
    };
    let mut tasks = Vec::new();
    for _ in 0..2 {
        tasks.push(("transfers", tokio::spawn(transfers::run(worker("transfers")))));
        tasks.push((
            "retried transfers",
            tokio::spawn(transfers::retry(worker("retried transfers"))),
        ));
        tasks.push(("nested", tokio::spawn(nested::run(worker("nested")))));
        tasks.push(("dropped", tokio::spawn(dropped::run(worker("dropped")))));
        tasks.push(("single statements", tokio::spawn(singles::run(worker("single statements")))));
        tasks.push(("causal readers", tokio::spawn(causal::run(worker("causal readers")))));
    }
    tasks.push(("read-only sessions", tokio::spawn(readers::run(worker("read-only sessions")))));
    for tenant in 0..3 {
        tasks.push(("tenants", tokio::spawn(tenants::run(worker("tenants"), tenant))));
    }
    tasks.push(("settings", tokio::spawn(settings::run(worker("settings")))));
    tasks.push(("streams", tokio::spawn(streams::run(worker("streams")))));
    tasks.push(("copies", tokio::spawn(copies::run(worker("copies")))));
    tasks.push(("notifiers", tokio::spawn(listeners::notify(worker("notifiers")))));
    tasks.push(("listeners", tokio::spawn(listeners::listen(worker("listeners")))));
    tasks.push(("migrations", tokio::spawn(migrations::run(worker("migrations")))));
    tasks
}

impl Worker {
    /// The rhythm of a worker: a pause of up to this many milliseconds.
    async fn pause(&mut self, most: u64) {
        tokio::time::sleep(Duration::from_millis(self.rng.u64(1..=most))).await;
    }
}

impl Hand {
    fn goes_on(&self) -> bool {
        !self.world.is_stopped.load(Ordering::Relaxed)
    }

    async fn timed<T>(&self, call: Call, work: impl Future<Output = T>) -> T {
        let (done, overdue) = self.world.waits.timed(self.name, call, work).await;
        if let Some(overdue) = overdue {
            self.world.tell_overdue(&overdue);
        }
        done
    }

    fn violation(&self, verdict: &'static str, what: String) {
        self.world.history.violation(verdict, format!("{}: {what}", self.name));
    }

    /// Counts an attempt, and its error.
    fn note<T>(&self, outcome: Outcome, result: &Result<T, Error>) {
        self.world.history.count(self.name, outcome);
        if let Err(error) = result {
            self.world.history.error(self.name, error);
        }
    }

    /// Counts an attempt whose error, if any, means that nothing was done.
    fn note_read<T>(&self, result: &Result<T, Error>) {
        let outcome = if result.is_ok() { Outcome::Acknowledged } else { Outcome::Failed };
        self.note(outcome, result);
    }

    /// A statement in a session.
    async fn execute(&self, s: &Session, sql: &str, values: Vec<Value>) -> Result<u64, Error> {
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
        Ok(self.timed(Call::InSession, s.execute_raw(statement)).await?.rows_affected())
    }

    /// Does a transfer in a session: its row in the ledger, which it reads again, and both accounts.
    async fn transfer(self, s: &Session, id: i64, parent: Option<i64>) -> Result<(), Error> {
        let Transfer { source, target, cents } = Transfer::new(self.world.seed, id);
        let row =
            "INSERT INTO ledger (id, parent, source, target, cents) VALUES ($1, $2, $3, $4, $5)";
        let values = vec![id.into(), parent.into(), source.into(), target.into(), cents.into()];
        self.execute(s, row, values).await?;
        // Its prepared statement is stale after ALTER TABLE.
        let select = "SELECT * FROM ledger WHERE id = $1";
        let select = Statement::from_sql_and_values(DbBackend::Postgres, select, [id.into()]);
        let rows = self.timed(Call::InSession, s.query_all_raw(select)).await?;
        if rows.len() != 1 {
            let what = format!("a session found its own row {id} {} times", rows.len());
            self.violation("nothing is lost or doubled", what);
        }
        let update = "UPDATE account SET cents = cents + $1 WHERE id = $2";
        for (account, cents) in [(source, -cents), (target, cents)] {
            let updated = self.execute(s, update, vec![cents.into(), account.into()]).await?;
            if updated != 1 {
                self.violation(
                    "nothing is lost or doubled",
                    format!("an UPDATE of account {account} changed {updated} rows"),
                );
            }
        }
        Ok(())
    }
}

impl World {
    pub fn tell_overdue(&self, overdue: &Overdue) {
        let Overdue { call, worker, took, has_ended } = overdue;
        let bound = call.bound().unwrap_or_default();
        let verb = if *has_ended { "took" } else { "still runs after" };
        let what = format!("{worker}: {} {verb} {took:.1?}, bound {bound:.1?}", call.name());
        self.history.violation("nobody waited longer than documented", what);
    }
}

/// The first row of a raw query.
async fn first(on: &impl ConnectionTrait, sql: &str) -> Result<QueryResult, Error> {
    let statement = Statement::from_string(DbBackend::Postgres, sql);
    let row = on.query_one_raw(statement).await?;
    Ok(row.ok_or_else(|| DbErr::RecordNotFound(sql.to_owned()))?)
}
