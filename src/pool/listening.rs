//! A connection that listens.
//!
//! The driver hands notifications out by its `PgListener` alone, and that takes its connection from a
//! pool of the driver's own. So each gets a pool of one, which it takes with it when it goes: what has
//! been lost is opened anew from here, with the login of that moment, and never behind anybody's back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sea_orm::DbErr;
use sqlx::{
    Acquire as _, Connection as _, PgPool,
    postgres::{PgListener, PgNotification, PgPoolOptions},
};

use super::{ConnectTo, Host, connector::Connector, runtime, slot};
use crate::{error::Error, sql};

/// Where to listen, and as whom.
pub(crate) struct ListensTo {
    connector: Connector,
}

impl ListensTo {
    /// # Errors
    /// [`Error::Notifications`] for the embedded engine.
    pub(crate) fn new(to: ConnectTo) -> Result<ListensTo, Error> {
        if slot::of(&to.host, to.port).is_some() {
            return Err(Error::Notifications {
                database: to.name.to_string(),
                reason:
                    "the embedded engine serves one connection in all, and a listener needs its own; use `runtime: native` or `docker`"
                        .to_owned(),
            });
        }
        let read_only = to.read_only;
        Ok(ListensTo { connector: Connector::new(Arc::new(Host::new(to)), read_only) })
    }

    /// Opens a connection that listens to `channels`.
    pub(crate) async fn open(
        &self,
        channels: impl IntoIterator<Item = &str>,
    ) -> Result<Listening, Error> {
        // The driver's pool would knock at a server that refuses until its time is up, and then not
        // say why it got no connection. So somebody else knocks first.
        let knocked = self.connector.within_limit(async |to, login| {
            let (knocking, options) = self.connector.connect(to, login).await?;
            // It has served its purpose, however it ends.
            let _ = knocking.close().await;
            let pool = PgPoolOptions::new()
                .max_connections(1)
                .max_lifetime(None)
                .idle_timeout(None)
                .acquire_timeout(self.connector.to.config.connect_timeout)
                .connect_lazy_with(options);
            let mut driver = PgListener::connect_with(&pool).await?;
            driver.eager_reconnect(false);
            driver.ignore_pool_close_event(true);
            Ok((driver, pool))
        });
        let (driver, pool) = knocked.await.map_err(Error::Connect)?;
        let limit = self.connector.to.config.connect_timeout;
        let mut listening = Listening { driver, pool, limit, heard_at: Instant::now() };
        let all: Vec<_> = channels.into_iter().map(listen_to).collect();
        if !all.is_empty() {
            let listened = listening.run(all.join("; ")).await;
            listened.map_err(|error| self.explain(error))?;
        }
        Ok(listening)
    }

    fn explain(&self, error: sqlx::Error) -> Error {
        let database = self.connector.to.name.to_string();
        let code = error.as_database_error().and_then(|error| error.code());
        match code.as_deref() {
            // Whoever only reads may listen; a standby may not.
            Some("25006") => Error::Notifications {
                database,
                reason:
                    "this server is a standby, where LISTEN is not possible; listen on the primary"
                        .to_owned(),
            },
            _ => Error::Db(DbErr::Exec(runtime(error))),
        }
    }
}

fn listen_to(channel: &str) -> String {
    format!("LISTEN {}", sql::quote_ident(channel))
}

/// A connection that listens. Dropping it closes it.
pub(crate) struct Listening {
    driver: PgListener,
    pool: PgPool,
    /// How long an answer is waited for.
    limit: Duration,
    /// The last sign of life.
    pub(crate) heard_at: Instant,
}

impl Listening {
    /// The next notification. Dropping the future loses none.
    pub(crate) async fn next(&mut self) -> Result<PgNotification, sqlx::Error> {
        match self.driver.try_recv().await? {
            Some(notification) => {
                self.heard_at = Instant::now();
                Ok(notification)
            }
            // Not to be asked again: it would connect by itself.
            None => Err(lost(std::io::ErrorKind::UnexpectedEof)),
        }
    }

    pub(crate) async fn listen(&mut self, channel: &str) -> Result<(), sqlx::Error> {
        self.run(listen_to(channel)).await
    }

    pub(crate) async fn unlisten(&mut self, channel: &str) -> Result<(), sqlx::Error> {
        self.run(format!("UNLISTEN {}", sql::quote_ident(channel))).await
    }

    /// Whether the server still is there.
    pub(crate) async fn ping(&mut self) -> Result<(), sqlx::Error> {
        // What answers a ping answers an empty text.
        self.run(String::new()).await
    }

    async fn run(&mut self, sql: String) -> Result<(), sqlx::Error> {
        let answered = tokio::time::timeout(self.limit, async {
            let connection = self.driver.acquire().await?;
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(connection).await
        });
        answered.await.map_err(|_| lost(std::io::ErrorKind::TimedOut))??;
        self.heard_at = Instant::now();
        Ok(())
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // The driver sends UNLISTEN and gives the connection back to its pool, which closes it then. Where
        // the network swallows everything that takes until the system gives the socket up.
        drop(self.pool.close());
    }
}

fn lost(how: std::io::ErrorKind) -> sqlx::Error {
    sqlx::Error::Io(how.into())
}
