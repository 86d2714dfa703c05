//! What many processes make at their first use, made once.

use sea_orm::{ConnectionTrait, DbBackend, DbErr, IsolationLevel, Statement};

use crate::{error::Error, pg::Pg, session::Session};

/// The key is hashed by the server, so that everybody who uses it has the same number.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))::text";

const TABLE: &str = "
SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'f'))";

const INDEX: &str = "
SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                 JOIN pg_index i ON i.indexrelid = c.oid
                WHERE n.nspname = $1 AND c.relname = $2 AND i.indisvalid)";

impl Pg {
    /// Runs `work` in a session in which nobody else, in this process or another, runs work under the
    /// same key: an advisory lock of the transaction, on this database.
    ///
    /// `CREATE … IF NOT EXISTS` by itself does not do for two that come at once: both see that it is
    /// not there, and the slower one fails with 23505 or 42P07. Inside of this it does.
    ///
    /// ```no_run
    /// # async fn doc(pg: wharf::Pg) -> Result<(), wharf::Error> {
    /// use sea_orm::ConnectionTrait;
    /// pg.ensure_object("table audit.event", async |s| {
    ///     s.execute_unprepared("CREATE SCHEMA IF NOT EXISTS audit").await?;
    ///     s.execute_unprepared("CREATE TABLE IF NOT EXISTS audit.event (id bigint)").await
    /// })
    /// .await?;
    /// # Ok(()) }
    /// ```
    ///
    /// Costs one round trip more than a session. The lock is waited for as long as `lock_timeout`
    /// allows (55P03), and goes with the session, whatever ends it. Dropping the future undoes the
    /// work.
    ///
    /// # Errors
    /// What `work` gives; else as [`SessionBuilder::run`](crate::SessionBuilder::run).
    #[track_caller]
    pub fn ensure_object<T, E, F>(&self, key: &str, work: F) -> impl Future<Output = Result<T, E>>
    where
        F: AsyncFnOnce(&Session) -> Result<T, E>,
        E: From<Error>,
    {
        // The lock is waited for before the snapshot that `work` sees is taken, whatever the server's default.
        let session = self.session().isolation(IsolationLevel::ReadCommitted);
        async move {
            session
                .run(async |s: &Session| {
                    lock(s, key).await?;
                    work(s).await
                })
                .await
        }
    }
}

async fn lock(session: &Session, key: &str) -> Result<(), Error> {
    let lock = Statement::from_sql_and_values(DbBackend::Postgres, LOCK, [key.into()]);
    session.query_one_raw(lock).await?;
    Ok(())
}

/// Whether a schema has a table of this name (an ordinary, a partitioned or a foreign one), whatever
/// the search path shows. One round trip.
///
/// # Errors
/// What the server says.
pub async fn table_exists(
    db: &impl ConnectionTrait,
    schema: &str,
    table: &str,
) -> Result<bool, DbErr> {
    exists(db, TABLE, schema, table).await
}

/// Whether a schema has an index of this name that can be used; one that a broken-off CREATE INDEX
/// CONCURRENTLY has left cannot. One round trip.
///
/// # Errors
/// What the server says.
pub async fn index_exists(
    db: &impl ConnectionTrait,
    schema: &str,
    index: &str,
) -> Result<bool, DbErr> {
    exists(db, INDEX, schema, index).await
}

async fn exists(
    db: &impl ConnectionTrait,
    sql: &str,
    schema: &str,
    name: &str,
) -> Result<bool, DbErr> {
    let values = [schema.into(), name.into()];
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
    match db.query_one_raw(statement).await? {
        Some(row) => row.try_get_by_index(0),
        None => Ok(false),
    }
}
