//! A small service: notes, stored in PostgreSQL.

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use entity::note;
use sea_orm::{ActiveModelTrait, EntityTrait, QueryOrder, Set};
use serde::Deserialize;
use wharf::{Error, Manager, Pg};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let manager = Manager::open("infra.yaml").await?;
    let pg = manager.db("shop")?;
    pg.migrate::<migration::Migrator>().await?;

    let port = std::env::var("PORT").unwrap_or_else(|_| "3000".to_owned());
    let listener = tokio::net::TcpListener::bind(format!("127.0.0.1:{port}")).await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, router(pg))
        .with_graceful_shutdown(async {
            let _ = tokio::signal::ctrl_c().await;
        })
        .await?;
    manager.close().await;
    Ok(())
}

fn router(pg: Pg) -> Router {
    Router::new().route("/notes", get(list).post(add)).route("/readyz", get(ready)).with_state(pg)
}

async fn list(State(pg): State<Pg>) -> Result<Json<Vec<note::Model>>, Failure> {
    Ok(Json(note::Entity::find().order_by_asc(note::Column::Id).all(&pg).await?))
}

#[derive(Deserialize)]
struct NewNote {
    text: String,
}

async fn add(
    State(pg): State<Pg>,
    Json(new): Json<NewNote>,
) -> Result<(StatusCode, Json<note::Model>), Failure> {
    let note = note::ActiveModel { text: Set(new.text), ..Default::default() };
    Ok((StatusCode::CREATED, Json(note.insert(&pg).await?)))
}

async fn ready(State(pg): State<Pg>) -> Result<&'static str, Failure> {
    pg.ping().await?;
    Ok("ok\n")
}

/// An error as a response. Its message goes to the log and not to the client.
struct Failure(Error);

impl<E: Into<Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure(error.into())
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        eprintln!("{}", self.0);
        StatusCode::INTERNAL_SERVER_ERROR.into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[wharf::test(migration::Migrator)]
    async fn a_note_is_listed_once_it_is_added(pg: Pg) -> Result<(), Error> {
        let new = Json(NewNote { text: "buy milk".to_owned() });
        let (status, _) = add(State(pg.clone()), new).await.map_err(|failure| failure.0)?;
        assert_eq!(status, StatusCode::CREATED);
        let Json(notes) = list(State(pg)).await.map_err(|failure| failure.0)?;
        assert_eq!(notes.len(), 1);
        assert_eq!(notes[0].text, "buy milk");
        Ok(())
    }
}
