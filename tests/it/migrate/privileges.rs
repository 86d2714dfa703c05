//! What a login with few rights may still do, and which processes wait for each other.

use sea_orm::ConnectionTrait;
use wharf::migrate::MigrateError;

use super::*;

/// A service that starts asks for its migrations to be applied, and often may not create anything.
#[tokio::test]
async fn where_nothing_is_missing_nothing_is_created() {
    let database = TestDatabase::new().await;
    let owner = database.pg_with(&["schema: app", "extensions: [pg_trgm]"]);
    owner.migrate::<Two>().await.unwrap();
    let role = database.role("service", "PASSWORD 'x'").await;
    owner
        .execute_unprepared(&format!(
            "REVOKE TEMP ON DATABASE {} FROM PUBLIC; GRANT USAGE ON SCHEMA app TO {role};
             GRANT SELECT ON ALL TABLES IN SCHEMA app TO {role}",
            database.name
        ))
        .await
        .unwrap();
    let yaml = format!(
        "databases:\n  it: {{url: \"{}\", create_db: true, schema: app, extensions: [pg_trgm]}}\n",
        database.url_of(&role, "x")
    );
    let service = wharf::Manager::from_config(config(&yaml)).db("it").unwrap();
    assert!(service.migrate::<Two>().await.unwrap().migrations.is_empty());
    assert_eq!(states::<Three>(&service).await[2], "m3_three pending");
    let error = service.migrate::<Three>().await.unwrap_err().to_string();
    assert!(error.contains("permission denied"), "{error}");
}

/// No right to temporary tables: what refuses COMMIT cannot be there, and the rest of it holds.
#[tokio::test]
async fn a_login_without_temporary_tables_migrates_too() {
    let database = TestDatabase::new().await;
    let role = database.role("owner", "PASSWORD 'x'").await;
    let pg = database.pg().await;
    let name = &database.name;
    pg.execute_unprepared(&format!(
        "REVOKE TEMP ON DATABASE {name} FROM PUBLIC; GRANT CREATE ON SCHEMA public TO {role}"
    ))
    .await
    .unwrap();
    let own = Pg::from_url(&database.url_of(&role, "x")).await.unwrap();
    assert_eq!(own.migrate::<Three>().await.unwrap().migrations.len(), 3);
    migrator!(Commits: ONE, TWO, THREE, text("m4_half", "CREATE TABLE half (n int);; COMMIT", ""));
    let error = own.migrate::<Commits>().await.unwrap_err().to_string();
    assert!(error.contains("a part of it may stay"), "{error}");
    assert_eq!(states::<Commits>(&own).await[3], "m4_half incomplete");
}

#[tokio::test]
async fn processes_that_spell_one_schema_differently_wait_for_each_other() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    pg.ensure_schema("app").await.unwrap();
    let role = database.role("app", "SUPERUSER PASSWORD 'x'").await;
    pg.execute_unprepared(&format!("ALTER ROLE {role} SET search_path = app")).await.unwrap();
    let by_role = Pg::from_url(&database.url_of(&role, "x")).await.unwrap();
    let spellings = [
        database.pg_with(&["schema: app"]),
        database.pg_with(&["schema: \"App , public\""]),
        database.pg_with(&["schema: '\"app\"'"]),
        database.pg().await.scoped("app").unwrap(),
        by_role,
    ];
    for first in &spellings {
        let others = spellings.clone();
        let during = async move |_| {
            for other in &others {
                let error = other.migrate::<Two>().wait(Duration::ZERO).await.unwrap_err();
                let is_locked = matches!(error, Error::Migrate(MigrateError::Locked { .. }));
                assert!(is_locked, "{error}");
            }
            Ok(())
        };
        first.migrate::<Two>().before(during).await.unwrap();
    }
}
