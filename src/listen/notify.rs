//! Says something to those who listen.

use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::channel;
use crate::{error::Error, pg::Pg, session::Session};

/// PostgreSQL's, where it was built with pages of 8 kB, as all are.
const PAYLOAD_MAX: usize = 7_999;

impl Session {
    /// Notifies those who [listen](Pg::listen) to `channel`, when this session commits; never, if it does
    /// not, or if it is a nested one that is rolled back. One round trip.
    ///
    /// What is said on one channel twice in the same words is heard once, where it is said in one session.
    /// What is to be heard each time has to differ: by a number, say. Listeners hear it in the order in
    /// which sessions commit. A payload is for a key or two: those who hear it look the rest up.
    ///
    /// ```no_run
    /// # async fn doc(pg: wharf::Pg) -> Result<(), wharf::Error> {
    /// use sea_orm::ConnectionTrait;
    /// pg.session()
    ///     .run(async |s| {
    ///         s.execute_unprepared("INSERT INTO orders (id) VALUES (17)").await?;
    ///         s.notify("orders", "17").await
    ///     })
    ///     .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::Notifications`] for what cannot be a channel, and for a payload of more than 7,999 bytes or
    /// with a NUL in it; [`Error::ReadOnly`] in a read-only session, of which nothing is committed. Nothing
    /// was sent then. Else a statement's; the server's queue may be full (53400), because of a
    /// [`Listener`](super::Listener) that is not read, and then it is the COMMIT that fails.
    pub async fn notify(&self, channel: &str, payload: impl Into<String>) -> Result<(), Error> {
        notify(self, self.database(), self.is_read_only(), channel, payload.into()).await
    }
}

impl Pg {
    /// Notifies those who [listen](Pg::listen) to `channel`, now. One round trip.
    ///
    /// # Errors
    /// As [`Session::notify`].
    pub async fn notify(&self, channel: &str, payload: impl Into<String>) -> Result<(), Error> {
        notify(self, self.name(), self.is_read_only(), channel, payload.into()).await
    }
}

async fn notify(
    on: &impl ConnectionTrait,
    database: &str,
    read_only: bool,
    channel: &str,
    payload: String,
) -> Result<(), Error> {
    if read_only {
        let what = "a notification is sent at commit, and a read-only session commits nothing; notify from a session that may write";
        return Err(Error::ReadOnly { database: database.to_owned(), what: what.to_owned() });
    }
    channel::check(database, channel)?;
    let refuse = |wrong: String| {
        let (database, channel) = (database.to_owned(), channel.escape_debug());
        let reason = format!("the payload for channel \"{channel}\" {wrong}");
        Err(Error::Notifications { database, reason })
    };
    if payload.len() > PAYLOAD_MAX {
        let length = payload.len();
        return refuse(format!(
            "has {length} bytes, and PostgreSQL allows {PAYLOAD_MAX}; store it in a table, and send its key"
        ));
    }
    if payload.contains('\0') {
        return refuse("contains a NUL, which PostgreSQL's text cannot".to_owned());
    }
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT pg_notify($1, $2)",
        [channel.into(), payload.into()],
    );
    on.execute_raw(statement).await?;
    Ok(())
}
