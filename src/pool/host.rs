//! A host of a database, shared by the pools that connect to it.

use std::{
    collections::HashSet,
    hash::BuildHasherDefault,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{ConnectTo, slot};
use crate::statement::AsIs;

/// The address of a host, and what its pools have learned about it.
pub(crate) struct Host {
    current: Mutex<Arc<ConnectTo>>,
    /// A connection was opened before, so the address is valid and a later failure is an outage.
    reached: AtomicBool,
    /// The server, or a pooler in front of it, rejects the settings by which a server checks its client.
    rejects_liveness: AtomicBool,
    /// Hashes of texts that must be prepared for each schema, because tenants' tables differ in a column's type.
    by_schema: Mutex<HashSet<u64, BuildHasherDefault<AsIs>>>,
}

/// The most texts that are remembered. Beyond that, all are forgotten, and each costs one error again.
const MOST_BY_SCHEMA: usize = 4_096;

impl Host {
    pub(crate) fn new(to: ConnectTo) -> Host {
        // An embedded engine does not check its clients.
        let rejects_liveness = slot::of(&to.host, to.port).is_some();
        Host {
            current: Mutex::new(Arc::new(to)),
            reached: AtomicBool::new(false),
            rejects_liveness: AtomicBool::new(rejects_liveness),
            by_schema: Mutex::default(),
        }
    }

    /// Where it is now: the file's server may have come back on another port.
    pub(super) fn current(&self) -> Arc<ConnectTo> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks the address up anew, after it could not be reached.
    pub(super) async fn locate_again(&self) {
        let now = self.current();
        match now.locate_again().await {
            Ok(Some(moved)) => {
                if (&moved.host, moved.port) != (&now.host, now.port) {
                    let (host, port) = (&moved.host, moved.port);
                    tracing::info!(database = %now.name, %host, port, "the server has another address now");
                }
                *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(moved);
            }
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(database = %now.name, %error, "could not look the address up")
            }
        }
    }

    pub(super) fn was_reached(&self) -> bool {
        self.reached.load(Ordering::Relaxed)
    }

    pub(super) fn note_reached(&self) {
        self.reached.store(true, Ordering::Relaxed);
    }

    pub(super) fn rejects_liveness(&self) -> bool {
        self.rejects_liveness.load(Ordering::Relaxed)
    }

    pub(super) fn note_rejection(&self) {
        self.rejects_liveness.store(true, Ordering::Relaxed);
    }

    /// Whether the text must be prepared for each schema. `text` is its hash.
    pub(super) fn differs_by_schema(&self, text: u64) -> bool {
        self.by_schema().contains(&text)
    }

    pub(super) fn note_difference(&self, text: u64) {
        let mut texts = self.by_schema();
        if texts.len() >= MOST_BY_SCHEMA {
            texts.clear();
        }
        texts.insert(text);
    }

    fn by_schema(&self) -> MutexGuard<'_, HashSet<u64, BuildHasherDefault<AsIs>>> {
        self.by_schema.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
