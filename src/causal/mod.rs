//! What was written, so that a read of it sees it on whichever server it runs.
//!
//! A write is known by a position in the WAL. A COMMIT tells its own. A single statement tells none; what it wrote lies before
//! the position that the primary has whenever it is asked afterwards.

mod token;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use tokio::sync::Notify;

pub(crate) use token::Position;
pub use token::{CausalToken, InvalidToken};

tokio::task_local! {
    static SCOPE: Arc<Scope>;
}

/// Runs `work`, in which [`Pg::read`](crate::Pg::read) sees what `work` itself has written, and needs not see what other tasks
/// have. For one request of a service: a process that writes all the time would else read from its primary most of the time.
///
/// Without it, a read sees what the whole process has written through the same [`Pg`](crate::Pg), its clones and its views.
/// That holds for a task that `work` spawns, too, because a spawned task does not inherit the scope. A scope inside another one
/// is that other one.
///
/// ```no_run
/// # async fn doc(pg: wharf::Pg) -> Result<(), wharf::Error> {
/// use sea_orm::ConnectionTrait;
/// wharf::causal(async {
///     pg.execute_unprepared("INSERT INTO visit DEFAULT VALUES").await?;
///     let read = pg.read();                  // sees the visit
///     Ok(())
/// })
/// .await
/// # }
/// ```
///
/// Costs an allocation. Dropping the future ends the scope.
pub async fn causal<T>(work: impl Future<Output = T>) -> T {
    match SCOPE.try_with(|_| ()) {
        Ok(()) => work.await,
        Err(_) => SCOPE.scope(Arc::default(), work).await,
    }
}

/// What one scope has written, by database.
#[derive(Default)]
struct Scope(Mutex<Vec<(u64, Known)>>);

/// What a process has written to one database.
pub(crate) struct Written {
    id: u64,
    known: Mutex<Known>,
    wrote: Notify,
}

/// What is known of some writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// They lie before it, but for those that `pending` is about.
    pub(crate) position: Option<Position>,
    /// When the last of the writes whose position is not known ended.
    pub(crate) pending: Option<Instant>,
}

impl Known {
    pub(crate) fn merge(self, other: Known) -> Known {
        let position = match (self.position, other.position) {
            (Some(a), Some(b)) => Some(a.merge(b)),
            (a, b) => a.or(b),
        };
        Known { position, pending: self.pending.max(other.pending) }
    }

    /// Sets the position of what was pending, which `sample` is beyond if the primary was asked for it after that.
    fn settle(&mut self, sample: Position, asked_at: Instant) {
        if self.pending.is_some_and(|pending| pending < asked_at) {
            let position = self.position.map_or(sample, |position| position.merge(sample));
            *self = Known { position: Some(position), pending: None };
        }
    }
}

impl Default for Written {
    fn default() -> Written {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Written {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            known: Mutex::default(),
            wrote: Notify::new(),
        }
    }
}

impl Written {
    /// Notes a write at `position`.
    pub(crate) fn note(&self, position: Position) {
        self.add(Known { position: Some(position), pending: None });
    }

    /// Notes that a write ended now, whose position is not known.
    pub(crate) fn note_pending(&self) {
        self.add(Known { position: None, pending: Some(Instant::now()) });
        self.wrote.notify_one();
    }

    /// Waits for a write whose position is not known.
    pub(crate) async fn pending(&self) {
        self.wrote.notified().await;
    }

    fn add(&self, more: Known) {
        let mut known = self.known();
        *known = known.merge(more);
        drop(known);
        let _ = SCOPE.try_with(|scope| scope.change(self.id, |known| *known = known.merge(more)));
    }

    /// Returns what a read here and now has to see: what the scope has written, or without one, what the process has.
    pub(crate) fn required(&self) -> Known {
        match SCOPE.try_with(|scope| scope.get(self.id)) {
            Ok(known) => known,
            Err(_) => *self.known(),
        }
    }

    /// The same, after the primary was at `sample`, for which it was asked at `asked_at`.
    pub(crate) fn required_after(&self, sample: Position, asked_at: Instant) -> Known {
        let settle = |known: &mut Known| {
            known.settle(sample, asked_at);
            *known
        };
        match SCOPE.try_with(|scope| scope.change(self.id, settle)) {
            Ok(known) => known,
            Err(_) => settle(&mut self.known()),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scope {
    fn get(&self, id: u64) -> Known {
        let written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        written.iter().find(|(of, _)| *of == id).map(|(_, known)| *known).unwrap_or_default()
    }

    fn change<T>(&self, id: u64, change: impl FnOnce(&mut Known) -> T) -> T {
        let mut written = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match written.iter().position(|(of, _)| *of == id) {
            Some(at) => change(&mut written[at].1),
            None => {
                let mut known = Known::default();
                let changed = change(&mut known);
                if known != Known::default() {
                    written.push((id, known));
                }
                changed
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(lsn: u64) -> Position {
        Position { timeline: 1, lsn }
    }

    #[tokio::test]
    async fn a_scope_has_its_own_writes_only_and_the_process_has_all() {
        let written = Arc::new(Written::default());
        written.note(at(5));
        causal(async {
            assert_eq!(written.required(), Known::default());
            written.note(at(7));
            // One inside is the same one.
            causal(async { written.note(at(9)) }).await;
            assert_eq!(written.required().position, Some(at(9)));
            Written::default().note(at(100));
            assert_eq!(written.required().position, Some(at(9)));
            let elsewhere = Arc::clone(&written);
            tokio::spawn(async move { elsewhere.note(at(11)) }).await.unwrap();
            assert_eq!(written.required().position, Some(at(9)));
        })
        .await;
        assert_eq!(written.required().position, Some(at(11)));
    }

    #[test]
    fn what_is_pending_is_bounded_by_a_sample_that_was_asked_for_after_it() {
        let written = Written::default();
        written.note(at(5));
        let before = Instant::now();
        written.note_pending();
        let known = written.required_after(at(50), before);
        assert!(known.pending.is_some() && known.position == Some(at(5)), "{known:?}");
        let after = Instant::now() + Duration::from_millis(1);
        let known = written.required_after(at(60), after);
        assert_eq!(known, Known { position: Some(at(60)), pending: None });
        // A later sample does not move it.
        assert_eq!(written.required_after(at(70), after), known);
    }
}
