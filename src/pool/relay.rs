//! Relays the connections of SeaORM's own pool to the server. So `socket_timeout` applies to them, and each one goes to the host
//! that is the primary when it is opened.
//!
//! sqlx waits for an answer as long as the network keeps the connection, gives nobody access to its sockets, and closes
//! a pool only after every connection has come back. But it accepts the folder of a Unix socket in addition to the host
//! name that it checks the certificate against. So its connections end at a Unix socket of this process, which forwards
//! every byte, encrypted or not.

use std::{
    fs::{self, DirBuilder},
    io::{self, ErrorKind},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
    thread,
    time::Duration,
};

use futures_util::future::{Either, select};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixListener, UnixStream},
    runtime,
    sync::oneshot,
    time::{sleep, timeout},
};

use super::ConnectTo;

/// A client's first message if it wants TLS, and the answer of a server that supports it.
/// <https://www.postgresql.org/docs/current/protocol-message-formats.html>
const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const TLS_FOLLOWS: &[u8] = b"S";

/// ReadyForQuery, which ends an answer, without its last byte, the state of the transaction.
const READY: [u8; 5] = [b'Z', 0, 0, 0, 5];

/// The pause before a refused connection is retried, as the driver does.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// The pause before all hosts are asked again which of them is the primary.
const ASK_PAUSE: Duration = Duration::from_millis(250);

/// The operating system counts in whole seconds.
const SHORTEST_KEEPALIVE: Duration = Duration::from_secs(1);

/// The size of each direction's buffer in bytes, as large as the driver's.
const CHUNK: usize = 8 * 1024;

/// A Unix socket for the connections to one server, and a thread that serves it until this is dropped.
pub(super) struct Relay {
    folder: PathBuf,
    /// Dropping it ends the thread.
    _alive: oneshot::Sender<()>,
}

impl Relay {
    /// # Errors
    /// The folder for temporary files is not writable, its path is too long for a socket, or no thread can be started.
    pub(super) fn start(to: &ConnectTo, limit: Option<Duration>) -> io::Result<Relay> {
        let limit = limit.unwrap_or(Duration::MAX);
        let (alive, ended) = oneshot::channel();
        let relay = Relay { folder: private_folder()?, _alive: alive };
        let socket = relay.folder.join(format!(".s.PGSQL.{}", to.port));
        let listener = std::os::unix::net::UnixListener::bind(socket)?;
        listener.set_nonblocking(true)?;
        let route = Arc::new(Route { to: to.clone(), limit });
        // A runtime of its own, because the pool may outlive the caller's. It is never dropped here, where that would
        // panic if the caller is asynchronous.
        let serve = async move || -> io::Result<()> {
            let listener = UnixListener::from_std(listener)?;
            select(pin!(serve(&listener, &route)), ended).await;
            Ok(())
        };
        let database = to.name.clone();
        thread::Builder::new().name("wharf-relay".to_owned()).spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            if let Err(error) = runtime.and_then(|runtime| runtime.block_on(serve())) {
                tracing::warn!(%database, %error, "cannot relay SeaORM's own connections");
            }
        })?;
        Ok(relay)
    }

    /// The folder in which the driver looks for the socket.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // An empty folder that stays behind does no harm.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Creates a folder that only this user may enter, because whoever reaches the socket reaches the server.
fn private_folder() -> io::Result<PathBuf> {
    let (parent, process) = (std::env::temp_dir(), std::process::id());
    for n in 0..1_000 {
        let folder = parent.join(format!("wharf-{process}-{n}"));
        match DirBuilder::new().mode(0o700).create(&folder) {
            // Left by a killed process with the same number, or of one in another container.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => return made.map(|()| folder),
        }
    }
    Err(ErrorKind::AlreadyExists.into())
}

async fn serve(listener: &UnixListener, route: &Arc<Route>) {
    loop {
        match listener.accept().await {
            Ok((client, _)) => {
                let route = Arc::clone(route);
                tokio::spawn(async move { route.carry(client).await });
            }
            // Usually too many open files, which may pass.
            Err(error) => {
                tracing::debug!(database = %route.to.name, %error, "could not accept a connection");
                sleep(RETRY_PAUSE).await;
            }
        }
    }
}

struct Route {
    to: ConnectTo,
    limit: Duration,
}

impl Route {
    /// Serves one connection until either side closes it or the server does not answer in time. The driver sees only
    /// that the socket was closed, so the reason is logged.
    async fn carry(&self, client: UnixStream) {
        let (database, target) = (&self.to.name, || self.to.target_of_all(None));
        let opened = timeout(self.to.config.pool_timeout, self.connect()).await;
        let failed = match opened.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())) {
            Ok(server) => match self.forward(client, server).await {
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    let limit = self.limit;
                    tracing::warn!(%database, target = target(), "the server did not answer within {limit:?}; closed SeaORM's connection");
                    return;
                }
                // The driver sees the end of either side.
                _ => return,
            },
            Err(error) => error,
        };
        tracing::warn!(%database, target = target(), error = %failed, "could not connect for SeaORM");
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let server = loop {
            let to = match self.to.clone().on_primary().await {
                Ok(to) => to,
                Err(error) if error.kind.is_unreached() => {
                    sleep(ASK_PAUSE).await;
                    continue;
                }
                Err(error) => return Err(io::Error::other(error)),
            };
            match TcpStream::connect((&*to.host, to.port)).await {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    sleep(RETRY_PAUSE).await
                }
                connected => break connected?,
            }
        };
        server.set_nodelay(true)?;
        if self.limit == Duration::MAX {
            return Ok(server);
        }
        // For what `forward` cannot see: an encrypted answer that stops half-way because the network is gone.
        let pause = self.limit.max(SHORTEST_KEEPALIVE);
        let keepalive = TcpKeepalive::new().with_time(pause).with_interval(pause);
        SockRef::from(&server).set_tcp_keepalive(&keepalive)?;
        Ok(server)
    }

    async fn forward(&self, client: UnixStream, server: TcpStream) -> io::Result<()> {
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let (mut question, mut answer) = ([0; CHUNK], [0; CHUNK]);
        let mut reply = Reply::default();
        loop {
            let heard = async {
                let asked = pin!(from_client.read(&mut question));
                let answered = pin!(from_server.read(&mut answer));
                match select(asked, answered).await {
                    Either::Left((read, _)) => read.map(Either::Left),
                    Either::Right((read, _)) => read.map(Either::Right),
                }
            };
            let heard = match reply.is_awaited {
                true => timeout(self.limit, heard).await?,
                false => heard.await,
            };
            match heard? {
                Either::Left(0) | Either::Right(0) => return Ok(()),
                Either::Left(n) => {
                    timeout(self.limit, to_server.write_all(&question[..n])).await??;
                    reply.asked(&question[..n]);
                }
                // Without a limit, because a reader may be slow.
                Either::Right(n) => {
                    to_client.write_all(&answer[..n]).await?;
                    reply.received(&answer[..n]);
                }
            }
        }
    }
}

/// Whether the server owes an answer. Of an encrypted answer, only its beginning can be seen.
#[derive(Default)]
struct Reply {
    is_awaited: bool,
    wants_tls: bool,
    is_encrypted: bool,
    /// Its last bytes, because its end may arrive in parts.
    tail: Vec<u8>,
}

impl Reply {
    fn asked(&mut self, question: &[u8]) {
        self.wants_tls = question == TLS_REQUEST;
        self.is_awaited = true;
        self.tail.clear();
    }

    fn received(&mut self, part: &[u8]) {
        self.is_encrypted |= self.wants_tls && part == TLS_FOLLOWS;
        self.tail.extend_from_slice(&part[part.len().saturating_sub(READY.len() + 1)..]);
        let before = self.tail.len().saturating_sub(READY.len() + 1);
        self.tail.drain(..before);
        // A message that nobody asked for, such as a notification, changes nothing.
        self.is_awaited &= !self.is_encrypted && !self.tail.starts_with(&READY);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_with_the_byte_that_ends_it() {
        let mut reply = Reply::default();
        reply.asked(b"question");
        for (part, awaited) in [
            (&b"rows, and then Z\0\0"[..], true),
            (b"\0", true),
            (b"\x05", true),
            (b"I", false),
            (b"a notification", false),
        ] {
            reply.received(part);
            assert_eq!(reply.is_awaited, awaited, "{part:?}");
        }
        reply.asked(b"the next");
        assert!(reply.is_awaited);
        reply.received(b"N");
        assert!(reply.is_awaited, "a server without TLS has more to say");
    }

    #[test]
    fn an_encrypted_answer_ends_with_its_beginning() {
        let mut reply = Reply::default();
        reply.asked(&TLS_REQUEST);
        reply.received(b"S");
        reply.asked(b"hello");
        assert!(reply.is_awaited);
        reply.received(b"...");
        assert!(!reply.is_awaited);
    }
}
