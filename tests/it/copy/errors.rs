//! A copy that cannot be, and what is told of it.

use std::io;

use futures_util::{StreamExt as _, stream};
use sea_orm::{ActiveValue::NotSet, ConnectionTrait, EntityTrait, PaginatorTrait, Set};
use wharf::{
    Error, Pg,
    copy::{CopyError, CopyFault},
};

use super::reading::{self, Reading, reading};
use crate::support::{TestDatabase, number, until};

fn copy_error(error: Error) -> CopyError {
    match error {
        Error::Copy(error) => *error,
        other => panic!("not a copy's: {other:?}"),
    }
}

async fn is_empty(pg: &Pg) {
    assert_eq!(Reading::find().count(pg).await.unwrap(), 0);
}

#[tokio::test]
async fn the_first_bad_row_is_named_by_the_server() {
    let database = reading::table().await;
    let pg = database.pg().await;
    pg.execute_unprepared("ALTER TABLE reading ADD CHECK (value >= 0)").await.unwrap();
    // The last is in the second COPY of its copy.
    for bad in [1, 17, 600_000] {
        let rows = (1..=700_000).map(|id| match id == bad {
            true => reading::Model { value: Some(-1.0), ..reading(id) },
            false => reading(id),
        });
        let error = pg.copy_in::<Reading>().rows(rows).await.unwrap_err();
        assert!(error.is_check_violation(), "{error}");
        let copy = copy_error(error);
        assert_eq!(copy.row, Some(u64::try_from(bad).unwrap()), "{copy}");
        is_empty(&pg).await;
    }
}

#[tokio::test]
async fn a_row_that_is_there_already_is_named() {
    let database = reading::table().await;
    let pg = database.pg().await;
    pg.copy_in::<Reading>().rows((300..=300).map(reading)).await.unwrap();
    let error = pg.copy_in::<Reading>().rows((1..=1_000).map(reading)).await.unwrap_err();
    assert!(error.is_unique_violation());
    assert_eq!(error.constraint(), Some("reading_pkey"));
    assert_eq!(copy_error(error).row, Some(300));
    assert_eq!(Reading::find().count(&pg).await.unwrap(), 1);
}

#[tokio::test]
async fn of_a_table_with_partitions_rows_before_the_named_one_may_be_wrong() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    pg.execute_unprepared(
        "CREATE TABLE parted (n int UNIQUE) PARTITION BY RANGE (n);
         CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
         CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (10) TO (20);
         CREATE TABLE whole (n int UNIQUE)",
    )
    .await
    .unwrap();
    for (table, is_said) in [("parted", true), ("whole", false)] {
        let rows = [1, 11, 11, 1];
        let error = pg.copy_in_named(table, ["n"]).rows(rows).await.unwrap_err();
        assert_eq!(
            error.to_string().contains("those before it may be wrong, too"),
            is_said,
            "{error}"
        );
        let copy = copy_error(error);
        assert_eq!((copy.row, copy.in_parts), (Some(if is_said { 4 } else { 3 }), is_said));
    }
}

/// As often as the docs say: once for each 16 MiB.
#[tokio::test]
async fn a_trigger_for_each_statement_fires_for_each_part_of_a_copy() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    pg.execute_unprepared(
        "CREATE TABLE wide (t text UNIQUE); CREATE TABLE fired (n int);
         CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql
             AS 'BEGIN INSERT INTO fired VALUES (1); RETURN NULL; END';
         CREATE TRIGGER fire AFTER INSERT ON wide FOR EACH STATEMENT EXECUTE FUNCTION fire()",
    )
    .await
    .unwrap();
    // 40 MB, each row other than the others.
    let rows = || (0..40_000).map(|n| format!("{n:01000}"));
    pg.execute_unprepared("ALTER TABLE wide DROP CONSTRAINT wide_t_key").await.unwrap();
    pg.copy_in_named("wide", ["t"]).rows(rows()).await.unwrap();
    assert_eq!(number(&pg, "SELECT count(*) FROM fired").await, 3);
    pg.execute_unprepared("TRUNCATE fired, wide; ALTER TABLE wide ADD UNIQUE (t)").await.unwrap();
    let nothing = sea_orm::sea_query::OnConflict::column("t").do_nothing().to_owned();
    let copy = pg.copy_in_named("wide", ["t"]).on_conflict(nothing);
    copy.rows(rows()).await.unwrap();
    assert_eq!(number(&pg, "SELECT count(*) FROM fired").await, 1);
}

#[tokio::test]
async fn a_value_that_does_not_fit_is_refused_with_row_and_column() {
    let database = reading::table().await;
    let pg = database.pg().await;
    let rows = (0..100_000_i64).map(|n| (if n == 70_000 { i64::MAX } else { n }, "s"));
    let error = pg.copy_in_named("reading", ["id", "sensor"]).rows(rows).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "database `{}`: nothing was copied into reading, because of row 70001, column `id`: \
             9223372036854775807 is out of range",
            pg.name()
        )
    );
    is_empty(&pg).await;
}

#[tokio::test]
async fn the_servers_error_names_the_column_too() {
    let database = reading::table().await;
    let pg = database.pg().await;
    let rows = [("a", 1), ("b\0", 2)];
    let error = pg.copy_in_named("reading", ["sensor", "id"]).rows(rows).await.unwrap_err();
    let copy = copy_error(error);
    assert_eq!((copy.row, copy.column.as_deref()), (Some(2), Some("sensor")), "{copy}");
    is_empty(&pg).await;
}

#[tokio::test]
async fn rows_of_other_columns_than_the_firsts_are_refused() {
    let database = reading::table().await;
    let pg = database.pg().await;
    let whole: reading::ActiveModel = reading(1).into();
    let less = reading::ActiveModel { at: NotSet, ..reading(2).into() };
    let error = pg.copy_in::<Reading>().rows([whole.clone(), less.clone()]).await.unwrap_err();
    assert!(error.to_string().contains("row 2, column `at`: it is not set here"), "{error}");
    let error = pg.copy_in::<Reading>().rows([less, whole]).await.unwrap_err();
    assert!(error.to_string().contains("row 2, column `at`: it is set here"), "{error}");
    let none = reading::ActiveModel::default();
    let error = pg.copy_in::<Reading>().rows([none]).await.unwrap_err();
    assert!(error.to_string().contains("the first row sets no column"), "{error}");
    let odd = [reading::ActiveModel { sensor: Set("s".into()), ..Default::default() }];
    assert_eq!(pg.copy_in::<Reading>().rows(odd).await.unwrap(), 1);
}

#[tokio::test]
async fn a_table_or_column_that_is_not_there_is_refused() {
    let database = reading::table().await;
    let pg = database.pg().await;
    let error = pg.copy_in_named("readings", ["id"]).rows([1]).await.unwrap_err();
    assert!(error.to_string().contains("into readings: the table does not exist here"), "{error}");
    let error = pg.copy_in_named("reading", ["idd"]).rows([1]).await.unwrap_err();
    assert!(
        error.to_string().contains("it has no column `idd`; its columns are id, sensor, value, at"),
        "{error}"
    );
    let error = pg.copy_in_named("reading", ["id", "id"]).rows([(1, 1)]).await.unwrap_err();
    assert!(error.to_string().contains("column `id` is named twice"), "{error}");
    let error =
        pg.copy_in_named("reading", ["id", "sensor"]).rows([(1, "a", 2)]).await.unwrap_err();
    assert!(error.to_string().contains("row 1: it has 3 values for 2 columns"), "{error}");
}

#[tokio::test]
async fn a_source_that_fails_half_way_leaves_nothing() {
    let database = reading::table().await;
    let pg = database.pg().await;
    let rows = stream::iter(1..=50_000).map(|id| match id {
        40_000 => Err(io::Error::other("the other end hung up")),
        id => Ok(reading(id)),
    });
    let error = pg.copy_in::<Reading>().stream(rows).await.unwrap_err();
    let copy = copy_error(error);
    assert_eq!(copy.row, Some(40_000));
    assert!(matches!(copy.reason, CopyFault::Source(_)), "{copy}");
    assert!(copy.to_string().ends_with("the other end hung up"), "{copy}");
    is_empty(&pg).await;
    // And the connection is as good as before.
    assert_eq!(pg.stats().writer.open, 1);
}

#[tokio::test]
async fn a_source_that_fails_after_the_server_did_leaves_no_broken_connection() {
    let database = reading::table().await;
    let pg = database.pg().await;
    let rows = stream::iter(1..=3_000).map(|id| match id {
        3_000 => Err(io::Error::other("the other end hung up")),
        id => Ok(reading(id % 2)),
    });
    let error = pg.copy_in::<Reading>().stream(rows).await.unwrap_err();
    assert!(error.is_unique_violation(), "it came first: {error}");
    assert_eq!(copy_error(error).row, Some(3));
    for _ in 0..20 {
        is_empty(&pg).await;
    }
    assert_eq!(pg.stats().writer.open, 1);
}

#[tokio::test]
async fn a_read_only_database_takes_no_rows() {
    let database = reading::table().await;
    let pg = database.pg().await;
    let error = pg.read_only().copy_in::<Reading>().rows([reading(1)]).await.unwrap_err();
    assert!(error.is_read_only_violation(), "{error}");
    let session = pg.session().read_only().await.unwrap();
    let error = session.copy_in::<Reading>().rows([reading(1)]).await.unwrap_err();
    assert!(error.is_read_only_violation(), "{error}");
}

/// A future that is dropped in the middle leaves no row, no lock and no connection out of step.
#[tokio::test]
async fn a_copy_that_is_dropped_was_never_there() {
    let database = reading::table().await;
    let pg = database.pg().await;
    for after in [0, 1, 2, 5, 1_000, 100_000] {
        let rows = stream::iter(1..).then(|id| async move {
            if id > after {
                std::future::pending::<()>().await;
            }
            Ok::<_, io::Error>(reading(id))
        });
        let copy = pg.copy_in::<Reading>().stream(rows);
        let waited = tokio::time::timeout(std::time::Duration::from_millis(300), copy).await;
        assert!(waited.is_err());
        is_empty(&pg).await;
        let session = pg.begin().await.unwrap();
        let rows = stream::pending::<Result<reading::Model, io::Error>>();
        let copy = session.copy_in::<Reading>().stream(stream::iter([Ok(reading(1))]).chain(rows));
        let waited = tokio::time::timeout(std::time::Duration::from_millis(100), copy).await;
        assert!(waited.is_err());
        assert!(session.execute_unprepared("SELECT 1").await.is_err());
        drop(session);
        is_empty(&pg).await;
    }
    until("nobody is in a transaction", async || {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                   AND pid <> pg_backend_pid() AND state <> 'idle'";
        number(&pg, sql).await == 0
    })
    .await;
}
