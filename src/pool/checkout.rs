//! Who has a connection, since when, and the means to take it from them when the pool closes.

use std::{
    future::poll_fn,
    panic::Location,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    task::Poll,
    time::{Duration, Instant},
};

use futures_util::task::AtomicWaker;

use crate::stats::Holder;

/// What a connection is lent for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// A sign of life: asked of a server that is known to be down, it is told so, not made to wait.
    Ping,
    /// One statement: comes back by itself, soon.
    Statement,
    /// A stream or a session: comes back when the caller lets go of it.
    Hold(&'static str, Option<&'static Location<'static>>),
    /// What a dropped future left behind is being put right.
    CleanUp,
}

impl Purpose {
    /// Where in the caller's code it is held, where that is known.
    pub(super) fn opened_at(self) -> Option<&'static Location<'static>> {
        match self {
            Purpose::Hold(_, opened_at) => opened_at,
            _ => None,
        }
    }
}

/// One connection that is lent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Checkout {
    purpose: Purpose,
    since: Instant,
    /// Whether the log has said that it takes long.
    told: bool,
}

impl Checkout {
    pub(super) fn new(purpose: Purpose, since: Instant) -> Checkout {
        Checkout { purpose, since, told: false }
    }

    pub(super) fn holder(&self, now: Instant) -> Holder {
        let (what, opened_at) = match self.purpose {
            Purpose::Ping => ("a ping", None),
            Purpose::Statement => ("a statement", None),
            Purpose::Hold(what, opened_at) => (what, opened_at),
            Purpose::CleanUp => ("the clean-up after a dropped future", None),
        };
        Holder { what, opened_at, held: now.saturating_duration_since(self.since) }
    }

    /// The holder, once, when it has held for longer than `threshold`.
    pub(super) fn overdue(&mut self, threshold: Duration, now: Instant) -> Option<Holder> {
        let overdue = !self.told && now.saturating_duration_since(self.since) >= threshold;
        self.told |= overdue;
        overdue.then(|| self.holder(now))
    }
}

/// Ends the wait for an answer from outside the task that waits for it.
#[derive(Default)]
pub(super) struct Cut {
    cut: AtomicBool,
    waiting: AtomicWaker,
}

impl Cut {
    pub(super) fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        self.waiting.wake();
    }

    pub(super) fn is_cut(&self) -> bool {
        self.cut.load(Ordering::Acquire)
    }

    /// What `work` gives, or `None` if it is cut off before.
    pub(super) async fn unless_cut<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        poll_fn(|context| {
            if let Poll::Ready(value) = work.as_mut().poll(context) {
                return Poll::Ready(Some(value));
            }
            self.waiting.register(context.waker());
            if self.is_cut() { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }
}
