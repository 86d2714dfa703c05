//! Connections beyond `pool_size`: kept while load needs them, closed when it does not.
//!
//! Closing one whenever it comes back would open another a moment later, a process of the
//! server's each time, for as long as more than `pool_size` callers are at work. So they stay
//! until they have idled for a while. The connection that came back last is lent first, which
//! leaves the idling to those that are one too many.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use deadpool::managed::{Pool, WeakPool};

use super::Connector;

/// How long a connection beyond `pool_size` may idle.
const MAY_IDLE: Duration = Duration::from_secs(5);

/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Closes what idles beyond `keep` connections; costs nothing while there are no more than that.
#[derive(Clone)]
pub(super) struct Overflow {
    keep: usize,
    watched: Arc<AtomicBool>,
}

impl Overflow {
    pub(super) fn new(keep: usize) -> Overflow {
        Overflow { keep, watched: Arc::default() }
    }

    /// To be called when a connection has been opened.
    pub(super) fn watch(&self, pool: &Pool<Connector>) {
        if pool.status().size > self.keep && !self.watched.swap(true, Ordering::AcqRel) {
            let watch = Watch { overflow: self.clone(), pool: pool.weak() };
            tokio::spawn(watch.until_none_is_left());
        }
    }
}

/// One background task a pool at the most, gone when the overflow or the pool is.
struct Watch {
    overflow: Overflow,
    pool: WeakPool<Connector>,
}

impl Watch {
    async fn until_none_is_left(self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Some(pool) = self.pool.upgrade() else { return };
            let mut excess = pool.status().size.saturating_sub(self.overflow.keep);
            if excess == 0 {
                // One that is opened right now may still see a watch: so look again without it.
                self.overflow.watched.store(false, Ordering::Release);
                if pool.status().size <= self.overflow.keep {
                    return;
                }
                continue;
            }
            pool.retain(|open, _| {
                let stays = excess == 0 || open.last_used.elapsed() < MAY_IDLE;
                excess -= usize::from(!stays);
                stays
            });
        }
    }
}

impl Drop for Watch {
    /// Also where the runtime ends before the overflow does: the next one starts a watch anew.
    fn drop(&mut self) {
        self.overflow.watched.store(false, Ordering::Release);
    }
}
