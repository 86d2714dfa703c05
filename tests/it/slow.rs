//! A slow statement is found: from the log line to the plan.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult, Statement};

use crate::support::{Log, TestDatabase, number, until};

fn sleeps(seconds: f64, secret: &str) -> Statement {
    let sql = "SELECT count(*) FROM generate_series(1, 3), pg_sleep($1) WHERE $2 <> 'x'";
    Statement::from_sql_and_values(DbBackend::Postgres, sql, [seconds.into(), secret.into()])
}

#[tokio::test]
async fn one_line_says_what_it_was_and_where_it_came_from() {
    let (log, _guard) = Log::of_this_thread();
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["monitor: {slow_statement_threshold: 150ms}"]);
    number(&pg, "SELECT 1::bigint").await;
    assert_eq!(log.times("slow statement"), 0);
    let session = pg.session().await.unwrap();
    let place = format!("opened_at={}:{}", file!(), line!() - 1);
    session.query_one_raw(sleeps(0.2, "hunter2")).await.unwrap();
    session.commit().await.unwrap();
    let lines = log.lines("slow statement: ");
    assert_eq!(lines.len(), 1, "{}", log.text());
    let top = pg.monitor().top(1);
    let slow = &top.statements[0];
    for said in [
        "WARN",
        "slow statement: SELECT count(*) FROM generate_series(?, ...), pg_sleep($1) WHERE $2 <> ?",
        "database=it ",
        &format!("fingerprint={}", slow.digest.fingerprint()),
        "elapsed=2",
        "rows=1",
        "in_transaction=true",
        &place,
    ] {
        assert!(lines[0].contains(said), "{said} in {}", lines[0]);
    }
    // Values may be secrets.
    assert!(!log.text().contains("hunter2"), "{}", log.text());
    assert_eq!((slow.slow, slow.calls), (1, 1));
}

#[tokio::test]
async fn what_has_no_session_has_the_place_of_its_scope() {
    let (log, _guard) = Log::of_this_thread();
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["monitor: {slow_statement_threshold: 50ms}"]);
    wharf::scope(pg.query_one_raw(sleeps(0.1, ""))).await.unwrap();
    let place = format!("opened_at={}:{}", file!(), line!() - 1);
    assert!(log.lines("slow statement: ")[0].contains(&place), "{}", log.text());
}

#[tokio::test]
async fn values_are_shown_to_whoever_asked_for_them() {
    let (log, _guard) = Log::of_this_thread();
    let database = TestDatabase::new().await;
    let pg =
        database.pg_with(&["monitor: {slow_statement_threshold: 50ms, log_bind_values: true}"]);
    pg.query_one_raw(sleeps(0.1, "hunter2")).await.unwrap();
    let lines = log.lines("slow statement: ");
    assert!(lines[0].contains("hunter2") && lines[0].contains("0.1"), "{lines:?}");
}

#[tokio::test]
async fn a_failed_and_a_dropped_one_are_logged_too() {
    let (log, _guard) = Log::of_this_thread();
    let database = TestDatabase::new().await;
    let pg = database
        .pg_with(&["statement_timeout: 100ms", "monitor: {slow_statement_threshold: 50ms}"]);
    pg.query_one_raw(sleeps(5.0, "")).await.unwrap_err();
    assert!(log.lines("slow statement: ")[0].contains("error=\"57014\""), "{}", log.text());
    let session = pg.session().set_local("statement_timeout", "0").await.unwrap();
    let dropped = session.execute_unprepared("SELECT pg_sleep(5)");
    tokio::time::timeout(Duration::from_millis(80), dropped).await.unwrap_err();
    assert!(log.lines("slow statement: ")[1].contains("error=\"dropped\""), "{}", log.text());
}

#[tokio::test]
async fn a_burst_of_the_same_one_is_folded_and_a_burst_of_many_is_bounded() {
    let (log, _guard) = Log::of_this_thread();
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["monitor: {slow_statement_threshold: 1us}"]);
    for n in 0..100 {
        pg.execute_unprepared(&format!("SELECT {n}")).await.unwrap();
    }
    assert_eq!(log.times("slow statement: SELECT ? database"), 1, "{}", log.text());
    for n in 0..100 {
        pg.execute_unprepared(&format!("SELECT 1 AS a{n}")).await.unwrap();
    }
    assert_eq!(log.times("slow statement: "), 20);
    // When it is over, somebody says how many there were.
    until("what was folded is told", async || {
        log.times("99 more slow statements of this kind") > 0
    })
    .await;
    assert_eq!(log.times("81 more slow statements within 10s, beyond the 20 kinds"), 1);
    assert_eq!(pg.monitor().top(1000).statements.iter().map(|one| one.slow).sum::<u64>(), 200);
    // And the next one has a line of its own again.
    pg.execute_unprepared("SELECT 1").await.unwrap();
    assert_eq!(log.times("slow statement: SELECT ? database"), 2);
}

#[tokio::test]
async fn what_was_folded_is_told_when_the_database_is_dropped() {
    let (log, _guard) = Log::of_this_thread();
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["monitor: {slow_statement_threshold: 1us}"]);
    for n in 0..5 {
        pg.execute_unprepared(&format!("SELECT {n}")).await.unwrap();
    }
    assert_eq!(log.times("more slow statements"), 0);
    drop(pg);
    assert_eq!(log.times("4 more slow statements of this kind"), 1, "{}", log.text());
}

#[tokio::test]
async fn none_where_the_threshold_is_off() {
    let (log, _guard) = Log::of_this_thread();
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["monitor: {slow_statement_threshold: 0}"]);
    pg.query_one_raw(sleeps(0.6, "")).await.unwrap();
    assert_eq!(log.times("slow statement"), 0);
    assert_eq!(pg.monitor().top(1).statements[0].slow, 0);
}

#[tokio::test]
async fn its_plan_is_kept_with_the_top_statement() {
    let (log, _guard) = Log::of_this_thread();
    let database = TestDatabase::new().await;
    let monitor = "monitor: {slow_statement_threshold: 50ms, explain: true}";
    let pg = database.pg_with(&[monitor]);
    pg.execute_unprepared(
        "CREATE TABLE visit (id serial PRIMARY KEY, who text);
         INSERT INTO visit (who) SELECT 'user' || n FROM generate_series(1, 1000) n",
    )
    .await
    .unwrap();
    let slow = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT id FROM visit, pg_sleep(0.1) WHERE who = $1 AND id < $2",
        ["user17".into(), 900.into()],
    );
    pg.query_one_raw(slow.clone()).await.unwrap();
    let planned = async || {
        let top = pg.monitor().top(10);
        let slow = top.statements.iter().find(|one| one.digest.table() == Some("visit"));
        slow.filter(|one| one.digest.operation() == "SELECT").and_then(|one| one.plan.clone())
    };
    until("it is explained", async || planned().await.is_some()).await;
    let plan = planned().await.unwrap();
    assert!(plan.text.contains("on visit") && plan.text.contains("Filter: "), "{}", plan.text);
    assert!(plan.elapsed >= Duration::from_millis(100));
    assert!(!plan.text.contains("user17") && plan.text.contains("who = ?"), "{}", plan.text);
    assert_eq!(log.times("the plan of a slow statement"), 1);
    // It was explained, not run again; and not by the same connection.
    assert_eq!(log.times("slow statement: SELECT id"), 1);
    assert_eq!(pg.stats().reader.open, 1);
    // At most once a minute.
    pg.query_one_raw(slow).await.unwrap();
    assert_eq!(log.times("the plan of a slow statement"), 1);
    assert_eq!(planned().await, Some(plan));
}

#[tokio::test]
async fn plans_are_few_and_off_unless_asked_for() {
    let (log, _guard) = Log::of_this_thread();
    let database = TestDatabase::new().await;
    let select = |n: u32| {
        let sql = format!("SELECT 1 AS a{n}, pg_sleep(0.01)");
        Statement::from_string(DbBackend::Postgres, sql)
    };
    let off = database.pg_with(&["monitor: {slow_statement_threshold: 1us}"]);
    off.query_one_raw(select(0)).await.unwrap();
    let pg = database.pg_with(&["monitor: {slow_statement_threshold: 1us, explain: true}"]);
    for n in 0..10 {
        pg.query_one_raw(select(n)).await.unwrap();
    }
    until("some are explained", async || log.times("the plan of a slow") == 3).await;
    for n in 10..20 {
        pg.query_one_raw(select(n)).await.unwrap();
    }
    until("no more are under way", async || pg.stats().reader.in_use == 0).await;
    assert_eq!(log.times("the plan of a slow"), 3, "{}", log.text());
    assert_eq!(off.stats().reader.open, 0);
}

/// A plan is one of the tables that the statement read: those of its view.
#[tokio::test]
async fn a_statement_of_a_view_is_explained_in_that_view() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["monitor: {slow_statement_threshold: 50ms, explain: true}"]);
    pg.ensure_schema("tenant").await.unwrap();
    let view = pg.scoped("tenant").unwrap().with_local("app.tenant", "7");
    view.execute_unprepared("CREATE TABLE theirs (n int)").await.unwrap();
    let sql = "SELECT n FROM theirs, pg_sleep(0.1) WHERE n = current_setting('app.tenant')::int";
    let slow = Statement::from_string(DbBackend::Postgres, sql);
    view.query_all_raw(slow).await.unwrap();
    until("it is explained", async || {
        let top = pg.monitor().top(10);
        top.statements
            .iter()
            .any(|one| one.plan.as_ref().is_some_and(|plan| plan.text.contains("theirs")))
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_explained_harms_nobody() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["monitor: {slow_statement_threshold: 1us, explain: true}"]);
    let session = pg.begin().await.unwrap();
    session.execute_unprepared("CREATE TEMP TABLE mine (id bigint)").await.unwrap();
    // Nobody else sees that table.
    assert_eq!(number(&session, "SELECT count(*) FROM mine").await, 0);
    until("it was tried", async || pg.stats().reader.open == 1).await;
    session.commit().await.unwrap();
    assert!(pg.monitor().top(50).statements.iter().all(|one| one.plan.is_none()));
}

#[derive(FromQueryResult)]
struct Row {
    #[allow(dead_code)]
    id: i32,
}

#[tokio::test]
async fn a_builders_statement_is_explained_with_its_own_values() {
    use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
    let database = TestDatabase::shop().await;
    let monitor = "monitor: {slow_statement_threshold: 1us, explain: true, log_bind_values: true}";
    let pg = database.pg_with(&[monitor]);
    let found = entity::shop::customer::Entity::find()
        .filter(entity::shop::customer::Column::Name.eq("Ada the first"))
        .into_model::<Row>()
        .one(&pg)
        .await
        .unwrap();
    assert!(found.is_none());
    until("it is explained", async || {
        let top = pg.monitor().top(50);
        top.statements
            .iter()
            .any(|one| one.plan.as_ref().is_some_and(|plan| plan.text.contains("Ada the first")))
    })
    .await;
}
