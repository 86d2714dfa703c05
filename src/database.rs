//! A database and one view of it, which a `Pg` and its sessions share.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use sea_orm::AccessMode;
use tokio::sync::Notify;

use crate::{
    config::MonitorConfig,
    error::Error,
    monitor::{Explainer, Monitor},
    pool::{ConnectTo, Host, Lent, Locate, MetricCallback, Pool, Purpose},
    view::View,
};

/// One view of a database: whether it is read-only, its schema and settings, its metric callback.
#[derive(Clone)]
pub(crate) struct Database {
    shared: Arc<Shared>,
    pub(crate) read_only: bool,
    pub(crate) metric: Option<MetricCallback>,
    pub(crate) view: Arc<View>,
}

/// The part that all clones and views of one database share.
pub(crate) struct Shared {
    name: Arc<str>,
    locate: Arc<Locate>,
    monitor: Arc<Monitor>,
    host: OnceLock<Arc<Host>>,
    writer: OnceLock<Arc<Pool>>,
    reader: OnceLock<Arc<Pool>>,
    closed: AtomicBool,
    /// For those who have a connection of their own.
    closing: Notify,
    /// Its size, where [`Database::resize`] gave it another than the file does.
    size: Mutex<Option<(usize, usize)>>,
}

impl Database {
    pub(crate) fn new(
        name: &str,
        read_only: bool,
        monitor: MonitorConfig,
        locate: Arc<Locate>,
        explainer: impl FnOnce(Weak<Shared>, &MonitorConfig) -> Explainer,
    ) -> Database {
        let name: Arc<str> = name.into();
        let shared = Arc::new_cyclic(|shared| {
            let explainer = explainer(Weak::clone(shared), &monitor);
            Shared {
                name: Arc::clone(&name),
                locate,
                monitor: Arc::new(Monitor::new(name, monitor, explainer)),
                host: OnceLock::new(),
                writer: OnceLock::new(),
                reader: OnceLock::new(),
                closed: AtomicBool::new(false),
                closing: Notify::new(),
                size: Mutex::default(),
            }
        });
        Database { shared, read_only, metric: None, view: Arc::default() }
    }

    /// Makes a view of a database from its shared part.
    pub(crate) fn from_shared(shared: Arc<Shared>, read_only: bool, view: Arc<View>) -> Database {
        Database { shared, read_only, metric: None, view }
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.shared.name
    }

    pub(crate) fn monitor(&self) -> &Monitor {
        &self.shared.monitor
    }

    pub(crate) fn writer(&self) -> Option<&Arc<Pool>> {
        self.shared.writer.get()
    }

    pub(crate) fn reader(&self) -> Option<&Arc<Pool>> {
        self.shared.reader.get()
    }

    /// The pools that there are.
    fn pools(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.writer().into_iter().chain(self.reader())
    }

    pub(crate) fn resize(&self, keep: usize, most: usize) {
        *self.shared.size.lock().unwrap_or_else(PoisonError::into_inner) = Some((keep, most));
        self.pools().for_each(|pool| pool.resize(keep, most));
    }

    pub(crate) fn close(&self) {
        self.close_to_all();
        self.pools().for_each(|pool| pool.close());
    }

    pub(crate) async fn close_within(&self, limit: Duration) -> Result<(), Error> {
        self.close_to_all();
        let drained = join_all(self.pools().map(|pool| pool.drain(limit))).await;
        drained.into_iter().collect()
    }

    fn close_to_all(&self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.closing.notify_waiters();
    }

    /// Waits until it is closed.
    pub(crate) async fn closing(&self) {
        let closing = self.shared.closing.notified();
        if !self.shared.closed.load(Ordering::Acquire) {
            closing.await;
        }
    }

    /// Whether a session that asks for `access` is read-only.
    pub(crate) fn resolves_read_only(&self, access: Option<AccessMode>) -> Result<bool, Error> {
        match access {
            Some(AccessMode::ReadWrite) if self.read_only => Err(Error::ReadOnly {
                database: self.name().to_string(),
                what:
                    "a read-write session was requested; the file says `readonly: true`, or the code \
                       uses a read-only view"
                        .to_owned(),
            }),
            Some(AccessMode::ReadOnly) => Ok(true),
            _ => Ok(self.read_only),
        }
    }

    pub(crate) async fn pool(&self, read_only: bool) -> Result<&Arc<Pool>, Error> {
        let Shared { name, writer, reader, closed, .. } = &*self.shared;
        if closed.load(Ordering::Acquire) {
            return Err(Error::Closed { database: name.to_string() });
        }
        let place = if read_only { reader } else { writer };
        match place.get() {
            Some(pool) => Ok(pool),
            None => Box::pin(self.make_pool(place, read_only)).await,
        }
    }

    async fn make_pool<'a>(
        &self,
        place: &'a OnceLock<Arc<Pool>>,
        read_only: bool,
    ) -> Result<&'a Arc<Pool>, Error> {
        let Shared { closed, size, .. } = &*self.shared;
        let host = self.host().await?;
        let pool = place.get_or_init(|| Pool::new(host, read_only));
        if let Some((keep, most)) = *size.lock().unwrap_or_else(PoisonError::into_inner) {
            pool.resize(keep, most);
        }
        // A close or a resize that came in between did not see this pool.
        if closed.load(Ordering::Acquire) {
            pool.close();
        }
        Ok(pool)
    }

    /// Where its pools connect to.
    async fn host(&self) -> Result<Arc<Host>, Error> {
        let place = &self.shared.host;
        if let Some(host) = place.get() {
            return Ok(Arc::clone(host));
        }
        let to = self.located(false).await?;
        Ok(Arc::clone(place.get_or_init(|| Arc::new(Host::new(to)))))
    }

    /// Returns where to open a connection outside of the pools. Of several hosts, it finds the primary.
    pub(crate) async fn connect_to(&self, read_only: bool) -> Result<ConnectTo, Error> {
        self.located(read_only).await?.on_primary().await.map_err(Error::Connect)
    }

    /// Returns where its pools connect to: of several hosts, the primary that they found last. Asks no server.
    #[cfg(feature = "cli")]
    pub(crate) async fn current(&self) -> Result<ConnectTo, Error> {
        match self.shared.host.get() {
            Some(host) => Ok((*host.current()).clone()),
            None => self.located(false).await,
        }
    }

    /// Returns the address from the file, or of the file's server. Of several hosts, it is the first. Asks no host.
    pub(crate) async fn located(&self, read_only: bool) -> Result<ConnectTo, Error> {
        let Shared { name, locate, monitor, .. } = &*self.shared;
        ConnectTo::located(Arc::clone(name), locate, read_only, Arc::clone(monitor)).await
    }

    /// A connection from the pool for reading, or from the one for writing.
    pub(crate) async fn lend(&self, read_only: bool, purpose: Purpose) -> Result<Lent, Error> {
        let lent = self.pool(read_only).await?.lend(purpose).await?;
        Ok(lent.observed_by(self.metric.clone()))
    }
}
