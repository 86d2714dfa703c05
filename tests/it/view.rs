//! Views with settings: what row-level security asks for holds for every statement of a view and for no other.

use futures_util::TryStreamExt;
use sea_orm::{ConnectionTrait, Statement, StreamTrait, TransactionTrait};
use wharf::{Error, Pg};

use crate::support::{TestDatabase, number};

const TENANT: &str =
    "SELECT coalesce(nullif(current_setting('app.tenant', true), ''), '0')::bigint";

#[tokio::test]
async fn every_statement_of_a_view_has_its_settings_and_none_is_left_for_the_next() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0"]);
    let tenant = pg.with_local("app.tenant", "7");
    assert_eq!(number(&tenant, TENANT).await, 7);
    assert_eq!(number(&pg, TENANT).await, 0);
    tenant
        .execute_unprepared("CREATE TABLE seen AS SELECT current_setting('app.tenant') t")
        .await
        .unwrap();
    assert_eq!(number(&pg, "SELECT t::bigint FROM seen").await, 7);
    let session = tenant.session().await.unwrap();
    assert_eq!(number(&session, TENANT).await, 7);
    session.commit().await.unwrap();
    let begun = TransactionTrait::begin(&tenant).await.unwrap();
    assert_eq!(number(&begun, TENANT).await, 7);
    drop(begun);
    let own = tenant.session().set_local("app.tenant", "8").await.unwrap();
    assert_eq!(number(&own, TENANT).await, 8);
    own.rollback().await.unwrap();
    assert_eq!(number(&tenant.read_only(), TENANT).await, 7);
    let statement = Statement::from_string(sea_orm::DbBackend::Postgres, TENANT);
    let rows: Vec<_> = tenant.stream_raw(statement).await.unwrap().try_collect().await.unwrap();
    assert_eq!(rows[0].try_get_by_index::<i64>(0).unwrap(), 7);
    drop(rows);
    assert_eq!(number(&pg, TENANT).await, 0);
    // Dropped half-way, too.
    let wait = tenant.execute_unprepared("SELECT pg_sleep(60)");
    tokio::select! {
        _ = wait => panic!("it slept for a minute"),
        () = tokio::task::yield_now() => {}
    }
    assert_eq!(number(&pg, TENANT).await, 0);
}

#[tokio::test]
async fn views_add_up() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    pg.ensure_schema("a").await.unwrap();
    let view = pg.with_local("app.tenant", "1").scoped("a").unwrap().with_local("app.region", "2");
    let all = "SELECT (current_setting('app.tenant') || current_setting('app.region'))::bigint";
    assert_eq!(number(&view, all).await, 12);
    assert_eq!(number(&view.with_local("app.tenant", "3"), all).await, 32);
    view.execute_unprepared("CREATE TABLE here (n int)").await.unwrap();
    assert_eq!(number(&pg, "SELECT count(*) FROM a.here").await, 0);
    let own = view.dedicated("a").unwrap();
    assert_eq!(number(&own, all).await, 12);
}

#[tokio::test]
async fn row_level_security_keeps_the_tenants_apart() {
    let database = TestDatabase::new().await;
    let admin = database.pg().await;
    let role = database.role("tenants", "PASSWORD 'it'").await;
    admin
        .execute_unprepared(&format!(
            "CREATE TABLE invoice (tenant bigint DEFAULT current_setting('app.tenant')::bigint, cents int); \
             ALTER TABLE invoice ENABLE ROW LEVEL SECURITY; \
             CREATE POLICY own ON invoice USING (tenant = current_setting('app.tenant')::bigint); \
             GRANT ALL ON invoice TO {role}"
        ))
        .await
        .unwrap();
    let pg = Pg::from_url(&database.url_of(&role, "it")).await.unwrap();
    let (a, b) = (pg.with_local("app.tenant", "1"), pg.with_local("app.tenant", "2"));
    for view in [&a, &a, &b] {
        view.execute_unprepared("INSERT INTO invoice (cents) VALUES (100)").await.unwrap();
    }
    let count = "SELECT count(*) FROM invoice";
    assert_eq!((number(&a, count).await, number(&b, count).await), (2, 1));
    let stolen = b.execute_unprepared("INSERT INTO invoice VALUES (1, 5)").await.unwrap_err();
    assert_eq!(Error::from(stolen).sqlstate().as_deref(), Some("42501"));
}

/// A setting of a view that only reads cannot make it write.
#[tokio::test]
async fn no_setting_makes_a_read_only_view_write() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    pg.execute_unprepared("CREATE TABLE kept (n int)").await.unwrap();
    for (name, value) in [
        ("transaction_read_only", "off"),
        ("default_transaction_read_only", "off"),
        ("TRANSACTION_READ_ONLY", "off"),
    ] {
        let view = pg.read_only().with_local(name, value);
        for _ in 0..2 {
            view.execute_unprepared("INSERT INTO kept VALUES (1)").await.unwrap_err();
        }
        number(&pg.read_only(), "SELECT 1::bigint").await;
        pg.read_only().execute_unprepared("INSERT INTO kept VALUES (1)").await.unwrap_err();
    }
    assert_eq!(number(&pg, "SELECT count(*) FROM kept").await, 0);
}

#[tokio::test]
async fn a_setting_that_the_server_does_not_take_is_the_statements_error() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    for (name, value, code) in [("work_mem", "much", "22023"), ("no_such_setting", "1", "42704")] {
        let refused = pg.with_local(name, value).execute_unprepared("SELECT 1").await.unwrap_err();
        let error = Error::from(refused);
        assert_eq!(error.sqlstate().as_deref(), Some(code), "{error}");
    }
    let hostile = pg.with_local("app.x", "it's'; DROP TABLE t; --\u{0}");
    hostile.execute_unprepared("SELECT 1").await.unwrap_err();
    assert_eq!(number(&pg, "SELECT 1::bigint").await, 1);
}
