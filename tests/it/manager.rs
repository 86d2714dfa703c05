//! Every database of the file by its name, each for itself.

use std::time::{Duration, Instant};

use sea_orm::ConnectionTrait;
use sea_orm_migration::MigratorTrait;
use wharf::{ConnectErrorKind, Error, Manager};

use crate::support::{TestDatabase, config, number};

async fn two_of_which_one_is_down() -> (TestDatabase, Manager) {
    let database = TestDatabase::new().await;
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let yaml = format!(
        "databases:\n{}  down:\n    url: postgres://u@127.0.0.1:{port}/d\n",
        database.entry("up", &[])
    );
    (database, Manager::from_config(config(&yaml)))
}

#[tokio::test]
async fn a_database_that_is_down_keeps_no_other_from_working() {
    let (_database, manager) = two_of_which_one_is_down().await;
    assert_eq!(manager.names().collect::<Vec<_>>(), ["down", "up"]);
    let up = manager.db("up").unwrap();
    let down = manager.db("down").unwrap();
    assert!(down.ping().await.is_err());
    assert_eq!(number(&up, "SELECT 1::bigint").await, 1);
}

#[tokio::test]
async fn health_says_of_each_how_it_is_or_why_not() {
    let (_database, manager) = two_of_which_one_is_down().await;
    let started = Instant::now();
    let health = manager.health().await;
    assert!(started.elapsed() < Duration::from_secs(5));
    let up = health["up"].as_ref().unwrap();
    assert!(up.server_version.starts_with(|c: char| c.is_ascii_digit()), "{up:?}");
    assert!(up.latency > Duration::ZERO && up.latency < Duration::from_secs(5));
    let Err(Error::Connect(why)) = &health["down"] else { panic!("{health:?}") };
    assert_eq!(why.kind, ConnectErrorKind::Unreachable);
}

#[tokio::test]
async fn the_same_name_gives_the_same_connections() {
    let database = TestDatabase::new().await;
    let manager = Manager::from_config(database.config(&[]));
    manager.db("it").unwrap().ping().await.unwrap();
    manager.clone().db("it").unwrap().ping().await.unwrap();
    let stats = manager.stats();
    assert_eq!((stats["it"].writer.open, stats["it"].writer.idle), (1, 1));
    assert_eq!(stats["it"].reader.open, 0);
}

#[tokio::test]
async fn seaorms_own_connection_is_opened_on_first_use_and_runs_migrations() {
    let database = TestDatabase::new().await;
    let manager = Manager::from_config(database.config(&["statement_timeout: 77s"]));
    let sea_orm = manager.connection("it").unwrap();
    let other = database.pg().await;
    let connected = "SELECT count(*) - 1 FROM pg_stat_activity WHERE datname = current_database()";
    assert_eq!(number(&other, connected).await, 0);
    migration::shop::Migrator::up(&sea_orm, None).await.unwrap();
    assert!(number(&other, connected).await >= 1);
    let timeout = "SELECT setting::bigint FROM pg_settings WHERE name = 'statement_timeout'";
    assert_eq!(number(&sea_orm, timeout).await, 77_000);
    sea_orm.close().await.unwrap();
    // One that was closed is replaced.
    manager.connection("it").unwrap().ping().await.unwrap();
    manager.close().await;
}

#[tokio::test]
async fn nothing_that_is_printed_holds_the_password() {
    let yaml = "databases: {it: {url: 'postgres://u:hunter2-would-be-seen@127.0.0.1:1/d'}}";
    let manager = Manager::from_config(config(yaml));
    let pg = manager.db("it").unwrap();
    let sea_orm = manager.connection("it").unwrap();
    let error = pg.ping().await.unwrap_err();
    let all = format!("{manager:?} {pg:?} {:?} {sea_orm:?} {error:?} {error}", manager.config());
    assert!(!all.contains("hunter2"), "{all}");
}

#[tokio::test]
async fn close_closes_all_of_it() {
    let database = TestDatabase::new().await;
    let manager = Manager::from_config(database.config(&[]));
    let pg = manager.db("it").unwrap();
    pg.ping().await.unwrap();
    pg.read_only().ping().await.unwrap();
    let sea_orm = manager.connection("it").unwrap();
    sea_orm.ping().await.unwrap();
    manager.close().await;
    assert!(sea_orm.ping().await.is_err());
    let error = Error::from(pg.execute_unprepared("SELECT 1").await.unwrap_err());
    assert!(matches!(error, Error::Closed { .. }), "{error}");
    let other = database.pg().await;
    // The server notices a closed socket when it gets to it.
    let connected = "SELECT count(*) - 1 FROM pg_stat_activity WHERE datname = current_database()";
    let deadline = Instant::now() + Duration::from_secs(5);
    while number(&other, connected).await > 0 {
        assert!(Instant::now() < deadline, "a connection is still open");
    }
}

#[tokio::test]
async fn an_entry_without_its_server_says_what_to_do() {
    let yaml = "pgserver: {version: 15, name: wharf-it-never-started}\n\
                databases:\n  shop: {pgserver: true, database: shop}\n";
    let manager = Manager::from_config(config(yaml));
    let error = Error::from(manager.db("shop").unwrap().ping().await.unwrap_err());
    assert!(matches!(error, Error::PgServerDown { .. }), "{error}");
    assert!(error.to_string().contains("start it with `wharf server up`"), "{error}");
    assert!(manager.connection("shop").is_err());
}

/// SeaORM's own pool looks after itself on the runtime of whoever asked for it, and the login may need that
/// runtime.
#[tokio::test]
async fn seaorms_own_connection_waits_for_a_login_without_blocking_where_it_is_awaited() {
    let database = TestDatabase::new().await;
    let mut config = database.config(&["pool_timeout: 2"]);
    let entry = config.databases.get_mut("it").unwrap();
    let here = tokio::runtime::Handle::current();
    entry.set_login_source(move |login| {
        // Only this test's own thread can run it.
        let asked = here.spawn(async { tokio::task::yield_now().await });
        async move {
            asked.await?;
            Ok(login)
        }
    });
    let manager = Manager::from_config(config);
    let error = manager.connection("it").unwrap_err().to_string();
    assert!(error.contains("open_connection(\"it\").await"), "{error}");
    let connection = manager.open_connection("it").await.unwrap();
    assert_eq!(number(&connection, "SELECT 1::bigint").await, 1);
    assert_eq!(number(&manager.connection("it").unwrap(), "SELECT 1::bigint").await, 1);
}

#[test]
fn seaorms_own_connection_needs_a_runtime_and_says_so() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = runtime.block_on(async { TestDatabase::new().await.config(&[]) });
    let error = Manager::from_config(config).connection("it").unwrap_err().to_string();
    assert!(error.contains("runtime"), "{error}");
}
