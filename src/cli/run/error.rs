//! A statement's error, with the place in the statement.

use sea_orm::DbErr;
use serde_json::json;
use sqlx::postgres::{PgDatabaseError, PgErrorPosition};

use crate::Error;
use crate::cli::failure::{Failure, StatementError};
use crate::error::driver_error;

/// The server's error in psql's form. `line` is the statement's first line in its file.
pub(super) fn explained(sql: &str, line: Option<usize>, error: DbErr) -> Failure {
    let error = Error::from(error);
    if let Error::TransactionControl { keyword, .. } = &error {
        return transaction_control(keyword);
    }
    let Error::Db(inner) = &error else {
        return error.into();
    };
    let said = driver_error(inner)
        .and_then(|driver| driver.as_database_error()?.try_downcast_ref::<PgDatabaseError>());
    let Some(said) = said else {
        return error.into();
    };
    let position = match said.position() {
        Some(PgErrorPosition::Original(at)) => Some(at),
        _ => None,
    };
    let place = position.and_then(|position| Place::of(sql, position));
    let first = line.unwrap_or(1);
    let mut text = format!("{} (SQLSTATE {})", said.message(), said.code());
    if let Some(place) = &place {
        let head = format!("LINE {}: ", first + place.line);
        let caret = " ".repeat(head.chars().count() + place.column);
        text.push_str(&format!("\n{head}{}\n{caret}^", place.text));
    } else if let Some(line) = line {
        text.push_str(&format!("\nLINE {line}: {}", sql.lines().next().unwrap_or_default()));
    }
    for (name, more) in
        [("DETAIL", said.detail()), ("HINT", said.hint()), ("CONTEXT", said.r#where())]
    {
        if let Some(more) = more {
            text.push_str(&format!("\n{name}: {more}"));
        }
    }
    match said.message() {
        message if message.contains("read-only transaction") => {
            text.push_str("\nHINT: Allow writes with --write.");
        }
        message if message.contains("multiple commands") => text.push_str(
            "\nHINT: Give one statement, or put them into a file: wharf run NAME -f FILE.",
        ),
        // VACUUM, CREATE DATABASE, ALTER SYSTEM and others.
        message if message.contains("inside a transaction block") => text.push_str(
            "\nHINT: A statement runs outside of a transaction if it is alone and may write: \
             wharf run [NAME] --write SQL.",
        ),
        _ => {}
    }
    let json = json!({
        "error": said.message(), "sqlstate": said.code(), "position": position,
        "line": place.as_ref().map(|place| first + place.line).or(line),
        "detail": said.detail(), "hint": said.hint(), "context": said.r#where(),
    });
    Failure::Statement(Box::new(StatementError { text, json }))
}

pub(super) fn transaction_control(keyword: &str) -> Failure {
    Failure::Failed(format!(
        "{keyword} is not allowed here: a file runs in one transaction, and a single statement by itself; \
         use `wharf psql NAME`"
    ))
}

/// Where in a statement an error is.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    /// From 0.
    line: usize,
    /// The line, with spaces for tabs.
    text: String,
    /// Characters before it, from 0.
    column: usize,
}

impl Place {
    /// `position` counts characters, from 1.
    fn of(sql: &str, position: usize) -> Option<Place> {
        let mut left = position.checked_sub(1)?;
        for (line, text) in sql.split('\n').enumerate() {
            let length = text.chars().count();
            if left <= length {
                // An escape is longer than its character and would move the caret.
                let plain = |c: char| if c.is_control() { ' ' } else { c };
                let text = text.trim_end_matches('\r').chars().map(plain).collect();
                return Some(Place { line, text, column: left });
            }
            left -= length + 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_a_line_and_a_column_in_characters() {
        let place = |line, text: &str, column| Some(Place { line, text: text.to_owned(), column });
        assert_eq!(Place::of("SELECT x", 8), place(0, "SELECT x", 7));
        assert_eq!(Place::of("SELECT 'ä',\n\tx", 14), place(1, " x", 1));
        assert_eq!(Place::of("SELECT", 99), None);
        assert_eq!(Place::of("SELECT", 0), None);
    }
}
