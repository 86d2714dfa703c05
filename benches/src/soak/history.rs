//! Records each attempt and its outcome.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use sea_orm::DbErr;
use wharf::Error;

/// Violations of a verdict that are printed; more of it are counted.
pub const SHOWN: usize = 10;

/// The outcome of an attempt, as far as it is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Outcome {
    /// It may have taken effect or not. So begins every attempt.
    #[default]
    Unknown,
    /// wharf said that it took effect.
    Acknowledged,
    /// wharf said that it took none.
    Failed,
}

impl Outcome {
    /// That of a session. Everything but [`Error::CommitUnknown`] says that nothing of it was kept.
    pub fn of_session<T>(result: &Result<T, Error>) -> Outcome {
        match result {
            Ok(_) => Outcome::Acknowledged,
            Err(Error::CommitUnknown { .. }) => Outcome::Unknown,
            Err(_) => Outcome::Failed,
        }
    }

    /// That of a single statement: where the connection was lost, nobody knows whether the server ran it.
    pub fn of_statement<T>(result: &Result<T, Error>) -> Outcome {
        let Err(error) = result else { return Outcome::Acknowledged };
        match error {
            Error::CommitUnknown { .. } | Error::NoAnswer { .. } => Outcome::Unknown,
            Error::Db(_) => match error.sqlstate() {
                Some(state) if !state.starts_with("57P") && !state.starts_with("08") => {
                    Outcome::Failed
                }
                _ => Outcome::Unknown,
            },
            _ => Outcome::Failed,
        }
    }
}

/// The outcomes of numbered attempts. A byte for each, so that a long run stays small.
#[derive(Debug, Default)]
pub struct Attempts(Mutex<Vec<Outcome>>);

impl Attempts {
    /// The number of a new attempt.
    pub fn begin(&self) -> i64 {
        let mut all = lock(&self.0);
        all.push(Outcome::Unknown);
        i64::try_from(all.len() - 1).unwrap_or(i64::MAX)
    }

    pub fn end(&self, number: i64, outcome: Outcome) {
        let at = usize::try_from(number).unwrap_or(usize::MAX);
        if let Some(it) = lock(&self.0).get_mut(at) {
            *it = outcome;
        }
    }

    pub fn outcomes(&self) -> Vec<Outcome> {
        lock(&self.0).clone()
    }
}

/// How often a worker tried.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub acknowledged: u64,
    pub failed: u64,
    pub unknown: u64,
}

pub struct History {
    began: Instant,
    /// Rows of `ledger`.
    pub ledger: Attempts,
    /// Copies into `batch`.
    pub copies: Attempts,
    /// Notifications.
    pub notified: Attempts,
    counts: Mutex<BTreeMap<&'static str, Counts>>,
    errors: Mutex<BTreeMap<String, u64>>,
    violations: Mutex<Vec<(&'static str, String)>>,
}

impl History {
    pub fn new() -> History {
        History {
            began: Instant::now(),
            ledger: Attempts::default(),
            copies: Attempts::default(),
            notified: Attempts::default(),
            counts: Mutex::default(),
            errors: Mutex::default(),
            violations: Mutex::default(),
        }
    }

    pub fn count(&self, worker: &'static str, outcome: Outcome) {
        let mut counts = lock(&self.counts);
        let counts = counts.entry(worker).or_default();
        match outcome {
            Outcome::Acknowledged => counts.acknowledged += 1,
            Outcome::Failed => counts.failed += 1,
            Outcome::Unknown => counts.unknown += 1,
        }
    }

    /// Notes an error that a worker met. One that no fault of the nemesis explains is a violation.
    pub fn error(&self, worker: &'static str, error: &Error) {
        let (kind, is_expected) = kind(worker, error);
        let is_first = {
            let mut errors = lock(&self.errors);
            let times = errors.entry(kind.clone()).or_default();
            *times += 1;
            *times == 1
        };
        if !is_expected && is_first {
            self.violation("errors that no fault explains", format!("{worker}: {kind}: {error}"));
        }
    }

    /// Notes a broken promise, and prints it at once, so that the faults before it are seen.
    pub fn violation(&self, verdict: &'static str, what: String) {
        let mut violations = lock(&self.violations);
        if violations.iter().filter(|(of, _)| *of == verdict).count() < SHOWN {
            let at = self.began.elapsed().as_secs_f64();
            println!("{at:7.1} s  VIOLATION ({verdict}): {what}");
        }
        violations.push((verdict, what));
    }

    pub fn violations(&self) -> Vec<(&'static str, String)> {
        lock(&self.violations).clone()
    }

    pub fn counts(&self) -> BTreeMap<&'static str, Counts> {
        lock(&self.counts).clone()
    }

    pub fn errors(&self) -> BTreeMap<String, u64> {
        lock(&self.errors).clone()
    }
}

/// The kind of an error, and whether a fault of the nemesis explains it.
fn kind(worker: &str, error: &Error) -> (String, bool) {
    /// SQLSTATEs of what the nemesis does, and of transactions that meet.
    const EXPECTED: [&str; 14] = [
        "0A000", // a prepared statement in a session, after ALTER TABLE
        "25006", // a write that met a standby
        "25P02", // a statement after one that failed
        "25P03", // idle in a transaction for too long
        "26000", // as 0A000
        "40001", "40P01", "55P03", "57014", "57P01", "57P02", "57P03", "08006", "53300",
    ];
    let text = match error {
        Error::Connect(error) => return (format!("Connect ({:?})", error.kind), true),
        Error::PoolTimeout(_) => "PoolTimeout",
        Error::NoAnswer { .. } => "NoAnswer",
        Error::CommitUnknown { .. } => "CommitUnknown",
        Error::SessionEnded { .. } => "SessionEnded",
        Error::RolledBack { .. } => "RolledBack",
        Error::StatementAbandoned { .. } => "StatementAbandoned",
        // Migrations run on a pool of the driver, which opens another connection after one that was lost.
        Error::Db(DbErr::ConnectionAcquire(_) | DbErr::Conn(_)) if worker == "migrations" => {
            "a migration's connection was lost"
        }
        error => match error.sqlstate() {
            Some(state) => {
                let is_expected = EXPECTED.contains(&&*state);
                return (format!("SQLSTATE {state}"), is_expected);
            }
            None => {
                let text = error.to_string();
                let is_lost = [
                    "error communicating",
                    "expected to read",
                    "Connection reset",
                    "Broken pipe",
                    "unexpected end of file",
                    "closed",
                    "EOF",
                ]
                .iter()
                .any(|it| text.contains(it));
                if is_lost {
                    return ("connection lost".to_owned(), true);
                }
                return (text.chars().take(100).collect(), false);
            }
        },
    };
    (text.to_owned(), true)
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
