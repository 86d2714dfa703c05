//! Distances in queries, and the indexes that serve them.

use sea_orm::{
    ConnectionTrait, DbErr, EntityTrait, ExprTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, sea_query::Expr,
};
use wharf::{
    Error,
    ext::vector::{
        AnyVector, Bits, Distance, HalfVec, Kind, SparseVec, Vector, VectorColumn, VectorError,
        VectorIndex,
    },
};

use super::plan;
use crate::support::{self, Image};

mod thing {
    use sea_orm::entity::prelude::*;
    use wharf::ext::vector::{Bits, HalfVec, SparseVec, Vector};

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "thing")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        pub full: Vector<2>,
        pub half: HalfVec<2>,
        #[sea_orm(save_as = "sparsevec")]
        pub sparse: SparseVec<2>,
        #[sea_orm(save_as = "varbit")]
        pub bits: Bits<4>,
        pub name: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
use thing::Column::{Bits as BitsColumn, Full, Half, Name, Sparse};

const THINGS: &str = "
CREATE TABLE thing (id bigserial PRIMARY KEY, \"full\" vector(2) NOT NULL, half halfvec(2) NOT NULL,
    sparse sparsevec(2) NOT NULL, bits bit(4) NOT NULL, name text NOT NULL DEFAULT '');
INSERT INTO thing (\"full\", half, sparse, bits) VALUES ('[3,4]', '[3,4]', '{1:3,2:4}/2', B'1100')";

/// A column, what it is, something to compare it with, and how far that is by each distance.
type Case = (thing::Column, Kind, AnyVector, Vec<(Distance, f64)>);

fn all() -> Vec<Case> {
    let dense = vec![
        (Distance::L2, 8.0_f64.sqrt()),
        (Distance::InnerProduct, -11.0),
        (Distance::Cosine, 1.0 - 11.0 / (5.0 * 5.0_f64.sqrt())),
        (Distance::L1, 4.0),
    ];
    let bits = vec![(Distance::Hamming, 2.0), (Distance::Jaccard, 1.0 - 1.0 / 3.0)];
    let half = HalfVec::<2>::new(&[1.0, 2.0]).unwrap();
    vec![
        (Full, Kind::Vector, vec![1.0, 2.0].into(), dense.clone()),
        (Full, Kind::Vector, Vector::<2>::new([1.0, 2.0]).unwrap().into(), dense.clone()),
        (Half, Kind::HalfVec, half.into(), dense.clone()),
        (Half, Kind::HalfVec, vec![1.0, 2.0].into(), dense.clone()),
        (
            Sparse,
            Kind::SparseVec,
            SparseVec::<2>::new([(0, 1.0), (1, 2.0)]).unwrap().into(),
            dense.clone(),
        ),
        (Sparse, Kind::SparseVec, vec![1.0, 2.0].into(), dense),
        (BitsColumn, Kind::Bit, "1010".parse::<Bits<4>>().unwrap().into(), bits),
    ]
}

#[tokio::test]
async fn each_distance_is_what_it_says_in_select_filter_and_order() {
    let Some(database) = support::database(Image::Vector).await else { return };
    let pg = database.pg();
    pg.execute_unprepared(THINGS).await.unwrap();
    for (column, kind, to, distances) in all() {
        for (distance, expected) in distances {
            let expr = column.distance(distance, to.clone()).unwrap();
            let found: f64 = thing::Entity::find()
                .select_only()
                .expr_as(expr.clone(), "far")
                .filter(expr.clone().gt(expected - 1e-3))
                .filter(expr.clone().lt(expected + 1e-3))
                .order_by_asc(expr)
                .into_tuple()
                .one(pg)
                .await
                .unwrap()
                .unwrap_or_else(|| panic!("{distance} of a {kind} is not {expected}"));
            assert!((found - expected).abs() < 1e-3, "{distance} of a {kind}: {found}");
        }
    }
    let by_name = [
        Full.l2_distance([1.0, 2.0].as_slice()),
        Full.negative_inner_product([1.0, 2.0].as_slice()),
        Full.cosine_distance([1.0, 2.0].as_slice()),
        Full.l1_distance([1.0, 2.0].as_slice()),
        BitsColumn.hamming_distance("1010".parse::<Bits<4>>().unwrap()),
        BitsColumn.jaccard_distance("1010".parse::<Bits<4>>().unwrap()),
    ];
    let ways = [
        Distance::L2,
        Distance::InnerProduct,
        Distance::Cosine,
        Distance::L1,
        Distance::Hamming,
        Distance::Jaccard,
    ];
    for (nth, (expr, distance)) in by_name.into_iter().zip(ways).enumerate() {
        let (column, to): (_, AnyVector) = match nth {
            0..4 => (Full, vec![1.0, 2.0].into()),
            _ => (BitsColumn, "1010".parse::<Bits<4>>().unwrap().into()),
        };
        assert_eq!(expr.unwrap(), column.distance(distance, to).unwrap());
    }
    // Of two columns.
    let between = Distance::L2.between(Expr::col(Full), Expr::col(Half).cast_as("vector"));
    let rows = thing::Entity::find().filter(between.lt(0.01)).all(pg).await.unwrap();
    assert_eq!(rows.len(), 1);
}

#[tokio::test]
async fn each_distance_is_served_by_the_index_for_it() {
    let Some(database) = support::database(Image::Vector).await else { return };
    let pg = database.pg();
    pg.execute_unprepared(THINGS).await.unwrap();
    let (mut served, mut nothing) = (0, 0);
    for (column, kind, to, distances) in all() {
        for (distance, _) in distances {
            for index in [
                VectorIndex::on(column, distance).hnsw(8, 32),
                VectorIndex::on(column, distance).ivfflat(1),
            ] {
                let index = index.name("one");
                let Ok(create) = index.sql() else {
                    nothing += 1;
                    continue;
                };
                let s = pg.session().set_local("enable_seqscan", "off").await.unwrap();
                s.execute_unprepared(&create).await.unwrap();
                let find = thing::Entity::find()
                    .order_by_asc(column.distance(distance, to.clone()).unwrap())
                    .limit(1);
                let plan = plan(&s, find.build(sea_orm::DbBackend::Postgres)).await;
                assert!(plan.contains("Index Scan using one"), "{distance} of a {kind}: {plan}");
                assert_eq!(find.all(&s).await.unwrap().len(), 1);
                served += 1;
            }
        }
    }
    // IVFFlat has no L1, nothing for sparse vectors, and no jaccard.
    assert_eq!((served, nothing), (6 * 4 + 2 + 4 * 3 + 1, 4 + 2 * 4 + 1));
}

#[tokio::test]
async fn wrong_dimensions_are_an_error_and_nothing_is_sent() {
    let Some(database) = support::database(Image::Vector).await else { return };
    let pg = database.pg();
    pg.execute_unprepared(THINGS).await.unwrap();
    let refused = async {
        let to: Vec<f32> = vec![1.0; 3];
        // As in a service: the error passes through `?` into SeaORM's or wharf's.
        let by_expression = async {
            let near = thing::Entity::find().order_by_asc(Full.cosine_distance(&to)?).limit(1);
            near.one(pg).await.map_err(Error::from)
        };
        let inside: Result<_, DbErr> = async {
            let near = thing::Entity::find().filter(Half.l2_distance(&to)?.lt(1)).one(pg).await?;
            Ok(near)
        }
        .await;
        let search = wharf::ext::vector::nearest(thing::Entity::find(), Full, &to).all(pg).await;
        [
            by_expression.await.unwrap_err(),
            inside.unwrap_err().into(),
            search.unwrap_err(),
            Error::from(
                BitsColumn.hamming_distance("111".parse::<Bits<3>>().unwrap()).unwrap_err(),
            ),
        ]
    };
    let errors = wharf::assert_queries(0, refused).await;
    for error in errors {
        assert!(
            matches!(error, Error::Vector(VectorError::Dimensions { given: 3, .. })),
            "{error:?}"
        );
        assert!(error.to_string().contains("column `thing."), "{error}");
    }
}

#[test]
fn what_cannot_be_compared_is_refused() {
    for (refused, says) in [
        (Name.cosine_distance(vec![1.0]), "`thing.name` is declared as"),
        (Full.hamming_distance(vec![1.0, 2.0]), "no hamming distance for it, only L2, inner"),
        (
            BitsColumn.l2_distance("1010".parse::<Bits<4>>().unwrap()),
            "for it, only hamming, jaccard",
        ),
        (BitsColumn.hamming_distance(vec![1.0; 4]), "has no distance to a vector"),
        (Full.l2_distance(vec![1.0, f32::INFINITY]), "number 1 of the vector is inf, but pgvector"),
        (Half.l2_distance(vec![1.0, -65_520.0]), "number 1 of the vector is -65520, beyond"),
        (Full.cosine_distance(vec![0.0, -0.0]), "add up to 0.0, so no cosine distance from it is"),
        (
            Full.l2_distance(SparseVec::<2>::new([]).unwrap()),
            "is a vector; it has no distance to a sparsevec",
        ),
    ] {
        let error = refused.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
