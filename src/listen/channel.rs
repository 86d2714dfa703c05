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
        "it has more than 63 bytes, which is what PostgreSQL has room for"
    } else if name.contains('\0') {
        "it holds a NUL, which no name can"
    } else {
        return Ok(());
    };
    Err(Error::Notifications {
        database: database.to_owned(),
        reason: format!("{name:?} cannot be a channel: {wrong}"),
    })
}
