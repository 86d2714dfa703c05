//! The state of a lent connection, as far as it matters to the next borrower.

use super::lent::{is_fatal, is_stale};
use crate::statement::Leaves;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct State {
    pub(super) work: Work,
    pub(super) transaction: Transaction,
    pub(super) failures: Failures,
    /// The last statement has failed.
    pub(super) last_failed: bool,
    /// Settings, locks and the like that its statements may have left.
    pub(super) leaves: Leaves,
    pub(super) plans: Plans,
    /// A statement that may write was sent on it.
    pub(super) has_written: bool,
    /// The future of a statement was dropped, so the server may keep a prepared statement that the driver does not
    /// know.
    pub(super) dropped: bool,
}

/// The work under way between driver and server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Work {
    /// All that was sent has been answered.
    #[default]
    Idle,
    /// A statement was sent and its end not seen.
    Statement,
    /// The same, and its rows are read as they come.
    Stream,
    /// It is in a COPY, out of which the driver does not find by itself.
    Copy,
    /// It came out of a COPY with driver and server at different places.
    OutOfStep,
    /// The driver or the server has given it up.
    Broken,
}

impl Work {
    /// Whether something was sent whose end was not seen, and can be waited for.
    pub(super) fn is_in_flight(self) -> bool {
        matches!(self, Work::Statement | Work::Stream | Work::Copy)
    }
}

/// The transaction, as far as the server has confirmed it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Transaction {
    #[default]
    None,
    /// BEGIN was sent.
    Open,
    /// COMMIT or ROLLBACK was sent and has not succeeded. An error of a COMMIT that ran ends the transaction;
    /// one that was canceled before it ran leaves it open, and failed.
    Ending,
}

/// Whether statements have failed since the connection was lent, the worst for another attempt last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failures {
    #[default]
    None,
    Some,
    /// A write was refused (25006), as a standby does.
    RefusedWrite,
    /// One because of what others did at the same time (40001, 40P01, a stale plan): another attempt may get
    /// past it.
    ByChance,
}

/// Whether the driver's prepared statements are what the server has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Plans {
    #[default]
    Valid,
    /// The server has forgotten them, or what they were prepared for has changed.
    Stale,
    /// They were stale and have been prepared anew since the connection was lent.
    Renewed,
    /// That did not help: once is enough.
    StaleAgain,
}

impl Plans {
    pub(super) fn are_stale(self) -> bool {
        matches!(self, Plans::Stale | Plans::StaleAgain)
    }
}

impl State {
    /// A statement has failed.
    pub(super) fn note(&mut self, error: &sqlx::Error) {
        let stale = is_stale(error);
        let code = error.as_database_error().and_then(|error| error.code());
        let by_chance = stale || matches!(code.as_deref(), Some("40001" | "40P01"));
        let failure = match code.as_deref() {
            _ if by_chance => Failures::ByChance,
            Some("25006") => Failures::RefusedWrite,
            _ => Failures::Some,
        };
        self.failures = self.failures.max(failure);
        // A transaction is open and has failed, whoever left it: the repair rolls it back.
        if code.as_deref() == Some("25P02") && self.transaction == Transaction::None {
            self.transaction = Transaction::Open;
        }
        if stale {
            self.plans = match self.plans {
                Plans::Valid | Plans::Stale => Plans::Stale,
                Plans::Renewed | Plans::StaleAgain => Plans::StaleAgain,
            };
        }
        if is_fatal(error) {
            self.work = Work::Broken;
        }
    }
}
