//! How long each kind of call took, beside its documented bound.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::history::lock;

/// `pool_timeout` of the entry.
pub const P: Duration = Duration::from_secs(5);
/// `socket_timeout` of the entry.
pub const S: Duration = Duration::from_secs(5);
/// The time that a busy machine may add to a bound. The longest measured stall of the runtime is added to it.
pub const SLACK: Duration = Duration::from_secs(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Call {
    Statement,
    ViewStatement,
    Read,
    Begin,
    InSession,
    Savepoint,
    Commit,
    Rollback,
    Run,
    Retry,
    FirstRow,
    NextRow,
    Copy,
    Token,
    Ping,
    Listen,
    Migrate,
}

impl Call {
    pub fn name(self) -> &'static str {
        match self {
            Call::Statement => "statement",
            Call::ViewStatement => "statement of a view",
            Call::Read => "read()",
            Call::Begin => "session()",
            Call::InSession => "statement in a session",
            Call::Savepoint => "nested begin, commit, rollback",
            Call::Commit => "commit()",
            Call::Rollback => "rollback()",
            Call::Run => "run(…)",
            Call::Retry => "retry(3).run(…)",
            Call::FirstRow => "stream, to the first row",
            Call::NextRow => "stream, a further row",
            Call::Copy => "copy_in",
            Call::Token => "causal_token()",
            Call::Ping => "ping()",
            Call::Listen => "listen()",
            Call::Migrate => "migrate()",
        }
    }

    /// The bound of docs/connections.md ("How long a call takes at the most"). With P = `pool_timeout`, S = `socket_timeout`:
    ///
    /// | call | bound |
    /// |---|---|
    /// | statement, first row, token | P + S |
    /// | further row, statement in a session, savepoint | S |
    /// | begin | 2 P + S |
    /// | commit, rollback | 2 S + 250 ms |
    /// | run | begin, four statements, commit |
    /// | retry(3).run | four times that, and three pauses of 1 s |
    /// | statement of a view | begin, a statement, commit, because it is a session of one statement |
    /// | read | twice that of a view, because it may run again on the primary; no page has a bound for it |
    /// | copy | begin, five statements, commit: the catalog's columns, settings, COPY and its end; no page has a bound for it |
    /// | ping | P, and 100 ms for an answer where the connection came in the last moment |
    ///
    /// `listen()` and `migrate()` have none that depends on these alone, so they are only shown.
    pub fn bound(self) -> Option<Duration> {
        let begin = 2 * P + S;
        let commit = 2 * S + Duration::from_millis(250);
        let run = begin + 4 * S + commit;
        Some(match self {
            Call::Statement | Call::FirstRow | Call::Token => P + S,
            Call::InSession | Call::NextRow | Call::Savepoint => S,
            Call::Begin => begin,
            Call::Commit | Call::Rollback => commit,
            Call::Run => run,
            Call::Retry => 4 * run + Duration::from_secs(3),
            Call::ViewStatement => begin + S + commit,
            Call::Read => 2 * (begin + S + commit),
            Call::Copy => begin + 5 * S + commit,
            Call::Ping => P + Duration::from_millis(100),
            Call::Listen | Call::Migrate => return None,
        })
    }
}

/// How long the calls of a kind took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taken {
    pub times: u32,
    pub sum: Duration,
    pub longest: Duration,
}

#[derive(Debug, Default)]
pub struct Waits {
    taken: Mutex<BTreeMap<Call, Taken>>,
    running: Mutex<HashMap<u64, Running>>,
    next: AtomicU64,
    stall_micros: AtomicU64,
}

#[derive(Debug)]
struct Running {
    call: Call,
    worker: &'static str,
    since: Instant,
    is_told: bool,
}

/// A call that took longer than it may.
pub struct Overdue {
    pub call: Call,
    pub worker: &'static str,
    pub took: Duration,
    pub has_ended: bool,
}

impl Waits {
    /// Runs a call, and notes how long it took. Dropping the future notes nothing.
    pub async fn timed<T>(
        &self,
        worker: &'static str,
        call: Call,
        work: impl Future<Output = T>,
    ) -> (T, Option<Overdue>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let since = Instant::now();
        lock(&self.running).insert(number, Running { call, worker, since, is_told: false });
        let guard = Ended { waits: self, number };
        let done = work.await;
        let took = since.elapsed();
        let is_told = lock(&self.running).get(&number).is_some_and(|it| it.is_told);
        drop(guard);
        let mut taken = lock(&self.taken);
        let taken = taken.entry(call).or_default();
        taken.times += 1;
        taken.sum += took;
        taken.longest = took.max(taken.longest);
        let is_overdue = self.is_overdue(call, took) && !is_told;
        (done, is_overdue.then_some(Overdue { call, worker, took, has_ended: true }))
    }

    fn is_overdue(&self, call: Call, took: Duration) -> bool {
        call.bound().is_some_and(|bound| took > bound + SLACK + self.stall())
    }

    /// Returns the calls that run longer than they may, each once.
    pub fn overdue(&self) -> Vec<Overdue> {
        let mut running = lock(&self.running);
        let late = running.values_mut().filter(|it| {
            // A call without a documented bound must end, too.
            let took = it.since.elapsed();
            !it.is_told && (self.is_overdue(it.call, took) || took > Duration::from_secs(300))
        });
        late.map(|it| {
            it.is_told = true;
            Overdue { call: it.call, worker: it.worker, took: it.since.elapsed(), has_ended: false }
        })
        .collect()
    }

    /// Notes how much later than asked for the runtime woke a task.
    pub fn note_stall(&self, stall: Duration) {
        let micros = u64::try_from(stall.as_micros()).unwrap_or(u64::MAX);
        self.stall_micros.fetch_max(micros, Ordering::Relaxed);
    }

    pub fn stall(&self) -> Duration {
        Duration::from_micros(self.stall_micros.load(Ordering::Relaxed))
    }

    pub fn taken(&self) -> BTreeMap<Call, Taken> {
        lock(&self.taken).clone()
    }
}

struct Ended<'a> {
    waits: &'a Waits,
    number: u64,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        lock(&self.waits.running).remove(&self.number);
    }
}
