//! Migrations, safely when many processes run them at once.

mod dry_run;
mod error;
mod lint;
mod lock;
mod status;

use std::{
    fmt,
    future::IntoFuture,
    marker::PhantomData,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement};
use sea_orm_migration::MigratorTrait;
use tracing::instrument::WithSubscriber as _;

pub use self::dry_run::{DryRun, Planned};
pub use self::error::MigrateError;
pub use self::lint::{Finding, Unsafe};
pub use self::status::{Migration, MigrationState};
use crate::{
    error::Error,
    pg::Pg,
    pool::{ConnectTo, SeaOrm},
    provision,
    schema::Scope,
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

type Hook =
    Box<dyn FnOnce(DatabaseConnection) -> BoxFuture<'static, Result<(), DbErr>> + Send + 'static>;

/// The migrations of `M`, about to be run on one database; see [`Pg::migrate`].
#[must_use = "nothing is migrated before it is awaited"]
pub struct Migrate<M> {
    pg: Pg,
    wait: Duration,
    lock_timeout: Duration,
    before: Vec<Hook>,
    after: Vec<Hook>,
    migrator: PhantomData<fn() -> M>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Migrated {
    /// The migrations that were applied, or taken back, in this order.
    pub migrations: Vec<String>,
    /// How long another process was waited for.
    pub waited: Duration,
    /// How long it took, without that.
    pub took: Duration,
}

/// What came of many schemas; see [`Migrate::schemas`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct MigratedSchemas {
    /// Those that are up to date now.
    pub done: Vec<(String, Migrated)>,
    /// Those that are not, and why.
    pub failed: Vec<(String, Error)>,
}

impl fmt::Display for MigratedSchemas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} schemas are up to date, {} failed", self.done.len(), self.failed.len())?;
        for (schema, error) in &self.failed {
            write!(f, "\n  {schema}: {error}")?;
        }
        Ok(())
    }
}

impl Pg {
    /// The migrations of `M` on this database. Awaited, it makes what the entry asks for and brings
    /// the database up to date:
    ///
    /// 1. the database itself, if the entry says `create_db` and it is not there,
    /// 2. a lock, so that of many processes one migrates; the others wait, then find nothing to do,
    /// 3. the schema, and the `extensions` of the entry,
    /// 4. the hooks [`before`](Migrate::before), the pending migrations one by one, the hooks
    ///    [`after`](Migrate::after).
    ///
    /// ```no_run
    /// # use sea_orm_migration::MigratorTrait;
    /// # async fn doc<Migrator: MigratorTrait + 'static>(pg: wharf::Pg) -> Result<(), wharf::Error> {
    /// let migrated = pg.migrate::<Migrator>().await?;
    /// println!("{} applied", migrated.migrations.len());
    /// # Ok(()) }
    /// ```
    ///
    /// On a [scoped](Pg::scoped) view it migrates that schema, which has a table of migrations of its
    /// own, and is made if it is not there.
    ///
    /// It all runs on one connection of its own, beside the pool: without `statement_timeout`, and
    /// with a `lock_timeout` of 5 s for every statement, so that a migration that waits for a lock does
    /// not have all others wait behind it. One that did not get its locks is tried again up to four
    /// times. A migration that says `use_transaction() == Some(false)` (CREATE INDEX CONCURRENTLY) runs
    /// outside of a transaction; an invalid index that it leaves is dropped, and that it was begun is
    /// noted until it is done.
    ///
    /// If the future is dropped, the migration under way is rolled back when its connection closes.
    ///
    /// # Errors
    /// [`Error::Migrate`]: the lock was not to be had, a migration failed, one that was applied is not
    /// known here; [`Error::ReadOnly`]; [`Error::Connect`].
    pub fn migrate<M: MigratorTrait + 'static>(&self) -> Migrate<M> {
        Migrate {
            pg: self.clone(),
            wait: Duration::from_secs(300),
            lock_timeout: Duration::from_secs(5),
            before: Vec::new(),
            after: Vec::new(),
            migrator: PhantomData,
        }
    }
}

impl<M: MigratorTrait + 'static> Migrate<M> {
    /// Longest wait for another process that migrates. Default 5 min.
    pub fn wait(mut self, wait: Duration) -> Migrate<M> {
        self.wait = wait;
        self
    }

    /// Longest wait of a statement for a lock, in place of the entry's. Default 5 s.
    pub fn lock_timeout(mut self, lock_timeout: Duration) -> Migrate<M> {
        self.lock_timeout = lock_timeout;
        self
    }

    /// Runs before the first migration, also where none is pending, under the lock. It has the one
    /// connection, and must give it back (drop its sessions) before it ends.
    pub fn before<F, W>(mut self, hook: F) -> Migrate<M>
    where
        F: FnOnce(DatabaseConnection) -> W + Send + 'static,
        W: Future<Output = Result<(), DbErr>> + Send + 'static,
    {
        self.before.push(Box::new(move |db| Box::pin(hook(db))));
        self
    }

    /// Runs after the last migration, likewise; not if one failed.
    pub fn after<F, W>(mut self, hook: F) -> Migrate<M>
    where
        F: FnOnce(DatabaseConnection) -> W + Send + 'static,
        W: Future<Output = Result<(), DbErr>> + Send + 'static,
    {
        self.after.push(Box::new(move |db| Box::pin(hook(db))));
        self
    }

    /// Applies up to so many of the pending migrations.
    ///
    /// # Errors
    /// As [`Pg::migrate`].
    pub async fn up(self, steps: u32) -> Result<Migrated, Error> {
        self.work(Work::Up(Some(steps))).await
    }

    /// Takes back the last so many of the applied migrations.
    ///
    /// # Errors
    /// As [`Pg::migrate`]; a migration that has no way back says so.
    pub async fn down(self, steps: u32) -> Result<Migrated, Error> {
        self.work(Work::Down(steps)).await
    }

    /// **Drops every table and type** of the schema, and applies all migrations anew.
    ///
    /// # Errors
    /// As [`Pg::migrate`].
    pub async fn fresh(self) -> Result<Migrated, Error> {
        self.work(Work::Fresh).await
    }

    /// Takes back all migrations that are applied, and applies them anew: what shows that each has a
    /// way back.
    ///
    /// # Errors
    /// As [`Pg::migrate`].
    pub async fn refresh(self) -> Result<Migrated, Error> {
        self.work(Work::Refresh).await
    }

    /// Every migration, known here or applied there, in the order of their names; changes nothing and
    /// takes no lock.
    ///
    /// # Errors
    /// [`Error::Connect`], and what the server says.
    pub async fn status(&self) -> Result<Vec<Migration>, Error> {
        let run = Run::<M>::open(&self.pg, self.lock_timeout, Quiet::Yes).await?;
        let status = status::of::<M>(&run.db).await;
        run.close().await;
        Ok(status?)
    }

    /// The SQL that the pending migrations would run, and what is [unsafe](Finding) in it on a database
    /// that is in use. They do run, in a transaction that is rolled back: locks are taken for a moment.
    /// One that runs outside of a transaction is broken off at the statement that cannot be inside.
    ///
    /// # Errors
    /// As [`Pg::migrate`].
    pub async fn dry_run(&self) -> Result<DryRun, Error> {
        let planned = async {
            let run = Run::<M>::open(&self.pg, self.lock_timeout, Quiet::No).await?;
            let planned = dry_run::of(&run).await;
            run.close().await;
            planned
        };
        // What the driver tells meanwhile is for the dry run's ears alone.
        planned.with_subscriber(dry_run::Heard::default()).await
    }

    /// Brings many schemas up to date, one after the other; one that fails keeps none of the others
    /// from it. Hooks run for the first. Progress is logged.
    ///
    /// # Errors
    /// Are in the summary, by schema.
    pub async fn schemas(
        mut self,
        schemas: impl IntoIterator<Item = impl Into<String>>,
    ) -> MigratedSchemas {
        let schemas: Vec<String> = schemas.into_iter().map(Into::into).collect();
        let mut all = MigratedSchemas::default();
        let (mut before, mut after) =
            (std::mem::take(&mut self.before), std::mem::take(&mut self.after));
        for (at, schema) in schemas.iter().enumerate() {
            tracing::info!(
                "database `{}`: schema {} of {}, {schema:?}",
                self.pg.name(),
                at + 1,
                schemas.len()
            );
            let migrated = match self.pg.scoped(schema) {
                Ok(pg) => {
                    let one = Migrate::<M> {
                        pg,
                        wait: self.wait,
                        lock_timeout: self.lock_timeout,
                        before: std::mem::take(&mut before),
                        after: std::mem::take(&mut after),
                        migrator: PhantomData,
                    };
                    one.into_future().await
                }
                Err(error) => Err(error),
            };
            match migrated {
                Ok(migrated) => all.done.push((schema.clone(), migrated)),
                Err(error) => all.failed.push((schema.clone(), error)),
            }
        }
        all
    }

    async fn work(self, work: Work) -> Result<Migrated, Error> {
        let Migrate { pg, wait, lock_timeout, before, after, .. } = self;
        if pg.is_read_only() {
            return Err(Error::ReadOnly {
                database: pg.name().to_owned(),
                what: "migrations write; give the entry that does".to_owned(),
            });
        }
        let run = Run::<M>::open(&pg, lock_timeout, Quiet::Yes).await?;
        let done = async {
            let waited = lock::take(&run.db, &run.key(), run.name(), wait).await?;
            let begun = Instant::now();
            let shared = run.shared.as_deref();
            let scope = run.scope.as_ref();
            provision::schema_and_extensions(&run.db, &run.to.config, shared, scope).await?;
            for hook in before {
                hook(run.db.clone()).await?;
            }
            let migrations = run.work(work).await?;
            for hook in after {
                hook(run.db.clone()).await?;
            }
            Ok(Migrated { migrations, waited, took: begun.elapsed() })
        };
        let done = done.await;
        // The lock goes with the connection.
        run.close().await;
        done
    }
}

/// What is to be done.
#[derive(Clone, Copy)]
enum Work {
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
enum Quiet {
    Yes,
    No,
}

impl<M: MigratorTrait + 'static> IntoFuture for Migrate<M> {
    type Output = Result<Migrated, Error>;
    type IntoFuture = BoxFuture<'static, Result<Migrated, Error>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.work(Work::Up(None)))
    }
}

/// Migrations on their connection.
struct Run<M> {
    db: DatabaseConnection,
    sea_orm: SeaOrm,
    to: ConnectTo,
    /// The entry's own search path.
    shared: Option<String>,
    scope: Option<Scope>,
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
                    "database `{database}`: a migration was dropped, and goes on: {error}"
                );
            }
        });
    }
}

impl<M: MigratorTrait> Run<M> {
    /// A connection to migrate on.
    async fn open(pg: &Pg, lock_timeout: Duration, quiet: Quiet) -> Result<Run<M>, Error> {
        let to = pg.connect_to(false).await?;
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
            Quiet::Yes => SeaOrm::new(&to).await?,
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

    fn name(&self) -> &str {
        &self.to.name
    }

    /// Of each schema, one at a time.
    fn key(&self) -> String {
        let schema = self.scope.as_ref().map(Scope::name).or(self.shared.as_deref());
        format!("wharf migrate {}", schema.unwrap_or("public"))
    }

    async fn close(mut self) {
        self.ending.backend = None;
        self.sea_orm.close().await;
    }

    async fn work(&self, work: Work) -> Result<Vec<String>, Error> {
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
        let status = status::of::<M>(&self.db).await?;
        let applied = status.into_iter().rev().filter(|it| it.state.is_applied());
        let mut taken_back = Vec::new();
        for migration in applied.take(usize::try_from(steps).unwrap_or(usize::MAX)) {
            let name = migration.name;
            tracing::info!("database `{}`: taking back migration {name}", self.name());
            self.one(&name, true, Step::Down).await?;
            taken_back.push(name);
        }
        Ok(taken_back)
    }

    /// The pending ones, and whether each runs in a transaction.
    async fn pending(&self) -> Result<Vec<(String, bool)>, Error> {
        let status = status::of::<M>(&self.db).await?;
        let missing: Vec<String> = status
            .iter()
            .filter(|it| matches!(it.state, MigrationState::Missing { .. }))
            .map(|it| it.name.clone())
            .collect();
        if !missing.is_empty() {
            return Err(MigrateError::Missing { database: self.name().to_owned(), missing }.into());
        }
        let pending = M::migrations().into_iter().filter(|migration| {
            let known = status.iter().find(|it| it.name == migration.name());
            known.is_none_or(|it| !it.state.is_applied())
        });
        let in_transaction =
            |it: &dyn sea_orm_migration::MigrationTrait| it.use_transaction().unwrap_or(true);
        Ok(pending.map(|it| (it.name().to_owned(), in_transaction(&*it))).collect())
    }

    /// Runs one, again where it did not get its locks.
    async fn one(&self, migration: &str, in_transaction: bool, step: Step) -> Result<(), Error> {
        let begun = Instant::now();
        let mut attempt = 1;
        loop {
            let before = match in_transaction {
                true => Vec::new(),
                false => {
                    status::begun(&self.db, migration).await?;
                    self.invalid_indexes().await?
                }
            };
            let done = match step {
                Step::Up => M::up(&self.db, Some(1)).await,
                Step::Down => M::down(&self.db, Some(1)).await,
            };
            let Err(error) = done else {
                if !in_transaction {
                    status::done(&self.db, migration).await?;
                }
                return Ok(());
            };
            let error = Error::from(error);
            if !in_transaction {
                self.drop_broken_indexes(&before).await?;
                status::broken_off(&self.db, migration, &error.to_string()).await?;
            }
            if error.sqlstate().as_deref() != Some("55P03") || attempt == ATTEMPTS {
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
            tracing::warn!("database `{}`: dropping the broken index {schema}.{name}", self.name());
            let (schema, name) = (crate::sql::quote_ident(&schema), crate::sql::quote_ident(&name));
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
