//! The values of a query that is copied out: COPY takes no binds, and the ORM sends nothing else.

use std::fmt::Debug;

use sea_orm::{
    ConnectionTrait, EntityTrait, Iterable as _, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
    Select, Value,
    entity::prelude::*,
    sea_query::{ArrayType, Expr, ExprTrait, OnConflict, SelectStatement},
};
use time::macros::{date, datetime, time};
use wharf::{Pg, copy::Format};

use super::{
    everything,
    reading::{self, Reading, reading},
};
use crate::support::{TestDatabase, number};

/// The one text that a query gives, by COPY.
async fn copied(pg: &Pg, query: impl QueryTrait<QueryStatement = SelectStatement>) -> String {
    let mut bytes = Vec::new();
    pg.copy_out(query).to_writer(&mut bytes, Format::Binary).await.unwrap();
    // The header, the number of fields, the field's length, the field, the trailer.
    String::from_utf8(bytes[19 + 2 + 4..bytes.len() - 2].to_vec()).unwrap()
}

/// A query that gives the type and the text of each value as the server has them.
fn told(values: impl IntoIterator<Item = Value>) -> Select<Reading> {
    let values: Vec<Value> = values.into_iter().flat_map(|value| [value.clone(), value]).collect();
    let each: Vec<_> = (1..=values.len())
        .step_by(2)
        .map(|at| format!("concat(pg_typeof(${at}), ' ', coalesce(${}::text, 'NULL'))", at + 1))
        .collect();
    let expr = Expr::cust_with_values(format!("concat_ws('; ', {})", each.join(", ")), values);
    Reading::find().select_only().expr(expr).limit(1)
}

async fn by_the_orm(pg: &Pg, query: Select<Reading>) -> String {
    query.into_tuple::<String>().one(pg).await.unwrap().unwrap()
}

async fn one_row() -> TestDatabase {
    let database = reading::table().await;
    database.pg().await.copy_in::<Reading>().rows([reading(1)]).await.unwrap();
    database
}

fn some_values() -> Vec<Value> {
    fn of<T: Into<Value>>(values: impl IntoIterator<Item = T>) -> impl Iterator<Item = Value> {
        values.into_iter().map(Into::into)
    }
    let floats = [0.1, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MIN_POSITIVE, 1e-45];
    let doubles = [0.1, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, 5e-324];
    let texts =
        ["", "it's", "a\\b\n\t\r", "\\", "E'", "$1 ?", "\u{1}7\u{1b}", "é😀\u{202e}", "{NULL}"];
    let decimals =
        ["0", "-0.10", "79228162514264337593543950335", "0.0000000000000000000000000001"];
    let dates = ["-4712-01-01", "0000-02-29", "0001-01-01", "9999-12-31", "+10000-01-01"];
    let dates = dates.map(|date| date.parse::<Date>().unwrap());
    // What the server has no room for is cut off, before its year 2000 as after it.
    let clock = Time::from_hms_nano_opt(23, 59, 59, 999_999_999).unwrap();
    let moments = dates.map(|date| date.and_time(clock));
    let zone = "+05:45".parse::<sea_orm::sqlx::types::chrono::FixedOffset>().unwrap();
    let mut values: Vec<Value> = of([true, false])
        .chain(of([i8::MIN, 7, i8::MAX]))
        .chain(of([i16::MIN, -1, i16::MAX]))
        .chain(of([i32::MIN, -1, i32::MAX]))
        .chain(of([i64::MIN, -1, i64::MAX]))
        .chain(of([u8::MAX]))
        .chain(of([u16::MAX]))
        .chain(of([u32::MAX]))
        .chain(of([i64::MAX as u64]))
        .chain(of(floats))
        .chain(of(doubles))
        .chain(of(texts))
        .chain(of(['a', '\'', 'é', '😀']))
        .chain(of([b"".to_vec(), b"\0\x01\\'\xff".to_vec()]))
        .chain(of(decimals.map(|decimal| decimal.parse::<Decimal>().unwrap())))
        .chain(of([Json::Null, serde_json::json!({"a'\\\"": [0.1, 1e300, "\u{1}"]})]))
        .chain(of([Uuid::from_u128(u128::MAX / 3)]))
        .chain(of(dates))
        .chain(of([clock, Time::MIN]))
        .chain(of(moments))
        .chain(of(moments.map(|at| at.and_utc())))
        .chain(of(moments.map(|at| at.and_utc().with_timezone(&zone))))
        .chain(of([date!(-4712 - 01 - 01), date!(2024 - 02 - 29), date!(+10000 - 01 - 01)]))
        .chain(of([time!(0:00), time!(23:59:59.999999999)]))
        .chain(of([datetime!(-0043-03-15 1:00:00.000000999), datetime!(2024-01-01 1:00)]))
        .chain(of([
            datetime!(-0043-03-15 1:00:00.5 +05:45),
            datetime!(1999-12-31 23:59:59.9999999 UTC),
        ]))
        .chain(of([vec![true, false], vec![]]))
        .chain(of([vec![i8::MIN, 7]]))
        .chain(of([vec![i16::MIN, -1]]))
        .chain(of([vec![1_i32, -1]]))
        .chain(of([vec![i64::MIN, -1]]))
        .chain(of([floats.to_vec()]))
        .chain(of([doubles.to_vec()]))
        .chain(of([texts.map(str::to_owned).to_vec(), Vec::new()]))
        .chain(of([vec![b"\0\\\"'".to_vec()]]))
        .chain(of([vec![Json::Null, serde_json::json!("a'\"\\")]]))
        .chain(of([vec!["1.50".parse::<Decimal>().unwrap()]]))
        .chain(of([vec![Uuid::from_u128(7)]]))
        .chain(of([dates.to_vec()]))
        .chain(of([moments.map(|at| at.and_utc()).to_vec()]))
        .chain(of([vec![datetime!(2024-01-01 1:00 +05:45)]]))
        .collect();
    values.extend([
        Value::Bool(None),
        Value::TinyInt(None),
        Value::Int(None),
        Value::Float(None),
        Value::String(None),
        Value::Bytes(None),
        Value::Json(None),
        Value::Uuid(None),
        Value::Decimal(None),
        Value::ChronoDateTimeUtc(None),
        Value::Array(ArrayType::Float, None),
    ]);
    values
}

#[tokio::test]
async fn each_value_is_the_one_that_the_orm_sends() {
    let database = one_row().await;
    let pg = &database.pg().await;
    for value in some_values() {
        let orm = by_the_orm(pg, told([value.clone()])).await;
        assert_eq!(copied(pg, told([value.clone()])).await, orm, "{value:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_are_all_values_of_any_row() {
    let database = one_row().await;
    let pg = &database.pg().await;
    everything::holds(everything::plain_rows(), async |rows| {
        for row in rows.into_iter().take(2) {
            let row: everything::plain::ActiveModel = row.into();
            // Enums are cast to their type, which is not here.
            let values = everything::plain::Column::iter()
                .filter(|column| column.enum_type_name().is_none())
                .filter_map(|column| row.clone().take(column).into_value());
            let query = told(values);
            let orm = by_the_orm(pg, query.clone()).await;
            everything::same(vec![orm], vec![copied(pg, query).await])?;
        }
        Ok(())
    })
    .await;
}

/// The rows of a filter, by the ORM and by COPY.
async fn both<V: Into<Value> + Clone + Debug>(
    pg: &Pg,
    column: reading::Column,
    value: V,
) -> Vec<i32> {
    let find = Reading::find().filter(column.eq(value.clone())).order_by_asc(reading::Column::Id);
    let orm = find.clone().all(pg).await.unwrap();
    let mut csv = Vec::new();
    let rows = pg.copy_out(find).to_writer(&mut csv, Format::Csv).await.unwrap();
    let csv = String::from_utf8(csv).unwrap();
    let orm: Vec<i32> = orm.into_iter().map(|row| row.id).collect();
    let ids: Vec<i32> =
        csv.lines().skip(1).map(|line| line.split(',').next().unwrap().parse().unwrap()).collect();
    assert_eq!((ids.clone(), rows), (orm.clone(), orm.len() as u64), "{value:?}");
    ids
}

#[tokio::test]
async fn a_filter_gives_the_rows_that_the_orm_gives() {
    let database = reading::table().await;
    let pg = &database.pg().await;
    let values = [0.1_f32, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 16_777_217.0, -0.0];
    let rows = (1..).zip(values).map(|(id, value)| reading::Model {
        value: Some(value),
        sensor: "a".to_owned(),
        ..reading(id)
    });
    pg.copy_in::<Reading>().rows(rows).await.unwrap();
    for (id, value) in (1..).zip(values) {
        assert_eq!(both(pg, reading::Column::Value, value).await, [id], "{value}");
    }
    assert_eq!(both(pg, reading::Column::Value, 0.1_f64).await, [0; 0], "it is not the real");

    // A text is a text, where the server would take a constant of no type for the column's.
    pg.execute_unprepared("CREATE EXTENSION citext; ALTER TABLE reading ALTER sensor TYPE citext")
        .await
        .unwrap();
    both(pg, reading::Column::Sensor, "A").await;
    pg.execute_unprepared("ALTER TABLE reading ALTER sensor TYPE char(3)").await.unwrap();
    both(pg, reading::Column::Sensor, "a  ").await;
}

/// The text of an INSERT is made in the same way.
#[tokio::test]
async fn so_does_what_a_conflict_sets() {
    let database = reading::table().await;
    let pg = &database.pg().await;
    for value in [0.1_f32, f32::NAN, f32::INFINITY] {
        pg.execute_unprepared("DELETE FROM reading").await.unwrap();
        let row = |id| reading::Model { sensor: "a".to_owned(), ..reading(id) };
        let rows = || [row(1), row(2)];
        let conflict = || {
            OnConflict::column(reading::Column::Id)
                .value(reading::Column::Value, value)
                .action_and_where(ExprTrait::eq(Expr::val(value), value))
                .to_owned()
        };
        pg.insert_many::<Reading>([row(1)]).exec().await.unwrap();
        pg.insert_many::<Reading>(rows()).on_conflict(conflict()).exec().await.unwrap();
        assert_eq!(both(pg, reading::Column::Value, value).await, [1]);
        pg.copy_in::<Reading>().on_conflict(conflict()).rows(rows()).await.unwrap();
        assert_eq!(both(pg, reading::Column::Value, value).await, [1, 2]);
    }
}

/// It would end the statement's text.
#[tokio::test]
async fn a_text_with_a_nul_is_the_servers_error_in_both() {
    let database = one_row().await;
    let pg = &database.pg().await;
    let find = || Reading::find().filter(reading::Column::Sensor.eq("a\x007"));
    let orm = wharf::Error::from(find().all(pg).await.unwrap_err());
    let error = pg.copy_out(find()).to_writer(Vec::new(), Format::Csv).await.unwrap_err();
    assert_eq!((error.sqlstate(), orm.sqlstate().as_deref()), (orm.sqlstate(), Some("22021")));
    assert_eq!(number(pg, "SELECT count(*) FROM reading").await, 1);
}
