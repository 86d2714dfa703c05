//! What the connections of a pool do, and who has them.

use std::{fmt, panic::Location, time::Duration};

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

/// Somebody who has a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// What it is: a session, a stream, a statement.
    pub what: &'static str,
    /// Where in the caller's code it was opened, as far as that is known: a session that was begun
    /// on a [`Pg`](crate::Pg) tells, what SeaORM began or runs by itself does not.
    pub opened_at: Option<&'static Location<'static>>,
    /// For how long it has had the connection.
    pub held: Duration,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, opened_at, held } = self;
        match opened_at {
            Some(place) => {
                write!(f, "{what} opened at {place} has held a connection for {held:.0?}")
            }
            None => write!(f, "{what} has held a connection for {held:.0?}"),
        }
    }
}
