//! Migrations on the one connection that they have.

use std::{
    marker::PhantomData,
    sync::Arc,
    time::{Duration, Instant},
};

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement};
use sea_orm_migration::MigratorTrait;

use super::{
    MigrateError,
    status::{self, Migration},
};
use crate::{
    error::Error,
    pg::Pg,
    pool::{ConnectTo, SeaOrm},
    provision, sql,
    view::Scope,
};

/// How often a migration is tried that did not get its locks.
const ATTEMPTS: u32 = 5;
const BACKOFF: Duration = Duration::from_millis(500);

/// Invalid indexes; those that somebody builds now are not valid yet.
const INVALID: &str = "
SELECT i.indexrelid::int8, n.nspname::text, c.relname::text
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE NOT i.indisvalid
   AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)";

/// What would drop all that is in the schema; what belongs to an extension is not the migrations'.
const EVERYTHING: &str = "
WITH here AS (SELECT oid FROM pg_namespace WHERE nspname = current_schema())
SELECT format('DROP %s IF EXISTS %s CASCADE',
         CASE c.relkind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW'
              WHEN 'S' THEN 'SEQUENCE' WHEN 'f' THEN 'FOREIGN TABLE' ELSE 'TABLE' END, c.oid::regclass)
  FROM pg_class c, here
 WHERE c.relnamespace = here.oid AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype IN ('e', 'i', 'a'))
UNION ALL
SELECT format('DROP TYPE IF EXISTS %s CASCADE', t.oid::regtype) FROM pg_type t, here
 WHERE t.typnamespace = here.oid AND t.typtype IN ('e', 'd')
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = t.oid AND d.deptype = 'e')
UNION ALL
SELECT format('DROP ROUTINE IF EXISTS %s CASCADE', p.oid::regprocedure) FROM pg_proc p, here
 WHERE p.pronamespace = here.oid
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = p.oid AND d.deptype = 'e')";

/// What is to be done.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    Up(Option<u32>),
    Down(u32),
    Fresh,
    Refresh,
}

/// One migration, in either direction.
#[derive(Clone, Copy)]
enum Step {
    Up,
    Down,
}

/// Whether the driver logs statements, which a dry run listens to.
pub(super) enum Quiet {
    Yes,
    No,
}

/// Migrations on their connection.
pub(super) struct Run<M> {
    pub(super) db: DatabaseConnection,
    sea_orm: SeaOrm,
    pub(super) to: ConnectTo,
    /// The entry's own search path.
    pub(super) shared: Option<String>,
    pub(super) scope: Option<Scope>,
    ending: Ending,
    migrator: PhantomData<fn() -> M>,
}

/// Ends the connection on the server if it was not closed: the driver would wait for the statement that
/// is under way there, with the lock and everything.
struct Ending {
    pg: Pg,
    backend: Option<i32>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        let (Some(backend), Ok(runtime)) = (self.backend, tokio::runtime::Handle::try_current())
        else {
            return;
        };
        let pg = self.pg.clone();
        runtime.spawn(async move {
            let end = format!("SELECT pg_terminate_backend({backend})");
            if let Err(error) = pg.execute_unprepared(&end).await {
                let database = pg.name();
                tracing::warn!(
                    "database `{database}`: a migration whose future was dropped failed in the background: {error}"
                );
            }
        });
    }
}

impl<M: MigratorTrait> Run<M> {
    /// A connection to migrate on.
    pub(super) async fn open(
        pg: &Pg,
        lock_timeout: Duration,
        quiet: Quiet,
    ) -> Result<Run<M>, Error> {
        let to = pg.database().connect_to(false).await?;
        let mut config = (*to.config).clone();
        // One, which is never exchanged for another: it has the lock.
        (config.pool_size, config.pool_pre_ping) = (1, false);
        config.pool_recycle = Duration::MAX;
        (config.statement_timeout, config.idle_in_transaction_timeout) = (None, None);
        config.lock_timeout = Some(lock_timeout);
        config.application_name = format!("{} migrate", config.application_name);
        let shared = config.schema.clone();
        if let Some(scope) = pg.scope() {
            config.schema = Some(scope.path(config.schema.as_deref()));
        }
        let to = ConnectTo { config: Arc::new(config), ..to };
        provision::database_of(pg, &to).await?;
        let sea_orm = match quiet {
            Quiet::Yes => SeaOrm::connect_to(&to).await?,
            Quiet::No => SeaOrm::that_logs(&to).await?,
        };
        let scope = pg.scope().cloned();
        let db = sea_orm.connection();
        let backend = "SELECT pg_backend_pid()";
        let row = db.query_one_raw(Statement::from_string(DbBackend::Postgres, backend)).await?;
        let backend = row.map(|row| row.try_get_by_index(0)).transpose()?;
        let ending = Ending { pg: pg.in_scope(None), backend };
        Ok(Run { db, sea_orm, to, shared, scope, ending, migrator: PhantomData })
    }

    pub(super) fn name(&self) -> &str {
        &self.to.name
    }

    /// Of each schema, one at a time.
    pub(super) fn key(&self) -> String {
        let schema = self.scope.as_ref().map(Scope::name).or(self.shared.as_deref());
        format!("wharf migrate {}", schema.unwrap_or("public"))
    }

    pub(super) async fn close(mut self) {
        self.ending.backend = None;
        self.sea_orm.close().await;
    }

    pub(super) async fn work(&self, work: Work) -> Result<Vec<String>, Error> {
        match work {
            Work::Up(steps) => self.up(steps).await,
            Work::Down(steps) => self.down(steps).await,
            Work::Fresh => {
                self.drop_everything().await?;
                self.up(None).await
            }
            Work::Refresh => {
                let mut all = self.down(u32::MAX).await?;
                all.extend(self.up(None).await?);
                Ok(all)
            }
        }
    }

    async fn up(&self, steps: Option<u32>) -> Result<Vec<String>, Error> {
        let pending = self.pending().await?;
        let steps = steps.map_or(usize::MAX, |steps| usize::try_from(steps).unwrap_or(usize::MAX));
        let (name, many) = (self.name(), pending.len().min(steps));
        let mut applied = Vec::new();
        for (at, (migration, in_transaction)) in pending.into_iter().take(steps).enumerate() {
            tracing::info!("database `{name}`: migration {} of {many}, {migration}", at + 1);
            self.one(&migration, in_transaction, Step::Up).await?;
            applied.push(migration);
        }
        Ok(applied)
    }

    async fn down(&self, steps: u32) -> Result<Vec<String>, Error> {
        let applied = self.known().await?.into_iter().rev().filter(|(it, _)| it.state.is_applied());
        let mut taken_back = Vec::new();
        for (it, in_transaction) in applied.take(usize::try_from(steps).unwrap_or(usize::MAX)) {
            tracing::info!("database `{}`: rolling back migration {}", self.name(), it.name);
            self.one(&it.name, in_transaction, Step::Down).await?;
            taken_back.push(it.name);
        }
        Ok(taken_back)
    }

    /// The pending ones, and whether each runs in a transaction.
    pub(super) async fn pending(&self) -> Result<Vec<(String, bool)>, Error> {
        let pending = self.known().await?.into_iter().filter(|(it, _)| !it.state.is_applied());
        Ok(pending.map(|(it, in_transaction)| (it.name, in_transaction)).collect())
    }

    /// Every migration, and whether it runs in a transaction. One that is applied and not known here is
    /// an error: nobody can tell what it did.
    async fn known(&self) -> Result<Vec<(Migration, bool)>, Error> {
        let (mut known, mut missing) = (Vec::new(), Vec::new());
        let here = M::migrations();
        for it in status::of::<M>(&self.db).await? {
            match here.iter().find(|migration| migration.name() == it.name) {
                Some(migration) => known.push((it, migration.use_transaction().unwrap_or(true))),
                None => missing.push(it.name),
            }
        }
        match missing.is_empty() {
            true => Ok(known),
            false => {
                Err(MigrateError::Missing { database: self.name().to_owned(), missing }.into())
            }
        }
    }

    /// Runs one. In a transaction, it is run again if it did not get its locks, because nothing of it was kept.
    async fn one(&self, migration: &str, in_transaction: bool, step: Step) -> Result<(), Error> {
        let begun = Instant::now();
        // One that is being taken back stays applied until it is gone.
        let noted = !in_transaction && matches!(step, Step::Up);
        let mut attempt = 1;
        loop {
            let mut before = Vec::new();
            if noted {
                status::begun(&self.db, migration).await?;
                before = self.invalid_indexes().await?;
            }
            if !in_transaction {
                // CREATE INDEX CONCURRENTLY waits for old transactions, and has nobody wait behind it meanwhile.
                self.db.execute_unprepared("SET lock_timeout = 0").await?;
            }
            let done = match step {
                Step::Up => M::up(&self.db, Some(1)).await,
                Step::Down => M::down(&self.db, Some(1)).await,
            };
            let error = done.err().map(Error::from);
            if let Some(error) = error.as_ref().filter(|_| noted) {
                self.clean_up(migration, error, &before).await;
            }
            if !in_transaction {
                // Back to that of the connection. Where that is lost, the migration's own error says so.
                let reset = self.db.execute_unprepared("RESET lock_timeout").await;
                if error.is_none() {
                    reset?;
                }
            }
            let Some(error) = error else {
                if noted {
                    status::done(&self.db, migration).await?;
                }
                return Ok(());
            };
            let missed_its_locks = error.sqlstate().as_deref() == Some("55P03");
            if !in_transaction || !missed_its_locks || attempt == ATTEMPTS {
                return Err(MigrateError::Failed {
                    database: self.name().to_owned(),
                    migration: migration.to_owned(),
                    after: begun.elapsed(),
                    attempts: attempt,
                    in_transaction,
                    source: Box::new(error),
                }
                .into());
            }
            tracing::warn!(
                "database `{}`: migration {migration} did not get its locks within {:?}, trying again \
                 ({attempt} of {})",
                self.name(),
                self.to.config.lock_timeout.unwrap_or_default(),
                ATTEMPTS - 1,
            );
            tokio::time::sleep(BACKOFF * attempt).await;
            attempt += 1;
        }
    }

    /// Notes that a migration is incomplete, and drops what an interrupted CREATE INDEX CONCURRENTLY left. What fails
    /// here is logged, because the migration's own error is the one to report.
    async fn clean_up(&self, migration: &str, error: &Error, before: &[i64]) {
        let noted = status::broken_off(&self.db, migration, &error.to_string()).await;
        let dropped = self.drop_broken_indexes(before).await;
        let name = self.name();
        if let Err(error) = noted {
            tracing::warn!(
                "database `{name}`: could not note that {migration} is incomplete: {error}"
            );
        }
        if let Err(error) = dropped {
            tracing::warn!(
                "database `{name}`: could not drop the invalid indexes of {migration}: {error}"
            );
        }
    }

    async fn invalid_indexes(&self) -> Result<Vec<i64>, Error> {
        let rows = self.db.query_all_raw(Statement::from_string(DbBackend::Postgres, INVALID));
        let oids: Result<Vec<i64>, DbErr> =
            rows.await?.iter().map(|row| row.try_get_by_index(0)).collect();
        Ok(oids?)
    }

    /// Drops what a broken-off CREATE INDEX CONCURRENTLY has left: it costs every write, and serves
    /// nobody.
    async fn drop_broken_indexes(&self, before: &[i64]) -> Result<(), Error> {
        let rows = self.db.query_all_raw(Statement::from_string(DbBackend::Postgres, INVALID));
        for row in rows.await? {
            let oid: i64 = row.try_get_by_index(0)?;
            if before.contains(&oid) {
                continue;
            }
            let (schema, name): (String, String) =
                (row.try_get_by_index(1)?, row.try_get_by_index(2)?);
            tracing::warn!(
                "database `{}`: dropping the invalid index {schema}.{name}",
                self.name()
            );
            let (schema, name) = (sql::quote_ident(&schema), sql::quote_ident(&name));
            let drop = format!("DROP INDEX CONCURRENTLY IF EXISTS {schema}.{name}");
            self.db.execute_unprepared(&drop).await?;
        }
        Ok(())
    }

    /// As SeaORM's `fresh` does before it migrates, and views, sequences and functions too; all or
    /// nothing.
    async fn drop_everything(&self) -> Result<(), Error> {
        let rows = self.db.query_all_raw(Statement::from_string(DbBackend::Postgres, EVERYTHING));
        let drops: Result<Vec<String>, DbErr> =
            rows.await?.iter().map(|row| row.try_get_by_index(0)).collect();
        let drops = drops?;
        if !drops.is_empty() {
            // One text of several statements is one transaction.
            self.db.execute_unprepared(&drops.join("; ")).await?;
        }
        Ok(())
    }
}
