//! What one borrower leaves on a connection the next one does not meet, and it costs no connection.

use sea_orm::{
    ConnectionTrait, Statement,
    sea_query::{Func, Query},
};
use wharf::Pg;

use crate::support::{TestDatabase, number, until};

fn statement(sql: &str) -> Statement {
    Statement::from_string(sea_orm::DbBackend::Postgres, sql)
}

async fn backend(db: &impl ConnectionTrait) -> i64 {
    number(db, "SELECT pg_backend_pid()::bigint").await
}

/// What a connection can carry from one borrower to the next.
async fn state(pg: &Pg) -> Vec<String> {
    // A setting of the user's own, once known, is empty, not unknown.
    let sql = "SELECT ARRAY[current_setting('search_path'), \
               coalesce(current_setting('app.tenant', true), ''), \
               current_user::text, session_user::text, \
               (SELECT count(*)::text FROM pg_class WHERE relname = 'elsewhere'), \
               (SELECT count(*)::text FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()), \
               (SELECT count(*)::text FROM pg_listening_channels()), \
               (SELECT count(*)::text FROM pg_cursors WHERE is_holdable), \
               (SELECT count(*)::text FROM pg_prepared_statements WHERE from_sql)]::text[]";
    pg.query_one_raw(statement(sql)).await.unwrap().unwrap().try_get_by_index(0).unwrap()
}

const REPAIRED: [&str; 18] = [
    "SET search_path = elsewhere",
    "SET app.tenant = '7'",
    "SELECT set_config('search_path', 'elsewhere', false)",
    "SELECT U&\"set\\005fconfig\"('search_path', 'elsewhere', false)",
    "DO $$ BEGIN PERFORM set_config('app.tenant', '7', false); END $$",
    "SET ROLE pg_monitor",
    "SET SESSION AUTHORIZATION pg_monitor",
    "CREATE TEMP TABLE elsewhere (id int)",
    "SELECT 1 AS id INTO TEMPORARY elsewhere",
    "CREATE TABLE pg_temp.elsewhere (id int)",
    "SELECT 1 AS id INTO LOCAL TEMP elsewhere",
    "SELECT pg_advisory_lock(7)",
    "UPDATE pg_settings SET setting = 'elsewhere' WHERE name = 'search_path'",
    "UPDATE U&\"pg\\005fsettings\" SET setting = 'elsewhere' WHERE name = 'search_path'",
    "SELECT sets('elsewhere')",
    "INSERT INTO kept SELECT sets('elsewhere')",
    "LISTEN elsewhere",
    "DECLARE elsewhere CURSOR WITH HOLD FOR SELECT 1",
];

const CLOSED: [&str; 4] =
    ["BEGIN", "PREPARE elsewhere AS SELECT 1", "DEALLOCATE ALL", "START TRANSACTION READ ONLY"];

/// One connection, and a function of the user's own that changes a setting.
async fn with_a_function(database: &TestDatabase) -> Pg {
    let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0"]);
    pg.execute_unprepared(
        "CREATE TABLE kept (path text); CREATE FUNCTION sets(path text) RETURNS text LANGUAGE sql \
         AS $$ SELECT set_config('search_path', path, false) $$",
    )
    .await
    .unwrap();
    pg
}

/// No list of words can say what a function does: one that is not known is cleaned up after, whoever wrote
/// the statement.
#[tokio::test]
async fn what_a_function_changed_that_a_built_statement_calls_is_gone_before_the_next() {
    let database = TestDatabase::new().await;
    let pg = with_a_function(&database).await;
    let before = state(&pg).await;
    let connection = backend(&pg).await;
    let mut calls = Query::select();
    calls.expr(Func::cust("sets").arg("elsewhere"));
    pg.query_one(&calls).await.unwrap();
    assert_eq!(state(&pg).await, before);
    let session = pg.session().await.unwrap();
    session.query_one(&calls).await.unwrap();
    session.commit().await.unwrap();
    assert_eq!(state(&pg).await, before);
    assert_eq!(backend(&pg).await, connection);
}

#[tokio::test]
async fn a_number_of_a_sequence_is_not_the_next_ones_last() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0"]);
    pg.execute_unprepared("CREATE SEQUENCE n").await.unwrap();
    assert_eq!(number(&pg, "SELECT nextval('n')").await, 1);
    let error =
        wharf::Error::from(pg.query_one_raw(statement("SELECT lastval()")).await.unwrap_err());
    assert_eq!(error.sqlstate().as_deref(), Some("55000"), "{error}");
}

/// The server counts a client that closes its socket without a word as lost.
#[tokio::test]
async fn a_connection_is_closed_as_the_protocol_asks() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let lost = "SELECT sessions_abandoned FROM pg_stat_database WHERE datname = current_database()";
    let backends =
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'closed at once'";
    for _ in 0..3 {
        let closed = database.pg_with(&["application_name: closed at once"]);
        closed.ping().await.unwrap();
        closed.close().await.unwrap();
    }
    until("the server has seen them go", async || number(&pg, backends).await == 0).await;
    assert_eq!(number(&pg, lost).await, 0);
}

#[tokio::test]
async fn what_a_raw_statement_left_is_gone_before_the_next() {
    let database = TestDatabase::new().await;
    let pg = with_a_function(&database).await;
    let before = state(&pg).await;
    for sql in REPAIRED.into_iter().chain(CLOSED) {
        let connection = backend(&pg).await;
        pg.execute_unprepared(sql).await.unwrap();
        assert_eq!(state(&pg).await, before, "{sql}");
        assert_eq!(backend(&pg).await == connection, REPAIRED.contains(&sql), "{sql}");
    }
}

#[tokio::test]
async fn what_a_built_statement_left_is_gone_before_the_next() {
    use sea_orm::sea_query::{Alias, Func, Query};
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0"]);
    let before = state(&pg).await;
    let connection = backend(&pg).await;
    let set = Func::cust(Alias::new("set_config")).arg("app.tenant").arg("7").arg(false);
    let lock = Func::cust(Alias::new("pg_advisory_lock")).arg(7);
    for left in [set, lock] {
        let left = Query::select().expr(left).to_owned();
        pg.query_one(&left).await.unwrap();
        assert_eq!(state(&pg).await, before);
        let session = pg.session().await.unwrap();
        session.query_one(&left).await.unwrap();
        session.commit().await.unwrap();
        assert_eq!(state(&pg).await, before);
    }
    assert_eq!(backend(&pg).await, connection);
}

#[tokio::test]
async fn what_a_session_left_is_gone_before_the_next_however_it_ended() {
    let database = TestDatabase::new().await;
    let pg = with_a_function(&database).await;
    let before = state(&pg).await;
    let connection = backend(&pg).await;
    for sql in REPAIRED {
        for end in ["commit", "rollback", "drop"] {
            let session = pg.session().await.unwrap();
            session.execute_unprepared(sql).await.unwrap();
            match end {
                "commit" => session.commit().await.unwrap(),
                "rollback" => session.rollback().await.unwrap(),
                _ => drop(session),
            }
            assert_eq!(state(&pg).await, before, "{sql}, {end}");
        }
    }
    assert_eq!(backend(&pg).await, connection);
}

#[tokio::test]
async fn prepared_statements_outlive_the_repair() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0"]);
    let prepared = "SELECT count(*) FROM pg_prepared_statements WHERE NOT from_sql";
    let before = number(&pg, prepared).await;
    pg.execute_unprepared("SET app.tenant = '7'").await.unwrap();
    assert_eq!(number(&pg, prepared).await, before);
}

#[tokio::test]
async fn a_repair_that_takes_too_long_costs_the_connection_and_nobody_waits_for_it() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0"]);
    let other = database.pg().await;
    let connection = backend(&pg).await;
    let slow = pg.execute_unprepared("SELECT pg_sleep(60)");
    tokio::time::timeout(std::time::Duration::from_millis(100), slow).await.unwrap_err();
    let started = std::time::Instant::now();
    assert_ne!(backend(&pg).await, connection);
    assert!(started.elapsed() < std::time::Duration::from_secs(2), "{:?}", started.elapsed());
    drop(other);
}
