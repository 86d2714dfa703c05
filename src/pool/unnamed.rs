//! Statements that are not kept prepared, in a transaction.
//!
//! Between preparing and running one, the driver asks for types that it does not know, and the server forgets an unnamed
//! statement at the next question (26000). Outside of a transaction it is prepared anew. In one, that error ends the
//! transaction, so the first run of a text on a connection has a savepoint around it.

use sea_orm::DbErr;

use super::{
    lent::{Lent, runtime},
    state::{Failures, Plans, State, Transaction},
};
use crate::{error::server_error, statement::Text};

/// The state of a connection before the first run of a text.
pub(super) struct Guard {
    failures: Failures,
    plans: Plans,
    hash: u64,
    has_returned: bool,
}

impl Lent {
    /// Whether the server may forget the statement before it runs, and its transaction would end by that.
    pub(super) fn may_lose(&mut self, text: Text<'_>) -> bool {
        let is_guarded = !self.keeps_statements() && self.state.transaction == Transaction::Open;
        is_guarded && self.open.as_mut().is_some_and(|open| !open.memory.texts.of(text).has_run)
    }

    pub(super) async fn guard(&mut self, text: Text<'_>) -> Result<Guard, DbErr> {
        self.control("SAVEPOINT wharf_types").await.map_err(failed)?;
        let State { failures, plans, .. } = self.state;
        Ok(Guard { failures, plans, hash: text.hash, has_returned: false })
    }

    /// Undoes the error of a statement that was forgotten, once: the driver knows its types by then. Returns whether it may be
    /// sent again.
    pub(super) async fn recover_if_lost(
        &mut self,
        guard: Option<&mut Guard>,
        error: &sqlx::Error,
    ) -> bool {
        let Some(guard) = guard.filter(|guard| !guard.has_returned && is_lost(error)) else {
            return false;
        };
        guard.has_returned = true;
        let is_undone = self.control("ROLLBACK TO SAVEPOINT wharf_types").await.is_ok();
        (self.state.failures, self.state.plans) = (guard.failures, guard.plans);
        is_undone
    }

    pub(super) async fn release(&mut self, guard: &Guard) -> Result<(), DbErr> {
        self.control("RELEASE SAVEPOINT wharf_types").await.map_err(failed)?;
        if let Some(open) = &mut self.open {
            open.memory.texts.note_run(guard.hash);
        }
        Ok(())
    }
}

/// Whether the server did not know the statement.
fn is_lost(error: &sqlx::Error) -> bool {
    server_error(error).is_some_and(|error| error.code() == "26000")
}

fn failed(error: sqlx::Error) -> DbErr {
    DbErr::Exec(runtime(error))
}
