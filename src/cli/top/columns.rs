//! Which columns of a view fit on the screen, and how wide they are.

use super::rows::Row;

pub(super) struct Column {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Columns of a lower rank stay longer where the screen is narrow.
    rank: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// To the right, at least this wide, and never cut.
    Figure(usize),
    /// To the left, at most this wide.
    Text(usize),
    /// Has the rest of the width.
    Rest,
}

const fn figure(name: &'static str, least: usize, rank: u8) -> Column {
    Column { name, kind: Kind::Figure(least), rank }
}

const fn text(name: &'static str, most: usize, rank: u8) -> Column {
    Column { name, kind: Kind::Text(most), rank }
}

const fn rest(name: &'static str) -> Column {
    Column { name, kind: Kind::Rest, rank: 0 }
}

pub(super) const STATEMENTS: &[Column] = &[
    figure("pid", 7, 0),
    text("database", 20, 3),
    text("user", 20, 4),
    text("application", 20, 5),
    text("state", 11, 2),
    figure("for", 8, 0),
    text("waits for", 28, 1),
    rest("statement"),
];

pub(super) const LOCKS: &[Column] =
    &[text("process", 24, 0), text("state", 44, 1), figure("for", 8, 0), rest("statement")];

pub(super) const SLOWEST: &[Column] = &[
    figure("total", 8, 0),
    figure("load", 5, 2),
    figure("calls", 7, 1),
    figure("calls/s", 7, 3),
    figure("mean", 8, 1),
    figure("rows", 7, 4),
    rest("statement"),
];

pub(super) const DATABASES: &[Column] = &[
    figure("size", 8, 0),
    figure("connections", 11, 0),
    figure("commits/s", 9, 1),
    figure("rollbacks/s", 11, 4),
    figure("rows read/s", 11, 3),
    figure("rows written/s", 14, 3),
    figure("from cache", 10, 2),
    figure("deadlocks", 9, 5),
    figure("spilled", 9, 6),
    rest("database"),
];

/// Between two columns.
pub(super) const GAP: usize = 2;

/// The columns that fit, by their places, each with its width. The one at `sorted` is among them.
pub(super) fn fitting(
    columns: &[Column],
    rows: &[Row],
    sorted: Option<usize>,
    width: usize,
) -> Vec<(usize, usize)> {
    // The last column tells most, so it may have two fifths of the screen.
    let most = width * 2 / 5;
    let wanted = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.cells.get(at));
        let widest = cells.map(|cell| cell.text.chars().count()).max().unwrap_or(0);
        // A mark follows the name of the column that is sorted by.
        let name = columns[at].name.chars().count() + if sorted == Some(at) { 2 } else { 0 };
        match columns[at].kind {
            Kind::Figure(least) => widest.max(name).max(least),
            Kind::Text(most) => widest.min(most).max(name),
            Kind::Rest => widest.min(most).max(name),
        }
    };
    let mut ranked: Vec<usize> = (0..columns.len()).collect();
    let first = |at: &usize| columns[*at].kind != Kind::Rest && sorted != Some(*at);
    ranked.sort_by_key(|at| (first(at), columns[*at].rank));
    let mut fitting = Vec::new();
    let mut used = 0;
    for at in ranked {
        let wide = wanted(at);
        if used + wide > width && !fitting.is_empty() {
            break;
        }
        fitting.push((at, wide));
        used += wide + GAP;
    }
    fitting.sort_unstable();
    let left = (width + GAP).saturating_sub(used);
    if let Some((_, wide)) = fitting.iter_mut().find(|(at, _)| columns[*at].kind == Kind::Rest) {
        *wide += left;
    }
    fitting
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_that_is_shown_is_whole_and_the_sorted_one_is_shown() {
        for columns in [STATEMENTS, LOCKS, SLOWEST, DATABASES] {
            for width in 40..200 {
                for sorted in [None, Some(1), Some(columns.len() - 2)] {
                    let shown = fitting(columns, &[], sorted, width);
                    let taken: usize = shown.iter().map(|(_, wide)| wide + GAP).sum();
                    assert_eq!(taken, width + GAP, "of {width}");
                    assert!(sorted.is_none_or(|at| shown.iter().any(|(it, _)| *it == at)));
                    assert!(shown.iter().any(|(at, _)| columns[*at].kind == Kind::Rest));
                }
            }
        }
        let many = |width| fitting(STATEMENTS, &[], None, width).len();
        assert!(many(40) < many(120) && many(120) == STATEMENTS.len());
    }
}
