//! A database for every test, as wharf's users have it.

// async_trait takes `SchemaManager<'_>` for another signature than the trait's own `SchemaManager`.
#![allow(elided_lifetimes_in_paths)]

use std::future::IntoFuture as _;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use futures_util::future::join_all;
use sea_orm::ConnectionTrait;
use sea_orm_migration::prelude::DbErr;
use sea_orm_migration::{MigrationName, MigrationTrait, MigratorTrait, SchemaManager};
use wharf::testing::TestDatabase;

use crate::support::number;

/// The shop's migrations, and one that counts how often it is run.
struct Counted;

static RUNS: AtomicUsize = AtomicUsize::new(0);

struct Counts;

impl MigrationName for Counts {
    fn name(&self) -> &str {
        "m20991231_000001_counts"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Counts {
    async fn up(&self, _: &SchemaManager) -> Result<(), DbErr> {
        RUNS.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

impl MigratorTrait for Counted {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut all = migration::shop::Migrator::migrations();
        all.push(Box::new(Counts));
        all
    }
}

async fn databases(like: &str) -> i64 {
    let any = TestDatabase::empty().await.unwrap();
    number(&*any, &format!("SELECT count(*) FROM pg_database WHERE datname LIKE '{like}'")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_has_its_own_and_nothing_is_left() {
    let all = join_all((0..40).map(|at| async move {
        let database = TestDatabase::new::<Counted>().await.unwrap();
        let insert = format!("INSERT INTO customer (name, email) VALUES ('{at}', '{at}@x')");
        database.execute_unprepared(&insert).await.unwrap();
        let name = database.name().to_owned();
        assert_eq!(number(&*database, "SELECT count(*) FROM customer").await, 1);
        name
    }))
    .await;
    let mut names = all.clone();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 40);
    for name in names {
        assert_eq!(databases(&name).await, 0, "{name}");
    }
    // None where an earlier run of this build has made the template.
    assert!(RUNS.load(Ordering::Relaxed) <= 1);
}

#[tokio::test]
async fn a_fixture_is_loaded_whole_or_not_at_all() {
    let database = TestDatabase::new::<Counted>().await.unwrap();
    database
        .load("INSERT INTO customer (name, email) VALUES ('Ada', 'a@x'); INSERT INTO customer (name, email) VALUES ('Bob', 'b@x')")
        .await
        .unwrap();
    let half =
        "INSERT INTO customer (name, email) VALUES ('Eve', 'e@x'); INSERT INTO nowhere VALUES (1)";
    database.load(half).await.unwrap_err();
    assert_eq!(number(&*database, "SELECT count(*) FROM customer").await, 2);
    let elsewhere = wharf::Pg::from_url(&database.url()).await.unwrap();
    assert_eq!(number(&elsewhere, "SELECT count(*) FROM customer").await, 2);
    elsewhere.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_at_once_do_not_exhaust_the_server() {
    let all = join_all((0..120).map(|_| async {
        let database = TestDatabase::empty().await.unwrap();
        // All the connections that it may have.
        let held = join_all((0..5).map(|_| database.session().into_future())).await;
        assert!(held.iter().all(Result::is_ok));
    }));
    all.await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_takes_milliseconds() {
    drop(TestDatabase::new::<Counted>().await.unwrap());
    let (mut made, mut ready) = (Vec::new(), Vec::new());
    for _ in 0..20 {
        let begun = Instant::now();
        let database = TestDatabase::new::<Counted>().await.unwrap();
        made.push(begun.elapsed());
        database.ping().await.unwrap();
        ready.push(begun.elapsed());
        drop(database);
    }
    made.sort();
    ready.sort();
    crate::support::say(&format!(
        "a test's database: made within {:.1?}, connected to within {:.1?} (medians)",
        made[10], ready[10]
    ));
    // Other tests run on these cores meanwhile.
    assert!(ready[10].as_millis() < 2000, "{ready:?}");
}

/// This test binary once more, as the tests of another process.
fn another(part: &str) -> std::process::Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "testing::part", "--nocapture", "--test-threads=1"]);
    if part == "keeps none" {
        command.env("WHARF_TEST_KEEP", "never");
    }
    command.env("WHARF_TEST_PART", part).env("RUST_BACKTRACE", "0").output().unwrap()
}

fn its_name(output: &std::process::Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout);
    said.split("part has ").nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
}

#[tokio::test]
async fn one_whose_test_failed_is_kept_and_named_and_one_whose_process_died_is_swept() {
    let failed = another("panics");
    assert!(!failed.status.success());
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    let kept = said
        .split("the database of this test is kept: ")
        .nth(1)
        .unwrap_or_else(|| panic!("{said}"));
    let kept = kept.lines().next().unwrap().trim();
    let pg = wharf::Pg::from_url(kept).await.unwrap();
    assert_eq!(number(&pg, "SELECT n::int8 FROM evidence").await, 42);
    pg.close().await.unwrap();
    let dropped = another("keeps none");
    assert!(!dropped.status.success());
    assert_eq!(databases(&its_name(&dropped)).await, 0);
    assert!(!String::from_utf8_lossy(&dropped.stderr).contains("is kept"), "{dropped:?}");

    let name = its_name(&another("dies"));
    assert_eq!(databases(&name).await, 1, "{name}");
    another("sweeps");
    assert_eq!(databases(&name).await, 0, "{name}");
    let kept = kept.rsplit('/').next().unwrap();
    assert_eq!(databases(kept).await, 1, "what was kept is not swept");
    let any = TestDatabase::empty().await.unwrap();
    let long_ago = format!("COMMENT ON DATABASE \"{kept}\" IS 'wharf: kept 1000000000'");
    any.execute_unprepared(&long_ago).await.unwrap();
    another("sweeps");
    assert_eq!(databases(kept).await, 0, "what was kept for a day is swept");
}

/// Not a test: what the other process does.
#[tokio::test]
async fn part() {
    use std::io::Write as _;
    let Ok(part) = std::env::var("WHARF_TEST_PART") else {
        return;
    };
    let database = TestDatabase::empty().await.unwrap();
    database.execute_unprepared("CREATE TABLE evidence AS SELECT 42 AS n").await.unwrap();
    let mut out = std::io::stdout();
    out.write_all(format!("\npart has {}\n", database.name()).as_bytes()).unwrap();
    out.flush().unwrap();
    match part.as_str() {
        "panics" | "keeps none" => panic!("on purpose"),
        "dies" => std::process::abort(),
        _ => {}
    }
}
