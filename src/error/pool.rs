//! Somebody had a connection while another needed it.

use std::{fmt, panic::Location, time::Duration};

use crate::stats::{Holder, PoolStats};

/// Nobody gave a connection back for as long as `pool_timeout`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PoolTimeout {
    /// Key of the database in the file.
    pub database: String,
    /// How long this caller waited.
    pub waited: Duration,
    /// The pool as it was then.
    pub stats: PoolStats,
    /// Those that have had a connection longest, three at the most.
    pub longest: Vec<Holder>,
}

impl fmt::Display for PoolTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { database, waited, stats, longest } = self;
        write!(
            f,
            "database `{database}`: no connection was available within {waited:.0?} ({stats}); hold \
             sessions and streams for less time, or raise pool_size or max_overflow"
        )?;
        longest.iter().try_for_each(|holder| write!(f, "; {holder}"))
    }
}

impl std::error::Error for PoolTimeout {}

/// No standby may serve a read, and the entry says `fallback: error`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct NoStandby {
    /// Key of the database in the file.
    pub database: String,
    /// Why.
    pub reason: String,
    /// What was seen of each server last.
    pub servers: Vec<String>,
}

impl fmt::Display for NoStandby {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { database, reason, servers } = self;
        write!(
            f,
            "database `{database}`: no standby can serve this read: {reason} ({}); retry, or let the primary serve it by \
             `replica: {{fallback: primary}}`",
            servers.join("; ")
        )
    }
}

impl std::error::Error for NoStandby {}

/// Some had not given their connections back when a pool was to be closed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CutOff {
    /// Key of the database in the file.
    pub database: String,
    /// How long they were waited for.
    pub waited: Duration,
    /// How many connections that were.
    pub cut: usize,
    /// Those that had had one longest, three at the most.
    pub longest: Vec<Holder>,
}

impl fmt::Display for CutOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { database, waited, cut, longest } = self;
        write!(
            f,
            "database `{database}`: {cut} connections were still in use {waited:.0?} after the pool was \
             closed, and were closed"
        )?;
        longest.iter().try_for_each(|holder| write!(f, "; {holder}"))
    }
}

impl std::error::Error for CutOff {}

/// The embedded engine's one connection was needed while somebody had it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SingleConnection {
    /// Key of the database that it was needed for.
    pub database: String,
    /// What holds it: a session, a stream, SeaORM's own connection.
    pub holder: &'static str,
    /// Key of the database that the holder uses.
    pub holder_database: String,
    /// Where in the caller's code the holder was opened, as far as that is known.
    pub opened_at: Option<&'static Location<'static>>,
    /// For how long it has been held.
    pub held: Duration,
    /// For how long it was waited for.
    pub waited: Duration,
}

impl fmt::Display for SingleConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { database, holder, holder_database, held, waited, .. } = self;
        write!(
            f,
            "database `{database}`: the embedded engine serves one connection, and {holder} on \
             `{holder_database}`"
        )?;
        if let Some(place) = self.opened_at {
            write!(f, " opened at {place}")?;
        }
        write!(f, " has held it for {held:.0?}")?;
        if !waited.is_zero() && waited.as_millis() > 0 {
            write!(f, " (waited {waited:.0?})")?;
        }
        write!(f, "; end that one first, or use a server (`runtime: native` or `docker`)")
    }
}

impl std::error::Error for SingleConnection {}
