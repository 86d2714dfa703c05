//! A connection that could not be opened.

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use super::server;

/// Why a connection could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectErrorKind {
    /// Nobody listens there, the name does not resolve, or the network ends on the way.
    Unreachable,
    /// Nothing answered within `connect_timeout`.
    Timeout,
    /// Wrong password, unknown login, or a line of `pg_hba.conf` that says no.
    Authentication,
    /// The server has no database of this name.
    NoSuchDatabase,
    /// The server has as many connections as it takes.
    TooManyConnections,
    /// The server is starting up, shutting down or recovering.
    NotReady,
    /// TLS was asked for and could not be had, or a certificate did not hold.
    Tls,
    /// The login could not be had: `password_file` was not to be read, or
    /// [`set_login_source`](crate::config::DatabaseConfig::set_login_source) gave an error.
    Credentials,
    /// No host of the entry is the primary. `source` has the answer of each host.
    NoPrimary,
    /// Several hosts claim to be the primary, with the same timeline. Writing to one of them may lose what was written to
    /// another.
    SplitBrain,
    /// The hosts of the entry belong to different clusters.
    OtherCluster,
    /// The connection opened without settings of the entry, or was refused for them, as by a pooler that the entry does not
    /// name. `source` says which.
    SettingsIgnored,
    /// The server refused for another reason, which `source` names.
    Refused,
}

impl ConnectErrorKind {
    pub(crate) fn of(error: &sqlx::Error) -> ConnectErrorKind {
        use ConnectErrorKind as Kind;
        match error {
            // A certificate that is not valid, or an alert of the server's.
            sqlx::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => Kind::Tls,
            sqlx::Error::Io(_) => Kind::Unreachable,
            // The connection was closed in place of an answer, as proxies do whose server is gone; the driver
            // reads that as an answer of zero.
            sqlx::Error::Protocol(said) if said.contains("SSLRequest: 0x00") => Kind::Unreachable,
            sqlx::Error::Tls(_) => Kind::Tls,
            sqlx::Error::Configuration(error) if error.is::<IgnoredSettings>() => {
                Kind::SettingsIgnored
            }
            sqlx::Error::Configuration(error) if error.is::<NotPrimary>() => Kind::NoPrimary,
            sqlx::Error::Database(error) => match error.code().as_deref() {
                Some("28000" | "28P01") => Kind::Authentication,
                Some("3D000") => Kind::NoSuchDatabase,
                Some("53300") => Kind::TooManyConnections,
                Some("57P01" | "57P02" | "57P03") => Kind::NotReady,
                // PgBouncer has no other code. The server has words of its own for a parameter that it does not know.
                Some("08P01") => match error.message() {
                    said if said.contains("startup parameter") => Kind::SettingsIgnored,
                    said if said.contains("max_client_conn")
                        || said.contains("no more connections") =>
                    {
                        Kind::TooManyConnections
                    }
                    // It has no connection of the server, and could not open one.
                    said if said.contains("query_wait_timeout") => Kind::NotReady,
                    _ => Kind::Refused,
                },
                _ => Kind::Refused,
            },
            _ => Kind::Refused,
        }
    }

    /// Whether the server may be at another address.
    pub(crate) fn is_unreached(self) -> bool {
        use ConnectErrorKind::{NoPrimary, Timeout, Unreachable};
        matches!(self, Unreachable | Timeout | NoPrimary)
    }

    /// As metrics are labelled.
    pub(crate) fn name(self) -> &'static str {
        match self {
            ConnectErrorKind::Unreachable => "unreachable",
            ConnectErrorKind::Timeout => "timeout",
            ConnectErrorKind::Authentication => "authentication",
            ConnectErrorKind::NoSuchDatabase => "no_such_database",
            ConnectErrorKind::TooManyConnections => "too_many_connections",
            ConnectErrorKind::NotReady => "not_ready",
            ConnectErrorKind::Tls => "tls",
            ConnectErrorKind::Credentials => "credentials",
            ConnectErrorKind::NoPrimary => "no_primary",
            ConnectErrorKind::SplitBrain => "split_brain",
            ConnectErrorKind::OtherCluster => "other_cluster",
            ConnectErrorKind::SettingsIgnored => "settings_ignored",
            ConnectErrorKind::Refused => "refused",
        }
    }
}

/// The settings of an entry that its server does not have, in words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct IgnoredSettings(pub(crate) String);

/// Why a host, or none of the hosts, is the primary.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotPrimary(pub(crate) String);

/// A connection that could not be opened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectError {
    /// Key of the database in the file.
    pub database: String,
    /// `user@host:port/database`, never with a password.
    pub target: String,
    /// What kind of no it was.
    pub kind: ConnectErrorKind,
    /// How long the attempt took.
    pub elapsed: Duration,
    /// What the driver said.
    pub source: Option<Arc<sqlx::Error>>,
    /// The authorities against which the server's certificate was checked.
    pub(crate) root_cert: Option<PathBuf>,
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use ConnectErrorKind as Kind;
        let Self { database, target, elapsed, .. } = self;
        let (what, remedy) = match self.kind {
            Kind::Unreachable => {
                ("is unreachable", "check that the server is running, and host and port")
            }
            Kind::Timeout => (
                "did not answer",
                "check the network path for a firewall, and the server for overload; connect_timeout \
                 limits the wait",
            ),
            Kind::Authentication => {
                ("rejected the login", "check user and password, and the server's pg_hba.conf")
            }
            Kind::NoSuchDatabase => {
                ("has no such database", "check the name, or create it with `wharf db create`")
            }
            Kind::TooManyConnections => (
                "has too many connections",
                "lower pool_size or max_overflow of its clients, or raise max_connections",
            ),
            Kind::NotReady => ("is not ready", "it is starting or stopping; try again shortly"),
            Kind::Tls => (
                "could not set up TLS",
                "check ssl_mode and ssl_root_cert, and that wharf is built with the feature tls",
            ),
            Kind::Credentials => (
                "was not contacted: no credentials available",
                "check password_file, or the function given to set_login_source",
            ),
            Kind::NoPrimary => {
                ("has no primary", "wait for the cluster to promote one, or name all of its hosts")
            }
            Kind::SplitBrain => (
                "has several primaries",
                "stop all but the right one; no connection is opened before that",
            ),
            Kind::OtherCluster => (
                "has hosts of different clusters",
                "name only hosts that replicate from each other",
            ),
            Kind::SettingsIgnored => (
                "does not take the settings of the entry",
                "if this is a pooler, such as PgBouncer, say `pooler: transaction` or `pooler: session` in the entry",
            ),
            Kind::Refused => ("refused the connection", "see the server's log"),
        };
        write!(f, "database `{database}`: {target} {what} (after {elapsed:.0?}")?;
        if let Some(source) = &self.source {
            match &**source {
                error @ sqlx::Error::Database(_) => {
                    write!(f, "; server: {}", server::refusal(error).unwrap_or_default())?;
                }
                sqlx::Error::Io(error) => write!(f, "; {error}")?,
                sqlx::Error::Configuration(error) => write!(f, "; {error}")?,
                error => write!(f, "; {error}")?,
            }
        }
        if let Some(file) = &self.root_cert {
            write!(f, "; ssl_root_cert is {}", file.display())?;
        }
        write!(f, "); {remedy}")
    }
}

impl std::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|error| &**error as _)
    }
}
