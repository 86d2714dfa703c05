//! A migration's transaction, and what a migration leaves on its connection.

use std::sync::atomic::{AtomicBool, Ordering};

use sea_orm::ConnectionTrait;
use wharf::{Error, migrate::MigrateError};

use super::*;

/// The migration's error, and whether wharf says that nothing of it stays.
fn failed(error: Error) -> (String, bool) {
    match &error {
        Error::Migrate(MigrateError::Failed { in_transaction, .. }) => {
            (error.to_string(), *in_transaction)
        }
        _ => panic!("{error}"),
    }
}

macro_rules! half {
    ($name:ident: $up:expr) => {
        migrator!($name: ONE, text("m2_half", $up, ""), THREE);
    };
}
half!(RawCommit: "CREATE TABLE half (n int);; COMMIT;; SELECT nonsense");
half!(RawEnd: "CREATE TABLE half (n int); end work; CREATE TABLE more (n int)");
half!(RawChain: "CREATE TABLE half (n int);; COMMIT AND CHAIN");
half!(RawDump: "BEGIN; CREATE TABLE half (n int); COMMIT");
half!(RawRollback: "CREATE TABLE half (n int);; ROLLBACK;; CREATE TABLE more (n int)");
half!(RawRollbackLast: "CREATE TABLE half (n int);; ROLLBACK");

#[tokio::test]
async fn a_raw_end_of_its_transaction_is_refused_and_leaves_nothing() {
    async fn check<M: MigratorTrait + 'static>(what: &str, expected: &str) {
        let database = TestDatabase::new().await;
        let pg = database.pg().await;
        let (said, leaves_nothing) = failed(pg.migrate::<M>().await.unwrap_err());
        assert!(leaves_nothing && said.contains(expected), "{what}: {said}");
        assert!(said.contains("it was rolled back"), "{what}: {said}");
        assert_eq!(there(&pg).await, ["one"], "{what}");
        let expected = ["m1_one applied", "m2_half pending", "m3_three pending"];
        assert_eq!(states::<M>(&pg).await, expected, "{what}");
    }
    check::<RawCommit>("COMMIT", "must not COMMIT").await;
    check::<RawEnd>("END in a text of several", "must not COMMIT").await;
    check::<RawChain>("COMMIT AND CHAIN", "must not COMMIT").await;
    check::<RawDump>("a dump's own transaction", "must not COMMIT").await;
    check::<RawRollback>("ROLLBACK, then a write", "read-only transaction").await;
    check::<RawRollbackLast>("ROLLBACK at the end", "read-only transaction").await;
}

half!(Constraints: "CREATE TABLE half (n int);; SET CONSTRAINTS ALL IMMEDIATE;; COMMIT");

/// SET CONSTRAINTS fires what refuses COMMIT; what was committed then is told.
#[tokio::test]
async fn what_a_migration_could_commit_is_not_said_to_be_rolled_back() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let (said, leaves_nothing) = failed(pg.migrate::<Constraints>().await.unwrap_err());
    assert!(!leaves_nothing && said.contains("a part of it may stay"), "{said}");
    assert_eq!(states::<Constraints>(&pg).await[1], "m2_half incomplete");
    assert!(there(&pg).await.contains(&"half".to_owned()));
}

migrator!(Dump:
    ONE,
    text(
        "m2_dump",
        "SELECT pg_catalog.set_config('search_path', '', false); SET row_security = off; SET lock_timeout = 0;
         SET ROLE pg_read_all_data; RESET ROLE; CREATE TABLE public.dumped (n int); SET CONSTRAINTS ALL IMMEDIATE",
        "SET search_path = ''; DROP TABLE public.dumped"
    ),
    THREE,
    Text {
        name: "m4_outside",
        up: "SELECT pg_catalog.set_config('search_path', '', false);; SET ROLE pg_read_all_data",
        down: "SET search_path = ''",
        in_transaction: false,
    },
    text("m5_after", "CREATE TABLE five (n int)", "DROP TABLE five"),
);

/// As the output of pg_dump does, which people paste.
#[tokio::test]
async fn what_a_migration_sets_is_undone_before_it_is_recorded() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let seen = Arc::new(Mutex::new(String::new()));
    let told = Arc::clone(&seen);
    let after = async move |db: sea_orm::DatabaseConnection| {
        let asked = "SELECT concat_ws(' ', current_setting('search_path'), current_setting('row_security'),
                            current_setting('lock_timeout'), current_setting('default_transaction_read_only'),
                            current_user = session_user)";
        let asked = sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, asked);
        let row = db.query_one_raw(asked).await?.unwrap();
        *told.lock().unwrap() = row.try_get_by_index(0)?;
        Ok(())
    };
    assert_eq!(pg.migrate::<Dump>().after(after).await.unwrap().migrations.len(), 5);
    assert_eq!(*seen.lock().unwrap(), "\"$user\", public on 5s off t");
    assert_eq!(there(&pg).await, ["dumped", "five", "one", "three", "wharf_unfinished_migration"]);
    assert_eq!(pg.migrate::<Dump>().down(5).await.unwrap().migrations.len(), 5);
    // In a tenant's schema, its own path comes back.
    let tenant = pg.scoped("tenant").unwrap();
    assert_eq!(tenant.migrate::<Dump>().await.unwrap().migrations.len(), 5);
    assert_eq!(there(&tenant).await, ["five", "one", "three", "wharf_unfinished_migration"]);
}

migrator!(LeftOpen:
    ONE,
    Text { name: "m2_open", up: "BEGIN;; CREATE TABLE half (n int)", down: "", in_transaction: false },
);
migrator!(FailsWithin:
    ONE,
    Text { name: "m2_open", up: "BEGIN;; SELECT nonsense", down: "", in_transaction: false },
);

#[tokio::test]
async fn a_transaction_that_a_migration_leaves_open_is_an_error_and_ended() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let (said, _) = failed(pg.migrate::<LeftOpen>().await.unwrap_err());
    assert!(said.contains("left a transaction open"), "{said}");
    assert_eq!(states::<LeftOpen>(&pg).await, ["m1_one applied", "m2_open incomplete"]);
    assert!(!there(&pg).await.contains(&"half".to_owned()));
    let (said, _) = failed(pg.migrate::<FailsWithin>().await.unwrap_err());
    assert!(said.contains("nonsense"), "{said}");
    assert_eq!(states::<LeftOpen>(&pg).await[1], "m2_open incomplete");
}

/// The answer to COMMIT is lost with the connection, and the server is asked what became of it.
#[tokio::test]
async fn a_migration_whose_commit_was_not_answered_is_what_the_server_says() {
    static CUT: AtomicBool = AtomicBool::new(true);
    struct Cut;
    impl MigrationName for Cut {
        fn name(&self) -> &str {
            "m2_cut"
        }
    }
    #[async_trait::async_trait]
    impl MigrationTrait for Cut {
        async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
            // At COMMIT, the server ends the connection, and so rolls back.
            let cut = match CUT.swap(false, Ordering::Relaxed) {
                true => "PERFORM pg_terminate_backend(pg_backend_pid());",
                false => "",
            };
            let up = format!(
                "CREATE TABLE half (n int); CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$
                 BEGIN {cut} RETURN NULL; END $$; CREATE CONSTRAINT TRIGGER cut AFTER INSERT ON half
                 DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION cut(); INSERT INTO half VALUES (1)"
            );
            manager.get_connection().execute_unprepared(&up).await.map(|_| ())
        }
    }
    migrator!(AtCommit: ONE, Cut);
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let (said, leaves_nothing) = failed(pg.migrate::<AtCommit>().await.unwrap_err());
    assert!(leaves_nothing, "{said}");
    assert_eq!(there(&pg).await, ["one"]);
    assert_eq!(pg.migrate::<AtCommit>().await.unwrap().migrations, ["m2_cut"]);
}

migrator!(Named: ONE, text("m1_one", "CREATE TABLE again (n int)", ""));

#[tokio::test]
async fn two_migrations_of_one_name_are_refused() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    for error in [
        pg.migrate::<Named>().await.unwrap_err(),
        pg.migrate::<Named>().dry_run().await.unwrap_err(),
        pg.migrate::<Named>().status().await.map(|_| ()).unwrap_err(),
    ] {
        let said = error.to_string();
        assert!(matches!(error, Error::Migrate(MigrateError::Duplicate { .. })), "{said}");
        assert!(said.contains("two migrations are named m1_one"), "{said}");
    }
    assert!(there(&pg).await.is_empty());
}
