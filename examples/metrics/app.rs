//! The service: three routes that every service has, and one that does something.

use std::{sync::Arc, time::Duration};

use axum::{Router, extract::State, http::StatusCode, routing::get};
use entity::shop::customer;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use sea_orm::{EntityTrait, PaginatorTrait};
use wharf::{
    Manager,
    monitor::{DURATION_BUCKETS, ROWS_BUCKETS},
};

/// Has everything recorded from here on. Before any database is opened, so that the metrics come
/// with their descriptions.
pub fn recorder() -> Result<PrometheusHandle, BuildError> {
    PrometheusBuilder::new()
        .set_buckets(&DURATION_BUCKETS)?
        .set_buckets_for_metric(
            Matcher::Full("db.client.response.returned_rows".to_owned()),
            &ROWS_BUCKETS,
        )?
        .install_recorder()
}

/// What is recorded is summed up when it is scraped; where nobody scrapes, this does.
pub async fn upkeep(prometheus: PrometheusHandle) {
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        prometheus.run_upkeep();
    }
}

struct Service {
    manager: Manager,
    prometheus: PrometheusHandle,
}

pub fn router(manager: Manager, prometheus: PrometheusHandle) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/customers", get(customers))
        .with_state(Arc::new(Service { manager, prometheus }))
}

async fn metrics(State(service): State<Arc<Service>>) -> String {
    service.prometheus.render()
}

/// Whether the process is alive. Asks no database: restarting the process mends none.
async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether requests can be served: every database answers.
async fn readyz(State(service): State<Arc<Service>>) -> (StatusCode, String) {
    let (mut status, mut said) = (StatusCode::OK, String::new());
    for (name, health) in service.manager.health().await {
        match health {
            Ok(healthy) => said.push_str(&format!("{name}: ok in {:.1?}\n", healthy.latency)),
            Err(error) => {
                status = StatusCode::SERVICE_UNAVAILABLE;
                said.push_str(&format!("{error}\n"));
            }
        }
    }
    (status, said)
}

async fn customers(State(service): State<Arc<Service>>) -> Result<String, (StatusCode, String)> {
    let failed = |error: wharf::Error| (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"));
    let shop = service.manager.db("shop").map_err(failed)?;
    let count = customer::Entity::find().count(&shop).await.map_err(|e| failed(e.into()))?;
    Ok(format!("{count} customers\n"))
}
