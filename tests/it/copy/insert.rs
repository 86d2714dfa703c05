//! Many rows in one INSERT.

use sea_orm::{ActiveValue::NotSet, EntityTrait, PaginatorTrait, Set, sea_query::OnConflict};

use super::reading::{self, Reading, reading};
use crate::support::{TestDatabase, number};

#[tokio::test]
async fn more_values_than_a_statement_has_binds_go_in_one() {
    let database = reading::table().await;
    let pg = database.pg().await;
    let before = pg.monitor().top(100).statements.iter().map(|top| top.calls).sum::<u64>();
    assert_eq!(pg.insert_many::<Reading>((1..=50_000).map(reading)).exec().await.unwrap(), 50_000);
    let after = pg.monitor().top(100).statements.iter().map(|top| top.calls).sum::<u64>();
    assert_eq!(after - before, 2, "the columns' types, and the INSERT");
    assert_eq!(Reading::find().count(&pg).await.unwrap(), 50_000);
}

#[tokio::test]
async fn the_rows_come_back_with_what_the_server_gave_them() {
    let database = reading::table().await;
    let pg = database.pg().await;
    let rows = (0..100).map(|n| reading::ActiveModel { id: NotSet, ..reading(n).into() });
    let models = pg.insert_many::<Reading>(rows).exec_with_returning().await.unwrap();
    let expected: Vec<_> = (0..100).map(|n| reading::Model { id: n + 1, ..reading(n) }).collect();
    assert_eq!(models, expected);
    let none = pg.insert_many::<Reading>(Vec::<reading::Model>::new());
    assert_eq!(none.exec_with_returning().await.unwrap(), []);
}

#[tokio::test]
async fn a_conflict_is_handled_as_was_asked() {
    let database = reading::table().await;
    let pg = database.pg().await;
    pg.insert_many::<Reading>((1..=10).map(reading)).exec().await.unwrap();
    let again = pg.insert_many::<Reading>((5..=15).map(reading)).exec().await;
    assert!(again.unwrap_err().is_unique_violation());
    let nothing = OnConflict::column(reading::Column::Id).do_nothing().to_owned();
    let insert = pg.insert_many::<Reading>((5..=15).map(reading)).on_conflict(nothing);
    assert_eq!(insert.exec_with_returning().await.unwrap().len(), 5);
    let update =
        OnConflict::column(reading::Column::Id).update_column(reading::Column::Value).to_owned();
    let newer = (1..=20).map(|id| reading::Model { value: Some(-1.0), ..reading(id) });
    let session = pg.begin().await.unwrap();
    let insert = session.insert_many::<Reading>(newer).on_conflict(update);
    assert_eq!(insert.exec().await.unwrap(), 20);
    session.commit().await.unwrap();
    assert_eq!(number(&pg, "SELECT count(*) FROM reading WHERE value = -1").await, 20);
}

#[tokio::test]
async fn what_is_too_long_is_refused_and_not_cut() {
    let database = reading::table().await;
    let pg = database.pg().await;
    sea_orm::ConnectionTrait::execute_unprepared(
        &pg,
        "ALTER TABLE reading ALTER sensor TYPE varchar(5)",
    )
    .await
    .unwrap();
    let long = [reading::Model { sensor: "abcdefgh".into(), ..reading(1) }];
    let error = pg.insert_many::<Reading>(long.clone()).exec().await.unwrap_err();
    assert_eq!(error.sqlstate().as_deref(), Some("22001"), "{error}");
    assert!(error.to_string().contains("because of row 1, column `sensor`: "), "{error}");
    let error = pg.copy_in::<Reading>().rows(long).await.unwrap_err();
    assert_eq!(error.sqlstate().as_deref(), Some("22001"), "{error}");
    let odd = [reading(1).into(), reading::ActiveModel { id: Set(2), ..Default::default() }];
    let error = pg.insert_many::<Reading>(odd).exec().await.unwrap_err();
    assert!(error.to_string().contains("row 2, column `sensor`: it is not set here"), "{error}");
}

#[tokio::test]
async fn the_row_that_the_server_refuses_is_named() {
    let database = reading::table().await;
    let pg = database.pg().await;
    let sql = "ALTER TABLE reading ADD CHECK (value >= 0); CREATE TYPE mood AS ENUM ('glad');
               ALTER TABLE reading ALTER sensor TYPE mood USING NULL";
    sea_orm::ConnectionTrait::execute_unprepared(&pg, sql).await.unwrap();
    let row = |id| reading::Model { sensor: "glad".into(), ..reading(id) };
    for bad in [1, 2, 17, 1_000] {
        let rows = |wrong: fn(&mut reading::Model)| {
            (1..=1_000).map(move |id| {
                let mut model = row(id);
                if id == bad {
                    wrong(&mut model);
                }
                model
            })
        };
        let error = pg.insert_many::<Reading>(rows(|row| row.value = Some(-1.0))).exec().await;
        let error = error.unwrap_err();
        assert!(error.is_check_violation(), "{error}");
        assert!(error.to_string().contains(&format!("because of row {bad}: ")), "{error}");
        let error = pg.insert_many::<Reading>(rows(|row| row.sensor = "sad".into()));
        let error = error.exec_with_returning().await.unwrap_err();
        assert!(
            error.to_string().contains(&format!("because of row {bad}, column `sensor`: ")),
            "{error}"
        );
        let error = pg.insert_many::<Reading>(rows(|row| row.id = 1_001 - row.id)).exec().await;
        assert!(error.unwrap_err().is_unique_violation());
    }
    // In a session that has failed, another one finds the row, if no other row matters.
    for (wrong, column) in [
        (reading::Model { value: Some(-1.0), ..row(7) }, ""),
        (reading::Model { sensor: "sad".into(), ..row(7) }, ", column `sensor`"),
    ] {
        let session = pg.session().await.unwrap();
        let rows = (1..=6).map(row).chain([wrong]).chain((8..20).map(row));
        let error = session.insert_many::<Reading>(rows).exec().await.unwrap_err().to_string();
        assert!(error.contains(&format!("because of row 7{column}: ")), "{error}");
        assert!(session.commit().await.is_err());
    }
    // Nor does the search wait for a lock of the session's own.
    let session = pg.session().await.unwrap();
    sea_orm::ConnectionTrait::execute_unprepared(&session, "LOCK TABLE reading").await.unwrap();
    let nested = session.begin().await.unwrap();
    let wrong = reading::Model { value: Some(-1.0), ..row(1) };
    let error = nested.insert_many::<Reading>([row(2), wrong]).exec().await.unwrap_err();
    assert!(error.is_check_violation() && !error.to_string().contains("because of"), "{error}");
    drop((nested, session));

    // Another session does not see what this one has written.
    let session = pg.session().await.unwrap();
    session.insert_many::<Reading>([row(3)]).exec().await.unwrap();
    let twice = session.insert_many::<Reading>((1..5).map(row)).exec().await.unwrap_err();
    assert!(twice.is_unique_violation() && !twice.to_string().contains("because of"), "{twice}");
    drop(session);
    assert_eq!(Reading::find().count(&pg).await.unwrap(), 0);
}

#[tokio::test]
async fn of_several_wrong_rows_the_first_is_named_with_its_own_error() {
    let database = reading::table().await;
    let pg = database.pg().await;
    // The server looks at foreign keys at the end, so it speaks of the value first.
    let sql = "CREATE TABLE known (value float8 PRIMARY KEY); INSERT INTO known VALUES (1), (-1);
               ALTER TABLE reading ADD CHECK (value >= 0), ADD FOREIGN KEY (value) REFERENCES known";
    sea_orm::ConnectionTrait::execute_unprepared(&pg, sql).await.unwrap();
    let row = |id, value| reading::Model { value: Some(value), ..reading(id) };
    let rows = [row(1, 1.0), row(2, 5.0), row(3, -1.0)];
    let error = pg.insert_many::<Reading>(rows).exec().await.unwrap_err();
    assert!(error.is_foreign_key_violation(), "{error}");
    assert!(error.to_string().contains("because of row 2: "), "{error}");
}

#[tokio::test]
async fn a_table_that_is_not_there_is_said_to_be_the_fault() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let error = pg.insert_many::<Reading>([reading(1)]).exec().await.unwrap_err();
    assert!(error.to_string().contains("into reading: the table does not exist here"), "{error}");
}
