//! The folder that a server is kept in, with its lock and what is remembered there.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::error::PgServerError;
use super::request::Request;
use crate::{endpoint, files};

/// A start may initialise data and wait for a login; whoever waits for its end waits longer.
const LOCK_DEADLINE: Duration = Duration::from_secs(120);
const LOCK_INTERVAL: Duration = Duration::from_millis(20);

/// `<data folder>/wharf/pgserver/<name>`.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    server: String,
    path: PathBuf,
}

/// Held while a server is started or stopped; the operating system frees it with the process.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Folder {
    /// Where the server of a request is kept. Nothing is made yet.
    pub(crate) fn of(request: &Request) -> Result<Folder, PgServerError> {
        let base = match &request.base {
            Some(base) => std::path::absolute(base).map_err(|source| PgServerError::Io {
                server: request.name().to_owned(),
                what: "find",
                path: base.clone(),
                source,
            })?,
            None => endpoint::servers_folder().map_err(|reason| request.invalid(reason))?,
        };
        Ok(Folder { server: request.name().to_owned(), path: base.join(request.name()) })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where one way of running the server keeps what is its own.
    pub(crate) fn join(&self, part: &str) -> PathBuf {
        self.path.join(part)
    }

    /// Makes the folder and takes its lock, waiting for another start or stop to end. Blocks; a
    /// caller that goes away meanwhile leaves the lock to be dropped with the result.
    pub(crate) fn lock(&self) -> Result<Lock, PgServerError> {
        let begun = Instant::now();
        fs::create_dir_all(&self.path).map_err(self.io("make the folder", &self.path))?;
        let path = self.join("start.lock");
        let file = files::open_lock(&path).map_err(self.io("open", &path))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Lock { _file: file }),
                Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_DEADLINE => {
                    std::thread::sleep(LOCK_INTERVAL);
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(PgServerError::Busy {
                        server: self.server.clone(),
                        after: begun.elapsed(),
                        lock: path,
                    });
                }
                Err(TryLockError::Error(source)) => return Err(self.io("lock", &path)(source)),
            }
        }
    }

    pub(crate) fn io<'a>(
        &'a self,
        what: &'static str,
        path: &'a Path,
    ) -> impl Fn(io::Error) -> PgServerError + 'a {
        move |source| PgServerError::Io {
            server: self.server.clone(),
            what,
            path: path.to_owned(),
            source,
        }
    }

    /// The port to listen on: the one that the file fixes, which must be free; else the one of last
    /// time, if free; else any.
    pub(crate) fn choose_port(
        &self,
        request: &Request,
        fixed: Option<u16>,
        last: Option<u16>,
    ) -> Result<u16, PgServerError> {
        let host = request.bind_host();
        if let Some(port) = fixed {
            return match TcpListener::bind((host, port)) {
                Ok(_) => Ok(port),
                Err(error) => Err(self.bind_error(request, port, error)),
            };
        }
        if let Some(port) = last
            && TcpListener::bind((host, port)).is_ok()
        {
            return Ok(port);
        }
        let free = TcpListener::bind((host, 0)).and_then(|listener| listener.local_addr());
        Ok(free.map_err(|error| self.bind_error(request, 0, error))?.port())
    }

    pub(crate) fn bind_error(
        &self,
        request: &Request,
        port: u16,
        error: io::Error,
    ) -> PgServerError {
        if error.kind() == io::ErrorKind::AddrInUse {
            return request.port_taken(port, listener(port));
        }
        request.invalid(format!(
            "cannot listen on `host: {}`, port {port}: {error}; set `host` to an address of this machine",
            request.config.host
        ))
    }
}

/// The program that listens at a port, as far as this user may see it.
fn listener(port: u16) -> Option<String> {
    let process = listeners::get_process_by_port(port, listeners::Protocol::TCP).ok()?;
    Some(format!("{} (process {})", process.name, process.pid))
}

/// What a server's last start is remembered by: lines of `key=value`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Remembered {
    values: BTreeMap<String, String>,
}

impl Remembered {
    /// Reads it; what is not there or not readable is not remembered.
    pub(crate) fn read(path: &Path) -> Remembered {
        let text = files::read(path).unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Remembered { values: pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).collect() }
    }

    pub(crate) fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    #[cfg(feature = "embedded")]
    pub(crate) fn port(&self) -> Option<u16> {
        self.get("port").and_then(|port| port.parse().ok())
    }

    pub(crate) fn set(&mut self, key: &str, value: impl ToString) {
        self.values.insert(key.to_owned(), value.to_string());
    }

    /// Writes it whole, so that a reader never sees half of it.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let lines = self.values.iter().map(|(k, v)| format!("{k}={v}\n"));
        files::write(path, &lines.collect::<String>(), |_| Ok(()))
    }
}

/// Letters that nobody guesses: 128 bits from the operating system.
pub(crate) fn random_hex() -> io::Result<String> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
