//! The name of a channel.

use crate::error::Error;

/// PostgreSQL cuts a longer name short where it is listened to, and refuses it where it is notified.
const NAME_MAX: usize = 63;

/// # Errors
/// [`Error::Notifications`] for what would be another name to PostgreSQL, or none.
pub(super) fn check(database: &str, name: &str) -> Result<(), Error> {
    let wrong = if name.is_empty() {
        "it is empty"
    } else if name.len() > NAME_MAX {
        "it is longer than PostgreSQL's 63 bytes"
    } else if name.contains('\0') {
        "it contains a NUL"
    } else {
        return Ok(());
    };
    Err(Error::Notifications {
        database: database.to_owned(),
        reason: format!("{name:?} is not a valid channel name: {wrong}"),
    })
}
