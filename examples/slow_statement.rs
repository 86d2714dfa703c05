//! A slow statement, from the line in the log to the plan that says why.
//!
//! `cargo run --example slow_statement` needs nothing but Rust: it starts the server of
//! `etc/infra.yaml`, and stops it in the end.

#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};
use wharf::{Manager, Pg, config::Config};

const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let log = tracing_subscriber::fmt().without_time().with_target(false);
    log.with_env_filter("wharf=info,wharf::pgserver=warn,warn").init();

    // What `monitor:` in the file, or INFRA_MONITOR_EXPLAIN=true, would say.
    let mut config = Config::load("etc/infra.yaml")?;
    if let Some(shop) = config.databases.get_mut("shop") {
        shop.monitor.slow_statement_threshold = Some(Duration::from_millis(10));
        shop.monitor.explain = true;
    }
    let manager = Manager::from_config(config);
    manager.start_pgserver().await?;

    let done = find_it(&manager.db("shop")?).await;

    manager.close().await;
    if let Some(server) = manager.pgserver() {
        server.stop().await?;
    }
    Ok(done?)
}

async fn find_it(shop: &Pg) -> Result<(), DbErr> {
    shop.execute_unprepared(
        "DROP TABLE IF EXISTS visit;
         CREATE TABLE visit (id int PRIMARY KEY, page text, visitor text);
         INSERT INTO visit
         SELECT n, 'page ' || n % 97, md5(n::text) FROM generate_series(1, 500000) AS n;
         ANALYZE visit",
    )
    .await?;
    shop.monitor().reset();

    // What a service does all day …
    for id in 1..=200 {
        select(shop, "SELECT page FROM visit WHERE id = $1", id.into()).await?;
    }
    // … and what somebody added yesterday.
    for n in 1..=20 {
        let visitor = format!("{n:032x}");
        select(shop, "SELECT id, page FROM visit WHERE visitor = $1", visitor.into()).await?;
    }

    // It is explained in the background.
    let mut top = shop.monitor().top(2);
    let started = Instant::now();
    while top.statements.iter().all(|one| one.plan.is_none()) && started.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(10)).await;
        top = shop.monitor().top(2);
    }
    println!("\n{top}");
    for statement in &top.statements {
        if let Some(plan) = &statement.plan {
            println!("why {} is there:\n{}", statement.digest.fingerprint(), plan.text);
        }
    }
    shop.execute_unprepared("DROP TABLE visit").await?;
    Ok(())
}

async fn select(on: &Pg, sql: &str, value: sea_orm::Value) -> Result<(), DbErr> {
    on.query_all_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, [value])).await?;
    Ok(())
}
