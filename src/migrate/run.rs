//! Migrations on the one connection that they have.

use std::{
    collections::HashMap,
    marker::PhantomData,
    sync::Arc,
    time::{Duration, Instant},
};

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use sea_orm_migration::{MigrationTrait, MigratorTrait};

use super::{
    MigrateError, fresh,
    status::{self, MigrationState},
    step::{Direction, Steps},
    transaction::reset_of,
};
use crate::{
    error::Error,
    pg::Pg,
    pool::{ConnectTo, SeaOrm},
    provision,
    view::Scope,
};

/// What is to be done.
#[derive(Clone, Copy)]
pub(crate) enum Work {
    Up(Option<u32>),
    Down(u32),
    Fresh,
    Refresh,
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
    /// Undoes what a migration has set on the connection.
    pub(super) reset: String,
    /// The entry's own search path.
    pub(super) shared: Option<String>,
    pub(super) scope: Option<Scope>,
    /// The schema that is migrated, if it is named.
    schema: Option<String>,
    ending: Ending,
    migrator: PhantomData<fn() -> M>,
}

/// A migration of this build.
struct Known {
    migration: Box<dyn MigrationTrait>,
    is_applied: bool,
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
        // A lock on a pooler's connection would stay there.
        let to = pg.database().connect_to(false).await?.direct("a migration")?;
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
        let (scope, schema) = (pg.scope().cloned(), named_schema(pg.scope(), shared.as_deref()));
        let db = sea_orm.connection();
        let backend = "SELECT pg_backend_pid()";
        let asked = db.query_one_raw(Statement::from_string(DbBackend::Postgres, backend));
        let (begun, limit) = (Instant::now(), to.config.socket_timeout);
        // Nobody asks yet whether the server still answers.
        let asked = match limit.map(|limit| limit.saturating_add(to.config.pool_timeout)) {
            Some(limit) => tokio::time::timeout(limit, asked).await,
            None => Ok(asked.await),
        };
        let Ok(asked) = asked else {
            let database = to.name.to_string();
            return Err(Error::NoAnswer { database, waited: begun.elapsed() });
        };
        let row = asked.map_err(|error| to.not_opened(begun.elapsed(), error))?;
        let backend = row.map(|row| row.try_get_by_index(0)).transpose()?;
        let ending = Ending { pg: pg.in_scope(None), backend };
        let reset = reset_of(&to);
        Ok(Run { db, sea_orm, to, reset, shared, scope, schema, ending, migrator: PhantomData })
    }

    pub(super) fn name(&self) -> &str {
        &self.to.name
    }

    /// Returns the lock's key: one process migrates each schema at a time, however an entry spells its name, or whether
    /// it leaves it to the server.
    pub(super) async fn key(&self) -> Result<String, Error> {
        let schema = match &self.schema {
            Some(schema) => schema.clone(),
            None => {
                let current = "SELECT coalesce(current_schema(), 'public')::text";
                let current = Statement::from_string(DbBackend::Postgres, current);
                let row = self.db.query_one_raw(current).await?;
                row.map(|row| row.try_get_by_index(0)).transpose()?.unwrap_or_default()
            }
        };
        Ok(format!("wharf migrate {schema}"))
    }

    /// Creates the schema and the extensions that are missing.
    pub(super) async fn provision(&self) -> Result<(), Error> {
        let (shared, scope) = (self.shared.as_deref(), self.scope.as_ref());
        provision::schema_and_extensions(&self.db, &self.to.config, shared, scope).await
    }

    /// Creates SeaORM's table of applied migrations. To be called where there is one to record, because even IF NOT
    /// EXISTS needs the right to create tables.
    pub(super) async fn install(&self) -> Result<(), Error> {
        Ok(M::install(&self.db).await?)
    }

    pub(super) fn steps(&self) -> Steps<'_> {
        Steps {
            db: &self.db,
            sea_orm: &self.sea_orm,
            pg: &self.ending.pg,
            backend: self.ending.backend,
            reset: &self.reset,
            table: M::migration_table_name().to_string(),
            lock_timeout: self.to.config.lock_timeout.unwrap_or_default(),
        }
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
                fresh::drop_everything(&self.db).await?;
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
        if many > 0 {
            self.install().await?;
        }
        let mut applied = Vec::new();
        for (at, migration) in pending.iter().take(steps).enumerate() {
            tracing::info!(
                "database `{name}`: migration {} of {many}, {}",
                at + 1,
                migration.name()
            );
            self.steps().run(&**migration, Direction::Up, None).await?;
            applied.push(migration.name().to_owned());
        }
        Ok(applied)
    }

    async fn down(&self, steps: u32) -> Result<Vec<String>, Error> {
        let steps = usize::try_from(steps).unwrap_or(usize::MAX);
        let applied = self.known().await?.into_iter().rev().filter(|it| it.is_applied);
        let mut rolled_back = Vec::new();
        for Known { migration, .. } in applied.take(steps) {
            let name = migration.name();
            tracing::info!("database `{}`: rolling back migration {name}", self.name());
            self.steps().run(&*migration, Direction::Down, None).await?;
            rolled_back.push(name.to_owned());
        }
        Ok(rolled_back)
    }

    pub(super) async fn pending(&self) -> Result<Vec<Box<dyn MigrationTrait>>, Error> {
        let pending = self.known().await?.into_iter().filter(|it| !it.is_applied);
        Ok(pending.map(|it| it.migration).collect())
    }

    /// Returns every migration of this build. One that is applied and missing here is an error: nobody can tell what it
    /// did.
    async fn known(&self) -> Result<Vec<Known>, Error> {
        let mut missing = Vec::new();
        let mut states = HashMap::new();
        for it in status::of::<M>(&self.db, self.name(), self.schema.as_deref()).await? {
            match it.state {
                MigrationState::Missing { .. } => missing.push(it.name),
                state => {
                    states.insert(it.name, state);
                }
            }
        }
        if !missing.is_empty() {
            return Err(MigrateError::Missing { database: self.name().to_owned(), missing }.into());
        }
        let known = |migration: Box<dyn MigrationTrait>| Known {
            is_applied: states.get(migration.name()).is_some_and(MigrationState::is_applied),
            migration,
        };
        Ok(M::migrations().into_iter().map(known).collect())
    }
}

/// Returns the schema that is migrated, if the view or the entry names it.
pub(super) fn named_schema(scope: Option<&Scope>, shared: Option<&str>) -> Option<String> {
    match scope {
        Some(scope) => Some(scope.name().to_owned()),
        None => shared.and_then(provision::first_of),
    }
}
