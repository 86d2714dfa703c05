//! Which connections a pool has, who has them, and who waits for one.
//!
//! Nothing in here waits or talks to a server: it is what the pool's lock guards.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use slab::Slab;
use tokio::{runtime::Handle, sync::oneshot};

use super::{
    Lent, Purpose,
    checkout::{Checkout, Cut},
    connector::Open,
};
use crate::{
    error::ConnectError,
    monitor::Sample,
    stats::{Holder, PoolStats},
};

/// How long a connection beyond `pool_size` may idle. Closing it at once would open another a
/// moment later, a process of the server's each time, while more than `pool_size` are at work.
const OVERFLOW_MAY_IDLE: Duration = Duration::from_secs(5);

/// Most connects under way at once. A burst is mostly over before as many connections are open as
/// there are callers in it, and a server that has just come back has others to let in as well.
const MOST_OPENING: usize = 4;

pub(super) struct Queue {
    pub(super) limits: Limits,
    /// For how long after an answer a connection is lent without a ping; none where nobody is pinged.
    trusted_for: Option<Duration>,
    /// Those that nobody uses. The one that came back last is lent first: its caches are warm, and
    /// those that load no longer needs grow old undisturbed.
    idle: Vec<Open>,
    /// One for each open connection.
    seats: Slab<Seat>,
    /// Connects under way.
    pub(super) opening: usize,
    /// In the order in which they came.
    waiting: BTreeMap<u64, Waiter>,
    arrivals: u64,
    /// Why connecting failed last, unless it has gone well since.
    pub(super) failing: Option<Failing>,
    /// When a connection was found lost: those that were used last before it are to be asked.
    suspect: Option<Instant>,
    /// A connection was found lost, and none was opened since.
    is_outage: bool,
    /// When a prepared statement was found stale: others of that time may be, too.
    stale: Option<Instant>,
    /// Raised to have what is being opened thrown away when it comes.
    pub(super) epoch: u64,
    pub(super) closed: bool,
    /// A task looks after the pool.
    pub(super) has_housekeeper: bool,
}

#[derive(Clone, Copy)]
pub(super) struct Limits {
    /// Opened ahead.
    pub(super) floor: usize,
    /// Kept when they idle: `pool_size`.
    pub(super) keep: usize,
    /// `pool_size` and `max_overflow`.
    pub(super) most: usize,
}

struct Seat {
    cut: Arc<Cut>,
    checkout: Option<Checkout>,
}

pub(super) struct Waiter {
    purpose: Purpose,
    pub(super) tell: oneshot::Sender<Answer>,
    /// Where a connection for it is opened: its own, which lives at least as long as it waits.
    runtime: Handle,
}

pub(super) enum Answer {
    Lent(Lent),
    Failed(ConnectError),
    /// The runtime on which a connection was being opened has ended.
    Again,
}

pub(super) struct Failing {
    pub(super) error: ConnectError,
    pub(super) attempts: u32,
    pub(super) since: Instant,
    pub(super) next_attempt: Instant,
}

/// What has to be seen to before an idle connection is used.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Check {
    pub(super) ping: bool,
    pub(super) forget_statements: bool,
}

/// What becomes of a connection that is there for somebody.
pub(super) enum Place {
    Idle,
    For(Waiter, Open, Check),
    /// It is to be closed.
    Nowhere(Open),
}

impl Queue {
    pub(super) fn new(limits: Limits, trusted_for: Option<Duration>) -> Queue {
        Queue {
            limits,
            trusted_for,
            idle: Vec::new(),
            seats: Slab::new(),
            opening: 0,
            waiting: BTreeMap::new(),
            arrivals: 0,
            failing: None,
            suspect: None,
            is_outage: false,
            stale: None,
            epoch: 0,
            closed: false,
            has_housekeeper: false,
        }
    }

    pub(super) fn open(&self) -> usize {
        self.seats.len()
    }

    /// The idle connection to lend first, with what to see to before. Those that are past their time
    /// are moved to `past`.
    pub(super) fn take_idle(
        &mut self,
        purpose: Purpose,
        now: Instant,
        past: &mut Vec<Open>,
    ) -> Option<(Open, Check)> {
        let mut open = loop {
            let open = self.idle.pop()?;
            if !open.is_past(now) {
                break open;
            }
            self.remove(&open);
            past.push(open);
        };
        self.enter(&mut open, purpose, now);
        let check = self.check(&open, now);
        Some((open, check))
    }

    fn check(&self, open: &Open, now: Instant) -> Check {
        let silent = now.saturating_duration_since(open.heard_at);
        let ping = self.trusted_for.is_some_and(|trusted| silent > trusted)
            || self.suspect.is_some_and(|at| open.heard_at <= at);
        let forget_statements = self.stale.is_some_and(|at| open.prepares_since <= at);
        Check { ping, forget_statements }
    }

    fn enter(&mut self, open: &mut Open, purpose: Purpose, now: Instant) {
        open.opened_at = purpose.opened_at();
        if let Some(seat) = self.seats.get_mut(open.seat) {
            seat.checkout = Some(Checkout::new(purpose, now));
        }
    }

    /// `open` is used for something else from here on.
    pub(super) fn enter_anew(&mut self, open: &mut Open, purpose: Purpose) {
        self.enter(open, purpose, Instant::now());
    }

    /// Puts the caller at the end of the line.
    pub(super) fn wait(
        &mut self,
        purpose: Purpose,
        runtime: Handle,
    ) -> (u64, oneshot::Receiver<Answer>) {
        let (tell, answer) = oneshot::channel();
        self.arrivals += 1;
        self.waiting.insert(self.arrivals, Waiter { purpose, tell, runtime });
        (self.arrivals, answer)
    }

    pub(super) fn leave(&mut self, number: u64) {
        self.waiting.remove(&number);
    }

    pub(super) fn next_waiter(&mut self) -> Option<Waiter> {
        self.waiting.pop_first().map(|(_, waiter)| waiter)
    }

    /// Where the next connection is to be opened.
    pub(super) fn runtime(&self) -> Option<Handle> {
        let first = self.waiting.values().next();
        first.map(|waiter| waiter.runtime.clone()).or_else(|| Handle::try_current().ok())
    }

    /// Those who are told of a failed attempt to connect: all, or those whom it is no use to keep.
    pub(super) fn take_waiters_to_fail(&mut self, all: bool) -> Vec<Waiter> {
        let told = |_: &u64, waiter: &mut Waiter| all || matches!(waiter.purpose, Purpose::Ping);
        self.waiting.extract_if(.., told).map(|(_, waiter)| waiter).collect()
    }

    pub(super) fn everybody(&mut self) -> BTreeMap<u64, Waiter> {
        std::mem::take(&mut self.waiting)
    }

    pub(super) fn anybody_waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// How many more connections are to be opened now.
    pub(super) fn to_open(&self) -> usize {
        if self.closed {
            return 0;
        }
        let coming = self.open() + self.opening;
        let room = self.limits.most.saturating_sub(coming);
        let wanted = self.waiting.len().saturating_sub(self.opening);
        let more = room.min(wanted.max(self.limits.floor.saturating_sub(coming)));
        // While the server takes none, or may be gone, one at a time asks it.
        let at_once = if self.failing.is_some() || self.is_outage { 1 } else { MOST_OPENING };
        more.min(at_once.saturating_sub(self.opening))
    }

    /// A new connection gets its seat.
    pub(super) fn seat(&mut self, open: &mut Open) {
        self.is_outage = false;
        open.seat = self.seats.insert(Seat { cut: Arc::clone(&open.cut), checkout: None });
    }

    /// Finds out who gets `open`, which has a seat and is clean.
    pub(super) fn place(&mut self, mut open: Open, now: Instant) -> Place {
        if self.closed || self.open() > self.limits.most || open.is_past(now) {
            return Place::Nowhere(open);
        }
        match self.next_waiter() {
            Some(waiter) => {
                self.enter(&mut open, waiter.purpose, now);
                let check = self.check(&open, now);
                Place::For(waiter, open, check)
            }
            None => {
                if let Some(seat) = self.seats.get_mut(open.seat) {
                    seat.checkout = None;
                }
                self.idle.push(open);
                Place::Idle
            }
        }
    }

    /// `open` is about to be closed.
    pub(super) fn remove(&mut self, open: &Open) {
        self.seats.try_remove(open.seat);
    }

    /// A connection was lost: the idle ones may be, too.
    pub(super) fn distrust_idle(&mut self) {
        self.suspect = Some(Instant::now());
        self.is_outage = true;
    }

    /// A prepared statement was stale: those of other connections may be, too.
    pub(super) fn distrust_statements(&mut self) {
        self.stale = Some(Instant::now());
    }

    /// Takes the idle ones out for which `closes` holds, the longest idle first.
    pub(super) fn take_idle_if(&mut self, closes: impl FnMut(&mut Open) -> bool) -> Vec<Open> {
        let taken: Vec<_> = self.idle.extract_if(.., closes).collect();
        for open in &taken {
            self.seats.try_remove(open.seat);
        }
        taken
    }

    /// Takes out the idle ones that nobody needs any more.
    pub(super) fn take_needless(&mut self, now: Instant) -> Vec<Open> {
        let mut overflow = self.open().saturating_sub(self.limits.keep);
        self.take_idle_if(|open| {
            let idle = now.saturating_duration_since(open.last_used);
            let closes = open.is_past(now) || (overflow > 0 && idle >= OVERFLOW_MAY_IDLE);
            overflow -= usize::from(closes && overflow > 0);
            closes
        })
    }

    /// Takes out idle ones until there are no more than there may be.
    pub(super) fn take_excess(&mut self) -> Vec<Open> {
        let mut excess = self.open().saturating_sub(self.limits.most);
        self.take_idle_if(|_| {
            let closes = excess > 0;
            excess -= usize::from(closes);
            closes
        })
    }

    pub(super) fn holders(&self, now: Instant) -> Vec<Holder> {
        let lent = self.seats.iter().filter_map(|(_, seat)| seat.checkout.as_ref());
        let mut holders: Vec<_> = lent.map(|checkout| checkout.holder(now)).collect();
        holders.sort_by_key(|holder| std::cmp::Reverse(holder.held));
        holders
    }

    /// Those that have held for longer than `threshold`, each of them once.
    pub(super) fn overdue(&mut self, threshold: Duration, now: Instant) -> Vec<Holder> {
        let lent = self.seats.iter_mut().filter_map(|(_, seat)| seat.checkout.as_mut());
        lent.filter_map(|checkout| checkout.overdue(threshold, now)).collect()
    }

    pub(super) fn cut_all(&self) -> usize {
        self.seats.iter().for_each(|(_, seat)| seat.cut.cut());
        self.seats.len()
    }

    pub(super) fn sample(&self) -> Sample {
        Sample {
            idle: self.idle.len(),
            used: self.open() - self.idle.len(),
            max: self.limits.most,
            idle_max: self.limits.keep,
            idle_min: self.limits.floor,
            pending: self.waiting.len(),
        }
    }

    pub(super) fn stats(&self) -> PoolStats {
        PoolStats {
            max: self.limits.most,
            open: self.open(),
            idle: self.idle.len(),
            in_use: self.open() - self.idle.len(),
            opening: self.opening,
            waiting: self.waiting.len(),
        }
    }
}
