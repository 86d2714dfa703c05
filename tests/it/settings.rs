//! Settings of an entry: in force on every connection, or the reason why not.

use futures_util::TryStreamExt as _;
use sea_orm::{ConnectionTrait, DbBackend, Statement, StreamTrait as _};
use wharf::{ConnectErrorKind, Error, Pg};

use crate::{
    proxy::Proxy,
    support::{TestDatabase, number},
};

async fn setting(pg: &Pg, name: &str) -> String {
    let sql = format!("SELECT current_setting('{name}')");
    let statement = sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, sql);
    pg.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
}

const SETTINGS: &str = "settings: {timezone: Europe/Berlin, work_mem: 65536kB, app.region: 'it''s here', \
                        geqo: off, statement_timeout_is_no_setting.of: 1}";

#[tokio::test]
async fn settings_of_an_entry_are_in_force_and_come_back_after_a_reset() {
    let database = TestDatabase::new().await;
    let pg =
        database.pg_with(&["pool_size: 1", "max_overflow: 0", "statement_timeout: 90s", SETTINGS]);
    let hold = async || {
        assert_eq!(setting(&pg, "timezone").await, "Europe/Berlin");
        assert_eq!(setting(&pg, "work_mem").await, "64MB");
        assert_eq!(setting(&pg, "app.region").await, "it's here");
        assert_eq!(setting(&pg, "geqo").await, "off");
        assert_eq!(setting(&pg, "statement_timeout").await, "90s");
    };
    hold().await;
    pg.execute_unprepared("SET TimeZone = 'Asia/Tokyo'; SET work_mem = '1MB'; RESET ALL")
        .await
        .unwrap();
    hold().await;
    let own = database.config(&["statement_timeout: 90s", SETTINGS]);
    let manager = wharf::Manager::from_config(own);
    let connection = manager.connection("it").unwrap();
    assert_eq!(
        number(&connection, "SELECT (current_setting('TimeZone') = 'Europe/Berlin')::int::bigint")
            .await,
        1
    );
}

#[tokio::test]
async fn settings_that_do_not_arrive_are_refused_with_their_names() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start().await;
    proxy.drop_options();
    for (more, named) in [
        (vec!["readonly: true"], "default_transaction_read_only is `off` in place of `on`"),
        (vec!["statement_timeout: 5s"], "statement_timeout is `0` in place of `5000`"),
        (vec!["schema: tenant"], "search_path is"),
        (vec!["settings: {work_mem: 64MB}"], "work_mem is `4MB` in place of `64MB`"),
        (vec!["settings: {app.region: north}"], "app.region is not set in place of `north`"),
    ] {
        let Error::Connect(error) =
            Error::from(proxy.pg(&database, &more).ping().await.unwrap_err())
        else {
            panic!("{more:?}")
        };
        assert_eq!(error.kind, ConnectErrorKind::SettingsIgnored, "{error}");
        assert!(error.to_string().contains(named), "{error}");
    }
    // Whatever drops them is a pooler, with which more goes wrong than that.
    let error = proxy.pg(&database, &[]).ping().await.unwrap_err().to_string();
    assert!(error.contains("were dropped); if this is a pooler"), "{error}");
    proxy.pg(&database, &["pooler: session"]).ping().await.unwrap();
}

#[tokio::test]
async fn a_setting_that_the_server_does_not_know_is_its_error() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["settings: {no_such_setting: 1}"]);
    let error = Error::from(pg.ping().await.unwrap_err());
    assert!(error.to_string().contains("no_such_setting"), "{error}");
}

/// The driver asks for a type that it does not know between preparing and running, and the server forgets what has no name.
#[tokio::test]
async fn without_a_statement_cache_types_that_the_driver_does_not_know_are_read() {
    let database = TestDatabase::new().await;
    for more in ["statement_cache: 0", "prepared: off"] {
        for kind in ["mood", "weather", "place"] {
            let sql = format!("DROP TYPE IF EXISTS {kind}; CREATE TYPE {kind} AS ENUM ('fair')");
            database.pg().await.execute_unprepared(&sql).await.unwrap();
        }
        let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0", more]);
        let ask = |kind: &str| {
            let sql = format!("SELECT 7::int8 AS n, 'fair'::{kind}, ARRAY['fair'::{kind}]");
            Statement::from_string(DbBackend::Postgres, sql)
        };
        let n = |row: Option<sea_orm::QueryResult>| row.unwrap().try_get::<i64>("", "n").unwrap();
        assert_eq!(n(pg.query_one_raw(ask("mood")).await.unwrap()), 7);
        let session = pg.session().await.unwrap();
        session.execute_unprepared("CREATE TABLE kept (id int8)").await.unwrap();
        assert_eq!(n(session.query_one_raw(ask("weather")).await.unwrap()), 7);
        let rows = session.stream_raw(ask("place")).await.unwrap();
        assert_eq!(rows.try_collect::<Vec<_>>().await.unwrap().len(), 1);
        let nested = session.begin().await.unwrap();
        assert_eq!(n(nested.query_one_raw(ask("place")).await.unwrap()), 7);
        nested.commit().await.unwrap();
        session.commit().await.unwrap();
        assert_eq!(number(&pg, "SELECT count(*) FROM kept").await, 0);
        pg.execute_unprepared("DROP TABLE kept").await.unwrap();
    }
}

#[tokio::test]
async fn without_a_statement_cache_nothing_stays_prepared() {
    let database = TestDatabase::new().await;
    let prepared = "SELECT count(*) FROM pg_prepared_statements";
    for (cache, kept) in [("statement_cache: 0", 0), ("statement_cache: 2", 2)] {
        let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0", cache]);
        for n in 0..5 {
            number(&pg, &format!("SELECT {n}::bigint")).await;
        }
        assert_eq!(number(&pg, prepared).await, kept, "{cache}");
    }
}
