//! What a listener hears.

use std::time::Duration;

use sqlx::postgres::PgNotification;

/// What a [`Listener`](super::Listener) tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Somebody has notified, and committed.
    Notification(Notification),
    /// The connection was lost, and all channels are listened to again: notifications between what came
    /// before this and what comes after it may be lost. Read again what they tell of.
    Lost {
        /// How long nothing was heard for certain: from the last sign of life of the connection that was
        /// lost until the new one listened. By this machine's clock.
        gap: Duration,
    },
}

/// What somebody said, by [`notify`](crate::Session::notify) or `NOTIFY`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Notification {
    /// Where.
    pub channel: String,
    /// What; empty where nothing was said.
    pub payload: String,
    /// The server's process that the one who said it was connected to, as `pg_backend_pid()` has it.
    pub process_id: u32,
}

impl From<PgNotification> for Notification {
    fn from(said: PgNotification) -> Notification {
        Notification {
            channel: said.channel().to_owned(),
            payload: said.payload().to_owned(),
            process_id: said.process_id(),
        }
    }
}
