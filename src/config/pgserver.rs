//! The section `pgserver:`.

use std::{collections::BTreeMap, fmt};

use secrecy::SecretString;

use super::Settings;

/// What runs the server for development.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Runtime {
    /// The first of the others that can serve what the file asks for.
    #[default]
    Auto,
    /// A container.
    Docker,
    /// PostgreSQL's programs as installed on this machine.
    Native,
    /// PostgreSQL inside this process.
    Embedded,
}

impl Runtime {
    /// As the file spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Runtime::Auto => "auto",
            Runtime::Docker => "docker",
            Runtime::Native => "native",
            Runtime::Embedded => "embedded",
        }
    }
}

/// A streaming standby beside the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplicaConfig {
    /// Whether there is one. Default false.
    pub enabled: bool,
    /// Its port on this machine; `None` (0 in the file): a free one. `port_r` beside `port`, as older
    /// files of the Python original have it, is read as this.
    pub port: Option<u16>,
}

/// The server for development.
#[derive(Clone)]
#[non_exhaustive]
pub struct PgServerConfig {
    /// Names the server's data (and container). Default `wharf`.
    pub name: String,
    /// PostgreSQL's version, a major one (`17`) or a full one (`17.5`).
    pub version: Option<String>,
    /// Docker image.
    pub image: Option<String>,
    /// Where it listens. Default 127.0.0.1.
    pub host: String,
    /// Its port; `None` (0 in the file): a free one, chosen at the first start and kept while it is free.
    pub port: Option<u16>,
    /// Superuser. Default `postgres`.
    pub user: String,
    /// Password of the superuser; `None`: made at the first start and kept (mode 0600);
    /// empty: whoever reaches the port may log in.
    pub pass: Option<SecretString>,
    /// Any PostgreSQL setting; a list in the file is joined with commas.
    pub postgres_conf: BTreeMap<String, String>,
    /// A standby.
    pub replica: ReplicaConfig,
    /// What runs it. Default `auto`.
    pub runtime: Runtime,
}

impl PgServerConfig {
    /// A server of that name with every default: no version asked for, 127.0.0.1, a free port,
    /// user `postgres`, a password made at the first start, runtime `auto`.
    pub fn new(name: impl Into<String>) -> PgServerConfig {
        PgServerConfig {
            name: name.into(),
            version: None,
            image: None,
            host: "127.0.0.1".to_owned(),
            port: None,
            user: "postgres".to_owned(),
            pass: None,
            postgres_conf: BTreeMap::new(),
            replica: ReplicaConfig::default(),
            runtime: Runtime::default(),
        }
    }
}

// Some settings of PostgreSQL hold passwords.
impl fmt::Debug for PgServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgServerConfig")
            .field("name", &self.name)
            .field("version", &self.version)
            .field("image", &self.image)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.user)
            .field("pass", &self.pass)
            .field("postgres_conf", &Settings(self.postgres_conf.clone()))
            .field("replica", &self.replica)
            .field("runtime", &self.runtime)
            .finish()
    }
}

/// Whether a setting of PostgreSQL may hold a password: `primary_conninfo`, `ssl_passphrase_command`.
pub(crate) fn holds_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["conninfo", "pass", "secret", "token"].iter().any(|word| name.contains(word))
}
