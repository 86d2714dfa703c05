//! The statements on which the most time was spent.

use std::{
    cmp::Reverse,
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{Digest, Plan, figures::Figures, table::Entry};

/// The statements on which the most time was spent, the most first. It displays as a table.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Top {
    /// Kind by kind.
    pub statements: Vec<TopStatement>,
    /// What is not among them, because others needed the room.
    pub evicted: Evicted,
}

/// Figures of one kind of statement.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TopStatement {
    /// What kind it is.
    pub digest: Digest,
    /// How many have ended.
    pub calls: u64,
    /// Those of them that failed.
    pub errors: u64,
    /// Those of them whose future or stream was dropped before the end.
    pub dropped: u64,
    /// Those of them that were slower than `slow_statement_threshold`.
    pub slow: u64,
    /// Rows that came back or were written.
    pub rows: u64,
    /// Time that they waited for a connection, in all.
    pub wait: Duration,
    /// Execution time in all.
    pub total: Duration,
    /// Execution time of one, on average.
    pub mean: Duration,
    /// Half of them took no longer.
    pub p50: Duration,
    /// 95 in 100 took no longer.
    pub p95: Duration,
    /// 99 in 100 took no longer.
    pub p99: Duration,
    /// The longest took this.
    pub max: Duration,
    /// When the last of them ended.
    pub last_seen: SystemTime,
    /// How the server would go about one that was slow, with `explain: true`.
    pub plan: Option<Arc<Plan>>,
}

/// What had to make room in the table of statements: those on which the least time was spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Evicted {
    /// How often a kind of statement had to.
    pub digests: u64,
    /// How many statements those were.
    pub calls: u64,
    /// Execution time of those in all.
    pub total: Duration,
}

impl Evicted {
    pub(super) fn add(&mut self, figures: &Figures) {
        self.digests += 1;
        self.calls += figures.calls;
        self.total = self.total.saturating_add(figures.total);
    }
}

impl Entry {
    /// Its figures as they are now, if it has any.
    pub(super) fn statement(&self) -> Option<TopStatement> {
        let figures = self.figures().clone();
        let calls = u32::try_from(figures.calls).unwrap_or(u32::MAX);
        let last_seen = figures.last_seen?;
        Some(TopStatement {
            digest: self.digest().clone(),
            calls: figures.calls,
            errors: figures.errors,
            dropped: figures.dropped,
            slow: figures.slow,
            rows: figures.rows,
            wait: figures.wait,
            total: figures.total,
            mean: figures.total.checked_div(calls).unwrap_or_default(),
            p50: figures.quantile(0.50),
            p95: figures.quantile(0.95),
            p99: figures.quantile(0.99),
            max: figures.max,
            last_seen: SystemTime::now() - Instant::now().saturating_duration_since(last_seen),
            plan: self.plan().clone(),
        })
    }
}

impl Top {
    pub(super) fn new(
        statements: impl Iterator<Item = Option<TopStatement>>,
        number: usize,
        evicted: Evicted,
    ) -> Top {
        let mut statements: Vec<_> = statements.flatten().collect();
        statements.sort_by_key(|statement| Reverse(statement.total));
        statements.truncate(number);
        Top { statements, evicted }
    }
}

/// How much of a statement one line shows.
const SHOWN: usize = 100;

impl fmt::Display for Top {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7}  {:16}  statement",
            "total", "calls", "mean", "p95", "p99", "max", "rows", "errors", "fingerprint"
        )?;
        for statement in &self.statements {
            let TopStatement { digest, calls, errors, rows, total, mean, p95, p99, max, .. } =
                statement;
            let [total, mean, p95, p99, max] =
                [total, mean, p95, p99, max].map(|time| format!("{time:.1?}"));
            let text = digest.text();
            let cut = text.char_indices().nth(SHOWN).map_or(text.len(), |(at, _)| at);
            let shown = text.get(..cut).unwrap_or(text);
            let more = if cut < text.len() { "…" } else { "" };
            writeln!(
                f,
                "{total:>9} {calls:>9} {mean:>9} {p95:>9} {p99:>9} {max:>9} {rows:>9} {errors:>7}  \
                 {}  {shown}{more}",
                digest.fingerprint()
            )?;
        }
        let Evicted { digests, calls, total } = self.evicted;
        if digests > 0 {
            writeln!(
                f,
                "{:>9} {calls:>9}  of {digests} other kinds, evicted (top_statements)",
                format!("{total:.1?}")
            )?;
        }
        Ok(())
    }
}
