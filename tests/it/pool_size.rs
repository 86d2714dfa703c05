//! How many connections there are: kept, opened ahead, resized, drained.

use std::time::{Duration, Instant};

use sea_orm::ConnectionTrait;
use wharf::{Error, Pg};

use crate::support::{TestDatabase, number, until};

async fn hold(pg: &Pg, sessions: usize) -> Vec<wharf::Session> {
    let mut held = Vec::new();
    for _ in 0..sessions {
        held.push(pg.session().await.unwrap());
    }
    held
}

#[tokio::test]
async fn min_connections_are_opened_ahead_and_kept() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["pool_size: 4", "min_connections: 3"]);
    assert_eq!(pg.stats().writer.open, 0, "nothing is opened before it is asked for");
    pg.warm_up().await.unwrap();
    assert_eq!((pg.stats().writer.open, pg.stats().writer.idle), (3, 3));
    pg.warm_up().await.unwrap();
    assert_eq!(pg.stats().writer.open, 3);
    // Ended by the server, they are there again without anybody asking for them all.
    let other = database.pg().await;
    let lost = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                WHERE datname = current_database() AND pid <> pg_backend_pid()";
    assert_eq!(number(&other, lost).await, 3);
    let alive = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                 AND pid <> pg_backend_pid()";
    until("they are there again", async || {
        let _ = pg.ping().await;
        pg.stats().writer.open >= 3 && number(&other, alive).await >= 3
    })
    .await;
    // The first statement opens them as well.
    let pg = database.pg_with(&["pool_size: 4", "min_connections: 2"]);
    pg.ping().await.unwrap();
    until("the floor is there", async || pg.stats().writer.open == 2).await;
}

#[tokio::test]
async fn warming_up_a_pool_whose_server_is_not_there_is_an_error_at_once() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://u@127.0.0.1:{port}/d");
    let mut config = wharf::config::DatabaseConfig::from_url(&url).unwrap();
    config.min_connections = 2;
    let started = Instant::now();
    let error = Pg::from_config("down", config).warm_up().await.unwrap_err();
    assert!(matches!(error, Error::Connect(_)), "{error}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_pool_is_resized_while_it_works() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0", "pool_timeout: 20"]);
    let mut held = hold(&pg, 1).await;
    let waiting = tokio::spawn({
        let pg = pg.clone();
        async move { pg.session().await }
    });
    until("it waits", async || pg.stats().writer.waiting == 1).await;
    pg.resize(4, 1).unwrap();
    held.push(waiting.await.unwrap().unwrap());
    held.extend(hold(&pg, 3).await);
    assert_eq!((pg.stats().writer.max, pg.stats().writer.open), (5, 5));
    // What is lent beyond the new size is closed when it comes back.
    pg.resize(2, 0).unwrap();
    assert_eq!(pg.stats().writer.open, 5);
    drop(held);
    until("they are closed", async || pg.stats().writer.open == 2).await;
    // Made smaller while it is half full, and bigger again, it opens no more than it may.
    pg.resize(10, 0).unwrap();
    pg.resize(3, 0).unwrap();
    pg.resize(6, 0).unwrap();
    let held = hold(&pg, 6).await;
    assert_eq!(pg.stats().writer.open, 6);
    let seventh = tokio::time::timeout(Duration::from_millis(100), pg.session());
    assert!(seventh.await.is_err(), "{:?}", pg.stats());
    drop(held);
    // A pool that is yet to be made has the size as well.
    pg.read_only().ping().await.unwrap();
    assert_eq!(pg.stats().reader.max, 6);
    let error = pg.resize(0, 3).unwrap_err();
    assert!(error.to_string().contains("pool_size"), "{error}");
    assert!(pg.resize(9_000, 2_000).is_err());
}

#[tokio::test]
async fn callers_that_give_up_do_not_keep_a_connection_from_being_opened() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0"]);
    // Each is far less patient than the server is quick.
    until("one is open", async || {
        let _ = tokio::time::timeout(Duration::from_micros(100), pg.ping()).await;
        pg.stats().writer.open == 1
    })
    .await;
}

#[tokio::test]
async fn a_pool_that_the_server_lets_grow_no_further_lends_what_comes_back() {
    let database = TestDatabase::new().await;
    let admin = database.pg().await;
    let role = database.role("few", "PASSWORD 'few' CONNECTION LIMIT 2").await;
    let url = database.url_of(&role, "few");
    let mut config = wharf::config::DatabaseConfig::from_url(&url).unwrap();
    (config.pool_size, config.max_overflow) = (8, 0);
    let pg = Pg::from_config("few", config);
    let tasks: Vec<_> = (0..40)
        .map(|_| {
            let pg = pg.clone();
            tokio::spawn(async move { pg.execute_unprepared("SELECT pg_sleep(0.005)").await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert!(pg.stats().writer.open <= 2);
    pg.close().await.unwrap();
    until("the role is free", async || {
        admin.execute_unprepared(&format!("DROP ROLE {role}")).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn closing_waits_for_what_is_lent() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&[]);
    let session = pg.session().await.unwrap();
    let working = tokio::spawn(async move {
        session.execute_unprepared("SELECT pg_sleep(0.3)").await?;
        session.commit().await
    });
    until("it is lent", async || pg.stats().writer.in_use == 1).await;
    pg.close_within(Duration::from_secs(20)).await.unwrap();
    working.await.unwrap().unwrap();
    assert_eq!(pg.stats().writer.open, 0);
    let error = Error::from(pg.ping().await.unwrap_err());
    assert!(matches!(error, Error::Closed { .. }), "{error}");
}

#[tokio::test]
async fn what_is_still_at_work_at_the_deadline_is_cut_off_and_named() {
    let database = TestDatabase::new().await;
    let other = database.pg().await;
    let pg = database.pg_with(&["pool_size: 1", "max_overflow: 2"]);
    let statement = tokio::spawn({
        let pg = pg.clone();
        async move { pg.execute_unprepared("SELECT pg_sleep(60)").await }
    });
    let session = pg.session().await.unwrap();
    let in_session =
        tokio::spawn(async move { session.execute_unprepared("SELECT pg_sleep(60)").await });
    let running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' \
                   AND query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid() \
                   AND datname = current_database()";
    until("both run", async || number(&other, running).await == 2).await;
    let started = Instant::now();
    let error = pg.close_within(Duration::from_millis(300)).await.unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    let Error::CutOff(cut) = &error else { panic!("{error}") };
    assert_eq!((cut.cut, cut.longest.len()), (2, 2));
    let text = error.to_string();
    assert!(
        text.contains("a statement has held a connection") && text.contains("pool_size.rs:"),
        "{text}"
    );
    for cut in [statement.await.unwrap(), in_session.await.unwrap()] {
        let error = Error::from(cut.unwrap_err());
        assert!(matches!(error, Error::Closed { .. }), "{error}");
    }
    assert_eq!(pg.stats().writer.open, 0);
    until("the server has ended both", async || number(&other, running).await == 0).await;
}

#[tokio::test]
async fn a_manager_drains_all_its_databases_at_once() {
    let database = TestDatabase::new().await;
    let manager = wharf::Manager::from_config(database.config(&[]));
    let pg = manager.db("it").unwrap();
    manager.connection("it").unwrap().ping().await.unwrap();
    let session = pg.session().await.unwrap();
    let error = manager.close_within(Duration::from_millis(100)).await.unwrap_err();
    assert!(matches!(error, Error::CutOff(_)), "{error}");
    // It did nothing, so there was nothing to cut off: its next statement is told.
    let error = Error::from(session.execute_unprepared("SELECT 1").await.unwrap_err());
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    drop(session);
    assert_eq!(pg.stats().writer.open, 0);
}
