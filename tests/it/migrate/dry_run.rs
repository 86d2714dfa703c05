//! The SQL of pending migrations, and what is unsafe in it.

use sea_orm::ConnectionTrait;
use wharf::{
    Error, Pg,
    migrate::{DryRun, MigrateError, Unsafe},
};

use super::*;

migrator!(Dangerous:
    ONE,
    text(
        "m2_danger",
        "CREATE INDEX big_n ON big (n);; ALTER TABLE big ALTER COLUMN n TYPE bigint;; \
         ALTER TABLE one RENAME COLUMN n TO m;; CREATE TABLE new (n int);; CREATE INDEX new_n ON new (n)",
        ""
    ),
    Text { name: "m3_index", up: "CREATE INDEX CONCURRENTLY one_m ON one (m)", down: "", in_transaction: false },
);

#[tokio::test]
async fn a_dry_run_shows_the_sql_and_what_is_unsafe_in_it_and_changes_nothing() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let big =
        "CREATE TABLE big AS SELECT n, repeat('x', 900) AS t FROM generate_series(1, 12000) n";
    pg.execute_unprepared(big).await.unwrap();
    let planned = pg.migrate::<Dangerous>().dry_run().await.unwrap();
    assert_eq!(there(&pg).await, ["big"]);
    assert_eq!(states::<Dangerous>(&pg).await[0], "m1_one pending");
    let names: Vec<&str> = planned.migrations.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["m1_one", "m2_danger", "m3_index"]);
    assert_eq!(planned.migrations[0].statements, ["CREATE TABLE one (n int)"], "{planned:#?}");
    assert!(planned.migrations[0].findings.is_empty());
    let found: Vec<Unsafe> = planned.migrations[1].findings.iter().map(|it| it.what).collect();
    assert_eq!(found, [Unsafe::IndexBlocksWrites, Unsafe::TypeChange]);
    assert!(planned.migrations[1].findings[0].size.unwrap() > 8_000_000);
    let index = &planned.migrations[2];
    assert_eq!(index.statements, ["CREATE INDEX CONCURRENTLY one_m ON one (m)"]);
    assert!(index.error.as_ref().unwrap().contains("cannot run inside a transaction"), "{index:?}");
    let shown = planned.to_string();
    for part in [
        "-- m1_one\nCREATE TABLE one (n int);\n",
        "-- unsafe: this blocks writes to big while the index is built; use CREATE INDEX CONCURRENTLY",
        " MB) [index-blocks-writes]\n",
        "-- m3_index\n-- outside of a transaction\nCREATE INDEX CONCURRENTLY one_m ON one (m);\n",
        "-- incomplete, because the migration failed here: ",
    ] {
        assert!(shown.contains(part), "no {part:?} in {shown}");
    }
}

fn rules(planned: &DryRun) -> Vec<Unsafe> {
    planned.migrations.iter().flat_map(|it| &it.findings).map(|it| it.what).collect()
}

/// Nothing but reading: a database that nobody may write to is enough.
#[tokio::test]
async fn on_a_scratch_database_nothing_of_the_target_is_touched() {
    let (target, scratch) = (TestDatabase::new().await, TestDatabase::new().await);
    let pg = target.pg().await;
    pg.migrate::<Dangerous>().up(1).await.unwrap();
    let big = "CREATE TABLE big AS SELECT n FROM generate_series(1, 3000) n";
    pg.execute_unprepared(big).await.unwrap();
    scratch.pg().await.execute_unprepared("CREATE TABLE big (n int)").await.unwrap();
    let reads = target.pg_with(&["readonly: true"]);
    // Whoever writes to a table of the target, or waits for its lock, is in the way of this one.
    let held = pg.session().await.unwrap();
    held.execute_unprepared("LOCK TABLE one, big IN SHARE MODE").await.unwrap();
    let planned = reads.migrate::<Dangerous>().dry_run_on(&scratch.pg().await).await.unwrap();
    held.rollback().await.unwrap();
    let names: Vec<&str> = planned.migrations.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["m2_danger", "m3_index"]);
    // `one` is in use, because it is applied. Sizes are the target's.
    use Unsafe::{IndexBlocksWrites, Rename, TypeChange};
    assert_eq!(rules(&planned), [IndexBlocksWrites, TypeChange, Rename]);
    assert!(planned.migrations[0].findings[0].size.unwrap() > 50_000);
    // One outside of a transaction runs as it would.
    let index = &planned.migrations[1];
    assert_eq!((&index.error, index.in_transaction), (&None, false));
    assert_eq!(index.statements, ["CREATE INDEX CONCURRENTLY one_m ON one (m)"]);
    assert_eq!(there(&pg).await, ["big", "one"]);
    assert_eq!(states::<Dangerous>(&pg).await[1], "m2_danger pending");
}

#[tokio::test]
async fn neither_a_status_nor_a_dry_run_creates_the_database_or_the_schema() {
    let database = TestDatabase::new().await;
    let name = format!("{}_absent", database.name);
    let url = database.url().replace(&database.name, &name);
    let yaml = format!("databases:\n  it: {{url: \"{url}\", create_db: true, schema: app}}\n");
    let absent = wharf::Manager::from_config(config(&yaml)).db("it").unwrap();
    assert_eq!(states::<Two>(&absent).await, ["m1_one pending", "m2_two pending"]);
    let scratch = TestDatabase::new().await;
    let planned = absent.migrate::<Two>().dry_run_on(&scratch.pg().await).await.unwrap();
    assert_eq!(planned.migrations.len(), 2);
    let is_there = format!("SELECT count(*) FROM pg_database WHERE datname = '{name}'");
    assert_eq!(number(&database.pg().await, &is_there).await, 0);
    // A schema that does not exist has nothing applied, whatever the next one in the search path has.
    let pg = database.pg().await;
    pg.migrate::<Two>().await.unwrap();
    let other = database.pg_with(&["schema: \"app, public\""]);
    assert_eq!(states::<Two>(&other).await, ["m1_one pending", "m2_two pending"]);
    assert_eq!(number(&pg, "SELECT count(*) FROM pg_namespace WHERE nspname = 'app'").await, 0);
}

migrator!(Defaults:
    ONE,
    text(
        "m2_defaults",
        "ALTER TABLE one ADD COLUMN a float DEFAULT random();; ALTER TABLE one ADD COLUMN b timestamptz DEFAULT now();;
         CREATE FUNCTION mine() RETURNS int LANGUAGE sql VOLATILE AS 'SELECT 1';;
         ALTER TABLE ONE ADD COLUMN c int DEFAULT mine();; ALTER TABLE one ADD COLUMN d int NOT NULL DEFAULT 7;;
         -- wharf:allow type-change: it has twenty rows
         ALTER TABLE one ALTER COLUMN n TYPE bigint;;
         /* wharf:allow type-change */ ALTER TABLE one ALTER COLUMN d TYPE bigint",
        ""
    ),
);

#[tokio::test]
async fn a_small_table_hides_nothing_and_a_comment_with_a_reason_allows_one_rule() {
    let (target, scratch) = (TestDatabase::new().await, TestDatabase::new().await);
    let pg = target.pg().await;
    pg.migrate::<Defaults>().up(1).await.unwrap();
    let planned = pg.migrate::<Defaults>().dry_run_on(&scratch.pg().await).await.unwrap();
    use Unsafe::{Rewrite, TypeChange};
    assert_eq!(rules(&planned), [Rewrite, Rewrite, TypeChange]);
    let said = planned.migrations[0].findings[2].to_string();
    assert!(said.ends_with("give a reason: -- wharf:allow type-change: REASON"), "{said}");
    let on_target = pg.migrate::<Defaults>().dry_run().await.unwrap();
    assert_eq!(rules(&on_target), rules(&planned));
}

migrator!(Fails: ONE, text("m2_fails", "DROP TABLE one;; SELECT nonsense;; DROP TABLE two", ""), THREE);

#[tokio::test]
async fn a_migration_that_fails_is_told_and_those_after_it_are_not_guessed() {
    let (target, scratch) = (TestDatabase::new().await, TestDatabase::new().await);
    let pg = target.pg().await;
    pg.migrate::<Fails>().up(1).await.unwrap();
    let planned = pg.migrate::<Fails>().dry_run_on(&scratch.pg().await).await.unwrap();
    let [fails] = planned.migrations.as_slice() else { panic!("{planned:?}") };
    assert!(fails.error.as_ref().unwrap().contains("\"nonsense\" does not exist"), "{fails:?}");
    assert_eq!(rules(&planned), [Unsafe::Drop]);
    // What is applied and missing here cannot be applied to a scratch database.
    let error = async |pg: &Pg, scratch: &Pg| {
        pg.migrate::<Nothing>().dry_run_on(scratch).await.unwrap_err()
    };
    let error = error(&pg, &scratch.pg().await).await;
    assert!(matches!(error, Error::Migrate(MigrateError::Missing { .. })), "{error}");
}

migrator!(Nothing: TWO);
migrator!(Commits: text("m1_commits", "CREATE TABLE half (n int);; COMMIT;; SELECT 1", ""), TWO);

#[tokio::test]
async fn a_dry_run_on_the_target_survives_a_raw_commit() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let planned = pg.migrate::<Commits>().dry_run().await.unwrap();
    assert!(
        planned.migrations[0].error.as_ref().unwrap().contains("must not COMMIT"),
        "{planned:?}"
    );
    assert!(there(&pg).await.is_empty());
}
