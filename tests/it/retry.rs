//! A transaction that others got in the way of is run again, and no other.

use std::sync::atomic::{AtomicU32, Ordering};

use sea_orm::{ConnectionTrait, DbBackend, DbErr, IsolationLevel, Statement};
use wharf::{Error, Pg, Session};

use crate::{
    proxy::{Proxy, Trap},
    support::{TestDatabase, cut_at_commit, number, until},
};

async fn stock() -> (TestDatabase, Pg) {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    pg.execute_unprepared(
        "CREATE TABLE stock (item int PRIMARY KEY, amount int NOT NULL CHECK (amount >= 0));
         INSERT INTO stock VALUES (1, 100)",
    )
    .await
    .unwrap();
    (database, pg)
}

/// Takes one out of the stock, and has somebody else take one in between.
async fn take_one_while_another_does(s: &Session, pg: &Pg) -> Result<(), DbErr> {
    number(s, "SELECT amount::bigint FROM stock").await;
    pg.execute_unprepared("UPDATE stock SET amount = amount - 1").await?;
    s.execute_unprepared("UPDATE stock SET amount = amount - 1").await?;
    Ok(())
}

#[tokio::test]
async fn a_serialization_failure_runs_the_closure_again() {
    let (_database, pg) = stock().await;
    let calls = AtomicU32::new(0);
    pg.session()
        .isolation(IsolationLevel::RepeatableRead)
        .retry(3)
        .run(async |s| match calls.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => take_one_while_another_does(s, &pg).await,
            _ => s.execute_unprepared("UPDATE stock SET amount = amount - 1").await.map(|_| ()),
        })
        .await
        .unwrap();
    assert_eq!(calls.into_inner(), 3);
    assert_eq!(number(&pg, "SELECT amount::bigint FROM stock").await, 97);
}

#[tokio::test]
async fn the_number_of_attempts_is_bounded() {
    let (_database, pg) = stock().await;
    let calls = AtomicU32::new(0);
    let error = pg
        .session()
        .isolation(IsolationLevel::RepeatableRead)
        .retry(2)
        .run(async |s| {
            calls.fetch_add(1, Ordering::Relaxed);
            take_one_while_another_does(s, &pg).await
        })
        .await
        .unwrap_err();
    assert_eq!(calls.into_inner(), 3);
    let error = Error::from(error);
    assert!(error.is_retryable(), "{error}");
}

#[tokio::test]
async fn what_counts_is_the_statement_not_what_the_closure_makes_of_it() {
    let (_database, pg) = stock().await;
    let calls = AtomicU32::new(0);
    pg.session()
        .isolation(IsolationLevel::RepeatableRead)
        .retry(1)
        .run(async |s| match calls.fetch_add(1, Ordering::Relaxed) {
            0 => take_one_while_another_does(s, &pg)
                .await
                .map_err(|_| DbErr::Custom("the shop is busy".to_owned())),
            _ => Ok(()),
        })
        .await
        .unwrap();
    assert_eq!(calls.into_inner(), 2);
}

#[tokio::test]
async fn a_connection_lost_before_the_commit_runs_the_closure_again() {
    let (_database, pg) = stock().await;
    let calls = AtomicU32::new(0);
    pg.session()
        .retry(1)
        .run(async |s| {
            s.execute_unprepared("UPDATE stock SET amount = amount - 1").await?;
            if calls.fetch_add(1, Ordering::Relaxed) == 0 {
                s.execute_unprepared("SELECT pg_terminate_backend(pg_backend_pid())").await?;
            }
            Ok::<_, DbErr>(())
        })
        .await
        .unwrap();
    assert_eq!(calls.into_inner(), 2);
    assert_eq!(number(&pg, "SELECT amount::bigint FROM stock").await, 99);
}

#[tokio::test]
async fn any_other_failure_is_told_at_once() {
    let (_database, pg) = stock().await;
    let calls = AtomicU32::new(0);
    let error = pg
        .session()
        .retry(5)
        .run(async |s| {
            calls.fetch_add(1, Ordering::Relaxed);
            s.execute_unprepared("INSERT INTO stock VALUES (1, 1)").await
        })
        .await
        .unwrap_err();
    assert_eq!(calls.into_inner(), 1);
    let error = Error::from(error);
    assert!(error.is_unique_violation(), "{error}");
    assert_eq!((error.constraint(), error.table()), (Some("stock_pkey"), Some("stock")));
    let check = pg.execute_unprepared("UPDATE stock SET amount = -1").await.unwrap_err();
    assert!(Error::from(check).is_check_violation());
}

#[tokio::test]
async fn a_commit_of_unknown_outcome_is_never_repeated() {
    let (_database, pg) = stock().await;
    cut_at_commit(&pg, "stock").await;
    let calls = AtomicU32::new(0);
    let error: Error = pg
        .session()
        .retry(5)
        .run(async |s| {
            calls.fetch_add(1, Ordering::Relaxed);
            s.execute_unprepared("UPDATE stock SET amount = amount - 1").await?;
            Ok(())
        })
        .await
        .unwrap_err();
    assert_eq!(calls.into_inner(), 1);
    assert!(matches!(error, Error::CommitUnknown { .. }), "{error}");
}

#[tokio::test]
async fn a_conflict_whose_error_was_passed_over_runs_the_closure_again() {
    let (_database, pg) = stock().await;
    let calls = AtomicU32::new(0);
    let run = pg.session().isolation(IsolationLevel::RepeatableRead).retry(3);
    run.run(async |s| match calls.fetch_add(1, Ordering::Relaxed) {
        0 => {
            take_one_while_another_does(s, &pg).await.unwrap_err();
            Ok(())
        }
        _ => s.execute_unprepared("UPDATE stock SET amount = amount - 1").await.map(|_| ()),
    })
    .await
    .unwrap();
    assert_eq!(calls.into_inner(), 2);
    assert_eq!(number(&pg, "SELECT amount::bigint FROM stock").await, 98);
}

#[tokio::test]
async fn a_session_that_the_server_ended_while_it_idled_is_known_not_to_be_kept_and_runs_again() {
    let (database, pg) = stock().await;
    let other = database.pg().await;
    let calls = AtomicU32::new(0);
    let work = async |s: &Session| {
        s.execute_unprepared("UPDATE stock SET amount = amount - 1").await?;
        if calls.fetch_add(1, Ordering::Relaxed) == 0 {
            let pid = number(s, "SELECT pg_backend_pid()::bigint").await;
            s.execute_unprepared("SET LOCAL idle_in_transaction_session_timeout = '10ms'").await?;
            let still = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
            until("it is ended", async || number(&other, &still).await == 0).await;
        }
        Ok::<_, Error>(())
    };
    let error = pg.session().run(work).await.unwrap_err();
    assert_eq!(error.sqlstate().as_deref(), Some("25P03"), "{error}");
    assert!(error.is_retryable());
    calls.store(0, Ordering::Relaxed);
    pg.session().retry(1).run(work).await.unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    assert_eq!(number(&pg, "SELECT amount::bigint FROM stock").await, 99);
}

#[tokio::test]
async fn a_connection_that_is_lost_before_its_commit_was_sent_runs_again() {
    let (database, _) = stock().await;
    let proxy = Proxy::start().await;
    let pg = proxy.pg(&database, &["pool_size: 1", "max_overflow: 0"]);
    let calls = AtomicU32::new(0);
    let run = pg.session().retry(1).run(async |s| {
        let change = "UPDATE stock SET amount = amount - 1";
        s.execute_unprepared(change).await?;
        // It is rolled back as the first thing of the commit.
        let nested = s.begin().await?;
        nested.execute_unprepared(change).await?;
        if calls.fetch_add(1, Ordering::Relaxed) == 0 {
            proxy.trap("ROLLBACK TO", Trap::ResetBefore);
        }
        Ok::<_, Error>(())
    });
    run.await.unwrap();
    assert_eq!(calls.into_inner(), 2);
    assert_eq!(number(&pg, "SELECT amount::bigint FROM stock").await, 99);
}

#[tokio::test]
async fn more_binds_than_the_protocol_counts_are_refused_with_what_to_use() {
    let (database, _) = stock().await;
    let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0"]);
    let connection = number(&pg, "SELECT pg_backend_pid()::bigint").await;
    let many = |count: usize| {
        let binds: Vec<String> = (1..=count).map(|n| format!("${n}")).collect();
        let sql = format!("SELECT 1 WHERE 0 IN ({})", binds.join(", "));
        Statement::from_sql_and_values(DbBackend::Postgres, sql, (1..=count as i32).map(Into::into))
    };
    assert_eq!(pg.query_all_raw(many(65_535)).await.unwrap().len(), 0);
    let calls = AtomicU32::new(0);
    let run = pg.session().retry(3).run(async |s| {
        calls.fetch_add(1, Ordering::Relaxed);
        s.query_all_raw(many(65_536)).await
    });
    let error = run.await.unwrap_err().to_string();
    assert!(error.contains("65536 binds") && error.contains("= ANY($1)"), "{error}");
    assert_eq!(calls.into_inner(), 1);
    assert_eq!(number(&pg, "SELECT pg_backend_pid()::bigint").await, connection);
}
