//! One process at a time.

use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement};

use super::MigrateError;
use crate::error::Error;

const INTERVAL: Duration = Duration::from_millis(100);
/// How often the log says that another process is waited for.
const TOLD: Duration = Duration::from_secs(5);

/// Asked again and again, not waited for: a statement that waits has a snapshot, and CREATE INDEX
/// CONCURRENTLY, in the process that has the lock, waits for everybody who has one.
const TAKE: &str = "SELECT pg_try_advisory_lock(hashtextextended($1, 0))";

const HOLDER: &str = "
SELECT 'process ' || a.pid || ' (' || coalesce(nullif(a.application_name, ''), 'unnamed')
       || coalesce(' from ' || host(a.client_addr), '') || ', connected for '
       || date_trunc('second', now() - a.backend_start) || ')'
  FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND (l.classid::int8 << 32 | l.objid::int8) = hashtextextended($1, 0)";

/// Takes the lock, which goes with the connection; how long it was waited for.
pub(super) async fn take(
    db: &DatabaseConnection,
    key: &str,
    database: &str,
    wait: Duration,
) -> Result<Duration, Error> {
    let begun = Instant::now();
    let mut told = begun;
    loop {
        if ask::<bool>(db, TAKE, key).await? == Some(true) {
            return Ok(begun.elapsed());
        }
        let waited = begun.elapsed();
        if waited >= wait {
            let holder = ask(db, HOLDER, key).await?;
            return Err(
                MigrateError::Locked { database: database.to_owned(), waited, holder }.into()
            );
        }
        if told.elapsed() >= TOLD {
            told = Instant::now();
            let holder = ask::<String>(db, HOLDER, key).await?;
            let holder = holder.unwrap_or_else(|| "another process".to_owned());
            tracing::info!(
                "database `{database}`: waiting for {holder}, which migrates it, since {waited:.0?}"
            );
        }
        tokio::time::sleep(INTERVAL.min(wait - waited)).await;
    }
}

async fn ask<T: sea_orm::TryGetable>(
    db: &DatabaseConnection,
    sql: &str,
    key: &str,
) -> Result<Option<T>, DbErr> {
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [key.into()]);
    db.query_one_raw(statement).await?.map(|row| row.try_get_by_index(0)).transpose()
}
