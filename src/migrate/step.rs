//! One migration, up or down, with its record.

use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement};
use sea_orm_migration::{MigrationTrait, SchemaManager};
use tracing::instrument::WithSubscriber as _;

use super::{
    MigrateError,
    heard::Heard,
    invalid_index, status,
    transaction::{self, Left, Transaction},
};
use crate::{error::Error, pg::Pg, pool::SeaOrm, sql};

/// How often a migration is tried that did not get its locks.
const ATTEMPTS: u32 = 5;
const BACKOFF: Duration = Duration::from_millis(500);

/// Up, or down.
#[derive(Clone, Copy)]
pub(super) enum Direction {
    Up,
    Down,
}

/// Runs one migration after the other on the connection that has the lock.
pub(super) struct Steps<'a> {
    pub(super) db: &'a DatabaseConnection,
    /// Whose only connection that is.
    pub(super) sea_orm: &'a SeaOrm,
    /// The same database, on other connections.
    pub(super) pg: &'a Pg,
    pub(super) backend: Option<i32>,
    /// Undoes what a migration has set on it.
    pub(super) reset: &'a str,
    /// Of SeaORM, with what is applied.
    pub(super) table: String,
    pub(super) lock_timeout: Duration,
}

/// A migration that failed.
struct Undone {
    error: Error,
    left: Left,
}

impl Undone {
    fn nothing_left(error: DbErr) -> Undone {
        Undone { error: error.into(), left: Left::Nothing }
    }
}

impl Steps<'_> {
    /// Runs a migration. In a transaction, it is run again if it did not get its locks, because nothing of it was kept.
    pub(super) async fn run(
        &self,
        migration: &dyn MigrationTrait,
        direction: Direction,
        heard: Option<&Heard>,
    ) -> Result<(), Error> {
        let begun = Instant::now();
        let in_transaction = is_in_transaction(migration);
        let name = migration.name();
        let mut attempt = 1;
        loop {
            let done = match in_transaction {
                true => self.in_transaction(migration, direction, heard).await,
                false => self.outside(migration, direction, heard).await,
            };
            let Err(Undone { error, left }) = done else { return Ok(()) };
            let missed_its_locks = error.sqlstate().as_deref() == Some("55P03");
            if left != Left::Nothing || !missed_its_locks || attempt == ATTEMPTS {
                return Err(MigrateError::Failed {
                    database: self.pg.name().to_owned(),
                    migration: name.to_owned(),
                    after: begun.elapsed(),
                    attempts: attempt,
                    in_transaction: left == Left::Nothing,
                    source: Box::new(error),
                }
                .into());
            }
            tracing::warn!(
                "database `{}`: migration {name} did not get its locks within {:?}, trying again ({attempt} of {})",
                self.pg.name(),
                self.lock_timeout,
                ATTEMPTS - 1,
            );
            tokio::time::sleep(BACKOFF * attempt).await;
            attempt += 1;
        }
    }

    async fn in_transaction(
        &self,
        migration: &dyn MigrationTrait,
        direction: Direction,
        heard: Option<&Heard>,
    ) -> Result<(), Undone> {
        let begun = Transaction::begin(self.db, self.reset).await;
        let transaction = begun.map_err(Undone::nothing_left)?;
        let done = async {
            // A transaction keeps its connection, so it has the lock to its end.
            self.check_lock()?;
            call(migration, direction, &SchemaManager::new(transaction.open()), heard).await?;
            transaction.reset().await?;
            self.record(transaction.open(), migration.name(), direction).await
        };
        let (error, left) = match done.await {
            Ok(()) => match transaction.commit(self.pg).await {
                Ok(()) => return Ok(()),
                Err(undone) => undone,
            },
            Err(error) => (error, transaction.roll_back().await),
        };
        let error = Error::from(error);
        if left == Left::Parts && matches!(direction, Direction::Up) {
            let noted = async {
                status::begun(self.db, migration.name()).await?;
                status::broken_off(self.db, migration.name(), &error.to_string()).await
            };
            self.warn(noted.await.err(), "could not note what is incomplete", migration);
        }
        Err(Undone { error, left })
    }

    async fn outside(
        &self,
        migration: &dyn MigrationTrait,
        direction: Direction,
        heard: Option<&Heard>,
    ) -> Result<(), Undone> {
        // One that is rolled back stays applied until it is gone.
        let is_noted = matches!(direction, Direction::Up);
        let name = migration.name();
        let begun = async {
            self.check_lock()?;
            if is_noted {
                status::begun(self.db, name).await?;
            }
            // CREATE INDEX CONCURRENTLY waits for old transactions, and has nobody wait behind it meanwhile.
            self.db.execute_unprepared("SET lock_timeout = 0").await?;
            invalid_index::known(self.db).await
        };
        let known = begun.await.map_err(Undone::nothing_left)?;
        let called = call(migration, direction, &SchemaManager::new(self.db), heard).await;
        let mut last_statement = None;
        if called.is_err()
            && let Some(backend) = self.backend
        {
            let asked = invalid_index::last_statement(self.pg, backend).await;
            last_statement = asked.unwrap_or_default();
        }
        let ended = transaction::end(self.db).await;
        let reset = self.db.execute_unprepared(self.reset).await;
        let done: Result<(), DbErr> = async {
            called?;
            ended?;
            reset?;
            self.record(self.db, name, direction).await?;
            if is_noted {
                status::done(self.db, name).await?;
            }
            Ok(())
        }
        .await;
        let Err(error) = done else { return Ok(()) };
        let error = Error::from(error);
        // The migration's own error is the one to report, so later ones are only logged.
        if is_noted {
            let noted = status::broken_off(self.db, name, &error.to_string()).await;
            self.warn(noted.err(), "could not note what is incomplete", migration);
        }
        let database = self.pg.name();
        let dropped =
            invalid_index::drop_own(self.db, last_statement.as_deref(), &known, database).await;
        self.warn(dropped.err(), "could not drop its invalid index", migration);
        Err(Undone { error, left: Left::Parts })
    }

    /// Fails if the connection was lost that had the lock: another process may have it now.
    fn check_lock(&self) -> Result<(), DbErr> {
        if !self.sea_orm.has_reconnected() {
            return Ok(());
        }
        let lost = "the connection was lost, and with it the lock that keeps other processes from migrating; run the \
                    migrations again";
        Err(DbErr::Custom(lost.to_owned()))
    }

    /// Records that a migration is applied, or is no more.
    async fn record(
        &self,
        db: &impl ConnectionTrait,
        migration: &str,
        direction: Direction,
    ) -> Result<(), DbErr> {
        let table = sql::quote_ident(&self.table);
        let record = match direction {
            Direction::Up => format!(
                "INSERT INTO {table} (version, applied_at) \
                 VALUES ($1, extract(epoch FROM clock_timestamp())::int8)"
            ),
            Direction::Down => format!("DELETE FROM {table} WHERE version = $1"),
        };
        let values = [migration.into()];
        db.execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, record, values)).await?;
        Ok(())
    }

    fn warn(
        &self,
        error: Option<impl std::fmt::Display>,
        what: &str,
        migration: &dyn MigrationTrait,
    ) {
        if let Some(error) = error {
            let (database, name) = (self.pg.name(), migration.name());
            tracing::warn!("database `{database}`: migration {name}: {what}: {error}");
        }
    }
}

pub(super) fn is_in_transaction(migration: &dyn MigrationTrait) -> bool {
    migration.use_transaction().unwrap_or(true)
}

/// Calls a migration's own code. `heard` has its statements told, and nobody else.
pub(super) async fn call(
    migration: &dyn MigrationTrait,
    direction: Direction,
    manager: &SchemaManager<'_>,
    heard: Option<&Heard>,
) -> Result<(), DbErr> {
    let call = async {
        match direction {
            Direction::Up => migration.up(manager).await,
            Direction::Down => migration.down(manager).await,
        }
    };
    match heard {
        Some(heard) => call.with_subscriber(heard.clone()).await,
        None => call.await,
    }
}
