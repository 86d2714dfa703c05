//! Why a copy came to nothing.

use std::fmt;

use sea_orm::DbErr;
use sqlx::postgres::PgDatabaseError;

use super::{driver_error, server_error};

/// A copy into a table that came to nothing, and where it stopped.
#[non_exhaustive]
pub struct CopyError {
    /// Key of the database in the file.
    pub database: String,
    /// The table, as it was named.
    pub table: String,
    /// The row that was wrong, counted from 1, where that is known: the server does not say it of what it checks at
    /// the end (a foreign key, a deferred constraint, the INSERT of an upsert). It is the first one; but a COPY
    /// checks unique keys in groups of up to 1,000 rows, so it may name a row that breaks another rule before an
    /// earlier one that is there already.
    pub row: Option<u64>,
    /// The table has partitions or chunks, which COPY fills one after another, so that rows before `row` may be wrong,
    /// too.
    pub in_parts: bool,
    /// The line of the CSV file that was wrong, the first being the columns' names.
    pub line: Option<u64>,
    /// Its column, where it is one that was wrong.
    pub column: Option<String>,
    /// What was wrong with it.
    pub reason: CopyFault,
}

crate::debug::debug_is_message!(CopyError);

/// What was wrong.
#[derive(Debug)]
#[non_exhaustive]
pub enum CopyFault {
    /// A value, a row or the table is not what it has to be; nothing of it was sent.
    Refused(String),
    /// Where the rows came from, or the file, failed.
    Source(Box<dyn std::error::Error + Send + Sync>),
    /// The server said no, or was lost.
    Server(DbErr),
}

impl CopyError {
    pub(crate) fn new(database: &str, table: &str, reason: CopyFault) -> CopyError {
        CopyError {
            database: database.to_owned(),
            table: table.to_owned(),
            row: None,
            in_parts: false,
            line: None,
            column: None,
            reason,
        }
    }

    /// The server's error, which knows the row by its place in the COPY that followed `before` rows.
    pub(crate) fn of_server(
        database: &str,
        table: &str,
        before: u64,
        in_parts: bool,
        error: DbErr,
    ) -> CopyError {
        let mut copy = CopyError::new(database, table, CopyFault::Server(error));
        let CopyFault::Server(error) = &copy.reason else { return copy };
        let place = server_error_of(error).and_then(PgDatabaseError::r#where).and_then(place);
        if let Some((row, column)) = place {
            (copy.row, copy.column, copy.in_parts) = (Some(before + row), column, in_parts);
        }
        copy
    }
}

fn server_error_of(error: &DbErr) -> Option<&PgDatabaseError> {
    driver_error(error).and_then(server_error)
}

/// Line and column of `COPY reading, line 17, column at: "x"`, in whatever language: the first number
/// behind the table's name is the line.
fn place(context: &str) -> Option<(u64, Option<String>)> {
    let copy = context.lines().find_map(|line| line.strip_prefix("COPY "))?;
    let (_, place) = copy.split_once(", ")?;
    let begin = place.find(|char: char| char.is_ascii_digit())?;
    let (_, line) = place.split_at_checked(begin)?;
    let end = line.find(|char: char| !char.is_ascii_digit()).unwrap_or(line.len());
    let (line, column) = line.split_at_checked(end)?;
    let column = column.strip_prefix(", ").and_then(|column| {
        let (_, name) = column.split_once(' ')?;
        Some(name.split_once(':').map_or(name, |(name, _)| name).to_owned())
    });
    Some((line.parse().ok()?, column))
}

impl fmt::Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CopyError { database, table, row, in_parts, line, column, reason } = self;
        write!(f, "database `{database}`: nothing was copied into {table}")?;
        match (row, line) {
            (Some(row), _) => write!(f, ", because of row {row}")?,
            (None, Some(line)) => write!(f, ", because of line {line}")?,
            (None, None) => {}
        }
        if *in_parts {
            f.write_str(" (those before it may be wrong, too: the table has parts)")?;
        }
        if let Some(column) = column {
            write!(f, ", column `{column}`")?;
        }
        match reason {
            CopyFault::Refused(why) => write!(f, ": {why}"),
            CopyFault::Source(error) => write!(f, ": {error}"),
            CopyFault::Server(error) => {
                write!(f, ": {}", super::text(error))?;
                match is_for_insert(error) {
                    true => f.write_str(". Use `insert_many`, or `copy_in` with `on_conflict`."),
                    false => Ok(()),
                }
            }
        }
    }
}

/// Whether PostgreSQL has no COPY into such a table, but INSERT: row-level security, and views.
///
/// Its messages may be in any language. Of this SQLSTATE, those two alone come from COPY itself with a hint, and
/// what a trigger says has a place.
fn is_for_insert(error: &DbErr) -> bool {
    let Some(error) = server_error_of(error) else { return false };
    matches!(error.code(), "0A000" | "42809") && error.hint().is_some() && error.r#where().is_none()
}

impl std::error::Error for CopyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.reason {
            CopyFault::Refused(_) => None,
            CopyFault::Source(error) => Some(&**error),
            CopyFault::Server(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn the_place_is_read_from_the_servers_context() {
        let column = |name: &str| Some(name.to_owned());
        assert_eq!(place("COPY t, line 3, column a: \"x, y: 7\""), Some((3, column("a"))));
        assert_eq!(place("COPY t, line 3, column a"), Some((3, column("a"))));
        assert_eq!(place("COPY t, line 31: \"7,8,\""), Some((31, None)));
        assert_eq!(place("COPY t7, Zeile 12"), Some((12, None)));
        assert_eq!(place("PL/pgSQL function f() line 3 at RAISE\nCOPY t, line 2"), Some((2, None)));
        assert_eq!(place("SQL statement"), None);
    }
}
