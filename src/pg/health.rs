//! Whether a database is well, and what its connections do.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use sea_orm::{DbBackend, DbErr, QueryResult, Statement};

use super::Pg;
use crate::{
    author::Author,
    error::Error,
    pool::{self, Pool, PoolStats, Purpose},
};

impl Pg {
    /// Asks the server for a sign of life. One round trip, or a connect where no connection is
    /// open.
    ///
    /// # Errors
    /// As a statement's; but where the server cannot be reached, the next failed attempt to connect
    /// is told, without waiting for it to come back.
    pub async fn ping(&self) -> Result<(), DbErr> {
        let mut lent = self.lend(self.read_only, Purpose::Ping).await?;
        lent.control("").await.map_err(|error| DbErr::Conn(pool::runtime(error)))
    }

    /// How the database is: the server's version, and how long it took to say so.
    pub(crate) async fn healthy(&self) -> Result<Healthy, Error> {
        let mut lent = self.lend(self.read_only, Purpose::Ping).await?;
        let statement = Statement::from_string(DbBackend::Postgres, "SHOW server_version");
        let started = Instant::now();
        let row = lent.query_one(statement.clone(), Author::Caller(&statement)).await?;
        let latency = started.elapsed();
        let server_version = match row {
            Some(row) => QueryResult::from(row).try_get_by_index(0)?,
            None => String::new(),
        };
        Ok(Healthy { latency, server_version })
    }

    /// What its connections are doing now. No round trip.
    pub fn stats(&self) -> PgStats {
        let stats =
            |pool: &OnceLock<Arc<Pool>>| pool.get().map(|pool| pool.stats()).unwrap_or_default();
        PgStats { writer: stats(&self.database.writer), reader: stats(&self.database.reader) }
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
