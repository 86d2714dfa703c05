//! The engine itself: PostgreSQL 17.5 as WebAssembly, served by pglite-oxide on a port of its own
//! that only the relay knows.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pglite_oxide::{PgliteServer, PgliteServerBuilder, extensions};

use crate::pgserver::request::Request;

/// The version of the PostgreSQL that pglite-oxide brings.
pub(crate) const VERSION: &str = "17.5";

/// One engine, started again when it has died.
pub(crate) struct Engine {
    builder: PgliteServerBuilder,
    running: Mutex<Option<PgliteServer>>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Engine {
    /// The extensions of a request that it does not bring.
    pub(crate) fn lacks(wanted: &BTreeSet<String>) -> Vec<String> {
        let missing = wanted.iter().filter(|name| extensions::by_sql_name(name).is_none());
        missing.cloned().collect()
    }

    /// Starts it on data in `path`. Blocks: 0.1 s, some 2 s the first time in a process.
    pub(crate) fn start(request: &Request, path: &Path) -> Result<Engine, String> {
        let conf = request.config.postgres_conf.iter();
        let builder = PgliteServer::builder()
            .path(path)
            .tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .postgres_configs(conf.map(|(key, value)| (key.clone(), value.clone())))
            .relaxed_durability(request.temporary);
        let wanted = request.extensions.iter();
        let wanted: Vec<_> = wanted.filter_map(|name| extensions::by_sql_name(name)).collect();
        if !wanted.is_empty() {
            install(builder.clone().extensions(wanted))?;
        }
        let server = builder.clone().start().map_err(|error| format!("{error:#}"))?;
        Ok(Engine { builder, running: Mutex::new(Some(server)) })
    }

    /// A connection to it. It dies with a connection that breaks its protocol, and is started
    /// again here.
    pub(crate) fn connect(&self) -> Result<TcpStream, String> {
        let mut running = self.lock();
        let address = running.as_ref().and_then(PgliteServer::tcp_addr);
        if let Some(stream) = address.and_then(|address| TcpStream::connect(address).ok()) {
            let _ = stream.set_nodelay(true);
            return Ok(stream);
        }
        tracing::warn!(
            "pgserver: the embedded engine ended with its last connection; restarting it"
        );
        // Gives the data back before it is opened again.
        drop(running.take());
        let server = self.builder.clone().start().map_err(|error| format!("{error:#}"))?;
        let address = server.tcp_addr();
        *running = Some(server);
        let stream = address.map(TcpStream::connect).transpose();
        match stream.map_err(|error| error.to_string())? {
            Some(stream) => Ok(stream),
            None => Err("the embedded engine has no port".to_owned()),
        }
    }

    /// Ends it. Blocks until its connection has ended.
    pub(crate) fn shutdown(&self) -> Result<(), String> {
        match self.lock().take() {
            Some(server) => server.shutdown().map_err(|error| format!("{error:#}")),
            None => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<PgliteServer>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Puts extensions into the data's folder and their code into this process, by one connection to
/// an engine that has them. One that serves with them would create them at each connection, which
/// no read-only connection survives, nor the engine with it.
fn install(builder: PgliteServerBuilder) -> Result<(), String> {
    let server = builder.start().map_err(|error| format!("{error:#}"))?;
    let mut answer = Vec::new();
    let asked = server.tcp_addr().map(TcpStream::connect).transpose();
    let asked = asked.and_then(|stream| {
        let Some(mut stream) = stream else {
            return Ok(0);
        };
        // A startup message of protocol 3.0, and then the end of the session.
        stream.write_all(b"\0\0\0\x29\0\x03\0\0user\0postgres\0database\0postgres\0\0")?;
        stream.write_all(b"X\0\0\0\x04")?;
        stream.read_to_end(&mut answer)
    });
    let ended = server.shutdown().map_err(|error| format!("{error:#}"));
    asked.map_err(|error| error.to_string())?;
    ended?;
    match answer.first() {
        // AuthenticationOk; anything else is the reason, between other fields.
        Some(b'R') => Ok(()),
        _ => Err(format!(
            "could not install its extensions: {}",
            String::from_utf8_lossy(&answer).replace('\0', " ")
        )),
    }
}
