//! One entry of `databases:`.

use std::{
    collections::BTreeMap,
    error::Error,
    fmt,
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::future::BoxFuture;
use secrecy::SecretString;

use super::{MonitorConfig, Pooler, Reads, ReplicaLimits, TopologyConfig, pgserver::holds_secret};

/// Where the server of a database listens.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// A host name, an IP address or, if it begins with `/`, the folder of a Unix socket; and a port.
    Host {
        /// As libpq's `host`.
        host: String,
        /// As libpq's `port`.
        port: u16,
    },
    /// Several hosts of one cluster, at least one. Connections go to the one that is the primary at the time.
    Hosts(Vec<HostPort>),
    /// The REST interfaces of a cluster that Patroni manages, at least one. They are asked for its hosts.
    Patroni(Vec<HostPort>),
    /// The server of the file's own `pgserver:` section, wherever that listens
    /// (`pgserver: true` in the entry).
    PgServer,
    /// Its standby (`pgserver: replica`), for entries that are `readonly: true`.
    PgServerReplica,
}

/// One of several hosts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// As libpq's `host`: a name, an IP address, or the folder of a Unix socket.
    pub host: String,
    /// As libpq's `port`.
    pub port: u16,
}

impl HostPort {
    /// Reads `name`, `name:port`, `[::1]:port` or `/folder`. The default port is 5432.
    pub(super) fn parse(text: &str) -> Result<HostPort, &'static str> {
        HostPort::with_default_port(text, DEFAULT_PORT)
    }

    /// Reads the address of a REST interface of Patroni, `http://name:port`. The default port is 8008.
    pub(super) fn parse_patroni(text: &str) -> Result<HostPort, &'static str> {
        if text.starts_with("https:") {
            return Err("is encrypted, which is not supported; use Patroni's address without TLS");
        }
        let address = text.strip_prefix("http://").ok_or("does not begin with `http://`")?;
        let address = address.strip_suffix('/').unwrap_or(address);
        if address.contains('/') {
            return Err("has a path; write the address alone, as http://pg1:8008");
        }
        HostPort::with_default_port(address, PATRONI_PORT)
    }

    fn with_default_port(text: &str, default: u16) -> Result<HostPort, &'static str> {
        let (host, port) = split_port(text)?;
        let port = match port {
            "" if !text.ends_with(':') => default,
            port => parse_port(port)?,
        };
        if host.is_empty() {
            return Err("is empty");
        }
        Ok(HostPort { host: host.to_owned(), port })
    }
}

/// PostgreSQL's.
pub(super) const DEFAULT_PORT: u16 = 5432;

/// That of Patroni's REST interface.
const PATRONI_PORT: u16 = 8008;

/// Splits `host:port` or `[host]:port`. A port that is not given is empty. No reason quotes the text, because it may hold a
/// password that was cut in two.
pub(super) fn split_port(text: &str) -> Result<(&str, &str), &'static str> {
    match text.strip_prefix('[') {
        Some(inner) => {
            let (host, after) = inner.split_once(']').ok_or("has a `[` without a `]`")?;
            match (after, after.strip_prefix(':')) {
                ("", _) => Ok((host, "")),
                (_, Some(port)) => Ok((host, port)),
                (_, None) => Err("has something other than `:port` after its `]`"),
            }
        }
        None => Ok(text.split_once(':').unwrap_or((text, ""))),
    }
}

/// Digits only, because `parse` alone would take `+5432`, too.
pub(super) fn parse_port(text: &str) -> Result<u16, &'static str> {
    let port = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    port.filter(|port| *port > 0).ok_or(
        "has a port that is not a number from 1 to 65535; write an IPv6 address in brackets, as [::1]:5432",
    )
}

impl Address {
    /// Returns the hosts as a URL names them, `a:5432,b:5432`. None for the file's own server, whose address is not in the
    /// file.
    pub(crate) fn servers(&self) -> Option<String> {
        match self {
            Address::Host { host, port } => {
                Some(HostPort { host: host.clone(), port: *port }.to_string())
            }
            Address::Hosts(hosts) => {
                Some(hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(","))
            }
            Address::Patroni(_) | Address::PgServer | Address::PgServerReplica => None,
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let HostPort { host, port } = self;
        match host.contains(':') {
            true => write!(f, "[{host}]:{port}"),
            false => write!(f, "{host}:{port}"),
        }
    }
}

/// A login: of its own for read-only sessions, or the one to connect with.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Role {
    /// Login name.
    pub user: String,
    /// Its password; `None` lets the driver look at `PGPASSWORD` and `~/.pgpass`.
    pub password: Option<SecretString>,
    /// File with the password, read whenever a connection is opened.
    pub password_file: Option<PathBuf>,
}

impl Role {
    /// The login `user` with `password`.
    pub fn new(user: impl Into<String>, password: impl Into<SecretString>) -> Role {
        Role { user: user.into(), password: Some(password.into()), password_file: None }
    }

    /// Returns the login with the password that its file holds now, if it has one. The error names the file.
    pub(crate) async fn with_password_read(mut self) -> Result<Role, Box<dyn Error + Send + Sync>> {
        if let Some(file) = self.password_file.clone() {
            let path = file.clone();
            let read = tokio::task::spawn_blocking(move || {
                let text = std::fs::read_to_string(&path);
                let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
                Ok::<_, String>((text, is_first_found_open(&path)))
            });
            let (text, is_open) = read.await??;
            if is_open {
                tracing::warn!(
                    "every user of this machine can read the password file {}; run `chmod 600` on it",
                    file.display()
                );
            }
            self.password = Some(text.trim_end_matches(['\r', '\n']).into());
        }
        Ok(self)
    }
}

/// Whether everybody can read a file, told once for each. Mounted secrets of containers are left out: their mode is not
/// the user's to choose, and nobody else is in there.
#[cfg(unix)]
fn is_first_found_open(path: &Path) -> bool {
    use std::{
        collections::BTreeSet,
        os::unix::fs::PermissionsExt as _,
        sync::{Mutex, PoisonError},
    };
    static FOUND: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let is_mounted = ["/run/secrets", "/var/run/secrets"].iter().any(|it| path.starts_with(it));
    let mode = std::fs::metadata(path).map_or(0, |file| file.permissions().mode());
    let is_open = !is_mounted && mode & 0o004 != 0;
    is_open && FOUND.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned())
}

/// Windows has no such mode.
#[cfg(not(unix))]
fn is_first_found_open(_: &Path) -> bool {
    false
}

/// Gives the login whenever a connection is opened: see [`DatabaseConfig::set_login_source`].
#[derive(Clone)]
pub struct LoginSource {
    ask: Arc<dyn Fn(Role) -> Asked + Send + Sync>,
}

type Asked = BoxFuture<'static, Result<Role, Box<dyn Error + Send + Sync>>>;

impl LoginSource {
    pub(crate) fn ask(&self, configured: Role) -> Asked {
        (self.ask)(configured)
    }
}

impl fmt::Debug for LoginSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginSource").finish_non_exhaustive()
    }
}

/// How much TLS a connection asks for, as libpq's `sslmode`. In every mode that uses TLS, the certificate is checked
/// where `ssl_root_cert` is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SslMode {
    /// Never.
    Disable,
    /// Without, or with it where the server insists: a second attempt then.
    Allow,
    /// With it, or without where it cannot be had: a second attempt, where the handshake fails or the server
    /// refuses.
    #[default]
    Prefer,
    /// Or no connection.
    Require,
    /// And the certificate must be signed by a known authority.
    VerifyCa,
    /// And it must be made out to this host.
    VerifyFull,
}

impl SslMode {
    /// As the file, and libpq, spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            SslMode::Disable => "disable",
            SslMode::Allow => "allow",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        }
    }
}

/// One database of the file: where it is and how its pool behaves.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DatabaseConfig {
    /// Where its server listens.
    pub address: Address,
    /// Name of the database on that server; there is no default.
    pub database: String,
    /// Login name; there is no default but for an entry with `pgserver: true`, which has the server's.
    pub user: String,
    /// Password; `None` lets the driver look at `PGPASSWORD` and `~/.pgpass`, an empty one is none.
    pub password: Option<SecretString>,
    /// File with the password in place of `password`, as secrets are mounted into containers: read
    /// whenever a connection is opened, so that a new password needs no restart. An end of line at
    /// its end is no part of it.
    pub password_file: Option<PathBuf>,
    /// What gives the login in place of the file; see [`set_login_source`](Self::set_login_source).
    pub login_source: Option<LoginSource>,
    /// Whether a connection to a standby is refused, because the entry is on the primary of the file's server, and a
    /// failover makes that another one of its servers.
    pub(crate) must_be_primary: bool,
    /// Connections kept open, at least 1. Default 5. With `max_overflow` at most 10 000.
    pub pool_size: u32,
    /// Further connections under load, closed when one has idled for 5 s. Default 10.
    pub max_overflow: u32,
    /// Of `pool_size`, those that are opened with the first one and kept open, so that load meets
    /// them ready: see [`Pg::warm_up`](crate::Pg::warm_up). Default 0. No effect on the embedded
    /// engine.
    pub min_connections: u32,
    /// Longest wait for a connection. Default 30 s.
    pub pool_timeout: Duration,
    /// Longest life of a connection. Default 3600 s; [`Duration::MAX`] (-1 in the file) is for ever.
    pub pool_recycle: Duration,
    /// Ping a connection that has idled before it is handed out. Default true.
    pub pool_pre_ping: bool,
    /// Longest time for opening one connection, as libpq's `connect_timeout`. Default 10 s.
    pub connect_timeout: Duration,
    /// Longest time for the answer to one statement, for a stream to its next rows. After it the
    /// connection is given up ([`Error::NoAnswer`](crate::Error::NoAnswer)). For a network that
    /// swallows what is sent: everything else the server ends by itself, so it has to be longer than
    /// `statement_timeout` and than anything that a session sets for itself. Default `None`: as long
    /// as it takes.
    pub socket_timeout: Option<Duration>,
    /// A connection that is lent for longer is logged at WARN, once, with the place in the code that
    /// took it. Default 60 s; `None` (0 in the file) never.
    pub leak_detection_threshold: Option<Duration>,
    /// Sessions are read-only, and nothing can ask otherwise. Default false.
    pub readonly: bool,
    /// A login with SELECT only, used by read-only sessions.
    pub read_role: Option<Role>,
    /// Standbys of an entry with `host`, whose primary that is. An entry with `hosts` has them among those, and one on the
    /// file's own server has that server's. Default none.
    pub replicas: Vec<HostPort>,
    /// The pooler at its address, such as PgBouncer, and how that lends its connections. Default: none. In transaction mode,
    /// whatever a connection is to keep is sent with BEGIN, and what would stay on a connection is refused with
    /// [`Error::BehindPooler`](crate::Error::BehindPooler).
    pub pooler: Pooler,
    /// The server itself, past the pooler, for what needs a connection of its own: migrations and
    /// [`Pg::listen`](crate::Pg::listen). Default: none.
    pub direct: Option<HostPort>,
    /// Whether statements are kept prepared. Without it, each is prepared anew, unnamed, and behind a pooler in transaction
    /// mode in a transaction of its own: for PgBouncer before 1.21. Default true.
    pub prepared: bool,
    /// Where [`Pg::read`](crate::Pg::read) reads. Default: on the primary.
    pub reads: Reads,
    /// Which standbys may serve a read.
    pub replica: ReplicaLimits,
    /// How the servers are observed, if reads go to standbys.
    pub topology: TopologyConfig,
    /// The database is made if it is not there. Default false; never with `readonly`.
    pub create_db: bool,
    /// Extensions that the database needs.
    pub extensions: Vec<String>,
    /// The search path.
    pub schema: Option<String>,
    /// PostgreSQL's `statement_timeout`, in whole milliseconds; zero switches it off, `None` leaves it as
    /// the server has it.
    pub statement_timeout: Option<Duration>,
    /// PostgreSQL's `lock_timeout`, likewise.
    pub lock_timeout: Option<Duration>,
    /// PostgreSQL's `idle_in_transaction_session_timeout`, likewise.
    pub idle_in_transaction_timeout: Option<Duration>,
    /// Settings of PostgreSQL's that its connections start with, such as `work_mem`: names and values as in
    /// `postgresql.conf`. Each is checked to be in force when a connection opens. Default none.
    pub settings: Settings,
    /// Prepared statements that the driver keeps for each connection. 0 prepares every statement anew, unnamed,
    /// which costs one round trip more each. Default 100.
    pub statement_cache: u32,
    /// What is noticed of its statements.
    pub monitor: MonitorConfig,
    /// Shown in `pg_stat_activity`. Default: the name of the running program, or
    /// `wharf` where that is not to be had.
    pub application_name: String,
    /// How much TLS. Default `prefer`.
    pub ssl_mode: SslMode,
    /// File with the authorities to trust, as libpq's `sslrootcert`.
    pub ssl_root_cert: Option<PathBuf>,
    /// Client certificate, as libpq's `sslcert`. Relative names begin at the current folder.
    pub ssl_cert: Option<PathBuf>,
    /// Key of the client certificate, as libpq's `sslkey`.
    pub ssl_key: Option<PathBuf>,
}

/// Settings of PostgreSQL's by name. `Debug` shows `***` for one whose name says that it holds a secret.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Settings(pub BTreeMap<String, String>);

impl Deref for Settings {
    type Target = BTreeMap<String, String>;

    fn deref(&self) -> &BTreeMap<String, String> {
        &self.0
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value)| (name, if holds_secret(name) { "***" } else { value });
        let shown = self.iter().map(|(name, value)| (name.as_str(), value.as_str())).map(shown);
        f.debug_map().entries(shown).finish()
    }
}

impl DatabaseConfig {
    /// Has `source` asked for the login whenever a connection is opened: for tokens that run out
    /// (IAM) and for users that come and go (Vault). It is given the login that the file names,
    /// `read_role` for a read-only connection, and gives the one to use. Connections that are open
    /// stay so; `pool_recycle` is how long they may.
    ///
    /// Its time counts as part of `connect_timeout`. Where it fails, connecting does, with
    /// [`ConnectErrorKind::Credentials`](crate::ConnectErrorKind::Credentials). SeaORM's own
    /// connection asks once, when it is made.
    ///
    /// ```no_run
    /// use wharf::config::{Config, Role};
    /// # async fn token_for(_: &str) -> Result<String, std::io::Error> { unimplemented!() }
    /// # fn doc() -> Result<(), Box<dyn std::error::Error>> {
    /// let mut config = Config::load("etc/infra.yaml")?;
    /// if let Some(production) = config.databases.get_mut("production") {
    ///     production.set_login_source(|configured| async move {
    ///         Ok(Role::new(configured.user.clone(), token_for(&configured.user).await?))
    ///     });
    /// }
    /// let manager = wharf::Manager::from_config(config);
    /// # Ok(()) }
    /// ```
    pub fn set_login_source<F, A>(&mut self, source: F)
    where
        F: Fn(Role) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Role, Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let ask = Arc::new(move |configured| -> Asked { Box::pin(source(configured)) });
        self.login_source = Some(LoginSource { ask });
    }

    /// Has it connect to the server itself, if the entry names that beside its pooler.
    pub(crate) fn past_pooler(&mut self) {
        if let Some(HostPort { host, port }) = self.direct.take() {
            self.address = Address::Host { host, port };
            self.replicas = Vec::new();
            (self.pooler, self.reads) = (Pooler::None, Reads::Primary);
        }
    }

    pub(crate) fn login(&self) -> Role {
        Role {
            user: self.user.clone(),
            password: self.password.clone(),
            password_file: self.password_file.clone(),
        }
    }
}
