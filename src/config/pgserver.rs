//! The section `pgserver:`.

use std::collections::BTreeMap;

use secrecy::SecretString;

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

/// A streaming standby beside the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplicaConfig {
    /// Whether there is one. Default false.
    pub enabled: bool,
    /// Its port on this machine.
    pub port: Option<u16>,
}

/// The server for development.
#[derive(Clone, Debug)]
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
    /// Its port; `None` or 0: a free one, chosen at the first start and kept while it is free.
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
