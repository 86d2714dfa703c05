//! Opens a connection, and knows how long it is good for.

use std::{
    panic::Location,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{ConnectOptions, PgConnection, postgres::PgConnectOptions};

use super::{ConnectTo, checkout::Cut, options};
use crate::{
    config::Role,
    error::ConnectError,
    monitor::{Ledger, PoolMeter},
};

/// A connection on which the server answered within this time is lent as it is: it is far likelier to be
/// alive than a round trip is to be free.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

pub(super) struct Connector {
    pub(super) to: ConnectTo,
    pub(super) meter: PoolMeter,
    /// The server does not take what not every server takes.
    plain: AtomicBool,
}

/// An open connection.
pub(crate) struct Open {
    pub(super) driver: PgConnection,
    pub(super) cut: Arc<Cut>,
    /// Where the queue has it.
    pub(super) seat: usize,
    pub(super) last_used: Instant,
    /// When the server last answered on it.
    pub(super) heard_at: Instant,
    /// Since when it is lent, and from where in the caller's code, if it is.
    pub(super) lent_at: Option<Instant>,
    pub(super) opened_at: Option<&'static Location<'static>>,
    pub(super) ledger: Box<Ledger>,
    /// It has no prepared statement that is older.
    pub(super) prepares_since: Instant,
    close_at: Option<Instant>,
}

impl Connector {
    /// An embedded engine looks after no clients.
    pub(super) fn new(to: ConnectTo, embedded: bool) -> Connector {
        let meter = PoolMeter::new(Arc::clone(&to.monitor), to.pool_name());
        Connector { to, meter, plain: AtomicBool::new(embedded) }
    }

    pub(super) fn trusted_for(&self) -> Option<Duration> {
        self.to.config.pool_pre_ping.then_some(TRUSTED_FOR)
    }

    pub(super) async fn open(&self) -> Result<Open, ConnectError> {
        let opened = self.within_limit(async |login| self.connect(login).await).await;
        opened.map(|driver| self.opened(driver))
    }

    /// What `connect` makes with the login of now, if it does within `connect_timeout`.
    pub(super) async fn within_limit<T>(
        &self,
        connect: impl AsyncFnOnce(&Role) -> Result<T, sqlx::Error>,
    ) -> Result<T, ConnectError> {
        let started = Instant::now();
        let opened = tokio::time::timeout(self.to.config.connect_timeout, async {
            let login = self
                .to
                .login()
                .await
                .map_err(|error| ConnectError::no_login(&self.to, started.elapsed(), error))?;
            let connected = connect(&login).await;
            connected
                .map_err(|error| ConnectError::new(&self.to, &login.user, started.elapsed(), error))
        });
        let opened = match opened.await {
            Ok(opened) => opened,
            Err(_) => Err(ConnectError::timeout(&self.to, started.elapsed())),
        };
        match &opened {
            Ok(_) => self.meter.connected(started.elapsed()),
            Err(error) => self.meter.not_connected(error.kind.name()),
        }
        opened
    }

    /// A server that does not know how to look after its clients, or a PgBouncer that passes no
    /// startup options on, is connected to without that, from the first refusal on.
    pub(super) async fn connect(&self, login: &Role) -> Result<PgConnection, sqlx::Error> {
        match self.options(login).connect().await {
            Err(sqlx::Error::Database(error))
                if !self.plain.load(Ordering::Relaxed) && options::refused(&*error) =>
            {
                self.plain.store(true, Ordering::Relaxed);
                self.options(login).connect().await
            }
            result => result,
        }
    }

    /// Those that a connection is opened with now.
    pub(super) fn options(&self, login: &Role) -> PgConnectOptions {
        let plain = self.to.driver_options(login);
        match self.plain.load(Ordering::Relaxed) {
            true => plain,
            false => options::looked_after(plain),
        }
    }

    fn opened(&self, driver: PgConnection) -> Open {
        let now = Instant::now();
        // Up to a tenth earlier than `pool_recycle`, so that connections opened together are not
        // closed together.
        let life = self.to.config.pool_recycle;
        let jitter = (life / 10).mul_f64(fastrand::f64());
        Open {
            driver,
            cut: Arc::default(),
            seat: usize::MAX,
            last_used: now,
            heard_at: now,
            lent_at: None,
            opened_at: None,
            ledger: Box::default(),
            prepares_since: now,
            // `never` is a time beyond what the clock can hold.
            close_at: now.checked_add(life - jitter),
        }
    }
}

impl Open {
    /// Whether it has lived as long as it may.
    pub(super) fn is_past(&self, now: Instant) -> bool {
        self.close_at.is_some_and(|at| now >= at)
    }
}
