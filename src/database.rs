//! A database and one view of it, which a `Pg` and its sessions share.

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use sea_orm::{AccessMode, DbErr};
use tokio::sync::Notify;

use crate::{
    causal::CausalToken,
    config::{Fallback, MonitorConfig, Reads},
    error::Error,
    monitor::{Explainer, Monitor},
    pool::{self, ConnectTo, Host, Lent, Locate, MetricCallback, Pool, Purpose},
    topology::{Check, Need, Reason, Topology},
    view::View,
};

/// One view of a database: whether it is read-only, its schema and settings, its metric callback.
#[derive(Clone)]
pub(crate) struct Database {
    shared: Arc<Shared>,
    pub(crate) read_only: bool,
    pub(crate) metric: Option<MetricCallback>,
    pub(crate) view: Arc<View>,
    pub(crate) route: Route,
}

/// Where a view reads.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Route {
    /// On a standby, if the entry says so.
    pub(crate) on_standby: bool,
    /// A standby has canceled it before.
    pub(crate) was_canceled: bool,
    /// What its reads have to see, and when that came.
    pub(crate) at_least: Option<(CausalToken, Instant)>,
}

/// The part that all clones and views of one database share.
pub(crate) struct Shared {
    name: Arc<str>,
    locate: Arc<Locate>,
    monitor: Arc<Monitor>,
    host: OnceLock<Arc<Host>>,
    writer: OnceLock<Arc<Pool>>,
    reader: OnceLock<Arc<Pool>>,
    /// None until something was to be read; then none inside for an entry that reads on its primary, or has no standbys.
    topology: RwLock<Option<Option<Arc<Topology>>>>,
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
                topology: RwLock::default(),
                closed: AtomicBool::new(false),
                closing: Notify::new(),
                size: Mutex::default(),
            }
        });
        Database { shared, read_only, metric: None, view: Arc::default(), route: Route::default() }
    }

    /// Makes a view of a database from its shared part.
    pub(crate) fn from_shared(shared: Arc<Shared>, read_only: bool, view: Arc<View>) -> Database {
        Database { shared, read_only, metric: None, view, route: Route::default() }
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
    fn pools(&self) -> impl Iterator<Item = Arc<Pool>> {
        let observed = self.observed().clone().flatten();
        let standbys = observed.iter().flat_map(|topology| topology.pools());
        let own = self.writer().into_iter().chain(self.reader());
        own.chain(standbys).cloned().collect::<Vec<_>>().into_iter()
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
        let drained = self.pools().map(|pool| async move { pool.drain(limit).await });
        let drained = join_all(drained).await;
        drained.into_iter().collect()
    }

    fn close_to_all(&self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.closing.notify_waiters();
        if let Some(Some(topology)) = &*self.observed() {
            topology.close();
        }
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

    /// Notes that something was written past its pools, such as by a migration.
    #[cfg(feature = "migrate")]
    pub(crate) async fn note_write(&self) -> Result<(), Error> {
        if let Some(written) = self.host().await?.written() {
            written.note_pending();
        }
        Ok(())
    }

    /// The servers of the entry, if it reads on standbys.
    pub(crate) async fn topology(&self) -> Result<Option<Arc<Topology>>, Error> {
        if let Some(known) = &*self.observed()
            && !known.as_ref().is_some_and(|topology| topology.is_outdated())
        {
            return Ok(known.clone());
        }
        let host = self.host().await?;
        let mut observed = self.shared.topology.write().unwrap_or_else(PoisonError::into_inner);
        let before = observed.clone().flatten();
        // Another caller may have been first.
        if observed.is_some() && !before.as_ref().is_some_and(|before| before.is_outdated()) {
            return Ok(before);
        }
        let to = (*host.current()).clone();
        let has_reads = to.config.reads != Reads::Primary;
        let topology = has_reads.then(|| Topology::new(to, host, before.as_deref())).flatten();
        before.into_iter().for_each(|before| before.give_way_to(topology.as_deref()));
        *observed = Some(topology.clone());
        drop(observed);
        // A close that came in between did not see it.
        if let (true, Some(topology)) = (self.shared.closed.load(Ordering::Acquire), &topology) {
            topology.close();
        }
        Ok(topology)
    }

    fn observed(&self) -> RwLockReadGuard<'_, Option<Option<Arc<Topology>>>> {
        self.shared.topology.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection of a view that reads on standbys: to one that may serve it, else from the pool for reading. With what the standby
    /// has to prove in the message that begins the transaction.
    pub(crate) async fn lend_to_read(
        &self,
        purpose: Purpose,
    ) -> Result<(Lent, Option<Check>), Error> {
        if self.route.was_canceled {
            return Ok((self.lend_after(Reason::Conflict, purpose).await?, None));
        }
        if let Some(topology) = self.topology().await? {
            match topology.lend(&self.need(&topology), purpose).await? {
                Ok(reading) => {
                    return Ok((reading.lent.observed_by(self.metric.clone()), reading.check));
                }
                Err(reason) => {
                    return Ok((self.lend_instead(&topology, reason, purpose).await?, None));
                }
            }
        }
        Ok((self.lend(true, purpose).await?, None))
    }

    /// What a read of this view has to see.
    fn need(&self, topology: &Topology) -> Need {
        let token = self.route.at_least;
        let Some(written) = self.shared.host.get().and_then(|host| host.written()) else {
            return Need { token, ..Need::default() };
        };
        let mut known = written.required();
        if known.pending.is_some()
            && let Some((sample, asked_at)) = topology.sample()
        {
            known = written.required_after(sample, asked_at);
        }
        Need { position: known.position, pending: known.pending, token }
    }

    /// What was written so far, if that is known or can be asked.
    pub(crate) async fn causal_token(&self) -> Result<Option<CausalToken>, Error> {
        let host = self.host().await?;
        let token = self.route.at_least.map(|(token, _)| token);
        let Some(written) = host.written() else { return Ok(token) };
        let mut known = written.required();
        let mut cluster = host.cluster();
        let is_asked = known.pending.is_some() || (known.position.is_some() && cluster.is_none());
        if is_asked {
            let mut lent = self.lend(self.read_only, Purpose::Statement).await?;
            let asked_at = Instant::now();
            let said = lent.ask_server().await;
            let said = said.map_err(|error| Error::Db(DbErr::Query(pool::runtime(error))))?;
            if let (false, Some(position)) = (said.is_standby, said.position) {
                known = written.required_after(position, asked_at);
            }
            said.cluster.into_iter().for_each(|cluster| host.note_cluster(cluster));
            cluster = said.cluster;
        }
        let Some(position) = known.position else { return Ok(token) };
        let cluster = cluster.unwrap_or(CausalToken::ANY_CLUSTER);
        let own = CausalToken { cluster, position };
        Ok(Some(match token.filter(|token| token.cluster == cluster) {
            Some(token) => CausalToken { position: position.merge(token.position), ..own },
            None => own,
        }))
    }

    /// A connection for a read that no standby may serve.
    async fn lend_instead(
        &self,
        topology: &Topology,
        reason: Reason,
        purpose: Purpose,
    ) -> Result<Lent, Error> {
        topology.note_fallback(reason);
        match topology.fallback() {
            Fallback::Primary => self.lend(true, purpose).await,
            Fallback::Error => Err(topology.refuse(reason)),
        }
    }

    /// The same for one that a standby was chosen for and did not serve.
    pub(crate) async fn lend_after(&self, reason: Reason, purpose: Purpose) -> Result<Lent, Error> {
        match self.topology().await? {
            Some(topology) => self.lend_instead(&topology, reason, purpose).await,
            None => self.lend(true, purpose).await,
        }
    }

    /// The names of settings that have to come with each transaction, because a pooler lends the connections of the server.
    #[cfg(feature = "cli")]
    pub(crate) async fn settings_by_transaction(&self, read_only: bool) -> Result<String, Error> {
        let lent = self.lend(read_only, Purpose::Statement).await?;
        Ok(lent.local_settings().map(|local| local.needed.clone()).unwrap_or_default())
    }

    /// A connection from the pool for reading, or from the one for writing.
    pub(crate) async fn lend(&self, read_only: bool, purpose: Purpose) -> Result<Lent, Error> {
        let lent = self.pool(read_only).await?.lend(purpose).await?;
        Ok(lent.observed_by(self.metric.clone()))
    }
}
