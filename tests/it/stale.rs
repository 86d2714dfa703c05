//! Statements that were prepared for what is no longer there are prepared anew.

use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::TryStreamExt;
use sea_orm::{ConnectionTrait, EntityTrait, Statement, StreamTrait, entity::prelude::*};
use wharf::{Error, Pg};

use crate::support::{TestDatabase, number};

mod item {
    use super::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "item")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        #[sea_orm(select_as = "text")]
        pub name: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

const RAW: &str = "SELECT * FROM item WHERE id = 1";

fn raw() -> Statement {
    Statement::from_string(sea_orm::DbBackend::Postgres, RAW)
}

/// A table, and three connections that have prepared every statement on it.
async fn prepared() -> (TestDatabase, Pg) {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["pool_size: 3", "max_overflow: 0"]);
    pg.execute_unprepared(
        "CREATE TABLE item (id bigint, name text); INSERT INTO item VALUES (1, 'a')",
    )
    .await
    .unwrap();
    let three =
        [pg.session().await.unwrap(), pg.session().await.unwrap(), pg.session().await.unwrap()];
    for session in three {
        session.query_all_raw(raw()).await.unwrap();
        session.query_one_raw(raw()).await.unwrap();
        item::Entity::find().one(&session).await.unwrap();
        session.commit().await.unwrap();
    }
    (database, pg)
}

/// Changes what the prepared statements give.
async fn alter(pg: &Pg) {
    static N: AtomicU32 = AtomicU32::new(0);
    let n = N.fetch_add(1, Ordering::Relaxed);
    let sql = format!("ALTER TABLE item ADD COLUMN more_{n} int");
    pg.execute_unprepared(&sql).await.unwrap();
}

#[tokio::test]
async fn a_table_that_was_altered_costs_no_error_outside_a_session() {
    let (_database, pg) = prepared().await;
    // Each connection, in each kind of call.
    for _ in 0..2 {
        alter(&pg).await;
        assert_eq!(pg.query_all_raw(raw()).await.unwrap().len(), 1);
        alter(&pg).await;
        assert!(pg.query_one_raw(raw()).await.unwrap().is_some());
        alter(&pg).await;
        assert_eq!(pg.execute_raw(raw()).await.unwrap().rows_affected(), 1);
        alter(&pg).await;
        let rows: Vec<_> = pg.stream_raw(raw()).await.unwrap().try_collect().await.unwrap();
        assert_eq!(rows.len(), 1);
    }
    pg.execute_unprepared("ALTER TABLE item ALTER id TYPE int USING id::int").await.unwrap();
    pg.execute_unprepared("ALTER TABLE item ALTER id TYPE bigint").await.unwrap();
    assert!(item::Entity::find().one(&pg).await.unwrap().is_some());
}

#[tokio::test]
async fn one_session_finds_out_and_the_others_do_not() {
    let (_database, pg) = prepared().await;
    alter(&pg).await;
    let session = pg.session().await.unwrap();
    let error = Error::from(session.query_all_raw(raw()).await.unwrap_err());
    assert_eq!(error.sqlstate().as_deref(), Some("0A000"), "{error}");
    session.rollback().await.unwrap();
    let three =
        [pg.session().await.unwrap(), pg.session().await.unwrap(), pg.session().await.unwrap()];
    for session in three {
        session.query_all_raw(raw()).await.unwrap();
        session.commit().await.unwrap();
    }
    // A retry gets past it.
    alter(&pg).await;
    let calls = AtomicU32::new(0);
    let run = pg.session().retry(1).run(async |s| {
        calls.fetch_add(1, Ordering::Relaxed);
        s.query_all_raw(raw()).await
    });
    assert_eq!(run.await.unwrap().len(), 1);
    assert_eq!(calls.into_inner(), 2);
}

#[tokio::test]
async fn statements_that_the_server_has_forgotten_are_prepared_anew() {
    let (_database, pg) = prepared().await;
    let forget = "DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$";
    for _ in 0..3 {
        pg.execute_unprepared(forget).await.unwrap();
        assert_eq!(number(&pg, "SELECT count(*) FROM item").await, 1);
        assert!(item::Entity::find().one(&pg).await.unwrap().is_some());
    }
    // One that stays stale is told after one more attempt.
    let missing = Statement::from_string(sea_orm::DbBackend::Postgres, "EXECUTE no_such_statement");
    let error = Error::from(pg.execute_raw(missing).await.unwrap_err());
    assert_eq!(error.sqlstate().as_deref(), Some("26000"), "{error}");
}

#[tokio::test]
async fn single_statements_in_a_transaction_of_their_own_heal_as_well() {
    let (_database, pg) = prepared().await;
    let read_only = pg.read_only();
    let scoped = pg.scoped("public").unwrap();
    for view in [&read_only, &scoped] {
        for _ in 0..3 {
            assert_eq!(view.query_all_raw(raw()).await.unwrap().len(), 1);
        }
        alter(&pg).await;
        for _ in 0..6 {
            assert_eq!(view.query_all_raw(raw()).await.unwrap().len(), 1);
            assert!(view.query_one_raw(raw()).await.unwrap().is_some());
        }
    }
    // One that writes is not done twice.
    scoped.execute_raw(writes()).await.unwrap();
    pg.execute_unprepared("ALTER TABLE item ALTER COLUMN name TYPE varchar(9)").await.unwrap();
    scoped.execute_raw(writes()).await.unwrap();
    assert_eq!(number(&pg, "SELECT count(*) FROM item").await, 3);
}

fn writes() -> Statement {
    Statement::from_string(
        sea_orm::DbBackend::Postgres,
        "INSERT INTO item VALUES (2, 'b') RETURNING *",
    )
}

/// Tenants in the middle of a rolling migration share the connections and not the columns' types.
#[tokio::test]
async fn tenants_whose_columns_differ_in_type_are_read_in_turn() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["pool_size: 2", "max_overflow: 0"]);
    pg.execute_unprepared(
        "CREATE SCHEMA old; CREATE TABLE old.item (id bigint, name text); INSERT INTO old.item VALUES (1, 'a');
         CREATE SCHEMA new; CREATE TABLE new.item (id bigint, name varchar(9)); INSERT INTO new.item VALUES (1, 'b')",
    )
    .await
    .unwrap();
    let tenants = [pg.scoped("old").unwrap(), pg.scoped("new").unwrap()];
    for turn in 0..40 {
        let tenant = &tenants[turn % 2];
        let row = tenant.query_one_raw(raw()).await.unwrap().unwrap();
        let name: String = row.try_get("", "name").unwrap();
        assert_eq!(name, ["a", "b"][turn % 2]);
    }
}

/// The driver keeps a prepared statement by its text alone; binds of another type are another statement.
#[tokio::test]
async fn sessions_of_tenants_whose_columns_differ_find_out_once() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["pool_size: 3", "max_overflow: 0"]);
    for (schema, mood) in [("old", "'sad', 'glad'"), ("new", "'glad', 'mad'")] {
        pg.ensure_schema(schema).await.unwrap();
        let tables = format!(
            "CREATE TYPE mood AS ENUM ({mood}); CREATE TABLE item (id bigint, name mood); \
             INSERT INTO item VALUES (1, 'glad')"
        );
        pg.scoped(schema).unwrap().execute_unprepared(&tables).await.unwrap();
    }
    let tenants = [pg.scoped("old").unwrap(), pg.scoped("new").unwrap()];
    let mut failures = Vec::new();
    for turn in 0..60 {
        // On each connection of the pool in turn.
        let mut others = Vec::new();
        for _ in 0..turn % 3 {
            others.push(pg.session().await.unwrap());
        }
        let session = tenants[turn % 2].session().await.unwrap();
        match session.query_one_raw(raw()).await {
            Ok(row) => assert!(row.is_some()),
            Err(error) => failures.push(Error::from(error).sqlstate()),
        }
        match session.stream_raw(raw()).await.unwrap().try_collect::<Vec<_>>().await {
            Ok(rows) => assert_eq!(rows.len(), 1),
            Err(error) => failures.push(Error::from(error).sqlstate()),
        }
        session.rollback().await.unwrap();
    }
    // And the statement behind it in the same transaction.
    assert!(failures.len() <= 2, "{failures:?}");
}

#[tokio::test]
async fn the_same_text_with_binds_of_other_types_is_another_statement() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0"]);
    let ask = async |value: sea_orm::Value| {
        let sql = "SELECT ($1 + 1)::bigint";
        let sql = Statement::from_sql_and_values(sea_orm::DbBackend::Postgres, sql, [value]);
        pg.query_one_raw(sql).await.unwrap().unwrap().try_get_by_index::<i64>(0).unwrap()
    };
    for _ in 0..3 {
        assert_eq!(ask(1_i32.into()).await, 2);
        assert_eq!(ask(1_i64.into()).await, 2);
        assert_eq!(ask(1_i16.into()).await, 2);
    }
    // Each is prepared once.
    let prepared =
        "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE 'SELECT ($1 + 1)%'";
    assert_eq!(number(&pg, prepared).await, 3);
}

mod part {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "part")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i32,
        pub weight: i32,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

#[tokio::test]
async fn many_are_inserted_after_a_column_has_changed_its_type() {
    use sea_orm::Set;
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0"]);
    pg.execute_unprepared("CREATE TABLE part (id serial PRIMARY KEY, weight int)").await.unwrap();
    let insert = async || {
        let rows =
            (0..3).map(|weight| part::ActiveModel { weight: Set(weight), ..Default::default() });
        pg.insert_many::<part::Entity>(rows).exec().await.unwrap()
    };
    insert().await;
    for kind in ["bigint", "smallint", "numeric", "int"] {
        let alter = format!("ALTER TABLE part ALTER COLUMN weight TYPE {kind}");
        pg.execute_unprepared(&alter).await.unwrap();
        assert_eq!(insert().await, 3, "{kind}");
    }
    assert_eq!(number(&pg, "SELECT count(*) FROM part").await, 15);
}

/// Tables with a type of their schema's own.
async fn schema(pg: &Pg) {
    pg.execute_unprepared(
        "DROP SCHEMA IF EXISTS own CASCADE; CREATE SCHEMA own;
         CREATE TYPE own.mood AS ENUM ('glad', 'sad');
         CREATE TABLE own.note (id bigint, mood own.mood)",
    )
    .await
    .unwrap();
}

mod note {
    use super::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(schema_name = "own", table_name = "note")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        #[sea_orm(select_as = "text", save_as = "own.mood")]
        pub mood: Option<String>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

#[tokio::test]
async fn a_schema_that_is_made_anew_costs_no_error_outside_a_session() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["pool_size: 3", "max_overflow: 0"]);
    let notes = || (1..4).map(|id| note::Model { id, mood: Some("sad".to_owned()) });
    let everywhere = async || {
        let three =
            [pg.session().await.unwrap(), pg.session().await.unwrap(), pg.session().await.unwrap()];
        for session in three {
            session.insert_many::<note::Entity>(notes()).exec().await.unwrap();
            session.commit().await.unwrap();
        }
    };
    for _ in 0..3 {
        schema(&pg).await;
        everywhere().await;
        schema(&pg).await;
        pg.insert_many::<note::Entity>(notes()).exec().await.unwrap();
        assert_eq!(note::Entity::find().all(&pg).await.unwrap().len(), 3);
    }
}
