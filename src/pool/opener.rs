//! Opens connections, on tasks of their own.
//!
//! Not on the task of who waits for one: a caller that gives up would throw a half-open connection
//! away, and callers who are less patient than the server is quick would never get any. It also
//! leaves one place to decide how hard a server that is down is knocked at: by one task, at growing
//! distances, however many wait.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use super::{
    Pool,
    connector::Open,
    queue::{Answer, Failing, Place},
};
use crate::error::{ConnectError, ConnectErrorKind};

/// The first distance between two attempts; each further one is twice as long, up to the longest.
/// Each is shortened by up to a half at random, so that the processes of a service do not knock
/// in step.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

impl Pool {
    /// Opens what is wanted; to be called without the lock whenever more may be.
    pub(super) fn open_more(self: &Arc<Pool>) {
        let (runtime, more, epoch) = {
            let mut queue = self.queue();
            let Some(runtime) = queue.runtime() else { return };
            let more = queue.to_open();
            queue.opening += more;
            (runtime, more, queue.epoch)
        };
        for _ in 0..more {
            runtime.spawn(Opening { pool: Arc::downgrade(self), epoch, ended: false }.run());
        }
    }

    /// Whether to try again.
    fn opened(self: &Arc<Pool>, opened: Result<Open, ConnectError>, epoch: u64) -> bool {
        match opened {
            Ok(open) => {
                self.take_in(open, epoch);
                false
            }
            Err(error) => self.not_opened(error),
        }
    }

    fn take_in(self: &Arc<Pool>, mut open: Open, epoch: u64) {
        self.connector.host.note_reached();
        let (place, recovered) = {
            let mut queue = self.queue();
            queue.opening -= 1;
            let recovered = queue.failing.take();
            if queue.epoch == epoch {
                queue.seat(&mut open);
                (queue.place(open, Instant::now()), recovered)
            } else {
                (Place::Nowhere(open), recovered)
            }
        };
        if let Some(Failing { attempts, since, .. }) = recovered {
            let after = since.elapsed();
            tracing::info!(database = %self.name(), attempts, ?after, "the server accepts connections again");
        }
        self.settle(place);
        self.keep_house();
        // One that was taken by whoever probes for all makes room for the others.
        self.open_more();
        self.changed.notify_waiters();
    }

    fn not_opened(self: &Arc<Pool>, error: ConnectError) -> bool {
        let now = Instant::now();
        let reached = self.connector.host.was_reached();
        let (told, goes_on, waited_for) = {
            let mut queue = self.queue();
            let (attempts, since) = match &queue.failing {
                Some(Failing { attempts, since, .. }) => (attempts + 1, *since),
                None => (1, now),
            };
            let next_attempt = now + pause(attempts, LONGEST_PAUSE);
            queue.failing = Some(Failing { error: error.clone(), attempts, since, next_attempt });
            // Connections that are in use will come back to whoever waits.
            let passes = !self.connector.to.is_standby && may_pass(error.kind, reached);
            let all = queue.open() == 0 && !passes;
            let told = queue.take_waiters_to_fail(all);
            let below_floor = reached && queue.open() + queue.opening <= queue.limits.floor;
            let needed = !queue.closed && (queue.anybody_waits() || below_floor);
            let goes_on = needed && queue.opening == 1;
            queue.opening -= usize::from(!goes_on);
            (told, goes_on, attempts == 1 && needed)
        };
        self.sample();
        if waited_for {
            tracing::warn!(%error, "could not connect; retrying until it succeeds");
        }
        for waiter in told {
            let _ = waiter.tell.send(Answer::Failed(error.clone()));
        }
        self.changed.notify_waiters();
        goes_on
    }
}

/// Whether it is worth waiting for this to pass. What keeps a server from being reached that has
/// been reached before is an outage; where it never was, it is likelier to be a mistake in the file,
/// which is told at once.
fn may_pass(kind: ConnectErrorKind, reached: bool) -> bool {
    use ConnectErrorKind::{
        NoPrimary, NotReady, SplitBrain, Timeout, TooManyConnections, Unreachable,
    };
    match kind {
        NotReady | TooManyConnections => true,
        Unreachable | Timeout | NoPrimary | SplitBrain => reached,
        _ => false,
    }
}

/// How long to wait after so many attempts in a row that failed.
pub(crate) fn pause(attempts: u32, longest: Duration) -> Duration {
    let doubled = FIRST_PAUSE * 2u32.pow(attempts.min(10).saturating_sub(1));
    longest.min(doubled).mul_f64(1.0 - fastrand::f64() / 2.0)
}

/// One connection on its way.
struct Opening {
    pool: Weak<Pool>,
    /// That of the pool when the connection was asked for.
    epoch: u64,
    ended: bool,
}

impl Opening {
    async fn run(mut self) {
        loop {
            let Some(pause) = self.pause() else { return };
            tokio::time::sleep(pause).await;
            let Some(pool) = self.pool.upgrade() else { return };
            let opened = pool.connector.open().await;
            let unreached = opened.as_ref().is_err_and(|error| error.kind.is_unreached());
            if unreached {
                pool.connector.host.locate_again().await;
            }
            if !pool.opened(opened, self.epoch) {
                self.ended = true;
                return;
            }
            self.epoch = pool.queue().epoch;
        }
    }

    /// How long to wait before the next attempt.
    fn pause(&self) -> Option<Duration> {
        let pool = self.pool.upgrade()?;
        let queue = pool.queue();
        let next = queue.failing.as_ref().map(|failing| failing.next_attempt);
        Some(next.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now())))
    }
}

impl Drop for Opening {
    /// Where its runtime has ended before it, whoever waits for it has to see to another: one that
    /// was spawned from here might meet the same end.
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let Some(pool) = self.pool.upgrade() else { return };
        let waiting = {
            let mut queue = pool.queue();
            queue.opening -= 1;
            queue.everybody()
        };
        // All, because the first of them may end with the same runtime.
        for (_, waiter) in waiting {
            let _ = waiter.tell.send(Answer::Again);
        }
    }
}
