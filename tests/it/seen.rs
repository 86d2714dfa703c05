//! An observer that keeps what it sees.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use wharf::{
    Pg,
    monitor::{Observer, Outcome, StatementEvent},
};

#[derive(Clone, Default)]
pub struct Seen(Arc<Mutex<Record>>);

#[derive(Default)]
struct Record {
    statements: Vec<Statement>,
    pool: Vec<(String, &'static str, Duration)>,
}

/// What is left of an event.
#[derive(Clone, Debug)]
pub struct Statement {
    pub operation: &'static str,
    pub table: Option<String>,
    pub text: String,
    pub wait: Option<Duration>,
    pub elapsed: Duration,
    pub span: Duration,
    pub rows: Option<u64>,
    pub returned: bool,
    /// `done`, `dropped`, or the error's type.
    pub outcome: String,
    pub sqlstate: Option<String>,
    pub in_transaction: bool,
    pub read_only: bool,
    pub opened_at: Option<String>,
}

impl Seen {
    pub fn of(pg: &Pg) -> Seen {
        let seen = Seen::default();
        assert!(pg.monitor().set_observer(seen.clone()).is_ok());
        seen
    }

    /// Those since the last call.
    pub fn statements(&self) -> Vec<Statement> {
        std::mem::take(&mut self.0.lock().unwrap().statements)
    }

    /// The only one since the last call.
    #[track_caller]
    pub fn one(&self) -> Statement {
        let statements = self.statements();
        assert_eq!(statements.len(), 1, "{statements:#?}");
        statements[0].clone()
    }

    /// What the pool told: which, what, how long.
    pub fn pool(&self) -> Vec<(String, &'static str, Duration)> {
        std::mem::take(&mut self.0.lock().unwrap().pool)
    }

    fn saw(&self, pool: &str, what: &'static str, time: Duration) {
        self.0.lock().unwrap().pool.push((pool.to_owned(), what, time));
    }
}

impl Observer for Seen {
    fn statement(&self, event: &StatementEvent<'_>) {
        let (outcome, sqlstate) = match event.outcome {
            Outcome::Done => ("done", None),
            Outcome::Failed { error_type, sqlstate } => (error_type, sqlstate),
            Outcome::Dropped => ("dropped", None),
            _ => ("?", None),
        };
        self.0.lock().unwrap().statements.push(Statement {
            operation: event.digest.operation(),
            table: event.digest.table().map(str::to_owned),
            text: event.digest.text().to_owned(),
            wait: event.wait,
            elapsed: event.elapsed,
            span: event.span,
            rows: event.rows,
            returned: event.returned,
            outcome: outcome.to_owned(),
            sqlstate: sqlstate.map(str::to_owned),
            in_transaction: event.in_transaction,
            read_only: event.read_only,
            opened_at: event.opened_at.map(ToString::to_string),
        });
    }

    fn lent(&self, pool: &str, wait: Duration) {
        self.saw(pool, "lent", wait);
    }

    fn given_back(&self, pool: &str, used: Duration) {
        self.saw(pool, "given back", used);
    }

    fn timed_out(&self, pool: &str, waited: Duration) {
        self.saw(pool, "timed out", waited);
    }

    fn connected(&self, pool: &str, took: Duration) {
        self.saw(pool, "connected", took);
    }
}
