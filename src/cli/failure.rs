//! Why a command failed, and its exit code.

use std::fmt;
use std::process::ExitCode;

use sea_orm::{DbErr, RuntimeErr};
use serde_json::{Value, json};
use sqlx::postgres::PgDatabaseError;

use super::out;
use crate::Error;
use crate::config::ConfigError;
use crate::pgserver::PgServerError;

#[derive(Debug)]
pub(super) enum Failure {
    /// The command was tried.
    Failed(String),
    /// The command line lacks something that only the file could tell.
    Usage(String),
    /// The file is invalid or missing.
    File(String),
    /// The server or a database is unreachable.
    Absent(String),
    /// A confirmation was declined.
    Declined(String),
    /// The server refused a statement.
    Statement(Box<StatementError>),
    /// A program ended with this code and has printed why.
    Code(u8),
}

/// The server's error for a statement, with its position.
#[derive(Debug)]
pub(super) struct StatementError {
    pub(super) text: String,
    pub(super) json: Value,
}

impl Failure {
    pub(super) fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Failure::Failed(_) | Failure::Statement(_) => 1,
            Failure::Usage(_) => 2,
            Failure::File(_) => 3,
            Failure::Absent(_) => 4,
            Failure::Declined(_) => 5,
            Failure::Code(code) => *code,
        })
    }

    /// Prints it on standard error: one line of text, or one JSON object.
    pub(super) fn report(&self, json: bool) {
        match self.message() {
            Some(_) if json && let Failure::Statement(error) = self => out::exact_note(&error.json),
            Some(message) if json => out::exact_note(json!({"error": message})),
            Some(message) => out::error(message),
            None => {}
        }
    }

    /// What is said of it; nothing where that has been done.
    pub(super) fn message(&self) -> Option<&str> {
        match self {
            Failure::Failed(said)
            | Failure::Usage(said)
            | Failure::File(said)
            | Failure::Absent(said)
            | Failure::Declined(said) => Some(said),
            Failure::Statement(error) => Some(&error.text),
            Failure::Code(_) => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message().unwrap_or_default())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let said = said(&error);
        match error {
            Error::Config(_) | Error::NoPgServer | Error::UnknownDatabase { .. } => {
                Failure::File(said)
            }
            Error::PgServerDown { .. } | Error::Connect(_) => Failure::Absent(said),
            _ => Failure::Failed(said),
        }
    }
}

/// The server's own words where it said no: the driver's have a place in the server's source, which
/// reads like one in the statement.
fn said(error: &Error) -> String {
    let Error::Db(inner) = error else {
        return error.to_string();
    };
    let (DbErr::Exec(RuntimeErr::SqlxError(driver)) | DbErr::Query(RuntimeErr::SqlxError(driver))) =
        inner
    else {
        return error.to_string();
    };
    let refused =
        driver.as_database_error().and_then(|it| it.try_downcast_ref::<PgDatabaseError>());
    let Some(refused) = refused else {
        return error.to_string();
    };
    let more = [refused.detail(), refused.hint()].into_iter().flatten();
    let more: String = more.map(|text| format!("; {text}")).collect();
    format!("{}{more} (SQLSTATE {})", refused.message(), refused.code())
}

impl From<PgServerError> for Failure {
    fn from(error: PgServerError) -> Failure {
        Failure::from(Error::from(error))
    }
}

impl From<DbErr> for Failure {
    fn from(error: DbErr) -> Failure {
        Failure::from(Error::from(error))
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::File(error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::Failed(error.to_string())
    }
}
