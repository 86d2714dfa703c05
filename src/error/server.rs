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
    if let Some(schema) = error.and_then(unseen) {
        text.push_str(&format!(
            "; hint: Add `{schema}` to `schema` of the entry, because the driver knows this type in the search path only."
        ));
    }
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
    if let Some(hint) = error.hint().or_else(|| remedy(error)) {
        text.push_str("; hint: ");
        text.push_str(&cut(hint.to_owned()));
    }
    text
}

/// The schema of a type that the driver would know by its name, were the schema in the search path.
fn unseen(error: &sqlx::Error) -> Option<String> {
    let sqlx::Error::ColumnDecode { source, .. } = error else { return None };
    let source = source.to_string();
    let (_, of) = source.split_once("is not compatible with SQL type `")?;
    let (schema, _) = of.split_once('`')?.0.rsplit_once('.')?;
    Some(schema.to_owned())
}

/// What the server says while a connection is opened, which quotes no row.
pub(super) fn refusal(error: &sqlx::Error) -> Option<String> {
    let error = server_error(error)?;
    let mut text = error.message().to_owned();
    if let Some(detail) = error.detail() {
        text.push_str("; ");
        text.push_str(detail);
    }
    if let Some(hint) = error.hint() {
        text.push_str("; hint: ");
        text.push_str(hint);
    }
    Some(cut(text))
}

/// What to do about an error for which the server has no hint, although it sounds like another one.
fn remedy(error: &PgDatabaseError) -> Option<&'static str> {
    // That of a full disk, from where shared memory for parallel workers is reserved.
    let is_shared_memory = error.code() == "53100"
        && error.routine().is_some_and(|routine| routine.starts_with("dsm_impl"));
    is_shared_memory.then_some(
        "The server's shared memory is full, not its disk. Give its container more (`shm_size` of pgserver, docker run --shm-size), or \
         use less maintenance_work_mem or fewer parallel workers.",
    )
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
