//! Whoever else wants to be told.

use std::time::Duration;

use super::StatementEvent;

/// Told of what happens, each method at once and on the task to which it happens, which may be one whose
/// future is being dropped: so it should be quick, and never block or panic. What it is not interested in
/// it leaves out. Set by [`Monitor::set_observer`](super::Monitor::set_observer).
///
/// ```
/// use wharf::monitor::{Observer, StatementEvent};
///
/// struct Failures;
///
/// impl Observer for Failures {
///     fn statement(&self, event: &StatementEvent<'_>) {
///         if let wharf::monitor::Outcome::Failed { error_type, .. } = event.outcome {
///             eprintln!("{}: {} failed: {error_type}", event.database, event.digest.text());
///         }
///     }
/// }
/// # fn doc(pg: wharf::Pg) { let _ = pg.monitor().set_observer(Failures); }
/// ```
pub trait Observer: Send + Sync {
    /// A statement has come to its end.
    fn statement(&self, event: &StatementEvent<'_>) {
        let _ = event;
    }

    /// A connection was lent after `wait`.
    fn lent(&self, pool: &str, wait: Duration) {
        let _ = (pool, wait);
    }

    /// It came back, after `used`.
    fn given_back(&self, pool: &str, used: Duration) {
        let _ = (pool, used);
    }

    /// No connection came free within `pool_timeout`.
    fn timed_out(&self, pool: &str, waited: Duration) {
        let _ = (pool, waited);
    }

    /// A connection was opened, which took `took`.
    fn connected(&self, pool: &str, took: Duration) {
        let _ = (pool, took);
    }
}

/// Nobody.
impl Observer for () {}
