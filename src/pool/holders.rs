//! Who has a connection for longer than a statement, for the error of those who wait for one.

use std::{
    collections::BTreeMap,
    fmt,
    panic::Location,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::Purpose;

/// A session or a stream that has a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// What it is: a session, a stream.
    pub what: &'static str,
    /// Where in the caller's code it was opened, as far as that is known: SeaORM's `begin()` does
    /// not tell.
    pub opened_at: Option<&'static Location<'static>>,
    /// For how long it has had the connection.
    pub held: Duration,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, opened_at, held } = self;
        match opened_at {
            Some(place) => write!(f, "{what} opened at {place} has had one for {held:.0?}"),
            None => write!(f, "{what} has had one for {held:.0?}"),
        }
    }
}

type Held = (&'static str, Option<&'static Location<'static>>, Instant);

/// Those of one pool, oldest first.
#[derive(Clone, Default)]
pub(super) struct Holders {
    held: Arc<Mutex<(u64, BTreeMap<u64, Held>)>>,
}

impl Holders {
    fn held(&self) -> MutexGuard<'_, (u64, BTreeMap<u64, Held>)> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a holder until the entry is dropped. A statement is none: it ends by itself.
    pub(super) fn enter(&self, purpose: Purpose) -> Option<Entry> {
        let Purpose::Hold(what, opened_at) = purpose else { return None };
        let (next, held) = &mut *self.held();
        *next += 1;
        held.insert(*next, (what, opened_at, Instant::now()));
        Some(Entry { holders: self.clone(), number: *next })
    }

    /// Those that have held longest.
    pub(super) fn longest(&self, most: usize) -> Vec<Holder> {
        let (_, held) = &*self.held();
        let holder =
            |&(what, opened_at, since): &Held| Holder { what, opened_at, held: since.elapsed() };
        held.values().take(most).map(holder).collect()
    }
}

pub(super) struct Entry {
    holders: Holders,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.holders.held().1.remove(&self.number);
    }
}
