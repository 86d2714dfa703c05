//! The columns that fit, each whole.

use ratatui::layout::Constraint;

/// A column: its heading, its width, and the width of the screen from which on it is shown.
pub(super) struct Column(pub(super) &'static str, pub(super) u16, pub(super) u16);

pub(super) const STATEMENTS: &[Column] = &[
    Column("pid", 7, 0),
    Column("database", 12, 90),
    Column("user", 12, 110),
    Column("application", 14, 125),
    Column("state", 11, 60),
    Column("for", 10, 0),
    Column("waits for", 18, 76),
    Column("statement", 0, 0),
];

pub(super) const LOCKS: &[Column] = &[
    Column("process", 13, 0),
    Column("state", 36, 76),
    Column("for", 10, 0),
    Column("statement", 0, 0),
];

pub(super) const SLOWEST: &[Column] = &[
    Column("total", 10, 0),
    Column("calls", 9, 0),
    Column("mean", 9, 60),
    Column("rows", 10, 76),
    Column("statement", 0, 0),
];

pub(super) const DATABASES: &[Column] = &[
    Column("size", 10, 0),
    Column("connections", 11, 50),
    Column("commits", 11, 60),
    Column("rollbacks", 10, 100),
    Column("from cache", 10, 74),
    Column("deadlocks", 9, 100),
    Column("spilled", 10, 120),
    Column("database", 0, 0),
];

/// The columns that a screen of this width shows, by their places; one has the rest of the width.
pub(super) fn fitting(columns: &[Column], width: u16) -> Vec<usize> {
    (0..columns.len()).filter(|at| width >= columns[*at].2).collect()
}

pub(super) fn widths(columns: &[Column], shown: &[usize]) -> Vec<Constraint> {
    let width = |at: &usize| match columns[*at].1 {
        0 => Constraint::Fill(1),
        width => Constraint::Length(width),
    };
    shown.iter().map(width).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_leaves_the_last_column_room() {
        for columns in [STATEMENTS, LOCKS, SLOWEST, DATABASES] {
            for width in [40_u16, 50, 60, 76, 80, 100, 120, 200] {
                let shown = fitting(columns, width);
                let taken: u16 = shown.iter().map(|at| columns[*at].1 + 1).sum();
                assert!(taken + 12 <= width, "{} of {width}", taken);
            }
        }
    }
}
