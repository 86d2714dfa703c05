//! Connections: opened, lent, taken back, retired. The only room that talks to the driver.

mod connector;
mod holders;
mod lent;
mod options;
mod overflow;
mod sea_orm;
mod slot;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use deadpool::{
    Runtime,
    managed::{self, PoolError, QueueMode, TimeoutType, Timeouts},
};

pub(crate) use connector::Connector;
pub use holders::Holder;
use holders::{Entry, Holders};
pub(crate) use lent::{Lent, MetricCallback, Purpose, rows, runtime};
pub(crate) use options::ConnectTo;
use overflow::Overflow;
pub(crate) use sea_orm::SeaOrm;
use slot::{Claim, Slot};

use crate::error::{Error, PoolTimeout};

/// Longest time for the ping of a connection that has idled; one that takes longer is replaced.
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// The connections to one database with one set of startup parameters.
#[derive(Clone)]
pub(crate) struct Pool {
    lending: managed::Pool<Connector>,
    slot: Option<Arc<Slot>>,
    overflow: Overflow,
    holders: Holders,
    timeout: Duration,
}

impl Pool {
    pub(crate) fn new(to: ConnectTo) -> Result<Pool, Error> {
        let slot = slot::of(&to.host, to.port);
        let config = &to.config;
        let keep = if slot.is_some() { 1 } else { config.pool_size as usize };
        let most = if slot.is_some() { 1 } else { keep + config.max_overflow as usize };
        let timeout = config.pool_timeout;
        let database = to.name.clone();
        let lending = managed::Pool::builder(Connector::new(to, slot.is_some()))
            .max_size(most)
            // The connection that came back last is lent first: its caches are warm, and those
            // that load no longer needs grow old undisturbed.
            .queue_mode(QueueMode::Lifo)
            .timeouts(Timeouts { wait: Some(timeout), create: None, recycle: Some(PING_TIMEOUT) })
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| Error::Internal {
                database: database.to_string(),
                reason: error.to_string(),
            })?;
        let (overflow, holders) = (Overflow::new(keep), Holders::default());
        Ok(Pool { lending, slot, overflow, holders, timeout })
    }

    /// Lends a connection for `purpose`.
    ///
    /// No round trip where one is there that was used within the last second; a ping where it has
    /// idled longer; a connect where none is there.
    pub(crate) async fn lend(&self, purpose: Purpose) -> Result<Lent, Error> {
        let started = Instant::now();
        let claim = match &self.slot {
            Some(slot) => Some(slot.claim(self, purpose, started + self.timeout).await?),
            None => None,
        };
        match self.lending.get().await {
            Ok(object) => {
                if managed::Object::metrics(&object).recycled.is_none() {
                    self.overflow.watch(&self.lending);
                }
                let entry = self.holders.enter(purpose);
                Ok(Lent::new(object, claim, entry))
            }
            Err(error) => Err(self.explain(error, started)),
        }
    }

    fn explain(&self, error: PoolError<Error>, started: Instant) -> Error {
        let connector = self.lending.manager();
        let database = connector.name();
        match error {
            PoolError::Backend(error) => error,
            PoolError::Closed => Error::Closed { database },
            PoolError::Timeout(TimeoutType::Wait) => {
                // Everyone who holds a place may be waiting for a server that is down: then that,
                // not the wait, is what the reader has to know.
                if let Some(failure) = connector.failed_since(started) {
                    return Error::Connect(failure);
                }
                let stats = self.stats();
                let (waited, longest) = (started.elapsed(), self.holders.longest(3));
                Error::PoolTimeout(PoolTimeout { database, waited, stats, longest })
            }
            other => Error::Internal { database, reason: other.to_string() },
        }
    }

    /// Closes what idles and lends nothing more; what is lent closes when it comes back.
    pub(crate) fn close(&self) {
        self.lending.close();
    }

    pub(crate) fn stats(&self) -> PoolStats {
        let status = self.lending.status();
        PoolStats {
            max: status.max_size,
            open: status.size,
            idle: status.available,
            in_use: status.size - status.available.min(status.size),
            waiting: status.waiting,
        }
    }

    pub(crate) fn name(&self) -> String {
        self.lending.manager().name()
    }
}

/// How many connections a pool has, and what they are doing. A snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Most connections there may be: `pool_size` + `max_overflow`.
    pub max: usize,
    /// Connections open now.
    pub open: usize,
    /// Of those, waiting to be lent.
    pub idle: usize,
    /// Of those, lent.
    pub in_use: usize,
    /// Callers waiting for a connection, those that are just connecting included.
    pub waiting: usize,
}

impl fmt::Display for PoolStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { max, open, idle, in_use, waiting } = self;
        write!(f, "{open} of at most {max} open, {in_use} in use, {idle} idle, {waiting} waiting")
    }
}
