//! A host of a database, shared by the pools that connect to it.

use std::{
    collections::HashSet,
    hash::BuildHasherDefault,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use super::{ConnectTo, slot};
use crate::{
    causal::Written,
    config::{HostPort, Reads},
    statement::AsIs,
};

/// The address of a host, and what its pools have learned about it.
pub(crate) struct Host {
    place: Mutex<Place>,
    /// The primary has to be found among several hosts before the next connection is opened.
    seeks_primary: AtomicBool,
    /// Locked during the search for the primary.
    pub(super) seeking: tokio::sync::Mutex<()>,
    /// The system identifier of the cluster.
    cluster: OnceLock<u64>,
    /// The highest timeline of a primary so far. A primary of an older one was left behind by a promotion.
    timeline: AtomicU32,
    /// What was written through its pools, if reads depend on it.
    written: Option<Arc<Written>>,
    /// A connection was opened before, so the address is valid and a later failure is an outage.
    reached: AtomicBool,
    /// The server, or a pooler in front of it, rejects the settings by which a server checks its client.
    rejects_liveness: AtomicBool,
    /// Behind a pooler, a number that is added to all texts, because the plans of those without it are stale.
    generation: AtomicU32,
    /// Hashes of texts that must be prepared for each schema, because tenants' tables differ in a column's type.
    by_schema: Mutex<HashSet<u64, BuildHasherDefault<AsIs>>>,
}

struct Place {
    to: Arc<ConnectTo>,
    /// Shared with the connections to `to`. It turns false when they must not be used any more.
    is_valid: Arc<AtomicBool>,
}

/// The most texts that are remembered. Beyond that, all are forgotten, and each costs one error again.
const MOST_BY_SCHEMA: usize = 4_096;

impl Host {
    pub(crate) fn new(to: ConnectTo) -> Host {
        // An embedded engine does not check its clients.
        let rejects_liveness = slot::of(&to.host, to.port).is_some();
        Host {
            seeks_primary: AtomicBool::new(to.has_hosts()),
            seeking: tokio::sync::Mutex::default(),
            cluster: OnceLock::new(),
            timeline: AtomicU32::new(0),
            written: (to.config.reads == Reads::Causal).then(Arc::default),
            place: Mutex::new(Place {
                to: Arc::new(to),
                is_valid: Arc::new(AtomicBool::new(true)),
            }),
            reached: AtomicBool::new(false),
            rejects_liveness: AtomicBool::new(rejects_liveness),
            generation: AtomicU32::new(0),
            by_schema: Mutex::default(),
        }
    }

    /// Where it is now: the file's server may have come back on another port.
    pub(crate) fn current(&self) -> Arc<ConnectTo> {
        Arc::clone(&self.place().to)
    }

    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the flag for a connection that is opened now. It turns false when the server is found to be no primary.
    pub(super) fn validity(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.place().is_valid)
    }

    pub(super) fn seeks_primary(&self) -> bool {
        self.seeks_primary.load(Ordering::Relaxed)
    }

    pub(crate) fn cluster(&self) -> Option<u64> {
        self.cluster.get().copied()
    }

    pub(crate) fn note_cluster(&self, cluster: u64) {
        let _ = self.cluster.set(cluster);
    }

    pub(crate) fn written(&self) -> Option<&Arc<Written>> {
        self.written.as_ref()
    }

    pub(crate) fn timeline(&self) -> u32 {
        self.timeline.load(Ordering::Relaxed)
    }

    /// Notes where the primary was found. If it was elsewhere before, the connections to there are invalid. Ignores one of an
    /// older timeline than was seen.
    pub(crate) fn note_primary(&self, at: &HostPort, timeline: u32, cluster: Option<u64>) {
        cluster.into_iter().for_each(|cluster| self.note_cluster(cluster));
        let mut place = self.place();
        if self.timeline.fetch_max(timeline, Ordering::Relaxed) > timeline {
            return;
        }
        let before = place.to.at();
        if before != *at {
            if self.was_reached() {
                tracing::info!(database = %place.to.name, primary = %at, timeline, %before, "another host is the primary now");
            }
            place.invalidate_connections();
            place.to = Arc::new(place.to.on(at));
        }
        self.seeks_primary.store(false, Ordering::Relaxed);
    }

    /// Notes that the server is a standby. The connections to it are closed before their next use.
    pub(super) fn note_demotion(&self) {
        let mut place = self.place();
        place.invalidate_connections();
        tracing::warn!(database = %place.to.name, server = %place.to.at(), "the server is a standby now; its connections are closed");
        self.seeks_primary.store(place.to.has_hosts(), Ordering::Relaxed);
    }

    /// Asks again for the list of hosts. Returns whether it is another one now. The primary stays where it is.
    pub(crate) async fn list_again(&self) -> bool {
        let now = self.current();
        match now.locate_again().await {
            Ok(Some(found)) => {
                let mut place = self.place();
                tracing::info!(database = %now.name, hosts = %found.config.address.servers().unwrap_or_default(), "the cluster has other servers now");
                let (hosts, config) = (Arc::clone(&found.hosts), Arc::clone(&found.config));
                place.to = Arc::new(ConnectTo { hosts, config, ..(*place.to).clone() });
                true
            }
            Ok(None) => false,
            Err(error) => {
                tracing::debug!(database = %now.name, %error, "could not list the servers");
                false
            }
        }
    }

    /// Looks the address up anew, after it could not be reached.
    pub(super) async fn locate_again(&self) {
        let now = self.current();
        if now.has_hosts() {
            self.seeks_primary.store(true, Ordering::Relaxed);
        }
        match now.locate_again().await {
            Ok(Some(moved)) => {
                if (&moved.host, moved.port) != (&now.host, now.port) {
                    let (host, port) = (&moved.host, moved.port);
                    tracing::info!(database = %now.name, %host, port, "the server has another address now");
                }
                self.place().to = Arc::new(moved);
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

    /// Returns the number that is added to texts before they are prepared behind a pooler; zero if none is.
    pub(super) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Notes that a statement of this generation was stale. The next one is random, because the pooler knows those of other
    /// processes, too.
    pub(super) fn note_stale(&self, generation: u32) {
        let next = fastrand::u32(1..);
        let (new, old) = (Ordering::Relaxed, Ordering::Relaxed);
        let _ = self.generation.compare_exchange(generation, next, new, old);
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

impl Place {
    fn invalidate_connections(&mut self) {
        let before = std::mem::replace(&mut self.is_valid, Arc::new(AtomicBool::new(true)));
        before.store(false, Ordering::Relaxed);
    }
}
