//! A server for development.

/// Why a server could not be started, found or stopped.
#[derive(Debug, thiserror::Error)]
#[error("not yet")]
pub struct PgServerError;
