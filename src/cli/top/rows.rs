//! The rows of a view: texts to show, and what they are sorted by.

use std::cmp::Ordering;
use std::time::Duration;

use super::columns::{self, Column};
use super::locks;
use super::rates;
use super::sample::{Activity, Database, Sample, Slow};
use crate::cli::out::{self, size};
use crate::cli::visible::visible;

/// How a row is emphasized.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    /// Blocks others.
    Root,
    /// Runs for long.
    Warning,
    /// Waits for a lock, or runs for very long.
    Alarm,
}

/// A statement that runs for longer is a warning.
const LONG: Duration = Duration::from_secs(5);
/// A statement that runs for longer is an alarm.
const VERY_LONG: Duration = Duration::from_secs(60);

pub(super) struct Cell {
    pub(super) text: String,
    /// The number by which a column of figures is sorted.
    figure: Option<f64>,
}

impl Cell {
    fn text(text: impl Into<String>) -> Cell {
        Cell { text: visible(&text.into()).into_owned(), figure: None }
    }

    fn figure(figure: f64, text: String) -> Cell {
        Cell { text, figure: Some(figure) }
    }

    fn count(count: i64) -> Cell {
        Cell::figure(count as f64, count.to_string())
    }

    fn age(span: Duration) -> Cell {
        Cell::figure(span.as_secs_f64(), age(span))
    }

    fn bytes(bytes: i64) -> Cell {
        Cell::figure(bytes as f64, size(u64::try_from(bytes).unwrap_or(0)))
    }

    /// A figure that may not be known yet.
    fn known(figure: Option<f64>, shown: fn(f64) -> String) -> Cell {
        figure.map_or_else(|| Cell::text("-"), |figure| Cell::figure(figure, shown(figure)))
    }

    /// Figures from the largest on, those that are not known last; texts by the alphabet.
    fn compare(&self, other: &Cell) -> Ordering {
        match (self.figure, other.figure) {
            (Some(one), Some(other)) => other.total_cmp(&one),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => self.text.cmp(&other.text),
        }
    }
}

pub(super) struct Row {
    /// One for each column of the view.
    pub(super) cells: Vec<Cell>,
    pub(super) tone: Tone,
    pub(super) pid: Option<i32>,
    pub(super) query: String,
    /// Where the filter looks, beside `query`.
    names: Vec<String>,
}

impl Row {
    fn matches(&self, filter: &str) -> bool {
        let mut texts = self.names.iter().chain([&self.query]);
        texts.any(|text| text.to_lowercase().contains(filter))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Statements,
    Locks,
    Slowest,
    Databases,
}

impl View {
    pub(super) const ALL: [View; 4] =
        [View::Statements, View::Locks, View::Slowest, View::Databases];

    pub(super) fn name(self) -> &'static str {
        match self {
            View::Statements => "Statements",
            View::Locks => "Locks",
            View::Slowest => "Slowest",
            View::Databases => "Databases",
        }
    }

    pub(super) fn columns(self) -> &'static [Column] {
        match self {
            View::Statements => columns::STATEMENTS,
            View::Locks => columns::LOCKS,
            View::Slowest => columns::SLOWEST,
            View::Databases => columns::DATABASES,
        }
    }

    /// The column that its rows are sorted by before anybody chooses. The tree of locks has its own order.
    pub(super) fn first_sort(self) -> Option<usize> {
        let name = match self {
            View::Statements => "for",
            View::Locks => return None,
            View::Slowest => "total",
            View::Databases => "connections",
        };
        self.columns().iter().position(|column| column.name == name)
    }

    /// All rows, or the reason why there are none. Rates are since `first`.
    pub(super) fn rows<'a>(
        self,
        first: Option<&Sample>,
        now: &'a Sample,
    ) -> Result<Vec<Row>, &'a str> {
        Ok(match self {
            View::Statements => now.activity.iter().map(activity).collect(),
            View::Locks => locks::tree(&now.locks).into_iter().map(lock).collect(),
            View::Slowest => {
                let slowest = now.slowest.as_ref().map_err(String::as_str)?;
                slowest.iter().map(|it| slow(first, now, it)).collect()
            }
            View::Databases => now.databases.iter().map(|it| database(first, now, it)).collect(),
        })
    }
}

/// Keeps the rows that contain `filter`, in any case. A tree of locks is kept whole.
pub(super) fn filter(view: View, rows: &mut Vec<Row>, filter: &str) {
    let filter = filter.to_lowercase();
    match view {
        View::Locks if rows.iter().any(|row| row.matches(&filter)) => {}
        _ => rows.retain(|row| row.matches(&filter)),
    }
}

pub(super) fn sort(rows: &mut [Row], column: usize) {
    rows.sort_by(|one, other| match (one.cells.get(column), other.cells.get(column)) {
        (Some(one), Some(other)) => one.compare(other),
        _ => Ordering::Equal,
    });
}

/// `active, Lock:relation`, or the backends that block this one.
pub(super) fn waits(it: &Activity) -> String {
    match it.blocked_by.as_slice() {
        [] => it.wait.clone().unwrap_or_default(),
        blockers => {
            let pids: Vec<String> = blockers.iter().map(i32::to_string).collect();
            format!("lock of {}", pids.join(", "))
        }
    }
}

fn activity(it: &Activity) -> Row {
    let tone = match it.age {
        _ if !it.blocked_by.is_empty() => Tone::Alarm,
        age if age > VERY_LONG => Tone::Alarm,
        age if age > LONG => Tone::Warning,
        _ => Tone::Plain,
    };
    let state = match it.state.as_str() {
        "idle in transaction" => "idle in tx",
        "idle in transaction (aborted)" => "failed tx",
        state => state,
    };
    let cells = vec![
        Cell::count(it.pid.into()),
        Cell::text(&it.database),
        Cell::text(&it.user),
        Cell::text(&it.application),
        Cell::text(state),
        Cell::age(it.age),
        Cell::text(waits(it)),
        Cell::text(&it.query),
    ];
    let names = vec![it.database.clone(), it.user.clone(), it.application.clone()];
    Row { cells, tone, pid: Some(it.pid), query: it.query.clone(), names }
}

fn lock(it: locks::Node) -> Row {
    let pid = match it.depth {
        0 => it.pid.to_string(),
        depth => format!("{}└ {}", "  ".repeat(depth - 1), it.pid),
    };
    let age = it.age.map_or_else(|| Cell::text(""), Cell::age);
    let cells = vec![Cell::text(pid), Cell::text(&it.state), age, Cell::text(&it.query)];
    let tone = if it.depth == 0 { Tone::Root } else { Tone::Plain };
    Row { cells, tone, pid: Some(it.pid), query: it.query, names: vec![it.state] }
}

fn slow(first: Option<&Sample>, now: &Sample, it: &Slow) -> Row {
    let since = first.and_then(|first| rates::of_statement(first, now, it));
    let cells = vec![
        Cell::age(it.counters.total),
        Cell::known(since.map(|(_, load)| load), |load| format!("{load:.2}")),
        Cell::count(it.counters.calls),
        Cell::known(since.map(|(calls, _)| calls), rate),
        Cell::age(it.counters.mean()),
        Cell::count(it.counters.rows),
        Cell::text(&it.query),
    ];
    Row { cells, tone: Tone::Plain, pid: None, query: it.query.clone(), names: Vec::new() }
}

fn database(first: Option<&Sample>, now: &Sample, it: &Database) -> Row {
    let since = |of: fn(&Database) -> i64| {
        let known = first.and_then(|first| rates::of_database(first, now, it, of));
        Cell::known(known, rate)
    };
    let cells = vec![
        it.size.map_or_else(|| Cell::text("-"), Cell::bytes),
        Cell::count(it.connections),
        Cell::known(first.and_then(|first| rates::commits_of_database(first, now, it)), rate),
        since(|it| it.rollbacks),
        since(|it| it.rows_read),
        since(|it| it.rows_written),
        Cell::known(it.cache(), |share| format!("{share:.1} %")),
        Cell::count(it.deadlocks),
        Cell::bytes(it.temporary),
        Cell::text(&it.name),
    ];
    Row { cells, tone: Tone::Plain, pid: None, query: String::new(), names: vec![it.name.clone()] }
}

/// `4.2 s`, `1 min 5 s`.
pub(super) fn age(span: Duration) -> String {
    match span {
        span if span < Duration::from_secs(1) => format!("{:.1} ms", span.as_secs_f64() * 1e3),
        span if span < Duration::from_secs(60) => format!("{:.1} s", span.as_secs_f64()),
        span => out::ago(span),
    }
}

/// `0.4`, `12`: with a decimal only where it says something.
pub(super) fn rate(per_second: f64) -> String {
    match per_second < 10.0 {
        true => format!("{per_second:.1}"),
        false => format!("{per_second:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_sorted_from_the_largest_and_texts_by_the_alphabet() {
        let row = |cell| Row {
            cells: vec![cell],
            tone: Tone::Plain,
            pid: None,
            query: String::new(),
            names: Vec::new(),
        };
        let sorted = |cells: Vec<Cell>| {
            let mut rows: Vec<Row> = cells.into_iter().map(row).collect();
            sort(&mut rows, 0);
            rows.into_iter().map(|mut row| row.cells.remove(0).text).collect::<Vec<_>>()
        };
        let figures = vec![Cell::count(9), Cell::text("-"), Cell::count(100), Cell::count(20)];
        assert_eq!(sorted(figures), ["100", "20", "9", "-"]);
        assert_eq!(sorted(vec![Cell::text("b"), Cell::text("a")]), ["a", "b"]);
    }
}
