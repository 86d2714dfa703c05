//! Looks after a pool while it has connections: closes those that nobody needs, opens those that
//! there should be, and says who holds one for too long.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use super::{Pool, connector::Open};

const LOOK_EVERY: Duration = Duration::from_secs(1);

impl Pool {
    /// One background task a pool, gone when the pool is or has no connection.
    pub(super) fn keep_house(self: &Arc<Pool>) {
        let is_kept = std::mem::replace(&mut self.queue().has_housekeeper, true);
        if !is_kept {
            tokio::spawn(Housekeeper { pool: Arc::downgrade(self), ended: false }.work());
        }
    }

    /// Whether there is something to look after.
    fn look_after(self: &Arc<Pool>) -> bool {
        let now = Instant::now();
        let threshold = self.connector.to.config.leak_detection_threshold;
        let (needless, overdue, goes_on) = {
            let mut queue = self.queue();
            let overdue = threshold.map(|threshold| queue.overdue(threshold, now));
            let needless = queue.take_needless(now);
            // Under the lock under which a connection gets its seat, so that none is without a housekeeper.
            queue.has_housekeeper = queue.open() > 0;
            (needless, overdue.unwrap_or_default(), queue.has_housekeeper)
        };
        if !needless.is_empty() {
            needless.into_iter().for_each(Open::close);
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
        goes_on
    }
}

struct Housekeeper {
    pool: Weak<Pool>,
    ended: bool,
}

impl Housekeeper {
    async fn work(mut self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Some(pool) = self.pool.upgrade() else { return };
            if !pool.look_after() {
                self.ended = true;
                return;
            }
        }
    }
}

impl Drop for Housekeeper {
    /// The runtime ends before the pool does: the next connection that is opened has another come.
    fn drop(&mut self) {
        if let (false, Some(pool)) = (self.ended, self.pool.upgrade()) {
            pool.queue().has_housekeeper = false;
        }
    }
}
