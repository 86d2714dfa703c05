//! What the docs say of round trips, counted on the wire.

use sea_orm::{ConnectionTrait, DbBackend, Statement, TransactionTrait, sea_query::Query};

use crate::{proxy::Proxy, support::TestDatabase};

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
        db.query_one(&built).await.unwrap();
        db.query_one_raw(raw()).await.unwrap();
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
    reader.query_one_raw(raw()).await.unwrap();
    assert_eq!(proxy.asked(), 3, "raw SQL, read-only: two more");

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
    assert_eq!(proxy.asked(), 1, "ROLLBACK: one");
}
