//! The one error of the crate.

/// What went wrong, for which database, and what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file, an override or a value in it is not right.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// The server for development could not be started, found or stopped.
    #[cfg(feature = "pgserver")]
    #[error(transparent)]
    PgServer(#[from] crate::pgserver::PgServerError),
}
