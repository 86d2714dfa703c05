//! How a session is asked for.

use std::{
    fmt::{self, Write},
    future::IntoFuture,
};

use futures_util::future::BoxFuture;
use sea_orm::{AccessMode, DbErr, IsolationLevel, TransactionOptions};

use super::{Retry, Session};
use crate::{
    database::Database,
    error::Error,
    pool::{self, Checked, Lent, Purpose},
    topology::{Check, Reason},
    view::set_config,
};

/// A session that is yet to begin. Await it for a [`Session`], or [`run`](Self::run) a closure
/// in one.
///
/// Nothing happens before that; dropping it costs nothing.
#[derive(Clone)]
#[must_use = "a session begins when it is awaited or run"]
pub struct SessionBuilder {
    database: Database,
    isolation: Option<IsolationLevel>,
    access: Option<AccessMode>,
    deferrable: bool,
    settings: Vec<(String, String)>,
    purpose: Purpose,
}

impl SessionBuilder {
    pub(crate) fn new(database: Database, purpose: Purpose) -> SessionBuilder {
        let (isolation, access, settings) = (None, None, Vec::new());
        SessionBuilder { database, isolation, access, deferrable: false, settings, purpose }
    }

    pub(crate) fn options(mut self, options: TransactionOptions) -> SessionBuilder {
        // SQLite's transaction modes mean nothing to PostgreSQL, as on SeaORM's own connection.
        self.isolation = options.isolation_level;
        self.access = options.access_mode;
        self
    }

    /// Sets the isolation level. Default: the server's (`default_transaction_isolation`).
    pub fn isolation(mut self, level: IsolationLevel) -> SessionBuilder {
        self.isolation = Some(level);
        self
    }

    /// The server refuses whatever writes in this session, raw SQL included.
    ///
    /// The session runs on a connection of its own kind, which starts with
    /// `default_transaction_read_only=on` and logs in as `read_role` where the file gives one;
    /// its transaction is `READ ONLY` and sealed by a first query, after which PostgreSQL lets
    /// nobody make it `READ WRITE`; raw SQL is prepared, so that one call is one statement;
    /// statements that would end the transaction are refused; and it ends with ROLLBACK, which
    /// undoes whatever settings were changed.
    ///
    /// Costs one round trip to begin and none to wait for at the end: its ROLLBACK is sent, and the
    /// answer read by whoever uses the connection next.
    ///
    /// | a statement that | here, and on a `readonly: true` entry | with `read_role` as well |
    /// |---|---|---|
    /// | writes (`INSERT`, `WITH x AS (INSERT …)`, `EXPLAIN ANALYZE`, `COPY … FROM`, DDL, `nextval`, `FOR UPDATE`) | refused, 25006 | refused |
    /// | makes the transaction `READ WRITE`, by `SET` or `set_config` | refused, 25001: it is sealed | refused |
    /// | ends or begins a transaction, alone or in a text of several | refused by wharf; 42601 | refused |
    /// | changes what the next transaction would be (`SET SESSION CHARACTERISTICS`, `RESET ALL`) | undone when the session ends | undone |
    /// | calls what writes (`SECURITY DEFINER`, `DO`, a procedure that commits) | refused, 25006 or 2D000 | refused |
    /// | makes large objects, takes advisory locks, notifies | undone by the ROLLBACK | undone |
    /// | does what its login may do outside of tables (`COPY … TO PROGRAM`, replication slots, ending other backends) | **open** to a superuser | refused, 42501 |
    /// | logs in anew (dblink) | **open** | **open**, on a standby too: only the rights of that other login bound it |
    ///
    /// So this is a guard, against mistakes and against SQL that was let in; a role with SELECT only
    /// is the boundary.
    pub fn read_only(mut self) -> SessionBuilder {
        self.access = Some(AccessMode::ReadOnly);
        self
    }

    /// A `SERIALIZABLE` read-only session waits until it can run without ever failing (40001).
    pub fn deferrable(mut self) -> SessionBuilder {
        self.deferrable = true;
        self
    }

    /// A setting of PostgreSQL's for this session alone, as `SET LOCAL` makes it; a list
    /// (`search_path`) is written as in `postgresql.conf`. Sent with BEGIN, in the same round trip.
    ///
    /// ```no_run
    /// # async fn doc(pg: wharf::Pg) -> Result<(), wharf::Error> {
    /// let s = pg.session().set_local("statement_timeout", "5s").set_local("app.tenant", "7").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// A setting that the server does not know or a value that it does not take is the error of
    /// the session's begin.
    pub fn set_local(
        mut self,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> SessionBuilder {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Has it read on the primary, because what a standby's recovery canceled, it may cancel again.
    pub(crate) fn after_conflict(mut self) -> SessionBuilder {
        self.database.route.was_canceled = true;
        self
    }

    /// Runs `work` again, in a new session, up to `retries` times where the transaction failed
    /// in a way that another attempt may get past: see [`Retry::run`].
    pub fn retry(self, retries: u32) -> Retry {
        Retry { session: self, retries }
    }

    /// Runs `work` in a session: commits if it gives `Ok`, rolls back if it gives `Err`, panics,
    /// or is dropped.
    ///
    /// ```no_run
    /// # async fn doc(pg: wharf::Pg) -> Result<(), wharf::Error> {
    /// use sea_orm::ConnectionTrait;
    /// pg.session()
    ///     .run(async |s| {
    ///         s.execute_unprepared("UPDATE account SET cents = cents - 100 WHERE id = 1").await?;
    ///         s.execute_unprepared("UPDATE account SET cents = cents + 100 WHERE id = 2").await
    ///     })
    ///     .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// In a task or an axum handler the closure must not borrow from around it: write
    /// `async move |s| buy(s, order).await` with owned values, as [`Retry::run`] explains. Statements between
    /// `session().await` and `commit()` may borrow there as well.
    ///
    /// # Errors
    /// What `work` gives; else what beginning or [committing](Session::commit) gives.
    pub async fn run<T, E, F>(self, work: F) -> Result<T, E>
    where
        F: AsyncFnOnce(&Session) -> Result<T, E>,
        E: From<Error>,
    {
        let session = self.await?;
        match work(&session).await {
            Ok(value) => {
                session.end(true).await?;
                Ok(value)
            }
            Err(error) => {
                session.roll_back_quietly().await;
                Err(error)
            }
        }
    }

    async fn begin(self) -> Result<Session, Error> {
        let read_only = self.database.resolves_read_only(self.access)?;
        if self.database.route.on_standby {
            let (lent, check) = match self.isolation {
                Some(IsolationLevel::Serializable) => {
                    (self.database.lend_after(Reason::Isolation, self.purpose).await?, None)
                }
                _ => self.database.lend_to_read(self.purpose).await?,
            };
            return self.begin_to_read(lent, check).await;
        }
        let lent = self.database.lend(read_only, self.purpose).await?;
        self.begin_with(lent, read_only).await
    }

    /// Begins on a connection that the caller has acquired, from the pool for reading if `read_only`.
    pub(crate) async fn begin_with(self, lent: Lent, read_only: bool) -> Result<Session, Error> {
        match self.begin_on(lent, read_only).await {
            // A connection that was lent unasked and is lost: nothing has been done in it yet, and
            // from here on the pool asks before it lends.
            Err((_, true)) => {
                let again = async {
                    let lent = match self.database.route.on_standby {
                        true => self.database.lend_after(Reason::Conflict, self.purpose).await?,
                        false => self.database.lend(read_only, self.purpose).await?,
                    };
                    self.begin_on(lent, read_only).await.map_err(|(error, _)| error)
                };
                Box::pin(again).await
            }
            begun => begun.map_err(|(error, _)| error),
        }
    }

    /// Begins to read on a connection that [`Database::lend_to_read`] gave. A standby that does not pass the check in time is
    /// left for the primary.
    pub(crate) async fn begin_to_read(
        self,
        mut lent: Lent,
        check: Option<Check>,
    ) -> Result<Session, Error> {
        let Some(mut check) = check else { return self.begin_with(lent, true).await };
        let asked = match check.timeline {
            Some(_) => pool::REPLAYED.to_owned(),
            None => pool::replayed_with_timeline(),
        };
        let begun = self.sql(true, &lent);
        let sql = match (self.isolation, begun.split_once(';')) {
            // Each statement sees what was committed when it begins, so after the check.
            (Some(IsolationLevel::ReadCommitted), Some((begin, rest))) => {
                format!("{begin}; {asked};{rest}")
            }
            // A transaction that sees one moment has to begin after the check.
            _ => format!("BEGIN; {asked}; COMMIT; {begun}"),
        };
        lent.set_view(&self.database.view);
        loop {
            let Checked(replayed) = match lent.begin_checked(&sql, check.timeline).await {
                Ok(checked) => checked,
                // The primary is asked without this, and tells whose fault it was.
                Err(_) => break,
            };
            if check.is_passed(lent.server(), replayed) {
                return Ok(Session::new(self.database.clone(), true, lent));
            }
            let Some(pause) = check.pause() else { break };
            if lent.end("ROLLBACK").await.is_err() {
                break;
            }
            tokio::time::sleep(pause).await;
        }
        drop(lent);
        let lent = self.database.lend_after(Reason::Behind, self.purpose).await?;
        self.begin_with(lent, true).await
    }

    /// With the error, whether another connection may do.
    async fn begin_on(&self, mut lent: Lent, read_only: bool) -> Result<Session, (Error, bool)> {
        let sql = self.sql(read_only, &lent);
        lent.set_view(&self.database.view);
        match lent.begin(&sql).await {
            Ok(()) => Ok(Session::new(self.database.clone(), read_only, lent)),
            Err(error) => {
                let error = Error::from(DbErr::Exec(pool::runtime(error)));
                // One that did not answer in time is not tried once more: the caller has waited for it.
                // A read that a standby did not serve goes to the primary.
                let has_waited = matches!(error, Error::NoAnswer { .. }) && !lent.is_on_standby();
                let again = lent.is_broken() && !has_waited;
                Err((error, again))
            }
        }
    }

    fn sql(&self, read_only: bool, lent: &Lent) -> String {
        let mut sql = String::from("BEGIN");
        if let Some(level) = self.isolation {
            // Writing to a String cannot fail.
            let _ = write!(sql, " ISOLATION LEVEL {level}");
        }
        // Unasked, the server's own default holds: a role's, a database's, a standby's.
        if read_only {
            sql.push_str(" READ ONLY");
        } else if self.access == Some(AccessMode::ReadWrite) {
            sql.push_str(" READ WRITE");
        }
        if self.deferrable {
            sql.push_str(" DEFERRABLE");
        }
        let view = &self.database.view;
        // The search path that the entry has for everybody.
        let shared = lent.search_path();
        // The caller's own have the last word.
        let mut settings: Vec<String> =
            lent.local_settings().map(|local| local.calls.to_string()).into_iter().collect();
        let own = view.settings().iter().chain(&self.settings);
        let own: Vec<String> = own.map(|(name, value)| set_config(name, value, true)).collect();
        match view.scope() {
            // Of all ways the one that costs the server least, where it asks for no answer anyway.
            Some(scope) if settings.is_empty() && own.is_empty() && !read_only => {
                let _ = write!(sql, "; SET LOCAL search_path = {}", scope.quoted_path(shared));
            }
            Some(scope) => settings.push(set_config("search_path", &scope.path(shared), true)),
            None => {}
        }
        settings.extend(own);
        if !settings.is_empty() {
            let _ = write!(sql, "; SELECT {}", settings.join(", "));
        } else if read_only {
            // The first query seals it: a later SET TRANSACTION READ WRITE fails with 25001.
            sql.push_str("; SELECT 1");
        }
        sql
    }
}

#[cfg(feature = "copy")]
impl Session {
    /// Begins another session, because the server accepts nothing in this one after an error. It does not see what this one has
    /// changed. Returns None if no connection is free within [`pool::SPARE_TIMEOUT`].
    pub(crate) async fn beside(&self, what: &'static str) -> Option<Session> {
        let database = self.shared.database.clone();
        let session = SessionBuilder::new(database, Purpose::Hold(what, None));
        tokio::time::timeout(pool::SPARE_TIMEOUT, session.into_future()).await.ok()?.ok()
    }
}

impl IntoFuture for SessionBuilder {
    type Output = Result<Session, Error>;
    type IntoFuture = BoxFuture<'static, Result<Session, Error>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.begin())
    }
}

impl fmt::Debug for SessionBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionBuilder")
            .field("database", self.database.name())
            .field("isolation", &self.isolation)
            .field("access", &self.access)
            .finish_non_exhaustive()
    }
}
