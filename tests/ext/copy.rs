//! Vectors and places through COPY, and back by the ORM.

use sea_orm::{ConnectionTrait as _, DbBackend, QueryOrder as _, Statement, entity::prelude::*};
use wharf::Pg;

use crate::support::{Image, database};

mod item {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "item")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        #[sea_orm(column_type = "Vector(Some(3))")]
        pub embedding: Option<PgVector>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

async fn texts(pg: &Pg, sql: &str) -> Vec<Option<String>> {
    let rows = pg.query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

/// One that is like no other, of values that are halves too.
fn vector(id: i32) -> PgVector {
    let at = |n: i32| (id * 7 + n) as f32 / 8.0;
    PgVector::from(vec![at(0), -at(1), at(2)])
}

#[tokio::test]
async fn vectors_come_back_as_they_went() {
    let Some(pg) = database(Image::Vector).await else { return };
    pg.execute_unprepared("CREATE TABLE item (id int PRIMARY KEY, embedding vector(3))")
        .await
        .unwrap();
    let models: Vec<_> = (0..5_000)
        .map(|id| item::Model { id, embedding: (id % 9 != 0).then(|| vector(id)) })
        .collect();
    pg.copy_in::<item::Entity>().rows(models.clone()).await.unwrap();
    let find = || item::Entity::find().order_by_asc(item::Column::Id);
    assert!(find().all(pg.pg()).await.unwrap() == models);
    pg.execute_unprepared("DELETE FROM item").await.unwrap();
    pg.insert_many::<item::Entity>(models.clone()).exec().await.unwrap();
    assert!(find().all(pg.pg()).await.unwrap() == models);
}

#[tokio::test]
async fn a_vector_of_other_dimensions_is_refused_before_the_server_sees_it() {
    let Some(pg) = database(Image::Vector).await else { return };
    pg.execute_unprepared(
        "CREATE DOMAIN embedding AS vector(3); CREATE TABLE item (id int, embedding embedding)",
    )
    .await
    .unwrap();
    let rows = (1..=10).map(|id| (id, PgVector::from(vec![0.0; if id == 7 { 4 } else { 3 }])));
    let error = pg.copy_in_named("item", ["id", "embedding"]).rows(rows).await.unwrap_err();
    let told = error.to_string();
    assert!(
        told.ends_with(
            "row 7, column `embedding`: the vector has 4 dimensions, the column takes 3"
        ),
        "{told}"
    );
    assert_eq!(error.sqlstate(), None);
}

#[tokio::test]
async fn the_other_kinds_of_vectors_go_by_copy_too() {
    let Some(pg) = database(Image::Vector).await else { return };
    pg.execute_unprepared(
        "CREATE TABLE item (id int PRIMARY KEY, half halfvec(3), halves halfvec[], bits bit(9), sparse sparsevec(5))",
    )
    .await
    .unwrap();
    let rows = (1..=1_000).map(|id| (id, vector(id), format!("{:09b}", id % 512)));
    pg.copy_in_named("item", ["id", "half", "bits"]).rows(rows).await.unwrap();
    let halves = texts(&pg, "SELECT (half::vector)::text FROM item ORDER BY id").await;
    let expected: Vec<_> = (1..=1_000)
        .map(|id| {
            let numbers: Vec<_> = vector(id).to_vec().iter().map(f32::to_string).collect();
            Some(format!("[{}]", numbers.join(",")))
        })
        .collect();
    assert!(halves == expected, "{halves:?}");
    let bits = "SELECT count(*)::text FROM item WHERE bits = (id % 512)::bit(9)";
    assert_eq!(texts(&pg, bits).await, [Some("1000".to_owned())]);
    // As text, all of it.
    let rows = (1_001..=1_100).map(|id| (id, vector(id), format!("{{1:{id},4:0.5}}/5")));
    pg.copy_in_named("item", ["id", "half", "sparse"]).rows(rows).await.unwrap();
    let sparse = "SELECT count(*)::text FROM item WHERE sparse = ('{1:' || id || ',4:0.5}/5')::sparsevec AND half IS NOT NULL";
    assert_eq!(texts(&pg, sparse).await, [Some("100".to_owned())]);
}

#[tokio::test]
async fn places_go_as_ewkb() {
    let Some(pg) = database(Image::Postgis).await else { return };
    pg.execute_unprepared(
        "CREATE TABLE place (id int PRIMARY KEY, at geography(Point, 4326), area geometry)",
    )
    .await
    .unwrap();
    let ewkb = |x: f64, y: f64| {
        let mut bytes = vec![1];
        bytes.extend(0x2000_0001_u32.to_le_bytes());
        bytes.extend(4326_u32.to_le_bytes());
        bytes.extend(x.to_le_bytes());
        bytes.extend(y.to_le_bytes());
        bytes
    };
    let rows = (1..=500).map(|id| {
        let (x, y) = (f64::from(id) / 10.0, f64::from(id) / 20.0);
        (id, ewkb(x, y), Some(ewkb(y, x)))
    });
    pg.copy_in_named("place", ["id", "at", "area"]).rows(rows).await.unwrap();
    let there = "SELECT count(*)::text FROM place WHERE ST_X(at::geometry) = id / 10.0
                 AND ST_X(area) = id / 20.0 AND ST_SRID(area) = 4326";
    assert_eq!(texts(&pg, there).await, [Some("500".to_owned())]);
}
