//! Connections: opened, lent, taken back, closed. The only room that talks to the driver.

mod addresses;
mod checkout;
mod connector;
#[cfg(feature = "copy")]
mod copy;
mod dates;
mod explained;
mod failed;
mod fetch;
mod host;
mod housekeeper;
mod lent;
mod listening;
mod opener;
mod options;
mod outcome;
#[cfg(feature = "cli")]
mod pooling;
mod position;
mod primary;
mod probe;
mod queue;
#[cfg(unix)]
mod relay;
mod repair;
mod sea_orm;
mod search_path;
mod settings;
mod slot;
mod state;
mod stream;
#[cfg(feature = "cli")]
mod text;
mod unnamed;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
};

pub(crate) use checkout::Purpose;
use connector::{Connector, Open};
#[cfg(feature = "copy")]
pub(crate) use copy::{Source, Stopped, copied};
pub(crate) use fetch::{AllRows, Effect, Fetch, FirstRow};
pub(crate) use host::Host;
pub(crate) use lent::{Lent, MetricCallback, is_fatal, runtime};
pub(crate) use listening::{Listening, ListensTo};
pub(crate) use opener::pause;
pub(crate) use options::{ConnectTo, Locate};
pub(crate) use position::Checked;
pub(crate) use probe::{Probe, REPLAYED, Said, ServerId, replayed_with_timeline};
use queue::{Answer, Check, Limits, Place, Queue};
use repair::Readiness;
pub(crate) use sea_orm::{SeaOrm, login_of};
pub(crate) use settings::LocalSettings;
use slot::Slot;
pub(crate) use stream::rows;
#[cfg(feature = "cli")]
pub(crate) use text::{Column, TextRows};

use crate::{
    error::{ConnectError, CutOff, Error, PoolTimeout},
    monitor::PoolMeter,
    stats::PoolStats,
};

/// Longest wait for a second connection that only makes an error clearer.
pub(crate) const SPARE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long what was cut off at the end of a drain may take to come back.
const CUT_MAY_TAKE: Duration = Duration::from_secs(1);

/// The connections to one database with one set of startup parameters.
pub(crate) struct Pool {
    connector: Connector,
    queue: Mutex<Queue>,
    slot: Option<Arc<Slot>>,
    /// A connection was opened or closed, or could not be opened.
    changed: Notify,
}

impl Pool {
    pub(crate) fn new(host: Arc<Host>, read_only: bool) -> Arc<Pool> {
        let connector = Connector::new(host, read_only);
        let slot = slot::of(&connector.to.host, connector.to.port);
        let config = &connector.to.config;
        let keep = if slot.is_some() { 1 } else { config.pool_size as usize };
        let most = if slot.is_some() { 1 } else { keep + config.max_overflow as usize };
        let floor = if slot.is_some() { 0 } else { config.min_connections as usize };
        Arc::new(Pool {
            queue: Mutex::new(Queue::new(Limits { floor, keep, most }, connector.trusted_for())),
            connector,
            slot,
            changed: Notify::new(),
        })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn meter(&self) -> &PoolMeter {
        &self.connector.meter
    }

    fn sample(&self) {
        let sample = self.queue().sample();
        self.meter().tick(sample);
    }

    pub(crate) fn name(&self) -> String {
        self.connector.to.name.to_string()
    }

    fn timeout(&self) -> Duration {
        self.connector.to.config.pool_timeout
    }

    /// Lends a connection for `purpose`.
    ///
    /// No round trip where one is there that was used within the last second; a ping where it has
    /// idled longer; a connect where none is there.
    pub(crate) async fn lend(self: &Arc<Pool>, purpose: Purpose) -> Result<Lent, Error> {
        let now = Instant::now();
        if self.slot.is_some() {
            return Box::pin(self.lend_the_only_one(purpose, now)).await;
        }
        match self.next(purpose, now)? {
            Turn::Now(mut lent) if lent.is_ready() => {
                lent.waited(Duration::ZERO, now);
                Ok(lent)
            }
            // What is rare has its state on the heap: every statement's future has room for it else.
            turn => Box::pin(self.get(turn, purpose, now)).await,
        }
    }

    /// The embedded engine's.
    async fn lend_the_only_one(
        self: &Arc<Pool>,
        purpose: Purpose,
        now: Instant,
    ) -> Result<Lent, Error> {
        let claim = match &self.slot {
            Some(slot) => Some(slot.claim(self, purpose, now.checked_add(self.timeout())).await?),
            None => None,
        };
        let turn = self.next(purpose, now)?;
        Ok(self.get(turn, purpose, now).await?.with_claim(claim))
    }

    async fn get(
        self: &Arc<Pool>,
        mut turn: Turn,
        purpose: Purpose,
        started: Instant,
    ) -> Result<Lent, Error> {
        let deadline = started.checked_add(self.timeout());
        loop {
            let lent = match turn {
                Turn::Now(lent) => Some(lent),
                Turn::Wait(ticket) => ticket.wait(started, deadline).await?,
            };
            // One that cannot be used is closed here.
            if let Some(mut lent) = lent {
                match lent.make_ready(deadline).await {
                    Readiness::Ready => {
                        let now = Instant::now();
                        lent.waited(now.saturating_duration_since(started), now);
                        return Ok(lent);
                    }
                    Readiness::Silent if deadline.is_some_and(|at| Instant::now() >= at) => {
                        let to = self.connector.current();
                        return Err(Error::Connect(to.timed_out(started.elapsed())));
                    }
                    Readiness::Silent | Readiness::Lost => {}
                }
            }
            turn = self.next(purpose, Instant::now())?;
        }
    }

    /// The connection to lend first, or a place in the line.
    fn next(self: &Arc<Pool>, purpose: Purpose, now: Instant) -> Result<Turn, Error> {
        let mut past = Vec::new();
        let turn = {
            let mut queue = self.queue();
            if queue.closed {
                return Err(Error::Closed { database: self.name() });
            }
            match queue.take_idle(purpose, now, &mut past) {
                Some((open, check)) => {
                    drop(queue);
                    Turn::Now(Lent::new(Arc::clone(self), open, check))
                }
                None => {
                    let (number, answer) = queue.wait(purpose, Handle::current());
                    Turn::Wait(Ticket { pool: Arc::clone(self), number, answer })
                }
            }
        };
        past.into_iter().for_each(Open::close);
        if matches!(turn, Turn::Wait(_)) {
            self.open_more();
        }
        Ok(turn)
    }

    /// Why somebody who waited as long as `pool_timeout` got no connection.
    fn explain(&self, started: Instant) -> Error {
        let (waited, database) = (started.elapsed(), self.name());
        self.meter().timed_out(waited);
        let queue = self.queue();
        // Where there could be more connections, not the pool is too small: the server is what the
        // reader has to know about.
        if queue.open() < queue.limits.most {
            if let Some(failing) = &queue.failing {
                return Error::Connect(ConnectError { elapsed: waited, ..failing.error.clone() });
            }
            if queue.opening > 0 {
                return Error::Connect(self.connector.current().timed_out(waited));
            }
        }
        let mut longest = queue.holders(Instant::now());
        longest.truncate(3);
        Error::PoolTimeout(PoolTimeout { database, waited, stats: queue.stats(), longest })
    }

    /// A connection that is clean has come back.
    fn take_back(self: &Arc<Pool>, mut open: Open, now: Instant) {
        open.last_used = now;
        open.shrink(now);
        self.given_back(&mut open, now);
        let place = self.queue().place(open, now);
        self.settle(place);
    }

    /// Brings a connection to whoever gets it.
    fn settle(self: &Arc<Pool>, mut place: Place) {
        loop {
            match place {
                Place::Idle => return,
                Place::Nowhere(open) => return self.discard(open),
                Place::For(waiter, open, check) => {
                    let lent = Lent::new(Arc::clone(self), open, check);
                    // Not under the lock: a waiter that has gone gives the connection back.
                    let Err(Answer::Lent(mut lent)) = waiter.tell.send(Answer::Lent(lent)) else {
                        return;
                    };
                    let Some(open) = lent.take() else { return };
                    place = self.queue().place(open, Instant::now());
                }
            }
        }
    }

    fn given_back(&self, open: &mut Open, now: Instant) {
        if let Some(lent_at) = open.lent_at.take() {
            self.meter().given_back(&mut open.memory.ledger, lent_at, now);
        }
        open.memory.ledger.repeats.end("one session", open.opened_at.take());
    }

    /// Closes a connection.
    fn discard(self: &Arc<Pool>, mut open: Open) {
        self.given_back(&mut open, Instant::now());
        self.queue().remove(&open);
        open.close();
        self.open_more();
        self.changed.notify_waiters();
    }

    /// Notes that a statement which may have written has ended, if reads depend on it.
    fn note_pending(&self) {
        if let Some(written) =
            self.connector.host.written().filter(|_| !self.connector.to.read_only)
        {
            written.note_pending();
        }
    }

    /// Counts an error by which a standby canceled a statement because of its recovery.
    fn note_conflict(&self, error: &sqlx::Error) {
        let code = error.as_database_error().filter(|_| self.connector.to.is_standby);
        if code.and_then(|error| error.code()).as_deref() == Some("40001") {
            self.meter().conflict();
        }
    }

    /// A connection of this pool turned out to be lost.
    fn distrust_idle(&self) {
        self.queue().distrust_idle();
    }

    /// Opens `min_connections` and waits for them, for as long as `pool_timeout`.
    pub(crate) async fn warm_up(self: &Arc<Pool>) -> Result<(), Error> {
        let started = Instant::now();
        self.open_more();
        loop {
            let changed = self.changed.notified();
            {
                let queue = self.queue();
                if queue.open() >= queue.limits.floor || queue.closed {
                    return Ok(());
                }
                if let Some(failing) = queue.failing.as_ref().filter(|f| f.since >= started) {
                    return Err(Error::Connect(failing.error.clone()));
                }
            }
            let left = self.timeout().saturating_sub(started.elapsed());
            if tokio::time::timeout(left, changed).await.is_err() {
                return Err(self.explain(started));
            }
        }
    }

    /// From here on there are up to `keep` connections, and up to `most` under load.
    pub(crate) fn resize(self: &Arc<Pool>, keep: usize, most: usize) {
        if self.slot.is_some() {
            return;
        }
        let excess = {
            let mut queue = self.queue();
            let floor = self.connector.to.config.min_connections as usize;
            queue.limits = Limits { floor: floor.min(keep), keep, most };
            queue.take_excess()
        };
        excess.into_iter().for_each(Open::close);
        self.open_more();
        self.changed.notify_waiters();
    }

    /// Closes what idles, and what is being opened when it comes.
    fn evict(&self) {
        let idle = {
            let mut queue = self.queue();
            queue.epoch += 1;
            queue.take_idle_if(|_| true)
        };
        idle.into_iter().for_each(Open::close);
        self.changed.notify_waiters();
    }

    /// Whether it has a connection, or soon will.
    fn has_any(&self) -> bool {
        let queue = self.queue();
        queue.open() + queue.opening > 0
    }

    /// Closes what idles and lends nothing more; what is lent closes when it comes back.
    pub(crate) fn close(&self) {
        let waiting = {
            let mut queue = self.queue();
            queue.closed = true;
            queue.everybody()
        };
        // They are told by it.
        drop(waiting);
        self.evict();
    }

    /// Closes, waits until what is lent has come back, and after `limit` cuts off what has not.
    pub(crate) async fn drain(&self, limit: Duration) -> Result<(), Error> {
        self.close();
        let started = Instant::now();
        if self.all_closed_within(limit).await {
            return Ok(());
        }
        let waited = started.elapsed();
        let (cut, mut longest) = {
            let queue = self.queue();
            (queue.cut_all(), queue.holders(Instant::now()))
        };
        longest.truncate(3);
        self.all_closed_within(CUT_MAY_TAKE).await;
        Err(Error::CutOff(CutOff { database: self.name(), waited, cut, longest }))
    }

    async fn all_closed_within(&self, limit: Duration) -> bool {
        let all_closed = async {
            loop {
                let changed = self.changed.notified();
                if self.queue().open() == 0 {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(limit, all_closed).await.is_ok()
    }

    pub(crate) fn stats(&self) -> PoolStats {
        self.queue().stats()
    }
}

enum Turn {
    Now(Lent),
    Wait(Ticket),
}

/// A place in the line. Dropping it leaves the line; a connection that had come for it goes back.
struct Ticket {
    pool: Arc<Pool>,
    number: u64,
    answer: oneshot::Receiver<Answer>,
}

impl Ticket {
    /// Nothing if the caller has to line up anew.
    async fn wait(
        mut self,
        started: Instant,
        deadline: Option<Instant>,
    ) -> Result<Option<Lent>, Error> {
        let answer = match deadline {
            Some(at) => tokio::time::timeout_at(at.into(), &mut self.answer).await,
            None => Ok((&mut self.answer).await),
        };
        match answer {
            Ok(Ok(Answer::Lent(lent))) => Ok(Some(lent)),
            Ok(Ok(Answer::Failed(error))) => Err(Error::Connect(error)),
            Ok(Ok(Answer::Again)) => Ok(None),
            Ok(Err(_)) => Err(Error::Closed { database: self.pool.name() }),
            Err(_) => Err(self.pool.explain(started)),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.pool.queue().leave(self.number);
    }
}
