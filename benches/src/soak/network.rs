//! The network between wharf and a server, which can be broken: a TCP proxy.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// The state of the network. It holds until another one is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    #[default]
    Whole,
    /// Nothing arrives, and no error is reported. Data that is sent meanwhile arrives afterwards, because TCP repeats it.
    BlackHole,
    /// Answers take so much longer.
    Delay(Duration),
    /// New connections are closed at once.
    Refuse,
}

/// A fault that hits each open connection once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Blow {
    #[default]
    None,
    /// They end in order (FIN).
    Cut,
    /// They are reset (RST).
    Reset,
    /// The next answer arrives up to this byte only; then they end.
    Truncate(usize),
}

/// A fault that hits the next connections that send a COMMIT, and how many.
#[derive(Debug, Default)]
struct Ambush {
    /// They are reset before the server gets it.
    before: AtomicU32,
    /// They are reset when the server has answered, without the answer.
    after: AtomicU32,
}

#[derive(Clone, Copy, Debug, Default)]
struct State {
    mode: Mode,
    blow: Blow,
    blows: u64,
}

pub struct Network {
    pub port: u16,
    state: watch::Sender<State>,
    ambush: Arc<Ambush>,
    listening: JoinHandle<()>,
}

impl Network {
    /// Listens on a port of its own, and passes on to `server`.
    pub async fn start(server: u16) -> Result<Network> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let state = watch::Sender::new(State::default());
        let ambush = Arc::new(Ambush::default());
        let listening = accept(listener, server, state.clone(), Arc::clone(&ambush));
        Ok(Network { port, state, ambush, listening: tokio::spawn(listening) })
    }

    pub fn set(&self, mode: Mode) {
        self.state.send_modify(|state| state.mode = mode);
    }

    pub fn strike(&self, blow: Blow) {
        self.state.send_modify(|state| {
            state.blow = blow;
            state.blows += 1;
        });
    }
}

impl Network {
    /// Resets the next connections that send a COMMIT: so many before the server gets it, and so many afterwards.
    pub fn ambush(&self, before: u32, after: u32) {
        self.ambush.before.store(before, Ordering::SeqCst);
        self.ambush.after.store(after, Ordering::SeqCst);
    }
}

impl Ambush {
    fn take(of: &AtomicU32) -> bool {
        of.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn accept(
    listener: TcpListener,
    server: u16,
    state: watch::Sender<State>,
    ambush: Arc<Ambush>,
) {
    loop {
        // Out of file descriptors, say: the next one may go well.
        let Ok((client, _)) = listener.accept().await else { continue };
        let mut state = state.subscribe();
        let ambush = Arc::clone(&ambush);
        tokio::spawn(async move {
            if state.borrow().mode == Mode::Refuse {
                return;
            }
            // A server behind a black hole is not reached at all.
            let open = state.wait_for(|state| state.mode != Mode::BlackHole).await.is_ok();
            if open && let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await {
                let _ = carry(client, server, state, &ambush).await;
            }
        });
    }
}

/// How a direction has ended.
enum End {
    Closed,
    Reset,
}

async fn carry(
    mut client: TcpStream,
    mut server: TcpStream,
    state: watch::Receiver<State>,
    ambush: &Ambush,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    // Its COMMIT was answered, and the answer is not to arrive.
    let is_doomed = AtomicBool::new(false);
    let strike = |question: &[u8]| {
        if !question.windows(6).any(|it| it == b"COMMIT") {
            return false;
        }
        if Ambush::take(&ambush.before) {
            return true;
        }
        is_doomed.store(Ambush::take(&ambush.after), Ordering::SeqCst);
        false
    };
    let questions = pump(from_client, to_server, state.clone(), false, strike);
    let answers =
        pump(from_server, to_client, state, true, |_: &[u8]| is_doomed.load(Ordering::SeqCst));
    let end = tokio::select! {
        end = questions => end,
        end = answers => end,
    };
    if matches!(end, End::Reset) {
        client.set_zero_linger()?;
        server.set_zero_linger()?;
    }
    Ok(())
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut state: watch::Receiver<State>,
    are_answers: bool,
    resets_at: impl Fn(&[u8]) -> bool,
) -> End {
    let seen = state.borrow_and_update().blows;
    let mut buffer = vec![0; 16 << 10];
    let (mut filled, mut is_delayed) = (0, false);
    loop {
        let now = *state.borrow_and_update();
        let mut keep = usize::MAX;
        if now.blows != seen {
            match now.blow {
                Blow::Cut => return End::Closed,
                Blow::Reset => return End::Reset,
                Blow::Truncate(bytes) if are_answers => keep = bytes,
                Blow::None | Blow::Truncate(_) => {}
            }
        }
        let delay = match now.mode {
            Mode::Delay(delay) if are_answers && !is_delayed => delay,
            _ => Duration::ZERO,
        };
        // Only a write is not interrupted, because a part of it may have gone.
        let read = if filled > 0 && delay.is_zero() && now.mode != Mode::BlackHole {
            Ok(filled)
        } else {
            let wait = async {
                if now.mode == Mode::BlackHole {
                    std::future::pending::<()>().await;
                }
                if filled == 0 {
                    return from.read(&mut buffer).await;
                }
                tokio::time::sleep(delay).await;
                Ok(filled)
            };
            tokio::select! {
                read = wait => read,
                changed = state.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return End::Closed,
                },
            }
        };
        let Ok(read @ 1..) = read else { return End::Closed };
        if filled == 0 {
            (filled, is_delayed) = (read, false);
            if resets_at(&buffer[..read]) {
                return End::Reset;
            }
            continue;
        }
        if !delay.is_zero() {
            is_delayed = true;
            continue;
        }
        let length = filled.min(keep);
        if to.write_all(&buffer[..length]).await.is_err() || length < filled {
            return End::Closed;
        }
        filled = 0;
    }
}
