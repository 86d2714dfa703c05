//! The task that asks the servers of one database.

use std::{
    pin::pin,
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use futures_util::future::{join, join_all, pending, select};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::Topology;
use crate::{causal::Written, pool::Probe};

/// The pause while no primary is known.
const WITHOUT_PRIMARY: Duration = Duration::from_millis(200);

/// The primary is asked this often at most after writes whose position is not known.
const AFTER_WRITES: Duration = Duration::from_millis(50);

/// How many of `topology.interval` pass until the list of servers is asked for again.
const LISTED_EVERY: u32 = 10;

/// Asks all servers until the topology is closed or gone.
pub(super) async fn all(topology: Weak<Topology>, hurry: Arc<Notify>) {
    let Some(servers) = topology.upgrade().map(|it| it.servers.len()) else { return };
    let each = (0..servers).map(|server| one(Weak::clone(&topology), server, &hurry));
    join(join_all(each), list(Weak::clone(&topology), &hurry)).await;
}

/// Asks for the list of servers, where that may change, until it has.
async fn list(topology: Weak<Topology>, hurry: &Notify) {
    let Some(least) = topology.upgrade().map(|it| it.to.config.topology.interval) else { return };
    let pause = least * LISTED_EVERY;
    loop {
        // Those who hurry may be many.
        if timeout(pause, hurry.notified()).await.is_ok() {
            sleep(least).await;
        }
        let Some(topology) = topology.upgrade().filter(|topology| topology.to.is_listed) else {
            return;
        };
        if topology.is_closed.load(Ordering::Acquire) {
            return;
        }
        let rests = topology.to.config.topology.lazy && topology.unused_for() > pause;
        if !rests && topology.primary.list_again().await {
            topology.is_outdated.store(true, Ordering::Release);
            return;
        }
    }
}

/// What to do after an answer.
struct Pause {
    limit: Duration,
    /// Nobody reads, and the server may suspend.
    rests: bool,
    /// Of the primary: what to be woken by.
    written: Option<Arc<Written>>,
}

async fn one(topology: Weak<Topology>, server: usize, hurry: &Notify) {
    let Some(mut probe) = topology.upgrade().map(|it| Probe::new(&it.to, &it.servers[server].at))
    else {
        return;
    };
    loop {
        // Registered before the question, so that none is missed.
        let hurried = hurry.notified();
        let pause = {
            let Some(topology) = topology.upgrade() else { return };
            if topology.is_closed.load(Ordering::Acquire) {
                return;
            }
            topology.ask(server, &mut probe).await;
            topology.pause(server)
        };
        if pause.rests {
            probe.rest();
            hurried.await;
            continue;
        }
        let early = async {
            match &pause.written {
                Some(written) => {
                    sleep(AFTER_WRITES).await;
                    written.pending().await;
                }
                None => pending().await,
            }
        };
        let hurried = async {
            hurried.await;
            sleep(AFTER_WRITES).await;
        };
        let _ = timeout(pause.limit, select(pin!(early), pin!(hurried))).await;
    }
}

impl Topology {
    fn pause(&self, server: usize) -> Pause {
        let config = &self.to.config.topology;
        let state = self.state();
        let limit = match state.sample() {
            Some(_) => config.interval,
            None => config.interval.min(WITHOUT_PRIMARY),
        };
        let rests = config.lazy && self.unused_for() > config.interval * 2;
        let written = state.is_primary(server).then(|| self.primary.written().cloned()).flatten();
        Pause { limit, rests, written }
    }
}
