//! Whether a database is well, and what its connections do.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use sea_orm::{DbBackend, DbErr, QueryResult, Statement};

use super::Pg;
use crate::{
    error::Error,
    pool::{self, FirstRow, Lent, Pool, Purpose},
    statement::{Author, Request},
    stats::PoolStats,
    topology::ServerStatus,
};

/// How long a server may take to answer at the least.
const LEAST: Duration = Duration::from_millis(100);

impl Pg {
    /// Asks the server for a sign of life. One round trip, or a connect where no connection is
    /// open; at most `pool_timeout` in all.
    ///
    /// # Errors
    /// As a statement's; but where the server cannot be reached, the next failed attempt to connect
    /// is told, without waiting for it to come back. [`Error::NoAnswer`] after `pool_timeout`.
    pub async fn ping(&self) -> Result<(), DbErr> {
        let ping = async |lent: &mut Lent| {
            lent.control("").await.map_err(|error| DbErr::Conn(pool::runtime(error)))
        };
        self.in_time(ping).await
    }

    /// Has a connection answer within `pool_timeout`, the wait for the connection included. One that does
    /// not is closed.
    async fn in_time<T>(
        &self,
        ask: impl AsyncFnOnce(&mut Lent) -> Result<T, DbErr>,
    ) -> Result<T, DbErr> {
        let started = Instant::now();
        let mut lent = self.database.lend(self.is_read_only(), Purpose::Ping).await?;
        // Where the connection came in the last moment, the server still has one to answer in.
        let left = lent.pool_timeout().saturating_sub(started.elapsed()).max(LEAST);
        match tokio::time::timeout(left, ask(&mut lent)).await {
            Ok(answered) => answered,
            Err(_) => {
                lent.close();
                let database = self.name().to_owned();
                Err(Error::NoAnswer { database, waited: started.elapsed() }.into())
            }
        }
    }

    /// How the database is: the server's version, and how long it took to say so.
    pub(crate) async fn healthy(&self) -> Result<Healthy, Error> {
        let statement = Statement::from_string(DbBackend::Postgres, "SHOW server_version");
        let ask = async |lent: &mut Lent| {
            let started = Instant::now();
            let row = lent.ask::<FirstRow>(Request::new(Author::Wharf(&statement))).await?;
            Ok((row, started.elapsed()))
        };
        let (row, latency) = self.in_time(ask).await?;
        let server_version = match row {
            Some(row) => QueryResult::from(row).try_get_by_index(0)?,
            None => String::new(),
        };
        let servers = match self.database.topology().await? {
            Some(topology) => topology.status_or_ask().await,
            None => Vec::new(),
        };
        Ok(Healthy { latency, server_version, servers })
    }

    /// What its connections are doing now. No round trip.
    pub fn stats(&self) -> PgStats {
        let stats = |pool: Option<&Arc<Pool>>| pool.map(|pool| pool.stats()).unwrap_or_default();
        PgStats { writer: stats(self.database.writer()), reader: stats(self.database.reader()) }
    }
}

/// What a healthy database answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Healthy {
    /// One round trip on an open connection.
    pub latency: Duration,
    /// The server's own words: `17.5`, `15.18 (Debian 15.18-0+deb12u1)`.
    pub server_version: String,
    /// The servers of an entry that reads on standbys, as they were seen within the last seconds. Else empty.
    pub servers: Vec<ServerStatus>,
}

/// What the connections of one database are doing. A snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PgStats {
    /// Those that may write.
    pub writer: PoolStats,
    /// Those that start read-only.
    pub reader: PoolStats,
}
