//! One entry of `databases:`.

use std::{path::PathBuf, time::Duration};

use secrecy::SecretString;

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
    /// The server of the file's own `pgserver:` section, wherever that listens
    /// (`pgserver: true` in the entry).
    PgServer,
}

/// A login of its own, for read-only sessions.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Role {
    /// Login name.
    pub user: String,
    /// Its password; `None` lets the driver look at `PGPASSWORD` and `~/.pgpass`.
    pub password: Option<SecretString>,
}

/// How much TLS a connection asks for, as libpq's `sslmode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SslMode {
    /// Never.
    Disable,
    /// Only if the server insists.
    Allow,
    /// If the server can.
    #[default]
    Prefer,
    /// Or no connection.
    Require,
    /// And the certificate must be signed by a known authority.
    VerifyCa,
    /// And it must be made out to this host.
    VerifyFull,
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
    /// Connections kept open, at least 1. Default 5. With `max_overflow` at most 10 000.
    pub pool_size: u32,
    /// Further connections under load, closed when idle. Default 10.
    pub max_overflow: u32,
    /// Longest wait for a connection. Default 30 s.
    pub pool_timeout: Duration,
    /// Longest life of a connection. Default 3600 s; [`Duration::MAX`] (-1 in the file) is for ever.
    pub pool_recycle: Duration,
    /// Ping a connection that has idled before it is handed out. Default true.
    pub pool_pre_ping: bool,
    /// Longest time for opening one connection, as libpq's `connect_timeout`. Default 10 s.
    pub connect_timeout: Duration,
    /// Sessions are read-only, and nothing can ask otherwise. Default false.
    pub readonly: bool,
    /// A login with SELECT only, used by read-only sessions.
    pub read_role: Option<Role>,
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
