//! A session is kept whole or not at all.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::{FutureExt, StreamExt, TryStreamExt};
use sea_orm::{
    AccessMode, ConnectionTrait, DbBackend, DbErr, IsolationLevel, Statement, StreamTrait,
    TransactionOptions, TransactionTrait,
};
use wharf::{Error, Pg};

use crate::support::{Log, TestDatabase, cut_at_commit, number, until};

async fn counter() -> (TestDatabase, Pg) {
    let database = TestDatabase::new().await;
    // One connection: what one session leaves behind, the next one meets.
    let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0", "pool_timeout: 5"]);
    pg.execute_unprepared("CREATE TABLE entry (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
        .await
        .unwrap();
    (database, pg)
}

async fn entries(db: &impl ConnectionTrait) -> i64 {
    number(db, "SELECT count(*) FROM entry").await
}

const ADD: &str = "INSERT INTO entry VALUES (1)";

#[tokio::test]
async fn a_closure_that_gives_ok_is_committed_in_three_statements() {
    let (_database, pg) = counter().await;
    let rows = pg.session().run(async |s| s.execute_unprepared(ADD).await).await.unwrap();
    assert_eq!(rows.rows_affected(), 1);
    assert_eq!(entries(&pg).await, 1);
}

#[tokio::test]
async fn a_closure_that_gives_err_is_rolled_back() {
    let (_database, pg) = counter().await;
    let result: Result<(), DbErr> = pg
        .session()
        .run(async |s| {
            s.execute_unprepared(ADD).await?;
            Err(DbErr::Custom("changed my mind".to_owned()))
        })
        .await;
    assert_eq!(result.unwrap_err(), DbErr::Custom("changed my mind".to_owned()));
    assert_eq!(entries(&pg).await, 0);
}

#[tokio::test]
async fn a_closure_may_fail_with_an_error_of_its_own() {
    #[derive(Debug)]
    struct Mine;
    impl From<DbErr> for Mine {
        fn from(_: DbErr) -> Mine {
            Mine
        }
    }
    impl From<Error> for Mine {
        fn from(_: Error) -> Mine {
            Mine
        }
    }
    let (_database, pg) = counter().await;
    let result: Result<(), Mine> = pg
        .session()
        .run(async |s| {
            s.execute_unprepared(ADD).await?;
            Err(Mine)
        })
        .await;
    result.unwrap_err();
    assert_eq!(entries(&pg).await, 0);
}

#[tokio::test]
async fn a_closure_that_panics_is_rolled_back() {
    let (_database, pg) = counter().await;
    let run = pg.session().run(async |s| {
        s.execute_unprepared(ADD).await?;
        if s.is_read_only() {
            return Ok(());
        }
        panic!("a bug in the closure");
        #[allow(unreachable_code)]
        Ok::<(), DbErr>(())
    });
    AssertUnwindSafe(run).catch_unwind().await.unwrap_err();
    assert_eq!(entries(&pg).await, 0);
}

#[tokio::test]
async fn a_closure_whose_future_is_dropped_is_rolled_back() {
    let (_database, pg) = counter().await;
    let run = pg.session().run(async |s| {
        s.execute_unprepared(ADD).await?;
        s.execute_unprepared("SELECT pg_sleep(60)").await
    });
    tokio::time::timeout(Duration::from_millis(300), run).await.unwrap_err();
    assert_eq!(entries(&pg).await, 0);
}

#[tokio::test]
async fn a_session_that_is_dropped_is_rolled_back() {
    let (_database, pg) = counter().await;
    let session = pg.session().await.unwrap();
    session.execute_unprepared(ADD).await.unwrap();
    drop(session);
    assert_eq!(entries(&pg).await, 0);
}

#[tokio::test]
async fn a_session_is_committed_by_hand() {
    let (_database, pg) = counter().await;
    let session = pg.session().isolation(IsolationLevel::Serializable).await.unwrap();
    session.execute_unprepared(ADD).await.unwrap();
    session.commit().await.unwrap();
    assert_eq!(entries(&pg).await, 1);
}

#[tokio::test]
async fn a_nested_session_is_undone_alone() {
    let (_database, pg) = counter().await;
    let session = pg.session().await.unwrap();
    session.execute_unprepared(ADD).await.unwrap();
    let nested = session.begin().await.unwrap();
    nested.execute_unprepared("INSERT INTO entry VALUES (2)").await.unwrap();
    nested.rollback().await.unwrap();
    let nested = session.begin().await.unwrap();
    nested.execute_unprepared("INSERT INTO entry VALUES (3)").await.unwrap();
    let inmost = nested.begin().await.unwrap();
    inmost.execute_unprepared("INSERT INTO entry VALUES (4)").await.unwrap();
    drop(inmost);
    assert_eq!(entries(&nested).await, 2);
    nested.commit().await.unwrap();
    session.commit().await.unwrap();
    assert_eq!(number(&pg, "SELECT sum(n) FROM entry").await, 4);
}

#[tokio::test]
async fn a_nested_session_dropped_last_is_undone_before_the_commit() {
    let (_database, pg) = counter().await;
    let session = pg.session().await.unwrap();
    session.execute_unprepared(ADD).await.unwrap();
    let nested = session.begin().await.unwrap();
    nested.execute_unprepared("INSERT INTO entry VALUES (2)").await.unwrap();
    drop(nested);
    session.commit().await.unwrap();
    assert_eq!(entries(&pg).await, 1);
}

#[tokio::test]
async fn a_failure_in_a_nested_session_leaves_the_outer_one_whole() {
    let (_database, pg) = counter().await;
    let session = pg.session().await.unwrap();
    session.execute_unprepared(ADD).await.unwrap();
    let nested = session.begin().await.unwrap();
    nested.execute_unprepared("SELECT 1 / 0").await.unwrap_err();
    drop(nested);
    session.commit().await.unwrap();
    assert_eq!(entries(&pg).await, 1);
}

#[tokio::test]
async fn a_nested_session_outlives_nothing() {
    let (_database, pg) = counter().await;
    let session = pg.session().await.unwrap();
    let nested = session.begin().await.unwrap();
    session.commit().await.unwrap();
    let error = Error::from(nested.execute_unprepared(ADD).await.unwrap_err());
    assert!(matches!(error, Error::SessionEnded { .. }), "{error}");
    drop(nested);
    assert_eq!(entries(&pg).await, 0);
}

#[tokio::test]
async fn a_nested_session_has_no_isolation_of_its_own_and_says_so() {
    let (_database, pg) = counter().await;
    let session = pg.session().await.unwrap();
    let options = TransactionOptions {
        isolation_level: Some(IsolationLevel::Serializable),
        ..Default::default()
    };
    let error = session.begin_with_options(options).await.unwrap_err();
    assert!(error.to_string().contains("isolation level of the outermost"), "{error}");
    let read_only = session.begin_with_config(None, Some(AccessMode::ReadOnly)).await.unwrap();
    read_only.execute_unprepared(ADD).await.unwrap_err();
    drop(read_only);
    session.execute_unprepared(ADD).await.unwrap();
    session.commit().await.unwrap();
    assert_eq!(entries(&pg).await, 1);
}

#[tokio::test]
async fn a_commit_that_the_server_turned_into_a_rollback_is_an_error() {
    let (_database, pg) = counter().await;
    let session = pg.session().await.unwrap();
    session.execute_unprepared(ADD).await.unwrap();
    session.execute_unprepared("SELECT 1 / 0").await.unwrap_err();
    let error = Error::from(session.commit().await.unwrap_err());
    assert!(matches!(error, Error::RolledBack { .. }), "{error}");
    assert_eq!(entries(&pg).await, 0);
}

#[tokio::test]
async fn a_failure_rolled_back_by_hand_does_not_keep_the_rest_from_being_committed() {
    let (_database, pg) = counter().await;
    let session = pg.session().await.unwrap();
    session.execute_unprepared(ADD).await.unwrap();
    session.execute_unprepared("SAVEPOINT mine").await.unwrap();
    session.execute_unprepared("SELECT 1 / 0").await.unwrap_err();
    session.execute_unprepared("ROLLBACK TO SAVEPOINT mine").await.unwrap();
    session.commit().await.unwrap();
    assert_eq!(entries(&pg).await, 1);
}

#[tokio::test]
async fn a_constraint_that_fails_at_commit_is_the_servers_error() {
    let (_database, pg) = counter().await;
    let session = pg.session().await.unwrap();
    session.execute_unprepared(ADD).await.unwrap();
    session.execute_unprepared(ADD).await.unwrap();
    let error = Error::from(session.commit().await.unwrap_err());
    assert_eq!(error.sqlstate().as_deref(), Some("23505"), "{error}");
    assert_eq!(entries(&pg).await, 0);
}

#[tokio::test]
async fn a_transaction_that_its_commit_has_ended_is_not_rolled_back_once_more() {
    let (_database, pg) = counter().await;
    let (log, _guard) = Log::of_this_thread();
    let session = pg.session().await.unwrap();
    session.execute_unprepared(ADD).await.unwrap();
    session.execute_unprepared(ADD).await.unwrap();
    session.commit().await.unwrap_err();
    until("its connection is put right", async || pg.stats().writer.in_use == 0).await;
    // The server would warn in its own log, too.
    assert_eq!(log.times("no transaction in progress"), 0, "{}", log.text());
    assert_eq!(pg.stats().writer.open, 1);
    assert_eq!(entries(&pg).await, 0);
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_unknown() {
    let (_database, pg) = counter().await;
    cut_at_commit(&pg, "entry").await;
    let session = pg.session().await.unwrap();
    session.execute_unprepared(ADD).await.unwrap();
    let error = Error::from(session.commit().await.unwrap_err());
    assert!(matches!(error, Error::CommitUnknown { .. }), "{error}");
    assert!(!error.is_retryable());
    // The pool has not kept the dead connection.
    assert_eq!(entries(&pg).await, 0);
}

#[tokio::test]
async fn raw_sql_cannot_end_the_transaction() {
    let (_database, pg) = counter().await;
    let session = pg.session().await.unwrap();
    session.execute_unprepared(ADD).await.unwrap();
    for sql in ["COMMIT", "/* ; */ end", "SELECT 1; ROLLBACK", "BEGIN", "ABORT"] {
        let error = Error::from(session.execute_unprepared(sql).await.unwrap_err());
        assert!(matches!(error, Error::TransactionControl { .. }), "{sql}: {error}");
    }
    let commit = Statement::from_string(session.get_database_backend(), "COMMIT");
    session.query_all_raw(commit.clone()).await.unwrap_err();
    session.query_one_raw(commit.clone()).await.unwrap_err();
    session.execute_raw(commit.clone()).await.unwrap_err();
    assert!(session.stream_raw(commit).await.is_err());
    drop(session);
    assert_eq!(entries(&pg).await, 0);
}

#[tokio::test]
async fn a_stream_left_half_way_leaves_the_session_usable() {
    let (_database, pg) = counter().await;
    let session = pg.session().await.unwrap();
    let many = Statement::from_string(
        session.get_database_backend(),
        "SELECT n FROM generate_series(1, 100000) n",
    );
    let mut stream = session.stream_raw(many).await.unwrap();
    stream.try_next().await.unwrap().unwrap();
    drop(stream);
    session.execute_unprepared(ADD).await.unwrap();
    session.commit().await.unwrap();
    assert_eq!(entries(&pg).await, 1);
}

#[tokio::test]
async fn a_statement_waits_for_an_open_stream_no_longer_than_for_a_connection() {
    let (database, _pg) = counter().await;
    let pg = database.pg_with(&["pool_timeout: 2s"]);
    let many = || {
        let sql = "SELECT n, 'x' FROM generate_series(1, 100000) n";
        Statement::from_string(sea_orm::DbBackend::Postgres, sql)
    };
    let refused = |error: DbErr| {
        let error = Error::from(error);
        assert!(matches!(error, Error::StreamOpen { .. }), "{error}");
        let shown = error.to_string();
        assert!(shown.contains("SELECT n, ? FROM generate_series(?, ...) n"), "{shown}");
    };
    let session = pg.session().await.unwrap();
    let mut stream = session.stream_raw(many()).await.unwrap();
    stream.try_next().await.unwrap().unwrap();
    refused(session.execute_unprepared(ADD).await.unwrap_err());
    refused(session.begin().await.map(drop).unwrap_err());
    assert!(stream.try_next().await.unwrap().is_some(), "the stream goes on");
    drop(stream);
    session.execute_unprepared(ADD).await.unwrap();
    // A statement is waited for as long as it takes.
    let slow = session.execute_unprepared("SELECT pg_sleep(0.6)");
    let more = session.execute_unprepared("INSERT INTO entry VALUES (2)");
    let (slow, next) = tokio::join!(slow, more);
    slow.unwrap();
    next.unwrap();
    session.commit().await.unwrap();
    assert_eq!(entries(&pg).await, 2);

    // Nothing is kept of a session that is committed under a stream.
    let session = pg.session().await.unwrap();
    session.execute_unprepared("DELETE FROM entry").await.unwrap();
    let nested = session.begin().await.unwrap();
    let mut stream = nested.stream_raw(many()).await.unwrap();
    stream.try_next().await.unwrap().unwrap();
    refused(session.commit().await.unwrap_err());
    drop(stream);
    drop(nested);
    assert_eq!(entries(&pg).await, 2);
}

#[tokio::test]
async fn a_copy_that_is_fed_by_its_own_session_ends_with_an_error() {
    let (database, _pg) = counter().await;
    let pg = database.pg_with(&["pool_timeout: 2s"]);
    pg.execute_unprepared("CREATE TABLE copied (n bigint)").await.unwrap();
    let session = pg.session().await.unwrap();
    let rows = futures_util::stream::iter(0..3).then(async |_| {
        session.execute_unprepared("SELECT 1").await.map(|done| done.rows_affected() as i64)
    });
    let error = session.copy_in_named("copied", ["n"]).stream(rows).await.unwrap_err();
    assert!(error.to_string().contains("is busy with a stream or a copy"), "{error}");
    session.rollback().await.unwrap();
}

#[tokio::test]
async fn a_statement_dropped_half_way_leaves_the_session_usable() {
    let (_database, pg) = counter().await;
    let session = pg.session().await.unwrap();
    let slow = session.execute_unprepared("SELECT pg_sleep(0.2)");
    tokio::time::timeout(Duration::from_millis(20), slow).await.unwrap_err();
    session.execute_unprepared(ADD).await.unwrap();
    session.commit().await.unwrap();
    assert_eq!(entries(&pg).await, 1);
}

#[tokio::test]
async fn settings_hold_for_the_session_alone() {
    let (_database, pg) = counter().await;
    let show = async |db: &wharf::Session, setting: &str| {
        let sql = format!("SELECT current_setting('{setting}', true)");
        let row = db.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await;
        row.unwrap().unwrap().try_get_by_index::<Option<String>>(0).unwrap()
    };
    for session in [pg.session(), pg.session().read_only()] {
        let session = session
            .set_local("statement_timeout", "5s")
            .set_local("search_path", "elsewhere, public")
            .set_local("app.tenant", "it's \\ 7")
            .await
            .unwrap();
        assert_eq!(show(&session, "statement_timeout").await.as_deref(), Some("5s"));
        assert_eq!(show(&session, "search_path").await.as_deref(), Some("elsewhere, public"));
        assert_eq!(show(&session, "app.tenant").await.as_deref(), Some("it's \\ 7"));
        if session.is_read_only() {
            // Sealed as without settings.
            session.execute_unprepared("SET TRANSACTION READ WRITE").await.unwrap_err();
            session.rollback().await.unwrap();
        } else {
            session.commit().await.unwrap();
        }
    }
    let session = pg.session().await.unwrap();
    assert_eq!(show(&session, "statement_timeout").await.as_deref(), Some("0"));
    assert_ne!(show(&session, "app.tenant").await.as_deref(), Some("it's \\ 7"));
    drop(session);
    let error = pg.session().set_local("no_such_setting", "1").await.unwrap_err();
    assert_eq!(error.sqlstate().as_deref(), Some("42704"), "{error}");
    assert_eq!(entries(&pg).await, 0);
}

#[tokio::test]
async fn hooks_run_once_the_commit_is_known_and_only_then() {
    let (_database, pg) = counter().await;
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let tell = |what: &'static str| {
        let told = told.clone();
        move || told.send(what).unwrap()
    };
    let session = pg.session().await.unwrap();
    session.after_commit(tell("outermost"));
    let nested = session.begin().await.unwrap();
    nested.after_commit(tell("nested and kept"));
    nested.commit().await.unwrap();
    let nested = session.begin().await.unwrap();
    nested.after_commit(tell("nested and rolled back"));
    nested.rollback().await.unwrap();
    let nested = session.begin().await.unwrap();
    nested.after_commit(tell("nested and dropped"));
    drop(nested);
    session.after_commit(tell("last"));
    assert!(heard.try_recv().is_err());
    session.commit().await.unwrap();
    for expected in ["outermost", "nested and kept", "last"] {
        assert_eq!(heard.try_recv(), Ok(expected));
    }
    assert!(heard.try_recv().is_err());

    let session = pg.session().await.unwrap();
    session.after_commit(tell("rolled back"));
    session.rollback().await.unwrap();
    let session = pg.session().await.unwrap();
    session.after_commit(tell("failed"));
    session.execute_unprepared("SELECT 1 / 0").await.unwrap_err();
    session.commit().await.unwrap_err();
    assert!(heard.try_recv().is_err());
}

#[tokio::test]
async fn a_session_that_asks_for_no_access_mode_has_the_servers_default() {
    let (database, pg) = counter().await;
    let name = &database.name;
    let read_only = format!("ALTER DATABASE {name} SET default_transaction_read_only = on");
    pg.execute_unprepared(&read_only).await.unwrap();
    let pg = database.pg().await;
    let session = pg.session().await.unwrap();
    session.execute_unprepared(ADD).await.unwrap_err();
    drop(session);
    let session = pg.begin_with_config(None, Some(AccessMode::ReadWrite)).await.unwrap();
    session.execute_unprepared(ADD).await.unwrap();
    session.commit().await.unwrap();
    assert_eq!(entries(&pg).await, 1);
}
