//! Hypertables, time buckets, and what the Apache build says of the rest.

#![allow(elided_lifetimes_in_paths)]

use std::time::Duration;

use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, DbErr, EntityTrait, FromQueryResult, IntoSimpleExpr,
    QueryFilter, QueryOrder, QuerySelect, QueryTrait, Schema, Statement,
    prelude::DateTimeUtc,
    sea_query::{Expr, Order},
};
use sea_orm_migration::{MigrationName, MigrationTrait, MigratorTrait, SchemaManager};
use wharf::{
    Error, Pg,
    ext::timescale::{
        Compression, ContinuousAggregate, Hypertable, Interval, Licence, TimescaleError, first,
        last, licence, time_bucket, time_bucket_in,
    },
    testing::TestDatabase,
};

use super::support::{Image, database};

mod reading {
    use sea_orm::entity::prelude::*;

    #[sea_orm::model]
    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "reading")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub at: DateTimeUtc,
        #[sea_orm(primary_key, auto_increment = false)]
        pub device: i32,
        pub celsius: f64,
    }

    impl ActiveModelBehavior for ActiveModel {}
}

struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(Readings)]
    }
}

struct Readings;

impl MigrationName for Readings {
    fn name(&self) -> &str {
        "m20261125_000001_readings"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Readings {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Schema::new(DbBackend::Postgres).create_table_from_entity(reading::Entity);
        manager.create_table(table).await?;
        readings().chunk_interval(Interval::days(1)).create(manager.get_connection()).await
    }
}

fn readings() -> Hypertable {
    Hypertable::new(reading::Entity, reading::Column::At)
}

/// Two devices, a row every quarter of an hour of three days from 2026-03-28 on, UTC.
async fn filled() -> Option<TestDatabase> {
    let database = database(Image::Timescale).await?;
    database.migrate::<Migrator>().await.unwrap();
    let rows = "INSERT INTO reading
                SELECT at, device, device * 100 + extract(hour FROM at AT TIME ZONE 'UTC')
                  FROM generate_series('2026-03-28T00:00Z', '2026-03-30T23:45Z', interval '15 min') at,
                       generate_series(1, 2) device";
    database.execute_unprepared(rows).await.unwrap();
    Some(database)
}

async fn number(pg: &Pg, sql: &str) -> i64 {
    let statement = Statement::from_string(DbBackend::Postgres, sql);
    pg.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
}

const CHUNKS: &str = "SELECT count(*) FROM show_chunks('reading')";

fn timescale(error: DbErr) -> TimescaleError {
    match Error::from(error) {
        Error::Timescale(error) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_migration_makes_a_hypertable_that_the_entity_fills_chunk_by_chunk() {
    let Some(database) = filled().await else { return };
    assert_eq!(number(&database, CHUNKS).await, 3);
    let at: DateTimeUtc = "2026-04-09T12:00:00Z".parse().unwrap();
    let row = reading::Model { at, device: 1, celsius: 20.5 };
    reading::Entity::insert(reading::ActiveModel::from(row.clone()))
        .exec(&*database)
        .await
        .unwrap();
    assert_eq!(number(&database, CHUNKS).await, 4);
    let read = reading::Entity::find_by_id((at, 1)).one(&*database).await.unwrap();
    assert_eq!(read, Some(row));
}

#[tokio::test]
async fn chunks_are_as_long_as_asked_for_and_from_then_on_as_long_as_asked_for_later() {
    let Some(database) = filled().await else { return };
    readings().set_chunk_interval(&*database, Duration::from_secs(6 * 3600)).await.unwrap();
    let day = "INSERT INTO reading
               SELECT at, 1, 0 FROM generate_series('2026-05-01T00:00Z', '2026-05-01T23:00Z', interval '1 h') at";
    database.execute_unprepared(day).await.unwrap();
    assert_eq!(number(&database, CHUNKS).await, 3 + 4);
}

#[tokio::test]
async fn dropping_chunks_drops_the_old_ones_and_says_how_many() {
    let Some(database) = filled().await else { return };
    database.execute_unprepared("INSERT INTO reading VALUES (now(), 1, 0)").await.unwrap();
    assert_eq!(readings().drop_chunks(&*database, Interval::months(1_200)).await.unwrap(), 0);
    assert_eq!(readings().drop_chunks(&*database, Interval::days(2)).await.unwrap(), 3);
    assert_eq!(number(&database, "SELECT count(*) FROM reading").await, 1);
}

#[tokio::test]
async fn rows_that_are_there_are_moved_where_that_is_said_and_else_refused() {
    let Some(database) = database(Image::Timescale).await else { return };
    database
        .execute_unprepared("CREATE SCHEMA \"Plant 1\"; CREATE TABLE \"Plant 1\".\"it's\" (\"At\" timestamptz NOT NULL, unit int); INSERT INTO \"Plant 1\".\"it's\" SELECT now(), 1")
        .await
        .unwrap();
    let odd = Hypertable::new(("Plant 1", "it's"), "At").by_hash("unit", 3);
    let error = odd.create(&*database).await.unwrap_err();
    let error = timescale(error);
    assert!(matches!(error, TimescaleError::Refused { .. }), "{error:?}");
    assert!(error.to_string().contains("migrate_data"), "{error}");
    assert!(error.to_string().starts_with("hypertable `Plant 1.it's`: "), "{error}");

    Hypertable::new(("Plant 1", "it's"), "At").migrate_data().create(&*database).await.unwrap();
    assert_eq!(number(&database, "SELECT count(*) FROM \"Plant 1\".\"it's\"").await, 1);
    let again = Hypertable::new(("Plant 1", "it's"), "At");
    let error = again.create(&*database).await.unwrap_err();
    assert!(matches!(timescale(error), TimescaleError::Refused { .. }));
    again.if_not_exists().create(&*database).await.unwrap();
}

#[tokio::test]
async fn by_hash_splits_each_span_of_time() {
    let Some(database) = database(Image::Timescale).await else { return };
    let table = Schema::new(DbBackend::Postgres).create_table_from_entity(reading::Entity);
    database.execute(&table).await.unwrap();
    readings().by_hash(reading::Column::Device, 2).create(&*database).await.unwrap();
    let rows = "INSERT INTO reading SELECT now(), device, 0 FROM generate_series(1, 50) device";
    database.execute_unprepared(rows).await.unwrap();
    assert_eq!(number(&database, CHUNKS).await, 2);
}

#[tokio::test]
async fn a_primary_key_without_the_time_is_said_to_be_the_fault() {
    let Some(database) = database(Image::Timescale).await else { return };
    let table = "CREATE TABLE reading (id bigserial PRIMARY KEY, at timestamptz NOT NULL)";
    database.execute_unprepared(table).await.unwrap();
    let error = Error::from(readings().create(&*database).await.unwrap_err());
    assert_eq!(error.sqlstate().as_deref(), Some("TS103"));
    assert!(error.to_string().contains("PRIMARY KEY (id, at)"), "{error}");
    assert_eq!(
        number(&database, "SELECT count(*) FROM timescaledb_information.hypertables").await,
        0
    );
}

#[derive(Debug, FromQueryResult, PartialEq)]
struct Bucket {
    bucket: DateTimeUtc,
    rows: i64,
    first: f64,
    last: f64,
}

#[tokio::test]
async fn rows_are_grouped_by_time_in_select_group_by_and_order_by() {
    let Some(database) = filled().await else { return };
    use reading::Column::{At, Celsius, Device};
    let by = async |bucket: Expr| {
        reading::Entity::find()
            .select_only()
            .column_as(bucket.clone(), "bucket")
            .column_as(Celsius.count(), "rows")
            .column_as(first(Celsius, At), "first")
            .column_as(last(Celsius, At), "last")
            .filter(Device.eq(1))
            .group_by(bucket.clone())
            .order_by(bucket, Order::Desc)
            .into_model::<Bucket>()
            .all(&*database)
            .await
            .unwrap()
    };
    let utc = |text: &str| text.parse::<DateTimeUtc>().unwrap();

    let halves = by(time_bucket(Duration::from_secs(12 * 3600), At)).await;
    let newest =
        Bucket { bucket: utc("2026-03-30T12:00:00Z"), rows: 48, first: 112.0, last: 123.0 };
    assert_eq!((halves.len(), &halves[0]), (6, &newest));

    // The night of 2026-03-29 has an hour less in Berlin.
    let days = by(time_bucket_in("Europe/Berlin", Interval::days(1), At)).await;
    let lengths: Vec<_> = days.iter().map(|it| (it.bucket, it.rows)).collect();
    assert_eq!(lengths[1], (utc("2026-03-29T22:00:00Z"), 96));
    assert_eq!(lengths[2], (utc("2026-03-28T23:00:00Z"), 23 * 4));

    let months = by(time_bucket(Interval::months(1), At)).await;
    assert_eq!((months.len(), months[0].bucket), (1, utc("2026-03-01T00:00:00Z")));
}

#[tokio::test]
async fn the_apache_build_says_which_licence_each_feature_needs() {
    let Some(database) = filled().await else { return };
    let hourly = reading::Entity::find()
        .select_only()
        .column_as(time_bucket(Interval::hours(1), reading::Column::At), "hour")
        .column_as(reading::Column::Celsius.avg(), "mean")
        .group_by(time_bucket(Interval::hours(1), reading::Column::At))
        .into_query();
    let hourly = ContinuousAggregate::new("hourly", hourly);
    let [hour, day] = [Interval::hours(1), Interval::days(1)];
    let hourly = hourly.refresh(Interval::days(3), hour, hour);
    let compression = Compression::after(day).segment_by("device").order_by_desc("at");
    let readings = readings();
    let db = &*database;

    if licence(db).await.unwrap() == Licence::Community {
        // Before the retention's job may run, to which all of this is old.
        hourly.create(db).await.unwrap();
        hourly.refresh_all(db).await.unwrap();
        assert_eq!(number(db, "SELECT count(*) FROM hourly").await, 72);
        readings.set_compression(db, compression.clone()).await.unwrap();
        readings.set_compression(db, compression).await.unwrap();
        readings.set_retention(db, day).await.unwrap();
        readings.set_retention(db, day).await.unwrap();
        let jobs = "SELECT count(*) FROM timescaledb_information.jobs WHERE job_id >= 1000";
        assert_eq!(number(db, jobs).await, 3);
        readings.remove_retention(db).await.unwrap();
        readings.remove_compression(db).await.unwrap();
        assert_eq!(number(db, jobs).await, 1);
        return;
    }
    for (feature, refused) in [
        ("a retention policy", readings.set_retention(db, day).await),
        ("a retention policy", readings.remove_retention(db).await),
        ("compression", readings.set_compression(db, compression).await),
        ("compression", readings.remove_compression(db).await),
        ("a continuous aggregate", hourly.create(db).await),
    ] {
        let error = Error::from(refused.unwrap_err());
        let said = error.to_string();
        assert!(
            said.contains(&format!("{feature} needs TimescaleDB under its community license")),
            "{said}"
        );
        assert!(said.contains("image timescale/timescaledb without `-oss`"), "{said}");
        assert_eq!(error.sqlstate().as_deref(), Some("0A000"));
        let Error::Timescale(TimescaleError::Licence { .. }) = error else { panic!("{error:?}") };
    }
    // In a session, and from there through SeaORM, it is the same error.
    let error =
        database.session().run(async |s| readings.set_retention(s, day).await).await.unwrap_err();
    assert!(matches!(timescale(error), TimescaleError::Licence { .. }));
}

#[tokio::test]
async fn a_database_without_the_extension_is_told_apart() {
    // PostGIS's image, whose database has another extension.
    let Some(database) = database(Image::Postgis).await else { return };
    let table = Schema::new(DbBackend::Postgres).create_table_from_entity(reading::Entity);
    database.execute(&table).await.unwrap();
    let db = &*database;
    let hourly = reading::Entity::find().select_only().expr(reading::Column::At.into_simple_expr());
    let hourly = ContinuousAggregate::new("hourly", hourly.into_query());
    for refused in [
        readings().create(db).await,
        readings().by_hash("device", 2).create(db).await,
        readings().set_chunk_interval(db, Interval::days(1)).await,
        readings().set_retention(db, Interval::days(1)).await,
        readings().set_compression(db, Compression::after(Interval::days(1))).await,
        readings().drop_chunks(db, Interval::days(1)).await.map(drop),
        hourly.create(db).await,
        hourly.refresh_all(db).await,
        licence(db).await.map(drop),
    ] {
        let error = timescale(refused.unwrap_err());
        assert!(matches!(error, TimescaleError::Missing { .. }), "{error}");
        assert!(error.to_string().contains("extensions: [timescaledb]"), "{error}");
    }
    // What has nothing to do with TimescaleDB stays as it is.
    let closed = db.clone();
    db.clone().close().await.unwrap();
    let error = Error::from(readings().create(&closed).await.unwrap_err());
    assert!(matches!(error, Error::Closed { .. }), "{error:?}");
}

#[tokio::test]
async fn spans_that_postgresql_does_not_take_are_refused_before_anything_is_sent() {
    let Some(database) = database(Image::Timescale).await else { return };
    let pg = database.pg();
    let table = || Hypertable::new("span", "at");
    let (none, tiny, endless) = (Duration::ZERO, Duration::from_nanos(999), Duration::MAX);
    let create = |chunk: Duration| table().chunk_interval(chunk);
    let hourly = sea_orm::sea_query::Query::select().column("at").from("span").to_owned();
    let refused = async {
        [
            (create(none).create(pg).await, "the chunk interval is 0ns"),
            (create(tiny).create(pg).await, "the chunk interval is 999ns"),
            (create(endless).create(pg).await, "longer than"),
            (table().set_chunk_interval(pg, Interval::months(0)).await, "is 0 months"),
            (table().set_chunk_interval(pg, Interval::months(u32::MAX)).await, "longer than"),
            (table().by_hash("device", 0).create(pg).await, "0 partitions"),
            (table().by_hash("device", 32_768).create(pg).await, "give 1 to 32767"),
            // Less than a microsecond would be 0: all rows.
            (table().drop_chunks(pg, tiny).await.map(drop), "the age is 999ns"),
            (table().set_retention(pg, tiny).await, "the age is 999ns"),
            (table().set_compression(pg, Compression::after(tiny)).await, "the age is 999ns"),
            (
                ContinuousAggregate::new("hourly", hourly)
                    .refresh(Interval::days(3), none, none)
                    .create(pg)
                    .await,
                "the interval of the refresh is 0ns",
            ),
        ]
    };
    for (refused, says) in wharf::assert_queries(0, refused).await {
        let error = Error::from(refused.unwrap_err());
        let is_range = matches!(error, Error::Timescale(TimescaleError::OutOfRange { .. }));
        assert!(is_range && error.to_string().contains(says), "{error}");
    }
    pg.execute_unprepared("CREATE TABLE span (at timestamptz, device int)").await.unwrap();
    let least = create(Duration::from_micros(1)).by_hash("device", 32_767);
    least.create(pg).await.unwrap();
    assert_eq!(table().drop_chunks(pg, none).await.unwrap(), 0);
}

/// Chunks are filled one after another, so that the server may name a later row than the first that was wrong.
#[tokio::test]
async fn of_a_copy_into_a_hypertable_rows_before_the_named_one_may_be_wrong() {
    let Some(database) = database(Image::Timescale).await else { return };
    let pg = database.pg();
    pg.execute_unprepared("CREATE TABLE seen (at timestamptz UNIQUE)").await.unwrap();
    let table = Hypertable::new("seen", "at").chunk_interval(Interval::days(1));
    table.create(pg).await.unwrap();
    let day = |day: &str| -> DateTimeUtc { format!("2026-01-{day}T00:00:00Z").parse().unwrap() };
    let rows = [day("01"), day("02"), day("02"), day("01")];
    let error = pg.copy_in_named("seen", ["at"]).rows(rows).await.unwrap_err();
    assert!(error.is_unique_violation(), "{error}");
    assert!(error.to_string().contains("row 4 (those before it may be wrong, too"), "{error}");
}
