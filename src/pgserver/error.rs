//! Why a server could not be started, found or stopped.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::config::Runtime;

/// A way to run the server that was not taken, and why.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Declined {
    /// The way.
    pub runtime: Runtime,
    /// What speaks against it, with what to do about it.
    pub reason: String,
}

impl fmt::Display for Declined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.runtime.as_str(), self.reason)
    }
}

/// Why a server for development could not be started, found or stopped. No variant holds a
/// password.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum PgServerError {
    /// The file asks for something that cannot be, whatever runs the server.
    #[error("pgserver `{server}`: {reason}")]
    Invalid {
        /// Name of the server.
        server: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// No way to run the server can serve what the file asks for.
    #[error(
        "pgserver `{server}`: no runtime of this machine can run it; install {needs}:{}",
        list(.tried)
    )]
    NoRuntime {
        /// Name of the server.
        server: String,
        /// What would do.
        needs: String,
        /// Each way with its reason.
        tried: Vec<Declined>,
    },
    /// The one runtime that the file names cannot serve what the file asks for.
    #[error("pgserver `{server}`: runtime {declined}; `runtime: auto` chooses one that can run it")]
    Unavailable {
        /// Name of the server.
        server: String,
        /// The runtime and its reason.
        declined: Declined,
    },
    /// The server runs in, or has its data in, a runtime other than the one that would be started. Nothing was started
    /// or stopped.
    #[error("pgserver `{server}`: {reason}")]
    Elsewhere {
        /// Name of the server.
        server: String,
        /// Where it is, and what to do.
        reason: String,
    },
    /// The server belongs to another file. Nothing was started, stopped or removed.
    #[error(
        "pgserver `{server}`: it belongs to {}; give this project's server a `name:` of its own, or leave `name` out. To share one, put the section `pgserver:` into one file that both `!include`",
        .file.display()
    )]
    Foreign {
        /// Name of the server.
        server: String,
        /// The configuration file that it belongs to.
        file: PathBuf,
    },
    /// Something else listens where the server is to.
    #[error(
        "pgserver `{server}`: port {port} of {host} is in use by {}; stop that, set another `pgserver.port`, or leave out the port so that a free one is chosen",
        .by.as_deref().unwrap_or("another program")
    )]
    PortTaken {
        /// Name of the server.
        server: String,
        /// Where it was to listen.
        host: String,
        /// The port that is taken.
        port: u16,
        /// By whom, if that can be seen: `container \`shop\``, `postgres (process 4711)`.
        by: Option<String>,
    },
    /// The data was made by another major version than the one that would run it.
    #[error(
        "pgserver `{server}`: its data in {} was created by PostgreSQL {data}, but {wanted}; set `version: \"{data}\"`; to move, run `wharf server backup` for each database with that version, then `wharf server clean`, and `up` and `restore` with the new one",
        .folder.display()
    )]
    DataVersion {
        /// Name of the server.
        server: String,
        /// The major version that made the data.
        data: String,
        /// What is asked for or installed instead.
        wanted: String,
        /// Where the data is.
        folder: PathBuf,
    },
    /// A program or the engine did not do its part.
    #[error("pgserver `{server}`: {what} after {}: {reason}", seconds(.after))]
    Failed {
        /// Name of the server.
        server: String,
        /// The part that failed.
        what: String,
        /// How long it was tried.
        after: Duration,
        /// What was said, the end of the server's log included.
        reason: String,
    },
    /// The server runs but does not let `user` in.
    #[error(
        "pgserver `{server}`: the server at {host}:{port} rejects user `{user}`: {reason}; if the file's user or password changed since its start, restart it"
    )]
    Login {
        /// Name of the server.
        server: String,
        /// Where it listens.
        host: String,
        /// Where it listens.
        port: u16,
        /// Who tried.
        user: String,
        /// The server's words.
        reason: String,
    },
    /// A failover would lose changes that no standby has received. Nothing was changed.
    #[error(
        "pgserver `{server}`: a failover would lose data, because {reason}; check `wharf server status`, or pass --yes to lose it"
    )]
    WouldLose {
        /// Name of the server.
        server: String,
        /// What is missing on which standby.
        reason: String,
    },
    /// Another start or stop of this server did not come to an end.
    #[error(
        "pgserver `{server}`: another process has been starting or stopping it for {}; find the process that holds {}",
        seconds(.after), .lock.display()
    )]
    Busy {
        /// Name of the server.
        server: String,
        /// How long was waited.
        after: Duration,
        /// The file that is locked.
        lock: PathBuf,
    },
    /// The embedded engine runs in another process.
    #[error(
        "pgserver `{server}`: its embedded engine runs in {}, and serves one process and one connection; end that process, or use `runtime: native` or `docker`, which serve many",
        holder(.pid)
    )]
    InUse {
        /// Name of the server.
        server: String,
        /// The process that holds the data, if known.
        pid: Option<u32>,
    },
    /// A file of the server could not be read or written.
    #[error("pgserver `{server}`: cannot {what} {}: {source}", .path.display())]
    Io {
        /// Name of the server.
        server: String,
        /// What was tried.
        what: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
}

crate::debug::debug_is_message!(PgServerError);

fn list(tried: &[Declined]) -> String {
    tried.iter().map(|d| format!("\n  {d}")).collect()
}

fn holder(pid: &Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

fn seconds(after: &Duration) -> String {
    format!("{:.1} s", after.as_secs_f64())
}
