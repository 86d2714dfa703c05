//! A session's connection while one of its statements has it.

use std::ops::{Deref, DerefMut};

use tokio::sync::MappedMutexGuard;

use super::{Id, Shared};
use crate::pool::Lent;

/// Dropped, it notes that the session may have changed something, for the nested sessions around it.
pub(super) struct Held<'a> {
    lent: MappedMutexGuard<'a, Lent>,
    noted: Option<(&'a Shared, Id)>,
    stream: Option<&'a Shared>,
}

impl<'a> Held<'a> {
    /// `noted` is who runs the statement, where that matters to others.
    pub(super) fn new(
        lent: MappedMutexGuard<'a, Lent>,
        noted: Option<(&'a Shared, Id)>,
    ) -> Held<'a> {
        Held { lent, noted, stream: None }
    }

    /// Notes that the caller decides how long it is held, who may be waiting for the next statement.
    pub(super) fn streams(mut self, shared: &'a Shared, sql: &str) -> Held<'a> {
        *shared.stream() = Some(sql.to_owned());
        self.stream = Some(shared);
        self
    }
}

impl Deref for Held<'_> {
    type Target = Lent;

    fn deref(&self) -> &Lent {
        &self.lent
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Lent {
        &mut self.lent
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(shared) = self.stream {
            *shared.stream() = None;
        }
        if let Some((shared, id)) = self.noted
            && (self.lent.is_in_flight() || !self.lent.last_failed())
        {
            shared.savepoints().ran(id);
        }
    }
}
