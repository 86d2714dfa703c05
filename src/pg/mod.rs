//! One configured database.

mod explain;
mod health;
mod read;
mod statements;

use std::{fmt, future::ready, panic::Location, sync::Arc, time::Duration};

pub use health::{Healthy, PgStats};

use ::sea_orm::DbErr;
use futures_util::future::BoxFuture;

use crate::{
    config::{self, DatabaseConfig, MonitorConfig},
    database::Database,
    error::Error,
    monitor::Monitor,
    pool::{Locate, Purpose},
    session::{Session, SessionBuilder},
    view::{Scope, View},
};

/// A database of the file: a pool of connections that is a SeaORM connection.
///
/// `&Pg` goes wherever SeaORM takes a `&impl ConnectionTrait`, `StreamTrait` or
/// `TransactionTrait`. Cheap to clone (one reference count); clones share their connections.
///
/// # What it costs
/// Nothing is opened before the first use. A statement costs one round trip. A connection that has
/// idled for over a second costs a ping before it (`pool_pre_ping` turns that off); lending one that
/// was used more recently, and taking it back, costs none and no task. Those that were used last are
/// lent first, and callers who wait are served in the order in which they came.
///
/// # Where the server is not there
/// Connections are opened by tasks of the pool, up to four at once, so a caller that gives up wastes
/// none. A server that was never reached is told at once ([`Error::Connect`], with its kind): the
/// address is likely wrong. One that has been reached is waited for, up to `pool_timeout`, and
/// knocked at by one task at distances of 25 to 500 ms, however many wait; it serves again within a
/// second of its return. What was in flight when it went has failed, and is not run again: only its
/// author knows whether it may be. Wrong credentials, an unknown database and TLS that does not hold
/// are never waited for.
///
/// A statement's answer is waited for as long as it takes, or as `statement_timeout` (the server's)
/// and `socket_timeout` (for a network that swallows everything) say.
///
/// # Futures that are dropped
/// A statement or stream that is dropped before its end is given 100 ms to end, off the caller's
/// path; then its connection is closed, and the server cancels it: within a second in all (PostgreSQL
/// 14 on Linux, 15 on most other systems; older ones notice when they next write to the closed
/// connection). A place in the pool, a transaction or a setting never stays behind.
///
/// # What stays on a connection
/// Nothing: a setting, a role, a subscription, a temporary table or an advisory lock is gone before the connection is
/// used again. The next statement may run on another connection anyway, so use a [session](Pg::session) for what
/// belongs together.
///
/// The pool resets a connection after each statement that is not a plain one (SELECT, INSERT, UPDATE, DELETE, DDL and
/// the like), and after each call of a function that wharf does not know, such as your own. The reset is one message
/// off the caller's path. A prepared statement or an open transaction closes the connection instead. wharf does not
/// see what a trigger sets, nor that an INSERT has changed `lastval()`.
///
/// A prepared statement that has gone stale, because a table was altered or the server has forgotten
/// it, is prepared anew and sent again, which nobody notices but by two round trips. In a session it
/// fails (0A000), as its transaction has; [`retry`](SessionBuilder::retry) runs that again.
///
/// ```no_run
/// # async fn doc() -> Result<(), wharf::Error> {
/// use sea_orm::{ConnectionTrait, EntityTrait, Statement};
/// let pg = wharf::Pg::open("etc/infra.yaml", "shop").await?;
/// let count = pg.query_one_raw(Statement::from_string(
///     pg.get_database_backend(),
///     "SELECT count(*) FROM customer",
/// )).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Pg {
    database: Database,
}

impl Pg {
    /// Opens the database at `url` (`postgres://user:password@host:port/database?sslmode=…`), with
    /// the defaults of an entry of the file. Its name is the database's.
    ///
    /// Opens one connection, so that an address or a password that is wrong is told here.
    ///
    /// # Errors
    /// [`Error::Config`] if the URL cannot be read, [`Error::Connect`].
    pub async fn from_url(url: &str) -> Result<Pg, Error> {
        let config = DatabaseConfig::from_url(url)?;
        let pg = Pg::from_config(&config.database.clone(), config);
        pg.ping().await?;
        Ok(pg)
    }

    /// The database that `config` describes, under the name `name`. Opens nothing yet.
    pub fn from_config(name: &str, config: DatabaseConfig) -> Pg {
        let (read_only, monitor) = (config.readonly, config.monitor.clone());
        let locate = move || -> BoxFuture<'static, _> { Box::pin(ready(Ok(config.clone()))) };
        Pg::located(name, read_only, monitor, Arc::new(locate))
    }

    pub(crate) fn located(
        name: &str,
        read_only: bool,
        monitor: MonitorConfig,
        locate: Arc<Locate>,
    ) -> Pg {
        Pg { database: Database::new(name, read_only, monitor, locate, explain::explainer) }
    }

    /// The same view over connections to the server itself, if the entry has a pooler that lends for a transaction each.
    #[cfg(feature = "vector")]
    pub(crate) async fn past_pooler(&self, what: &'static str) -> Result<Option<Pg>, Error> {
        let to = self.database.located(false).await?;
        if !to.is_pooled() {
            return Ok(None);
        }
        let to = to.direct(what)?;
        let mut pg = Pg::from_config(self.name(), (*to.config).clone());
        pg.database.view = Arc::clone(&self.database.view);
        Ok(Some(pg))
    }

    /// Its key in the file.
    pub fn name(&self) -> &str {
        self.database.name()
    }

    /// The same database, read-only: sessions and single statements are what
    /// [`SessionBuilder::read_only`] says. There is no way back from the view.
    ///
    /// A SELECT that a query builder made costs no round trip more than on `self` if it calls only functions
    /// that are known to change nothing (PostgreSQL's own, by name, and those of common extensions).
    /// Everything else is sent in a sealed transaction, which costs one more that is waited for.
    pub fn read_only(&self) -> Pg {
        let mut pg = self.clone();
        pg.database.read_only = true;
        pg
    }

    /// Whether this database, or this view of it, refuses writes.
    pub fn is_read_only(&self) -> bool {
        self.database.read_only
    }

    /// A unit of work: await it for a [`Session`](crate::Session), or
    /// [`run`](SessionBuilder::run) a closure in it.
    ///
    /// ```no_run
    /// # async fn doc(pg: wharf::Pg) -> Result<(), wharf::Error> {
    /// use sea_orm::{ConnectionTrait, IsolationLevel};
    /// let s = pg.session().isolation(IsolationLevel::Serializable).await?;
    /// s.execute_unprepared("UPDATE stock SET left = left - 1 WHERE item = 7").await?;
    /// s.commit().await?;
    /// # Ok(()) }
    /// ```
    #[track_caller]
    pub fn session(&self) -> SessionBuilder {
        SessionBuilder::new(
            self.database.clone(),
            Purpose::Hold("a session", Some(Location::caller())),
        )
    }

    /// One of wharf's own, for what somebody asked for elsewhere.
    #[cfg(any(feature = "copy", feature = "vector"))]
    pub(crate) fn session_for(&self, what: &'static str) -> SessionBuilder {
        SessionBuilder::new(self.database.clone(), Purpose::Hold(what, None))
    }

    /// As [`TransactionTrait::begin`](::sea_orm::TransactionTrait::begin), and the session's place in
    /// the code is known: to the log of those that hold a connection for too long, and to the error
    /// of those who get none meanwhile.
    ///
    /// # Errors
    /// As [`session`](Pg::session).
    #[track_caller]
    pub fn begin(&self) -> impl Future<Output = Result<Session, DbErr>> + Send + use<> {
        let session = self.session();
        async move { Ok(session.await?) }
    }

    /// Opens `min_connections` and waits until they are there, so that the first load meets them
    /// ready: a call for the start of a service. Without one they are opened with the first
    /// connection that is used.
    ///
    /// Costs a connect each, all at once; nothing where they are there. Dropping the future leaves
    /// them to open by themselves.
    ///
    /// # Errors
    /// [`Error::Connect`], within `pool_timeout`.
    pub async fn warm_up(&self) -> Result<(), Error> {
        self.database.pool(self.is_read_only()).await?.warm_up().await
    }

    /// Has it keep `pool_size` connections from here on, and open up to `max_overflow` more under
    /// load: for every clone and view, and for writing and reading each, as in the file. No round
    /// trip. What is lent beyond that is closed when it comes back. No effect on the embedded engine,
    /// which has one connection.
    ///
    /// # Errors
    /// [`Error::Config`] for a `pool_size` of 0, or for more than 10 000 in all.
    pub fn resize(&self, pool_size: u32, max_overflow: u32) -> Result<(), Error> {
        let (keep, most) = config::pool_limits(pool_size, max_overflow)?;
        self.database.resize(keep, most);
        Ok(())
    }

    /// What has happened to its statements: [the slow ones, the ones that cost most](crate::monitor).
    /// The same for all clones and views. No round trip.
    pub fn monitor(&self) -> &Monitor {
        self.database.monitor()
    }

    /// Has `callback` told of every prepared statement that runs through this value, and through
    /// the sessions and clones made of it from here on: as SeaORM's own connection does it, so
    /// not of unprepared statements, BEGIN, COMMIT or ROLLBACK. A copy of each statement is made
    /// for it. It runs on the caller's path, so it should be quick.
    pub fn set_metric_callback<F>(&mut self, callback: F)
    where
        F: Fn(&::sea_orm::metric::Info<'_>) + Send + Sync + 'static,
    {
        self.database.metric = Some(Arc::new(callback));
    }

    /// Closes its connections, for every clone and view. See [`close_by_ref`](Pg::close_by_ref).
    ///
    /// # Errors
    /// None; the signature is that of SeaORM's `DatabaseConnection`.
    pub async fn close(self) -> Result<(), DbErr> {
        self.close_by_ref().await
    }

    /// Closes its connections, for every clone and view: those that idle now, those that are lent
    /// when they come back. What asks for one afterwards gets [`Error::Closed`].
    ///
    /// # Errors
    /// None; the signature is that of SeaORM's `DatabaseConnection`.
    pub async fn close_by_ref(&self) -> Result<(), DbErr> {
        self.database.close();
        Ok(())
    }

    /// Closes its connections, for every clone and view, and waits for up to `limit` until those
    /// that are lent have come back. What then still is at work is cut off: its statement ends with
    /// [`Error::Closed`], the server cancels it and rolls back. Nothing is cut off in time where
    /// nobody is waiting for an answer: a session that does nothing ends with its next statement, or
    /// when it is dropped.
    ///
    /// ```no_run
    /// # async fn doc(pg: wharf::Pg) {
    /// if let Err(error) = pg.close_within(std::time::Duration::from_secs(20)).await {
    ///     eprintln!("{error}");   // who it was, and from where
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::CutOff`] names those that were; it comes up to a second after `limit`, once they
    /// have let go. Dropping the future leaves the pool closed and cuts nothing off.
    pub async fn close_within(&self, limit: Duration) -> Result<(), Error> {
        self.database.close_within(limit).await
    }

    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    pub(crate) fn scope(&self) -> Option<&Scope> {
        self.view().scope()
    }

    pub(crate) fn in_scope(&self, scope: Option<Scope>) -> Pg {
        self.clone().with_view(self.view().in_scope(scope))
    }

    pub(crate) fn view(&self) -> &Arc<View> {
        &self.database.view
    }

    pub(crate) fn with_view(mut self, view: View) -> Pg {
        self.database.view = Arc::new(view);
        self
    }
}

impl fmt::Debug for Pg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pg")
            .field("name", &self.name())
            .field("read_only", &self.is_read_only())
            .finish_non_exhaustive()
    }
}
