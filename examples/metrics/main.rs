//! A service that tells Prometheus about its databases.
//!
//! `cargo run --example metrics` needs nothing but Rust: it starts the server of `etc/infra.yaml`,
//! serves until Ctrl-C, and stops the server in the end. `etc/grafana-dashboard.json` fits what
//! `/metrics` shows.

#![allow(clippy::print_stdout)]

mod app;

use sea_orm_migration::MigratorTrait;
use tokio::net::TcpListener;
use wharf::Manager;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let log = tracing_subscriber::fmt().without_time().with_target(false);
    log.with_env_filter("wharf=info,warn").init();

    let prometheus = app::recorder()?;
    tokio::spawn(app::upkeep(prometheus.clone()));

    let manager = Manager::open("etc/infra.yaml").await?;
    manager.start_pgserver().await?;
    let sea_orm = manager.connection("shop")?;
    migration::shop::Migrator::up(&sea_orm, None).await?;
    sea_orm.close().await?;

    let listener = TcpListener::bind("127.0.0.1:8080").await?;
    println!("http://{0}/customers, and what it did: http://{0}/metrics", listener.local_addr()?);
    axum::serve(listener, app::router(manager.clone(), prometheus))
        .with_graceful_shutdown(async {
            let _ = tokio::signal::ctrl_c().await;
        })
        .await?;

    manager.close().await;
    if let Some(server) = manager.pgserver() {
        server.stop().await?;
    }
    Ok(())
}
