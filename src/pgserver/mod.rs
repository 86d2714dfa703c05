//! A server for development: the file's section `pgserver:` brought to life.
//!
//! [`PgServer`] is what callers hold. Behind it stands one trait (`launcher.rs`) with one
//! implementation per way to run PostgreSQL: `docker` (a container, feature `docker`), `native` (this
//! machine's programs) and `embedded` (the engine inside this process, feature `embedded`).
//!
//! Most callers start the server of their file by `Manager::start_pgserver`, which also makes the
//! databases that the file asks for. One of its own, for a test run say, is as short:
//!
//! ```no_run
//! # async fn doc() -> Result<(), wharf::Error> {
//! use wharf::{config::PgServerConfig, pgserver::PgServer};
//!
//! let server = PgServer::temporary(PgServerConfig::new("my-tests"), []);
//! let at = server.start().await?;
//! println!("PostgreSQL {} listens at {}:{}", at.version, at.host, at.port);
//! server.stop().await?;                       // or drop it, or be killed: nothing is left
//! # Ok(()) }
//! ```

mod backup;
mod choice;
mod collation;
#[cfg(any(unix, feature = "docker"))]
mod conf;
mod difference;
#[cfg(feature = "docker")]
mod docker;
#[cfg(feature = "embedded")]
mod embedded;
mod error;
mod folder;
mod launcher;
mod login;
mod logs;
#[cfg(unix)]
mod native;
mod owner;
mod password;
mod program;
mod replication_slot;
mod report;
mod request;
mod server;
#[cfg(unix)]
mod switch;
mod temporary;
mod timescale;
mod version;

pub use backup::Contents;
pub use difference::Difference;
pub use error::{Declined, PgServerError};
#[cfg(feature = "cli")]
pub(crate) use program::{Chunk, Program, TerminalSize};
pub use report::{DatabaseReport, Report, StandbyReport};
pub(crate) use request::is_same_host;
pub use server::{Endpoint, PgServer, Status};

/// The Docker engine of this machine: its version, or why it cannot be used and what to do.
#[cfg(feature = "cli")]
pub(crate) async fn engine() -> Result<String, String> {
    docker::engine_version().await
}

/// PostgreSQL as it is installed on this machine, the newest first. Runs a program for each.
#[cfg(all(feature = "cli", unix))]
pub(crate) fn installed() -> Vec<String> {
    native::installed()
}

/// The major versions of PostgreSQL that are installed on this machine, the newest first. Runs a program for each.
#[cfg(all(feature = "cli", unix))]
pub(crate) fn majors() -> Vec<String> {
    native::majors()
}

/// Whether an address belongs to an embedded engine of this process, which serves one
/// connection in all. Costs a lock and no round trip.
pub(crate) fn is_single_connection(host: &str, port: u16) -> bool {
    #[cfg(feature = "embedded")]
    {
        embedded::serves(host, port)
    }
    #[cfg(not(feature = "embedded"))]
    {
        let _ = (host, port);
        false
    }
}
