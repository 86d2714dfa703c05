//! SeaORM's own connection, over sqlx's pool, with the startup parameters that ours have.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

#[cfg(feature = "migrate")]
use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr};
use sea_orm::{DatabaseConnection, SqlxPostgresConnector};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

#[cfg(unix)]
use super::relay::Relay;
use super::{ConnectTo, slot};
#[cfg(any(feature = "migrate", feature = "cli"))]
use super::{Host, connector::Connector};
use crate::{config::Role, error::Error, monitor::Monitor};

pub(crate) struct SeaOrm {
    pool: PgPool,
    monitor: Arc<Monitor>,
    /// How many connections the pool has opened.
    #[cfg(feature = "migrate")]
    opened: Arc<AtomicUsize>,
    #[cfg(feature = "migrate")]
    is_embedded: bool,
}

impl SeaOrm {
    /// Opens a connection and closes it again, to learn which options the server accepts.
    #[cfg(any(feature = "migrate", feature = "cli"))]
    pub(crate) async fn connect_to(to: &ConnectTo) -> Result<SeaOrm, Error> {
        SeaOrm::with(to, options_of(to).await?, None)
    }

    /// Connects to nothing yet. On the runtime of the caller, on which the driver's pool looks after itself.
    pub(crate) fn new(to: ConnectTo, login: &Role) -> Result<SeaOrm, Error> {
        let to = to.for_sea_orm()?;
        SeaOrm::with(&to, to.driver_options(login), start_relay(&to))
    }

    /// The same, and the driver tells `tracing` of each statement: as errors, the one level that no
    /// build leaves out. To be used where nobody but its user listens.
    #[cfg(feature = "migrate")]
    pub(crate) async fn that_logs(to: &ConnectTo) -> Result<SeaOrm, Error> {
        use log::LevelFilter::Error as Always;
        use sqlx::ConnectOptions as _;
        // Where logging was disabled, every statement counts as slow.
        let loud = |options: PgConnectOptions| {
            options.log_statements(Always).log_slow_statements(Always, Duration::MAX)
        };
        SeaOrm::with(to, loud(options_of(to).await?), None)
    }

    fn with(
        to: &ConnectTo,
        options: PgConnectOptions,
        relay: Option<Relay>,
    ) -> Result<SeaOrm, Error> {
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(Error::Internal {
                database: to.name.to_string(),
                reason: "the driver's own pool needs a Tokio runtime; call this inside of one"
                    .to_owned(),
            });
        }
        let config = &to.config;
        let slot = slot::of(&to.host, to.port);
        let most = if slot.is_some() { 1 } else { config.pool_size };
        let options = match &relay {
            Some(relay) => options.socket(relay.folder()),
            None => options,
        };
        #[cfg(feature = "migrate")]
        let is_embedded = slot.is_some();
        let opened = Arc::new(AtomicUsize::new(0));
        let pool = PgPoolOptions::new()
            .max_connections(most)
            .acquire_timeout(config.pool_timeout)
            .max_lifetime((config.pool_recycle != Duration::MAX).then_some(config.pool_recycle))
            .test_before_acquire(config.pool_pre_ping)
            .after_connect({
                // Held here, because the pool needs the relay for as long as it opens connections.
                let shared = Arc::new((to.clone(), relay));
                let opened = Arc::clone(&opened);
                move |driver, _| {
                    opened.fetch_add(1, Ordering::SeqCst);
                    let shared = Arc::clone(&shared);
                    Box::pin(async move { shared.0.settle(driver).await.map(|_| ()) })
                }
            })
            .connect_lazy_with(options);
        if let Some(slot) = slot {
            slot.give_to_sea_orm(&to.name, &pool)?;
        }
        Ok(SeaOrm {
            pool,
            monitor: Arc::clone(&to.monitor),
            #[cfg(feature = "migrate")]
            opened,
            #[cfg(feature = "migrate")]
            is_embedded,
        })
    }

    pub(crate) fn connection(&self) -> DatabaseConnection {
        let mut connection = SqlxPostgresConnector::from_sqlx_postgres_pool(self.pool.clone());
        if self.monitor.is_enabled() {
            let monitor = Arc::clone(&self.monitor);
            connection.set_metric_callback(move |info| monitor.sea_orm(info));
        }
        connection
    }

    /// Whether the pool has replaced a connection, and with it whatever belonged to that one, such as a lock. It does so in
    /// silence where it finds a connection lost that came back to it. An embedded engine has its one connection change hands,
    /// and no other process.
    #[cfg(feature = "migrate")]
    pub(crate) fn has_reconnected(&self) -> bool {
        !self.is_embedded && self.opened.load(Ordering::SeqCst) > 1
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.pool.is_closed()
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}

#[cfg(feature = "migrate")]
impl ConnectTo {
    /// Returns why the driver's pool could not open its connection, as wharf's own pools say it.
    pub(crate) fn not_opened(&self, elapsed: Duration, error: DbErr) -> Error {
        match error {
            DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) => {
                Error::Connect(self.timed_out(elapsed))
            }
            DbErr::Conn(RuntimeErr::SqlxError(error)) => match Arc::try_unwrap(error) {
                Ok(error) => Error::Connect(self.failed(&self.config.user, elapsed, error)),
                Err(error) => DbErr::Conn(RuntimeErr::SqlxError(error)).into(),
            },
            error => error.into(),
        }
    }
}

/// Starts the relay if the entry has a `socket_timeout` or several hosts. Migrations need none: they may take any time, and
/// connect to the primary's address.
#[cfg(unix)]
fn start_relay(to: &ConnectTo) -> Option<Relay> {
    let limit = to.config.socket_timeout;
    if limit.is_none() && !to.has_hosts() {
        return None;
    }
    if to.host.starts_with('/') || slot::of(&to.host, to.port).is_some() {
        // There is no network on the way.
        return None;
    }
    Relay::start(to, limit)
        .inspect_err(|error| {
            tracing::warn!(
                database = %to.name, %error,
                "socket_timeout does not apply to SeaORM's own connection, nor does it follow the primary of several hosts, \
                 because the folder for temporary files cannot hold a socket"
            );
        })
        .ok()
}

/// The driver supports Unix sockets on Unix only.
#[cfg(not(unix))]
fn start_relay(_: &ConnectTo) -> Option<Relay> {
    None
}

#[cfg(not(unix))]
enum Relay {}

#[cfg(not(unix))]
impl Relay {
    fn folder(&self) -> &std::path::Path {
        match *self {}
    }
}

/// Returns the options with which a connection opens now: with or without TLS as libpq would, and with the settings by
/// which a server checks its client, if it accepts them.
#[cfg(any(feature = "migrate", feature = "cli"))]
async fn options_of(to: &ConnectTo) -> Result<PgConnectOptions, Error> {
    use futures_util::FutureExt as _;
    use sqlx::Connection as _;
    if slot::of(&to.host, to.port).is_some() {
        // An embedded engine has one connection, and somebody may have it.
        return Ok(to.driver_options(&login_of(to).await?));
    }
    let connector = Connector::new(Arc::new(Host::new(to.clone())), to.read_only);
    let opened = connector.within_limit(async |to, login| connector.connect(to, login).await);
    let (driver, options) = opened.await.map_err(Error::Connect)?;
    // Only its options were wanted.
    let _ = driver.close().now_or_never();
    Ok(options)
}

/// The login of now.
pub(crate) async fn login_of(to: &ConnectTo) -> Result<Role, Error> {
    let login = to.login().await;
    login.map_err(|error| Error::Connect(to.no_login(Duration::ZERO, error)))
}
