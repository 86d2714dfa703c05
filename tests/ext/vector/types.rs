//! Fields of entities.

use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, IntoActiveModel,
    QueryFilter, Schema, Set, prelude::PgVector, sea_query::ValueType as _,
};
use wharf::{
    Error,
    ext::vector::{self, Bits, HalfVec, SparseVec, Vector, VectorError},
};

use crate::support::{self, Image};

mod item {
    use sea_orm::entity::prelude::*;
    use wharf::ext::vector::{Bits, HalfVec, SparseVec, Vector};

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "item")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        pub full: Vector<3>,
        pub half: HalfVec<3>,
        #[sea_orm(save_as = "sparsevec")]
        pub sparse: SparseVec<1_000_000>,
        #[sea_orm(save_as = "varbit")]
        pub bits: Bits<11>,
        pub no_full: Option<Vector<3>>,
        pub no_half: Option<HalfVec<3>>,
        #[sea_orm(save_as = "sparsevec")]
        pub no_sparse: Option<SparseVec<5>>,
        #[sea_orm(save_as = "varbit")]
        pub no_bits: Option<Bits<4>>,
        #[sea_orm(column_type = "Vector(Some(3))")]
        pub generated: PgVector,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

fn one() -> item::Model {
    item::Model {
        id: 1,
        full: Vector::new([1.5, -2.0, 1e-30]).unwrap(),
        half: HalfVec::new(&[0.1, -65_504.0, 6e-8]).unwrap(),
        sparse: SparseVec::new([(999_999, -1e-10), (0, 3.25), (17, 0.0)]).unwrap(),
        bits: "01101000111".parse().unwrap(),
        no_full: None,
        no_half: None,
        no_sparse: None,
        no_bits: None,
        generated: vec![1.0, 2.0, 3.0].into(),
    }
}

#[tokio::test]
async fn each_type_comes_back_from_its_column_as_it_went() {
    let Some(database) = support::database(Image::Vector).await else { return };
    let pg = database.pg();
    // The columns are what the types of the fields say.
    let table = Schema::new(DbBackend::Postgres).create_table_from_entity(item::Entity);
    pg.execute(&table).await.unwrap();

    let here = one();
    item::Entity::insert(here.clone().into_active_model()).exec(pg).await.unwrap();
    let there = item::Entity::find_by_id(1).one(pg).await.unwrap().unwrap();
    assert_eq!(there, here);
    assert_eq!(there.sparse.iter().collect::<Vec<_>>(), [(0, 3.25), (999_999, -1e-10)]);

    let mut changed = there.into_active_model();
    changed.no_full = Set(Some(Vector::new([0.0; 3]).unwrap()));
    changed.no_half = Set(Some(HalfVec::new(&[0.5; 3]).unwrap()));
    changed.no_sparse = Set(Some(SparseVec::new([]).unwrap()));
    changed.no_bits = Set(Some("1010".parse().unwrap()));
    let changed = changed.update(pg).await.unwrap();
    assert_eq!(changed.no_bits.as_ref().unwrap().to_vec(), [true, false, true, false]);
    assert_eq!(item::Entity::find_by_id(1).one(pg).await.unwrap().unwrap(), changed);

    // Written by others, and filtered by.
    let sql = "INSERT INTO item (id, full, half, sparse, bits, generated) \
               VALUES (2, '[1,2,3]', '[0.25,0,1]', '{2:7}/1000000', B'10000000001', '[0,0,1]')";
    pg.execute_unprepared(&sql.replace("full,", "\"full\",")).await.unwrap();
    let by = |filter| item::Entity::find().filter(filter).all(pg);
    for filter in [
        item::Column::Full.eq(Vector::<3>::new([1.0, 2.0, 3.0]).unwrap()),
        item::Column::Half.eq(HalfVec::<3>::new(&[0.25, 0.0, 1.0]).unwrap()),
        item::Column::Sparse.eq(SparseVec::<1_000_000>::new([(1, 7.0)]).unwrap()),
        item::Column::Bits.eq("10000000001".parse::<Bits<11>>().unwrap()),
    ] {
        let found = by(filter.clone()).await.unwrap();
        assert_eq!(found.len(), 1, "{filter:?}");
        assert_eq!(found[0].bits.to_string(), "10000000001");
    }
}

#[tokio::test]
async fn a_column_of_another_length_is_an_error_that_says_so() {
    let Some(database) = support::database(Image::Vector).await else { return };
    let pg = database.pg();
    let sql = "CREATE TABLE item (id bigserial PRIMARY KEY, \"full\" vector(2), half halfvec(3), \
               sparse sparsevec(1000000), bits bit(11), no_full vector(3), no_half halfvec(3), \
               no_sparse sparsevec(5), no_bits bit(4), generated vector(3)); \
               INSERT INTO item VALUES (1, '[1,2]', '[1,2,3]', '{}/1000000', B'00000000000', NULL, NULL, NULL, \
               NULL, '[1,2,3]')";
    pg.execute_unprepared(sql).await.unwrap();
    let error = Error::from(item::Entity::find().one(pg).await.unwrap_err());
    assert!(matches!(error, Error::Vector(VectorError::Dimensions { expected: 3, given: 2, .. })));
    assert!(error.to_string().contains("a vector(3) has 3 dimensions"), "{error}");
}

#[test]
fn what_no_column_would_take_is_refused_where_it_is_made() {
    let dimensions = |error| matches!(error, VectorError::Dimensions { expected: 3, given: 2, .. });
    assert!(dimensions(Vector::<3>::new([1.0, 2.0]).unwrap_err()));
    assert!(dimensions(HalfVec::<3>::new(&[1.0, 2.0]).unwrap_err()));
    assert!(dimensions(Bits::<3>::new(&[true, false]).unwrap_err()));
    assert!(dimensions("{1:1}/2".parse::<SparseVec<3>>().unwrap_err()));
    for (number, says) in [(f32::NAN, "finite"), (f32::INFINITY, "finite"), (70_000.0, "65,504")] {
        let error = HalfVec::<2>::new(&[0.0, number]).unwrap_err();
        assert!(
            matches!(error, VectorError::Number { at: 1, .. }) && error.to_string().contains(says)
        );
    }
    assert!(Vector::<1>::new([f32::NEG_INFINITY]).is_err());
    assert!(Vector::<1>::new([70_000.0]).is_ok());
    assert!(SparseVec::<3>::new([(3, 1.0)]).is_err(), "dimensions are 0, 1, 2");
    assert!(SparseVec::<3>::new([(1, 1.0), (1, 2.0)]).is_err(), "twice");
    assert!(SparseVec::<3>::new([(1, f32::NAN)]).is_err());
    assert!(SparseVec::<20_000>::new((0..16_001).map(|at| (at, 1.0))).is_err(), "too many");
    for text in ["", "{1:1}", "{0:1}/3", "{1:x}/3", "1:1/3"] {
        assert!(text.parse::<SparseVec<3>>().is_err(), "{text}");
    }
    assert!("012".parse::<Bits<3>>().is_err());
}

#[test]
fn each_type_goes_through_seaorm_values_and_json() {
    let here = one();
    let value: sea_orm::Value = here.sparse.clone().into();
    assert_eq!(SparseVec::from_value(value), here.sparse);
    let value: sea_orm::Value = here.half.clone().into();
    assert_eq!(HalfVec::from_value(value), here.half);
    let json = serde_json::to_string(&(&here.full, &here.half, &here.sparse, &here.bits)).unwrap();
    let back: (Vector<3>, HalfVec<3>, SparseVec<1_000_000>, Bits<11>) =
        serde_json::from_str(&json).unwrap();
    assert_eq!(back, (here.full, here.half, here.sparse, here.bits));
    assert!(serde_json::from_str::<Vector<3>>("[1, 2]").is_err());
}

trait FromValue: sea_orm::sea_query::ValueType {
    fn from_value(value: sea_orm::Value) -> Self {
        <Self as sea_orm::sea_query::ValueType>::try_from(value).unwrap()
    }
}
impl<T: sea_orm::sea_query::ValueType> FromValue for T {}

#[test]
fn vectors_of_generated_entities_are_looked_at_before_they_are_written() {
    let mut rows = [one().into_active_model(), one().into_active_model()];
    assert_eq!(rows.iter().try_for_each(vector::check), Ok(()));
    rows[1].generated = Set(PgVector::from(vec![1.0, 2.0]));
    let error = rows.iter().try_for_each(vector::check).unwrap_err();
    assert!(error.to_string().starts_with("column `item.generated` has 3 dimensions"), "{error}");
    assert_eq!(Vector::<3>::column_type(), sea_orm::ColumnType::Vector(Some(3)));
}

#[tokio::test]
async fn an_extension_that_is_made_anew_costs_no_error_outside_a_session() {
    let Some((database, pg)) = super::points(1).await else { return };
    let to = super::question(1);
    let near = async || {
        let find = super::point::Entity::find();
        let near = wharf::ext::vector::nearest(find, super::point::Column::At, to.as_slice());
        near.all(&pg).await.map(|found| found.len())
    };
    let anew = async || {
        let anew = "DROP EXTENSION vector CASCADE; CREATE EXTENSION vector;
                    ALTER TABLE point ADD COLUMN at vector(64)";
        database.execute_unprepared(anew).await.unwrap();
    };
    let point = || {
        let at = Vector::new(to.as_slice()).unwrap();
        super::point::ActiveModel { id: Set(0), rare: Set(false), at: Set(at) }
    };
    assert_eq!(near().await.unwrap(), 1);
    for _ in 0..2 {
        anew().await;
        point().update(&pg).await.unwrap();
        assert_eq!(near().await.unwrap(), 1);
    }
    // In a session it is one error, and a retry gets past it.
    for retries in [0, 1] {
        let write = async || {
            let session = pg.session().retry(retries);
            session.run(async |s| point().update(s).await.map_err(Error::from)).await
        };
        write().await.unwrap();
        anew().await;
        let written = write().await.map(drop);
        assert_eq!(written.is_ok(), retries == 1, "{written:?}");
    }
}

/// As on hosted servers: the extensions have a schema, which the search path has or lacks.
#[tokio::test]
async fn an_extension_with_a_schema_of_its_own_works_or_the_error_says_which_search_path_would() {
    let Some(database) = support::database(Image::Vector).await else { return };
    let sql = "DROP EXTENSION vector; CREATE SCHEMA \"Ext\"; CREATE EXTENSION vector SCHEMA \"Ext\";
               CREATE EXTENSION citext SCHEMA \"Ext\";
               CREATE TABLE point (id int PRIMARY KEY, rare bool NOT NULL, at \"Ext\".vector(64) NOT NULL);
               CREATE TABLE word (text \"Ext\".citext); INSERT INTO word VALUES ('a')";
    database.execute_unprepared(sql).await.unwrap();
    let pg = |schema: Option<&str>| {
        let mut config = database.config();
        config.schema = schema.map(str::to_owned);
        wharf::Pg::from_config("apart", config)
    };
    let to = super::question(1);
    let point = |id| {
        let at = Set(Vector::new(to.as_slice()).unwrap());
        super::point::ActiveModel { id: Set(id), rare: Set(false), at }
    };
    let near = || {
        let find = super::point::Entity::find();
        vector::nearest(find, super::point::Column::At, to.as_slice()).limit(1)
    };
    let words = async |pg: &wharf::Pg, sql: &str| -> Result<String, Error> {
        let word = sea_orm::Statement::from_string(DbBackend::Postgres, sql);
        Ok(pg.query_one_raw(word).await?.unwrap().try_get_by_index(0)?)
    };

    let with = pg(Some("public, \"Ext\""));
    point(1).insert(&with).await.unwrap();
    assert_eq!(near().all(&with).await.unwrap().len(), 1);
    assert_eq!(words(&with, "SELECT text FROM word WHERE text = 'A'").await.unwrap(), "a");

    let without = pg(None);
    // Reading and COPY need no name of a type.
    without.copy_in::<super::point::Entity>().rows([point(2)]).await.unwrap();
    assert_eq!(super::point::Entity::find().all(&without).await.unwrap().len(), 2);
    // On connections that have read none: the driver remembers a type that it has read.
    let (without, other) = (pg(None), pg(None));
    let session = other.session().await.unwrap();
    let errors = [
        Error::from(point(3).insert(&without).await.unwrap_err()),
        Error::from(point(3).insert(&session).await.unwrap_err()),
        near().all(&without).await.unwrap_err(),
        words(&without, "SELECT text FROM word WHERE text = 'A'::citext").await.unwrap_err(),
        words(&without, "SELECT '[1]'::\"Ext\".vector <=> '[1]'").await.unwrap_err(),
        words(&without, "SELECT l2_norm(at) FROM point").await.unwrap_err(),
        Error::from(without.execute_unprepared("CREATE TABLE x (at vector(3))").await.unwrap_err()),
    ];
    for error in errors {
        let said = error.to_string();
        assert!(matches!(error, Error::SearchPath { .. }), "{said}");
        assert!(said.ends_with("lacks; set `schema: public, \"Ext\"` in the entry"), "{said}");
    }
    // The server's error has ended the transaction, in which nothing can be asked any more.
    let norm = session.execute_unprepared("SELECT l2_norm(at) FROM point").await.unwrap_err();
    let error = Error::from(norm);
    assert!(matches!(&error, Error::SearchPath { .. }), "{error}");
    session.rollback().await.unwrap();
    let error = words(&without, "SELECT text FROM word").await.unwrap_err().to_string();
    assert!(error.contains("hint: Add `\"Ext\"` to `schema` of the entry"), "{error}");
    // What is nowhere is not an extension's.
    let error = words(&without, "SELECT no_such_function(1)").await.unwrap_err();
    assert!(matches!(error, Error::Db(_)), "{error}");
}
