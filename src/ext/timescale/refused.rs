//! TimescaleDB's errors in wharf's words.

use sea_orm::DbErr;

use crate::error::{Error, TimescaleError, driver_error, server_error};

/// Returns the server's error about `feature` of `subject` in wharf's words. Errors that are not the server's (a lost
/// connection, a closed pool) are returned unchanged.
pub(super) fn explained(
    source: DbErr,
    subject: String,
    feature: &'static str,
    columns: &str,
) -> DbErr {
    let Some(said) = driver_error(&source).and_then(server_error) else {
        return source;
    };
    let message = said.message().to_owned();
    let error = match said.code() {
        "0A000" if message.contains("license") => {
            TimescaleError::Licence { subject, feature, source }
        }
        // No such function, type, parameter namespace (`timescaledb.compress`), or procedure.
        "42883" | "42704" | "22023" if is_missing(&message) => {
            TimescaleError::Missing { subject, source }
        }
        "TS103" => TimescaleError::NotInKey { subject, columns: columns.to_owned(), source },
        _ => {
            let hint = said.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
            let reason = format!("{message}{hint}");
            TimescaleError::Refused { subject, reason, source }
        }
    };
    Error::from(error).into()
}

fn is_missing(message: &str) -> bool {
    message.contains("does not exist")
        || message.contains("unrecognized parameter namespace")
        || message.contains("unrecognized configuration parameter")
}
