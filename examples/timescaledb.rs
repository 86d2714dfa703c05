//! Three weeks of a greenhouse: readings in a hypertable, days and records by time_bucket, and old chunks
//! dropped.
//!
//! `cargo run --example timescaledb` starts the server of `etc/timescaledb.yaml`, and stops it in the end. With
//! the community build of TimescaleDB it also compresses, and keeps daily means up to date.

#![allow(clippy::print_stdout)]
// async_trait takes `SchemaManager<'_>` for another signature than the trait's own `SchemaManager`.
#![allow(elided_lifetimes_in_paths)]

use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, DbErr, EntityTrait, FromQueryResult, QueryOrder,
    QuerySelect, QueryTrait, Schema,
    prelude::{DateTimeUtc, Expr},
    sea_query::{Order, SelectStatement},
};
use sea_orm_migration::{MigrationName, MigrationTrait, MigratorTrait, SchemaManager};
use wharf::{
    Error, Manager, Pg,
    ext::timescale::{
        Compression, ContinuousAggregate, Hypertable, Interval, Licence, last, licence,
        time_bucket, time_bucket_in,
    },
};

mod reading {
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "reading")]
    pub struct Model {
        // A hypertable's primary key contains its time.
        #[sea_orm(primary_key, auto_increment = false)]
        pub at: DateTimeUtc,
        #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
        pub bed: String,
        pub celsius: f64,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

use reading::Column::{At, Bed, Celsius};

fn readings() -> Hypertable {
    Hypertable::new(reading::Entity, At).chunk_interval(Interval::days(1))
}

struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(CreateReading)]
    }
}

struct CreateReading;

impl MigrationName for CreateReading {
    fn name(&self) -> &str {
        "m20261125_000001_create_reading"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for CreateReading {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Schema::new(DbBackend::Postgres).create_table_from_entity(reading::Entity);
        manager.create_table(table).await?;
        readings().create(manager.get_connection()).await
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let log = tracing_subscriber::fmt().without_time().with_target(false);
    log.with_env_filter("wharf=info,warn").init();

    let manager = Manager::open("etc/timescaledb.yaml").await?;
    manager.start_pgserver().await?;

    let done = greenhouse(&manager.db("greenhouse")?).await;

    manager.close().await;
    if let Some(server) = manager.pgserver() {
        server.stop().await?;
    }
    Ok(done?)
}

async fn greenhouse(pg: &Pg) -> Result<(), Error> {
    pg.migrate::<Migrator>().await?;
    fill(pg).await?;

    println!("the last days, by the clock in Berlin:");
    for Day { day, bed, mean, newest } in days().into_model::<Day>().all(pg).await? {
        println!(
            "  {}  {bed:8}  {mean:4.1} °C, {newest:4.1} at its end",
            day.format("%d %b %H:%M UTC")
        );
    }

    match licence(pg).await? {
        Licence::Community => community(pg).await?,
        // What the server's build lacks says so itself.
        _ => {
            if let Err(error) = readings().set_retention(pg, Interval::days(14)).await {
                println!("\nnot here: {}\n", Error::from(error));
            }
        }
    }
    let dropped = readings().drop_chunks(pg, Interval::days(14)).await?;
    println!("{dropped} chunks older than 14 days are dropped, each as a whole");
    Ok(())
}

/// A reading of each bed every five minutes, for three weeks up to now: warmest in the afternoon.
async fn fill(pg: &Pg) -> Result<(), Error> {
    pg.execute_unprepared(
        "INSERT INTO reading (at, bed, celsius)
         SELECT at, bed, base + 6 * sin((extract(hour FROM at) - 9) / 24 * 2 * pi())
           FROM (VALUES ('basil', 22), ('orchids', 25), ('lettuce', 16)) AS bed (bed, base),
                generate_series(date_trunc('hour', now()) - interval '21 days', now(), '5 min') AS at
         ON CONFLICT DO NOTHING",
    )
    .await?;
    Ok(())
}

#[derive(FromQueryResult)]
struct Day {
    day: DateTimeUtc,
    bed: String,
    mean: f64,
    newest: f64,
}

fn days() -> sea_orm::Select<reading::Entity> {
    let day = time_bucket_in("Europe/Berlin", Interval::days(1), At);
    reading::Entity::find()
        .select_only()
        .column_as(day.clone(), "day")
        .column(Bed)
        .column_as(Celsius.avg(), "mean")
        .column_as(last(Celsius, At), "newest")
        .group_by(day.clone())
        .group_by(Bed)
        .order_by(day, Order::Desc)
        .order_by_asc(Bed)
        .limit(9)
}

/// What is in the community build alone.
async fn community(pg: &Pg) -> Result<(), Error> {
    let old = Compression::after(Interval::days(3)).segment_by(Bed).order_by_desc(At);
    readings().set_compression(pg, old).await?;
    readings().set_retention(pg, Interval::days(14)).await?;
    let daily = ContinuousAggregate::new("reading_daily", daily_means()).refresh(
        Interval::days(3),
        Interval::hours(1),
        Interval::hours(1),
    );
    pg.execute_unprepared("DROP MATERIALIZED VIEW IF EXISTS reading_daily").await?;
    daily.create(pg).await?;
    daily.refresh_all(pg).await?;
    println!(
        "\nchunks are compressed after 3 days and dropped after 14; reading_daily keeps the means"
    );
    Ok(())
}

fn daily_means() -> SelectStatement {
    reading::Entity::find()
        .select_only()
        .column_as(time_bucket(Interval::days(1), At), "day")
        .column(Bed)
        .column_as(Celsius.avg(), "mean")
        .group_by(Expr::col("day"))
        .group_by(Bed)
        .into_query()
}
