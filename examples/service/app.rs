//! The routes.

use axum::{
    Json, Router,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use metrics_exporter_prometheus::PrometheusHandle;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, EntityTrait, ExprTrait, IntoActiveModel, IsolationLevel,
    PaginatorTrait, QueryOrder, QuerySelect, Set,
};
use serde::Deserialize;
use serde_json::{Value, json};
use wharf::{Error, Manager, Pg, Session};

use crate::account;

/// Accounts on one page.
const PAGE: u64 = 10;

#[derive(Clone)]
pub struct Service {
    pub manager: Manager,
    pub pg: Pg,
    pub prometheus: PrometheusHandle,
}

pub fn router(service: Service) -> Router {
    Router::new()
        .route("/transfers", post(transfer))
        .route("/accounts", get(accounts))
        .route("/report", get(report))
        .route("/metrics", get(async |State(service): State<Service>| service.prometheus.render()))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .with_state(service)
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Transfer {
    from: i64,
    to: i64,
    cents: i64,
}

/// Moves money, all of it or nothing, and again if another transfer got in the way.
async fn transfer(
    State(service): State<Service>,
    Json(order): Json<Transfer>,
) -> Result<StatusCode, Failure> {
    let session = service.pg.session().isolation(IsolationLevel::Serializable);
    session.retry(10).run(async move |s| pay(s, order).await).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn pay(s: &Session, order: Transfer) -> Result<(), Failure> {
    for (id, cents) in [(order.from, -order.cents), (order.to, order.cents)] {
        let found = account::Entity::find_by_id(id).one(s).await?;
        let found = found.ok_or(Failure::Refused("there is no such account"))?;
        let cents = found.cents + cents;
        if cents < 0 {
            return Err(Failure::Refused("there is not enough money"));
        }
        let mut changed = found.into_active_model();
        changed.cents = Set(cents);
        changed.update(s).await?;
    }
    Ok(())
}

#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    page: u64,
}

async fn accounts(
    State(service): State<Service>,
    Query(Page { page }): Query<Page>,
) -> Result<Json<Value>, Failure> {
    let pages =
        account::Entity::find().order_by_asc(account::Column::Id).paginate(&service.pg, PAGE);
    let total = pages.num_items_and_pages().await?;
    let accounts = pages.fetch_page(page).await?;
    let accounts: Vec<Value> = accounts
        .iter()
        .map(|it| json!({"id": it.id, "owner": it.owner, "cents": it.cents}))
        .collect();
    Ok(Json(json!({"accounts": accounts, "page": page, "pages": total.number_of_pages})))
}

/// Two queries that see the same moment, in a session in which the server refuses writes.
async fn report(State(service): State<Service>) -> Result<Json<Value>, Failure> {
    let session =
        service.pg.session().isolation(IsolationLevel::RepeatableRead).read_only().await?;
    let accounts = account::Entity::find().count(&session).await?;
    let cents: Option<i64> = account::Entity::find()
        .select_only()
        .column_as(account::Column::Cents.sum().cast_as("bigint"), "cents")
        .into_tuple()
        .one(&session)
        .await?
        .flatten();
    Ok(Json(json!({"accounts": accounts, "cents": cents})))
}

/// Whether requests can be served: every database answers.
async fn ready(State(service): State<Service>) -> Result<&'static str, Failure> {
    for health in service.manager.health().await.into_values() {
        health?;
    }
    Ok("ok\n")
}

/// Why a request failed.
#[derive(Debug)]
pub enum Failure {
    /// The request is refused, for this reason.
    Refused(&'static str),
    /// The database; its message goes to the log and not to the client.
    Database(Error),
}

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::Database(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Failure::Refused(why) => (StatusCode::CONFLICT, format!("{why}\n")).into_response(),
            Failure::Database(error) => {
                tracing::error!(%error);
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }
}
