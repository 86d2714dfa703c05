//! What is applied, and what is not.

use std::{collections::BTreeMap, fmt, time::Duration};

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement};
use sea_orm_migration::MigratorTrait;

use super::MigrateError;
use crate::error::Error;

/// Notes the migrations outside of a transaction that were begun and are not done.
const UNFINISHED: &str = "wharf_unfinished_migration";

/// One migration and how far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Migration {
    /// Its name.
    pub name: String,
    /// How far it is.
    pub state: MigrationState,
}

/// How far a migration is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MigrationState {
    /// It has been run, so long ago.
    Applied {
        /// By the server's clock.
        ago: Duration,
    },
    /// It is still to be run.
    Pending,
    /// It was begun outside of a transaction and did not come to its end: a part of it may be there.
    Incomplete {
        /// By the server's clock.
        ago: Duration,
        /// Why; `None` where its process ended, or is at it now.
        error: Option<String>,
    },
    /// It has been run, and is not known here.
    Missing {
        /// By the server's clock.
        ago: Duration,
    },
}

impl MigrationState {
    /// Whether it has been run.
    #[must_use]
    pub fn is_applied(&self) -> bool {
        matches!(self, MigrationState::Applied { .. } | MigrationState::Missing { .. })
    }
}

impl fmt::Display for Migration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Migration { name, state } = self;
        match state {
            MigrationState::Applied { ago } => write!(f, "{name}: applied {ago:.0?} ago"),
            MigrationState::Pending => write!(f, "{name}: pending"),
            MigrationState::Incomplete { ago, error } => {
                write!(f, "{name}: incomplete since {ago:.0?} ago; parts of it may be applied")?;
                error.as_ref().map_or(Ok(()), |error| write!(f, ": {error}"))
            }
            MigrationState::Missing { ago } => {
                write!(f, "{name}: applied {ago:.0?} ago, but missing from this build")
            }
        }
    }
}

/// Returns the migrations of this build as a database has them that does not exist.
pub(super) fn all_pending<M: MigratorTrait>(
    database: &str,
) -> Result<Vec<Migration>, MigrateError> {
    let mut all: Vec<Migration> = Vec::new();
    for migration in M::migrations() {
        let name = migration.name().to_owned();
        if all.iter().any(|it| it.name == name) {
            return Err(MigrateError::Duplicate { database: database.to_owned(), name });
        }
        all.push(Migration { name, state: MigrationState::Pending });
    }
    Ok(all)
}

/// Returns the state of every migration. `schema` is the one that is migrated, if it is named.
pub(super) async fn of<M: MigratorTrait>(
    db: &impl ConnectionTrait,
    database: &str,
    schema: Option<&str>,
) -> Result<Vec<Migration>, Error> {
    let mut states: BTreeMap<String, MigrationState> = BTreeMap::new();
    if let Some(table) = find(db, &M::migration_table_name().to_string(), schema).await? {
        let sql = format!(
            "SELECT version, (extract(epoch FROM now())::int8 - applied_at)::int8 FROM {table}"
        );
        for row in db.query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await? {
            let ago = Duration::from_secs(row.try_get_by_index::<i64>(1)?.try_into().unwrap_or(0));
            states.insert(row.try_get_by_index(0)?, MigrationState::Missing { ago });
        }
    }
    let mut order: Vec<String> = Vec::new();
    for Migration { name, .. } in all_pending::<M>(database)? {
        let state = match states.remove(&name) {
            Some(MigrationState::Missing { ago }) => MigrationState::Applied { ago },
            _ => MigrationState::Pending,
        };
        states.insert(name.clone(), state);
        order.push(name);
    }
    if let Some(table) = find(db, UNFINISHED, schema).await? {
        let sql = format!(
            "SELECT version, extract(epoch FROM now() - begun_at)::int8, error FROM {table}"
        );
        for row in db.query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await? {
            let name: String = row.try_get_by_index(0)?;
            let ago = Duration::from_secs(row.try_get_by_index::<i64>(1)?.try_into().unwrap_or(0));
            let error = row.try_get_by_index(2)?;
            if let Some(state @ MigrationState::Pending) = states.get_mut(&name) {
                *state = MigrationState::Incomplete { ago, error };
            }
        }
    }
    // Those that are not known here come where their names put them.
    let mut all: Vec<Migration> = Vec::new();
    for name in order {
        if let Some(state) = states.remove(&name) {
            all.push(Migration { name, state });
        }
    }
    for (name, state) in states {
        let at = all.iter().position(|it| it.name > name).unwrap_or(all.len());
        all.insert(at, Migration { name, state });
    }
    Ok(all)
}

/// Returns a table of the schema that is migrated, as SQL, if it exists. Not by the search path, which also shows those of
/// schemas that follow.
async fn find(
    db: &impl ConnectionTrait,
    table: &str,
    schema: Option<&str>,
) -> Result<Option<String>, DbErr> {
    let sql = "SELECT format('%I.%I', n.nspname, c.relname)
                 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE c.relname = $1 AND n.nspname = coalesce($2, current_schema())";
    let values = [table.into(), schema.map(str::to_owned).into()];
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
    db.query_one_raw(statement).await?.map(|row| row.try_get_by_index(0)).transpose()
}

/// Notes that a migration outside of a transaction begins.
pub(super) async fn begun(db: &DatabaseConnection, migration: &str) -> Result<(), DbErr> {
    db.execute_unprepared(&format!(
        "CREATE TABLE IF NOT EXISTS {UNFINISHED} (version text PRIMARY KEY,
           begun_at timestamptz NOT NULL, error text)"
    ))
    .await?;
    let note = format!(
        "INSERT INTO {UNFINISHED} VALUES ($1, now(), NULL)
         ON CONFLICT (version) DO UPDATE SET begun_at = now(), error = NULL"
    );
    let values = [migration.into()];
    db.execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, note, values)).await?;
    Ok(())
}

pub(super) async fn broken_off(
    db: &DatabaseConnection,
    migration: &str,
    error: &str,
) -> Result<(), DbErr> {
    let note = format!("UPDATE {UNFINISHED} SET error = $2 WHERE version = $1");
    let values = [migration.into(), error.into()];
    db.execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, note, values)).await?;
    Ok(())
}

pub(super) async fn done(db: &DatabaseConnection, migration: &str) -> Result<(), DbErr> {
    let note = format!("DELETE FROM {UNFINISHED} WHERE version = $1");
    let values = [migration.into()];
    db.execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, note, values)).await?;
    Ok(())
}
