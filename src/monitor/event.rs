//! A statement that has come to its end.

use std::{panic::Location, time::Duration};

use super::Digest;

/// A statement that has come to its end, one way or another.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StatementEvent<'a> {
    /// Key of the database in the file.
    pub database: &'a str,
    /// What kind of statement it was.
    pub digest: &'a Digest,
    /// How long it waited for its connection: zero where one was idle, `None` in a session, where the
    /// BEGIN did, and where that is not known.
    pub wait: Option<Duration>,
    /// From when it was sent to when its last answer was read. For a stream the time in which it waited
    /// for the server, without that in which its reader did something else.
    pub elapsed: Duration,
    /// From when it was sent to its end, by the clock; differs from `elapsed` for streams only.
    pub span: Duration,
    /// Rows that came back, or that were written, where that is known.
    pub rows: Option<u64>,
    /// Whether `rows` came back.
    pub returned: bool,
    /// How it ended.
    pub outcome: Outcome<'a>,
    /// Whether it ran in a session.
    pub in_transaction: bool,
    /// Whether it ran where only reading is allowed.
    pub read_only: bool,
    /// Where in the caller's code the session or the scope around it began, where that is known.
    pub opened_at: Option<&'static Location<'static>>,
}

/// How a statement ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome<'a> {
    /// As it should.
    Done,
    /// With an error.
    Failed {
        /// The SQLSTATE, or `timeout`, `closed`, `connection`, `protocol`, `tls`, `encode`, `decode`,
        /// `_OTHER`: OpenTelemetry's `error.type`.
        error_type: &'a str,
        /// The server's own word for it.
        sqlstate: Option<&'a str>,
    },
    /// Its future or stream was dropped before its end.
    Dropped,
}

impl<'a> StatementEvent<'a> {
    pub(super) fn new(database: &'a str, digest: &'a Digest) -> StatementEvent<'a> {
        StatementEvent {
            database,
            digest,
            wait: None,
            elapsed: Duration::ZERO,
            span: Duration::ZERO,
            rows: None,
            returned: false,
            outcome: Outcome::Done,
            in_transaction: false,
            read_only: false,
            opened_at: None,
        }
    }

    /// OpenTelemetry's `error.type`.
    pub(super) fn error_type(&self) -> Option<&'a str> {
        match self.outcome {
            Outcome::Done => None,
            Outcome::Failed { error_type, .. } => Some(error_type),
            Outcome::Dropped => Some("dropped"),
        }
    }

    pub(super) fn sqlstate(&self) -> Option<&'a str> {
        match self.outcome {
            Outcome::Failed { sqlstate, .. } => sqlstate,
            _ => None,
        }
    }
}
