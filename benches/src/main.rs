//! One entity by its primary key, eight tasks on eight connections: SeaORM's own connection as it
//! comes against wharf's, turn by turn in one run, on a PostgreSQL of its own.
//!
//! `cargo run --release -p benches`. Read the ratio; the figures themselves are the machine's.

#![allow(clippy::print_stdout)]

use std::{
    error::Error,
    time::{Duration, Instant},
};

use sea_orm::{ConnectionTrait, Database, DbErr, EntityTrait, entity::prelude::*};
use wharf::{
    Pg,
    config::{DatabaseConfig, PgServerConfig, Runtime},
    pgserver::PgServer,
};

const TASKS: i64 = 8;
const ROWS: i64 = 10_000;
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_secs(1);

mod account {
    use super::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "account")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        pub name: String,
        pub balance: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut config = PgServerConfig::new("benches");
    config.runtime = Runtime::Native;
    config.pass = Some(String::new().into());
    let server = PgServer::temporary(config, []);
    let at = server.start().await?;
    let url = format!("postgres://{}@{}:{}/postgres", at.user, at.host, at.port);

    let mut config = DatabaseConfig::from_url(&url)?;
    config.pool_size = TASKS.unsigned_abs().try_into()?;
    let pg = Pg::from_config("benches", config);
    pg.execute_unprepared(&format!(
        "CREATE TABLE account (id bigint PRIMARY KEY, name text NOT NULL, balance bigint NOT NULL);
         INSERT INTO account SELECT n, 'account ' || n, n FROM generate_series(1, {ROWS}) n"
    ))
    .await?;
    pg.execute_unprepared("VACUUM ANALYZE account").await?;
    let mut options = sea_orm::ConnectOptions::new(url);
    options.max_connections(TASKS.unsigned_abs().try_into()?);
    let sea_orm = Database::connect(options).await?;

    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        theirs.push(look_ups(&sea_orm).await?);
        ours.push(look_ups(&pg).await?);
    }
    let (theirs, ours) = (median(theirs), median(ours));
    println!("entity by primary key, {TASKS} tasks, medians of {ROUNDS} rounds");
    println!("SeaORM as it comes  {theirs:>8.0} op/s");
    println!("wharf               {ours:>8.0} op/s  {:.2} times", ours / theirs);
    server.stop().await?;
    Ok(())
}

/// Look-ups a second, all tasks together.
async fn look_ups<C>(db: &C) -> Result<f64, Box<dyn Error>>
where
    C: ConnectionTrait + Clone + Send + 'static,
{
    let started = Instant::now();
    let tasks: Vec<_> = (0..TASKS)
        .map(|task| {
            let db = db.clone();
            tokio::spawn(async move {
                let mut done = 0u32;
                let mut id = task * ROWS / TASKS;
                while started.elapsed() < ROUND {
                    id = (id * 7_919 + 13) % ROWS + 1;
                    account::Entity::find_by_id(id).one(&db).await?;
                    done += 1;
                }
                Ok::<_, DbErr>(done)
            })
        })
        .collect();
    let mut done = 0;
    for task in tasks {
        done += task.await??;
    }
    Ok(f64::from(done) / started.elapsed().as_secs_f64())
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}
