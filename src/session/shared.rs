//! The connection, the savepoints and the end of a transaction, which its nested sessions share.

use std::{
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use sea_orm::DbErr;
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use super::savepoints::{Id, Savepoints, Undo};
use crate::{
    database::Database,
    error::Error,
    monitor,
    pool::{self, Lent},
};

/// How long a statement whose future was dropped may go on before its session is given up, which
/// has the server cancel it.
const ABANDONED_MAY_TAKE: Duration = Duration::from_millis(250);

pub(super) struct Shared {
    pub(super) database: Database,
    pub(super) read_only: bool,
    pub(super) lent: Mutex<Option<Lent>>,
    /// The text of the stream or copy that has the connection.
    stream: std::sync::Mutex<Option<String>>,
    pool_timeout: Duration,
    life: std::sync::Mutex<Life>,
    savepoints: std::sync::Mutex<Savepoints>,
    /// The hooks to call after the COMMIT, each with the session that registered it.
    hooks: std::sync::Mutex<Vec<(Id, Hook)>>,
}

pub(super) type Hook = Box<dyn FnOnce() + Send>;

/// Whether the transaction is still open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Open,
    /// It was committed or rolled back, the outermost session was dropped, or its connection was lost: nothing
    /// may run any more.
    Ended,
    /// Its connection was closed, because a statement that was abandoned did not end.
    GivenUp,
}

impl Shared {
    pub(super) fn new(database: Database, read_only: bool, lent: Lent) -> Shared {
        Shared {
            database,
            read_only,
            pool_timeout: lent.pool_timeout(),
            lent: Mutex::new(Some(lent)),
            stream: std::sync::Mutex::default(),
            life: std::sync::Mutex::new(Life::Open),
            savepoints: std::sync::Mutex::default(),
            hooks: std::sync::Mutex::default(),
        }
    }

    pub(super) fn life(&self) -> Life {
        *self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets what the transaction has come to. What it came to first holds.
    pub(super) fn set_life(&self, life: Life) {
        let mut place = self.life.lock().unwrap_or_else(PoisonError::into_inner);
        if *place == Life::Open {
            *place = life;
        }
    }

    pub(super) fn hooks(&self) -> std::sync::MutexGuard<'_, Vec<(u32, Hook)>> {
        self.hooks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn savepoints(&self) -> std::sync::MutexGuard<'_, Savepoints> {
        self.savepoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A nested session is to be rolled back, with those inside it.
    pub(super) fn roll_back_nested(&self, id: Id) {
        self.forget_hooks(id);
        self.savepoints().roll_back(id);
    }

    /// A nested session is committed: what it did, and its hooks, are its parent's.
    pub(super) fn keep_nested(&self, id: Id) {
        let parent = self.savepoints().committed(id);
        self.hooks().iter_mut().filter(|(by, _)| *by == id).for_each(|(by, _)| *by = parent);
    }

    /// The hooks of a session that is rolled back, and of the sessions inside it, are not called.
    pub(super) fn forget_hooks(&self, id: Id) {
        let within = self.savepoints().within(id);
        self.hooks().retain(|(by, _)| !within.contains(by));
    }

    pub(super) fn refused(&self, reason: String) -> Error {
        Error::NestedSessions { database: self.database.name().to_string(), reason }
    }

    pub(super) fn has_ended(&self) -> Error {
        let database = self.database.name().to_string();
        match self.life() {
            Life::GivenUp => Error::StatementAbandoned { database, after: ABANDONED_MAY_TAKE },
            Life::Open | Life::Ended => Error::SessionEnded { database },
        }
    }

    pub(super) fn stream(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        self.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place of the connection, once it is free. A statement that has it is waited for to its end; a stream or
    /// a copy as long as for a connection of the pool, because its reader may be who waits here.
    pub(super) async fn place(&self) -> Result<MutexGuard<'_, Option<Lent>>, Error> {
        if let Ok(place) = self.lent.try_lock() {
            return Ok(place);
        }
        let began = Instant::now();
        let mut free = pin!(self.lent.lock());
        loop {
            if let Ok(place) = tokio::time::timeout(self.pool_timeout, &mut free).await {
                return Ok(place);
            }
            if let Some(sql) = &*self.stream() {
                return Err(Error::StreamOpen {
                    database: self.database.name().to_string(),
                    waited: began.elapsed(),
                    statement: monitor::normalized(sql),
                });
            }
        }
    }

    /// The connection, with what dropped sessions left undone done.
    pub(super) async fn lock(&self) -> Result<MappedMutexGuard<'_, Lent>, Error> {
        let place = self.lock_all().await?;
        MutexGuard::try_map(place, Option::as_mut).map_err(|_| self.has_ended())
    }

    /// The place of the connection, which is in it.
    pub(super) async fn lock_all(&self) -> Result<MutexGuard<'_, Option<Lent>>, Error> {
        let mut place = self.place().await?;
        if place.as_ref().is_some_and(Lent::is_out_of_step) {
            self.set_life(Life::Ended);
        }
        // A dead connection is not asked again: each time would cost a wait. It stays here, for `retry` to
        // know why the session failed.
        if place.as_ref().is_some_and(Lent::is_broken) {
            return Err(self.has_ended());
        }
        if self.life() != Life::Open {
            drop(place.take());
        }
        if let Some(lent) = place.as_mut().filter(|lent| lent.is_in_flight()) {
            // Its future was dropped. What is left of a stream is on its way, however much it is.
            let limit = (!lent.streams()).then_some(ABANDONED_MAY_TAKE);
            if let Err(sqlx::Error::PoolTimedOut) = Box::pin(lent.drain(limit)).await {
                self.set_life(Life::GivenUp);
                place.take().into_iter().for_each(Lent::close);
            } else {
                let has_failed = lent.last_failed();
                let releasing = self.savepoints().releasing();
                match releasing {
                    Some(id) if has_failed => self.savepoints().not_released(id),
                    Some(id) => self.keep_nested(id),
                    None => {}
                }
            }
        }
        match place.as_mut() {
            Some(lent) => self.undo(lent).await?,
            None => return Err(self.has_ended()),
        }
        Ok(place)
    }

    /// Rolls back the nested sessions that are to be. It stays to be done until it is answered: this future
    /// may be dropped, and rolling back to a savepoint twice does no harm.
    pub(super) async fn undo(&self, lent: &mut Lent) -> Result<(), Error> {
        let undo = self.savepoints().undo();
        match undo {
            Undo::Nothing => Ok(()),
            Undo::Refused(reason) => Err(self.refused(reason)),
            Undo::Sql(sql) => {
                lent.control(&sql).await.map_err(failed)?;
                self.savepoints().undone();
                Ok(())
            }
        }
    }

    pub(super) async fn commit(&self, mut lent: Lent) -> Result<(), Error> {
        // The server answers COMMIT of a failed transaction with ROLLBACK and calls it a success,
        // and the driver passes that on. So where a statement has failed, the transaction is
        // asked whether it still lives; where none has, nothing is asked.
        if lent.has_failed() && lent.control("SELECT 1").await.is_err() {
            roll_back(lent).await?;
            return Err(Error::RolledBack { database: self.database.name().to_string() });
        }
        match lent.commit().await {
            Ok(()) => {
                // Given back first: a hook may want a connection.
                drop(lent);
                let hooks = std::mem::take(&mut *self.hooks());
                for (_, hook) in hooks {
                    // A panic changes neither the outcome of the COMMIT nor the other hooks.
                    if std::panic::catch_unwind(AssertUnwindSafe(hook)).is_err() {
                        tracing::error!(database = %self.database.name(), "an after_commit hook panicked");
                    }
                }
                Ok(())
            }
            Err(error) => Err(self.not_committed(error, lent.is_broken())),
        }
    }

    fn not_committed(&self, error: sqlx::Error, is_lost: bool) -> Error {
        let database = self.database.name().to_string();
        let code = error.as_database_error().and_then(|error| error.code()).unwrap_or_default();
        match &*code {
            // Ended by the server while the session was idle, so before the COMMIT came.
            "25P03" => failed(error),
            // A server that does not know it itself, such as a distributed one.
            "40003" | "08007" => Error::CommitUnknown { database, source: Arc::new(error) },
            _ if matches!(error, sqlx::Error::PoolClosed) => Error::Closed { database },
            _ if is_lost => Error::CommitUnknown { database, source: Arc::new(error) },
            _ => failed(error),
        }
    }
}

pub(super) async fn roll_back(mut lent: Lent) -> Result<(), Error> {
    // The server rolls back by itself where the connection is gone.
    if lent.is_out_of_step() || lent.is_broken() {
        return Ok(());
    }
    if lent.is_in_flight() && Box::pin(lent.drain(Some(ABANDONED_MAY_TAKE))).await.is_err() {
        // Rolls back as well.
        lent.close();
        return Ok(());
    }
    lent.end("ROLLBACK").await.map_err(failed)
}

pub(super) fn failed(error: sqlx::Error) -> Error {
    Error::Db(DbErr::Exec(pool::runtime(error)))
}
