//! A text with its hash, and what a connection knows of the texts that it has met.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hasher},
    sync::LazyLock,
};

use foldhash::fast::RandomState;

use super::Facts;

/// Seeded anew in each process, so that nobody can construct two texts with one hash.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::default);

/// The text of a statement and its hash, under which a connection remembers it.
#[derive(Clone, Copy)]
pub(crate) struct Text<'a> {
    pub(crate) sql: &'a str,
    pub(crate) hash: u64,
}

impl<'a> Text<'a> {
    pub(crate) fn new(sql: &'a str) -> Text<'a> {
        Text { sql, hash: HASHER.hash_one(sql) }
    }
}

/// What a connection knows of the texts that it has met: each is scanned once.
#[derive(Default)]
pub(crate) struct Texts {
    known: HashMap<u64, Known, BuildHasherDefault<AsIs>>,
}

/// What is known of one text.
pub(crate) struct Known {
    pub(crate) facts: Facts,
    /// A hash of the types of its binds, as the driver prepared it.
    types: Option<u64>,
    /// It has run on the connection, so the driver knows the types of its columns.
    pub(crate) has_run: bool,
}

impl Texts {
    /// How many it remembers; with more it forgets them all and begins anew.
    const MOST: usize = 256;

    pub(crate) fn of(&mut self, text: Text<'_>) -> &mut Known {
        if self.known.len() >= Self::MOST && !self.known.contains_key(&text.hash) {
            self.known.clear();
        }
        let new = || Known { facts: Facts::of(text.sql), types: None, has_run: false };
        self.known.entry(text.hash).or_insert_with(new)
    }

    /// Notes that a text has run. `hash` is its own.
    pub(crate) fn note_run(&mut self, hash: u64) {
        if let Some(known) = self.known.get_mut(&hash) {
            known.has_run = true;
        }
    }

    /// The driver has forgotten what it prepared.
    pub(crate) fn forget_types(&mut self) {
        self.known.values_mut().for_each(|known| (known.types, known.has_run) = (None, false));
    }
}

impl Known {
    /// Whether the binds have other types than when the driver prepared the text. `types` is a hash of them.
    ///
    /// The driver may have prepared more texts than are remembered here; for those the first types that are seen
    /// count.
    pub(crate) fn has_other_types(&mut self, types: u64) -> bool {
        *self.types.get_or_insert(types) != types
    }
}

/// For keys that are hashes already.
#[derive(Default)]
pub(crate) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}
