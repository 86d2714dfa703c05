//! The nearest of many vectors: wharf's search through an entity beside the same SQL through tokio-postgres,
//! and what a filter leaves of it.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use deadpool_postgres::{
    Manager, ManagerConfig, Pool, RecyclingMethod,
    tokio_postgres::{NoTls, Row, binary_copy::BinaryCopyInWriter, types::Type},
};
use pgvector::Vector;
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, Select, prelude::PgVector};
use wharf::{
    Pg,
    config::{PgServerConfig, Runtime},
    ext::vector::{Distance, Near, VectorIndex, nearest},
    pgserver::{Endpoint, PgServer},
};

use crate::machine;

const IMAGE: &str = "pgvector/pgvector:pg17";
const DIMENSIONS: usize = 384;
const CONNECTIONS: usize = 8;
const NEAREST: u64 = 10;
/// Of the rows, each filter keeps one in so many.
const SHARES: i32 = 100;
/// Over which recall is a mean.
const QUERIES: usize = 200;
const WARM_UP: Duration = Duration::from_millis(300);

/// As wharf's search has it.
const SQL: &str = r#"SELECT "item"."id", "item"."share", "item"."centre", "item"."embedding", "item"."embedding" <=> $1 AS "wharf_distance" FROM "item" ORDER BY "wharf_distance" ASC LIMIT 10"#;

const TABLE: &str = "
CREATE EXTENSION IF NOT EXISTS vector;
DROP TABLE IF EXISTS item;
CREATE TABLE item (id int PRIMARY KEY, share int NOT NULL, centre int NOT NULL, embedding vector(384) NOT NULL)";

mod item {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "item")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        /// Of 100, whatever the vector is.
        pub share: i32,
        /// Of 100, and the vector is near it.
        pub centre: i32,
        #[sea_orm(column_type = "Vector(Some(384))")]
        pub embedding: PgVector,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// What `benches vectors` is told.
#[derive(clap::Args, Clone, Copy)]
pub struct Vectors {
    /// How many vectors.
    #[arg(long, default_value_t = 100_000)]
    rows: u32,
    /// How often each is measured; the median counts.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// How long each measurement takes, without its warm-up.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
}

pub async fn run(vectors: Vectors) -> Result<()> {
    let mut config = PgServerConfig::new("benches-vectors");
    config.runtime = Runtime::Docker;
    config.image = Some(IMAGE.to_owned());
    config.pass = Some("benches".to_owned().into());
    for (setting, value) in [
        ("autovacuum", "off"),
        ("checkpoint_timeout", "1d"),
        ("fsync", "off"),
        ("jit", "off"),
        ("max_wal_size", "8GB"),
        // Else several workers would have to make do with the 64 MB that a container has in /dev/shm.
        ("min_dynamic_shared_memory", "600MB"),
        ("shared_buffers", "768MB"),
    ] {
        config.postgres_conf.insert(setting.to_owned(), value.to_owned());
    }
    let server = PgServer::new(config, []);
    let at = server.start().await?;
    let measured = measured(vectors, &at).await;
    // With its data.
    server.remove().await?;
    measured
}

async fn measured(vectors: Vectors, at: &Endpoint) -> Result<()> {
    let url = format!("postgres://{}:benches@{}:{}/postgres", at.user, at.host, at.port);
    let pg = Pg::from_url(&url).await?;
    pg.resize(CONNECTIONS as u32, 0)?;
    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = Manager::from_config(url.parse()?, NoTls, recycling);
    let pool = Pool::builder(manager).max_size(CONNECTIONS).build()?;

    let points = Points::new();
    let began = Instant::now();
    pg.execute_unprepared(TABLE).await?;
    load(&pool, &points, vectors.rows).await?;
    let loaded = began.elapsed();
    let began = Instant::now();
    VectorIndex::on(item::Column::Embedding, Distance::Cosine)
        .hnsw(16, 64)
        .build(&pg)
        .memory("550MB")
        .workers(1)
        .progress(|progress| eprint!("\r{progress} "))
        .await?;
    let built = began.elapsed();
    pg.execute_unprepared("VACUUM ANALYZE item").await?;

    println!("{}\n", machine::line(&at.version));
    println!(
        "{} vectors of {DIMENSIONS} in 100 clusters, copied in within {loaded:.0?}; HNSW (m 16, \
         ef_construction 64, one worker, 550 MB) in {built:.0?}. Medians of {} rounds, {} s each.\n",
        vectors.rows, vectors.rounds, vectors.seconds
    );
    println!(
        "| nearest {NEAREST}, tasks | wharf op/s | tokio-postgres op/s | ratio | goal | reached |"
    );
    println!("|---|--:|--:|--:|--:|---|");
    for tasks in [1, 8] {
        beside(vectors, tasks, &pg, &pool, &points).await?;
    }
    println!(
        "\n| filter keeps 1 % | recall | least rows | ms | goal | reached |\n|---|--:|--:|--:|--:|---|"
    );
    let none = |find, _| find;
    found(&pg, &points, "no filter", none, None).await?;
    let share = |find: Select<item::Entity>, nth| find.filter(item::Column::Share.eq(nth));
    found(&pg, &points, "whatever the vector is", share, Some(0.95)).await?;
    let far = |find: Select<item::Entity>, nth| find.filter(item::Column::Centre.eq(nth));
    found(&pg, &points, "one cluster, mostly far away", far, Some(0.95)).await?;
    Ok(())
}

/// Centres, and what lies around them: the same ones in each run.
struct Points {
    centres: Vec<Vec<f32>>,
    queries: Vec<Vec<f32>>,
}

impl Points {
    fn new() -> Points {
        let mut dice = fastrand::Rng::with_seed(7);
        let centres: Vec<_> =
            (0..SHARES).map(|_| around(&[0.0; DIMENSIONS], 1.0, &mut dice)).collect();
        let query = |nth: usize| around(&centres[nth % centres.len()], 0.8, &mut dice);
        let queries = (0..QUERIES).map(query).collect();
        Points { centres, queries }
    }
}

fn around(centre: &[f32], off: f32, dice: &mut fastrand::Rng) -> Vec<f32> {
    centre.iter().map(|at| at + (dice.f32() * 2.0 - 1.0) * off).collect()
}

async fn load(pool: &Pool, points: &Points, rows: u32) -> Result<()> {
    let mut client = pool.get().await?;
    let transaction = client.transaction().await?;
    let vector = transaction.prepare("SELECT $1::vector").await?;
    let vector = vector.params().first().context("no type `vector`")?.clone();
    let copy = "COPY item FROM STDIN (FORMAT binary)";
    let sink = transaction.copy_in(copy).await?;
    let types = [Type::INT4, Type::INT4, Type::INT4, vector];
    let mut writer = std::pin::pin!(BinaryCopyInWriter::new(sink, &types));
    let mut dice = fastrand::Rng::with_seed(8);
    for id in 0..i32::try_from(rows)? {
        let centre = dice.i32(0..SHARES);
        let at = around(&points.centres[usize::try_from(centre)?], 0.8, &mut dice);
        let (share, at) = (dice.i32(0..SHARES), Vector::from(at));
        writer.as_mut().write(&[&id, &share, &centre, &at]).await?;
    }
    writer.as_mut().finish().await?;
    Ok(transaction.commit().await?)
}

/// Turn by turn, and neither is always the first.
async fn beside(
    vectors: Vectors,
    tasks: usize,
    pg: &Pg,
    pool: &Pool,
    points: &Points,
) -> Result<()> {
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..vectors.rounds {
        let (pg, pool) = (pg.clone(), pool.clone());
        let wharf = || rate(vectors, tasks, points, move |to| by_wharf(pg.clone(), to));
        let tokio = || rate(vectors, tasks, points, move |to| by_tokio_postgres(pool.clone(), to));
        let (one, other) = if round % 2 == 0 {
            let one = wharf().await?;
            (one, tokio().await?)
        } else {
            let other = tokio().await?;
            (wharf().await?, other)
        };
        ours.push(one);
        theirs.push(other);
        ratios.push(one / other);
    }
    let [ours, theirs, ratio] = [ours, theirs, ratios].map(median);
    let reached = if ratio >= 0.9 { "yes" } else { "**no**" };
    println!("| {tasks} | {ours:.0} | {theirs:.0} | {ratio:.2} | ≥ 0.9 | {reached} |");
    Ok(())
}

/// Searches a second, by so many tasks at once.
async fn rate<F>(
    vectors: Vectors,
    tasks: usize,
    points: &Points,
    search: impl Fn(Vec<f32>) -> F + Clone + Send + 'static,
) -> Result<f64>
where
    F: Future<Output = Result<usize>> + Send,
{
    let from = Instant::now() + WARM_UP;
    let until = from + Duration::from_secs(vectors.seconds);
    let task = |first: usize| {
        let (search, queries) = (search.clone(), points.queries.clone());
        async move {
            let mut done = 0_u32;
            for query in queries.iter().cycle().skip(first) {
                anyhow::ensure!(search(query.clone()).await? == NEAREST as usize, "too few came");
                let ended = Instant::now();
                if ended >= until {
                    break;
                }
                done += u32::from(ended >= from);
            }
            Ok::<_, anyhow::Error>(done)
        }
    };
    let tasks: Vec<_> = (0..tasks).map(|nth| tokio::spawn(task(nth * 25))).collect();
    let mut done = 0.0;
    for task in tasks {
        done += f64::from(task.await??);
    }
    Ok(done / vectors.seconds as f64)
}

async fn by_wharf(pg: Pg, to: Vec<f32>) -> Result<usize> {
    Ok(nearest(item::Entity::find(), item::Column::Embedding, to).all(&pg).await?.len())
}

async fn by_tokio_postgres(pool: Pool, to: Vec<f32>) -> Result<usize> {
    let client = pool.get().await?;
    let search = client.prepare_cached(SQL).await?;
    let rows = client.query(&search, &[&Vector::from(to)]).await?;
    let found: Result<Vec<(item::Model, f64)>> = rows.iter().map(model).collect();
    Ok(found?.len())
}

fn model(row: &Row) -> Result<(item::Model, f64)> {
    let embedding: Vector = row.try_get(3)?;
    let model = item::Model {
        id: row.try_get(0)?,
        share: row.try_get(1)?,
        centre: row.try_get(2)?,
        embedding: PgVector::from(embedding.to_vec()),
    };
    Ok((model, row.try_get(4)?))
}

/// How much of the exact answer is found, and how many rows at least.
async fn found(
    pg: &Pg,
    points: &Points,
    title: &str,
    filter: impl Fn(Select<item::Entity>, i32) -> Select<item::Entity>,
    goal: Option<f64>,
) -> Result<()> {
    let (mut recall, mut least, mut took) = (0.0, u64::MAX, Vec::new());
    for (nth, query) in points.queries.iter().enumerate() {
        // Another cluster than the one that the query is of.
        let nth = (i32::try_from(nth)? + 41) % SHARES;
        let search = nearest(filter(item::Entity::find(), nth), item::Column::Embedding, query);
        let began = Instant::now();
        let there = ids(search.clone().all(pg).await?);
        took.push(began.elapsed().as_secs_f64() * 1e3);
        // Without the index, by a plan that knows of it.
        let exact = pg.session().set_local("enable_indexscan", "off");
        let exact = exact.set_local("plan_cache_mode", "force_custom_plan").await?;
        let exact = ids(search.all_in(&exact).await?);
        recall += there.intersection(&exact).count() as f64 / exact.len() as f64;
        least = least.min(there.len() as u64);
    }
    recall /= points.queries.len() as f64;
    let (goal, reached) = match goal {
        None => ("–".to_owned(), "–"),
        Some(goal) => {
            let yes = recall >= goal && least == NEAREST;
            (format!("≥ {goal}, {NEAREST} rows"), if yes { "yes" } else { "**no**" })
        }
    };
    println!("| {title} | {recall:.3} | {least} | {:.1} | {goal} | {reached} |", median(took));
    Ok(())
}

fn ids(found: Vec<Near<item::Model>>) -> HashSet<i32> {
    found.into_iter().map(|near| near.model.id).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
