//! A unit of work: one transaction, from BEGIN to its end.

mod begin;
mod cursor;
mod held;
mod retry;
mod savepoints;
mod shared;
mod statements;
mod traits;

use std::{fmt, panic::Location, sync::Arc};

use ::sea_orm::{DbErr, TransactionError};

pub use begin::SessionBuilder;
pub use cursor::Cursor;
pub use retry::Retry;
pub(crate) use traits::implement_sea_orm;
#[cfg(feature = "schema-sync")]
pub(crate) use traits::schema_rows;

use self::{
    held::Held,
    savepoints::{Id, OUTERMOST},
    shared::{Life, Shared, failed, roll_back},
};
use crate::{
    database::Database,
    error::Error,
    pool::Lent,
    sql::Control,
    statement::{Text, Writer},
};

/// A transaction on one connection: what is done through it is kept together or not at all.
///
/// `&Session` is a SeaORM connection and a SeaORM transaction: entities, streams, loaders,
/// `begin()` for a nested session (a savepoint) work on it as on SeaORM's `DatabaseTransaction`.
///
/// [`commit`](Session::commit) keeps it. [`rollback`](Session::rollback), an error or a panic on
/// the way, or dropping it undo it. Dropping does not wait: the ROLLBACK is sent, and its answer read
/// by whoever uses the connection next; where more is to be put right (settings, a statement whose
/// future was dropped), that happens in the background, or the connection is closed if it takes over
/// 2 s. Dropping a nested session undoes what was done since it began, before the next
/// statement of the session around it.
///
/// A statement whose future is dropped leaves the session usable, if the statement ends within
/// 250 ms; whether it did something is not known then, as on any connection. One that takes longer is
/// cancelled by closing the connection, and the session gives [`Error::StatementAbandoned`] from
/// then on. What is left of a dropped stream is read before the next statement, however much it is.
///
/// ```no_run
/// # async fn doc(pg: wharf::Pg) -> Result<(), wharf::Error> {
/// use sea_orm::{ConnectionTrait, TransactionTrait};
/// let s = pg.session().await?;
/// s.execute_unprepared("INSERT INTO batch DEFAULT VALUES").await?;
/// let line = s.begin().await?;                        // a savepoint
/// if line.execute_unprepared("INSERT INTO line VALUES (1)").await.is_err() {
///     line.rollback().await?;                         // the batch goes on without it
/// } else {
///     line.commit().await?;
/// }
/// s.commit().await?;
/// # Ok(()) }
/// ```
///
/// Costs: one round trip to begin, one a statement, one to end; a read-only one waits for no end.
/// What is committed or rolled back gives its connection back at once. Statements of one session run one
/// after the other, whoever asks for them. A statement waits for a stream or a copy of the same session up to
/// `pool_timeout`, and then fails with [`Error::StreamOpen`]; use [`cursor`](Session::cursor) to run statements
/// between rows.
///
/// A raw statement that would begin or end a transaction (`COMMIT`, `ROLLBACK`, `BEGIN`, …) is
/// refused with [`Error::TransactionControl`], so that a session cannot be half committed by
/// accident. This is a guard: a function or procedure that the server runs is not looked into.
///
/// # Nested sessions side by side
/// Nested sessions of one session may run side by side, as on SeaORM: what each committed is kept with the
/// outermost. A rollback is refused with [`Error::NestedSessions`] where it would undo what another
/// session did meanwhile, because savepoints are a stack to PostgreSQL; the outermost session can only be
/// rolled back then. Let nested sessions that may fail alone run one after the other.
pub struct Session {
    shared: Arc<Shared>,
    id: Id,
    open: bool,
}

impl Session {
    fn new(database: Database, read_only: bool, lent: Lent) -> Session {
        let shared = Shared::new(database, read_only, lent);
        Session { shared: Arc::new(shared), id: OUTERMOST, open: true }
    }

    /// Keeps what was done: COMMIT, or for a nested session RELEASE SAVEPOINT. One round trip.
    ///
    /// A read-only session has nothing to keep and is ended by ROLLBACK here too, which is not waited
    /// for.
    ///
    /// # Errors
    /// [`Error::CommitUnknown`] if the connection was lost before the answer came: whether the
    /// changes were kept is not known; so too where `socket_timeout` or the end of the pool ended the
    /// wait. [`Error::RolledBack`] if a statement had failed before and
    /// its error was passed over: the server keeps nothing of such a transaction.
    /// [`Error::NestedSessions`] if a nested session could not be rolled back. [`Error::StreamOpen`] if a
    /// stream of a nested session stays open; nothing is kept then. Otherwise the
    /// server's error (a deferred constraint, a serialization failure); nothing was kept then.
    ///
    /// Dropping the future once it has been polled leaves open whether the COMMIT happened. That of a nested
    /// session leaves open whether its changes are kept with the session around it, which goes on.
    pub async fn commit(self) -> Result<(), DbErr> {
        Ok(self.end(true).await?)
    }

    /// Undoes what was done: ROLLBACK, or for a nested session ROLLBACK TO SAVEPOINT. One round
    /// trip; dropping the session does the same without waiting.
    ///
    /// # Errors
    /// The driver's, if the connection is lost; the server then rolls back by itself.
    /// [`Error::NestedSessions`] from a nested session, if that would undo what another session did.
    pub async fn rollback(self) -> Result<(), DbErr> {
        Ok(self.end(false).await?)
    }

    /// Has `hook` called once the outermost session is known to be committed; not if it is rolled
    /// back, if the COMMIT's outcome is unknown, or if this session is a nested one that is rolled
    /// back. Hooks run in the order in which they were given, on the task that commits, before
    /// `commit` returns: what takes time is better spawned. One that panics is logged at ERROR, and the others
    /// run.
    ///
    /// ```no_run
    /// # async fn doc(s: wharf::Session) -> Result<(), wharf::Error> {
    /// s.after_commit(|| println!("the order is placed"));
    /// s.commit().await?;
    /// # Ok(()) }
    /// ```
    pub fn after_commit(&self, hook: impl FnOnce() + Send + 'static) {
        self.shared.hooks().push((self.id, Box::new(hook)));
    }

    /// Whether the server refuses writes in this session.
    pub fn is_read_only(&self) -> bool {
        self.shared.read_only
    }

    pub(crate) fn database(&self) -> &str {
        self.shared.database.name()
    }

    /// As [`TransactionTrait::begin`](::sea_orm::TransactionTrait::begin): a nested session, by a savepoint.
    /// Its place in the code is known to the errors about it. One round trip.
    ///
    /// # Errors
    /// [`Error::SessionEnded`], and the server's.
    #[track_caller]
    pub fn begin(&self) -> impl Future<Output = Result<Session, DbErr>> + Send + use<'_> {
        let opened_at = Location::caller();
        async move { Ok(self.nest(false, Some(opened_at)).await?) }
    }

    async fn end(mut self, commit: bool) -> Result<(), Error> {
        if self.id != OUTERMOST {
            return self.end_nested(commit).await;
        }
        let shared = Arc::clone(&self.shared);
        // Dropped nested sessions are rolled back first, under the same lock under which the connection is
        // taken, so that no other statement comes in between.
        let taken = match commit {
            true => shared.lock_all().await.map(|mut place| place.take()),
            false => shared.place().await.map(|mut place| place.take()),
        };
        self.open = false;
        shared.set_life(Life::Ended);
        let lent = match taken {
            Ok(lent) => lent,
            // The server rolls it back once the stream is dropped.
            Err(refused @ Error::StreamOpen { .. }) => return Err(refused),
            Err(refused) => {
                if let Some(lent) = shared.lent.lock().await.take()
                    && let Err(rollback) = roll_back(lent).await
                {
                    tracing::debug!(%rollback, "the server rolls back by itself");
                }
                return Err(refused);
            }
        };
        match lent {
            Some(lent) if commit && !shared.read_only => shared.commit(lent).await,
            // There is nothing to keep, and nothing to undo that anybody would wait for.
            Some(lent) if shared.read_only && lent.rolls_back_when_dropped() => {
                drop(lent);
                Ok(())
            }
            Some(lent) => roll_back(lent).await,
            // The server has, with the connection.
            None if !commit && shared.life() == Life::GivenUp => Ok(()),
            None => Err(shared.has_ended()),
        }
    }

    async fn end_nested(mut self, commit: bool) -> Result<(), Error> {
        let shared = Arc::clone(&self.shared);
        let mut lent = shared.lock().await?;
        if !shared.savepoints().is_open(self.id) {
            self.open = false;
            return Err(shared.has_ended());
        }
        if !commit {
            self.open = false;
            shared.roll_back_nested(self.id);
            return shared.undo(&mut lent).await;
        }
        let release = shared.savepoints().commit(self.id);
        if let Some(sql) = release {
            // If this future is dropped from here on, what it came to is settled by the next to lock.
            if let Err(error) = lent.control(&sql).await {
                self.open = false;
                shared.forget_hooks(self.id);
                shared.savepoints().not_released(self.id);
                return Err(failed(error));
            }
        }
        self.open = false;
        shared.keep_nested(self.id);
        Ok(())
    }

    /// A nested session: one round trip.
    async fn nest(
        &self,
        read_only: bool,
        opened_at: Option<&'static Location<'static>>,
    ) -> Result<Session, Error> {
        let mut lent = self.shared.lock().await?;
        let (id, sql) = {
            let mut savepoints = self.shared.savepoints();
            if !savepoints.is_open(self.id) {
                return Err(self.shared.has_ended());
            }
            savepoints.begin(self.id, read_only && !self.shared.read_only, opened_at)
        };
        // Made before it is asked for: if this future is dropped, the savepoint may be there.
        let mut nested = Session { shared: Arc::clone(&self.shared), id, open: true };
        if let Err(error) = lent.control(&sql).await {
            nested.open = false;
            self.shared.savepoints().not_begun(id);
            return Err(failed(error));
        }
        Ok(nested)
    }

    /// The connection, for a statement.
    async fn lent(&self, text: Text<'_>, writer: Writer) -> Result<Held<'_>, Error> {
        let control = match writer {
            Writer::Caller => Control::of(text.sql),
            Writer::Builder | Writer::Wharf => Control::default(),
        };
        if let Some(keyword) = control.keyword {
            let database = self.shared.database.name().to_string();
            return Err(Error::TransactionControl { database, keyword });
        }
        let mut lent = self.shared.lock().await?;
        let mut savepoints = self.shared.savepoints();
        if !savepoints.is_open(self.id) {
            return Err(self.shared.has_ended());
        }
        savepoints
            .raw(self.id, control.savepoints)
            .map_err(|reason| self.shared.refused(reason))?;
        let is_noted = !savepoints.is_empty() && !lent.facts(text).only_reads;
        Ok(Held::new(lent, is_noted.then_some((&*self.shared, self.id))))
    }

    /// Runs a statement; if it is dropped on the way, sees to it that the server does not work on it
    /// for much longer.
    async fn to_its_end<T>(&self, statement: impl Future<Output = T>) -> T {
        let mut abandoned = Abandoned { shared: Some(&self.shared) };
        let result = statement.await;
        abandoned.shared = None;
        result
    }

    /// The connection out of a session that nobody else has, its transaction still open.
    async fn into_lent(mut self) -> Result<Lent, Error> {
        let lent = self.shared.lent.lock().await.take();
        self.open = false;
        lent.ok_or_else(|| self.shared.has_ended())
    }

    /// Commits what went well, rolls back what did not.
    pub(crate) async fn settle<T, E>(self, result: Result<T, E>) -> Result<T, TransactionError<E>> {
        match result {
            Ok(value) => {
                self.commit().await.map_err(TransactionError::Connection)?;
                Ok(value)
            }
            Err(error) => {
                self.roll_back_quietly().await;
                Err(TransactionError::Transaction(error))
            }
        }
    }

    /// Whether what failed in it may go well in another attempt: because of what others did, or because
    /// the connection is lost.
    async fn failed_by_chance(&self) -> bool {
        let place = self.shared.lent.lock().await;
        place.as_ref().is_some_and(|lent| lent.failed_by_chance() || lent.is_broken())
    }

    /// Whether the server refused a write of it, although it is not read-only.
    pub(crate) async fn was_refused_write(&self) -> bool {
        self.shared.lent.lock().await.as_ref().is_some_and(Lent::was_refused_write)
    }

    /// Whether a standby canceled what ran in it because of its recovery, or was lost.
    pub(crate) async fn was_lost_on_standby(&self) -> bool {
        self.shared.lent.lock().await.as_ref().is_some_and(Lent::was_lost_on_standby)
    }

    /// Rolls back after a refused write. Returns whether the server is a standby, so that another attempt goes elsewhere.
    pub(crate) async fn ends_on_standby(self) -> bool {
        match self.into_lent().await {
            Ok(mut lent) if !lent.is_in_flight() => {
                lent.end("ROLLBACK").await.is_ok() && lent.leave_standby().await
            }
            // It is rolled back in the background.
            Ok(_) | Err(_) => false,
        }
    }

    /// Rolls back for a caller who has an error to tell already.
    pub(crate) async fn roll_back_quietly(self) {
        if let Err(rollback) = self.rollback().await {
            tracing::debug!(%rollback, "the server rolls back by itself");
        }
    }
}

/// A statement of a session that has not come to its end yet.
struct Abandoned<'a> {
    shared: Option<&'a Arc<Shared>>,
}

impl Drop for Abandoned<'_> {
    fn drop(&mut self) {
        let Some(shared) = self.shared else { return };
        // Where another statement has the connection already, that one has seen to it.
        let Ok(place) = shared.lent.try_lock() else { return };
        let in_flight = place.as_ref().is_some_and(Lent::is_in_flight);
        if let (true, Ok(runtime)) = (in_flight, tokio::runtime::Handle::try_current()) {
            let shared = Arc::clone(shared);
            runtime.spawn(async move {
                // Drains it, or gives it up.
                let _ = shared.lock().await;
            });
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        match self.id {
            OUTERMOST => {
                self.shared.set_life(Life::Ended);
                // Where a nested session's statement holds the lock, the next to lock, or the
                // last to let go, ends the transaction.
                if let Ok(mut place) = self.shared.lent.try_lock() {
                    drop(place.take());
                }
            }
            nested => self.shared.roll_back_nested(nested),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("database", self.shared.database.name())
            .field("read_only", &self.shared.read_only)
            .field("nested", &(self.id != OUTERMOST))
            .finish_non_exhaustive()
    }
}
