//! A statement under way.

use std::{
    panic::Location,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

#[cfg(feature = "tracing-spans")]
use super::span::Span;
use super::{Monitor, Outcome, StatementEvent, ledger::Kind, plan::Explainable};
use crate::{statement::Author, view::View};

/// What is around a statement.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    pub(crate) started: Instant,
    pub(crate) wait: Option<Duration>,
    pub(crate) in_transaction: bool,
    pub(crate) read_only: bool,
    pub(crate) opened_at: Option<&'static Location<'static>>,
    /// Who can write it once more; nobody wrote what wharf sends by itself.
    pub(crate) author: Option<Author<'a>>,
    /// The view in which it runs, if it runs in one.
    pub(crate) view: Option<&'a Arc<View>>,
}

/// A statement under way. Dropped before it was ended, it is told as dropped.
pub(crate) struct Running<'a> {
    monitor: &'a Monitor,
    kind: &'a mut Kind,
    /// Which recorder was there when it began.
    epoch: u64,
    context: Context<'a>,
    /// The time in which it waited for the server, where that is not all.
    polled: Option<Polled>,
    /// Of a stream, those that its reader has been given.
    given: Option<Arc<AtomicU64>>,
    ended: bool,
    #[cfg(feature = "tracing-spans")]
    span: Span,
}

/// Rows of a statement.
#[derive(Clone, Copy)]
pub(crate) enum Rows {
    Returned(u64),
    Affected(u64),
}

/// The time in which a stream waited for the server.
#[derive(Clone, Copy)]
struct Polled {
    before: Duration,
    since: Option<Instant>,
}

impl<'a> Running<'a> {
    #[inline]
    pub(super) fn new(
        monitor: &'a Monitor,
        kind: &'a mut Kind,
        epoch: u64,
        context: Context<'a>,
    ) -> Running<'a> {
        Running {
            #[cfg(feature = "tracing-spans")]
            span: Span::new(kind.entry.digest(), monitor.target.get()),
            monitor,
            kind,
            epoch,
            context,
            polled: None,
            given: None,
            ended: false,
        }
    }

    /// It is one whose rows are read as they come: its reader's time is not its own. `given` counts what the
    /// reader has been given.
    pub(crate) fn streams(&mut self, given: Arc<AtomicU64>) {
        self.waits_for_others();
        self.given = Some(given);
    }

    /// Somebody else's time is not its own.
    pub(crate) fn waits_for_others(&mut self) {
        self.polled = Some(Polled { before: Duration::ZERO, since: Some(self.context.started) });
    }

    /// The server is waited for from here on.
    pub(crate) fn waits(&mut self) {
        if let Some(polled) = &mut self.polled
            && polled.since.is_none()
        {
            polled.since = Some(Instant::now());
        }
    }

    /// What the server was waited for has come.
    pub(crate) fn came(&mut self) {
        if let Some(polled) = &mut self.polled
            && let Some(since) = polled.since.take()
        {
            polled.before += since.elapsed();
        }
    }

    /// Tells what it has come to. Gives the time at which it ended.
    pub(crate) fn end(mut self, outcome: Outcome<'_>, rows: Option<Rows>) -> Instant {
        self.ended = true;
        self.tell(outcome, rows)
    }

    fn tell(&mut self, outcome: Outcome<'_>, rows: Option<Rows>) -> Instant {
        let now = Instant::now();
        let span = now.saturating_duration_since(self.context.started);
        let elapsed = match self.polled {
            None => span,
            Some(Polled { before, since }) => {
                before + since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
            }
        };
        let given = || Some(Rows::Returned(self.given.as_ref()?.load(Ordering::Relaxed)));
        let (rows, returned) = match rows.or_else(given) {
            None => (None, false),
            Some(Rows::Affected(rows)) => (Some(rows), false),
            Some(Rows::Returned(rows)) => (Some(rows), true),
        };
        let Context { wait, in_transaction, read_only, opened_at, author, view, .. } = self.context;
        let Kind { entry, recordings } = &mut *self.kind;
        let event = StatementEvent {
            database: &self.monitor.database,
            digest: entry.digest(),
            wait,
            elapsed,
            span,
            rows,
            returned,
            outcome,
            in_transaction,
            read_only,
            opened_at,
        };
        #[cfg(feature = "tracing-spans")]
        self.span.end(&event);
        let explainable = Explainable { write: &|| author.map(Author::write), view };
        self.monitor.tell(entry, recordings, self.epoch, &event, now, explainable);
        now
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.tell(Outcome::Dropped, None);
        }
    }
}
