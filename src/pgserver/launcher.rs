//! The one trait that every way to run a server implements.

use std::path::PathBuf;

use async_trait::async_trait;
use futures_util::stream::BoxStream;

use super::difference::Difference;
use super::error::PgServerError;
use super::program::{Chunk, Program, Running};
use super::server::Endpoint;
use crate::config::Runtime;

/// The PostgreSQL that a runtime would run.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    /// For the log.
    pub(crate) what: String,
    /// PostgreSQL's major version, where it is known before it runs.
    pub(crate) major: Option<String>,
}

/// Data of a server.
#[derive(Clone, Debug)]
pub(crate) struct Data {
    /// The major version that made it, if that is known.
    pub(crate) major: Option<String>,
    /// `folder /…`, `volume shop-data`.
    pub(crate) place: String,
    pub(crate) folder: PathBuf,
}

/// One way to run the server that a request describes. [`super::PgServer`] calls `start`, `stop` and
/// `remove` with the server's lock held, so that no two of them overlap, in this process or another.
#[async_trait]
pub(crate) trait Launcher: Send + Sync {
    /// Which way this is.
    fn runtime(&self) -> Runtime;

    /// Whether it can serve what is asked for, or why it cannot and what to do about it.
    async fn can_serve(&self) -> Result<Offer, String>;

    /// Returns the server's data in this runtime, if there is any, whether or not the server runs.
    async fn data(&self) -> Result<Option<Data>, PgServerError>;

    /// Fetches what a start needs, such as an image, so that a failure stops nothing.
    async fn prepare(&self) -> Result<(), PgServerError> {
        Ok(())
    }

    /// Where the server was last known to listen, if its process is there. Asks files and the
    /// process table, not the server.
    async fn running(&self) -> Result<Option<Endpoint>, PgServerError>;

    /// Where the superuser's password is, if it was generated.
    fn password_file(&self) -> PathBuf;

    /// Finds the running server or starts it. Returns after a login succeeded.
    async fn start(&self) -> Result<Endpoint, PgServerError>;

    /// Stops it; fine if it is stopped.
    async fn stop(&self) -> Result<(), PgServerError>;

    /// Promotes a standby of the running server and has the old primary follow it; `None` if this runtime cannot. The
    /// caller has checked that it runs. What no standby has received is lost only if it may be.
    async fn failover(&self, _may_lose: bool) -> Result<Option<Endpoint>, PgServerError> {
        Ok(None)
    }

    /// How what runs differs from what is asked for; nothing if nothing runs.
    async fn differences(&self) -> Result<Vec<Difference>, PgServerError>;

    /// What there is of the server, running or not: `container wharf`, `volume wharf-data`.
    async fn holdings(&self) -> Result<Vec<String>, PgServerError>;

    /// Stops it and removes all of that.
    async fn remove(&self) -> Result<(), PgServerError>;

    /// Runs a program beside the server that runs.
    async fn spawn(&self, program: Program) -> Result<Running, PgServerError>;

    /// The server's log from so many lines before its end on, and, if asked to follow, what is
    /// added to it.
    async fn log(
        &self,
        lines: usize,
        follow: bool,
    ) -> Result<BoxStream<'static, std::io::Result<Chunk>>, PgServerError>;
}
