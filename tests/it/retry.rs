//! A transaction that others got in the way of is run again, and no other.

use std::sync::atomic::{AtomicU32, Ordering};

use sea_orm::{ConnectionTrait, DbErr, IsolationLevel};
use wharf::{Error, Pg, Session};

use crate::support::{TestDatabase, cut_at_commit, number};

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
