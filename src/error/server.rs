//! The server's error, and how it reads.

use sea_orm::DbErr;
use sqlx::postgres::PgDatabaseError;

use super::driver_error;

/// The server's error, if it is one.
pub(crate) fn server_error(error: &sqlx::Error) -> Option<&PgDatabaseError> {
    error.as_database_error()?.try_downcast_ref()
}

/// As the driver has it, with the server's hint.
pub(super) fn driver_text(error: &sqlx::Error) -> String {
    with_hint(error.to_string(), Some(error))
}

/// As SeaORM has it, with the server's hint.
pub(crate) fn text(error: &DbErr) -> String {
    with_hint(error.to_string(), driver_error(error))
}

fn with_hint(mut text: String, error: Option<&sqlx::Error>) -> String {
    let Some(error) = error.and_then(server_error) else {
        return text;
    };
    // A line of PostgreSQL's own source, which readers take for one of theirs.
    if let Some(line) = error.line()
        && let Some(short) = text.strip_suffix(&format!(" at line {line}"))
    {
        text.truncate(short.len());
    }
    let mut text = cut(text);
    if let Some(hint) = error.hint() {
        text.push_str("; hint: ");
        text.push_str(&cut(hint.to_owned()));
    }
    text
}

/// How much of a message is shown: what a function raises may be as long as a table's rows.
const SHOWN: usize = 8 * 1024;

fn cut(mut text: String) -> String {
    let length = text.len();
    if length <= SHOWN {
        return text;
    }
    text.truncate(text.floor_char_boundary(SHOWN));
    text.push_str(&format!("… ({length} bytes)"));
    text
}
