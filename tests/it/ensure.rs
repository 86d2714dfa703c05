//! What many make at once, made once.

use std::sync::Arc;

use futures_util::future::join_all;
use sea_orm::ConnectionTrait;
use tokio::sync::Barrier;
use wharf::Pg;
use wharf::ensure::{index_exists, table_exists};

use crate::support::{TestDatabase, number};

const MANY: usize = 16;

/// Has many make it at once, each over connections of its own; how often that failed.
async fn all_at_once(
    database: &TestDatabase,
    make: impl AsyncFn(&Pg) -> Result<(), sea_orm::DbErr>,
) -> usize {
    let start = Arc::new(Barrier::new(MANY));
    let one = async || {
        let pg = database.pg().await;
        pg.ping().await.unwrap();
        start.wait().await;
        let made = make(&pg).await;
        pg.close().await.unwrap();
        made
    };
    join_all((0..MANY).map(|_| one())).await.iter().filter(|made| made.is_err()).count()
}

fn create(round: usize) -> String {
    format!("CREATE SCHEMA IF NOT EXISTS s{round}; CREATE TABLE IF NOT EXISTS s{round}.t (n int)")
}

#[tokio::test]
async fn the_first_touch_of_many_makes_it_once_and_fails_for_none() {
    let database = TestDatabase::new().await;
    // Without it, they get in each other's way.
    let mut failed = 0;
    for round in 0..10 {
        let sql = create(round);
        failed +=
            all_at_once(&database, async |pg| pg.execute_unprepared(&sql).await.map(|_| ())).await;
    }
    assert!(failed > 0, "IF NOT EXISTS closed the gap by itself");
    for round in 100..110 {
        let sql = create(round);
        let failed = all_at_once(&database, async |pg| {
            pg.ensure_object("table t", async |s| s.execute_unprepared(&sql).await.map(|_| ()))
                .await
        });
        assert_eq!(failed.await, 0);
    }
    let failed = all_at_once(&database, async |pg| {
        pg.ensure_schema("first").await.map(|_| ()).map_err(Into::into)
    });
    assert_eq!(failed.await, 0);
}

#[tokio::test]
async fn work_under_one_key_is_one_at_a_time_and_under_two_is_not() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let inside = Arc::new(tokio::sync::Notify::new());
    let (held, go_on) = (inside.clone(), Arc::new(tokio::sync::Notify::new()));
    let first = pg.ensure_object("one", {
        let go_on = go_on.clone();
        async move |_| {
            held.notify_one();
            go_on.notified().await;
            Ok::<_, wharf::Error>(())
        }
    });
    let others = async {
        inside.notified().await;
        pg.ensure_object("two", async |_| Ok::<_, wharf::Error>(())).await.unwrap();
        let busy = database.pg_with(&["lock_timeout: 100ms"]);
        let error =
            busy.ensure_object("one", async |_| Ok::<_, wharf::Error>(())).await.unwrap_err();
        assert_eq!(error.sqlstate().as_deref(), Some("55P03"), "{error}");
        go_on.notify_one();
    };
    let (first, ()) = tokio::join!(first, others);
    first.unwrap();
    // What fails inside leaves neither its work nor its lock.
    let failed = pg.ensure_object("one", async |s| {
        s.execute_unprepared("CREATE TABLE half (n int)").await?;
        s.execute_unprepared("SELECT nonsense").await
    });
    failed.await.unwrap_err();
    assert_eq!(number(&pg, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())").await, 0);
    assert!(!table_exists(&pg, "public", "half").await.unwrap());
}

#[tokio::test]
async fn what_is_there_is_told_by_schema_and_not_by_what_the_search_path_shows() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    pg.execute_unprepared(
        "CREATE SCHEMA hidden; CREATE TABLE hidden.t (n int); CREATE INDEX i ON hidden.t (n);
         CREATE VIEW hidden.v AS SELECT 1 AS n; CREATE TABLE \"Odd \"\"name\" (n int)",
    )
    .await
    .unwrap();
    assert!(table_exists(&pg, "hidden", "t").await.unwrap());
    assert!(!table_exists(&pg, "public", "t").await.unwrap());
    assert!(!table_exists(&pg, "hidden", "v").await.unwrap());
    assert!(!table_exists(&pg, "hidden", "i").await.unwrap());
    assert!(table_exists(&pg, "public", "Odd \"name").await.unwrap());
    assert!(index_exists(&pg, "hidden", "i").await.unwrap());
    assert!(!index_exists(&pg, "public", "i").await.unwrap());
    // One that a broken-off build has left is no index.
    pg.execute_unprepared("INSERT INTO hidden.t VALUES (1), (1)").await.unwrap();
    let build = "CREATE UNIQUE INDEX CONCURRENTLY broken ON hidden.t (n)";
    pg.execute_unprepared(build).await.unwrap_err();
    assert!(!index_exists(&pg, "hidden", "broken").await.unwrap());
}

/// Where sessions have one snapshot, it would be from before the lock was there to be had.
#[tokio::test]
async fn a_schema_is_made_once_also_where_sessions_are_repeatable_read() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    pg.execute_unprepared(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = \
         ''repeatable read''', current_database()); END $$",
    )
    .await
    .unwrap();
    pg.close().await.unwrap();
    let make = async |pg: &Pg| pg.ensure_schema("once").await.map(|_| ()).map_err(Into::into);
    assert_eq!(all_at_once(&database, make).await, 0);
}
