//! Migrations, safely when many processes run them at once.

mod dry_run;
mod fresh;
mod heard;
mod invalid_index;
mod lint;
mod lock;
mod run;
mod status;
mod step;
mod transaction;
mod watch;

use std::{
    fmt,
    future::IntoFuture,
    marker::PhantomData,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use sea_orm::{DatabaseConnection, DbErr};
use sea_orm_migration::MigratorTrait;
use tracing::instrument::WithSubscriber as _;

pub use self::dry_run::{DryRun, Planned};
pub use self::lint::{Finding, Unsafe};
pub(crate) use self::run::Work;
use self::run::{Quiet, Run};
pub use self::status::{Migration, MigrationState};
pub use crate::error::MigrateError;
use crate::{
    error::{ConnectErrorKind, Error},
    pg::Pg,
};

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
    /// outside of a transaction, without `lock_timeout`, and is never run twice by itself. The invalid index that its
    /// CREATE INDEX CONCURRENTLY leaves is dropped, and that it was begun is noted until it is done.
    ///
    /// wharf alone commits a migration's transaction: a raw COMMIT in it fails (25001) and rolls back, and after a raw
    /// ROLLBACK nothing can be written. What a migration sets on the connection (`search_path`, a role) is undone before
    /// it is recorded.
    ///
    /// A statement of a migration is waited for as long as it takes. If the entry has a `socket_timeout`, another
    /// connection of `self` asks the server for a sign of life that often; where none comes, [`Error::NoAnswer`] is
    /// the end of it, at the latest after two `socket_timeout` and a `pool_timeout`.
    ///
    /// If the future is dropped, the connection is ended on the server, by another one of `self`, and the
    /// migration under way is rolled back. The server also ends that of a process that is gone, with the lock:
    /// within a second while a statement runs (PostgreSQL 14), else 90 s after the last sign of its machine.
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

    /// **Drops all that is in the schema**, tables, views, types, functions, but for what belongs to an
    /// extension, and applies all migrations anew.
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

    /// Returns every migration, of this build or applied there, in the order of their names. Changes nothing, takes no
    /// lock, and creates nothing: where the database does not exist and the entry says `create_db`, all are pending.
    ///
    /// Costs two to four round trips on a connection of the pool.
    ///
    /// # Errors
    /// [`Error::Connect`]; [`MigrateError::Duplicate`]; what the server says.
    pub async fn status(self) -> Result<Vec<Migration>, Error> {
        let (status, _) = look::<M>(&self.pg).await?;
        Ok(status)
    }

    /// Returns the SQL that the pending migrations would run, and what is [unsafe](Finding) in it on a database that is
    /// in use.
    ///
    /// They do run, on the database itself, in a transaction that is rolled back, so their locks are held until its end:
    /// not for a database in use, where [`dry_run_on`](Migrate::dry_run_on) does it on a copy. A migration that runs
    /// outside of a transaction stops at the statement that cannot be inside, and the rest of it is unknown;
    /// [`Planned::error`] says so.
    ///
    /// # Errors
    /// As [`Pg::migrate`].
    pub async fn dry_run(self) -> Result<DryRun, Error> {
        let planned = async {
            let run = Run::<M>::open(&self.pg, self.lock_timeout, Quiet::No).await?;
            let planned = dry_run::on_target(&run).await;
            run.close().await;
            planned
        };
        // What the driver tells meanwhile is for the dry run's ears alone.
        planned.with_subscriber(heard::Heard::default()).await
    }

    /// Returns the same as [`dry_run`](Migrate::dry_run), and touches the database only to read what is applied and how
    /// large its tables are. The migrations run on `scratch`: those that are applied, then the pending ones, each as it
    /// would, outside of a transaction too. It is left migrated.
    ///
    /// `scratch` is an empty database that has the extensions, seen in the schema that is migrated, such as a
    /// [`TestDatabase`](crate::testing::TestDatabase).
    ///
    /// # Errors
    /// As [`Pg::migrate`]: [`MigrateError::Failed`] if a migration that is applied fails on an empty database. If a
    /// pending one fails, [`Planned::error`] says so, and those after it are not in the result.
    pub async fn dry_run_on(self, scratch: &Pg) -> Result<DryRun, Error> {
        let (status, exists) = look::<M>(&self.pg).await?;
        let is_missing = |it: &&Migration| matches!(it.state, MigrationState::Missing { .. });
        let missing: Vec<String> =
            status.iter().filter(is_missing).map(|it| it.name.clone()).collect();
        if !missing.is_empty() {
            let database = self.pg.name().to_owned();
            return Err(MigrateError::Missing { database, missing }.into());
        }
        let applied = status.into_iter().filter(|it| it.state.is_applied());
        let applied: Vec<String> = applied.map(|it| it.name).collect();
        let target = exists.then_some(&self.pg);
        let planned = async {
            let run = Run::<M>::open(scratch, self.lock_timeout, Quiet::No).await?;
            let planned = dry_run::on_scratch(&run, target, &applied).await;
            run.close().await;
            planned
        };
        planned.with_subscriber(heard::Heard::default()).await
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

    pub(crate) async fn work(self, work: Work) -> Result<Migrated, Error> {
        let Migrate { pg, wait, lock_timeout, before, after, .. } = self;
        if pg.is_read_only() {
            return Err(Error::ReadOnly {
                database: pg.name().to_owned(),
                what: "migrations write; use an entry without `readonly: true`".to_owned(),
            });
        }
        let run = Run::<M>::open(&pg, lock_timeout, Quiet::Yes).await?;
        let done = async {
            let waited = lock::take(&run.db, &run.key().await?, run.name(), wait).await?;
            let begun = Instant::now();
            run.provision().await?;
            for hook in before {
                hook(run.db.clone()).await?;
            }
            let migrations = run.work(work).await?;
            for hook in after {
                hook(run.db.clone()).await?;
            }
            Ok(Migrated { migrations, waited, took: begun.elapsed() })
        };
        let limit = run.to.config.socket_timeout;
        let done = watch::while_it_answers(&pg.in_scope(None), limit, done).await;
        match done {
            Some(done) => {
                // The lock goes with the connection.
                run.close().await;
                // By this process or another one: reads see the tables from here on.
                pg.database().note_write().await?;
                done
            }
            // It would not answer Terminate either. The connection is ended as for a future that was dropped.
            None => Err(Error::NoAnswer {
                database: pg.name().to_owned(),
                waited: limit.unwrap_or_default(),
            }),
        }
    }
}

impl<M: MigratorTrait + 'static> IntoFuture for Migrate<M> {
    type Output = Result<Migrated, Error>;
    type IntoFuture = BoxFuture<'static, Result<Migrated, Error>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.work(Work::Up(None)))
    }
}

/// Returns the status, and whether the database exists.
async fn look<M: MigratorTrait>(pg: &Pg) -> Result<(Vec<Migration>, bool), Error> {
    let to = pg.database().located(false).await?;
    let schema = run::named_schema(pg.scope(), to.config.schema.as_deref());
    match status::of::<M>(pg, pg.name(), schema.as_deref()).await {
        Err(Error::Connect(error))
            if to.config.create_db && error.kind == ConnectErrorKind::NoSuchDatabase =>
        {
            Ok((status::all_pending::<M>(pg.name())?, false))
        }
        status => Ok((status?, true)),
    }
}
