//! SeaORM's own connection, over sqlx's pool, with the startup parameters that ours have.

use std::{sync::Arc, time::Duration};

use sea_orm::{DatabaseConnection, SqlxPostgresConnector};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{ConnectTo, slot};
use crate::{
    error::{ConnectError, Error},
    monitor::Monitor,
};

pub(crate) struct SeaOrm {
    pool: PgPool,
    monitor: Arc<Monitor>,
}

impl SeaOrm {
    /// Connects to nothing yet. The login is the one of now.
    pub(crate) async fn new(to: &ConnectTo) -> Result<SeaOrm, Error> {
        SeaOrm::with(to, |options| options).await
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
        SeaOrm::with(to, loud).await
    }

    async fn with(
        to: &ConnectTo,
        more: impl FnOnce(PgConnectOptions) -> PgConnectOptions,
    ) -> Result<SeaOrm, Error> {
        let config = &to.config;
        let login = to
            .login()
            .await
            .map_err(|error| Error::Connect(ConnectError::no_login(to, Duration::ZERO, error)))?;
        let slot = slot::of(&to.host, to.port);
        let most = if slot.is_some() { 1 } else { config.pool_size };
        let pool = PgPoolOptions::new()
            .max_connections(most)
            .acquire_timeout(config.pool_timeout)
            .max_lifetime((config.pool_recycle != Duration::MAX).then_some(config.pool_recycle))
            .test_before_acquire(config.pool_pre_ping)
            .connect_lazy_with(more(to.driver_options(&login)));
        if let Some(slot) = slot {
            slot.give_to_sea_orm(&to.name, &pool)?;
        }
        Ok(SeaOrm { pool, monitor: Arc::clone(&to.monitor) })
    }

    pub(crate) fn connection(&self) -> DatabaseConnection {
        let mut connection = SqlxPostgresConnector::from_sqlx_postgres_pool(self.pool.clone());
        if self.monitor.is_enabled() {
            let monitor = Arc::clone(&self.monitor);
            connection.set_metric_callback(move |info| monitor.sea_orm(info));
        }
        connection
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.pool.is_closed()
    }

    pub(crate) async fn close(&self) {
        self.pool.close().await;
    }
}
