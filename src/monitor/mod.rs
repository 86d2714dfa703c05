//! What happens to statements: what is slow, what waits, what changed.
//!
//! Every statement of a [`Pg`](crate::Pg) and of its sessions ends in one [`StatementEvent`], which
//! goes to
//! - **metrics**, through the crate `metrics`, under OpenTelemetry's names ([`describe_metrics`] lists
//!   them, with their units): install a recorder, such as `metrics-exporter-prometheus`, before the
//!   first database is opened, and give it [`DURATION_BUCKETS`] and [`ROWS_BUCKETS`]
//!   (`examples/metrics`). Without a recorder nothing is kept;
//! - **the log**: what takes longer than `slow_statement_threshold`, at WARN, by `tracing`. Of one kind
//!   of statement one line in 10 s, and then one that says how many more there were; of a database at
//!   most 20 lines in 10 s;
//! - **[`Monitor::top`]**: figures by kind of statement, in bounded memory;
//! - **the count of repeats**: the same again and again in one session or one [`scope`](crate::scope) is
//!   an N+1, of which the log warns once, or with `n_plus_one: error` a statement fails;
//! - **spans**, with the feature `tracing-spans`: one a statement, of kind CLIENT, by OpenTelemetry's
//!   conventions, as a child of the caller's span;
//! - **an [`Observer`]** of your own.
//!
//! BEGIN, COMMIT, ROLLBACK, savepoints, streams to their end, unprepared statements, COPY and statements
//! whose future was dropped are all seen, and so is what wharf sends for a caller. Pings and the clean-up of a
//! connection are not, which are nobody's statements, nor is what never got a connection, which the pool counts. Settings:
//! [`MonitorConfig`], `monitor:` in the file or in an entry.
//!
//! # What it costs
//! Less than a microsecond of CPU a statement without a recorder, and no allocation where the kind of
//! statement has been seen before (`benches/README.md`). `enabled: false` costs nothing.
//!
//! # SeaORM's own connections
//! Those of [`Manager::connection`](crate::Manager::connection) are seen as far as SeaORM tells: prepared
//! statements, how long they took from when they had a connection, and whether they failed. Not seen are
//! `execute_unprepared`, BEGIN, COMMIT and ROLLBACK, rows, SQLSTATEs, the wait for a connection and the
//! pool; a stream is told when it is dropped, with the time in which it was polled, and never as failed.
//! `n_plus_one: error` cannot keep a statement from running there.

mod digest;
mod event;
mod figures;
mod fingerprint;
mod ledger;
mod meter;
mod observer;
mod plan;
mod pool_meter;
mod repeats;
mod running;
mod scope;
mod slow;
#[cfg(feature = "tracing-spans")]
mod span;
mod subject;
mod table;
mod top;
mod topology_meter;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Instant,
};

use sea_orm::metric::Info;

pub use digest::Digest;
pub use event::{Outcome, StatementEvent};
pub use fingerprint::Fingerprint;
pub(crate) use fingerprint::normalized;
pub(crate) use ledger::Ledger;
pub use meter::{DURATION_BUCKETS, ROWS_BUCKETS, describe_metrics};
pub use observer::Observer;
use plan::Explainable;
pub use plan::Plan;
pub(crate) use plan::{Explainer, ToExplain};
pub(crate) use pool_meter::{PoolMeter, Sample};
pub(crate) use repeats::{Repeats, TooOften};
pub(crate) use running::Rows;
pub(crate) use running::{Context, Running};
pub use scope::{assert_queries, scope};
pub(crate) use subject::OTHER;
pub use top::{Evicted, Top, TopStatement};
pub(crate) use topology_meter::TopologyMeter;

use crate::{
    config::{DatabaseConfig, MonitorConfig},
    statement::Text,
};
use ledger::Recordings;
use meter::Target;
use slow::SlowLog;
use table::{Entry, Table};

/// What one database's statements are told to. See the [module](self).
///
/// Shared by all clones and views of a [`Pg`](crate::Pg), and by SeaORM's own connection of the same
/// name.
pub struct Monitor {
    database: Arc<str>,
    config: MonitorConfig,
    target: OnceLock<Target>,
    table: Mutex<Table>,
    slow: SlowLog,
    explainer: Explainer,
    observer: OnceLock<Box<dyn Observer>>,
}

impl Monitor {
    pub(crate) fn new(database: Arc<str>, config: MonitorConfig, explainer: Explainer) -> Monitor {
        Monitor {
            table: Mutex::new(Table::new(config.top_statements as usize)),
            slow: SlowLog::default(),
            target: OnceLock::new(),
            observer: OnceLock::new(),
            database,
            config,
            explainer,
        }
    }

    /// The `number` kinds of statements on which the most time was spent, since the start or the last
    /// [`reset`](Monitor::reset). No round trip; sorts some hundred entries.
    ///
    /// ```no_run
    /// # fn doc(pg: wharf::Pg) {
    /// println!("{}", pg.monitor().top(10));
    /// # }
    /// ```
    pub fn top(&self, number: usize) -> Top {
        let (entries, evicted) = self.table().all();
        Top::new(entries.iter().map(|entry| entry.statement()), number, evicted)
    }

    /// Forgets all figures.
    pub fn reset(&self) {
        self.table().clear();
    }

    /// Has `observer` told of everything from here on. The first one stays.
    ///
    /// # Errors
    /// Gives it back where there is one already.
    pub fn set_observer<O: Observer + 'static>(&self, observer: O) -> Result<(), O> {
        let mut given = Some(observer);
        self.observer.get_or_init(|| match given.take() {
            Some(observer) => Box::new(observer),
            None => Box::new(()),
        });
        match given {
            None => Ok(()),
            Some(observer) => Err(observer),
        }
    }

    fn observer(&self) -> Option<&dyn Observer> {
        Some(&**self.observer.get()?)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the statements go is known from here on.
    pub(crate) fn connects_to(&self, config: &DatabaseConfig) {
        if self.config.enabled {
            describe_metrics();
            self.target.get_or_init(|| Target::new(config));
        }
    }

    pub(crate) fn config(&self) -> &MonitorConfig {
        &self.config
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.config.enabled
    }

    /// The entry of a statement, made if it is the first of its kind.
    fn entry(&self, sql: &str) -> Arc<Entry> {
        let outline = fingerprint::outline(sql);
        let mut table = self.table();
        if let Some(entry) = table.get(outline.fingerprint) {
            return entry;
        }
        let digest = Digest::new(sql, outline);
        let meter = table.meter(&digest, self.target.get());
        let entry = Arc::new(Entry::new(digest, meter));
        table.insert(Arc::clone(&entry));
        entry
    }

    /// A statement begins. It is told of when the value is ended, or dropped.
    ///
    /// # Errors
    /// [`TooOften`] where it is one of too many.
    pub(crate) fn start<'a>(
        &'a self,
        ledger: &'a mut Ledger,
        text: Text<'_>,
        mut context: Context<'a>,
    ) -> Result<Running<'a>, TooOften> {
        let Ledger { known, repeats, recorder, .. } = ledger;
        // The first statement begins when the connection is lent, which was a look.
        let epoch = match context.wait {
            Some(_) => recorder.epoch(),
            None => recorder.look(context.started),
        };
        let kind = known.kind(text.hash, || self.entry(text.sql));
        let repeats = context.in_transaction.then_some(repeats);
        let scope = self.count(&kind.entry, repeats, context.opened_at)?;
        context.opened_at = context.opened_at.or(scope);
        Ok(Running::new(self, kind, epoch, context))
    }

    /// What SeaORM tells of a statement of its own connection.
    pub(crate) fn sea_orm(&self, info: &Info<'_>) {
        let entry = self.entry(&info.statement.sql);
        // It has run already.
        let _ = self.count(&entry, None, None);
        let outcome = match info.failed {
            true => Outcome::Failed { error_type: subject::OTHER, sqlstate: None },
            false => Outcome::Done,
        };
        let event = StatementEvent {
            wait: None,
            elapsed: info.elapsed,
            outcome,
            ..StatementEvent::new(&self.database, entry.digest())
        };
        // A handle of its own, which is asked for anew.
        let (mut recordings, epoch) = (Recordings::default(), 1);
        let explainable = Explainable { write: &|| Some(info.statement.clone()), view: None };
        self.tell(&entry, &mut recordings, epoch, &event, Instant::now(), explainable);
    }

    /// A statement has ended.
    fn tell(
        &self,
        entry: &Arc<Entry>,
        recordings: &mut Recordings,
        epoch: u64,
        event: &StatementEvent<'_>,
        now: Instant,
        explainable: Explainable<'_>,
    ) {
        entry.meter().statement(event, recordings, epoch);
        let threshold = self.config.slow_statement_threshold;
        let slow = threshold.is_some_and(|threshold| event.elapsed > threshold);
        if !entry.record(event, slow, now) {
            self.table().insert_again(entry);
        }
        if slow {
            let values = self.config.log_bind_values.then(explainable.write).flatten();
            entry.meter().slow();
            self.slow.tell(event, values.and_then(|statement| statement.values), now);
            if self.config.explain && event.digest.operation() == "SELECT" {
                self.explainer.explain(entry, event.elapsed, explainable);
            }
        }
        if let Some(observer) = self.observer() {
            observer.statement(event);
        }
    }

    /// To be called once in a while: what was folded in the log is told.
    pub(crate) fn tick(&self) {
        self.slow.tick(&self.database, Instant::now());
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.slow.end(&self.database);
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Monitor")
            .field("database", &self.database)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
