//! What the docs say of round trips, counted on the wire.

use std::time::{Duration, Instant};

use sea_orm::{
    ConnectionTrait, DbBackend, EntityTrait, Statement,
    sea_query::{OnConflict, Query},
};
use wharf::copy::Format;

use crate::{proxy::Proxy, support::TestDatabase};

mod reading {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "reading")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i32,
        pub sensor: Option<String>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

fn raw() -> Statement {
    Statement::from_string(DbBackend::Postgres, "SELECT 1")
}

#[tokio::test]
async fn every_call_costs_what_its_docs_say() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start().await;
    // A machine that is busy for a second would add a ping.
    let pg = proxy.pg(&database, &["pool_size: 1", "max_overflow: 0", "pool_pre_ping: false"]);
    let reader = pg.read_only();
    let built = Query::select().expr(1).to_owned();
    // The first time, a statement is prepared; what is counted is every time after that.
    for db in [&pg, &reader] {
        db.query_one_raw(raw()).await.unwrap();
        db.query_one(&built).await.unwrap();
    }
    proxy.asked();

    for _ in 0..5 {
        pg.query_one(&built).await.unwrap();
    }
    assert_eq!(proxy.asked(), 5, "a statement: one, and none to give back");
    for _ in 0..5 {
        reader.query_one(&built).await.unwrap();
    }
    assert_eq!(proxy.asked(), 5, "a builder's SELECT, read-only: one");
    // The ROLLBACK at its end is not waited for, so it is counted with a statement after it.
    reader.query_one_raw(raw()).await.unwrap();
    reader.query_one(&built).await.unwrap();
    assert_eq!(proxy.asked(), 3 + 1, "raw SQL, read-only: two more, one of them waited for");

    let session = pg.session().set_local("statement_timeout", "5s").await.unwrap();
    assert_eq!(proxy.asked(), 1, "BEGIN, settings included: one");
    session.query_one(&built).await.unwrap();
    assert_eq!(proxy.asked(), 1, "a statement of a session: one");
    let nested = session.begin().await.unwrap();
    assert_eq!(proxy.asked(), 1, "a nested session: one");
    nested.commit().await.unwrap();
    assert_eq!(proxy.asked(), 1, "its end: one");
    session.commit().await.unwrap();
    assert_eq!(proxy.asked(), 1, "COMMIT: one");

    let session = pg.session().read_only().set_local("work_mem", "1MB").await.unwrap();
    assert_eq!(proxy.asked(), 1, "a read-only session, sealed: one");
    session.rollback().await.unwrap();
    reader.query_one(&built).await.unwrap();
    assert_eq!(proxy.asked(), 1 + 1, "its end: one, not waited for");

    let session = pg.session().await.unwrap();
    assert_eq!(proxy.asked(), 1, "BEGIN: one");
    session.rollback().await.unwrap();
    assert_eq!(proxy.asked(), 1, "ROLLBACK: one");
    drop(pg.session().await.unwrap());
    pg.query_one(&built).await.unwrap();
    assert_eq!(proxy.asked(), 2 + 1, "a session that is dropped: one, not waited for");
}

/// How long a call takes when the way to the server and back takes this long.
const WAY: Duration = Duration::from_millis(60);

#[tokio::test]
async fn copies_cost_what_their_docs_say() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start().await;
    let pg = proxy.pg(&database, &["pool_size: 1", "max_overflow: 0", "pool_pre_ping: false"]);
    pg.execute_unprepared("CREATE TABLE reading (id int4 PRIMARY KEY, sensor text)").await.unwrap();
    let nothing = OnConflict::new().do_nothing().to_owned();
    let copy = || pg.copy_in_named("reading", ["id", "sensor"]);
    let rows = |from: i32| (from..from + 100).map(|id| (id, "s"));
    let models = |from: i32| (from..from + 100).map(|id| reading::Model { id, sensor: None });
    // Which prepares what is prepared.
    copy().on_conflict(nothing.clone()).rows(rows(0)).await.unwrap();
    pg.insert_many::<reading::Entity>(models(100)).exec().await.unwrap();
    proxy.asked();

    // The end of a COPY, which is waited for as well, is no question that is counted.
    copy().rows(rows(200)).await.unwrap();
    assert_eq!(proxy.asked(), 4, "BEGIN, the columns, COPY (twice waited for), COMMIT");
    copy().on_conflict(nothing).rows(rows(200)).await.unwrap();
    assert_eq!(proxy.asked(), 4 + 3, "an upsert: three more");
    pg.insert_many::<reading::Entity>(models(300)).exec().await.unwrap();
    assert_eq!(proxy.asked(), 2, "the columns, and the INSERT");
    pg.copy_out(reading::Entity::find()).to_writer(Vec::new(), Format::Csv).await.unwrap();
    assert_eq!(proxy.asked(), 1, "a copy out: one");
}

#[tokio::test]
async fn every_call_waits_as_often_as_its_docs_say() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start().await;
    let pg = proxy.pg(&database, &["pool_size: 1", "max_overflow: 0", "pool_pre_ping: false"]);
    let built = Query::select().expr(1).to_owned();
    let look_up = async || {
        let session = pg.session().read_only().await.unwrap();
        session.query_one(&built).await.unwrap();
        session.commit().await.unwrap();
    };
    look_up().await;
    // Reads the answer of the ROLLBACK before, too.
    pg.read_only().query_one(&built).await.unwrap();
    proxy.delay(WAY);
    let started = Instant::now();
    look_up().await;
    let ways = started.elapsed().as_secs_f64() / WAY.as_secs_f64();
    assert!((2.0..3.0).contains(&ways), "a read-only look-up waits twice, not {ways:.1} times");
}
