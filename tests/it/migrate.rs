//! Migrations, safely when many processes run them at once.

// async_trait takes `SchemaManager<'_>` for another signature than the trait's own `SchemaManager`.
#![allow(elided_lifetimes_in_paths)]

mod dry_run;
mod privileges;
mod transactions;

use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sea_orm::ConnectionTrait;
use sea_orm_migration::prelude::DbErr;
use sea_orm_migration::{MigrationName, MigrationTrait, MigratorTrait, SchemaManager};
use wharf::migrate::{MigrateError, MigrationState};
use wharf::{Error, Pg};

use crate::{
    proxy::{Network, Proxy, Trap},
    support::{TestDatabase, config, number, until},
};

/// A migration that is a text.
pub(crate) struct Text {
    name: &'static str,
    up: &'static str,
    down: &'static str,
    in_transaction: bool,
}

impl MigrationName for Text {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Text {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for statement in self.up.split(";;") {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.get_connection().execute_unprepared(self.down).await.map(|_| ())
    }

    fn use_transaction(&self) -> Option<bool> {
        (!self.in_transaction).then_some(false)
    }
}

macro_rules! migrator {
    ($name:ident: $($migration:expr),* $(,)?) => {
        struct $name;
        impl MigratorTrait for $name {
            fn migrations() -> Vec<Box<dyn MigrationTrait>> {
                vec![$(Box::new($migration)),*]
            }
        }
    };
}

pub(crate) use migrator;

pub(crate) const fn text(name: &'static str, up: &'static str, down: &'static str) -> Text {
    Text { name, up, down, in_transaction: true }
}

const ONE: Text = text("m1_one", "CREATE TABLE one (n int)", "DROP TABLE one");
const TWO: Text = text("m2_two", "CREATE TABLE two (n int)", "DROP TABLE two");
const THREE: Text = text("m3_three", "CREATE TABLE three (n int)", "DROP TABLE three");

migrator!(Three: ONE, TWO, THREE);
migrator!(Two: ONE, TWO);

async fn there(pg: &impl ConnectionTrait) -> Vec<String> {
    let sql = "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND relnamespace =
               current_schema()::regnamespace AND relname <> 'seaql_migrations' ORDER BY relname";
    let statement = sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, sql);
    let rows = pg.query_all_raw(statement).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

async fn states<M: MigratorTrait + 'static>(pg: &Pg) -> Vec<String> {
    let status = pg.migrate::<M>().status().await.unwrap();
    let state = |state: &MigrationState| match state {
        MigrationState::Applied { .. } => "applied",
        MigrationState::Pending => "pending",
        MigrationState::Incomplete { .. } => "incomplete",
        _ => "missing",
    };
    status.iter().map(|it| format!("{} {}", it.name, state(&it.state))).collect()
}

#[tokio::test]
async fn it_goes_up_and_down_by_steps_and_says_where_it_is() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    assert_eq!(
        states::<Three>(&pg).await,
        ["m1_one pending", "m2_two pending", "m3_three pending"]
    );
    assert!(there(&pg).await.is_empty(), "status changes nothing");
    let done = pg.migrate::<Three>().up(2).await.unwrap();
    assert_eq!(done.migrations, ["m1_one", "m2_two"]);
    assert_eq!(
        states::<Three>(&pg).await,
        ["m1_one applied", "m2_two applied", "m3_three pending"]
    );
    assert_eq!(pg.migrate::<Three>().await.unwrap().migrations, ["m3_three"]);
    assert!(pg.migrate::<Three>().await.unwrap().migrations.is_empty());
    assert_eq!(there(&pg).await, ["one", "three", "two"]);
    assert_eq!(pg.migrate::<Three>().down(2).await.unwrap().migrations, ["m3_three", "m2_two"]);
    assert_eq!(there(&pg).await, ["one"]);
    pg.execute_unprepared("INSERT INTO one VALUES (1)").await.unwrap();
    let refreshed = pg.migrate::<Three>().refresh().await.unwrap();
    assert_eq!(refreshed.migrations, ["m1_one", "m1_one", "m2_two", "m3_three"]);
    assert_eq!(number(&pg, "SELECT count(*) FROM one").await, 0);
    // Fresh takes what no migration made, and what belongs to an extension not.
    pg.execute_unprepared(
        "CREATE EXTENSION pg_trgm; CREATE TYPE mood AS ENUM ('ok'); CREATE TABLE by_hand (m mood, id serial);
         CREATE VIEW seen AS SELECT * FROM by_hand; CREATE FUNCTION f(mood) RETURNS int RETURN 1;
         CREATE TYPE pair AS (a int, b text); CREATE TYPE span AS RANGE (subtype = time);
         CREATE DOMAIN short AS varchar(3); CREATE FUNCTION g(pair, pair) RETURNS bool RETURN true;
         CREATE OPERATOR === (LEFTARG = pair, RIGHTARG = pair, FUNCTION = g);
         CREATE COLLATION \"C 2\" FROM \"C\"; CREATE AGGREGATE total (int) (SFUNC = int4pl, STYPE = int);
         CREATE TEXT SEARCH CONFIGURATION plain (COPY = simple)",
    )
    .await
    .unwrap();
    assert_eq!(pg.migrate::<Three>().fresh().await.unwrap().migrations.len(), 3);
    assert_eq!(there(&pg).await, ["one", "three", "two"]);
    for left in [
        "pg_type WHERE typname IN ('mood', 'pair', 'span', 'short')",
        "pg_proc WHERE proname IN ('f', 'g', 'total')",
        "pg_operator WHERE oprname = '==='",
        "pg_collation WHERE collname = 'C 2'",
        "pg_ts_config WHERE cfgname = 'plain'",
    ] {
        assert_eq!(number(&pg, &format!("SELECT count(*) FROM {left}")).await, 0, "{left}");
    }
    let kept = "SELECT count(*) FROM pg_proc WHERE proname = 'similarity'";
    assert_eq!(number(&pg, kept).await, 1);
    // An older build than the one that migrated it.
    assert_eq!(states::<Two>(&pg).await, ["m1_one applied", "m2_two applied", "m3_three missing"]);
    let error = pg.migrate::<Two>().await.unwrap_err();
    assert!(matches!(error, Error::Migrate(MigrateError::Missing { .. })), "{error}");
    let error = pg.read_only().migrate::<Three>().await.unwrap_err();
    assert!(matches!(error, Error::ReadOnly { .. }), "{error}");
}

migrator!(HalfWay:
    ONE,
    text("m2_half", "CREATE TABLE half (n int);; SELECT nonsense", ""),
    THREE,
);

#[tokio::test]
async fn one_that_fails_is_named_and_leaves_nothing_and_those_before_it_stay() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let error = pg.migrate::<HalfWay>().await.unwrap_err().to_string();
    for part in
        ["migration m2_half failed", "column \"nonsense\" does not exist", "it was rolled back"]
    {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
    assert_eq!(there(&pg).await, ["one"]);
    assert_eq!(
        states::<HalfWay>(&pg).await,
        ["m1_one applied", "m2_half pending", "m3_three pending"]
    );
}

migrator!(NoWayBack:
    ONE,
    Text {
        name: "m2_index",
        up: "CREATE INDEX CONCURRENTLY one_n ON one (n)",
        down: "DROP INDEX CONCURRENTLY nowhere",
        in_transaction: false,
    },
);

#[tokio::test]
async fn the_way_back_of_one_outside_of_a_transaction_is_outside_too_and_says_so() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    pg.migrate::<NoWayBack>().await.unwrap();
    let error = pg.migrate::<NoWayBack>().down(1).await.unwrap_err().to_string();
    for part in ["m2_index failed", "\"nowhere\" does not exist", "a part of it may stay"] {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
    assert_eq!(states::<NoWayBack>(&pg).await, ["m1_one applied", "m2_index applied"]);
    let error = pg.migrate::<Two>().down(1).await.unwrap_err();
    assert!(matches!(error, Error::Migrate(MigrateError::Missing { .. })), "{error}");
}

const UNIQUE: &str = "CREATE UNIQUE INDEX CONCURRENTLY one_n ON one (n)";
migrator!(Concurrently: ONE, Text { name: "m2_index", up: UNIQUE, down: "", in_transaction: false });

#[tokio::test]
async fn an_index_is_built_outside_of_a_transaction_and_a_broken_one_does_not_stay() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    pg.migrate::<Concurrently>().up(1).await.unwrap();
    pg.execute_unprepared("INSERT INTO one VALUES (1), (1)").await.unwrap();
    // Somebody else's broken one is left to them.
    pg.execute_unprepared("CREATE UNIQUE INDEX CONCURRENTLY theirs ON one (n)").await.unwrap_err();
    let error = pg.migrate::<Concurrently>().await.unwrap_err().to_string();
    for part in ["m2_index failed", "could not create unique index", "a part of it may stay"] {
        assert!(error.contains(part), "no {part:?} in {error}");
    }
    let theirs = "SELECT count(*) FROM pg_class WHERE relname = 'theirs'";
    assert_eq!(number(&pg, theirs).await, 1);
    let indexes = "SELECT count(*) FROM pg_class WHERE relname = 'one_n'";
    assert_eq!(number(&pg, indexes).await, 0);
    let status = pg.migrate::<Concurrently>().status().await.unwrap();
    let MigrationState::Incomplete { error: Some(error), .. } = &status[1].state else {
        panic!("{status:?}")
    };
    assert!(error.contains("could not create unique index"), "{error}");
    pg.execute_unprepared("DELETE FROM one").await.unwrap();
    // Others that wait meanwhile do not keep the index from being built.
    let (one, two) = tokio::join!(pg.migrate::<Concurrently>(), pg.migrate::<Concurrently>());
    assert_eq!(one.unwrap().migrations.len() + two.unwrap().migrations.len(), 1);
    assert_eq!(number(&pg, indexes).await, 1);
    assert_eq!(states::<Concurrently>(&pg).await, ["m1_one applied", "m2_index applied"]);
}

/// Fails to build its index, and meanwhile so does somebody else, on the same table.
struct BesideAnother;

impl MigrationName for BesideAnother {
    fn name(&self) -> &str {
        "m2_beside"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for BesideAnother {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let db = manager.get_connection();
        db.execute_unprepared("CREATE UNIQUE INDEX CONCURRENTLY theirs ON one (n)")
            .await
            .unwrap_err();
        db.execute_unprepared(UNIQUE).await.map(|_| ())
    }

    fn use_transaction(&self) -> Option<bool> {
        Some(false)
    }
}

migrator!(Beside: ONE, BesideAnother);

#[tokio::test]
async fn of_the_invalid_indexes_only_that_of_the_failed_statement_is_dropped() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    pg.migrate::<Beside>().up(1).await.unwrap();
    pg.execute_unprepared("INSERT INTO one VALUES (1), (1)").await.unwrap();
    pg.migrate::<Beside>().await.unwrap_err();
    let left = "SELECT count(*) FROM pg_class WHERE relname = ";
    assert_eq!(number(&pg, &format!("{left} 'one_n'")).await, 0);
    assert_eq!(number(&pg, &format!("{left} 'theirs'")).await, 1);
}

migrator!(Slow: text("m1_slow", "SELECT pg_sleep(0.5)", ""));

#[tokio::test]
async fn a_migration_may_take_longer_than_the_entrys_statements() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["statement_timeout: 100ms"]);
    pg.execute_unprepared("SELECT pg_sleep(0.5)").await.unwrap_err();
    pg.migrate::<Slow>().await.unwrap();
}

migrator!(Altering: ONE, text("m2_alter", "ALTER TABLE one ADD COLUMN m int", ""));

#[tokio::test]
async fn one_that_does_not_get_its_locks_is_tried_again_and_holds_nobody_up_for_long() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    pg.migrate::<Altering>().up(1).await.unwrap();
    let reader = pg.session().await.unwrap();
    reader.execute_unprepared("SELECT * FROM one").await.unwrap();
    let limit = Duration::from_millis(100);
    let migrating = tokio::spawn({
        let pg = pg.clone();
        async move { pg.migrate::<Altering>().lock_timeout(limit).await }
    });
    // It has failed once when its place in the line is free again.
    let waits = "SELECT count(*) FROM pg_locks WHERE NOT granted";
    crate::support::until("it waits", async || number(&pg, waits).await > 0).await;
    crate::support::until("it gives up", async || number(&pg, waits).await == 0).await;
    reader.commit().await.unwrap();
    assert_eq!(migrating.await.unwrap().unwrap().migrations, ["m2_alter"]);

    pg.execute_unprepared("DELETE FROM seaql_migrations WHERE version = 'm2_alter'").await.unwrap();
    let reader = pg.session().await.unwrap();
    reader.execute_unprepared("SELECT * FROM one").await.unwrap();
    let error = pg.migrate::<Altering>().lock_timeout(Duration::from_millis(10)).await.unwrap_err();
    let error = error.to_string();
    assert!(error.contains("in 5 attempts") && error.contains("lock timeout"), "{error}");
}

#[tokio::test]
async fn another_that_migrates_is_waited_for_within_a_bound_and_named() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let (inside, go_on) =
        (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let first = tokio::spawn({
        let (pg, inside, go_on) = (pg.clone(), inside.clone(), go_on.clone());
        async move {
            let hook = async move |_| {
                inside.notify_one();
                go_on.notified().await;
                Ok(())
            };
            pg.migrate::<Three>().before(hook).await
        }
    });
    inside.notified().await;
    let error = pg.migrate::<Three>().wait(Duration::from_millis(300)).await.unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, Error::Migrate(MigrateError::Locked { .. })), "{said}");
    assert!(said.contains("process ") && said.contains(" migrate"), "{said}");
    let second = tokio::spawn({
        let pg = pg.clone();
        async move { pg.migrate::<Three>().await }
    });
    go_on.notify_one();
    assert_eq!(first.await.unwrap().unwrap().migrations.len(), 3);
    assert!(second.await.unwrap().unwrap().migrations.is_empty());
}

#[tokio::test]
async fn hooks_run_before_and_after_under_the_lock() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let order = Arc::new(Mutex::new(Vec::new()));
    let hook = |what: &'static str| {
        let order = order.clone();
        async move |db: sea_orm::DatabaseConnection| {
            let tables = there(&db).await.len();
            order.lock().unwrap().push((what, tables));
            Ok(())
        }
    };
    let all = pg.migrate::<Three>();
    all.before(hook("first")).before(hook("second")).after(hook("last")).await.unwrap();
    assert_eq!(*order.lock().unwrap(), [("first", 0), ("second", 0), ("last", 3)]);
    let fails = async |_| Err(DbErr::Custom("on purpose".to_owned()));
    let error = pg.migrate::<Three>().before(fails).await.unwrap_err().to_string();
    assert!(error.contains("on purpose"), "{error}");
}

#[tokio::test]
async fn the_schema_and_the_extensions_of_the_entry_are_made() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["schema: app, public", "extensions: [pg_trgm]"]);
    pg.migrate::<Three>().await.unwrap();
    let here = "SELECT count(*) FROM pg_tables WHERE schemaname = 'app' AND tablename = 'one'";
    assert_eq!(number(&pg, here).await, 1);
    assert_eq!(number(&pg, "SELECT count(*) FROM pg_extension WHERE extname = 'pg_trgm'").await, 1);
}

#[tokio::test]
async fn every_tenants_schema_is_brought_up_to_date_and_those_that_fail_are_told() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["extensions: [pg_trgm]"]);
    pg.ensure_schema("b \"b\"").await.unwrap();
    let odd = pg.scoped("b \"b\"").unwrap();
    odd.execute_unprepared("CREATE TABLE two (other text)").await.unwrap();
    let all = pg.migrate::<Three>().schemas(["a", "b \"b\"", "pg_no", "c"]).await;
    let done: Vec<&str> = all.done.iter().map(|(schema, _)| schema.as_str()).collect();
    assert_eq!(done, ["a", "c"]);
    let said = all.to_string();
    for part in ["2 schemas are up to date, 2 failed", "m2_two failed", "names like this are"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    assert_eq!(there(&pg.scoped("c").unwrap()).await, ["one", "three", "two"]);
    assert_eq!(
        states::<Three>(&odd).await,
        ["m1_one applied", "m2_two pending", "m3_three pending"]
    );
    assert!(there(&pg).await.is_empty());
    odd.execute_unprepared("DROP TABLE two").await.unwrap();
    assert_eq!(odd.migrate::<Three>().await.unwrap().migrations, ["m2_two", "m3_three"]);
    // In the schema that they share, not in the first tenant's.
    let shared = "SELECT count(*) FROM pg_extension WHERE extnamespace = 'public'::regnamespace
                  AND extname = 'pg_trgm'";
    assert_eq!(number(&pg, shared).await, 1);
    odd.migrate::<Three>().fresh().await.unwrap();
    assert_eq!(there(&pg.scoped("a").unwrap()).await, ["one", "three", "two"]);
}

#[tokio::test]
async fn a_migration_that_is_dropped_half_way_leaves_nothing_and_no_lock() {
    migrator!(Sleeping: ONE, text("m2_sleep", "CREATE TABLE half (n int);; SELECT pg_sleep(300)", ""));
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let migrating = tokio::spawn({
        let pg = pg.clone();
        async move { pg.migrate::<Sleeping>().await }
    });
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'
                  AND datname = current_database()";
    crate::support::until("it sleeps", async || number(&pg, asleep).await == 1).await;
    migrating.abort();
    let _ = migrating.await;
    crate::support::until("it is cancelled", async || number(&pg, asleep).await == 0).await;
    assert_eq!(pg.migrate::<Two>().up(1).await.unwrap().migrations, ["m2_two"]);
    assert_eq!(there(&pg).await, ["one", "two"]);
}

/// Sixteen processes on a server that does not even have the database.
#[tokio::test]
async fn sixteen_processes_at_once_on_an_empty_server_migrate_it_once() {
    let database = TestDatabase::new().await;
    let name = format!("{}_empty", database.name);
    let url = database.url().replace(&database.name, &name);
    let processes: Vec<_> = (0..16)
        .map(|_| {
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "migrate::part", "--nocapture", "--test-threads=1"])
                .env("WHARF_TEST_MIGRATE", &url)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    let mut applied = 0;
    for process in processes {
        let output = process.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
        let mine = said.split("part applied ").nth(1).unwrap();
        applied += mine.split_whitespace().next().unwrap().parse::<usize>().unwrap();
    }
    assert_eq!(applied, 3);
    let made = Pg::from_url(&url).await.unwrap();
    assert_eq!(there(&made).await, ["one", "three", "two"]);
    made.close().await.unwrap();
    let drop = format!("DROP DATABASE {name}");
    database.pg().await.execute_unprepared(&drop).await.unwrap();
}

/// Not a test: what each of the processes does.
#[tokio::test]
async fn part() {
    use std::io::Write as _;
    let Ok(url) = std::env::var("WHARF_TEST_MIGRATE") else {
        return;
    };
    let yaml =
        format!("databases:\n  it: {{url: \"{url}\", create_db: true, extensions: [pg_trgm]}}\n");
    let pg = wharf::Manager::from_config(config(&yaml)).db("it").unwrap();
    let migrated = pg.migrate::<Three>().await.unwrap();
    let mut out = std::io::stdout();
    out.write_all(format!("\npart applied {} of them\n", migrated.migrations.len()).as_bytes())
        .unwrap();
}

/// CREATE INDEX CONCURRENTLY waits for old transactions, which is no wait for a lock that others queue behind.
#[tokio::test]
async fn an_index_waits_for_old_transactions_as_long_as_they_take() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    pg.migrate::<Concurrently>().up(1).await.unwrap();
    let old = pg.session().await.unwrap();
    old.execute_unprepared("INSERT INTO one VALUES (1)").await.unwrap();
    let migrating = pg.clone();
    let lock_timeout = Duration::from_millis(100);
    let migrating = tokio::spawn(async move {
        migrating.migrate::<Concurrently>().lock_timeout(lock_timeout).await
    });
    let waits = "SELECT count(*) FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting for%' \
                 AND datname = current_database()";
    until("it waits", async || number(&pg, waits).await == 1).await;
    tokio::time::sleep(5 * lock_timeout).await;
    assert!(!migrating.is_finished(), "{:?}", migrating.await);
    old.commit().await.unwrap();
    assert_eq!(migrating.await.unwrap().unwrap().migrations, ["m2_index"]);
    assert_eq!(states::<Concurrently>(&pg).await, ["m1_one applied", "m2_index applied"]);
}

const TWICE: &str =
    "INSERT INTO one VALUES (1);; SET lock_timeout = '50ms';; ALTER TABLE one ADD m int";
migrator!(Twice: ONE, Text { name: "m2_twice", up: TWICE, down: "", in_transaction: false });

#[tokio::test]
async fn what_is_done_outside_of_a_transaction_is_not_done_twice() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    pg.migrate::<Twice>().up(1).await.unwrap();
    let held = pg.session().await.unwrap();
    // In the way of ALTER TABLE, not of INSERT.
    held.execute_unprepared("LOCK TABLE one IN ROW EXCLUSIVE MODE").await.unwrap();
    let error = pg.migrate::<Twice>().await.unwrap_err();
    assert!(matches!(&error, Error::Migrate(MigrateError::Failed { attempts: 1, .. })), "{error}");
    held.rollback().await.unwrap();
    assert_eq!(number(&pg, "SELECT count(*) FROM one").await, 1);
    assert_eq!(states::<Twice>(&pg).await, ["m1_one applied", "m2_twice incomplete"]);
}

const SLEEPS: Text = text("m1_sleeps", "CREATE TABLE slow (n int);;SELECT pg_sleep(600)", "");
migrator!(Sleeps: SLEEPS);

/// The migrations' own connection waits as long as a statement takes; whether the server still answers is asked on
/// another.
#[tokio::test]
async fn a_network_that_swallows_everything_ends_a_migration() {
    let database = TestDatabase::new().await;
    let other = database.pg().await;
    let proxy = Proxy::start().await;
    let more = ["socket_timeout: 1", "pool_timeout: 2", "connect_timeout: 2"];
    let pg = proxy.pg(&database, &more);
    let migrating = pg.clone();
    let migrating = tokio::spawn(async move { migrating.migrate::<Sleeps>().await });
    let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                  AND state = 'active' AND query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()";
    until("it migrates", async || number(&other, sleeps).await == 1).await;
    // As long as the server answers, it goes on, however long that is.
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert!(!migrating.is_finished());
    proxy.set(Network::Swallows);
    let ended = tokio::time::timeout(Duration::from_secs(60), migrating).await;
    let error = ended.expect("it waits for ever").unwrap().unwrap_err();
    assert!(matches!(error, Error::NoAnswer { .. }), "{error}");
    let end = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() \
               AND query LIKE '%pg_sleep(600)%' AND pid <> pg_backend_pid()";
    number(&other, end).await;
}

/// Before anybody asks whether it still answers, too.
#[tokio::test]
async fn a_network_that_swallows_the_first_answer_ends_a_migration() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start().await;
    let pg = proxy.pg(&database, &["socket_timeout: 1", "pool_timeout: 2"]);
    proxy.trap("SELECT pg_backend_pid()", Trap::SwallowAfter);
    let ended = tokio::time::timeout(Duration::from_secs(60), pg.migrate::<Two>().into_future());
    let error = ended.await.expect("it waits for ever").unwrap_err();
    assert!(matches!(error, Error::NoAnswer { .. }), "{error}");
    pg.migrate::<Two>().await.unwrap();
}

/// The driver opens another connection without a word, and that one lacks the lock.
#[tokio::test]
async fn no_migration_runs_after_the_connection_with_the_lock_was_lost() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let migrating = pg.migrate::<Two>().before(async move |db: sea_orm::DatabaseConnection| {
        let end = "SELECT pg_terminate_backend(pg_backend_pid())";
        assert!(db.execute_unprepared(end).await.is_err());
        Ok(())
    });
    let error = migrating.await.unwrap_err();
    assert!(error.to_string().contains("and with it the lock"), "{error}");
    assert_eq!(states::<Two>(&pg).await, ["m1_one pending", "m2_two pending"]);
    pg.migrate::<Two>().await.unwrap();
}

migrator!(Longer: text("m1_longer", "SELECT pg_sleep(3.5)", ""));

/// That no connection is free says nothing about the server.
#[tokio::test]
async fn a_pool_that_is_used_up_does_not_end_a_migration() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0", "socket_timeout: 1"]);
    let held = pg.session().await.unwrap();
    pg.migrate::<Longer>().await.unwrap();
    held.rollback().await.unwrap();
}

/// A server that looks after its client ends the connection, and with it the lock, of a migrator that is gone.
#[tokio::test]
async fn the_server_looks_after_who_migrates() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    pg.migrate::<Two>()
        .after(async move |db| {
            for name in ["client_connection_check_interval", "tcp_keepalives_idle"] {
                let show = format!("SELECT current_setting('{name}')");
                let show = sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, show);
                let row = db.query_one_raw(show).await?.unwrap();
                told.lock().unwrap().push(row.try_get_by_index::<String>(0)?);
            }
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(*seen.lock().unwrap(), ["500ms", "60"]);
}
