//! What rows are copied into that is no plain table of one's own.

use sea_orm::{ConnectionTrait, EntityTrait, PaginatorTrait, sea_query::OnConflict};

use super::reading::{self, Reading, reading};
use crate::support::{TestDatabase, number};
use wharf::copy::Format;

fn update() -> OnConflict {
    OnConflict::column(reading::Column::Id).update_column(reading::Column::Value).to_owned()
}

fn newer(id: i32) -> reading::Model {
    reading::Model { value: Some(-1.0), ..reading(id) }
}

#[tokio::test]
async fn an_upsert_keeps_the_keys_that_the_server_would_generate() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    for generated in ["ALWAYS", "BY DEFAULT"] {
        pg.execute_unprepared(&format!(
            "DROP TABLE IF EXISTS reading;
             CREATE TABLE reading (id int4 GENERATED {generated} AS IDENTITY PRIMARY KEY, sensor text NOT NULL,
                 value real, at timestamptz NOT NULL, twice real GENERATED ALWAYS AS (value * 2) STORED)"
        ))
        .await
        .unwrap();
        let there = pg.insert_many::<Reading>((1..=10).map(reading));
        let there = there.exec_with_returning().await.unwrap();
        assert_eq!(there, (1..=10).map(reading).collect::<Vec<_>>());
        let insert = pg.insert_many::<Reading>((5..=12).map(newer)).on_conflict(update());
        assert_eq!(insert.exec().await.unwrap(), 8);
        let copy = pg.copy_in::<Reading>().on_conflict(update());
        assert_eq!(copy.rows((11..=20).map(newer)).await.unwrap(), 10);
        let csv = &b"id,sensor,at\n20,a,now\n21,a,now\n"[..];
        let copy = pg.copy_in::<Reading>().on_conflict(update());
        assert_eq!(copy.from_reader(csv, Format::Csv).await.unwrap(), 2);
        assert_eq!(
            number(&pg, "SELECT sum(id) FROM reading WHERE value = -1").await,
            (5..20).sum::<i64>()
        );
        assert_eq!(number(&pg, "SELECT count(*) FROM reading").await, 21);
    }
}

#[tokio::test]
async fn a_generated_key_that_is_to_be_changed_is_the_servers_error() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    pg.execute_unprepared(
        "CREATE TABLE reading (id int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, sensor text, value real, at timestamptz)",
    )
    .await
    .unwrap();
    let conflict =
        || OnConflict::column(reading::Column::Id).update_column(reading::Column::Id).to_owned();
    let copy = pg.copy_in::<Reading>().on_conflict(conflict()).rows([reading(1)]).await;
    let insert = pg.insert_many::<Reading>([reading(1)]).on_conflict(conflict()).exec().await;
    for error in [copy.unwrap_err(), insert.unwrap_err()] {
        assert_eq!(error.sqlstate().as_deref(), Some("428C9"), "{error}");
        assert!(
            error.to_string().contains("column \"id\" can only be updated to DEFAULT"),
            "{error}"
        );
    }
}

/// A table whose rows are somebody's each, and a login that is not above that.
#[tokio::test]
async fn row_level_security_is_for_insert_and_the_error_says_so() {
    let database = reading::table().await;
    let pg = database.pg().await;
    let role = database.role("tenant", "").await;
    pg.execute_unprepared(&format!(
        "ALTER TABLE reading ENABLE ROW LEVEL SECURITY;
         CREATE POLICY own ON reading USING (id < 100) WITH CHECK (id < 100);
         GRANT ALL ON reading TO {role}; GRANT ALL ON SEQUENCE reading_id_seq TO {role}"
    ))
    .await
    .unwrap();
    let tenant = pg.with_local("role", &role);

    let error = tenant.copy_in::<Reading>().rows([reading(1)]).await.unwrap_err();
    assert_eq!(error.sqlstate().as_deref(), Some("0A000"), "{error}");
    let told = error.to_string();
    assert!(told.contains("COPY FROM not supported with row-level security"), "{told}");
    assert!(told.ends_with("Use `insert_many`, or `copy_in` with `on_conflict`."), "{told}");
    let csv = &b"id,sensor\n1,a\n"[..];
    let error = tenant.copy_in::<Reading>().from_reader(csv, Format::Csv).await.unwrap_err();
    assert!(error.to_string().contains("Use `insert_many`"), "{error}");
    assert_eq!(Reading::find().count(&pg).await.unwrap(), 0);

    // Both do, and what the policy forbids stays forbidden.
    assert_eq!(tenant.insert_many::<Reading>((1..=5).map(reading)).exec().await.unwrap(), 5);
    let copy = tenant.copy_in::<Reading>().on_conflict(update());
    assert_eq!(copy.rows((3..=8).map(newer)).await.unwrap(), 6);
    let insert = tenant.insert_many::<Reading>([reading(100)]).exec().await;
    assert_eq!(insert.unwrap_err().sqlstate().as_deref(), Some("42501"));
    assert_eq!(Reading::find().count(&pg).await.unwrap(), 8);
}

#[tokio::test]
async fn a_view_is_for_insert_and_the_error_says_so() {
    let database = reading::table().await;
    let pg = database.pg().await;
    pg.execute_unprepared(
        "ALTER TABLE reading RENAME TO measured; CREATE VIEW reading AS SELECT * FROM measured WHERE id < 100",
    )
    .await
    .unwrap();
    let error = pg.copy_in::<Reading>().rows([reading(1)]).await.unwrap_err();
    assert_eq!(error.sqlstate().as_deref(), Some("42809"), "{error}");
    let told = error.to_string();
    assert!(told.contains("cannot copy to view \"reading\""), "{told}");
    assert!(told.ends_with("Use `insert_many`, or `copy_in` with `on_conflict`."), "{told}");

    assert_eq!(pg.insert_many::<Reading>((1..=5).map(reading)).exec().await.unwrap(), 5);
    let copy = pg.copy_in::<Reading>().on_conflict(update());
    assert_eq!(copy.rows((3..=8).map(newer)).await.unwrap(), 6);
    assert_eq!(number(&pg, "SELECT count(*) FROM measured").await, 8);

    // One that says by itself what becomes of a row takes a COPY, and one that nothing can write to says so.
    pg.execute_unprepared(
        "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN INSERT INTO measured SELECT NEW.*; RETURN NEW; END $$;
         CREATE TRIGGER keep INSTEAD OF INSERT ON reading FOR EACH ROW EXECUTE FUNCTION keep()",
    )
    .await
    .unwrap();
    assert_eq!(pg.copy_in::<Reading>().rows((11..=20).map(reading)).await.unwrap(), 10);
    assert_eq!(number(&pg, "SELECT count(*) FROM measured").await, 18);
    pg.execute_unprepared("CREATE MATERIALIZED VIEW seen AS TABLE measured").await.unwrap();
    let error = pg.copy_in_named("seen", ["id"]).rows([1]).await.unwrap_err();
    assert!(error.to_string().contains("cannot copy to materialized view"), "{error}");
    assert!(!error.to_string().contains("insert_many"), "{error}");
}

/// A trigger's own error is not the table's.
#[tokio::test]
async fn what_a_trigger_refuses_has_no_other_way() {
    let database = reading::table().await;
    let pg = database.pg().await;
    pg.execute_unprepared(
        "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE 'not here' USING ERRCODE = '0A000', HINT = 'there'; END $$;
         CREATE TRIGGER no BEFORE INSERT ON reading FOR EACH ROW EXECUTE FUNCTION no()",
    )
    .await
    .unwrap();
    let error = pg.copy_in::<Reading>().rows([reading(1)]).await.unwrap_err();
    assert!(error.to_string().ends_with("not here; hint: there"), "{error}");
}
