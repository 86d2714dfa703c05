//! The same statement again and again is noticed: an N+1.

use entity::shop::customer;
use futures_util::FutureExt;
use sea_orm::{ActiveModelTrait, ConnectionTrait, DbErr, EntityTrait, Set};
use wharf::{Error, Pg};

use crate::support::{Log, TestDatabase, number};

const REPEATED: &str = "the same statement ran";

async fn look_up(on: &impl ConnectionTrait, times: i32) -> Result<(), DbErr> {
    for id in 0..times {
        customer::Entity::find_by_id(id).one(on).await?;
    }
    Ok(())
}

#[tokio::test]
async fn in_one_session_it_is_warned_of_once_with_its_count_and_its_place() {
    let (log, _guard) = Log::of_this_thread();
    let database = TestDatabase::shop().await;
    let pg = database.pg_with(&[]);
    let session = pg.session().await.unwrap();
    let place = format!("opened_at={}:{}", file!(), line!() - 1);
    look_up(&session, 37).await.unwrap();
    assert_eq!(log.times(REPEATED), 0);
    session.commit().await.unwrap();
    let lines = log.lines(REPEATED);
    assert_eq!(lines.len(), 1, "{}", log.text());
    assert!(lines[0].contains("ran 37 times in one session"), "{lines:?}");
    assert!(lines[0].contains("FROM \"customer\"") && lines[0].contains(&place), "{lines:?}");
    // The connection's next session begins anew, and nine times are not yet too often.
    let session = pg.session().await.unwrap();
    look_up(&session, 9).await.unwrap();
    session.rollback().await.unwrap();
    // Nor is anything that is no session.
    look_up(&pg, 30).await.unwrap();
    assert_eq!(log.times(REPEATED), 1);
}

#[tokio::test]
async fn a_session_that_is_dropped_or_only_reads_is_no_exception() {
    let (log, _guard) = Log::of_this_thread();
    let database = TestDatabase::shop().await;
    let pg = database.pg_with(&["monitor: {n_plus_one_threshold: 4}"]);
    let session = pg.session().read_only().await.unwrap();
    look_up(&session, 5).await.unwrap();
    drop(session);
    assert_eq!(log.times("ran 5 times in one session"), 1, "{}", log.text());
    let session = pg.session().await.unwrap();
    look_up(&session, 6).await.unwrap();
    drop(session);
    assert_eq!(log.times("ran 6 times in one session"), 1, "{}", log.text());
}

#[tokio::test]
async fn in_one_scope_across_connections() {
    let (log, _guard) = Log::of_this_thread();
    let database = TestDatabase::shop().await;
    let pg = database.pg_with(&[]);
    let work = wharf::scope(async {
        look_up(&pg, 6).await.unwrap();
        let session = pg.session().await.unwrap();
        look_up(&session, 6).await.unwrap();
        session.commit().await.unwrap();
        7
    });
    let place = format!("opened_at={}:{}", file!(), line!() - 7);
    assert_eq!(work.await, 7);
    let lines = log.lines(REPEATED);
    assert_eq!(lines.len(), 1, "{}", log.text());
    assert!(
        lines[0].contains("ran 12 times in one scope") && lines[0].contains(&place),
        "{lines:?}"
    );
}

#[tokio::test]
async fn a_loop_of_several_statements_is_found_among_others() {
    let (log, _guard) = Log::of_this_thread();
    let database = TestDatabase::shop().await;
    let pg = database.pg_with(&[]);
    let session = pg.session().await.unwrap();
    for id in 0..12 {
        number(&session, &format!("SELECT {id}::bigint AS a{id}")).await;
        customer::Entity::find_by_id(id).one(&session).await.unwrap();
        number(&session, &format!("SELECT {id}::bigint AS b")).await;
    }
    session.commit().await.unwrap();
    assert_eq!(log.times("ran 12 times"), 2, "{}", log.text());
}

#[tokio::test]
async fn it_fails_the_test_where_the_file_says_so() {
    let database = TestDatabase::shop().await;
    let pg = database.pg_with(&["monitor: {n_plus_one: error, n_plus_one_threshold: 5}"]);
    let fails = |result: Result<(), DbErr>, place: &str| {
        let error = Error::from(result.unwrap_err());
        let text = error.to_string();
        assert!(matches!(error, Error::NPlusOne { count: 5, .. }), "{text}");
        assert!(text.contains("ran 5 times") && text.contains(place), "{text}");
        assert!(text.contains("`it`") && text.contains("FROM \"customer\""), "{text}");
    };
    let session = pg.session().await.unwrap();
    fails(look_up(&session, 9).await, "tests/it/repeats.rs:");
    // And so does each after it.
    let error = Error::from(look_up(&session, 1).await.unwrap_err());
    assert!(matches!(error, Error::NPlusOne { count: 6, .. }), "{error}");
    // It was not sent: the session lives.
    session.commit().await.unwrap();
    fails(wharf::scope(look_up(&pg, 9)).await, "tests/it/repeats.rs:");
    look_up(&pg, 9).await.unwrap();
}

#[tokio::test]
async fn it_is_left_alone_where_the_file_says_so() {
    let (log, _guard) = Log::of_this_thread();
    let database = TestDatabase::shop().await;
    let pg = database.pg_with(&["monitor: {n_plus_one: off}"]);
    let session = pg.session().await.unwrap();
    look_up(&session, 30).await.unwrap();
    session.commit().await.unwrap();
    assert_eq!(log.times(REPEATED), 0);
}

#[tokio::test]
async fn queries_are_asserted() {
    let database = TestDatabase::shop().await;
    let pg = database.pg_with(&[]);
    let ada = customer::ActiveModel {
        name: Set("Ada".to_owned()),
        email: Set("ada@example.org".to_owned()),
        ..Default::default()
    };
    let ada = wharf::assert_queries(2, async {
        let session = pg.session().await.unwrap();
        let ada = ada.insert(&session).await.unwrap();
        look_up(&session, 1).await.unwrap();
        session.commit().await.unwrap();
        ada
    })
    .await;
    assert_eq!(ada.name, "Ada");
    let asserted = |pg: Pg| async move { wharf::assert_queries(1, look_up(&pg, 2)).await };
    let panicked = std::panic::AssertUnwindSafe(asserted(pg.clone())).catch_unwind().await;
    let message = panicked.unwrap_err();
    let message = message.downcast_ref::<String>().unwrap();
    assert!(message.contains("2 statements ran, not 1"), "{message}");
    assert_eq!(message.matches("FROM \"customer\"").count(), 2, "{message}");
    assert!(message.starts_with("tests/it/repeats.rs:"), "{message}");
}
