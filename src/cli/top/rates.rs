//! How fast a server's counters grow.

use super::sample::{Counters, Database, Sample, Slow};

/// Growth per second between two samples, over all databases.
pub(super) struct Rates {
    pub(super) commits: f64,
    pub(super) rollbacks: f64,
    pub(super) rows_read: f64,
    pub(super) rows_written: f64,
}

impl Rates {
    /// None if no time has passed, or if the counters were reset in between.
    pub(super) fn between(before: &Sample, now: &Sample) -> Option<Rates> {
        // Database by database: one that was dropped meanwhile takes its counts along.
        let growth = |of: fn(&Database) -> i64| {
            now.databases.iter().map(|it| growth_of_database(before, it, of)).sum::<i64>()
        };
        let rate = |of| per_second(before, now, growth(of));
        Some(Rates {
            commits: per_second(before, now, by_others(before, now, growth(|it| it.commits)))?,
            rollbacks: rate(|it| it.rollbacks)?,
            rows_read: rate(|it| it.rows_read)?,
            rows_written: rate(|it| it.rows_written)?,
        })
    }
}

/// Without the commits of wharf top itself. The server may count those a second late.
fn by_others(before: &Sample, now: &Sample, commits: i64) -> i64 {
    let own = now.own_commits - before.own_commits;
    if commits < 0 { commits } else { (commits - own).max(0) }
}

/// Commits per second of one database.
pub(super) fn commits_of_database(first: &Sample, now: &Sample, it: &Database) -> Option<f64> {
    let growth = growth_of_database(first, it, |it| it.commits);
    let growth = match it.name == now.database {
        true => by_others(first, now, growth),
        false => growth,
    };
    per_second(first, now, growth)
}

/// Growth per second of another counter of one database.
pub(super) fn of_database(
    first: &Sample,
    now: &Sample,
    it: &Database,
    of: fn(&Database) -> i64,
) -> Option<f64> {
    per_second(first, now, growth_of_database(first, it, of))
}

/// A database that was made since then counts from 0.
fn growth_of_database(first: &Sample, it: &Database, of: fn(&Database) -> i64) -> i64 {
    of(it) - first.databases.iter().find(|before| before.name == it.name).map_or(0, of)
}

/// Calls per second, and the share of the time in which the statement ran: 1.0 is one backend that
/// runs nothing else. A statement that is new since then counts from 0.
pub(super) fn of_statement(first: &Sample, now: &Sample, slow: &Slow) -> Option<(f64, f64)> {
    let Counters { calls, total, .. } = slow.counters;
    let (calls, total) = match first.baseline.get(&slow.key) {
        Some(before) => (calls - before.calls, total.checked_sub(before.total)?),
        None => (calls, total),
    };
    let seconds = now.at.duration_since(first.at).as_secs_f64();
    Some((per_second(first, now, calls)?, total.as_secs_f64() / seconds))
}

fn per_second(before: &Sample, now: &Sample, growth: i64) -> Option<f64> {
    let seconds = now.at.duration_since(before.at).as_secs_f64();
    (seconds > 0.0 && growth >= 0).then(|| growth as f64 / seconds)
}
