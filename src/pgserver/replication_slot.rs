//! Replication slots, which keep on a primary what its standbys have not received yet. wharf makes one for each clone.

use super::{error::PgServerError, folder::random_hex};

/// Returns a name that no slot has yet. All names of wharf's slots begin with `wharf_`.
///
/// # Errors
/// [`PgServerError`] made by `failed`, if the system gives no random number.
pub(crate) fn new_name(
    failed: impl FnOnce(std::io::Error) -> PgServerError,
) -> Result<String, PgServerError> {
    Ok(format!("wharf_{}", &random_hex().map_err(failed)?[..12]))
}

/// The statement that creates a slot, which keeps the log from then on.
pub(crate) fn create(name: &str) -> String {
    format!("SELECT pg_create_physical_replication_slot('{name}', true)::text")
}
