//! Notifications: what other sessions say, heard when they commit.
//!
//! ```no_run
//! # async fn doc(pg: wharf::Pg) -> Result<(), wharf::Error> {
//! use wharf::listen::Event;
//!
//! let mut listener = pg.listen(["orders"]).await?;
//! loop {
//!     match listener.recv().await? {
//!         Event::Notification(said) => println!("{}: {}", said.channel, said.payload),
//!         Event::Lost { gap } => println!("deaf for {gap:?}: read the tables again"),
//!     }
//! }
//! # }
//! ```
//! [`Session::notify`](crate::Session::notify) and [`Pg::notify`] are the other side.

mod channel;
mod event;
mod notify;
mod task;

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Stream, future::BoxFuture};
use tokio::sync::{mpsc, oneshot};

pub use event::{Event, Notification};
use task::{Request, Task};

use crate::{error::Error, pg::Pg};

/// How many events are kept for whoever reads them. What comes after waits at the server.
const UNREAD: usize = 1024;

/// How long a connection may be silent before it is asked for a sign of life.
const PING_EVERY: Duration = Duration::from_secs(30);

impl Pg {
    /// Listens to `channels`, from when the future is done: await it for a [`Listener`].
    ///
    /// A channel is a name of the whole database: a [scoped](Pg::scoped) view hears what all schemas
    /// say, so a tenant's channel has its name in it. It is taken as it stands, here and in
    /// [`notify`](Pg::notify): `Orders` is another than `orders`, to which `NOTIFY Orders` in raw SQL goes.
    ///
    /// # What it costs
    /// A connection of its own, beside those of the pool and not among its figures, as long as the
    /// listener lives: a server that takes 100 connections takes so many pools and listeners together.
    /// One listener hears any number of channels. Opening it takes two connects and one round trip. Its
    /// connects are counted with the pool's, and its LISTENs and pings are nobody's statements to the
    /// [monitor](crate::monitor).
    ///
    /// # Errors
    /// [`Error::Connect`] where the server cannot be reached, at once; [`Error::Notifications`] for what
    /// cannot be a channel, on a standby (listen on the primary), and for the embedded engine, whose one
    /// connection it would keep; [`Error::NeedsDirect`] for an entry with `pooler: transaction` that names no way past it;
    /// [`Error::Closed`]. Dropping the future closes its connection.
    pub fn listen<C: Into<String>>(&self, channels: impl IntoIterator<Item = C>) -> Listen {
        let channels = channels.into_iter().map(Into::into).collect();
        Listen { pg: self.clone(), channels, ping_every: PING_EVERY }
    }
}

/// A [`Listener`] to be: await it.
#[must_use = "nothing is listened to before it is awaited"]
#[derive(Debug)]
pub struct Listen {
    pg: Pg,
    channels: Vec<String>,
    ping_every: Duration,
}

impl Listen {
    /// How long the connection may be silent before it is asked for a sign of life, which takes one round
    /// trip; 30 s, if nothing is said. A network that swallows everything is noticed within this time and
    /// `connect_timeout`, which is how long the answer is waited for.
    pub fn ping_every(mut self, silence: Duration) -> Listen {
        self.ping_every = silence;
        self
    }

    async fn open(self) -> Result<Listener, Error> {
        let Listen { pg, channels, ping_every } = self;
        for name in &channels {
            channel::check(pg.name(), name)?;
        }
        let closed = Error::Closed { database: pg.name().to_owned() };
        let database = Arc::clone(pg.database().name());
        let (tell, events) = mpsc::channel(UNREAD);
        let (ask, requests) = mpsc::channel(1);
        let (opened, listens) = oneshot::channel();
        let channels = channels.into_iter().collect();
        tokio::spawn(Task::new(pg, channels, ping_every, tell, requests).run(opened));
        // It goes without a word where the database is closed.
        listens.await.unwrap_or(Err(closed))?;
        Ok(Listener { database, events, ask })
    }
}

impl IntoFuture for Listen {
    type Output = Result<Listener, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.open())
    }
}

/// Hears what is said on some channels of a database: [`Pg::listen`] makes it.
///
/// Also a [`Stream`] of [`Event`]s, which ends when the database is closed. A task of its own reads from
/// the connection, so what is heard does not depend on how it is polled.
///
/// # When the connection is lost
/// It is opened anew, with the login of then, at distances of 50 ms to 2 s (shortened by up to a half at
/// random) until that goes well, for however long; the log says so at WARN, and at INFO when it is over.
/// What is said meanwhile is lost: PostgreSQL keeps it for nobody. So [`Event::Lost`] stands in its place,
/// every time, for nobody can know whether there was anything. It is told when all channels are listened
/// to again: whoever reads their tables after it misses nothing.
///
/// # When it is not read
/// The next 1,024 events are kept, 8 MB at the most, and the server keeps what comes after: for all
/// databases together, 8 GB by default, and when these are full every commit that notifies fails. So read
/// it or drop it (`SELECT pg_notification_queue_usage()` is the part that is full).
///
/// Dropping it closes its connection, and so does [`Pg::close`].
pub struct Listener {
    database: Arc<str>,
    events: mpsc::Receiver<Event>,
    ask: mpsc::Sender<Request>,
}

impl Listener {
    /// The next event: what was notified comes in the order in which it was committed. Dropping the
    /// future loses nothing.
    ///
    /// # Errors
    /// [`Error::Closed`] once the database is closed and what was heard before is read.
    pub async fn recv(&mut self) -> Result<Event, Error> {
        self.events.recv().await.ok_or_else(|| self.closed())
    }

    /// Listens to one more channel from when the future is done; fine if it does already. One round trip;
    /// while the server is away, as long as that lasts. Dropping the future leaves open whether it does.
    ///
    /// # Errors
    /// [`Error::Notifications`] for what cannot be a channel; [`Error::Closed`]; what the server says.
    pub async fn listen(&self, channel: impl Into<String>) -> Result<(), Error> {
        let channel = channel.into();
        channel::check(&self.database, &channel)?;
        self.ask(|told| Request::Listen(channel, told)).await
    }

    /// Listens to a channel no more; fine if it does not. What was heard before is still to be read. Costs
    /// what [`listen`](Listener::listen) does.
    ///
    /// # Errors
    /// As there.
    pub async fn unlisten(&self, channel: impl Into<String>) -> Result<(), Error> {
        let channel = channel.into();
        channel::check(&self.database, &channel)?;
        self.ask(|told| Request::Unlisten(channel, told)).await
    }

    async fn ask(&self, what: impl FnOnce(task::Told) -> Request) -> Result<(), Error> {
        let (tell, told) = oneshot::channel();
        // Where nobody takes it, nobody answers.
        let _ = self.ask.send(what(tell)).await;
        told.await.unwrap_or_else(|_| Err(self.closed()))
    }

    fn closed(&self) -> Error {
        Error::Closed { database: self.database.to_string() }
    }
}

impl Stream for Listener {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.events.poll_recv(context)
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("database", &self.database).finish_non_exhaustive()
    }
}
