//! A network that can be broken: it passes connections on to a server, and does with them what a
//! test says. It also counts what it sees.

use std::{
    io,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};
use wharf::{Manager, Pg};

use crate::support::{TestDatabase, config, server_address};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Network {
    Whole,
    /// What is sent arrives nowhere, and nobody is told, until it is whole again.
    Swallows,
    /// Every connection is reset, those that are opened too.
    Resets,
}

/// What happens to the connection that sends a certain text.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trap {
    /// It is reset before the server gets the text.
    ResetBefore,
    /// It is reset when the server has answered, without the answer.
    ResetAfter,
    /// The server gets it, and its answer is swallowed.
    SwallowAfter,
}

pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    listening: JoinHandle<()>,
}

struct Shared {
    server: (String, u16),
    network: watch::Sender<Network>,
    trap: Mutex<Option<(&'static str, Trap)>>,
    /// What the way to the server and back takes longer, in ms.
    delay: AtomicU32,
    accepted: AtomicU32,
    asked: AtomicU32,
    /// As a pooler that ignores startup options.
    drops_options: AtomicBool,
    /// Every connection is closed as soon as the client says something.
    closes: AtomicBool,
}

impl Proxy {
    /// Before the server of the run.
    pub async fn start() -> Proxy {
        Proxy::start_before(server_address().await).await
    }

    pub async fn start_before(server: (String, u16)) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            server,
            network: watch::Sender::new(Network::Whole),
            trap: Mutex::default(),
            delay: AtomicU32::new(0),
            accepted: AtomicU32::new(0),
            asked: AtomicU32::new(0),
            drops_options: AtomicBool::new(false),
            closes: AtomicBool::new(false),
        });
        let listening = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Proxy { port, shared, listening }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn set(&self, network: Network) {
        self.shared.network.send_replace(network);
    }

    /// Springs once, at the next message that holds `text`.
    pub fn trap(&self, text: &'static str, trap: Trap) {
        *self.shared.trap.lock().unwrap() = Some((text, trap));
    }

    /// Answers come so much later from here on.
    pub fn delay(&self, delay: Duration) {
        self.shared.delay.store(delay.as_millis().try_into().unwrap(), Ordering::SeqCst);
    }

    /// Drops the startup options of new connections from here on, as a pooler does that ignores them.
    pub fn drop_options(&self) {
        self.shared.drops_options.store(true, Ordering::SeqCst);
    }

    /// Closes new connections in place of a first answer from here on, as a load balancer does whose server is
    /// gone.
    pub fn close_new(&self, closes: bool) {
        self.shared.closes.store(closes, Ordering::SeqCst);
    }

    /// Nobody listens any more. What is connected stays so.
    pub async fn refuse(&mut self) {
        self.listening.abort();
        let _ = (&mut self.listening).await;
    }

    pub async fn listen_again(&mut self) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.unwrap();
        self.listening = tokio::spawn(accept(listener, Arc::clone(&self.shared)));
    }

    /// Connections that were opened since this was asked last.
    pub fn accepted(&self) -> u32 {
        self.shared.accepted.swap(0, Ordering::SeqCst)
    }

    /// Messages that ask for an answer (Sync and Query) since this was asked last.
    pub fn asked(&self) -> u32 {
        self.shared.asked.swap(0, Ordering::SeqCst)
    }

    /// The database, by way of this; `more` are further lines of its entry.
    pub fn pg(&self, database: &TestDatabase, more: &[&str]) -> Pg {
        self.manager(database, more).db("it").unwrap()
    }

    pub fn manager(&self, database: &TestDatabase, more: &[&str]) -> Manager {
        let (_, port) = &self.shared.server;
        let plain: &[&str] = match more.iter().any(|line| line.starts_with("ssl_mode")) {
            true => &[],
            false => &["ssl_mode: disable"],
        };
        let entry = database.entry("it", &[plain, more].concat());
        let entry = entry.replace(&format!(":{port}/"), &format!(":{}/", self.port));
        Manager::from_config(config(&format!("databases:\n{entry}")))
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let server = TcpStream::connect(shared.server.clone()).await?;
            server.set_nodelay(true)?;
            client.set_nodelay(true)?;
            // So much room is filled at once, if so much is there.
            let (questions, answers) = (Vec::with_capacity(1 << 16), Vec::with_capacity(1 << 16));
            Carried { client, server, questions, answers, trap: None }.carry(&shared).await
        });
    }
}

struct Carried {
    client: TcpStream,
    server: TcpStream,
    questions: Vec<u8>,
    answers: Vec<u8>,
    trap: Option<Trap>,
}

impl Carried {
    async fn carry(mut self, shared: &Shared) -> io::Result<()> {
        let mut network = shared.network.subscribe();
        // The startup message has no type before its length.
        let mut head = 0;
        loop {
            let now = *network.borrow_and_update();
            if head == 0 && !self.questions.is_empty() && shared.closes.load(Ordering::SeqCst) {
                return Ok(());
            }
            if now == Network::Resets {
                return self.reset();
            }
            if now == Network::Whole && self.trap != Some(Trap::SwallowAfter) {
                while let Some(message) = take_message(&mut self.questions, head) {
                    self.pass_on(&message, head, shared).await?;
                    // The startup message comes after the server's answer to a request for TLS.
                    head = usize::from(head == 1 || message[4..] != SSL_REQUEST);
                }
                match self.trap {
                    Some(Trap::ResetBefore) => return self.reset(),
                    Some(Trap::ResetAfter) if !self.answers.is_empty() => return self.reset(),
                    Some(_) => {}
                    None if self.answers.is_empty() => {}
                    None => {
                        let delay = shared.delay.load(Ordering::SeqCst);
                        tokio::time::sleep(Duration::from_millis(delay.into())).await;
                        self.client.write_all(&self.answers).await?;
                        self.answers.clear();
                    }
                }
            }
            let read = tokio::select! {
                read = self.client.read_buf(&mut self.questions) => read?,
                read = self.server.read_buf(&mut self.answers) => read?,
                _ = network.changed() => 1,
            };
            if read == 0 {
                return Ok(());
            }
        }
    }

    async fn pass_on(&mut self, message: &[u8], head: usize, shared: &Shared) -> io::Result<()> {
        if head == 0 && message[4..] != SSL_REQUEST && shared.drops_options.load(Ordering::SeqCst) {
            return self.server.write_all(&without_options(message)).await;
        }
        if head == 1 && matches!(message[0], b'S' | b'Q') {
            shared.asked.fetch_add(1, Ordering::SeqCst);
        }
        let sprung = |(text, _): &mut (&str, Trap)| {
            message.windows(text.len()).any(|part| part == text.as_bytes())
        };
        if let Some((_, trap)) = shared.trap.lock().unwrap().take_if(sprung) {
            self.trap = Some(trap);
        }
        match self.trap {
            Some(Trap::ResetBefore) => Ok(()),
            _ => self.server.write_all(message).await,
        }
    }

    fn reset(self) -> io::Result<()> {
        self.client.set_zero_linger()?;
        self.server.set_zero_linger()
    }
}

const SSL_REQUEST: [u8; 4] = 80_877_103_u32.to_be_bytes();

/// A startup message without its `options`.
fn without_options(message: &[u8]) -> Vec<u8> {
    let texts: Vec<&[u8]> = message[8..].split(|byte| *byte == 0).collect();
    let mut body = message[4..8].to_vec();
    let named = |pair: &&[&[u8]]| pair.len() == 2 && !pair[0].is_empty() && pair[0] != b"options";
    for pair in texts.chunks(2).filter(named) {
        pair.iter().for_each(|text| body.extend([text, &[0][..]].concat()));
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&length[..], &body].concat()
}

/// The first message of `bytes`, if it is all there; its length stands after `head` bytes.
fn take_message(bytes: &mut Vec<u8>, head: usize) -> Option<Vec<u8>> {
    let length = bytes.get(head..head + 4)?;
    let end = head + u32::from_be_bytes(length.try_into().unwrap()) as usize;
    (bytes.len() >= end).then(|| bytes.drain(..end).collect())
}
