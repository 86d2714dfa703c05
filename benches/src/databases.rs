//! What a test's own database costs: thirty tables, ready for the first statement.

// async_trait takes `SchemaManager<'_>` for another signature than the trait's own `SchemaManager`.
#![allow(elided_lifetimes_in_paths)]

use std::time::Instant;

use anyhow::{Result, anyhow};
use sea_orm_migration::prelude::*;
use tokio::runtime::Builder;
use wharf::testing::TestDatabase;

const TABLES: usize = 30;
const TIMES: usize = 40;
const AT_ONCE: usize = 4;

struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(Tables)]
    }
}

struct Tables;

impl MigrationName for Tables {
    fn name(&self) -> &str {
        "m20261125_000001_thirty_tables"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Tables {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in 0..TABLES {
            let create = format!(
                "CREATE TABLE t{table} (id bigserial PRIMARY KEY, name text NOT NULL UNIQUE, at timestamptz \
                 NOT NULL DEFAULT now(), detail jsonb); CREATE INDEX ON t{table} (at)"
            );
            manager.get_connection().execute_unprepared(&create).await?;
        }
        Ok(())
    }
}

/// Medians in ms.
pub struct Databases {
    made: f64,
    answered: f64,
    answered_beside: f64,
}

/// On threads with a runtime each, as tests have them.
pub fn measured() -> Result<Databases> {
    // Which makes the template.
    thread(1)?;
    let alone = thread(TIMES)?;
    let threads: Vec<_> =
        (0..AT_ONCE).map(|_| std::thread::spawn(|| thread(TIMES / AT_ONCE))).collect();
    let mut beside = Vec::new();
    for thread in threads {
        beside.extend(thread.join().map_err(|_| anyhow!("a thread panicked"))??);
    }
    let (made, answered) = alone.into_iter().unzip();
    let (_, answered_beside) = beside.into_iter().unzip::<_, _, Vec<_>, _>();
    let [made, answered, answered_beside] = [made, answered, answered_beside].map(median);
    Ok(Databases { made, answered, answered_beside })
}

fn thread(times: usize) -> Result<Vec<(f64, f64)>> {
    (0..times)
        .map(|_| Builder::new_current_thread().enable_all().build()?.block_on(one()))
        .collect()
}

/// When it is there, and when it has answered for the first time.
async fn one() -> Result<(f64, f64)> {
    let begun = Instant::now();
    let ms = || begun.elapsed().as_secs_f64() * 1e3;
    let database = TestDatabase::new::<Migrator>().await?;
    let made = ms();
    database.ping().await?;
    Ok((made, ms()))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl Databases {
    pub fn print(&self) {
        let Databases { made, answered, answered_beside } = self;
        println!("| {TABLES} tables, copied | median | goal | reached |\n|---|--:|--:|---|");
        for (what, took, goal) in [
            ("made", made, None),
            ("made, and its first answer", answered, Some(40.0)),
            ("the same, 4 at a time, each", answered_beside, Some(100.0)),
        ] {
            let reached = match goal {
                Some(goal) if *took <= goal => "yes",
                Some(_) => "**no**",
                None => "–",
            };
            let goal = goal.map_or_else(|| "–".to_owned(), |goal| format!("≤ {goal} ms"));
            println!("| {what} | {took:.1} ms | {goal} | {reached} |");
        }
    }
}
