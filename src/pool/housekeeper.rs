//! Looks after a pool while it has connections: closes those that nobody needs, opens those that
//! there should be, and says who holds one for too long.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::{Duration, Instant},
};

use super::Pool;

const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Pool {
    /// One background task a pool, gone when the pool is or has no connection.
    pub(super) fn keep_house(self: &Arc<Pool>) {
        if !self.housekeeping.swap(true, Ordering::AcqRel) {
            tokio::spawn(Housekeeper { pool: Arc::downgrade(self) }.work());
        }
    }

    /// Whether there is something to look after.
    fn look_after(self: &Arc<Pool>) -> bool {
        let now = Instant::now();
        let threshold = self.connector.to.config.leak_detection_threshold;
        let (needless, overdue, open) = {
            let mut queue = self.queue();
            let overdue = threshold.map(|threshold| queue.overdue(threshold, now));
            (queue.take_needless(now), overdue.unwrap_or_default(), queue.open())
        };
        if !needless.is_empty() {
            drop(needless);
            self.changed.notify_waiters();
        }
        self.open_more();
        self.sample();
        for holder in overdue {
            tracing::warn!(
                database = %self.name(),
                held = ?holder.held,
                opened_at = holder.opened_at.map(tracing::field::display),
                "{holder}, longer than leak_detection_threshold; commit, roll back or drop it sooner",
            );
        }
        open > 0
    }
}

struct Housekeeper {
    pool: Weak<Pool>,
}

impl Housekeeper {
    async fn work(self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Some(pool) = self.pool.upgrade() else { return };
            if !pool.look_after() {
                return;
            }
        }
    }
}

impl Drop for Housekeeper {
    /// Also where the runtime ends before the pool does: the next connection has another come.
    fn drop(&mut self) {
        if let Some(pool) = self.pool.upgrade() {
            pool.housekeeping.store(false, Ordering::Release);
        }
    }
}
