//! What one connection keeps for the monitor, so that a statement on it needs neither a lock nor a scan:
//! nobody else uses it meanwhile.

use std::{
    collections::{HashMap, hash_map::Entry as MapEntry},
    hash::BuildHasherDefault,
    sync::Arc,
};

use super::{
    Repeats,
    meter::{Recorder, Recording},
    table::Entry,
};
use crate::statement::AsIs;

/// How many texts a connection knows; with more it forgets them all and begins anew.
const MOST: usize = 256;

/// What one connection keeps for the monitor.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(super) known: Known,
    pub(super) recorder: Recorder,
    pub(crate) repeats: Repeats,
    pub(super) wait: Recording,
    pub(super) used: Recording,
}

/// The statements that it has met, by a hash of their text.
#[derive(Default)]
pub(super) struct Known {
    kinds: HashMap<u64, Box<Kind>, BuildHasherDefault<AsIs>>,
}

/// A kind of statement, as one connection has met it.
pub(super) struct Kind {
    pub(super) entry: Arc<Entry>,
    pub(super) recordings: Recordings,
}

#[derive(Default)]
pub(super) struct Recordings {
    pub(super) duration: Recording,
    pub(super) rows: Recording,
}

impl Known {
    /// That of a text; `look_up` knows those that are new here.
    #[inline]
    pub(super) fn kind(&mut self, hash: u64, look_up: impl FnOnce() -> Arc<Entry>) -> &mut Kind {
        if self.kinds.len() >= MOST && !self.kinds.contains_key(&hash) {
            self.kinds.clear();
        }
        match self.kinds.entry(hash) {
            MapEntry::Vacant(vacant) => {
                let kind = Kind { entry: look_up(), recordings: Recordings::default() };
                vacant.insert(Box::new(kind))
            }
            MapEntry::Occupied(known) => {
                let kind = known.into_mut();
                // One that made room for others, or was forgotten.
                if !kind.entry.is_listed() {
                    kind.entry = look_up();
                }
                kind
            }
        }
    }
}
