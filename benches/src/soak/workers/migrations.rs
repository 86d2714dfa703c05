//! Three migrators at once on one schema: one migrates, and each migration is applied once.

// async_trait takes `SchemaManager<'_>` for another signature than the trait's own `SchemaManager`.
#![allow(elided_lifetimes_in_paths)]

use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use sea_orm_migration::{
    MigrationTrait, MigratorTrait,
    prelude::{DbErr, MigrationName, SchemaManager, async_trait},
};
use wharf::Error;

use super::{Worker, first};
use crate::soak::waits::Call;

const VERDICT: &str = "migrations are applied once";

pub struct Migrator;

/// Each notes that it was applied.
struct Step(usize);

const STEPS: [(&str, &str); 3] = [
    ("m1_create", "CREATE TABLE applied (step int)"),
    ("m2_alter", "ALTER TABLE applied ADD COLUMN note text"),
    ("m3_index", "CREATE INDEX applied_step ON applied (step)"),
];

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        (0..STEPS.len()).map(|step| Box::new(Step(step)) as Box<dyn MigrationTrait>).collect()
    }
}

impl MigrationName for Step {
    fn name(&self) -> &str {
        STEPS[self.0].0
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Step {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        db.execute_unprepared(STEPS[self.0].1).await?;
        db.execute_unprepared(&format!("INSERT INTO applied (step) VALUES ({})", self.0)).await?;
        Ok(())
    }
}

pub async fn run(mut worker: Worker) {
    let mut round = 0;
    while worker.goes_on() {
        round += 1;
        let schema = format!("migrated_{round}");
        let up_to_date = until_applied(&mut worker, &schema).await;
        if let Ok(true) = up_to_date {
            let result = check(&worker, &schema).await;
            worker.note_read(&result);
        }
        if let Err(error) = up_to_date {
            worker.world.history.error(worker.name, &error);
        }
        worker.pause(2_000).await;
    }
}

/// Whether one of the three said so before the run's end.
async fn until_applied(worker: &mut Worker, schema: &str) -> Result<bool, Error> {
    let view = worker.world.pg.scoped(schema)?;
    while worker.goes_on() {
        let hand = worker.hand.clone();
        let migrate = |loses_connection: bool| {
            let (hand, view) = (hand.clone(), view.clone());
            async move {
                let mut migrate = view.migrate::<Migrator>().wait(Duration::from_secs(20));
                if loses_connection {
                    migrate = migrate.before(lose_connection);
                }
                hand.timed(Call::Migrate, migrate.into_future()).await
            }
        };
        let is_lost = worker.rng.u8(..) < 64;
        let (a, b, c) = tokio::join!(migrate(is_lost), migrate(is_lost), migrate(is_lost));
        let results = [a, b, c];
        for result in &results {
            match result {
                Ok(done) if is_lost && !done.migrations.is_empty() => {
                    let what = format!("{schema} was migrated by one who had lost the lock");
                    worker.violation(VERDICT, what);
                }
                Err(Error::Migrate(_)) | Ok(_) => {}
                Err(error) => worker.world.history.error(worker.name, error),
            }
        }
        if results.iter().any(Result::is_ok) {
            return Ok(true);
        }
        worker.pause(200).await;
    }
    Ok(false)
}

/// Loses the connection, and with it the lock, as a fault between two statements does, which the driver notices before wharf.
async fn lose_connection(db: DatabaseConnection) -> Result<(), DbErr> {
    let _ = db.execute_unprepared("SELECT pg_terminate_backend(pg_backend_pid())").await;
    Ok(())
}

async fn check(worker: &Worker, schema: &str) -> Result<(), Error> {
    let view = worker.world.pg.scoped(schema)?;
    let count = "SELECT count(*), count(DISTINCT step), (SELECT count(*) FROM seaql_migrations) FROM applied";
    let row = worker.timed(Call::ViewStatement, first(&view, count)).await?;
    let found: [i64; 3] =
        [row.try_get_by_index(0)?, row.try_get_by_index(1)?, row.try_get_by_index(2)?];
    if found != [3, 3, 3] {
        let what = format!(
            "{schema} has {} rows of {} steps, and {} recorded",
            found[0], found[1], found[2]
        );
        worker.violation(VERDICT, what);
    }
    let drop = Statement::from_string(DbBackend::Postgres, format!("DROP SCHEMA {schema} CASCADE"));
    worker.timed(Call::Statement, worker.world.pg.execute_raw(drop)).await?;
    Ok(())
}
