//! A future that is dropped, wherever it waits, leaves nothing behind.

use std::time::{Duration, Instant};

use futures_util::TryStreamExt;
use sea_orm::{ConnectionTrait, DbErr, Statement, StreamTrait};
use wharf::{Error, Pg};

use crate::{
    proxy::Proxy,
    support::{TestDatabase, dropped_after, number, until},
};

/// How long the server may go on with a statement that nobody waits for: a second, and what a busy
/// machine may add.
const WITHIN: Duration = Duration::from_millis(1000 + 1500);

fn statement(sql: &str) -> Statement {
    Statement::from_string(sea_orm::DbBackend::Postgres, sql)
}

/// Drops what `work` makes at every place where it waits, again and again, thirty times or more; how
/// often that was.
async fn drop_everywhere<T, W>(work: impl Fn() -> W) -> u32
where
    W: Future<Output = Result<T, DbErr>>,
{
    let mut drops = 0;
    while drops < 30 {
        for times in 1.. {
            match dropped_after(times, work()).await {
                None => drops += 1,
                Some(done) => {
                    done.unwrap();
                    break;
                }
            }
        }
    }
    drops
}

async fn everything_is_as_before(pg: &Pg, other: &Pg, most: usize) {
    let deadline = Instant::now() + WITHIN;
    let active = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                  AND pid <> pg_backend_pid() AND state <> 'idle'";
    while pg.stats().writer.in_use + pg.stats().reader.in_use > 0 || number(other, active).await > 0
    {
        assert!(
            Instant::now() < deadline,
            "{:?}, {} busy",
            pg.stats(),
            number(other, active).await
        );
        tokio::task::yield_now().await;
    }
    // Every place is there, and nothing is left on any connection.
    let mut sessions = Vec::new();
    for _ in 0..most {
        sessions.push(pg.session().await.unwrap());
    }
    for session in &sessions {
        let left =
            "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'";
        assert_eq!(number(session, left).await, 0);
        let left = "SELECT count(*) FROM pg_settings WHERE source = 'session' AND name <> 'transaction_read_only'";
        assert_eq!(number(session, left).await, 0);
        assert_eq!(number(session, "SELECT count(*) FROM pg_cursors WHERE is_holdable").await, 0);
    }
}

#[tokio::test]
async fn at_every_await_of_everything() {
    let database = TestDatabase::new().await;
    let other = database.pg().await;
    other.execute_unprepared("CREATE TABLE entry (n int)").await.unwrap();
    let pg = database.pg_with(&["pool_size: 2", "max_overflow: 1", "pool_timeout: 20"]);
    let rows = "SELECT n FROM generate_series(1, 2000) n";
    let insert = "INSERT INTO entry VALUES (1)";
    let mut drops = 0;
    // Checkout, from an empty pool too.
    for _ in 0..30 {
        let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0"]);
        for times in 0..4 {
            drops += u32::from(dropped_after(times, pg.ping()).await.is_none());
        }
        pg.ping().await.unwrap();
    }
    drops += drop_everywhere(async || pg.execute_unprepared(insert).await).await;
    drops += drop_everywhere(async || pg.query_all_raw(statement(rows)).await).await;
    drops += drop_everywhere(async || pg.execute_unprepared("SET work_mem = '1MB'").await).await;
    let lock = "SELECT pg_advisory_lock(7), pg_advisory_unlock(7)";
    drops += drop_everywhere(async || pg.execute_unprepared(lock).await).await;
    drops += drop_everywhere(async || {
        pg.stream_raw(statement(rows)).await?.try_collect::<Vec<_>>().await
    })
    .await;
    // A stream that is left after its first row.
    drops += drop_everywhere(async || pg.stream_raw(statement(rows)).await?.try_next().await).await;
    for read_only in [false, true] {
        drops += drop_everywhere(async || {
            let session = pg.session().set_local("work_mem", "1MB");
            let session = if read_only { session.read_only() } else { session };
            let session = session.await?;
            session.query_all_raw(statement(rows)).await?;
            session.stream_raw(statement(rows)).await?.try_next().await?;
            if !read_only {
                session.execute_unprepared(insert).await?;
                let nested = session.begin().await?;
                nested.execute_unprepared("SET LOCAL statement_timeout = '10s'").await?;
                nested.rollback().await?;
                session.begin().await?.commit().await?;
            }
            session.commit().await
        })
        .await;
        drops += drop_everywhere(async || {
            let session = pg.session();
            let session = if read_only { session.read_only() } else { session };
            let session = session.await?;
            session.execute_unprepared("SET search_path = elsewhere").await?;
            session.rollback().await
        })
        .await;
    }
    drops += drop_everywhere(async || pg.read_only().query_one_raw(statement(rows)).await).await;
    assert!(drops >= 300, "{drops} drops");
    everything_is_as_before(&pg, &other, 3).await;
}

/// Drops `slow` as soon as the server works on it; how long it went on with that.
async fn ends_after(other: &Pg, slow: impl Future) -> Duration {
    let running = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' \
                   AND query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid() \
                   AND datname = current_database()";
    let mut slow = Box::pin(slow);
    loop {
        let _ = tokio::time::timeout(Duration::from_millis(20), &mut slow).await;
        if number(other, running).await == 1 {
            break;
        }
    }
    drop(slow);
    let dropped = Instant::now();
    while number(other, running).await > 0 {
        assert!(dropped.elapsed() < WITHIN, "it still runs");
    }
    dropped.elapsed()
}

#[tokio::test]
async fn the_server_stops_working_on_it_within_a_second() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["pool_size: 2", "max_overflow: 0"]);
    let other = database.pg().await;
    let slow = "SELECT pg_sleep(60)";
    ends_after(&other, pg.execute_unprepared(slow)).await;
    ends_after(&other, pg.query_one_raw(statement(slow))).await;
    ends_after(&other, async { pg.stream_raw(statement(slow)).await?.try_next().await }).await;
    ends_after(&other, async { pg.session().await?.execute_unprepared(slow).await }).await;
    // In a session that is still there: nothing more can run in it, and it says so.
    let session = pg.session().await.unwrap();
    ends_after(&other, session.query_one_raw(statement(slow))).await;
    let error = Error::from(session.execute_unprepared("SELECT 1").await.unwrap_err());
    assert!(matches!(error, Error::StatementAbandoned { .. }), "{error}");
    let error = Error::from(session.commit().await.unwrap_err());
    assert!(matches!(error, Error::StatementAbandoned { .. }), "{error}");
    // Rolling back finds that done.
    let session = pg.session().await.unwrap();
    ends_after(&other, session.query_one_raw(statement(slow))).await;
    session.rollback().await.unwrap();
    let session = pg.session().await.unwrap();
    let slow = session.execute_unprepared(slow);
    tokio::time::timeout(Duration::from_millis(50), slow).await.unwrap_err();
    session.rollback().await.unwrap();
    everything_is_as_before(&pg, &other, 2).await;
}

#[tokio::test]
async fn the_error_of_a_dropped_statement_is_not_the_next_ones() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0"]);
    let fails = "DO $$ BEGIN PERFORM pg_sleep(0.1); RAISE 'mine'; END $$";
    let session = pg.session().await.unwrap();
    session.execute_unprepared("SAVEPOINT before").await.unwrap();
    let dropped = session.execute_unprepared(fails);
    tokio::time::timeout(Duration::from_millis(20), dropped).await.unwrap_err();
    // The transaction has failed, which is true; `mine` is not what the next one did.
    let error = Error::from(session.execute_unprepared("SELECT 1").await.unwrap_err());
    assert_eq!(error.sqlstate().as_deref(), Some("25P02"), "{error}");
    session.execute_unprepared("ROLLBACK TO before").await.unwrap();
    session.commit().await.unwrap();
    let dropped = pg.execute_unprepared(fails);
    tokio::time::timeout(Duration::from_millis(20), dropped).await.unwrap_err();
    pg.execute_unprepared("SELECT 1").await.unwrap();
}

#[tokio::test]
async fn what_was_prepared_for_nobody_does_not_stay_at_the_server() {
    const PREPARED: &str = "SELECT count(*) FROM pg_prepared_statements WHERE NOT from_sql";
    const ROUNDS: i64 = 10;
    let database = TestDatabase::new().await;
    let proxy = Proxy::start().await;
    let pg = proxy.pg(&database, &["pool_size: 1", "max_overflow: 0"]);
    pg.ping().await.unwrap();
    // So that no answer is there when it is first looked for.
    proxy.delay(Duration::from_millis(15));
    for n in 0..ROUNDS {
        // The connection is there, so what is waited for is the name under which the server keeps the statement.
        until("it is idle", async || pg.stats().writer.idle == 1).await;
        let text = format!("SELECT {n} FROM generate_series(1, 3)");
        let _ = dropped_after(1, pg.query_all_raw(statement(&text))).await;
        let session = pg.session().await.unwrap();
        let text = format!("SELECT {n} FROM generate_series(1, 4)");
        let _ = dropped_after(1, session.query_all_raw(statement(&text))).await;
        session.rollback().await.unwrap();
    }
    let kept = number(&pg, PREPARED).await;
    assert!(kept < ROUNDS, "{kept} statements, of {} that were dropped", 2 * ROUNDS);
}

#[tokio::test]
async fn one_that_ends_soon_costs_no_connection() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0"]);
    let backend = async || number(&pg, "SELECT pg_backend_pid()::bigint").await;
    let before = backend().await;
    for times in 1..4 {
        dropped_after(times, pg.query_one_raw(statement("SELECT pg_sleep(0.01)"))).await;
        dropped_after(times, async {
            pg.stream_raw(statement("SELECT generate_series(1, 500)")).await?.try_next().await
        })
        .await;
    }
    assert_eq!(backend().await, before);
}
