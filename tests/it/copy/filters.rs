//! A filter finds by COPY what it finds by the ORM.

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, JsonValue, QueryFilter, QuerySelect,
    prelude::{Decimal, Uuid},
    sea_query::{Expr, ExprTrait as _, SimpleExpr, extension::postgres::PgExpr as _},
    sqlx::types::chrono::{DateTime, NaiveDate, Utc},
};
use wharf::copy::Format;

use super::reading::{self, Reading, reading};

#[tokio::test]
async fn a_value_of_any_type_is_the_one_that_the_orm_binds() {
    let database = reading::table().await;
    let pg = database.pg().await;
    for (id, value) in
        [(1, 0.1), (2, f32::NAN), (3, f32::INFINITY), (4, -0.0), (5, f32::MIN_POSITIVE)]
    {
        let row = reading::Model { value: Some(value), ..reading(id) };
        pg.copy_in::<Reading>().rows([row]).await.unwrap();
    }
    pg.execute_unprepared(
        "ALTER TABLE reading ADD many double precision DEFAULT 0.1, ADD exact numeric DEFAULT 12345678901234567890.10,
           ADD bytes bytea DEFAULT '\\x005c27', ADD json jsonb DEFAULT '{\"a\": [1, \"it''s \\\\\"]}',
           ADD uuid uuid DEFAULT '67e55044-10b1-426f-9247-bb680e5fe0c8', ADD day date DEFAULT '0001-01-01 BC',
           ADD list text[] DEFAULT '{\"a\\\\\",NULL,\"b,c\"}', ADD small smallint DEFAULT 7, ADD yes boolean DEFAULT true,
           ADD reals real[] DEFAULT '{0.1,NaN}'",
    )
    .await
    .unwrap();
    let json: JsonValue = serde_json::from_str("{\"a\": [1, \"it's \\\\\"]}").unwrap();
    let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
    let column = |name: &'static str| Expr::col(name);
    let value = |value| reading::Column::Value.eq(value);
    let filters: Vec<(SimpleExpr, usize)> = vec![
        (value(0.1_f32), 1),
        (value(f32::NAN), 1),
        (value(f32::INFINITY), 1),
        (value(f32::NEG_INFINITY), 0),
        (value(0.0_f32), 1),
        (value(f32::MIN_POSITIVE), 1),
        (reading::Column::Value.is_in([0.1_f32, f32::NAN]), 2),
        (reading::Column::Value.gt(1e30_f32), 2),
        (column("many").eq(0.1_f64), 5),
        (column("many").lt(f64::NAN), 5),
        (column("exact").eq("12345678901234567890.10".parse::<Decimal>().unwrap()), 5),
        (column("bytes").eq(b"\0\\'".to_vec()), 5),
        (column("json").eq(json.clone()), 5),
        (column("json").contains(json), 5),
        (column("uuid").eq("67e55044-10b1-426f-9247-bb680e5fe0c8".parse::<Uuid>().unwrap()), 5),
        (column("day").eq(NaiveDate::from_ymd_opt(0, 1, 1).unwrap()), 5),
        (column("list").contains(vec!["a\\".to_owned(), "b,c".to_owned()]), 5),
        (column("reals").contains(vec![0.1_f32]), 5),
        (column("small").eq(7_i16), 5),
        (column("yes").eq(true), 5),
        (reading::Column::Sensor.eq("sensor 3\t\\é\n"), 1),
        (reading::Column::Sensor.ne("it's \\ $1 'quoted'"), 5),
        (reading::Column::Id.is_in([1, 2, i32::MAX]), 2),
        (reading::Column::At.gt(at("1999-12-31T23:59:59.999999Z")), 5),
        (Expr::cust_with_values("$1 || '$2' = $2", ["a".to_owned(), "a$2".to_owned()]), 5),
    ];
    for (filter, expected) in filters {
        let find = || Reading::find().filter(filter.clone()).limit(1000);
        let by_orm = find().all(&pg).await.unwrap_or_else(|error| panic!("{filter:?}: {error}"));
        let mut csv = Vec::new();
        let copied = pg.copy_out(find()).to_writer(&mut csv, Format::Csv).await;
        let copied = copied.unwrap_or_else(|error| panic!("{filter:?}: {error}"));
        assert_eq!((by_orm.len(), copied), (expected, expected as u64), "{filter:?}");
    }
}
