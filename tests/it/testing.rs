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

use crate::support::{major, number, until};

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
        until("each is dropped", async || databases(&name).await == 0).await;
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

#[wharf::test(Counted)]
async fn the_attribute_gives_a_migrated_database(pg: wharf::Pg) -> Result<(), DbErr> {
    pg.execute_unprepared("INSERT INTO customer (name, email) VALUES ('Ada', 'a@x')").await?;
    assert_eq!(number(&pg, "SELECT count(*) FROM customer").await, 1);
    Ok(())
}

#[wharf::test(Counted, flavor = "multi_thread", worker_threads = 2)]
async fn the_attribute_gives_a_runtime_of_several_threads(
    pg: wharf::Pg,
) -> Result<(), wharf::Error> {
    let runtime = tokio::runtime::Handle::current();
    assert_eq!(runtime.metrics().num_workers(), 2);
    assert_eq!(
        tokio::spawn(async move { number(&pg, "SELECT count(*) FROM customer").await })
            .await
            .unwrap(),
        0
    );
    Ok(())
}

#[wharf::test(flavor = "multi_thread")]
async fn the_attribute_needs_no_migrator_for_a_flavor(pg: wharf::Pg) {
    assert_eq!(number(&pg, "SELECT 7::int8").await, 7);
}

#[wharf::test]
async fn the_attribute_gives_an_empty_database_as_it_is(database: &TestDatabase) {
    assert_eq!(
        number(&**database, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").await,
        0
    );
    assert!(database.url().ends_with(database.name()));
}

const ROWS: &str = "
customer:
  - {id: 7, name: Ada, email: ada@example.org}
  - name: \"null\"
    email: ~grace
purchase:
  - {customer_id: 7, item: compass, quantity: 2, price: 49.90, created_at: 2026-01-02 03:04:05+00}
kind:
  - mood: sad day
    tags: [a, \"b,c\"]
    detail: {zip: \"01234\", list: [1, 2.50, null], yes: true}
    span: 2 days
    at: 12:34
    nothing: null
  - {mood: ok}
other.thing:
  - {}
  - {}
";

#[wharf::test(Counted)]
async fn rows_come_from_yaml_as_their_columns_are(database: &TestDatabase) {
    database
        .execute_unprepared(
            "CREATE TYPE mood AS ENUM ('ok', 'sad day');
             CREATE TABLE kind (id int GENERATED ALWAYS AS IDENTITY, mood mood, tags text[], detail jsonb,
                                span interval, at time, nothing text DEFAULT 'something');
             CREATE SCHEMA other CREATE TABLE thing (id serial, at timestamptz DEFAULT now())",
        )
        .await
        .unwrap();
    database.load_yaml(ROWS).await.unwrap();
    for (sql, expected) in [
        ("SELECT count(*) FROM customer WHERE name = 'null' AND email = '~grace'", 1),
        // The one without a number has the sequence's, which then goes on behind the largest.
        ("SELECT max(id) FROM customer", 7),
        (
            "SELECT count(*) FROM purchase WHERE price = 49.9 AND created_at = '2026-01-02 03:04:05+00'",
            1,
        ),
        (
            "SELECT count(*) FROM kind WHERE mood = 'sad day' AND tags = '{a,\"b,c\"}' AND nothing IS NULL",
            1,
        ),
        (
            "SELECT count(*) FROM kind WHERE detail = '{\"zip\": \"01234\", \"list\": [1, 2.5, null], \"yes\": true}'",
            1,
        ),
        ("SELECT count(*) FROM kind WHERE span = '2 days' AND at = '12:34'", 1),
        (
            "SELECT count(*) FROM kind WHERE mood = 'ok' AND tags IS NULL AND nothing = 'something'",
            1,
        ),
        ("SELECT count(*) FROM other.thing WHERE at IS NOT NULL", 2),
    ] {
        assert_eq!(number(&**database, sql).await, expected, "{sql}");
    }
    let next = "INSERT INTO customer (name, email) VALUES ('Next', 'n') RETURNING id";
    assert_eq!(number(&**database, next).await, 8);
}

#[wharf::test(Counted)]
async fn a_fixtures_numbers_are_exact_and_no_sequence_is_lowered(database: &TestDatabase) {
    let exact = "CREATE TABLE exact (n numeric, seen jsonb)";
    database.execute_unprepared(exact).await.unwrap();
    let zero = "customer:\n  - {id: 0, name: Zero, email: z@x}\n\
                exact:\n  - {n: 12345678901234567890.10, seen: {n: 0.10}}\n";
    database.load_yaml(zero).await.unwrap();
    let kept = "SELECT count(*) FROM exact WHERE n::text = '12345678901234567890.10' \
                AND seen->>'n' = '0.10'";
    assert_eq!(number(&**database, kept).await, 1);
    let next = "INSERT INTO customer (name, email) VALUES ('Next', nextval('customer_id_seq')::text) RETURNING id";
    assert!(number(&**database, next).await <= 2);
    let ahead = "SELECT max(nextval('customer_id_seq')) FROM generate_series(1, 50)";
    let ahead = number(&**database, ahead).await;
    database.load_yaml("customer:\n  - {id: 7, name: Seven, email: s@x}\n").await.unwrap();
    assert_eq!(number(&**database, "SELECT nextval('customer_id_seq')").await, ahead + 1);
}

#[wharf::test]
async fn a_fixtures_scalars_are_as_they_are_written(database: &TestDatabase) {
    let table = "CREATE TYPE pair AS (word text, number numeric, more jsonb);
                 CREATE TYPE country AS ENUM ('NO', 'SE');
                 CREATE DOMAIN zip AS text; CREATE DOMAIN thing AS jsonb;
                 CREATE TABLE written (id int, zip zip, country country, word text, words text[], version varchar(9),
                     digits text, amount numeric, whole int, ratio float8, yes bool, bits bit(3),
                     data jsonb, thing thing, pair pair, pairs pair[], grid int[], day date)";
    database.execute_unprepared(table).await.unwrap();
    let fixture = "
written:
  - id: 1
    zip: 00501
    country: NO
    word: True
    words: [1e3, 'x', 1.10, NO, ~]
    version: 1.10
    digits: 12345678901234567890
    amount: 1.10
    whole: 1e3
    ratio: .inf
    yes: NO
    bits: 101
    data: {a: 1.10, b: true, c: NO, d: [1, x]}
    thing: 1e3
    pair: {word: 1e3, number: 1.10, more: {k: 1}}
    pairs: [{word: 00501, number: 2}]
    grid: [[1, 2], [3, 4]]
    day: 20260102
  - {id: 2, zip: '5', word: .inf, words: '{1e3}', data: '5', digits: 1e5, version: 0x1F}
";
    database.load_yaml(fixture).await.unwrap();
    for (sql, kept) in [
        ("SELECT zip FROM written WHERE id = 1", "00501"),
        ("SELECT country::text FROM written WHERE id = 1", "NO"),
        ("SELECT word FROM written WHERE id = 1", "True"),
        ("SELECT words::text FROM written WHERE id = 1", "{1e3,x,1.10,NO,NULL}"),
        ("SELECT version FROM written WHERE id = 1", "1.10"),
        ("SELECT digits FROM written WHERE id = 1", "12345678901234567890"),
        ("SELECT amount::text FROM written WHERE id = 1", "1.10"),
        ("SELECT whole::text FROM written WHERE id = 1", "1000"),
        ("SELECT ratio::text FROM written WHERE id = 1", "Infinity"),
        ("SELECT yes::text FROM written WHERE id = 1", "false"),
        ("SELECT bits::text FROM written WHERE id = 1", "101"),
        (
            "SELECT data::text FROM written WHERE id = 1",
            r#"{"a": 1.10, "b": true, "c": "NO", "d": [1, "x"]}"#,
        ),
        ("SELECT thing::text FROM written WHERE id = 1", "1000"),
        ("SELECT pair::text FROM written WHERE id = 1", r#"(1e3,1.10,"{""k"": 1}")"#),
        ("SELECT pairs::text FROM written WHERE id = 1", r#"{"(00501,2,)"}"#),
        ("SELECT grid::text FROM written WHERE id = 1", "{{1,2},{3,4}}"),
        ("SELECT day::text FROM written WHERE id = 1", "2026-01-02"),
        ("SELECT word FROM written WHERE id = 2", ".inf"),
        ("SELECT words::text FROM written WHERE id = 2", "{1e3}"),
        ("SELECT data::text FROM written WHERE id = 2", "\"5\""),
        ("SELECT digits FROM written WHERE id = 2", "1e5"),
        ("SELECT version FROM written WHERE id = 2", "0x1F"),
    ] {
        let statement = sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, sql);
        let row = database.query_one_raw(statement).await.unwrap().unwrap();
        assert_eq!(row.try_get_by_index::<String>(0).unwrap(), kept, "{sql}");
    }
}

#[wharf::test]
async fn a_fixtures_rows_may_refer_to_later_ones(database: &TestDatabase) {
    let tables = "CREATE SCHEMA other;
                  CREATE TABLE \"Team\" (id int PRIMARY KEY, lead int NOT NULL);
                  CREATE TABLE other.member (id int PRIMARY KEY, team int NOT NULL REFERENCES \"Team\",
                      boss int REFERENCES other.member, name text);
                  ALTER TABLE \"Team\" ADD CONSTRAINT \"The lead\" FOREIGN KEY (lead) REFERENCES other.member;
                  CREATE TABLE apart (id int PRIMARY KEY, member int REFERENCES other.member DEFERRABLE)";
    database.execute_unprepared(tables).await.unwrap();
    let fixture = "
Team:
  - {id: 1, lead: 2}
apart:
  - {id: 1, member: 2}
other.member:
  - {id: 1, team: 1, boss: 2}
  - {id: 2, team: 1, name: Ada}
";
    database.load_yaml(fixture).await.unwrap();
    assert_eq!(number(&**database, "SELECT count(*) FROM other.member").await, 2);
    // The checks are what they were.
    let deferrable = "SELECT count(*) FROM pg_constraint WHERE condeferrable AND contype = 'f'";
    assert_eq!(number(&**database, deferrable).await, 1);
    database.execute_unprepared("INSERT INTO other.member VALUES (3, 9)").await.unwrap_err();
    // What refers to nothing is refused as ever.
    let nobody = "Team:\n  - {id: 2, lead: 9}\nother.member:\n  - {id: 4, team: 2}\n";
    let error = database.load_yaml(nobody).await.unwrap_err().to_string();
    assert!(error.contains("fixture") && error.contains("The lead"), "{error}");
    assert_eq!(number(&**database, deferrable).await, 1);
}

#[wharf::test]
async fn sequences_go_on_after_the_tables_highest(database: &TestDatabase) {
    let tables = "CREATE SEQUENCE shared;
                  CREATE TABLE ticket (id bigint PRIMARY KEY DEFAULT nextval('shared'), note text,
                      small smallint GENERATED ALWAYS AS IDENTITY,
                      down int GENERATED BY DEFAULT AS IDENTITY (INCREMENT -1),
                      code text DEFAULT 'T' || nextval('shared'));
                  INSERT INTO ticket (id, small) OVERRIDING SYSTEM VALUE VALUES (90, 70)";
    database.execute_unprepared(tables).await.unwrap();
    database.load_yaml("ticket:\n  - {id: 41, small: 7, down: -5}\n").await.unwrap();
    let next = "INSERT INTO ticket (code) VALUES ('x') RETURNING ";
    assert_eq!(number(&**database, &format!("{next} id")).await, 91);
    assert_eq!(number(&**database, &format!("{next} small::bigint")).await, 72);
    assert_eq!(number(&**database, &format!("{next} down::bigint")).await, -8);
}

#[wharf::test(Counted)]
async fn rows_that_cannot_be_loaded_are_named_and_none_are_loaded(database: &TestDatabase) {
    let ada = "customer:\n  - {name: Ada, email: a@x}\n";
    for (more, said) in [
        ("purchase:\n  - {customer_id: 99, item: x, quantity: 1, price: 1}", "table purchase"),
        ("purchase:\n  - {customer_id: 1, item: x, quantity: many, price: 1}", "many"),
        ("custmer:\n  - {name: x}", "custmer"),
        ("customers: 3", "a list of rows"),
        ("purchase: [", "not valid YAML"),
        ("purchase:\n  - {itm: x}", "itm"),
    ] {
        let error = database.load_yaml(&format!("{ada}{more}")).await.unwrap_err().to_string();
        assert!(error.contains("fixture") && error.contains(said), "{error}");
        assert_eq!(number(&**database, "SELECT count(*) FROM customer").await, 0, "{more}");
    }
}

#[test]
fn without_another_server_tests_have_the_engine_of_their_process() {
    let done = another("embedded");
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && said.contains("two, one after the other"), "{done:?}");
    let done = another("nonsense");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(said.contains("must be native, docker or embedded"), "{said}");
}

/// This test binary once more, as the tests of another process.
fn another(part: &str) -> std::process::Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let test = match part {
        "gives an error" => "testing::part_that_gives_an_error",
        _ => "testing::part",
    };
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    match part {
        "keeps none" => command.env("WHARF_TEST_KEEP", "never"),
        _ => command.env_remove("WHARF_TEST_KEEP"),
    };
    if ["embedded", "nonsense"].contains(&part) {
        command.env("WHARF_TEST_RUNTIME", part).env_remove("TEST_DATABASE_URL");
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
    let given = another("gives an error");
    assert!(!given.status.success());
    assert!(String::from_utf8_lossy(&given.stderr).contains("is kept: "), "{given:?}");
    // As a person reads it, and not `Custom("on purpose")`.
    let said = String::from_utf8_lossy(&given.stderr).into_owned();
    assert!(said.contains("\nCustom Error: on purpose\n"), "{said}");
    assert_eq!(databases(&its_name(&given)).await, 1);
    let dropped = another("keeps none");
    assert!(!dropped.status.success());
    swept(&its_name(&dropped)).await;
    assert!(!String::from_utf8_lossy(&dropped.stderr).contains("is kept"), "{dropped:?}");

    // It had this database. Any process of another test may sweep it as soon as it is dead.
    swept(&its_name(&another("dies"))).await;
    let kept = kept.rsplit('/').next().unwrap();
    assert_eq!(databases(kept).await, 1, "what was kept is not swept");
    let any = TestDatabase::empty().await.unwrap();
    let long_ago = format!("COMMENT ON DATABASE \"{kept}\" IS 'wharf: kept 1000000000'");
    any.execute_unprepared(&long_ago).await.unwrap();
    swept(kept).await;
}

/// Waits until a database is gone, by its owner or by the next process. On a busy machine an owner waits for the
/// DROP no longer than a second, and the server may need longer than it waits itself to end a dead process's
/// connections.
async fn swept(name: &str) {
    until("it is dropped or swept", async || {
        databases(name).await == 0 || {
            another("sweeps");
            databases(name).await == 0
        }
    })
    .await;
}

/// As `cargo nextest` runs them: each test in a process of its own, several at once; and as many test binaries as a
/// workspace has. The template is one of each build, and is not made again.
#[tokio::test]
async fn tests_in_processes_of_their_own_share_a_template() {
    let one = tokio::task::spawn_blocking(|| another("copies"));
    let others: Vec<_> =
        (0..5).map(|_| tokio::task::spawn_blocking(|| another("copies"))).collect();
    let mut made = 0;
    for done in join_all(others.into_iter().chain([one])).await {
        let done = done.unwrap();
        assert!(done.status.success(), "{done:?}");
        made += String::from_utf8_lossy(&done.stdout).matches("made its template").count();
    }
    assert!(made <= 1, "{made} of 6 processes made the template");
    // Others of the same server, as other programs of a workspace have them, are in nobody's way.
    let any = TestDatabase::empty().await.unwrap();
    for at in 0..10 {
        let name = format!("wharf_template_{:016x}_{:016x}", 0xfeed + at, std::process::id());
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        any.execute_unprepared(&format!("CREATE DATABASE {name}")).await.unwrap();
        any.execute_unprepared(&format!("COMMENT ON DATABASE {name} IS 'wharf: used {now}'"))
            .await
            .unwrap();
    }
    let done = another("copies");
    let again = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success() && !again.contains("made its template"), "{again}");
    let there = format!("wharf_template_%{:016x}", std::process::id());
    assert_eq!(databases(&there).await, 10);
    for at in 0..10 {
        let name = format!("wharf_template_{:016x}_{:016x}", 0xfeed + at, std::process::id());
        any.execute_unprepared(&format!("DROP DATABASE {name}")).await.unwrap();
    }
}

/// The server that the file describes, in a folder of its own.
#[tokio::test]
async fn tests_run_on_the_server_of_the_file_and_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("infra.yaml");
    let major = major();
    let text = format!("pgserver: {{version: {major}, runtime: native}}\ndatabases: {{}}\n");
    std::fs::write(&file, text).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "testing::part", "--nocapture"]).current_dir(folder.path());
    command.env_remove("WHARF_TEST_RUNTIME").env_remove("TEST_DATABASE_URL");
    let done =
        command.env("WHARF_TEST_PART", "on the file").env("RUST_BACKTRACE", "0").output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    let config = wharf::config::Config::load(&file).unwrap().pgserver.unwrap();
    let server = wharf::pgserver::PgServer::new(config, []);
    let expected = format!("of pgserver `{}` in ", server.config().name);
    let stays = server.status().await.unwrap();
    server.remove().await.unwrap();
    assert!(done.status.success() && said.contains(&expected), "{said}");
    assert!(matches!(stays, wharf::pgserver::Status::Running(_)), "{stays:?}");
}

/// Not a test: what the other process does.
#[tokio::test]
async fn part() {
    use std::io::Write as _;
    let Ok(part) = std::env::var("WHARF_TEST_PART") else {
        return;
    };
    if part == "embedded" {
        return two_in_this_process().await;
    }
    if part == "copies" {
        let database = TestDatabase::new::<Counted>().await.unwrap();
        assert_eq!(number(&*database, "SELECT count(*) FROM customer").await, 0);
        if RUNS.load(Ordering::Relaxed) > 0 {
            std::io::stdout().write_all(b"\nmade its template\n").unwrap();
        }
        return;
    }
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

/// Not a test either.
#[wharf::test]
async fn part_that_gives_an_error(database: &TestDatabase) -> Result<(), DbErr> {
    use std::io::Write as _;
    if std::env::var("WHARF_TEST_PART").is_err() {
        return Ok(());
    }
    std::io::stdout().write_all(format!("\npart has {}\n", database.name()).as_bytes()).unwrap();
    Err(DbErr::Custom("on purpose".to_owned()))
}

/// The engine has one connection in all: the second waits for the first to be dropped.
async fn two_in_this_process() {
    use std::io::Write as _;
    for _ in 0..2 {
        let database = TestDatabase::new::<Counted>().await.unwrap();
        let insert = "INSERT INTO customer (name, email) VALUES ('Ada', 'a@x')";
        database.execute_unprepared(insert).await.unwrap();
        database.load_yaml("customer:\n  - {name: Bob, email: b@x}").await.unwrap();
        assert_eq!(number(&*database, "SELECT count(*) FROM customer").await, 2);
        assert_eq!(
            number(&*database, "SELECT count(*) FROM pg_database WHERE datname LIKE 'wharf_test%'")
                .await,
            1
        );
    }
    let many = join_all((0..3).map(|_| async {
        let database = TestDatabase::new::<Counted>().await.unwrap();
        number(&*database, "SELECT count(*) FROM customer").await
    }));
    assert_eq!(many.await, [0, 0, 0]);
    std::io::stdout().write_all(b"\ntwo, one after the other\n").unwrap();
}
