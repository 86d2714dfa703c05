//! How a pool is.

use std::fmt;

/// How many connections a pool has, and what they are doing. A snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Most connections there may be: `pool_size` + `max_overflow`.
    pub max: usize,
    /// Connections open now.
    pub open: usize,
    /// Of those, waiting to be lent.
    pub idle: usize,
    /// Of those, lent.
    pub in_use: usize,
    /// Connections being opened.
    pub opening: usize,
    /// Callers waiting for a connection.
    pub waiting: usize,
}

impl fmt::Display for PoolStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { max, open, idle, in_use, waiting, .. } = self;
        write!(f, "{open} of at most {max} open, {in_use} in use, {idle} idle, {waiting} waiting")
    }
}
