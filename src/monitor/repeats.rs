//! The same statement again and again: an N+1.

use std::{panic::Location, sync::Arc};

use super::{Fingerprint, Monitor, scope, table::Entry};
use crate::config::NPlusOne;

/// How many kinds of statements are counted at a time. A loop runs few; where there are more, the
/// one with the fewest makes room.
const KINDS: usize = 16;

/// How often each statement ran in one session or scope. Allocates nothing.
#[derive(Default)]
pub(crate) struct Repeats {
    any: bool,
    kinds: [Kind; KINDS],
}

#[derive(Default)]
struct Kind {
    fingerprint: Option<Fingerprint>,
    count: u32,
    /// Those that ran too often.
    entry: Option<(Arc<Entry>, Arc<str>)>,
}

impl Repeats {
    /// How often it has run, this time included.
    fn count(&mut self, fingerprint: Fingerprint) -> &mut Kind {
        let known = self.kinds.iter().position(|kind| kind.fingerprint == Some(fingerprint));
        let fewest = || {
            let counts = self.kinds.iter().enumerate().map(|(at, kind)| (kind.count, at));
            counts.min().map_or(0, |(_, at)| at)
        };
        let at = known.unwrap_or_else(fewest);
        let kind = &mut self.kinds[at];
        if known.is_none() {
            *kind = Kind { fingerprint: Some(fingerprint), ..Kind::default() };
        }
        kind.count += 1;
        self.any = true;
        kind
    }

    /// The session or scope is over: warns of those that ran too often, and begins anew.
    pub(crate) fn end(&mut self, what: &str, opened_at: Option<&'static Location<'static>>) {
        if !std::mem::take(&mut self.any) {
            return;
        }
        for kind in &mut self.kinds {
            if kind.fingerprint.is_none() {
                continue;
            }
            if let Kind { count, entry: Some((entry, database)), .. } = std::mem::take(kind) {
                let digest = entry.digest();
                tracing::warn!(
                    database = %database,
                    fingerprint = %digest.fingerprint(),
                    count,
                    opened_at = opened_at.map(tracing::field::display),
                    "the same statement ran {count} times in {what}; use one for all (a join, a loader, IN (…), insert_many): {}",
                    digest.text(),
                );
            }
        }
    }
}

impl Monitor {
    /// Counts a statement in the scope around it, or in its session. Gives the place of that scope.
    pub(super) fn count(
        &self,
        entry: &Arc<Entry>,
        in_session: Option<&mut Repeats>,
        opened_at: Option<&'static Location<'static>>,
    ) -> Result<Option<&'static Location<'static>>, TooOften> {
        let digest = entry.digest();
        if digest.controls_transaction() {
            return Ok(None);
        }
        let in_scope = scope::current(|scope| {
            scope.saw(digest);
            let ran = self.ran_again(entry, &mut scope.repeats());
            match ran {
                Ok(()) => Ok(Some(scope.opened_at)),
                Err(count) => Err(TooOften::new(entry, count, Some(scope.opened_at))),
            }
        });
        match (in_scope, in_session) {
            (Some(counted), _) => counted,
            (None, Some(repeats)) => self
                .ran_again(entry, repeats)
                .map(|()| None)
                .map_err(|count| TooOften::new(entry, count, opened_at)),
            (None, None) => Ok(None),
        }
    }

    /// Whether it may run once more; else how often it has.
    fn ran_again(&self, entry: &Arc<Entry>, repeats: &mut Repeats) -> Result<(), u32> {
        let action = self.config.n_plus_one;
        if action == NPlusOne::Off || entry.digest().is_cursor_step() {
            return Ok(());
        }
        let kind = repeats.count(entry.digest().fingerprint());
        let too_often = kind.count >= self.config.n_plus_one_threshold;
        if kind.count == self.config.n_plus_one_threshold {
            entry.meter().n_plus_one();
        }
        match action {
            NPlusOne::Error if too_often => Err(kind.count),
            _ if too_often && kind.entry.is_none() => {
                kind.entry = Some((Arc::clone(entry), Arc::clone(&self.database)));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// A statement that was not sent, because it would have run too often.
pub(crate) struct TooOften {
    /// How often it would have run, this time included.
    pub(crate) count: u32,
    /// Its text, with `?` for literals.
    pub(crate) statement: String,
    /// Where the session or scope began, where that is known.
    pub(crate) opened_at: Option<&'static Location<'static>>,
}

impl TooOften {
    fn new(entry: &Entry, count: u32, opened_at: Option<&'static Location<'static>>) -> TooOften {
        TooOften { count, statement: entry.digest().text().to_owned(), opened_at }
    }
}
