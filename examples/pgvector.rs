//! A search by meaning: questions find the passages that answer them, though they share few words.
//!
//! `cargo run --example pgvector` needs nothing but Rust: it starts the server of
//! `etc/infra.yaml`, whose database `library` has the extension `vector`, and stops it in the end.
//! The passages and their embeddings (all-MiniLM-L6-v2, 384 dimensions) are in `examples/data/`.

#![allow(clippy::print_stdout)]

use std::{fs, path::Path};

use anyhow::Context as _;
use entity::library::passage;
use sea_orm::{
    ColumnTrait, EntityTrait, FromQueryResult, PaginatorTrait, QueryFilter, QuerySelect,
    QueryTrait, Set, prelude::PgVector,
};
use sea_orm_migration::MigratorTrait;
use wharf::{
    Error, Manager, Pg,
    ext::vector::{self, Near},
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let log = tracing_subscriber::fmt().without_time().with_target(false);
    log.with_env_filter("wharf=info,warn").init();

    let manager = Manager::open("etc/infra.yaml").await?;
    manager.start_pgserver().await?;

    let done = search(&manager).await;

    manager.close().await;
    if let Some(server) = manager.pgserver() {
        server.stop().await?;
    }
    done
}

async fn search(manager: &Manager) -> anyhow::Result<()> {
    // The table, and an HNSW index on its embeddings.
    let sea_orm = manager.connection("library")?;
    migration::library::Migrator::up(&sea_orm, None).await?;
    sea_orm.close().await?;

    let library = manager.db("library")?;
    let passages = load(&library).await?;
    println!("{passages} passages in `{}`\n", library.name());

    for (filter, question, embedding) in embedded("questions")? {
        let topic = (filter != "any").then_some(filter.as_str());
        let only = topic.map(|topic| format!(" (only {topic})")).unwrap_or_default();
        println!("{question}{only}");
        for Near { model: Answer { topic, text }, distance } in
            nearest(&library, embedding, topic).await?
        {
            println!("  {:.2}  {topic:10}  {text}", 1.0 - distance);
        }
        println!();
    }
    Ok(())
}

/// Puts the passages of `examples/data/` into the table, unless they are there.
async fn load(library: &Pg) -> anyhow::Result<u64> {
    let rows: Vec<_> = embedded("passages")?
        .into_iter()
        .map(|(topic, text, embedding)| passage::ActiveModel {
            topic: Set(topic),
            text: Set(text),
            embedding: Set(embedding),
            ..Default::default()
        })
        .collect();
    library
        .session()
        .run(async |s| {
            if passage::Entity::find().count(s).await? != rows.len() as u64 {
                passage::Entity::delete_many().exec(s).await?;
                passage::Entity::insert_many(rows).exec(s).await?;
            }
            passage::Entity::find().count(s).await
        })
        .await
        .map_err(anyhow::Error::from)
}

#[derive(FromQueryResult)]
struct Answer {
    topic: String,
    text: String,
}

/// The five passages whose embeddings point most nearly the same way.
async fn nearest(
    library: &Pg,
    question: PgVector,
    topic: Option<&str>,
) -> Result<Vec<Near<Answer>>, Error> {
    let find = passage::Entity::find()
        .select_only()
        .columns([passage::Column::Topic, passage::Column::Text])
        .apply_if(topic, |find, topic| find.filter(passage::Column::Topic.eq(topic)));
    vector::nearest(find, passage::Column::Embedding, question)
        .limit(5)
        .into_model()
        .all(library)
        .await
}

/// The lines of `NAME.tsv`, two columns each, with their embeddings from beside it.
fn embedded(name: &str) -> anyhow::Result<Vec<(String, String, PgVector)>> {
    const DIMENSIONS: usize = 384;
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data");
    let lines = fs::read_to_string(data.join(format!("{name}.tsv")))?;
    let file = if name == "passages" { "embeddings" } else { name };
    let vectors = fs::read(data.join(format!("{file}.f32")))?;
    let numbers: Vec<f32> =
        vectors.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    lines
        .lines()
        .zip(numbers.chunks_exact(DIMENSIONS))
        .map(|(line, vector)| {
            let (first, second) = line.split_once('\t').context("a line without a tab")?;
            Ok((first.to_owned(), second.to_owned(), PgVector::from(vector.to_vec())))
        })
        .collect()
}
