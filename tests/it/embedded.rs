//! The embedded engine serves one connection in all, and nobody notices until it can't be helped.

use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use sea_orm::{ConnectionTrait, DbBackend, EntityTrait, PaginatorTrait, Statement, StreamTrait};
use sea_orm_migration::MigratorTrait;
use wharf::{Error, Manager, pgserver::PgServer};

use crate::support::{config, number};

/// Two databases on one engine of the test's own.
async fn two_on_one_engine() -> Manager {
    let config = config(
        "pgserver: {version: 17, runtime: embedded}\n\
         databases:\n\
        \x20 shop: {pgserver: true, database: shop, create_db: true, pool_timeout: 10}\n\
        \x20 library: {pgserver: true, database: library, create_db: true, extensions: [vector]}\n",
    );
    let server = PgServer::temporary(config.pgserver.clone().unwrap(), ["vector".to_owned()]);
    let manager = Manager::with_pgserver(config, server);
    manager.start_pgserver().await.unwrap();
    manager
}

async fn stop(manager: Manager) {
    manager.close().await;
    manager.pgserver().unwrap().stop().await.unwrap();
}

fn single_connection(error: impl Into<Error>) -> String {
    let error = error.into();
    assert!(matches!(error, Error::SingleConnection(_)), "{error}");
    error.to_string()
}

#[tokio::test]
async fn pools_hand_the_one_connection_on() {
    let manager = two_on_one_engine().await;
    let shop = manager.db("shop").unwrap();
    let library = manager.db("library").unwrap();
    for _ in 0..3 {
        assert_eq!(number(&shop, "SELECT 1::bigint").await, 1);
        assert_eq!(number(&library, "SELECT 2::bigint").await, 2);
        assert_eq!(number(&shop.read_only(), "SELECT 3::bigint").await, 3);
    }
    let sea_orm = manager.connection("shop").unwrap();
    migration::shop::Migrator::up(&sea_orm, None).await.unwrap();
    sea_orm.close().await.unwrap();
    let customers = entity::shop::customer::Entity::find().count(&shop).await.unwrap();
    assert_eq!(customers, 0);
    for (name, health) in manager.health().await {
        assert!(health.is_ok(), "{name}: {health:?}");
    }
    let refused = shop.listen(["orders"]).await.unwrap_err();
    assert!(refused.to_string().contains("one connection in all, and a listener"), "{refused}");
    stop(manager).await;
}

#[tokio::test]
async fn rows_are_copied_in_and_out_and_read_by_a_cursor() {
    let manager = two_on_one_engine().await;
    let shop = manager.db("shop").unwrap();
    shop.execute_unprepared("CREATE TABLE reading (id int4 PRIMARY KEY, name text)").await.unwrap();
    let rows = (0..20_000).map(|id| (id, format!("number {id}")));
    let copied = shop.copy_in_named("reading", ["id", "name"]).rows(rows.clone()).await.unwrap();
    assert_eq!(copied, 20_000);
    let error = shop.copy_in_named("reading", ["id", "name"]).rows(rows).await.unwrap_err();
    assert!(error.is_unique_violation(), "{error}");
    let session = shop.session().await.unwrap();
    let all = Statement::from_string(DbBackend::Postgres, "SELECT id FROM reading");
    let read: Vec<_> = session.cursor_raw(all).rows().await.unwrap().try_collect().await.unwrap();
    assert_eq!(read.len(), 20_000);
    session.commit().await.unwrap();
    assert_eq!(number(&shop, "SELECT count(*) FROM reading").await, 20_000);
    stop(manager).await;
}

#[tokio::test]
async fn a_second_holder_in_the_same_task_is_refused_at_once_by_name() {
    let manager = two_on_one_engine().await;
    let shop = manager.db("shop").unwrap();
    let library = manager.db("library").unwrap();
    let started = Instant::now();
    let session = shop.session().await.unwrap();
    for error in [
        single_connection(shop.session().await.unwrap_err()),
        single_connection(library.session().await.unwrap_err()),
        single_connection(library.execute_unprepared("SELECT 1").await.unwrap_err()),
        single_connection(shop.session().read_only().await.unwrap_err()),
        single_connection(manager.connection("shop").unwrap_err()),
    ] {
        assert!(error.contains("a session on `shop`"), "{error}");
        assert!(error.contains("embedded.rs:"), "{error}");
    }
    session.rollback().await.unwrap();
    let numbers = Statement::from_string(sea_orm::DbBackend::Postgres, "SELECT 1");
    let stream = shop.stream_raw(numbers).await.unwrap();
    let error = single_connection(library.execute_unprepared("SELECT 1").await.unwrap_err());
    assert!(error.contains("a stream on `shop`"), "{error}");
    stream.try_collect::<Vec<_>>().await.unwrap();
    let sea_orm = manager.connection("shop").unwrap();
    let error = single_connection(library.execute_unprepared("SELECT 1").await.unwrap_err());
    assert!(error.contains("SeaORM's own connection on `shop`"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    sea_orm.close().await.unwrap();
    library.ping().await.unwrap();
    stop(manager).await;
}

#[tokio::test]
async fn tasks_take_turns() {
    let manager = two_on_one_engine().await;
    let shop = manager.db("shop").unwrap();
    shop.execute_unprepared("CREATE TABLE entry (n int)").await.unwrap();
    let tasks: Vec<_> = (0..8)
        .map(|n| {
            let shop = shop.clone();
            tokio::spawn(async move {
                shop.session()
                    .run(async |s| {
                        s.execute_unprepared(&format!("INSERT INTO entry VALUES ({n})")).await
                    })
                    .await
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!(number(&shop, "SELECT count(*) FROM entry").await, 8);
    stop(manager).await;
}

#[tokio::test]
async fn a_dropped_future_gives_the_connection_up() {
    let manager = two_on_one_engine().await;
    let shop = manager.db("shop").unwrap();
    let library = manager.db("library").unwrap();
    for cut in [0u64, 50, 200, 1_000, 5_000, 20_000] {
        let work = async {
            library.ping().await?;
            let session = shop.session().await?;
            session.execute_unprepared("SELECT 1").await
        };
        let _ = tokio::time::timeout(Duration::from_micros(cut), work).await;
        assert_eq!(number(&library, "SELECT 2::bigint").await, 2, "cut after {cut} µs");
    }
    stop(manager).await;
}

#[tokio::test]
async fn a_dropped_session_is_waited_for_by_its_own_task() {
    let manager = two_on_one_engine().await;
    let shop = manager.db("shop").unwrap();
    shop.execute_unprepared("CREATE TABLE entry (n int)").await.unwrap();
    for db in [&shop, &manager.db("library").unwrap()] {
        let session = shop.session().await.unwrap();
        session.execute_unprepared("INSERT INTO entry VALUES (1)").await.unwrap();
        drop(session);
        assert_eq!(number(db, "SELECT 1::bigint").await, 1);
    }
    assert_eq!(number(&shop, "SELECT count(*) FROM entry").await, 0);
    stop(manager).await;
}
