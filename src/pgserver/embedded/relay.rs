//! The door before the embedded engine.
//!
//! The engine serves one connection; it lets a second one wait without a word, ends altogether
//! when its client's socket breaks, and cannot be stopped while a client is connected. The relay
//! passes bytes to and fro and mends these three: a second client is told so, the engine only
//! ever sees clients that hang up properly, and a stop hangs up for them.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::engine::Engine;

/// How long a client that has connected may take to say who it is.
const PRELUDE: Duration = Duration::from_secs(10);
/// A client that has just closed its connection is gone in a moment, on a busy machine too: the
/// next one waits that long.
const MOMENT: Duration = Duration::from_secs(1);
/// The engine may still be at the last statement of a client that has gone.
const LEAVING: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);
const BUFFER: usize = 64 * 1024;
/// How often the engine is started before it is given up.
const ATTEMPTS: u32 = 3;
/// No client sends a longer startup message (PostgreSQL's own limit).
const STARTUP_MAX: usize = 10_000;

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;

/// Listens for clients of one engine.
#[derive(Debug)]
pub(crate) struct Relay {
    shared: Arc<Shared>,
    address: SocketAddr,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    engine: Engine,
    stopping: AtomicBool,
    seat: Mutex<Seat>,
    changed: Condvar,
}

/// The one connection.
#[derive(Debug)]
enum Seat {
    Free,
    /// Its client, to hang up on it; and since when it is served. Before that, nobody notices
    /// that it has gone.
    Taken(Option<TcpStream>, Option<Instant>),
    /// Its client has gone, the engine has not finished with it.
    Leaving,
}

impl Relay {
    /// Starts to listen.
    pub(crate) fn open(listener: TcpListener, engine: Engine) -> io::Result<Relay> {
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            engine,
            stopping: AtomicBool::new(false),
            seat: Mutex::new(Seat::Free),
            changed: Condvar::new(),
        });
        let for_thread = shared.clone();
        let accepting = thread::Builder::new()
            .name("wharf-embedded".to_owned())
            .spawn(move || accept(&listener, &for_thread))?;
        Ok(Relay { shared, address, accepting: Mutex::new(Some(accepting)) })
    }

    /// Whether it has been told to stop and takes no more clients.
    pub(crate) fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::SeqCst)
    }

    /// Hangs up on the client, then ends the engine. Blocks; false if the engine is still busy with
    /// a statement after `patience` (it can be tried again).
    pub(crate) fn stop(&self, patience: Duration) -> Result<bool, String> {
        if !self.shared.stopping.swap(true, Ordering::SeqCst) {
            // Wakes the thread that accepts, which then closes the port.
            let ip = match self.address.ip() {
                ip if ip.is_unspecified() && ip.is_ipv4() => [127, 0, 0, 1].into(),
                ip if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
                ip => ip,
            };
            let woken = TcpStream::connect((ip, self.address.port())).is_ok();
            let accepting = self.accepting.lock();
            let accepting = accepting.unwrap_or_else(PoisonError::into_inner).take();
            if let Some(accepting) = accepting.filter(|_| woken) {
                // So that the port is free when this returns.
                let _ = accepting.join();
            }
        }
        let deadline = Instant::now() + patience;
        let mut seat = self.shared.seat();
        if let Seat::Taken(Some(client), _) = &*seat {
            let _ = client.shutdown(Shutdown::Both);
        }
        while !matches!(*seat, Seat::Free) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            seat = self.shared.wait(seat, left);
        }
        drop(seat);
        self.shared.engine.shutdown().map(|()| true)
    }
}

impl Shared {
    fn seat(&self) -> MutexGuard<'_, Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, seat: MutexGuard<'a, Seat>, longest: Duration) -> MutexGuard<'a, Seat> {
        let woken = self.changed.wait_timeout(seat, longest);
        woken.unwrap_or_else(PoisonError::into_inner).0
    }

    /// From here on it is noticed when the client goes.
    fn serves(&self) {
        if let Seat::Taken(_, served) = &mut *self.seat() {
            *served = Some(Instant::now());
        }
        self.changed.notify_all();
    }

    fn set(&self, seat: Seat) {
        *self.seat() = seat;
        self.changed.notify_all();
    }

    /// Takes the one connection for a client, or says why not.
    fn take(&self, client: &TcpStream) -> Result<(), &'static str> {
        let begun = Instant::now();
        let mut seat = self.seat();
        loop {
            if self.stopping.load(Ordering::SeqCst) {
                return Err("the embedded engine is being stopped");
            }
            let (until, reason) = match *seat {
                Seat::Free => {
                    *seat = Seat::Taken(client.try_clone().ok(), None);
                    return Ok(());
                }
                Seat::Taken(_, served) => (
                    served.map_or(begun + LEAVING, |since| begun.max(since) + MOMENT),
                    "the embedded engine serves one connection in all, and that one is in use",
                ),
                Seat::Leaving => (
                    begun + LEAVING,
                    "the embedded engine serves one connection in all, and still runs the last statement of a client that has disconnected",
                ),
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(reason);
            }
            seat = self.wait(seat, left);
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        if shared.stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(client) = client else {
            // A client that has gone already, or no file descriptor left: not to be asked in a
            // tight loop.
            thread::sleep(PAUSE);
            continue;
        };
        let shared = shared.clone();
        // Without a thread to serve it, the client is dropped and sees its connection closed.
        let _ = thread::Builder::new()
            .name("wharf-embedded".to_owned())
            .spawn(move || serve(&shared, client));
    }
}

/// One client from its first byte to its last.
fn serve(shared: &Arc<Shared>, mut client: TcpStream) {
    let Ok(Some(startup)) = prelude(&mut client) else {
        return;
    };
    if let Err(reason) = shared.take(&client) {
        refuse(&mut client, "53300", reason);
        return;
    }
    match open(&shared.engine, &startup) {
        Ok((engine, answer)) => pass(shared, client, engine, &answer),
        Err(reason) => refuse(&mut client, "57P01", &reason),
    }
    shared.set(Seat::Free);
}

/// A connection to the engine that has answered the startup message, and what it answered.
///
/// An engine that has died with its last client may not have closed its port yet, and would take
/// this one along: it serves when it has answered.
fn open(engine: &Engine, startup: &[u8]) -> Result<(TcpStream, Vec<u8>), String> {
    let mut reason = String::new();
    for _ in 0..ATTEMPTS {
        let mut stream = engine.connect()?;
        let mut answer = vec![0u8; BUFFER];
        match stream.write_all(startup).and_then(|()| stream.read(&mut answer)) {
            Ok(0) => "it closed the connection without an error".clone_into(&mut reason),
            Ok(read) => {
                answer.truncate(read);
                return Ok((stream, answer));
            }
            Err(error) => reason = error.to_string(),
        }
    }
    Err(format!("the embedded engine does not answer: {reason}"))
}

/// Reads up to the startup message, which it returns: whoever only looks whether the port is open
/// does not take the engine's one connection.
fn prelude(client: &mut TcpStream) -> io::Result<Option<Vec<u8>>> {
    client.set_nodelay(true)?;
    client.set_read_timeout(Some(PRELUDE))?;
    loop {
        let mut head = [0u8; 8];
        client.read_exact(&mut head)?;
        let [a, b, c, d, e, f, g, h] = head;
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        match u32::from_be_bytes([e, f, g, h]) {
            SSL_REQUEST | GSS_REQUEST => client.write_all(b"N")?,
            CANCEL_REQUEST => return Ok(None),
            _ if (8..=STARTUP_MAX).contains(&length) => {
                let mut message = head.to_vec();
                message.resize(length, 0);
                client.read_exact(&mut message[8..])?;
                client.set_read_timeout(None)?;
                return Ok(Some(message));
            }
            _ => return Ok(None),
        }
    }
}

/// Passes bytes until both sides have ended. Whatever the client does, the engine reads on to a
/// proper end of input and its answers are taken.
fn pass(shared: &Arc<Shared>, mut client: TcpStream, mut engine: TcpStream, answer: &[u8]) {
    let (Ok(mut answers), Ok(mut to_client)) = (engine.try_clone(), client.try_clone()) else {
        return;
    };
    let mut listens = to_client.write_all(answer).is_ok();
    let back = thread::Builder::new().name("wharf-embedded".to_owned()).spawn(move || {
        let mut buffer = vec![0u8; BUFFER];
        while let Ok(read @ 1..) = answers.read(&mut buffer) {
            listens = listens && to_client.write_all(&buffer[..read]).is_ok();
        }
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let Ok(back) = back else { return };
    shared.serves();
    let mut buffer = vec![0u8; BUFFER];
    let mut open = true;
    while open {
        open = match client.read(&mut buffer) {
            Ok(read @ 1..) => engine.write_all(&buffer[..read]).is_ok(),
            _ => false,
        };
    }
    shared.set(Seat::Leaving);
    let _ = engine.shutdown(Shutdown::Write);
    let _ = back.join();
}

/// As a PostgreSQL server turns a client away.
fn refuse(client: &mut TcpStream, code: &str, reason: &str) {
    let hint = "Close the other connection first, or use `runtime: native` or `docker`, which \
                serve many.";
    let mut fields = Vec::new();
    for (tag, text) in [('S', "FATAL"), ('V', "FATAL"), ('C', code), ('M', reason), ('H', hint)] {
        fields.push(tag as u8);
        fields.extend_from_slice(text.as_bytes());
        fields.push(0);
    }
    fields.push(0);
    let length = u32::try_from(fields.len() + 4).unwrap_or(4);
    let mut message = vec![b'E'];
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(&fields);
    // It may have gone; nobody is left to tell then.
    let _ = client.write_all(&message);
}
