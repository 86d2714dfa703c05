//! The one connection that an embedded engine serves, shared by every pool of this process.
//!
//! The engine does not refuse a second client: it lets it wait, without a word, until the first
//! has gone. So who has the connection is known here, before anybody connects: an idle one is
//! closed for the pool that needs it; one that another task uses is waited for, as long as a pool
//! that is used up would be; and where waiting could not help, the error comes at once and names
//! the holder: the very task that asks has it in a session or a stream, or SeaORM's own pool has.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Instant,
};

use tokio::{sync::Notify, task};

use super::{Pool, Purpose};
use crate::error::{Error, SingleConnection};

/// One for each engine that this process has started: few, so they are kept.
static SLOTS: Mutex<Vec<(String, u16, Arc<Slot>)>> = Mutex::new(Vec::new());

/// The slot of the server at this address, if that is an engine with one connection.
pub(super) fn of(host: &str, port: u16) -> Option<Arc<Slot>> {
    if !is_single_connection(host, port) {
        return None;
    }
    let mut slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((.., slot)) = slots.iter().find(|(h, p, _)| h == host && *p == port) {
        return Some(Arc::clone(slot));
    }
    let slot = Arc::<Slot>::default();
    slots.push((host.to_owned(), port, Arc::clone(&slot)));
    Some(slot)
}

#[cfg(feature = "pgserver")]
use crate::pgserver::is_single_connection;

#[cfg(not(feature = "pgserver"))]
fn is_single_connection(_: &str, _: u16) -> bool {
    false
}

/// Who has the engine's connection.
#[derive(Default)]
pub(crate) struct Slot {
    holder: Mutex<Holder>,
    freed: Notify,
}

#[derive(Default)]
enum Holder {
    #[default]
    Nobody,
    /// A pool of wharf's, which does not use it now.
    Idle(Weak<Pool>),
    Busy(Tenant),
    /// SeaORM's own pool, until that is closed.
    SeaOrm(Tenant, sqlx::PgPool),
}

/// Who has it now, for the error of the one who wants it too.
#[derive(Clone)]
struct Tenant {
    database: String,
    purpose: Purpose,
    since: Instant,
    task: Option<task::Id>,
}

impl Tenant {
    fn new(database: String, purpose: Purpose) -> Tenant {
        Tenant { database, purpose, since: Instant::now(), task: task::try_id() }
    }

    fn refuses(&self, database: String, since: Instant) -> Error {
        let (holder, opened_at) = match self.purpose {
            Purpose::Hold(holder, opened_at) => (holder, opened_at),
            _ => ("a statement", None),
        };
        Error::SingleConnection(SingleConnection {
            database,
            holder,
            holder_database: self.database.clone(),
            opened_at,
            held: self.since.elapsed(),
            waited: since.elapsed(),
        })
    }
}

/// Why the connection is not to be had now.
struct Taken {
    tenant: Tenant,
    /// Whether the tenant can come to an end while the one who asks waits.
    may_end: bool,
}

impl Slot {
    fn holder(&self) -> MutexGuard<'_, Holder> {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the connection is `pool`'s to open or to use.
    pub(super) async fn claim(
        self: &Arc<Slot>,
        pool: &Arc<Pool>,
        purpose: Purpose,
        deadline: Option<Instant>,
    ) -> Result<Claim, Error> {
        let started = Instant::now();
        loop {
            let freed = self.freed.notified();
            let Taken { tenant, may_end } = {
                let mut holder = self.holder();
                match holder.taken() {
                    Some(taken) => taken,
                    None => {
                        holder.evict_for(Some(pool));
                        *holder = Holder::Busy(Tenant::new(pool.name(), purpose));
                        return Ok(Claim { slot: Arc::clone(self), pool: Arc::downgrade(pool) });
                    }
                }
            };
            let in_time = match deadline {
                _ if !may_end => false,
                Some(at) => tokio::time::timeout_at(at.into(), freed).await.is_ok(),
                None => {
                    freed.await;
                    true
                }
            };
            if !in_time {
                return Err(tenant.refuses(pool.name(), started));
            }
        }
    }

    /// Gives the connection to SeaORM's own pool, until that is closed.
    pub(super) fn give_to_sea_orm(&self, name: &str, pool: &sqlx::PgPool) -> Result<(), Error> {
        let mut holder = self.holder();
        if let Some(taken) = holder.taken() {
            return Err(taken.tenant.refuses(name.to_owned(), Instant::now()));
        }
        holder.evict_for(None);
        let purpose = Purpose::Hold("SeaORM's own connection", None);
        *holder = Holder::SeaOrm(Tenant::new(name.to_owned(), purpose), pool.clone());
        Ok(())
    }
}

impl Holder {
    fn taken(&self) -> Option<Taken> {
        let (tenant, may_end) = match self {
            Holder::Busy(tenant) => {
                let held_by_asker =
                    tenant.task == task::try_id() && matches!(tenant.purpose, Purpose::Hold(..));
                (tenant, !held_by_asker)
            }
            Holder::SeaOrm(tenant, pool) if !pool.is_closed() => (tenant, false),
            _ => return None,
        };
        Some(Taken { tenant: tenant.clone(), may_end })
    }

    /// Closes the idle connection of any pool but `own`.
    fn evict_for(&self, own: Option<&Arc<Pool>>) {
        if let Holder::Idle(idle) = self
            && let Some(idle) = idle.upgrade()
            && own.is_none_or(|own| !Arc::ptr_eq(own, &idle))
        {
            idle.evict();
        }
    }
}

/// The right to the engine's connection, until dropped.
pub(crate) struct Claim {
    slot: Arc<Slot>,
    pool: Weak<Pool>,
}

impl Claim {
    /// Whoever held the connection has let go of it: it is free as soon as it is tidied up.
    pub(super) fn ends_by_itself(&self) {
        if let Holder::Busy(tenant) = &mut *self.slot.holder() {
            tenant.purpose = Purpose::CleanUp;
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let kept = self.pool.upgrade().filter(|pool| pool.has_any());
        *self.slot.holder() = match kept {
            Some(pool) => Holder::Idle(Arc::downgrade(&pool)),
            None => Holder::Nobody,
        };
        self.slot.freed.notify_waiters();
    }
}
