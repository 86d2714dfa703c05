//! Opens a connection, and knows how long it is good for.

use std::{
    panic::Location,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::FutureExt;
use sqlx::{
    Connection, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};

use super::{
    ConnectTo, Host, LocalSettings, ServerId, addresses,
    checkout::Cut,
    settings::{self, Settled},
};
use crate::{
    config::{Pooler, Role, SslMode},
    error::{ConnectError, ConnectErrorKind},
    monitor::{Ledger, PoolMeter},
    statement::Texts,
};

/// A connection on which the server answered within this time is lent as it is: it is far likelier to be
/// alive than a round trip is to be free.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// How often the buffers of a connection in use are looked at. The driver never shrinks them by itself.
const SHRINK_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Connector {
    /// Where the pool connected to first. Its address is [`Connector::current`]'s.
    pub(super) to: ConnectTo,
    pub(super) host: Arc<Host>,
    pub(super) meter: PoolMeter,
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
    /// Since when a caller uses it, and from where in the code, if one does.
    pub(super) lent_at: Option<Instant>,
    pub(super) opened_at: Option<&'static Location<'static>>,
    pub(super) memory: Box<Memory>,
    /// It has no prepared statement that is older.
    pub(super) prepares_since: Instant,
    close_at: Option<Instant>,
}

/// What a connection remembers of its statements. It is on the heap, because a connection is moved at each lending.
pub(super) struct Memory {
    pub(super) ledger: Ledger,
    pub(super) texts: Texts,
    shrunk_at: Instant,
    /// Turns false when its server is found to be no primary.
    is_valid: Arc<AtomicBool>,
    /// Of a standby's connection, the server that it leads to.
    pub(super) server: ServerId,
    /// Settings that each transaction has to bring with it.
    pub(super) local: Option<LocalSettings>,
    /// The host's generation when a statement was sent last.
    pub(super) generation: u32,
}

impl Connector {
    pub(super) fn new(host: Arc<Host>, read_only: bool) -> Connector {
        let to = ConnectTo { read_only, ..(*host.current()).clone() };
        let meter = PoolMeter::new(Arc::clone(&to.monitor), to.pool_name());
        Connector { to, host, meter }
    }

    /// Where it connects to now.
    pub(super) fn current(&self) -> ConnectTo {
        ConnectTo { read_only: self.to.read_only, ..(*self.host.current()).clone() }
    }

    pub(super) fn trusted_for(&self) -> Option<Duration> {
        self.to.config.pool_pre_ping.then_some(TRUSTED_FOR)
    }

    pub(super) async fn open(&self) -> Result<Open, ConnectError> {
        if self.host.seeks_primary() {
            self.find_primary().await?;
        }
        // Before connecting, so that a demotion in the meantime invalidates this connection, too.
        let is_valid = self.host.validity();
        let opened = self.within_limit(async |to, login| {
            let (mut driver, _) = self.connect_as_libpq(to, login).await?;
            let settled = to.settle(&mut driver).await?;
            Ok((driver, settled))
        });
        let (driver, settled) = opened.await?;
        Ok(self.opened(driver, is_valid, settled))
    }

    /// What `connect` makes with the login of now, if it does within `connect_timeout`.
    pub(super) async fn within_limit<T>(
        &self,
        connect: impl AsyncFnOnce(&ConnectTo, &Role) -> Result<T, sqlx::Error>,
    ) -> Result<T, ConnectError> {
        let (started, to) = (Instant::now(), self.current());
        let opened = tokio::time::timeout(to.config.connect_timeout, async {
            let login = to.login().await;
            let login = login.map_err(|error| to.no_login(started.elapsed(), error))?;
            let connected = connect(&to, &login).await;
            connected.map_err(|error| to.failed(&login.user, started.elapsed(), error))
        });
        let opened = match opened.await {
            Ok(opened) => opened,
            Err(_) => Err(to.timed_out(started.elapsed())),
        };
        match &opened {
            Ok(_) => self.meter.connected(started.elapsed()),
            Err(error) => self.meter.not_connected(error.kind.name()),
        }
        opened
    }

    /// A connection whose settings are in force.
    pub(super) async fn connect(
        &self,
        to: &ConnectTo,
        login: &Role,
    ) -> Result<(PgConnection, PgConnectOptions), sqlx::Error> {
        let (mut driver, options) = self.connect_as_libpq(to, login).await?;
        to.settle(&mut driver).await?;
        Ok((driver, options))
    }

    /// With the other of TLS and no TLS, where the mode allows both and the first cannot be had: the driver does
    /// not do that by itself.
    pub(super) async fn connect_as_libpq(
        &self,
        to: &ConnectTo,
        login: &Role,
    ) -> Result<(PgConnection, PgConnectOptions), sqlx::Error> {
        let mode = to.config.ssl_mode;
        let mut first = to.driver_options(login);
        // As in libpq, a certificate is checked in every mode where the authorities are named.
        let encrypted = match to.config.ssl_root_cert {
            Some(_) => PgSslMode::VerifyCa,
            None => PgSslMode::Require,
        };
        if mode == SslMode::Prefer && to.config.ssl_root_cert.is_some() {
            first = first.ssl_mode(encrypted);
        }
        let error = match self.connect_with(first.clone()).await {
            Err(error) => error,
            connected => return connected,
        };
        let is_rejected =
            error.as_database_error().and_then(|error| error.code()).as_deref() == Some("28000");
        let has_failed = ConnectErrorKind::of(&error) == ConnectErrorKind::Tls;
        match mode {
            SslMode::Prefer if is_rejected || has_failed => {
                let plain = self.connect_with(first.ssl_mode(PgSslMode::Disable)).await;
                // Why TLS failed is what there is to mend, where nothing else is allowed either.
                plain.map_err(|second| if has_failed { error } else { second })
            }
            SslMode::Allow if is_rejected => self.connect_with(first.ssl_mode(encrypted)).await,
            _ => Err(error),
        }
    }

    /// A server that does not know how to look after its clients is connected to without that, from the first refusal on. What
    /// a pooler does not pass on is not asked of it.
    async fn connect_with(
        &self,
        options: PgConnectOptions,
    ) -> Result<(PgConnection, PgConnectOptions), sqlx::Error> {
        let limit = self.to.config.connect_timeout;
        let has_pooler = self.to.config.pooler != Pooler::None;
        if !has_pooler && !self.host.rejects_liveness() {
            let with_liveness_checks = settings::with_liveness_checks(options.clone());
            match addresses::connect(&with_liveness_checks, limit).await {
                Err(sqlx::Error::Database(error)) if settings::rejects_liveness_params(&*error) => {
                    self.host.note_rejection();
                }
                connected => return connected.map(|driver| (driver, with_liveness_checks)),
            }
        }
        let opened = addresses::connect(&options, limit).await;
        opened.map(|driver| (driver, options))
    }

    fn opened(&self, driver: PgConnection, is_valid: Arc<AtomicBool>, settled: Settled) -> Open {
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
            memory: Box::new(Memory {
                ledger: Ledger::default(),
                texts: Texts::default(),
                shrunk_at: now,
                is_valid,
                server: settled.server,
                local: settled.local,
                generation: 0,
            }),
            prepares_since: now,
            // `never` is a time beyond what the clock can hold.
            close_at: now.checked_add(life - jitter),
        }
    }
}

impl Open {
    /// Whether it has lived as long as it may, or must not be used because its server is no primary any more.
    pub(super) fn is_past(&self, now: Instant) -> bool {
        self.close_at.is_some_and(|at| now >= at) || !self.memory.is_valid.load(Ordering::Relaxed)
    }

    /// Lets go of the memory that a large answer took, once a second at most. The driver frees it with one of the next
    /// answers, so a connection that idles from then on keeps it.
    pub(super) fn shrink(&mut self, now: Instant) {
        if now.saturating_duration_since(self.memory.shrunk_at) >= SHRINK_EVERY {
            self.memory.shrunk_at = now;
            self.driver.shrink_buffers();
        }
    }

    /// Closes it as the protocol asks, so that the server does not count a lost client. It waits for nothing:
    /// where the message does not fit into the socket, closing that has to do.
    pub(super) fn close(self) {
        let _ = self.driver.close().now_or_never();
    }
}
