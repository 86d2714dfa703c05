//! The statements on which the most time was spent.

use std::time::{Duration, SystemTime};

use sea_orm::{ConnectionTrait, DbBackend, Statement};
use wharf::monitor::TopStatement;

use crate::support::{TestDatabase, number};

fn sleeps(milliseconds: u32) -> Statement {
    let sql = "SELECT pg_sleep($1)::text AS slept";
    let seconds = f64::from(milliseconds) / 1000.0;
    Statement::from_sql_and_values(DbBackend::Postgres, sql, [seconds.into()])
}

#[tokio::test]
async fn figures_add_up_by_kind() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&[]);
    let before = SystemTime::now();
    for milliseconds in [1, 1, 1, 1, 1, 1, 1, 1, 1, 120] {
        pg.query_one_raw(sleeps(milliseconds)).await.unwrap();
    }
    pg.execute_unprepared("SELECT 1/0").await.unwrap_err();
    for n in 1..=3 {
        let sql = format!("SELECT n::bigint FROM generate_series(1, {n}) AS g (n)");
        pg.query_all_raw(Statement::from_string(DbBackend::Postgres, sql)).await.unwrap();
    }
    let top = pg.monitor().top(10);
    assert_eq!(top.statements.len(), 3, "{top}");
    let slept = &top.statements[0];
    assert_eq!(slept.digest.text(), "SELECT pg_sleep($1)::text AS slept");
    let TopStatement { calls, errors, rows, total, mean, p50, p95, p99, max, .. } = slept;
    assert_eq!((*calls, *errors, *rows), (10, 0, 10));
    let ms = Duration::from_millis;
    assert!(*max >= ms(120) && *p99 == *max && *p95 >= ms(119), "{slept:?}");
    assert!(*p50 >= ms(1) && *p50 < ms(60), "{slept:?}");
    assert!(*total >= ms(129) && *mean >= ms(12) && *mean <= *total / 10, "{slept:?}");
    assert!(slept.last_seen >= before && slept.last_seen <= SystemTime::now(), "{slept:?}");
    let divided = top.statements.iter().find(|one| one.digest.text() == "SELECT ?/?").unwrap();
    assert_eq!((divided.calls, divided.errors), (1, 1));
    let series = top.statements.iter().find(|one| one.rows == 6).unwrap();
    assert_eq!(series.calls, 3);
    // The clones and views share them.
    assert_eq!(pg.read_only().clone().monitor().top(10).statements.len(), 3);
    assert_eq!(pg.monitor().top(1).statements.len(), 1);
    pg.monitor().reset();
    assert!(pg.monitor().top(10).statements.is_empty());
    number(&pg, "SELECT 1::bigint").await;
    assert_eq!(pg.monitor().top(10).statements[0].calls, 1);
}

#[tokio::test]
async fn what_was_forgotten_is_counted_anew_on_every_connection() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&[]);
    let (first, second) = (pg.session().await.unwrap(), pg.session().await.unwrap());
    number(&first, "SELECT 1::bigint").await;
    pg.monitor().reset();
    // To the second connection it is new; the first one remembers what was forgotten.
    number(&second, "SELECT 1::bigint").await;
    number(&first, "SELECT 1::bigint").await;
    number(&first, "SELECT 1::bigint").await;
    let top = pg.monitor().top(10);
    assert_eq!(top.statements.len(), 1, "{top}");
    assert_eq!(top.statements[0].calls, 3);
}

#[tokio::test]
async fn they_are_printed_as_a_table() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&[]);
    pg.query_one_raw(sleeps(30)).await.unwrap();
    let columns: Vec<_> = (0..60).map(|n| format!("{n} AS column_{n}")).collect();
    pg.execute_unprepared(&format!("SELECT {}", columns.join(", "))).await.unwrap();
    let printed = pg.monitor().top(10).to_string();
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines.len(), 3, "{printed}");
    for head in ["total", "calls", "mean", "p95", "p99", "max", "rows", "errors", "fingerprint"] {
        assert!(lines[0].contains(head), "{printed}");
    }
    assert!(lines[1].ends_with("SELECT pg_sleep($1)::text AS slept"), "{printed}");
    assert!(lines[2].ends_with('…') && lines[2].chars().count() < 240, "{printed}");
}

#[tokio::test]
async fn many_kinds_take_no_more_room_than_a_few_and_the_costly_ones_stay() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["monitor: {top_statements: 50}"]);
    for _ in 0..3 {
        pg.query_one_raw(sleeps(40)).await.unwrap();
    }
    let session = pg.session().await.unwrap();
    for n in 0..20_000 {
        let sql = format!("SELECT 1 AS a{n}");
        session.execute_unprepared(&sql).await.unwrap();
    }
    drop(session);
    let top = pg.monitor().top(1_000);
    assert!(top.statements.len() <= 50, "{}", top.statements.len());
    assert_eq!(top.statements[0].digest.text(), "SELECT pg_sleep($1)::text AS slept");
    assert_eq!(top.statements[0].calls, 3);
    // Nothing is lost: what made room is summed up.
    let kept: u64 = top.statements.iter().map(|one| one.calls).sum();
    assert_eq!(kept + top.evicted.calls, 3 + 20_000 + 2);
    assert!(top.to_string().contains("other kinds, evicted"), "{top}");
}

/// Which statements of the server's own list are wharf's is in their text, for `wharf top`.
#[tokio::test]
async fn a_clean_up_is_no_statement_of_the_callers() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0"]);
    pg.execute_unprepared("CREATE TEMPORARY TABLE left_over (n int)").await.unwrap();
    let session = pg.session().await.unwrap();
    session.execute_unprepared("SET work_mem = '5MB'").await.unwrap();
    session.execute_unprepared("SELECT 1/0").await.unwrap_err();
    drop(session);
    // One connection: it comes once it is cleaned up.
    assert_eq!(
        number(&pg, "SELECT count(*) FROM pg_tables WHERE tablename = 'left_over'").await,
        0
    );
    let top = pg.monitor().top(20);
    let mut texts: Vec<_> = top.statements.iter().map(|one| one.digest.text()).collect();
    texts.sort_unstable();
    assert_eq!(
        texts,
        [
            "BEGIN",
            "CREATE TEMPORARY TABLE left_over (n int)",
            "ROLLBACK",
            "SELECT ?/?",
            "SELECT count(*) FROM pg_tables WHERE tablename = ?",
            "SET work_mem = ?",
        ]
    );
}
