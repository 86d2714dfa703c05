//! Schemas: a tenant in each, over one pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use entity::shop::customer;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use sea_orm::{ActiveValue::Set, ConnectionTrait, EntityTrait, PaginatorTrait, StreamTrait};
use wharf::{Error, Pg};

use crate::support::{TestDatabase, number};

/// What a tenant has: a table, and a row that says whose it is.
async fn tenant(pg: &Pg, schema: &str, whose: i64) -> Pg {
    assert!(pg.ensure_schema(schema).await.unwrap());
    let scoped = pg.scoped(schema).unwrap();
    scoped.execute_unprepared("CREATE TABLE mine (n bigint)").await.unwrap();
    scoped.execute_unprepared(&format!("INSERT INTO mine VALUES ({whose})")).await.unwrap();
    scoped
}

const MINE: &str = "SELECT n FROM mine";

#[tokio::test]
async fn a_view_sees_and_makes_what_is_in_its_schema_alone() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    pg.execute_unprepared("CREATE TABLE everybodys (n int)").await.unwrap();
    let (a, b) = (tenant(&pg, "a", 1).await, tenant(&pg, "b", 2).await);
    assert_eq!((a.schema(), pg.schema()), (Some("a"), None));
    assert_eq!((number(&a, MINE).await, number(&b, MINE).await), (1, 2));
    // By every door: statements, sessions of each kind, streams.
    let session = a.session().await.unwrap();
    assert_eq!(number(&session, MINE).await, 1);
    session.commit().await.unwrap();
    let begun = b.begin().await.unwrap();
    assert_eq!(number(&begun, MINE).await, 2);
    drop(begun);
    let reads = b.session().read_only().await.unwrap();
    assert_eq!(number(&reads, MINE).await, 2);
    drop(reads);
    assert_eq!(number(&b.read_only(), MINE).await, 2);
    let sql = sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, MINE);
    let rows: Vec<_> = a.stream_raw(sql).await.unwrap().try_collect().await.unwrap();
    assert_eq!(rows[0].try_get_by_index::<i64>(0).unwrap(), 1);
    // Not beside it, not before it.
    let error = a.execute_unprepared("SELECT * FROM everybodys").await.unwrap_err().to_string();
    assert!(error.contains("\"everybodys\" does not exist"), "{error}");
    let error = pg.execute_unprepared("SELECT * FROM mine").await.unwrap_err().to_string();
    assert!(error.contains("\"mine\" does not exist"), "{error}");
    let nowhere = pg.scoped("nowhere").unwrap();
    let error = nowhere.execute_unprepared("CREATE TABLE t (n int)").await.unwrap_err().to_string();
    assert!(error.contains("no schema has been selected to create in"), "{error}");
}

#[tokio::test]
async fn what_a_single_statement_writes_is_kept_and_what_fails_is_not() {
    let database = TestDatabase::shop().await;
    let pg = database.pg().await;
    let shop = pg.scoped("public").unwrap();
    let ada = customer::ActiveModel {
        name: Set("Ada".to_owned()),
        email: Set("ada@example.com".to_owned()),
        ..Default::default()
    };
    let ada = customer::Entity::insert(ada).exec_with_returning(&shop).await.unwrap();
    assert_eq!(customer::Entity::find_by_id(ada.id).one(&pg).await.unwrap().unwrap().name, "Ada");
    // A stream that writes: kept when it has been read, and not when it was dropped before.
    let insert = "INSERT INTO mine SELECT generate_series(1, 2000) RETURNING n";
    let insert = sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, insert);
    let scoped = tenant(&pg, "streams", 0).await;
    let mut rows = scoped.stream_raw(insert.clone()).await.unwrap();
    assert!(rows.next().await.unwrap().is_ok());
    drop(rows);
    assert_eq!(number(&scoped, "SELECT count(*) FROM mine").await, 1);
    let rows: Vec<_> = scoped.stream_raw(insert).await.unwrap().collect().await;
    assert!(rows.len() == 2000 && rows.iter().all(Result::is_ok));
    assert_eq!(number(&scoped, "SELECT count(*) FROM mine").await, 2001);
    assert_eq!(customer::Entity::find().count(&shop).await.unwrap(), 1);
    assert!(scoped.read_only().execute_unprepared("DELETE FROM mine").await.is_err());
    assert_eq!(number(&scoped, "SELECT count(*) FROM mine").await, 2001);
}

#[tokio::test]
async fn what_tenants_share_is_what_the_entry_says() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["schema: shared"]);
    pg.ensure_schema("shared").await.unwrap();
    pg.execute_unprepared("CREATE TABLE tax AS SELECT 19::bigint AS percent").await.unwrap();
    let a = tenant(&pg, "a", 1).await;
    assert_eq!(number(&a, "SELECT percent + n FROM tax, mine").await, 20);
    // One of its own comes first.
    a.execute_unprepared("CREATE TABLE tax AS SELECT 7::bigint AS percent").await.unwrap();
    assert_eq!(number(&a, "SELECT percent FROM tax").await, 7);
    assert_eq!(number(&pg, "SELECT percent FROM tax").await, 19);
}

#[tokio::test]
async fn hostile_names_are_names_or_are_refused() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let hostile = ["a\"b", "a, public", "'; DROP TABLE kept; --", "ä ö", "A", "a", "\\", "$1"];
    for (at, name) in hostile.into_iter().enumerate() {
        let scoped = tenant(&pg, name, at as i64).await;
        assert_eq!(number(&scoped, MINE).await, at as i64, "{name}");
    }
    for name in ["", "$user", "pg_toast", &"x".repeat(64), "a\0"] {
        let error = pg.scoped(name).unwrap_err();
        assert!(matches!(error, Error::Schema { .. }), "{error}");
        assert!(pg.ensure_schema(name).await.is_err());
        assert!(pg.drop_schema(name).await.is_err());
        assert!(pg.dedicated(name).is_err());
    }
    assert!(!pg.ensure_schema("a\"b").await.unwrap(), "it is there");
    pg.drop_schema("a\"b").await.unwrap();
    pg.drop_schema("a\"b").await.unwrap();
    let left = "SELECT count(*) FROM pg_namespace WHERE nspname IN ('a\"b', 'a, public')";
    assert_eq!(number(&pg, left).await, 1);
}

#[tokio::test]
async fn a_dedicated_pool_is_in_its_schema_for_good() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    tenant(&pg, "a", 1).await;
    let own = pg.dedicated("a").unwrap();
    assert!(own.name().ends_with(".a"), "{}", own.name());
    assert_eq!(number(&own, MINE).await, 1);
    own.execute_unprepared("SET search_path = public").await.unwrap();
    assert_eq!(number(&own, MINE).await, 1);
    own.execute_unprepared("VACUUM mine").await.unwrap();
    own.close().await.unwrap();
    assert_eq!(number(&pg.scoped("a").unwrap(), MINE).await, 1);
}

/// Thousands of tenants on five connections, each doing what might leave something behind.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_tenant_is_seen_by_the_next() {
    const TENANTS: usize = 3000;
    const SCHEMAS: usize = 40;
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["pool_size: 5", "max_overflow: 0"]);
    for at in 0..SCHEMAS {
        tenant(&pg, &format!("t{at}"), at as i64).await;
    }
    let leaks = Arc::new(AtomicUsize::new(0));
    let visits = stream::iter(0..TENANTS).map(|visit| {
        let (pg, leaks) = (pg.clone(), leaks.clone());
        tokio::spawn(async move {
            let at = visit * 7919 % SCHEMAS;
            let scoped = pg.scoped(&format!("t{at}")).unwrap();
            let seen = async |n: i64| {
                if n != at as i64 {
                    leaks.fetch_add(1, Ordering::Relaxed);
                }
            };
            match visit % 8 {
                0 => seen(number(&scoped, MINE).await).await,
                1 => {
                    let s = scoped.session().await.unwrap();
                    seen(number(&s, MINE).await).await;
                    s.commit().await.unwrap();
                }
                2 => {
                    // What is set for the session, not the transaction.
                    let s = scoped.session().await.unwrap();
                    let other = format!("SET search_path = t{}", (at + 1) % SCHEMAS);
                    s.execute_unprepared(&other).await.unwrap();
                    s.commit().await.unwrap();
                }
                3 => {
                    let s = scoped.session().await.unwrap();
                    assert!(s.execute_unprepared("SELECT nonsense").await.is_err());
                    drop(s);
                }
                4 => {
                    // Dropped in the middle of a statement.
                    let s = scoped.session().await.unwrap();
                    let slow = s.execute_unprepared("SELECT pg_sleep(0.02)");
                    let limit = std::time::Duration::from_millis(2);
                    let _ = tokio::time::timeout(limit, slow).await;
                }
                5 => {
                    let panics = tokio::spawn(async move {
                        let s = scoped.session().await.unwrap();
                        s.execute_unprepared("SELECT 1").await.unwrap();
                        panic!("on purpose");
                    });
                    assert!(panics.await.unwrap_err().is_panic());
                }
                6 => {
                    // Outside of any view, a raw SET.
                    pg.execute_unprepared(&format!("SET search_path = t{at}")).await.unwrap();
                }
                _ => {
                    // Without a view there is no tenant.
                    let none = pg.execute_unprepared(MINE).await;
                    if none.is_ok() {
                        leaks.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        })
    });
    let done: Vec<_> = visits.buffer_unordered(50).collect().await;
    for visit in done {
        visit.unwrap();
    }
    assert_eq!(leaks.load(Ordering::Relaxed), 0);
    pg.close().await.unwrap();
}

#[tokio::test]
async fn types_of_extensions_in_public_are_visible_to_a_tenant_and_its_tables_are_its_own() {
    let database = TestDatabase::new().await;
    let shared = database.pg_with(&["schema: public"]);
    shared.execute_unprepared("CREATE EXTENSION citext; CREATE SCHEMA own").await.unwrap();
    // An entry with a schema of its own, as in the Python original; and a scoped view.
    let entry = database.pg_with(&["schema: own"]);
    shared.ensure_schema("tenant").await.unwrap();
    for (pg, schema) in [(entry, "own"), (shared.scoped("tenant").unwrap(), "tenant")] {
        pg.execute_unprepared("CREATE TABLE typed (name citext)").await.unwrap();
        let found = format!(
            "SELECT count(*) FROM pg_tables WHERE tablename = 'typed' AND schemaname = '{schema}'"
        );
        assert_eq!(number(&pg, &found).await, 1, "{schema}");
    }
    // Without a schema that is shared, a tenant's is all there is: what is missing is an error.
    let alone = database.pg().await.scoped("nowhere").unwrap();
    assert!(alone.execute_unprepared("CREATE TABLE typed (n int)").await.is_err());
}
