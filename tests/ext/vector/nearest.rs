//! Searches for the nearest.

use std::collections::HashSet;

use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, FromQueryResult, QueryFilter, QueryOrder,
    QuerySelect, Statement,
};
use wharf::{
    Error, Pg,
    ext::vector::{Distance, Near, Rerank, VectorColumn, VectorError, VectorIndex, nearest},
};

use super::{point, points, question};

fn ids(found: &[Near<point::Model>]) -> Vec<i32> {
    found.iter().map(|near| near.model.id).collect()
}

/// What is nearest, by reading every row.
async fn exact(pg: &Pg, to: &[f32], rare: bool, limit: u64) -> Vec<i32> {
    let far = point::Column::At.cosine_distance(to).unwrap();
    let find = point::Entity::find().select_only().column(point::Column::Id);
    let find = if rare { find.filter(point::Column::Rare.eq(true)) } else { find };
    let s = pg.session().set_local("enable_indexscan", "off").set_local("enable_seqscan", "on");
    let s = s.await.unwrap();
    find.order_by_asc(far).limit(limit).into_tuple().all(&s).await.unwrap()
}

async fn indexed(pg: &Pg, index: impl FnOnce(VectorIndex) -> VectorIndex) {
    index(VectorIndex::on(point::Column::At, Distance::Cosine)).build(pg).await.unwrap();
}

fn recall(found: &[i32], exact: &[i32]) -> f64 {
    let exact: HashSet<_> = exact.iter().collect();
    found.iter().filter(|id| exact.contains(id)).count() as f64 / exact.len() as f64
}

/// How often an index was gone through.
async fn scans(pg: &Pg, index: &str) -> i64 {
    let flush = "SELECT pg_stat_force_next_flush()";
    for db in [pg, &pg.read_only()] {
        db.query_one_raw(Statement::from_string(DbBackend::Postgres, flush)).await.unwrap();
    }
    let scans = format!("SELECT pg_stat_get_numscans('{index}'::regclass)");
    let scans = pg.query_one_raw(Statement::from_string(DbBackend::Postgres, scans)).await;
    scans.unwrap().unwrap().try_get_by_index(0).unwrap()
}

#[tokio::test]
async fn the_nearest_of_a_table_come_in_one_statement_by_their_distance() {
    let Some((_database, pg)) = points(2_000).await else { return };
    indexed(&pg, |index| index).await;
    let to = question(1);
    let search = nearest(point::Entity::find(), point::Column::At, to.as_slice()).limit(10);
    let all = search.clone().all(&pg);
    fn is_send(_: &impl Send) {}
    is_send(&all);
    let found = wharf::assert_queries(1, all).await.unwrap();
    assert_eq!(found.len(), 10);
    assert!(found.is_sorted_by(|one, other| one.distance <= other.distance));
    assert!(recall(&ids(&found), &exact(&pg, &to, false, 10).await) >= 0.9);
    assert_eq!(scans(&pg, "point_at_hnsw").await, 1);
    // Elsewhere the same: in a session, on a read-only view, in a scoped one.
    let session = pg.session().await.unwrap();
    assert_eq!(search.clone().all_in(&session).await.unwrap(), found);
    assert_eq!(search.clone().all(&pg.read_only()).await.unwrap(), found);
    let scoped = pg.scoped("public").unwrap();
    assert_eq!(search.clone().all(&scoped).await.unwrap(), found);

    #[derive(FromQueryResult)]
    struct Id {
        id: i32,
    }
    let find = point::Entity::find().select_only().column(point::Column::Id);
    let few = nearest(find, point::Column::At, to.as_slice()).limit(10).into_model::<Id>();
    let few = wharf::assert_queries(1, few.all(&pg)).await.unwrap();
    assert_eq!(few.iter().map(|near| near.model.id).collect::<Vec<_>>(), ids(&found));
}

#[tokio::test]
async fn as_many_come_as_are_asked_for_where_the_index_alone_gives_fewer() {
    let Some((_database, pg)) = points(3_000).await else { return };
    indexed(&pg, |index| index).await;
    let to = question(1);
    let far = point::Column::At.cosine_distance(to.as_slice()).unwrap();
    // What SeaORM alone finds: 40 are at hand, and a filter takes from those.
    let find = || point::Entity::find().order_by_asc(far.clone());
    let plain = find().limit(100).all(&pg).await.unwrap();
    assert_eq!(plain.len(), 40);
    let rare = point::Entity::find().filter(point::Column::Rare.eq(true));
    let plain = rare.clone().order_by_asc(far.clone()).limit(10).all(&pg).await.unwrap();
    assert!(plain.len() < 10, "the filter should lose some, for this to show anything");

    let search = |find, limit| nearest(find, point::Column::At, to.as_slice()).limit(limit);
    for limit in [41, 100, 1_500] {
        let found = search(point::Entity::find(), limit).all(&pg).await.unwrap();
        assert_eq!(found.len() as u64, limit);
        let unique: HashSet<_> = ids(&found).into_iter().collect();
        assert_eq!(unique.len() as u64, limit);
    }
    let found = search(rare.clone(), 10).all(&pg).await.unwrap();
    assert_eq!(found.len(), 10);
    assert!(found.iter().all(|near| near.model.rare));
    assert!(found.is_sorted_by(|one, other| one.distance <= other.distance));
    assert!(recall(&ids(&found), &exact(&pg, &to, true, 10).await) >= 0.9);
    // There are 30 in all.
    assert_eq!(search(rare.clone(), 100).all(&pg).await.unwrap().len(), 30);
    assert_eq!(search(point::Entity::find(), 5_000).all(&pg).await.unwrap().len(), 3_000);
    assert!(search(rare, 100).as_indexed().all(&pg).await.unwrap().len() <= 30);
}

#[tokio::test]
async fn where_the_index_ends_before_enough_are_found_the_table_is_read() {
    let Some((database, _)) = points(3_000).await else { return };
    // As a large table does it at 20,000.
    let early = format!("ALTER DATABASE {} SET hnsw.max_scan_tuples = 100", database.name());
    database.execute_unprepared(&early).await.unwrap();
    let pg = Pg::from_url(&database.url()).await.unwrap();
    indexed(&pg, |index| index).await;
    let to = question(1);
    let rare = point::Entity::find().filter(point::Column::Rare.eq(true));
    let search = nearest(rare, point::Column::At, to.as_slice()).limit(10);
    let short = search.clone().as_indexed().all(&pg).await.unwrap();
    assert!(short.len() < 10, "the index should not be enough, for this to show anything");
    let found = search.clone().all(&pg).await.unwrap();
    assert_eq!(ids(&found), exact(&pg, &to, true, 10).await);
    // In a session whose plans are made once, too.
    let s = pg.session().set_local("plan_cache_mode", "force_generic_plan").await.unwrap();
    assert_eq!(search.all_in(&s).await.unwrap(), found);
}

#[tokio::test]
async fn an_ivfflat_index_is_gone_through_until_enough_are_found() {
    let Some((_database, pg)) = points(3_000).await else { return };
    indexed(&pg, |index| index.ivfflat(20)).await;
    let to = question(1);
    let rare = point::Entity::find().filter(point::Column::Rare.eq(true));
    let search = nearest(rare, point::Column::At, to.as_slice()).limit(10);
    let found = search.clone().as_indexed().all(&pg).await.unwrap();
    assert_eq!(found.len(), 10);
    assert!(found.is_sorted_by(|one, other| one.distance <= other.distance));
    let found = search.probes(20).all(&pg).await.unwrap();
    assert_eq!(ids(&found), exact(&pg, &to, true, 10).await);
}

#[tokio::test]
async fn candidates_of_a_smaller_index_are_ordered_by_their_exact_distance() {
    let Some((_database, pg)) = points(3_000).await else { return };
    indexed(&pg, VectorIndex::halves).await;
    indexed(&pg, VectorIndex::bits).await;
    let (mut halves, mut bits, mut few_bits) = (0.0, 0.0, 0.0);
    const QUERIES: u32 = 20;
    for nth in 0..QUERIES {
        let to = question(nth.into());
        let exact = exact(&pg, &to, false, 10).await;
        let search = nearest(point::Entity::find(), point::Column::At, to.as_slice());
        for (rerank, candidates, sum) in [
            (Rerank::Halves, 20, &mut halves),
            (Rerank::Bits, 500, &mut bits),
            (Rerank::Bits, 10, &mut few_bits),
        ] {
            let found =
                search.clone().rerank(rerank).candidates(candidates).all(&pg).await.unwrap();
            assert_eq!(found.len(), 10);
            assert!(found.is_sorted_by(|one, other| one.distance <= other.distance));
            *sum += recall(&ids(&found), &exact) / f64::from(QUERIES);
        }
    }
    assert!(halves >= 0.95, "{halves}");
    // What is not among the candidates is not found.
    assert!(bits >= 0.9, "{bits}");
    assert!(few_bits < bits, "{few_bits}");
    // By those indexes, that is.
    assert!(scans(&pg, "point_at_halves_hnsw").await >= 20);
    assert!(scans(&pg, "point_at_bits_hnsw").await >= 20);
}

#[tokio::test]
async fn rows_without_a_vector_are_never_found() {
    mod maybe {
        use sea_orm::entity::prelude::*;
        use wharf::ext::vector::Vector;

        #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
        #[sea_orm(table_name = "maybe")]
        pub struct Model {
            #[sea_orm(primary_key, auto_increment = false)]
            pub id: i32,
            pub at: Option<Vector<2>>,
        }

        #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
        pub enum Relation {}

        impl ActiveModelBehavior for ActiveModel {}
    }
    let Some((_database, pg)) = points(1).await else { return };
    let table = "CREATE TABLE maybe (id int PRIMARY KEY, at vector(2)); \
                 INSERT INTO maybe VALUES (1, NULL), (2, '[1,0]'), (3, NULL), (4, '[0,1]')";
    pg.execute_unprepared(table).await.unwrap();
    let search = nearest(maybe::Entity::find(), maybe::Column::At, vec![0.1, 1.0]);
    let found = search.by(Distance::L2).all(&pg).await.unwrap();
    let ids: Vec<_> = found.iter().map(|near| near.model.id).collect();
    assert_eq!(ids, [4, 2]);
}

#[tokio::test]
async fn rows_from_which_there_is_no_distance_are_never_found() {
    let Some((_database, pg)) = points(30).await else { return };
    let zero = vec![0.0; 64];
    let zeros = format!("UPDATE point SET at = '{zero:?}' WHERE id % 10 = 3");
    pg.execute_unprepared(&zeros).await.unwrap();
    let to = question(1);
    let search = || nearest(point::Entity::find(), point::Column::At, to.as_slice()).limit(30);
    let expected = exact(&pg, &to, false, 27).await;
    // By reading the table, among candidates, and by an index, which does not have them.
    for indexed_by in [None, Some(false), Some(true)] {
        if let Some(bits) = indexed_by {
            indexed(&pg, |index| if bits { index.bits() } else { index }).await;
        }
        assert_eq!(ids(&search().all(&pg).await.unwrap()), expected, "{indexed_by:?}");
        let filtered = point::Entity::find().filter(point::Column::Id.gte(0));
        let filtered = nearest(filtered, point::Column::At, to.as_slice()).limit(30);
        assert_eq!(ids(&filtered.all(&pg).await.unwrap()), expected, "{indexed_by:?}");
        // The zeros take places among the candidates, not among what is found.
        let few = search().rerank(Rerank::Bits).limit(20).candidates(22).all(&pg).await.unwrap();
        assert!(few.len() == 20 && few.iter().all(|near| near.distance.is_finite()), "{few:?}");
    }
    // From a zero vector there are other distances.
    let near = search().by(Distance::L2).all(&pg).await.unwrap();
    assert_eq!(near.len(), 30);
}

#[tokio::test]
async fn a_search_that_cannot_be_what_was_meant_is_refused() {
    let Some((_database, pg)) = points(1).await else { return };
    let find = point::Entity::find;
    let to = vec![1.0; 64];
    let search = |find| nearest(find, point::Column::At, to.clone());
    let refused = async {
        [
            (search(find().order_by_asc(point::Column::Id)).all(&pg).await, "order"),
            (search(find().limit(3)).all(&pg).await, "limit"),
            (search(find().offset(3)).all(&pg).await, "offset"),
            (search(find()).ef_search(1_001).all(&pg).await, "1001 was given"),
            (search(find()).probes(0).all(&pg).await, "0 was given"),
            (search(find()).limit(u64::MAX).all(&pg).await, "limit is 18446744073709551615"),
            (
                search(find()).candidates(u64::MAX).all(&pg).await,
                "candidates is 18446744073709551615",
            ),
            (
                nearest(find(), point::Column::At, vec![f32::NAN; 64]).all(&pg).await,
                "number 0 of the vector is NaN",
            ),
            (nearest(find(), point::Column::At, vec![0.0; 64]).all(&pg).await, "add up to 0.0,"),
            (nearest(find(), point::Column::At, vec![1e30; 64]).all(&pg).await, "add up to inf,"),
            (
                search(find()).rerank(Rerank::Bits).candidates(9).all(&pg).await,
                "9 candidates are fewer",
            ),
            (search(find()).by(Distance::Jaccard).all(&pg).await, "no jaccard"),
            (nearest(find(), point::Column::Id, to.clone()).all(&pg).await, "not as a vector"),
        ]
    };
    for (refused, says) in wharf::assert_queries(0, refused).await {
        let error = refused.unwrap_err();
        assert!(matches!(error, Error::Vector(_)), "{error:?}");
        assert!(error.to_string().contains(says), "{error}");
    }
    // Rows without end are what a limit may be.
    assert_eq!(search(find()).limit(i64::MAX as u64).all(&pg).await.unwrap().len(), 1);
    let dimensions = nearest(find(), point::Column::At, vec![1.0; 63]).all(&pg).await.unwrap_err();
    assert!(matches!(dimensions, Error::Vector(VectorError::Dimensions { expected: 64, .. })));
}
