//! The kinds of statements of one database, and how many of them there may be.

use std::{
    collections::HashMap,
    hash::BuildHasherDefault,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    Digest, Evicted, Fingerprint, Plan, StatementEvent,
    figures::Figures,
    meter::{Meter, Meters, Target},
};
use crate::statement::AsIs;

/// What part of a full table makes room for others at a time: those on which the least time was spent.
const EVICTED: usize = 10;

pub(super) struct Table {
    most: usize,
    entries: HashMap<Fingerprint, Arc<Entry>, BuildHasherDefault<AsIs>>,
    meters: Meters,
    evicted: Evicted,
}

/// One kind of statement.
pub(crate) struct Entry {
    digest: Digest,
    meter: Arc<Meter>,
    /// The table has it.
    listed: AtomicBool,
    figures: Mutex<Figures>,
    plan: Mutex<Option<Arc<Plan>>>,
}

impl Table {
    pub(super) fn new(most: usize) -> Table {
        Table {
            most,
            entries: HashMap::default(),
            meters: Meters::default(),
            evicted: Evicted::default(),
        }
    }

    pub(super) fn get(&self, fingerprint: Fingerprint) -> Option<Arc<Entry>> {
        self.entries.get(&fingerprint).cloned()
    }

    pub(super) fn meter(&mut self, digest: &Digest, target: Option<&Target>) -> Arc<Meter> {
        self.meters.get(digest, target)
    }

    pub(super) fn insert(&mut self, entry: Arc<Entry>) {
        if self.entries.len() >= self.most {
            self.evict();
        }
        entry.listed.store(true, Ordering::Release);
        self.entries.insert(entry.digest.fingerprint(), entry);
    }

    /// One that made room while a statement of its kind was running, and has turned out to matter.
    pub(super) fn insert_again(&mut self, entry: &Arc<Entry>) {
        if !self.entries.contains_key(&entry.digest.fingerprint()) {
            self.insert(Arc::clone(entry));
        }
    }

    fn evict(&mut self) {
        let spent = |entry: &Arc<Entry>| entry.figures().total;
        let mut totals: Vec<Duration> = self.entries.values().map(spent).collect();
        let last = (self.most / EVICTED).min(totals.len().saturating_sub(1));
        let (_, limit, _) = totals.select_nth_unstable(last);
        let limit = *limit;
        let mut room = last.max(1);
        let evicted = self.entries.extract_if(|_, entry| {
            let goes = room > 0 && entry.figures().total <= limit;
            room -= usize::from(goes);
            goes
        });
        for (_, entry) in evicted {
            entry.listed.store(false, Ordering::Release);
            let figures = std::mem::replace(&mut *entry.figures(), Figures::new());
            self.evicted.add(&figures);
        }
    }

    pub(super) fn all(&self) -> (Vec<Arc<Entry>>, Evicted) {
        (self.entries.values().cloned().collect(), self.evicted)
    }

    pub(super) fn clear(&mut self) {
        for (_, entry) in self.entries.drain() {
            entry.listed.store(false, Ordering::Release);
            *entry.figures() = Figures::new();
        }
        self.evicted = Evicted::default();
    }
}

impl Entry {
    pub(super) fn new(digest: Digest, meter: Arc<Meter>) -> Entry {
        let listed = AtomicBool::new(false);
        Entry { digest, meter, listed, figures: Mutex::new(Figures::new()), plan: Mutex::default() }
    }

    pub(super) fn digest(&self) -> &Digest {
        &self.digest
    }

    pub(super) fn meter(&self) -> &Meter {
        &self.meter
    }

    pub(super) fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn plan(&self) -> MutexGuard<'_, Option<Arc<Plan>>> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_listed(&self) -> bool {
        self.listed.load(Ordering::Acquire)
    }

    /// Adds a statement to the figures; whether they are in the table.
    #[inline]
    pub(super) fn record(&self, event: &StatementEvent<'_>, slow: bool, now: Instant) -> bool {
        self.figures().record(event, slow, now);
        self.is_listed()
    }
}
