//! How connections are lent: in which order, to whom, and when not.

use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait, Statement, StreamTrait};
use wharf::{Error, Pg};

use crate::support::{Log, TestDatabase, number, until};

fn statement(sql: &str) -> Statement {
    Statement::from_string(sea_orm::DbBackend::Postgres, sql)
}

async fn backend(pg: &Pg) -> i64 {
    number(pg, "SELECT pg_backend_pid()::bigint").await
}

#[tokio::test]
async fn the_same_connection_serves_one_call_after_the_other() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&[]);
    let first = backend(&pg).await;
    for _ in 0..20 {
        assert_eq!(backend(&pg).await, first);
    }
    assert_eq!(pg.stats().writer.open, 1);
    assert_eq!(pg.stats().writer.idle, 1);
}

#[tokio::test]
async fn overflow_serves_load_and_is_closed_once_it_idles() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["pool_size: 1", "max_overflow: 2"]);
    let three = || async { [pg.session().await, pg.session().await, pg.session().await] };
    let mut backends = Vec::new();
    for _ in 0..2 {
        let mut round = Vec::new();
        for session in three().await {
            let session = session.unwrap();
            round.push(number(&session, "SELECT pg_backend_pid()::bigint").await);
            session.rollback().await.unwrap();
        }
        round.sort_unstable();
        backends.push(round);
    }
    assert_eq!(backends[0], backends[1]);
    assert_eq!(pg.stats().writer.open, 3);
    let deadline = Instant::now() + Duration::from_secs(15);
    while pg.stats().writer.open > 1 {
        assert!(Instant::now() < deadline, "{:?}", pg.stats());
        pg.ping().await.unwrap();
    }
}

#[tokio::test]
async fn waiting_too_long_says_what_the_pool_was_doing() {
    let database = TestDatabase::new().await;
    // In which a busy machine opens a connection, too.
    let pg = database.pg_with(&["pool_size: 2", "max_overflow: 0", "pool_timeout: 2"]);
    let held = (pg.session().await.unwrap(), pg.session().await.unwrap());
    let error = Error::from(pg.execute_unprepared("SELECT 1").await.unwrap_err());
    let Error::PoolTimeout(timeout) = &error else { panic!("{error}") };
    assert_eq!((timeout.stats.max, timeout.stats.in_use), (2, 2));
    let text = error.to_string();
    assert!(text.contains("`it`") && text.contains("2 of at most 2 open, 2 in use"), "{text}");
    // And who it was.
    assert_eq!(timeout.longest.len(), 2);
    let place = timeout.longest[0].opened_at.unwrap();
    assert!(place.file().ends_with("tests/it/pool.rs"), "{place}");
    assert!(timeout.longest[0].held >= Duration::from_millis(200), "{text}");
    assert!(text.contains("a session opened at tests/it/pool.rs:"), "{text}");
    drop(held);
    let stream = pg.stream_raw(statement("SELECT 1")).await.unwrap();
    let _session = pg.session().await.unwrap();
    let error = pg.session().await.unwrap_err();
    let Error::PoolTimeout(timeout) = &error else { panic!("{error}") };
    assert_eq!(
        timeout.longest.iter().map(|h| h.what).collect::<Vec<_>>(),
        ["a stream", "a session"]
    );
    drop(stream);
}

#[tokio::test]
async fn settings_of_the_file_survive_reset_all() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&[
        "schema: '\"Odd schema\", public'",
        "statement_timeout: 90s",
        "lock_timeout: 4500",
        "idle_in_transaction_timeout: 2min",
        "application_name: wharf tests",
    ]);
    let session = pg.session().await.unwrap();
    session.execute_unprepared("RESET ALL").await.unwrap();
    for (setting, value) in [
        ("search_path", "\"Odd schema\", public"),
        ("statement_timeout", "90s"),
        ("lock_timeout", "4500ms"),
        ("idle_in_transaction_session_timeout", "2min"),
        ("application_name", "wharf tests"),
    ] {
        let sql = format!("SHOW {setting}");
        let row = session.query_one_raw(statement(&sql)).await.unwrap().unwrap();
        let shown: String = row.try_get_by_index(0).unwrap();
        let expected = if setting == "statement_timeout" { "90s" } else { value };
        assert!(shown == expected || (shown == "1min 30s"), "{setting}: {shown}");
    }
}

#[tokio::test]
async fn a_connection_that_the_server_ended_is_not_lent_again() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0"]);
    let pid = backend(&pg).await;
    let other = database.pg().await;
    number(&other, &format!("SELECT pg_terminate_backend({pid})::int::bigint")).await;
    // One that was used a moment ago is lent unasked: at most that one statement fails.
    let _ = pg.ping().await;
    assert_ne!(backend(&pg).await, pid);
}

#[tokio::test]
async fn an_idle_connection_is_asked_before_it_is_lent() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0"]);
    let pid = backend(&pg).await;
    let other = database.pg().await;
    number(&other, &format!("SELECT pg_terminate_backend({pid})::int::bigint")).await;
    // The clock of the pool is what is waited for here, not another task.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_ne!(backend(&pg).await, pid);
}

#[tokio::test]
async fn a_connection_past_its_recycle_time_is_replaced() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0", "pool_recycle: 0.2"]);
    let pid = backend(&pg).await;
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_ne!(backend(&pg).await, pid);
}

#[tokio::test]
async fn waiters_are_served_in_the_order_in_which_they_came() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0"]);
    let held = pg.session().await.unwrap();
    let (served, mut order) = tokio::sync::mpsc::unbounded_channel();
    let mut tasks = Vec::new();
    for n in 0..5 {
        let (waiter, served) = (pg.clone(), served.clone());
        tasks.push(tokio::spawn(async move {
            let session = waiter.session().await.unwrap();
            served.send(n).unwrap();
            session.rollback().await.unwrap();
        }));
        while pg.stats().writer.waiting < n + 1 {
            tokio::task::yield_now().await;
        }
    }
    held.rollback().await.unwrap();
    for expected in 0..5 {
        assert_eq!(order.recv().await, Some(expected));
    }
}

#[tokio::test]
async fn a_closed_pool_says_so() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let session = pg.session().await.unwrap();
    pg.close_by_ref().await.unwrap();
    let error = Error::from(pg.clone().execute_unprepared("SELECT 1").await.unwrap_err());
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    session.execute_unprepared("SELECT 1").await.unwrap();
    session.commit().await.unwrap();
    assert_eq!(pg.stats().writer.open, 0);
    // Closed before its first use is closed as well.
    let pg = database.pg_with(&[]);
    pg.close_by_ref().await.unwrap();
    assert!(pg.execute_unprepared("SELECT 1").await.is_err());
}

#[tokio::test]
async fn a_connection_that_is_held_for_too_long_is_logged_once_with_its_place() {
    let (log, _guard) = Log::of_this_thread();
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["leak_detection_threshold: 0.2"]);
    let session = pg.session().await.unwrap();
    let by_session = format!("a session opened at {}:{}", file!(), line!() - 1);
    until("it is logged", async || log.times(&by_session) > 0).await;
    let begun = pg.begin().await.unwrap();
    let by_begin = format!("a session opened at {}:{}", file!(), line!() - 1);
    let stream = pg.stream_raw(statement("SELECT 1")).await.unwrap();
    until("they are logged", async || {
        log.times(&by_begin) > 0 && log.times("a stream has held a connection") > 0
    })
    .await;
    assert_eq!(log.times(&by_session), 1);
    assert_eq!(log.times("leak_detection_threshold"), 3);
    drop((session, begun, stream));
    // And not at all where that is switched off.
    let pg = database.pg_with(&["leak_detection_threshold: 0", "pool_size: 1", "max_overflow: 1"]);
    let held = pg.session().await.unwrap();
    pg.session().await.unwrap().rollback().await.unwrap();
    // The housekeeper has been there when the overflow is gone.
    until("the overflow is closed", async || pg.stats().writer.open == 1).await;
    assert_eq!(log.times("leak_detection_threshold"), 3);
    drop(held);
}
