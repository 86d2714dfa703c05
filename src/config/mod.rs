//! What the file says, checked.

mod database;
mod pgserver;

pub use database::{Address, DatabaseConfig, Role, SslMode};
pub use pgserver::{PgServerConfig, ReplicaConfig, Runtime};

/// Why a file, an override or a value was refused.
#[derive(Debug, thiserror::Error)]
#[error("not yet")]
pub struct ConfigError;

use std::collections::BTreeMap;

/// Everything that one file says.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Config {
    /// The databases by the key that names them in the file.
    pub databases: BTreeMap<String, DatabaseConfig>,
    /// The server for development, if the file has one.
    pub pgserver: Option<PgServerConfig>,
}
