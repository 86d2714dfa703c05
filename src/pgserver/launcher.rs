//! The one trait that every way to run a server implements.

use async_trait::async_trait;

use super::error::PgServerError;
use super::server::Endpoint;
use crate::config::Runtime;

/// One way to run the server that a request describes. [`super::PgServer`] calls `start` and
/// `stop` with the server's lock held, so that no two of them overlap, in this process or another.
#[async_trait]
pub(crate) trait Launcher: Send + Sync {
    /// Which way this is.
    fn runtime(&self) -> Runtime;

    /// Whether it can serve what is asked for: what would run (for the log), or why it cannot and
    /// what to do about it.
    async fn can_serve(&self) -> Result<String, String>;

    /// Where the server was last known to listen, if its process is there. Asks files and the
    /// process table, not the server.
    async fn running(&self) -> Result<Option<Endpoint>, PgServerError>;

    /// Finds the running server or starts it. Returns after a login succeeded.
    async fn start(&self) -> Result<Endpoint, PgServerError>;

    /// Stops it; fine if it is stopped.
    async fn stop(&self) -> Result<(), PgServerError>;
}
