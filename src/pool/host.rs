//! A host of a database, shared by the pools that connect to it.

use std::{
    collections::HashSet,
    hash::BuildHasherDefault,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{ConnectTo, slot};
use crate::{config::HostPort, statement::AsIs};

/// The address of a host, and what its pools have learned about it.
pub(crate) struct Host {
    place: Mutex<Place>,
    /// Of several hosts, the primary is to be found before the next connection is opened.
    seeks_primary: AtomicBool,
    /// Taken by who looks for it.
    pub(super) seeking: tokio::sync::Mutex<()>,
    /// The system identifier that the servers of the cluster have.
    cluster: OnceLock<i64>,
    /// A connection was opened before, so the address is valid and a later failure is an outage.
    reached: AtomicBool,
    /// The server, or a pooler in front of it, rejects the settings by which a server checks its client.
    rejects_liveness: AtomicBool,
    /// Hashes of texts that must be prepared for each schema, because tenants' tables differ in a column's type.
    by_schema: Mutex<HashSet<u64, BuildHasherDefault<AsIs>>>,
}

struct Place {
    to: Arc<ConnectTo>,
    /// Whether connections that were opened to it are still good: the server was not seen to be a standby since.
    holds: Arc<AtomicBool>,
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
            place: Mutex::new(Place { to: Arc::new(to), holds: Arc::new(AtomicBool::new(true)) }),
            reached: AtomicBool::new(false),
            rejects_liveness: AtomicBool::new(rejects_liveness),
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

    /// What tells a connection that is opened now when its server is no primary any more.
    pub(super) fn holds(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.place().holds)
    }

    pub(super) fn seeks_primary(&self) -> bool {
        self.seeks_primary.load(Ordering::Relaxed)
    }

    pub(super) fn cluster(&self) -> Option<i64> {
        self.cluster.get().copied()
    }

    /// The primary was found there.
    pub(super) fn primary_is(&self, at: &HostPort, timeline: i64, cluster: Option<i64>) {
        if let Some(cluster) = cluster {
            let _ = self.cluster.set(cluster);
        }
        let mut place = self.place();
        let before = HostPort { host: place.to.host.clone(), port: place.to.port };
        if before != *at {
            if self.was_reached() {
                tracing::info!(database = %place.to.name, primary = %at, timeline, %before, "another host is the primary now");
            }
            place.renew();
            place.to = Arc::new(place.to.on(at));
        }
        self.seeks_primary.store(false, Ordering::Relaxed);
    }

    /// The server was seen to be a standby: the connections to it are closed before their next use.
    pub(super) fn note_demotion(&self) {
        let mut place = self.place();
        place.renew();
        let at = HostPort { host: place.to.host.clone(), port: place.to.port };
        tracing::warn!(database = %place.to.name, server = %at, "the server is a standby now; its connections are closed");
        self.seeks_primary.store(place.to.has_hosts(), Ordering::Relaxed);
    }

    /// Looks the address up anew, after it could not be reached.
    pub(super) async fn locate_again(&self) {
        let now = self.current();
        if now.has_hosts() {
            // Before the next attempt, all are asked.
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
    /// Connections that are open are not used any more.
    fn renew(&mut self) {
        let before = std::mem::replace(&mut self.holds, Arc::new(AtomicBool::new(true)));
        before.store(false, Ordering::Relaxed);
    }
}
