//! A connection while somebody has it, and the one path that every statement takes.

use std::{
    ops::DerefMut,
    panic::Location,
    sync::Arc,
    time::{Duration, Instant},
};

use async_stream::try_stream;
use deadpool::managed::Object;
use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use sea_orm::{ConnAcquireErr, DbErr, QueryResult, RuntimeErr, Statement, metric::Info};
use sea_query_sqlx::SqlxValues;
use sqlx::{
    AssertSqlSafe, Executor, PgConnection, Postgres,
    postgres::{PgQueryResult, PgRow},
    query::Query,
};

use super::{Claim, Connector, Entry};
use crate::sql;

/// Longest time that an abandoned transaction's ROLLBACK may take before the connection is
/// closed instead, which ends the transaction as well.
const ROLLBACK_TIMEOUT: Duration = Duration::from_secs(2);

/// What a connection is lent for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// One statement: comes back by itself, soon.
    Statement,
    /// A stream or a session: comes back when the caller lets go of it.
    Hold(&'static str, Option<&'static Location<'static>>),
}

/// A lent connection. Dropping it gives it back if it is clean, and sees to it if it is not.
pub(crate) struct Lent {
    object: Option<Object<Connector>>,
    claim: Option<Claim>,
    metric: Option<MetricCallback>,
    _entry: Option<Entry>,
    state: State,
}

/// SeaORM's own way to be told of a statement.
pub(crate) type MetricCallback = Arc<dyn Fn(&Info<'_>) + Send + Sync>;

/// What the connection is in, as far as the next borrower would meet it.
#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// A statement was sent and its end not seen.
    in_flight: bool,
    in_transaction: bool,
    /// Settings or the like may differ from those that it started with.
    changed: bool,
    /// A statement has failed in the transaction.
    failed: bool,
    /// One has failed because of what others did at the same time (40001, 40P01).
    failed_by_chance: bool,
    /// The driver or the server has given it up.
    broken: bool,
}

impl Lent {
    pub(super) fn new(
        object: Object<Connector>,
        claim: Option<Claim>,
        entry: Option<Entry>,
    ) -> Lent {
        Lent { object: Some(object), claim, metric: None, _entry: entry, state: State::default() }
    }

    /// Tells `metric` of every prepared statement from here on.
    pub(crate) fn observed_by(mut self, metric: Option<MetricCallback>) -> Lent {
        self.metric = metric;
        self
    }

    /// The connection is in a transaction from here on, until told otherwise.
    ///
    /// To be said before BEGIN is sent: if that is dropped half-way, nobody knows.
    pub(crate) fn set_in_transaction(&mut self, in_transaction: bool) {
        self.state.in_transaction = in_transaction;
    }

    /// Whether a statement has failed on it since it was lent.
    pub(crate) fn has_failed(&self) -> bool {
        self.state.failed
    }

    /// Whether a statement has failed on it by a serialization failure or a deadlock.
    pub(crate) fn failed_by_chance(&self) -> bool {
        self.state.failed_by_chance
    }

    /// Whether the driver or the server has given it up.
    pub(crate) fn is_broken(&self) -> bool {
        self.state.broken
    }

    /// Runs a prepared statement for its effect.
    pub(crate) async fn execute(&mut self, statement: Statement) -> Result<PgQueryResult, DbErr> {
        let (flight, query) = self.send(statement)?;
        let result = flight.driver.execute(query).await;
        flight.land(result).map_err(|error| DbErr::Exec(runtime(error)))
    }

    /// Runs a prepared statement for its first row.
    pub(crate) async fn query_one(&mut self, statement: Statement) -> Result<Option<PgRow>, DbErr> {
        let (flight, query) = self.send(statement)?;
        let result = flight.driver.fetch_optional(query).await;
        flight.land(result).map_err(|error| DbErr::Query(runtime(error)))
    }

    /// Runs a prepared statement for all its rows.
    pub(crate) async fn query_all(&mut self, statement: Statement) -> Result<Vec<PgRow>, DbErr> {
        let (flight, query) = self.send(statement)?;
        let result = flight.driver.fetch_all(query).await;
        flight.land(result).map_err(|error| DbErr::Query(runtime(error)))
    }

    /// Sends a text of one or several statements unprepared: one round trip.
    pub(crate) async fn execute_unprepared(&mut self, sql: &str) -> Result<PgQueryResult, DbErr> {
        let flight = self.in_flight()?;
        let query = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        let result = flight.driver.execute(query).await;
        flight.land(result).map_err(|error| DbErr::Exec(runtime(error)))
    }

    /// Sends `BEGIN`, `COMMIT` and their kin: wharf's own words, which need no scan.
    pub(crate) async fn control(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        let flight = self.in_flight().map_err(|_| sqlx::Error::PoolClosed)?;
        let query = sqlx::raw_sql(AssertSqlSafe(sql.to_owned()));
        let result = flight.driver.execute(query).await;
        flight.land(result).map(|_| ())
    }

    fn send(
        &mut self,
        statement: Statement,
    ) -> Result<(InFlight<'_>, Query<'static, Postgres, SqlxValues>), DbErr> {
        // Only who wants to be told of the statement pays for a copy of it.
        let watch = self.metric.clone().map(|callback| Watch {
            callback,
            statement: statement.clone(),
            started: Instant::now(),
        });
        let values = statement.values.unwrap_or_else(|| sea_orm::Values(Vec::new()));
        let query = sqlx::query_with(AssertSqlSafe(statement.sql), SqlxValues(values));
        let mut flight = self.in_flight()?;
        flight.watch = watch;
        Ok((flight, query))
    }

    fn in_flight(&mut self) -> Result<InFlight<'_>, DbErr> {
        let open = match &mut self.object {
            Some(object) => object,
            None => return Err(DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed)),
        };
        self.state.in_flight = true;
        Ok(InFlight { driver: &mut open.driver, state: &mut self.state, watch: None })
    }

    /// A raw statement of the caller's is about to run: what it leaves behind, in a transaction
    /// that commits too, has to be gone before the next borrower comes.
    pub(crate) fn raw(&mut self, sql: &str) {
        self.state.changed |= sql::changes_connection(sql);
    }
}

/// A statement on its way. Dropping it before it has landed leaves its mark on the connection.
struct InFlight<'a> {
    driver: &'a mut PgConnection,
    state: &'a mut State,
    watch: Option<Watch>,
}

/// A statement that somebody wants to be told of.
struct Watch {
    callback: MetricCallback,
    statement: Statement,
    started: Instant,
}

impl InFlight<'_> {
    fn land<T>(self, result: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        self.state.in_flight = false;
        if let Err(error) = &result {
            let code = error.as_database_error().and_then(|error| error.code());
            self.state.failed = true;
            self.state.failed_by_chance |= matches!(code.as_deref(), Some("40001" | "40P01"));
            self.state.broken |= gives_up(error);
        }
        if let Some(Watch { callback, statement, started }) = self.watch {
            let (elapsed, failed) = (started.elapsed(), result.is_err());
            callback(&Info { elapsed, statement: &statement, failed });
        }
        result
    }
}

/// Whether the connection is of no use after this error.
fn gives_up(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            error.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some_and(|error| {
                use sqlx::postgres::PgSeverity::{Fatal, Panic};
                matches!(error.severity(), Fatal | Panic)
            })
        }
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_) => true,
        _ => false,
    }
}

/// The shape in which SeaORM's users expect the driver's errors.
pub(crate) fn runtime(error: sqlx::Error) -> RuntimeErr {
    RuntimeErr::SqlxError(error.into())
}

/// The rows of a statement as they arrive, from a connection that is held until the stream ends
/// or is dropped.
pub(crate) fn rows<'a, G>(
    mut lent: G,
    statement: Statement,
) -> BoxStream<'a, Result<QueryResult, DbErr>>
where
    G: DerefMut<Target = Lent> + Send + 'a,
{
    let stream = try_stream! {
        let (InFlight { driver, state, watch }, query) = lent.send(statement)?;
        let mut rows = driver.fetch(query);
        let end = loop {
            let next = rows.try_next().await;
            if let Ok(Some(row)) = next {
                yield QueryResult::from(row);
            } else {
                break next.map(|_| ());
            }
        };
        drop(rows);
        let landed = InFlight { driver, state, watch }.land(end);
        landed.map_err(|error| DbErr::Query(runtime(error)))?;
    };
    stream.boxed()
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(mut object) = self.object.take() else { return };
        let State { in_flight, in_transaction, changed, broken, .. } = self.state;
        if in_transaction && !in_flight && !broken {
            let lent = Lent {
                object: Some(object),
                claim: self.claim.take(),
                metric: None,
                _entry: None,
                state: self.state,
            };
            return lent.roll_back_in_background();
        }
        object.last_used = Instant::now();
        if in_flight || in_transaction || changed || broken {
            // Closes it; left alone, it goes back to the pool.
            drop(Object::take(object));
        }
    }
}

impl Lent {
    /// Ends an abandoned transaction off the caller's path.
    fn roll_back_in_background(mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            // Closing the connection rolls back as well; there is nobody to wait for an answer.
            self.state.broken = true;
            return;
        };
        // A runtime that shuts down drops the task unrun: then the connection is to be closed, not
        // to be rolled back in a task of its own once more.
        self.state.in_flight = true;
        if let Some(claim) = &self.claim {
            claim.ends_by_itself();
        }
        runtime.spawn(async move {
            let rollback = tokio::time::timeout(ROLLBACK_TIMEOUT, self.control("ROLLBACK"));
            let done = matches!(rollback.await, Ok(Ok(())));
            self.state.in_transaction = !done;
            self.state.broken |= !done;
            drop(self);
        });
    }
}
