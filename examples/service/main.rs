//! A web service: transfers that are retried, a read-only report, pages, metrics and health checks.
//!
//! `cargo run --example service` starts the server of `examples/service/infra.yaml`, serves until Ctrl-C, and
//! stops the server again. PORT changes the port.

#![allow(clippy::print_stdout, missing_docs)]

mod account;
mod app;

use tokio::net::TcpListener;
use wharf::{
    Manager,
    monitor::{DURATION_BUCKETS, ROWS_BUCKETS},
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let log = tracing_subscriber::fmt().without_time().with_target(false);
    log.with_env_filter("wharf=info,service=info,warn").init();
    // Before the first database is opened, so that the metrics come with their descriptions.
    let rows = "db.client.response.returned_rows".to_owned();
    let prometheus = metrics_exporter_prometheus::PrometheusBuilder::new()
        .set_buckets(&DURATION_BUCKETS)?
        .set_buckets_for_metric(metrics_exporter_prometheus::Matcher::Full(rows), &ROWS_BUCKETS)?
        .install_recorder()?;

    let manager = Manager::open("examples/service/infra.yaml").await?;
    manager.start_pgserver().await?;
    let pg = manager.db("bank")?;
    pg.migrate::<account::Migrator>().await?;

    let port = std::env::var("PORT").unwrap_or_else(|_| "8081".to_owned());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    println!("http://{}/accounts", listener.local_addr()?);
    let service = app::Service { manager: manager.clone(), pg, prometheus };
    axum::serve(listener, app::router(service))
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
