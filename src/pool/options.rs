//! What one connection starts with, as the driver takes it.

use std::{
    error::Error as StdError,
    sync::{Arc, atomic::AtomicBool},
};

use futures_util::future::BoxFuture;
use sea_orm::DbErr;
use secrecy::ExposeSecret;
use sqlx::{
    ConnectOptions,
    postgres::{PgConnectOptions, PgSslMode},
};

use crate::{
    config::{Address, DatabaseConfig, HostPort, Pooler, Reads, Role, SslMode},
    error::Error,
    monitor::Monitor,
};

/// Where a pool connects to, as whom, and with which settings.
#[derive(Clone)]
pub(crate) struct ConnectTo {
    /// The database's key in the file.
    pub(crate) name: Arc<str>,
    pub(crate) config: Arc<DatabaseConfig>,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The hosts of an entry with `hosts`; `host` is the one that was found to be the primary, or the first. Else empty.
    pub(crate) hosts: Arc<[HostPort]>,
    /// The hosts are those that Patroni listed, so there may be others later.
    pub(crate) is_listed: bool,
    pub(crate) read_only: bool,
    /// It is for reading on one of several servers.
    pub(crate) is_standby: bool,
    pub(crate) monitor: Arc<Monitor>,
    /// The pooler has proved that it keeps prepared statements for each client.
    pub(crate) statements_are_proved: Arc<AtomicBool>,
    pub(crate) locate: Option<Arc<Locate>>,
}

/// Where the database is, asked when its first connection is opened: the server of the file may be started, and
/// its port be chosen, after the file was read.
pub(crate) type Locate =
    dyn Fn() -> BoxFuture<'static, Result<DatabaseConfig, Error>> + Send + Sync;

impl ConnectTo {
    pub(crate) fn new(
        name: Arc<str>,
        config: Arc<DatabaseConfig>,
        read_only: bool,
        monitor: Arc<Monitor>,
    ) -> Result<ConnectTo, Error> {
        let (host, port, hosts): (_, _, &[HostPort]) = match &config.address {
            Address::Host { host, port } => (host.clone(), *port, &[]),
            Address::Hosts(hosts) => match hosts.first() {
                Some(first) => (first.host.clone(), first.port, hosts),
                None => {
                    return Err(Error::Db(DbErr::Custom(format!(
                        "database `{name}`: its list of hosts is empty; name the hosts of the cluster"
                    ))));
                }
            },
            Address::Patroni(_) | Address::PgServer | Address::PgServerReplica => {
                return Err(Error::Internal {
                    database: name.to_string(),
                    reason: "the server's address was not resolved".to_owned(),
                });
            }
        };
        let hosts = hosts.into();
        monitor.connects_to(&config);
        Ok(ConnectTo {
            name,
            config,
            host,
            port,
            hosts,
            read_only,
            is_listed: false,
            is_standby: false,
            monitor,
            statements_are_proved: Arc::default(),
            locate: None,
        })
    }

    /// The server itself, for `what` that needs a connection of its own: past the pooler, if the entry has one.
    pub(crate) fn direct(self, what: &'static str) -> Result<ConnectTo, Error> {
        match (&self.config.direct, self.config.pooler) {
            (Some(at), _) => {
                let mut config = (*self.config).clone();
                config.past_pooler();
                Ok(ConnectTo { config: Arc::new(config), ..self.alone(at) })
            }
            (None, Pooler::None | Pooler::Session) => Ok(self),
            (None, Pooler::Transaction) => {
                Err(Error::NeedsDirect { database: self.name.to_string(), what })
            }
        }
    }

    pub(crate) fn at(&self) -> HostPort {
        HostPort { host: self.host.clone(), port: self.port }
    }

    /// The servers of the entry, that of `host` first.
    pub(crate) fn servers(&self) -> Vec<HostPort> {
        match self.has_hosts() {
            true => self.hosts.to_vec(),
            false => {
                std::iter::once(self.at()).chain(self.config.replicas.iter().cloned()).collect()
            }
        }
    }

    /// The same database on one of its hosts.
    pub(crate) fn on(&self, at: &HostPort) -> ConnectTo {
        ConnectTo { host: at.host.clone(), port: at.port, ..self.clone() }
    }

    /// The same database on one of its hosts, whatever the role of that is.
    pub(super) fn alone(&self, at: &HostPort) -> ConnectTo {
        ConnectTo { hosts: Arc::default(), locate: None, ..self.on(at) }
    }

    /// The same for reading on a standby. A connection that cannot be opened within `probe_timeout` is not waited for,
    /// because another server can serve the read.
    pub(crate) fn on_standby(&self, at: &HostPort) -> ConnectTo {
        let mut config = (*self.config).clone();
        config.connect_timeout = config.connect_timeout.min(config.topology.probe_timeout);
        config.reads = Reads::Primary;
        ConnectTo { read_only: true, is_standby: true, config: Arc::new(config), ..self.alone(at) }
    }

    /// Whether the primary is to be found among several hosts.
    pub(crate) fn has_hosts(&self) -> bool {
        !self.hosts.is_empty()
    }

    /// Where `locate` says that the database is now.
    pub(crate) async fn located(
        name: Arc<str>,
        locate: &Arc<Locate>,
        read_only: bool,
        monitor: Arc<Monitor>,
    ) -> Result<ConnectTo, Error> {
        let config = locate().await?;
        let is_listed = matches!(config.address, Address::Patroni(_));
        let config = listed(&name, config).await?;
        let to = ConnectTo::new(name, Arc::new(config), read_only, monitor)?;
        Ok(ConnectTo { is_listed, locate: Some(Arc::clone(locate)), ..to })
    }

    /// The same database, wherever it is now; none where its address is fixed.
    pub(super) async fn locate_again(&self) -> Result<Option<ConnectTo>, Error> {
        let Some(locate) = &self.locate else { return Ok(None) };
        let monitor = Arc::clone(&self.monitor);
        let name = Arc::clone(&self.name);
        let found = ConnectTo::located(name, locate, self.read_only, monitor).await?;
        // Of several hosts, the servers know which is the primary, not the file.
        Ok((!self.has_hosts() || found.hosts != self.hosts).then_some(found))
    }

    /// What the pool goes by in metrics: its entry; the one that an entry which writes reads with, and those on standbys, have
    /// names of their own.
    pub(super) fn pool_name(&self) -> String {
        if self.is_standby {
            return format!("{}.{}", self.name, self.at());
        }
        match self.read_only && !self.config.readonly {
            true => format!("{}.reader", self.name),
            false => self.name.to_string(),
        }
    }

    /// The login that the file names: `read_role` on a read-only connection that has one.
    fn configured(&self) -> Role {
        match &self.config.read_role {
            Some(role) if self.read_only => role.clone(),
            _ => self.config.login(),
        }
    }

    /// The login to connect with now.
    pub(crate) async fn login(&self) -> Result<Role, Box<dyn StdError + Send + Sync>> {
        let login = self.configured().with_password_read().await?;
        match &self.config.login_source {
            Some(source) => source.ask(login).await,
            None => Ok(login),
        }
    }

    /// Where there is no pooler, everything that a connection is to keep is a startup parameter: RESET ALL and DISCARD ALL
    /// return to those, and forget what a SET after connecting had made.
    pub(crate) fn driver_options(&self, login: &Role) -> PgConnectOptions {
        let config = &*self.config;
        let password = login.password.as_ref();
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
            .username(&login.user)
            .application_name(&config.application_name)
            .ssl_mode(match config.ssl_mode {
                SslMode::Disable => PgSslMode::Disable,
                SslMode::Allow => PgSslMode::Allow,
                SslMode::Prefer => PgSslMode::Prefer,
                // As in libpq, whoever names the authorities has them checked.
                SslMode::Require if config.ssl_root_cert.is_some() => PgSslMode::VerifyCa,
                SslMode::Require => PgSslMode::Require,
                SslMode::VerifyCa => PgSslMode::VerifyCa,
                SslMode::VerifyFull => PgSslMode::VerifyFull,
            })
            // None would leave statements behind at the server (sqlx#4328): those are sent unnamed.
            .statement_cache_capacity(config.statement_cache.max(1) as usize)
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
        match config.pooler {
            Pooler::None => options.options(self.startup_settings()),
            // A pooler refuses that as well, and does not pass `options` on.
            Pooler::Session | Pooler::Transaction => options.extra_float_digits(None),
        }
    }

    /// Where this goes, for people: never with a password.
    pub(crate) fn target(&self, user: Option<&str>) -> String {
        self.target_at(user, &self.at().to_string())
    }

    /// The same, with all hosts of the entry.
    pub(super) fn target_of_all(&self, user: Option<&str>) -> String {
        self.target_at(user, &self.config.address.servers().unwrap_or_default())
    }

    fn target_at(&self, user: Option<&str>, servers: &str) -> String {
        let user = user.map_or_else(|| self.configured().user, str::to_owned);
        format!("{user}@{servers}/{}", self.config.database)
    }
}

/// The entry with the hosts that Patroni lists, if it names that.
async fn listed(name: &str, mut config: DatabaseConfig) -> Result<DatabaseConfig, Error> {
    let Address::Patroni(addresses) = &config.address else { return Ok(config) };
    #[cfg(feature = "patroni")]
    let listed = crate::patroni::servers(addresses, config.topology.probe_timeout).await;
    #[cfg(not(feature = "patroni"))]
    let listed: Result<Vec<HostPort>, String> = Err(format!(
        "this build lacks the feature `patroni`, so it cannot ask the {} addresses",
        addresses.len()
    ));
    match listed {
        Ok(hosts) => {
            config.address = Address::Hosts(hosts);
            Ok(config)
        }
        Err(reason) => Err(Error::Patroni { database: name.to_owned(), reason }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(read_only: bool) -> ConnectTo {
        let config = DatabaseConfig::from_url("postgres://app:s3cret@db.example.com/shop").unwrap();
        let explainer = crate::monitor::Explainer::new(|_| ());
        let monitor = Monitor::new("shop".into(), config.monitor.clone(), explainer);
        ConnectTo::new("shop".into(), Arc::new(config), read_only, Arc::new(monitor)).unwrap()
    }

    #[test]
    fn where_it_goes_is_shown_without_the_password() {
        assert_eq!(to(false).target(None), "app@db.example.com:5432/shop");
        assert_eq!(to(false).target(Some("token")), "token@db.example.com:5432/shop");
    }
}
