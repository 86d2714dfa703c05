//! What one connection starts with, as the driver takes it.

use std::{sync::Arc, time::Duration};

use secrecy::ExposeSecret;
use sqlx::{
    ConnectOptions,
    postgres::{PgConnectOptions, PgSslMode},
};

use crate::{
    config::{Address, DatabaseConfig, SslMode},
    error::Error,
};

/// PostgreSQL 14 has it on Linux, later ones on other systems too.
pub(crate) const CLIENT_CHECK: &str = "client_connection_check_interval";

/// Where a pool connects to, as whom, and with which settings.
#[derive(Clone)]
pub(crate) struct ConnectTo {
    /// The database's key in the file.
    pub(crate) name: Arc<str>,
    pub(crate) config: Arc<DatabaseConfig>,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) read_only: bool,
}

impl ConnectTo {
    pub(crate) fn new(
        name: Arc<str>,
        config: Arc<DatabaseConfig>,
        read_only: bool,
    ) -> Result<ConnectTo, Error> {
        match &config.address {
            Address::Host { host, port } => {
                let (host, port) = (host.clone(), *port);
                Ok(ConnectTo { name, config, host, port, read_only })
            }
            Address::PgServer => Err(Error::Internal {
                database: name.to_string(),
                reason: "the address of its server was not looked up".to_owned(),
            }),
        }
    }

    /// The login: `read_role` on a read-only connection that has one, `user` else.
    pub(crate) fn user(&self) -> &str {
        match &self.config.read_role {
            Some(role) if self.read_only => &role.user,
            _ => &self.config.user,
        }
    }

    /// Everything that a connection is to keep is a startup parameter: RESET ALL and DISCARD ALL
    /// return to those, and forget what a SET after connecting had made.
    pub(crate) fn driver_options(&self) -> PgConnectOptions {
        let config = &*self.config;
        let password = match &config.read_role {
            Some(role) if self.read_only => role.password.as_ref(),
            _ => config.password.as_ref(),
        };
        // An empty password is the file saying that there is none: only where it says nothing is
        // PGPASSWORD or ~/.pgpass asked.
        let mut options = match password {
            Some(_) => PgConnectOptions::new_without_pgpass(),
            None => PgConnectOptions::new(),
        };
        options = options
            .host(&self.host)
            .port(self.port)
            .database(&config.database)
            .username(self.user())
            .application_name(&config.application_name)
            .ssl_mode(match config.ssl_mode {
                SslMode::Disable => PgSslMode::Disable,
                SslMode::Allow => PgSslMode::Allow,
                SslMode::Prefer => PgSslMode::Prefer,
                SslMode::Require => PgSslMode::Require,
                SslMode::VerifyCa => PgSslMode::VerifyCa,
                SslMode::VerifyFull => PgSslMode::VerifyFull,
            })
            .disable_statement_logging();
        if let Some(password) = password {
            options = options.password(password.expose_secret());
        }
        if let Some(file) = &config.ssl_root_cert {
            options = options.ssl_root_cert(file);
        }
        if let Some(file) = &config.ssl_cert {
            options = options.ssl_client_cert(file);
        }
        if let Some(file) = &config.ssl_key {
            options = options.ssl_client_key(file);
        }
        let settings = self.settings();
        if settings.is_empty() {
            // An empty `options` is one too many for a PgBouncer that takes none.
            return options;
        }
        options.options(settings)
    }

    /// The same, and the server looks every now and then whether the client of a long statement
    /// is still there: a statement whose future was dropped is cancelled so.
    pub(crate) fn driver_options_with_check(&self) -> PgConnectOptions {
        self.driver_options().options([(CLIENT_CHECK, "500ms")])
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let config = &*self.config;
        let millis = |limit: &Duration| limit.as_millis().to_string();
        let mut settings = Vec::new();
        let mut set = |name, value: Option<String>| {
            if let Some(value) = value {
                settings.push((name, value));
            }
        };
        set("search_path", config.schema.clone());
        set("statement_timeout", config.statement_timeout.as_ref().map(millis));
        set("lock_timeout", config.lock_timeout.as_ref().map(millis));
        set(
            "idle_in_transaction_session_timeout",
            config.idle_in_transaction_timeout.as_ref().map(millis),
        );
        // Last, so that nothing before it (PGOPTIONS included) has the last word.
        set("default_transaction_read_only", self.read_only.then(|| "on".to_owned()));
        settings
    }

    /// Where this goes, for people: never with a password.
    pub(crate) fn target(&self) -> String {
        let Self { host, port, .. } = self;
        let server = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        format!("{}@{server}:{port}/{}", self.user(), self.config.database)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(read_only: bool) -> ConnectTo {
        let config = DatabaseConfig::from_url("postgres://app:s3cret@db.example.com/shop").unwrap();
        ConnectTo::new("shop".into(), Arc::new(config), read_only).unwrap()
    }

    #[test]
    fn nothing_is_asked_of_a_pgbouncer_that_takes_no_options() {
        assert_eq!(to(false).driver_options().get_options(), None);
        assert!(to(true).driver_options().get_options().is_some());
    }

    #[test]
    fn where_it_goes_is_shown_without_the_password() {
        assert_eq!(to(false).target(), "app@db.example.com:5432/shop");
    }
}
