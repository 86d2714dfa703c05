//! The transaction of one migration, which nobody but wharf commits.

use sea_orm::{
    AccessMode, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr,
    Statement, TransactionTrait as _,
};

use crate::{pg::Pg, pool::ConnectTo};

/// Undoes what a migration has set on its connection. A dump of pg_dump, for one, empties the search path. RESET ROLE
/// comes after RESET SESSION AUTHORIZATION, which also undoes a role that the login itself has been given.
const RESET: &str = "RESET SESSION AUTHORIZATION; RESET ROLE; RESET ALL";

/// The same, followed by the statement that set the connection up after it had been opened.
pub(super) fn reset_of(to: &ConnectTo) -> String {
    [RESET.to_owned()].into_iter().chain(to.set_after()).collect::<Vec<_>>().join("; ")
}

/// Has COMMIT fail, and so roll back, until `wharf.may_commit` is set. Only SET CONSTRAINTS fires the trigger earlier,
/// and takes the guard away. A server that lets nobody have a temporary table goes without.
const GUARD: &str = "
DO $guard$ BEGIN
  CREATE TEMP TABLE wharf_open_migration (n int) ON COMMIT DROP;
  CREATE OR REPLACE FUNCTION pg_temp.wharf_refuse_commit() RETURNS trigger LANGUAGE plpgsql AS $refuse$ BEGIN
    IF current_setting('wharf.may_commit', true) IS DISTINCT FROM 'yes' AND current_query() !~* 'set\\s+constraints' THEN
      RAISE EXCEPTION 'a migration must not COMMIT the transaction that it runs in'
        USING ERRCODE = '25001', HINT = 'Remove the COMMIT, or have use_transaction() return Some(false).';
    END IF;
    RETURN NULL;
  END $refuse$;
  CREATE CONSTRAINT TRIGGER wharf_refuse_commit AFTER INSERT ON pg_temp.wharf_open_migration
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION pg_temp.wharf_refuse_commit();
  INSERT INTO pg_temp.wharf_open_migration VALUES (1);
EXCEPTION WHEN OTHERS THEN NULL;
END $guard$";

/// Fails if a migration outside of a transaction has left one open. In one message, both times are the same unless a
/// transaction has begun earlier.
const IS_ENDED: &str = "
DO $$ BEGIN
  IF transaction_timestamp() <> statement_timestamp() THEN
    RAISE EXCEPTION 'the migration left a transaction open'
      USING ERRCODE = '25001', HINT = 'End each BEGIN with a COMMIT.';
  END IF;
END $$";

/// A migration's transaction. A raw COMMIT in it fails, and after a raw ROLLBACK nothing can be written.
pub(super) struct Transaction<'a> {
    db: &'a DatabaseConnection,
    /// Undoes what the migration has set.
    reset: &'a str,
    open: DatabaseTransaction,
    /// By which the server knows later what became of it.
    id: i64,
}

/// Whether a failed transaction left changes behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    /// The migration has committed a part of it.
    Parts,
    /// The answer to COMMIT was lost, and the server could not be asked.
    Unknown,
}

impl<'a> Transaction<'a> {
    /// `reset` is [`reset_of`] its connection.
    pub(super) async fn begin(
        db: &'a DatabaseConnection,
        reset: &'a str,
    ) -> Result<Transaction<'a>, DbErr> {
        db.execute_unprepared("SET default_transaction_read_only = on").await?;
        let open = db.begin_with_config(None, Some(AccessMode::ReadWrite)).await?;
        open.execute_unprepared(GUARD).await?;
        let id = "SELECT txid_current()";
        let id = open.query_one_raw(Statement::from_string(DbBackend::Postgres, id)).await?;
        let id = id.map(|row| row.try_get_by_index(0)).transpose()?.unwrap_or_default();
        Ok(Transaction { db, reset, open, id })
    }

    pub(super) fn open(&self) -> &DatabaseTransaction {
        &self.open
    }

    /// Undoes what the migration has set. Nothing may be written after it.
    pub(super) async fn reset(&self) -> Result<(), DbErr> {
        let reset = format!("{}; SET default_transaction_read_only = on", self.reset);
        self.open.execute_unprepared(&reset).await?;
        Ok(())
    }

    /// Commits. `pg` is asked about the outcome where the answer was lost.
    pub(super) async fn commit(self, pg: &Pg) -> Result<(), (DbErr, Left)> {
        let Transaction { db, reset, open, id } = self;
        let committed = async {
            open.execute_unprepared("SET LOCAL wharf.may_commit = 'yes'").await?;
            open.commit().await
        };
        let committed = committed.await;
        // The outcome does not depend on this; after a lost connection, no further migration runs.
        let _ = db.execute_unprepared(reset).await;
        let Err(error) = committed else { return Ok(()) };
        match status(pg, id).await.as_deref() {
            Some("committed") => Ok(()),
            Some("aborted") => Err((error, Left::Nothing)),
            _ => Err((error, Left::Unknown)),
        }
    }

    pub(super) async fn roll_back(self) -> Left {
        let Transaction { db, reset, open, id } = self;
        // A connection that is lost is rolled back by the server.
        let _ = open.rollback().await;
        let _ = db.execute_unprepared(reset).await;
        match status(db, id).await.as_deref() {
            Some("committed") => Left::Parts,
            _ => Left::Nothing,
        }
    }
}

/// Returns what became of a transaction, as far as the server can be asked.
async fn status(db: &impl ConnectionTrait, id: i64) -> Option<String> {
    let status = "SELECT txid_status($1)";
    let status = Statement::from_sql_and_values(DbBackend::Postgres, status, [id.into()]);
    db.query_one_raw(status).await.ok()??.try_get_by_index(0).ok()?
}

/// Checks after a migration outside of a transaction that none is open, and ends one that is.
pub(super) async fn end(db: &DatabaseConnection) -> Result<(), DbErr> {
    let ended = db.execute_unprepared(IS_ENDED).await;
    if let Err(error) = ended {
        db.execute_unprepared("ROLLBACK").await?;
        return Err(error);
    }
    Ok(())
}
