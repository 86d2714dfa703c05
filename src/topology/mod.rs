//! The servers of one database: their roles, how far each standby is, and which of them may serve a read.
//!
//! One task asks every server on a connection of its own, because a pool that is exhausted must not delay that.

mod state;
mod status;
mod watch;

use std::{
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::{sync::Notify, task::JoinHandle};

pub(crate) use state::{Need, Reason};
pub use status::{ServerRole, ServerStatus};

use self::state::{Choice, State};
use crate::{
    causal::Position,
    config::{Fallback, HostPort},
    error::{Error, NoStandby},
    monitor::TopologyMeter,
    pool::{ConnectTo, Host, Lent, Pool, Probe, Purpose, ServerId},
};

pub(crate) struct Topology {
    /// The entry, for reading.
    to: ConnectTo,
    /// Where the pools of the primary connect to.
    primary: Arc<Host>,
    servers: Vec<Server>,
    state: RwLock<State>,
    meter: TopologyMeter,
    /// Where the search for a standby begins, so that they take turns.
    turn: AtomicUsize,
    watch: Mutex<Option<JoinHandle<()>>>,
    /// Asks all servers before their time.
    hurry: Arc<Notify>,
    born: Instant,
    /// When something was read last, in milliseconds since then.
    read_at: AtomicU64,
    is_closed: AtomicBool,
    /// The cluster has other servers by now.
    is_outdated: AtomicBool,
}

struct Server {
    at: HostPort,
    pool: OnceLock<Arc<Pool>>,
}

/// A connection to read from.
pub(crate) struct Reading {
    pub(crate) lent: Lent,
    /// What its server has to prove before it is read from.
    pub(crate) check: Option<Check>,
}

/// A standby was not seen to have replayed as far as a read needs, so it is asked again in the message that begins the
/// transaction.
pub(crate) struct Check {
    topology: Arc<Topology>,
    server: usize,
    needed: Position,
    /// The timeline of the standby. None if the connection leads to another server than the one that was asked.
    pub(crate) timeline: Option<u32>,
    until: Instant,
    waited: bool,
}

impl Topology {
    /// Returns the servers of an entry. None if it names no standby. Connects to nothing. The pools of servers that were in
    /// `before`, too, are its own.
    pub(crate) fn new(
        to: ConnectTo,
        primary: Arc<Host>,
        before: Option<&Topology>,
    ) -> Option<Arc<Topology>> {
        let servers = to.servers();
        let is_fixed = !to.has_hosts();
        if servers.len() < 2 {
            return None;
        }
        let known = |at: &HostPort| {
            let server = before?.servers.iter().find(|server| server.at == *at)?;
            server.pool.get().cloned()
        };
        let server =
            |at: HostPort| Server { pool: known(&at).map(OnceLock::from).unwrap_or_default(), at };
        let meter = TopologyMeter::new(Arc::clone(&to.monitor), &to.name, &servers);
        Some(Arc::new(Topology {
            state: RwLock::new(State::new(servers.len(), is_fixed, &to.config)),
            servers: servers.into_iter().map(server).collect(),
            meter,
            to,
            primary,
            turn: AtomicUsize::new(0),
            watch: Mutex::default(),
            hurry: Arc::default(),
            born: Instant::now(),
            read_at: AtomicU64::new(0),
            is_closed: AtomicBool::new(false),
            is_outdated: AtomicBool::new(false),
        }))
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pools that there are.
    pub(crate) fn pools(&self) -> impl Iterator<Item = &Arc<Pool>> {
        self.servers.iter().filter_map(|server| server.pool.get())
    }

    fn pool(&self, server: usize) -> &Arc<Pool> {
        let server = &self.servers[server];
        server.pool.get_or_init(|| {
            let pool = Pool::new(Arc::new(Host::new(self.to.on_standby(&server.at))), true);
            if self.is_closed.load(Ordering::Acquire) {
                pool.close();
            }
            pool
        })
    }

    /// Whether the cluster has other servers by now.
    pub(crate) fn is_outdated(&self) -> bool {
        self.is_outdated.load(Ordering::Acquire)
    }

    /// Stops asking, and closes the pools that `next` has not taken over.
    pub(crate) fn give_way_to(&self, next: Option<&Topology>) {
        let is_kept = |pool: &Arc<Pool>| {
            next.is_some_and(|next| next.pools().any(|kept| Arc::ptr_eq(kept, pool)))
        };
        self.pools().filter(|pool| !is_kept(pool)).for_each(|pool| pool.close());
        self.close();
    }

    /// Stops asking. Its pools are closed by whoever closes those of the primary.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.hurry.notify_waiters();
    }

    /// Lends a connection to a standby that may serve a read, or says why none may.
    ///
    /// # Errors
    /// [`Error::PoolTimeout`] if a standby's connections are all in use.
    pub(crate) async fn lend(
        self: &Arc<Topology>,
        need: &Need,
        purpose: Purpose,
    ) -> Result<Result<Reading, Reason>, Error> {
        self.note_use();
        self.watch();
        // Each one that cannot be reached is left out of the next choice.
        for _ in &self.servers {
            let now = Instant::now();
            let turn = self.turn.fetch_add(1, Ordering::Relaxed);
            let primary = (self.primary.cluster(), self.primary.timeline());
            let choice = self.state().choose(need, primary, turn, now);
            let Choice { server, id, timeline, needed, is_proven } = match choice {
                Ok(choice) => choice,
                Err(reason) => {
                    if reason.is_for_lack_of_answers() {
                        self.hurry.notify_waiters();
                    }
                    return Ok(Err(reason));
                }
            };
            let lent = match self.pool(server).lend(purpose).await {
                Ok(lent) => lent,
                Err(Error::Connect(error)) => {
                    self.state_mut().note_failure(server, &error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            // Behind a pooler, the next transaction may be on another server.
            let is_same = !self.to.is_pooled() && lent.server().is(id);
            let check = match needed {
                Some(needed) if !is_proven || !is_same => Some(Check {
                    topology: Arc::clone(self),
                    server,
                    needed,
                    timeline: is_same.then_some(timeline),
                    until: now + self.to.config.replica.wait,
                    waited: false,
                }),
                _ => None,
            };
            if check.is_none() {
                self.meter.read("standby", "proven");
            }
            return Ok(Ok(Reading { lent, check }));
        }
        Ok(Err(Reason::NoStandby))
    }

    /// What the primary said last, and when it was asked. One that a promotion has left behind does not count.
    pub(crate) fn sample(&self) -> Option<(Position, Instant)> {
        let newest = self.primary.timeline();
        self.state().sample().filter(|(position, _)| position.timeline >= newest)
    }

    pub(crate) fn fallback(&self) -> Fallback {
        self.to.config.replica.fallback
    }

    /// Notes that a read goes to the primary.
    pub(crate) fn note_fallback(&self, reason: Reason) {
        self.meter.read("primary", reason.name());
    }

    /// The error of a read that no standby may serve.
    pub(crate) fn refuse(&self, reason: Reason) -> Error {
        let servers = self.status().iter().map(ToString::to_string).collect();
        let database = self.to.name.to_string();
        Error::NoStandby(NoStandby { database, reason: reason.to_string(), servers })
    }

    /// What is known of each server. Asks none.
    pub(crate) fn status(&self) -> Vec<ServerStatus> {
        let state = self.state();
        let now = Instant::now();
        let servers = self.servers.iter().enumerate();
        servers.map(|(index, server)| state.status(index, &server.at, now)).collect()
    }

    /// What was seen of each server within the last seconds; asks if that is nothing.
    pub(crate) async fn status_or_ask(&self) -> Vec<ServerStatus> {
        if self.state().is_current(Instant::now()) {
            return self.status();
        }
        self.ask_all().await
    }

    /// Asks all servers once, on connections of their own, and returns what each said.
    pub(crate) async fn ask_all(&self) -> Vec<ServerStatus> {
        self.ask_all_on(&mut self.probes()).await
    }

    /// A probe for each server. Connects to nothing.
    pub(crate) fn probes(&self) -> Vec<Probe> {
        self.servers.iter().map(|server| Probe::new(&self.to, &server.at)).collect()
    }

    /// Asks all servers once, on the connections of [`probes`](Topology::probes), and returns what each said.
    pub(crate) async fn ask_all_on(&self, probes: &mut [Probe]) -> Vec<ServerStatus> {
        let asked = probes.iter_mut().enumerate();
        join_all(asked.map(async |(index, probe)| self.ask(index, probe).await)).await;
        self.status()
    }

    /// Asks one server, and notes what it says.
    async fn ask(&self, server: usize, probe: &mut Probe) {
        let asked_at = Instant::now();
        let said = probe.ask(self.to.config.topology.probe_timeout).await;
        let change = self.state_mut().note(server, asked_at, said, self.primary.cluster());
        self.tell(&change);
        let servers = self.status();
        self.meter.servers(servers.iter().map(|it| (it.role.as_str(), it.lag_bytes)));
    }

    /// Passes on that there is another primary, and logs what an operator has to know.
    fn tell(&self, change: &state::Change) {
        let name = &self.to.name;
        if let Some((server, said)) = &change.primary {
            let at = &self.servers[*server].at;
            if let (true, Some(position)) = (self.to.has_hosts(), said.position) {
                self.primary.note_primary(at, position.timeline, said.cluster);
            }
            said.cluster.into_iter().for_each(|cluster| self.primary.note_cluster(cluster));
            if change.is_failover {
                self.meter.failover();
            }
        }
        for fault in &change.faults {
            let at = |server: usize| &self.servers[server].at;
            match fault {
                state::Fault::SplitBrain(servers) => {
                    let servers = servers.iter().map(|server| at(*server).to_string());
                    let servers = servers.collect::<Vec<_>>().join(", ");
                    tracing::error!(database = %name, %servers, "several servers claim to be the primary on the same timeline; stop all but the right one");
                }
                state::Fault::ReplicaIsPrimary(server) => {
                    tracing::warn!(database = %name, server = %at(*server), "a server of `replicas` is a primary; it serves no reads");
                }
                state::Fault::PrimaryIsStandby(server) => {
                    tracing::warn!(database = %name, server = %at(*server), "the server of `host` is a standby; no standby serves reads until there is a primary");
                }
                state::Fault::OtherCluster(server) => {
                    tracing::error!(database = %name, server = %at(*server), "the server belongs to another cluster (its system identifier differs); it serves no reads");
                }
            }
        }
    }

    /// Begins to ask all servers, unless that is done already.
    fn watch(self: &Arc<Topology>) {
        // The usual case: answers come in.
        if self.state().is_current(Instant::now()) {
            return;
        }
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        // Its runtime may have ended before the topology.
        let is_running = watch.as_ref().is_some_and(|task| !task.is_finished());
        if is_running {
            // It may be at rest.
            self.hurry.notify_waiters();
        } else if !self.is_closed.load(Ordering::Acquire) {
            *watch = Some(tokio::spawn(watch::all(Arc::downgrade(self), Arc::clone(&self.hurry))));
        }
    }

    fn note_use(&self) {
        let since = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.read_at.store(since, Ordering::Relaxed);
    }

    /// How long nothing was read.
    fn unused_for(&self) -> Duration {
        let read_at = Duration::from_millis(self.read_at.load(Ordering::Relaxed));
        self.born.elapsed().saturating_sub(read_at)
    }
}

impl Check {
    /// Notes how far the standby had replayed when the transaction began. Returns whether that is far enough.
    pub(crate) fn is_passed(&mut self, server: ServerId, replayed: Option<Position>) -> bool {
        let Some(replayed) = replayed else {
            self.until = Instant::now();
            return false;
        };
        self.topology.state_mut().note_replayed(self.server, server, replayed);
        let is_passed = replayed.covers(self.needed);
        if is_passed {
            let reason = if self.waited { "waited" } else { "checked" };
            self.topology.meter.read("standby", reason);
        }
        is_passed
    }

    /// Returns the pause before the standby is asked again. None when `wait` is over.
    pub(crate) fn pause(&mut self) -> Option<Duration> {
        const PAUSE: Duration = Duration::from_millis(2);
        self.waited = true;
        let left = self.until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| left.min(PAUSE))
    }
}

impl Drop for Topology {
    /// The task sees to its end.
    fn drop(&mut self) {
        self.hurry.notify_waiters();
    }
}
