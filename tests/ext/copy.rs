//! Vectors and places through COPY, and back by the ORM.

use futures_util::TryStreamExt as _;
use proptest::{
    arbitrary::any,
    collection::vec,
    option, prop_assert_eq,
    strategy::Strategy,
    test_runner::{Config, TestRunner},
};
use sea_orm::{
    ConnectionTrait as _, DbBackend, ExprTrait as _, QueryOrder as _, Statement, entity::prelude::*,
};
use wharf::{
    Pg,
    copy::Format,
    ext::vector::{Bits, HalfVec, SparseVec, Vector, VectorColumn as _},
};

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
    let at = |n: i32| (id % 200 * 7 + n) as f32 / 8.0;
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

/// The driver has yet to learn of the type when it first meets it.
#[tokio::test]
async fn a_cursor_and_a_copy_out_take_vectors_as_binds() {
    let Some(pg) = database(Image::Vector).await else { return };
    pg.execute_unprepared("CREATE TABLE item (id int PRIMARY KEY, embedding vector(3))")
        .await
        .unwrap();
    let models = (0..100).map(|id| item::Model { id, embedding: Some(vector(id)) });
    pg.copy_in::<item::Entity>().rows(models).await.unwrap();
    let find = item::Entity::find()
        .filter(item::Column::Embedding.l2_distance(vector(50)).unwrap().lt(10.0))
        .order_by_asc(item::Column::Id);
    let expected = find.clone().all(pg.pg()).await.unwrap();
    assert!((3..50).contains(&expected.len()), "{}", expected.len());
    let fresh = Pg::from_url(&pg.url()).await.unwrap();
    let session = fresh.begin().await.unwrap();
    let rows = session.cursor(&find).fetch_size(2).models::<item::Model>().await.unwrap();
    assert_eq!(rows.try_collect::<Vec<_>>().await.unwrap(), expected);
    let mut csv = Vec::new();
    let rows = session.copy_out(find).to_writer(&mut csv, Format::Csv).await.unwrap();
    assert_eq!(rows, expected.len() as u64, "{}", String::from_utf8_lossy(&csv));
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

mod kinds {
    use sea_orm::entity::prelude::*;
    use wharf::ext::vector::{Bits, HalfVec, SparseVec, Vector};

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "kinds")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        pub vector: Option<Vector<5>>,
        pub half: Option<HalfVec<5>>,
        #[sea_orm(save_as = "varbit")]
        pub bits: Bits<11>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}

    /// With a kind that goes as text, and all others with it.
    pub mod with_sparse {
        use super::*;

        #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
        #[sea_orm(table_name = "kinds")]
        pub struct Model {
            #[sea_orm(primary_key, auto_increment = false)]
            pub id: i32,
            pub vector: Option<Vector<5>>,
            pub half: Option<HalfVec<5>>,
            #[sea_orm(save_as = "varbit")]
            pub bits: Bits<11>,
            #[sea_orm(save_as = "sparsevec")]
            pub sparse: Option<SparseVec<5>>,
        }

        #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
        pub enum Relation {}

        impl ActiveModelBehavior for ActiveModel {}
    }
}

fn numbers() -> impl Strategy<Value = Vec<f32>> {
    vec(any::<f32>().prop_filter("pgvector has only finite numbers", |n| n.is_finite()), 5)
}

/// Of what a half holds.
fn halves() -> impl Strategy<Value = Vec<f32>> {
    vec((-2048..=2048_i16, -4..=4_i32).prop_map(|(n, e)| f32::from(n) * 2_f32.powi(e)), 5)
}

fn rows() -> impl Strategy<Value = Vec<kinds::with_sparse::Model>> {
    let row = (
        option::of(numbers()),
        option::of(halves()),
        vec(any::<bool>(), 11),
        option::of(numbers()),
    );
    let row = row.prop_map(|(vector, half, bits, sparse)| kinds::with_sparse::Model {
        id: 0,
        vector: vector.map(|numbers| Vector::new(numbers).unwrap()),
        half: half.map(|numbers| HalfVec::new(&numbers).unwrap()),
        bits: Bits::new(&bits).unwrap(),
        sparse: sparse.map(|numbers| SparseVec::new((0..).zip(numbers)).unwrap()),
    });
    vec(row, 0..40).prop_map(|rows| {
        rows.into_iter().zip(1..).map(|(row, id)| kinds::with_sparse::Model { id, ..row }).collect()
    })
}

/// Of random values of each kind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_vector_comes_back_by_the_orm_as_it_went_by_copy() {
    let Some(pg) = database(Image::Vector).await else { return };
    pg.execute_unprepared(
        "CREATE TABLE kinds (id int PRIMARY KEY, vector vector(5), half halfvec(5), bits bit(11) NOT NULL,
             sparse sparsevec(5))",
    )
    .await
    .unwrap();
    let config = Config { cases: 100, failure_persistence: None, ..Config::default() };
    let runtime = tokio::runtime::Handle::current();
    let check = async |rows: Vec<kinds::with_sparse::Model>| {
        use kinds::with_sparse;
        let emptied = async || pg.execute_unprepared("DELETE FROM kinds").await.unwrap();
        emptied().await;
        pg.copy_in::<with_sparse::Entity>().rows(rows.clone()).await.unwrap();
        let find = with_sparse::Entity::find().order_by_asc(with_sparse::Column::Id);
        prop_assert_eq!(&find.all(pg.pg()).await.unwrap(), &rows);
        emptied().await;
        let binary: Vec<_> = rows
            .into_iter()
            .map(|row| kinds::Model {
                id: row.id,
                vector: row.vector,
                half: row.half,
                bits: row.bits,
            })
            .collect();
        pg.copy_in::<kinds::Entity>().rows(binary.clone()).await.unwrap();
        let find = || kinds::Entity::find().order_by_asc(kinds::Column::Id);
        prop_assert_eq!(&find().all(pg.pg()).await.unwrap(), &binary);
        emptied().await;
        pg.insert_many::<kinds::Entity>(binary.clone()).exec().await.unwrap();
        prop_assert_eq!(&find().all(pg.pg()).await.unwrap(), &binary);
        Ok(())
    };
    let mut runner = TestRunner::new(config);
    let run = || runner.run(&rows(), |rows| runtime.block_on(check(rows)));
    tokio::task::block_in_place(run).unwrap();
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
