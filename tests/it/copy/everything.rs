//! Every kind of column that SeaORM's generator makes, there by COPY and back by the ORM.

use std::future::Future;

use proptest::{
    arbitrary::any,
    collection::vec,
    option,
    strategy::{BoxedStrategy, Just, Strategy},
    test_runner::{Config, TestCaseError, TestRunner},
};
use sea_orm::{
    ConnectionTrait, QueryOrder,
    entity::prelude::*,
    sqlx::types::chrono::{DateTime, FixedOffset, NaiveDate, NaiveDateTime, NaiveTime, Utc},
};
use wharf::Pg;

use crate::support::TestDatabase;

#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "Enum", enum_name = "mood")]
pub enum Mood {
    #[sea_orm(string_value = "sad, \"really\"")]
    Sad,
    #[sea_orm(string_value = "NULL")]
    Null,
}

pub(super) mod plain {
    use super::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "everything")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        pub bool: Option<bool>,
        pub int2: Option<i16>,
        pub int4: Option<i32>,
        pub float4: Option<f32>,
        pub float8: Option<f64>,
        #[sea_orm(column_type = "Decimal(None)")]
        pub numeric: Option<Decimal>,
        #[sea_orm(column_type = "Text")]
        pub text: Option<String>,
        pub varchar: String,
        #[sea_orm(column_type = "custom(\"citext\")")]
        pub citext: Option<String>,
        pub mood: Option<Mood>,
        pub bytes: Option<Vec<u8>>,
        pub json: Option<Json>,
        #[sea_orm(column_type = "JsonBinary")]
        pub jsonb: Option<Json>,
        pub date: Option<Date>,
        pub time: Option<Time>,
        pub timestamp: Option<NaiveDateTime>,
        pub utc: Option<DateTimeUtc>,
        pub fixed: Option<DateTimeWithTimeZone>,
        pub uuid: Option<Uuid>,
        pub bools: Option<Vec<bool>>,
        pub ints: Vec<i32>,
        pub texts: Option<Vec<String>>,
        pub numerics: Option<Vec<Decimal>>,
        pub moods: Option<Vec<Mood>>,
        pub uuids: Option<Vec<Uuid>>,
        pub times: Option<Vec<DateTimeUtc>>,
        pub jsons: Option<Vec<Json>>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// With columns that SeaORM knows only as text.
mod with_text {
    use super::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "everything")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        pub bool: Option<bool>,
        pub float4: Option<f32>,
        pub float8: Option<f64>,
        #[sea_orm(column_type = "Decimal(None)")]
        pub numeric: Option<Decimal>,
        #[sea_orm(column_type = "Text")]
        pub text: Option<String>,
        pub mood: Option<Mood>,
        pub bytes: Option<Vec<u8>>,
        #[sea_orm(column_type = "JsonBinary")]
        pub jsonb: Option<Json>,
        pub date: Option<Date>,
        pub time: Option<Time>,
        pub timestamp: Option<NaiveDateTime>,
        pub utc: Option<DateTimeUtc>,
        pub uuid: Option<Uuid>,
        pub texts: Option<Vec<String>>,
        pub moods: Option<Vec<Mood>>,
        pub times: Option<Vec<DateTimeUtc>>,
        #[sea_orm(column_type = "custom(\"interval\")", select_as = "text", save_as = "interval")]
        pub interval: Option<String>,
        #[sea_orm(
            column_type = "custom(\"int4range\")",
            select_as = "text",
            save_as = "int4range"
        )]
        pub range: String,
        #[sea_orm(column_type = "custom(\"bit\")", select_as = "text", save_as = "bit(9)")]
        pub bits: Option<String>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

async fn table() -> TestDatabase {
    let database = TestDatabase::new().await;
    database
        .pg()
        .await
        .execute_unprepared(
            "CREATE EXTENSION citext;
             CREATE TYPE mood AS ENUM ('sad, \"really\"', 'NULL');
             CREATE DOMAIN short AS varchar(200);
             CREATE DOMAIN shorter AS short CHECK (VALUE <> 'no');
             CREATE TABLE everything (
                 id int8 PRIMARY KEY, bool bool, int2 int2, int4 int4, float4 float4, float8 float8,
                 numeric numeric, text text, varchar shorter NOT NULL DEFAULT '', citext citext, mood mood,
                 bytes bytea, json json, jsonb jsonb, date date, time time, timestamp timestamp, utc timestamptz,
                 fixed timestamptz, uuid uuid, bools bool[], ints int4[] NOT NULL DEFAULT '{}', texts text[],
                 numerics numeric[], moods mood[], uuids uuid[], times timestamptz[], jsons jsonb[],
                 interval interval, range int4range, bits bit(9))",
        )
        .await
        .unwrap();
    database
}

/// Whatever a text may hold but NUL.
fn text() -> BoxedStrategy<String> {
    proptest::string::string_regex("[^\0]{0,40}|[\\\\\t\r\n\",{}N]{0,8}|NULL|\\\\N|\\\\\\.")
        .unwrap()
        .boxed()
}

fn json() -> BoxedStrategy<Json> {
    let leaf = proptest::prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i32>().prop_map(Json::from),
        text().prop_map(Json::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        proptest::prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Json::from),
            proptest::collection::btree_map(text(), inner, 0..4)
                .prop_map(|map| map.into_iter().collect::<Json>()),
        ]
    })
    .boxed()
}

fn decimal() -> BoxedStrategy<Decimal> {
    (any::<i64>(), 0..28_u32).prop_map(|(digits, scale)| Decimal::new(digits, scale)).boxed()
}

/// From 4713 BC, when PostgreSQL's begin.
fn date() -> BoxedStrategy<NaiveDate> {
    (-1_721_424..9_000_000_i32)
        .prop_map(|day| NaiveDate::from_num_days_from_ce_opt(day).unwrap())
        .boxed()
}

fn time() -> BoxedStrategy<NaiveTime> {
    (0..86_400_u32, 0..1_000_000_u32)
        .prop_map(|(second, micro)| {
            NaiveTime::from_num_seconds_from_midnight_opt(second, micro * 1_000).unwrap()
        })
        .boxed()
}

fn timestamp() -> BoxedStrategy<NaiveDateTime> {
    (date(), time()).prop_map(|(date, time)| date.and_time(time)).boxed()
}

fn utc() -> BoxedStrategy<DateTime<Utc>> {
    // Away from the end of what chrono holds.
    timestamp().prop_map(|at| at.and_utc()).boxed()
}

fn fixed() -> BoxedStrategy<DateTime<FixedOffset>> {
    utc().prop_map(Into::into).boxed()
}

fn mood() -> BoxedStrategy<Mood> {
    proptest::prop_oneof![Just(Mood::Sad), Just(Mood::Null)].boxed()
}

fn uuid() -> BoxedStrategy<Uuid> {
    any::<u128>().prop_map(Uuid::from_u128).boxed()
}

fn float4() -> BoxedStrategy<f32> {
    any::<f32>().boxed()
}

pub(super) fn plain_rows() -> impl Strategy<Value = Vec<plain::Model>> {
    let numbers = (
        option::of(any::<bool>()),
        option::of(any::<i16>()),
        option::of(any::<i32>()),
        option::of(float4()),
        option::of(any::<f64>()),
        option::of(decimal()),
    );
    let texts = (
        option::of(text()),
        text(),
        option::of(text()),
        option::of(mood()),
        option::of(vec(any::<u8>(), 0..40)),
        option::of(json()),
        option::of(json()),
    );
    let times = (
        option::of(date()),
        option::of(time()),
        option::of(timestamp()),
        option::of(utc()),
        option::of(fixed()),
        option::of(uuid()),
    );
    let lists = (
        option::of(vec(any::<bool>(), 0..4)),
        vec(any::<i32>(), 0..4),
        option::of(vec(text(), 0..4)),
        option::of(vec(decimal(), 0..4)),
        option::of(vec(mood(), 0..4)),
        option::of(vec(uuid(), 0..4)),
        option::of(vec(utc(), 0..4)),
        option::of(vec(json(), 0..4)),
    );
    let row = (numbers, texts, times, lists).prop_map(|(numbers, texts, times, lists)| {
        let (bool, int2, int4, float4, float8, numeric) = numbers;
        let (text, varchar, citext, mood, bytes, json, jsonb) = texts;
        let (date, time, timestamp, utc, fixed, uuid) = times;
        let (bools, ints, texts, numerics, moods, uuids, times, jsons) = lists;
        #[rustfmt::skip]
        let model = plain::Model {
            id: 0, bool, int2, int4, float4, float8, numeric, text, varchar, citext, mood, bytes, json, jsonb,
            date, time, timestamp, utc, fixed, uuid, bools, ints, texts, numerics, moods, uuids, times, jsons,
        };
        model
    });
    vec(row, 0..30).prop_map(|rows| {
        rows.into_iter().zip(1..).map(|(row, id)| plain::Model { id, ..row }).collect()
    })
}

fn rows_with_text() -> impl Strategy<Value = Vec<with_text::Model>> {
    let bits = proptest::string::string_regex("[01]{9}").unwrap();
    let row = (plain_rows(), vec((0..9_999_i32, -9_999..0_i32, option::of(bits)), 30));
    row.prop_map(|(rows, texts)| {
        let rows = rows.into_iter().zip(texts);
        rows.map(|(row, (months, low, bits))| with_text::Model {
            id: row.id,
            bool: row.bool,
            float4: row.float4,
            float8: row.float8,
            numeric: row.numeric,
            text: row.text,
            mood: row.mood,
            bytes: row.bytes,
            jsonb: row.jsonb,
            date: row.date,
            time: row.time,
            timestamp: row.timestamp,
            utc: row.utc,
            uuid: row.uuid,
            texts: row.texts,
            moods: row.moods,
            times: row.times,
            interval: (months != 7).then(|| format!("{} days", months + 2)),
            range: format!("[{low},{months})"),
            bits,
        })
        .collect()
    })
}

/// Holds for many sorts of rows.
pub(super) async fn holds<R, F>(rows: impl Strategy<Value = Vec<R>>, check: impl Fn(Vec<R>) -> F)
where
    R: std::fmt::Debug,
    F: Future<Output = Result<(), TestCaseError>>,
{
    let config = Config { cases: 128, failure_persistence: None, ..Config::default() };
    let runtime = tokio::runtime::Handle::current();
    let mut runner = TestRunner::new(config);
    let run = || runner.run(&rows, |rows| runtime.block_on(check(rows)));
    tokio::task::block_in_place(run).unwrap();
}

async fn emptied(pg: &Pg) {
    pg.execute_unprepared("DELETE FROM everything").await.unwrap();
}

pub(super) fn same<R: PartialEq + std::fmt::Debug>(
    went: Vec<R>,
    came: Vec<R>,
) -> Result<(), TestCaseError> {
    proptest::prop_assert_eq!(went, came);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_row_comes_back_by_the_orm_as_it_went_by_copy() {
    let database = table().await;
    let pg = &database.pg().await;
    holds(plain_rows(), async |rows| {
        emptied(pg).await;
        pg.copy_in::<plain::Entity>().rows(rows.clone()).await.unwrap();
        let find = plain::Entity::find().order_by_asc(plain::Column::Id);
        same(rows, find.all(pg).await.unwrap())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_does_one_with_a_column_that_goes_as_text() {
    let database = table().await;
    let pg = &database.pg().await;
    holds(rows_with_text(), async |rows| {
        emptied(pg).await;
        pg.copy_in::<with_text::Entity>().rows(rows.clone()).await.unwrap();
        let find = with_text::Entity::find().order_by_asc(with_text::Column::Id);
        same(rows, find.all(pg).await.unwrap())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_does_one_that_was_inserted_with_others() {
    let database = table().await;
    let pg = &database.pg().await;
    holds(plain_rows(), async |rows| {
        emptied(pg).await;
        let insert = pg.insert_many::<plain::Entity>(rows.clone());
        same(rows, insert.exec_with_returning().await.unwrap())
    })
    .await;
    holds(rows_with_text(), async |rows| {
        emptied(pg).await;
        let insert = pg.insert_many::<with_text::Entity>(rows.clone());
        same(rows, insert.exec_with_returning().await.unwrap())
    })
    .await;
}
