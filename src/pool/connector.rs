//! Opens connections, and decides whether one that comes up for lending is still good.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use sqlx::{ConnectOptions, Connection, PgConnection, postgres::PgConnectOptions};

use super::{ConnectTo, options::CLIENT_CHECK};
use crate::error::{ConnectError, Error};

/// A connection used within this time is lent as it is: it is far likelier to be alive than a
/// round trip is to be free.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

pub(crate) struct Connector {
    to: ConnectTo,
    /// The second without what not every server takes.
    options: [PgConnectOptions; 2],
    plain: AtomicBool,
    last_failure: Mutex<Option<(Instant, ConnectError)>>,
}

/// An open connection as it lies in the pool.
pub(crate) struct Open {
    pub(super) driver: PgConnection,
    pub(super) last_used: Instant,
    retire_at: Option<Instant>,
}

impl Connector {
    /// An embedded engine looks after no clients.
    pub(super) fn new(to: ConnectTo, embedded: bool) -> Connector {
        let options = [to.driver_options_with_check(), to.driver_options()];
        let plain = AtomicBool::new(embedded);
        Connector { to, options, plain, last_failure: Mutex::new(None) }
    }

    /// A server that does not know how to look after its clients, or a PgBouncer that passes no
    /// startup options on, is connected to without that, from the first refusal on.
    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let [checked, plain] = &self.options;
        if self.plain.load(Ordering::Relaxed) {
            return plain.connect().await;
        }
        match checked.connect().await {
            Err(sqlx::Error::Database(error)) if refuses_options(&*error) => {
                self.plain.store(true, Ordering::Relaxed);
                plain.connect().await
            }
            result => result,
        }
    }

    pub(super) fn name(&self) -> String {
        self.to.name.to_string()
    }

    /// Why connecting failed last, if it did after `since` and has not succeeded meanwhile.
    pub(super) fn failed_since(&self, since: Instant) -> Option<ConnectError> {
        let failure = self.last_failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.as_ref().filter(|(at, _)| *at >= since).map(|(_, error)| error.clone())
    }

    fn note(&self, failure: Option<ConnectError>) {
        let mut last = self.last_failure.lock().unwrap_or_else(PoisonError::into_inner);
        *last = failure.map(|error| (Instant::now(), error));
    }

    /// When a connection opened now is to be replaced. Up to a tenth earlier than
    /// `pool_recycle`, so that connections opened together are not replaced together.
    fn retire_at(&self) -> Option<Instant> {
        let life = self.to.config.pool_recycle;
        let jitter = (life / 10).mul_f64(fastrand::f64());
        // `never` is a time beyond what the clock can hold.
        Instant::now().checked_add(life - jitter)
    }
}

fn refuses_options(error: &dyn sqlx::error::DatabaseError) -> bool {
    let said = error.message();
    said.contains(CLIENT_CHECK) || said.contains("startup parameter")
}

impl Manager for Connector {
    type Type = Open;
    type Error = Error;

    async fn create(&self) -> Result<Open, Error> {
        let config = &self.to.config;
        let limit = config.connect_timeout.min(config.pool_timeout);
        let started = Instant::now();
        let result = match tokio::time::timeout(limit, self.connect()).await {
            Ok(Ok(driver)) => Ok(driver),
            Ok(Err(error)) => Err(ConnectError::new(&self.to, started.elapsed(), error)),
            Err(_) => Err(ConnectError::timeout(&self.to, started.elapsed())),
        };
        self.note(result.as_ref().err().cloned());
        let driver = result.map_err(Error::Connect)?;
        Ok(Open { driver, last_used: Instant::now(), retire_at: self.retire_at() })
    }

    async fn recycle(&self, open: &mut Open, _: &Metrics) -> RecycleResult<Error> {
        let now = Instant::now();
        if open.retire_at.is_some_and(|at| now >= at) {
            return Err(RecycleError::message("older than pool_recycle"));
        }
        let idle = now.saturating_duration_since(open.last_used);
        if self.to.config.pool_pre_ping && idle > TRUSTED_FOR {
            open.driver.ping().await.map_err(|error| RecycleError::message(error.to_string()))?;
        }
        Ok(())
    }
}
