//! What is wrong is told by its own name, within the configured time, without a secret.

use std::time::{Duration, Instant};

use futures_util::TryFutureExt;
use sea_orm::{ConnectionTrait, TransactionTrait};
use wharf::{ConnectErrorKind, Error, Manager, Pg, config::Config};

use crate::support::{TestDatabase, config, native_server, server_address};

const PASSWORD: &str = "hunter2-would-be-seen";

async fn connect_error(pg: &Pg) -> (ConnectErrorKind, String) {
    let started = Instant::now();
    let error = Error::from(pg.execute_unprepared("SELECT 1").await.unwrap_err());
    assert!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());
    let debug = format!("{error:?}");
    let Error::Connect(error) = error else { panic!("{error}") };
    let text = error.to_string();
    assert!(!text.contains(PASSWORD) && !debug.contains(PASSWORD), "{text} {debug}");
    (error.kind, text)
}

fn entry(more: &str) -> Pg {
    let yaml = format!(
        "databases:\n  orders:\n    pool_timeout: 3\n    connect_timeout: 1\n    \
         password: {PASSWORD}\n{more}"
    );
    Manager::from_config(config(&yaml)).db("orders").unwrap()
}

#[tokio::test]
async fn a_database_that_nobody_listens_for() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let pg =
        entry(&format!("    host: 127.0.0.1\n    port: {port}\n    database: d\n    user: u\n"));
    let (kind, text) = connect_error(&pg).await;
    assert_eq!(kind, ConnectErrorKind::Unreachable, "{text}");
    assert!(text.contains("`orders`") && text.contains(&format!("u@127.0.0.1:{port}/d")), "{text}");
    assert!(text.contains("check that the server is running"), "{text}");
    // Many at once are told the same, none of them that the pool was used up.
    let waiters = (0..40).map(|_| connect_error(&pg));
    for (kind, text) in futures_util::future::join_all(waiters).await {
        assert_eq!(kind, ConnectErrorKind::Unreachable, "{text}");
    }
}

#[tokio::test]
async fn a_refused_connection_has_the_servers_hint() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["settings: {work_mem: 1XB}"]);
    let (_, text) = connect_error(&pg).await;
    assert!(text.contains("hint: Valid units for this parameter are"), "{text}");
}

/// The server says what to do where row-level security would hide rows; each way to it keeps that.
#[tokio::test]
async fn the_servers_hint_is_in_the_text_of_each_error() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["settings: {row_security: off}"]);
    let owner = database.role("owner", "").await;
    pg.execute_unprepared(&format!(
        "CREATE TABLE secret (n int); ALTER TABLE secret ENABLE ROW LEVEL SECURITY;
         ALTER TABLE secret FORCE ROW LEVEL SECURITY; ALTER TABLE secret OWNER TO {owner}"
    ))
    .await
    .unwrap();
    let read = format!("SET LOCAL ROLE {owner}; SELECT * FROM secret");
    let session = pg.session().await.unwrap();
    let error = Error::from(session.execute_unprepared(&read).await.unwrap_err());
    let hint = error.hint().expect("the server has one").to_owned();
    assert!(error.to_string().ends_with(&format!("; hint: {hint}")), "{error}");
    drop(session);
    let run = pg.session().run(async |s| s.execute_unprepared(&read).await.map_err(Error::from));
    assert!(run.await.unwrap_err().to_string().contains(&hint));
    let session = pg.session().await.unwrap();
    session.execute_unprepared(&format!("SET LOCAL ROLE {owner}")).await.unwrap();
    let copied = session.copy_in_named("secret", ["n"]).rows([1, 2]).await.unwrap_err().to_string();
    assert!(copied.contains("hint: "), "{copied}");
}

#[tokio::test]
async fn an_address_that_was_never_reached_is_told_at_once() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://u@127.0.0.1:{port}/d");
    let config = wharf::config::DatabaseConfig::from_url(&url).unwrap();
    let started = Instant::now();
    let error = Pg::from_config("d", config).session().await.unwrap_err();
    assert!(matches!(error, Error::Connect(_)), "{error}");
    // Far sooner than pool_timeout, which is 30 s.
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_name_that_does_not_resolve() {
    let pg = entry("    host: no-such-host.invalid\n    database: d\n    user: u\n");
    let (kind, text) = connect_error(&pg).await;
    assert_eq!(kind, ConnectErrorKind::Unreachable, "{text}");
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let pg = entry(&format!(
        "    host: 127.0.0.1\n    port: {port}\n    database: d\n    user: u\n    pool_size: 1\n    \
         max_overflow: 0\n"
    ));
    let (kind, text) = connect_error(&pg).await;
    assert_eq!(kind, ConnectErrorKind::Timeout, "{text}");
    // Those who wait behind the one that connects are not told of a pool that is too small.
    let waiters = (0..4).map(|_| connect_error(&pg));
    for (kind, text) in futures_util::future::join_all(waiters).await {
        assert_eq!(kind, ConnectErrorKind::Timeout, "{text}");
    }
}

#[tokio::test]
async fn a_wrong_password() {
    let server = native_server("wrong-password");
    let endpoint = server.start().await.unwrap();
    let pg = entry(&format!(
        "    host: {}\n    port: {}\n    database: postgres\n    user: {}\n",
        endpoint.host, endpoint.port, endpoint.user
    ));
    let (kind, text) = connect_error(&pg).await;
    assert_eq!(kind, ConnectErrorKind::Authentication, "{text}");
    assert!(text.contains("check user and password"), "{text}");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_database_that_does_not_exist() {
    let database = TestDatabase::new().await;
    let url = database.url().replace(&database.name, "no_such_database");
    let error = Pg::from_url(&url).await.unwrap_err();
    let Error::Connect(error) = error else { panic!("{error}") };
    assert_eq!(error.kind, ConnectErrorKind::NoSuchDatabase, "{error}");
    assert!(error.to_string().contains("no_such_database"), "{error}");
}

#[tokio::test]
async fn more_connections_than_the_server_takes() {
    let database = TestDatabase::new().await;
    let admin = database.pg().await;
    let options = format!("PASSWORD '{PASSWORD}' CONNECTION LIMIT 1");
    let role = database.role("few", &options).await;
    let (host, port) = server_address().await;
    let pg = entry(&format!(
        "    host: {host}\n    port: {port}\n    database: {}\n    user: {role}\n",
        database.name
    ));
    let held = pg.session().await.unwrap();
    let (kind, text) = connect_error(&pg).await;
    assert_eq!(kind, ConnectErrorKind::TooManyConnections, "{text}");
    drop(held);
    pg.close().await.unwrap();
    admin.execute_unprepared(&format!("DROP ROLE {role}")).await.unwrap();
}

#[tokio::test]
async fn tls_that_the_server_does_not_speak() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["ssl_mode: require", "connect_timeout: 2"]);
    let error = Error::from(pg.execute_unprepared("SELECT 1").await.unwrap_err());
    let Error::Connect(error) = error else { panic!("{error}") };
    assert_eq!(error.kind, ConnectErrorKind::Tls, "{error}");
}

#[tokio::test]
async fn a_database_that_the_file_does_not_name() {
    let database = TestDatabase::new().await;
    let manager = Manager::from_config(database.config(&[]));
    let error = manager.db("its").unwrap_err();
    assert_eq!(error.to_string(), "no database is named `its`; the nearest is `it`");
    let error = manager.db("orders").unwrap_err();
    assert_eq!(error.to_string(), "no database is named `orders`; the file has it");
}

#[tokio::test]
async fn a_file_that_is_not_there_or_is_not_yaml() {
    let error = Manager::open("no/such/infra.yaml").await.unwrap_err();
    assert!(matches!(error, Error::Config(_)), "{error}");
    assert!(error.to_string().contains("no/such/infra.yaml"), "{error}");
    let error = Config::loader("it.yaml").text("databases: [").env([]).load().unwrap_err();
    assert!(error.to_string().contains("it.yaml"), "{error}");
}

#[tokio::test]
async fn a_statements_error_keeps_the_shape_that_seaorm_gives_it() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let error = pg.execute_unprepared("SELECT 1 / 0").await.unwrap_err();
    assert!(matches!(
        &error,
        sea_orm::DbErr::Exec(sea_orm::RuntimeErr::SqlxError(inner))
            if inner.as_database_error().is_some()
    ));
    assert!(Error::of(&error).is_none());
    let error = Error::from(error);
    assert_eq!(error.sqlstate().as_deref(), Some("22012"));
    assert!(!error.is_retryable());
    let statement = |sql: &'static str| pg.execute_unprepared(sql).map_err(Error::from);
    pg.execute_unprepared(
        "CREATE TABLE one (id int CONSTRAINT one_key PRIMARY KEY CHECK (id < 9), name text NOT NULL);
         CREATE TABLE two (id int REFERENCES one);
         CREATE TABLE three (span int4range, EXCLUDE USING gist (span WITH &&));
         INSERT INTO one VALUES (1, 'a'); INSERT INTO three VALUES ('[1,5]')",
    )
    .await
    .unwrap();
    let error = statement("INSERT INTO one VALUES (1, 'a')").await.unwrap_err();
    assert!(error.is_unique_violation(), "{error}");
    assert_eq!((error.constraint(), error.table()), (Some("one_key"), Some("one")));
    assert_eq!(error.detail(), Some("Key (id)=(1) already exists."));
    let Error::Db(inner) = &error else { panic!("{error}") };
    assert!(matches!(inner.sql_err(), Some(sea_orm::SqlErr::UniqueConstraintViolation(_))));
    let error = statement("SELECT lenght('a')").await.unwrap_err();
    let hint = error.hint().unwrap().to_owned();
    assert!(error.to_string().ends_with(&format!("; hint: {hint}")), "{error}");
    // Not the line of PostgreSQL's own source.
    assert!(!error.to_string().contains(" at line "), "{error}");
    let error = statement("INSERT INTO one (id) VALUES (2)").await.unwrap_err();
    assert_eq!((error.column(), error.hint()), (Some("name"), None));
    assert!(!error.to_string().contains(" at line "), "{error}");
    let error = statement("INSERT INTO two VALUES (7)").await.unwrap_err();
    assert!(error.is_foreign_key_violation(), "{error}");
    let error = statement("INSERT INTO one VALUES (9, 'a')").await.unwrap_err();
    assert!(error.is_check_violation(), "{error}");
    let error = statement("INSERT INTO one VALUES (2, NULL)").await.unwrap_err();
    assert!(error.is_not_null_violation(), "{error}");
    let error = statement("INSERT INTO three VALUES ('[4,6]')").await.unwrap_err();
    assert!(error.is_exclusion_violation(), "{error}");
    let canceled = "SET LOCAL statement_timeout = 1; SELECT pg_sleep(1)";
    assert!(statement(canceled).await.unwrap_err().is_query_canceled());
    let holder = pg.session().await.unwrap();
    holder.execute_unprepared("LOCK TABLE one").await.unwrap();
    let error = statement("SET LOCAL lock_timeout = 1; SELECT * FROM one").await.unwrap_err();
    assert!(error.is_lock_not_available(), "{error}");
    holder.rollback().await.unwrap();
    let session = pg.session().read_only().await.unwrap();
    let error = session.execute_unprepared("DELETE FROM two").await.unwrap_err();
    assert!(Error::from(error).is_read_only_violation());
    let error = pg.read_only().begin_with_config(None, Some(sea_orm::AccessMode::ReadWrite)).await;
    assert!(Error::from(error.unwrap_err()).is_read_only_violation());
    let retryable = pg
        .execute_unprepared("DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$")
        .await
        .unwrap_err();
    assert!(Error::from(retryable).is_retryable());
}

/// A log keeps every line of it.
#[tokio::test]
async fn an_error_as_long_as_a_table_is_cut() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let raise = "DO $$ BEGIN RAISE EXCEPTION '%', repeat('ä', 5000000) USING HINT = repeat('h', 5000000); END $$";
    let error = Error::from(pg.execute_unprepared(raise).await.unwrap_err());
    let said = error.to_string();
    assert!(said.len() < 20_000, "{} bytes", said.len());
    assert!(said.contains("ä… (100") && said.contains("h… (5000000 bytes)"), "{said}");
    assert_eq!(error.hint().map(str::len), Some(5_000_000));
}
