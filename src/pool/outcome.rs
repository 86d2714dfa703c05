//! Tells the monitor how a statement ended.

use std::time::Instant;

use sqlx::postgres::{PgQueryResult, PgRow};

use crate::{
    error::Error,
    monitor::{OTHER, Outcome, Rows, Running},
};

/// The answer of a statement that succeeded.
pub(crate) trait Ended {
    fn rows(&self) -> Option<Rows>;
}

impl Ended for () {
    fn rows(&self) -> Option<Rows> {
        None
    }
}

impl Ended for PgQueryResult {
    fn rows(&self) -> Option<Rows> {
        Some(Rows::Affected(self.rows_affected()))
    }
}

impl Ended for Option<PgRow> {
    fn rows(&self) -> Option<Rows> {
        Some(Rows::Returned(u64::from(self.is_some())))
    }
}

impl Ended for Vec<PgRow> {
    fn rows(&self) -> Option<Rows> {
        Some(Rows::Returned(self.len() as u64))
    }
}

/// Tells the monitor. Gives the time at which it ended.
pub(super) fn tell<T: Ended>(running: Running<'_>, result: &Result<T, sqlx::Error>) -> Instant {
    match result {
        Ok(value) => running.end(Outcome::Done, value.rows()),
        Err(error) => {
            let sqlstate = error.as_database_error().and_then(|error| error.code());
            let sqlstate = sqlstate.as_deref();
            let error_type = sqlstate.unwrap_or(error_type(error));
            running.end(Outcome::Failed { error_type, sqlstate }, None)
        }
    }
}

fn error_type(error: &sqlx::Error) -> &'static str {
    use sqlx::Error::{
        ColumnDecode, Decode, Encode, Io, PoolClosed, PoolTimedOut, Protocol, Tls, WorkerCrashed,
    };
    match error {
        Io(inside) => match inside.get_ref().and_then(|error| error.downcast_ref()) {
            Some(Error::NoAnswer { .. }) => "timeout",
            Some(Error::Closed { .. }) => "closed",
            _ => "connection",
        },
        PoolTimedOut => "timeout",
        PoolClosed | WorkerCrashed => "closed",
        Protocol(_) => "protocol",
        Tls(_) => "tls",
        Encode(_) => "encode",
        Decode(_) | ColumnDecode { .. } => "decode",
        _ => OTHER,
    }
}
