//! Rows by the million: into tables, out of them, and put right on the way.

mod errors;
mod everything;
mod files;
mod filters;
mod insert;
mod reading;
mod targets;
mod times;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use sea_orm::{
    ActiveValue::NotSet, ConnectionTrait, EntityTrait, PaginatorTrait, QueryOrder, Set,
    sea_query::OnConflict,
};

use self::reading::{Reading, reading};
use crate::{
    seen::{Seen, Statement},
    support::{TestDatabase, number},
};
use wharf::copy::Format;

#[tokio::test]
async fn models_come_back_as_they_went() {
    let database = reading::table().await;
    let pg = database.pg().await;
    let models: Vec<_> = (1..=100_000).map(reading).collect();
    assert_eq!(pg.copy_in::<Reading>().rows(models.clone()).await.unwrap(), 100_000);
    let back = Reading::find().order_by_asc(reading::Column::Id).all(&pg).await.unwrap();
    assert!(back == models);
}

#[tokio::test]
async fn what_active_models_leave_out_has_its_default() {
    let database = reading::table().await;
    let pg = database.pg().await;
    let rows = (0..10).map(|n| reading::ActiveModel {
        id: NotSet,
        sensor: Set(format!("s{n}")),
        at: NotSet,
        ..reading(n).into()
    });
    assert_eq!(pg.copy_in::<Reading>().rows(rows).await.unwrap(), 10);
    assert_eq!(
        number(&pg, "SELECT sum(id) FROM reading WHERE at > now() - interval '1h'").await,
        55
    );
}

#[tokio::test]
async fn tuples_go_into_named_columns() {
    let database = reading::table().await;
    let pg = database.pg().await;
    let rows = (0..10_i64).map(|n| (format!("s{n}"), n, Some(0.5_f32)));
    let copied = pg.copy_in_named("reading", ["sensor", "id", "value"]).rows(rows).await.unwrap();
    assert_eq!(copied, 10);
    assert_eq!(
        number(&pg, "SELECT count(*) FROM reading WHERE sensor = 's' || id AND value = 0.5").await,
        10
    );

    pg.execute_unprepared(
        "CREATE SCHEMA \"o'neil\"; CREATE TABLE \"o'neil\".\"a b\" (\"c d\" text)",
    )
    .await
    .unwrap();
    let copied = pg.copy_in_named(("o'neil", "a b"), ["c d"]).rows(["x", "y"]).await.unwrap();
    assert_eq!(copied, 2);
    assert_eq!(number(&pg, "SELECT count(*) FROM \"o'neil\".\"a b\"").await, 2);
}

#[tokio::test]
async fn a_stream_is_copied_as_it_comes() {
    let database = reading::table().await;
    let pg = database.pg().await;
    // From one database into another, and neither is ever whole in memory.
    pg.copy_in::<Reading>().rows((1..=5_000).map(reading)).await.unwrap();
    pg.execute_unprepared("CREATE TABLE archive (LIKE reading)").await.unwrap();
    let rows = Reading::find().stream(&pg).await.unwrap();
    let rows =
        rows.map(|row| row.map(|row: reading::Model| (row.id, row.sensor, row.value, row.at)));
    let copied =
        pg.copy_in_named("archive", ["id", "sensor", "value", "at"]).stream(rows).await.unwrap();
    assert_eq!(copied, 5_000);
    assert_eq!(number(&pg, "SELECT count(*) FROM (TABLE reading EXCEPT TABLE archive) x").await, 0);
}

#[tokio::test]
async fn nothing_is_copied_from_nothing() {
    let database = reading::table().await;
    let pg = database.pg().await;
    assert_eq!(pg.copy_in::<Reading>().rows(Vec::<reading::Model>::new()).await.unwrap(), 0);
    let rows = stream::empty::<Result<reading::Model, std::io::Error>>();
    assert_eq!(pg.copy_in::<Reading>().stream(rows).await.unwrap(), 0);
}

#[tokio::test]
async fn progress_is_told_to_the_end() {
    let database = reading::table().await;
    let pg = database.pg().await;
    let told = Arc::new(Mutex::new(Vec::new()));
    let rows = (1..=20_000).map(reading);
    let copy = pg.copy_in::<Reading>().progress(|progress| told.lock().unwrap().push(progress));
    copy.rows(rows).await.unwrap();
    let told = told.lock().unwrap();
    assert!(told.len() > 5, "{told:?}");
    assert!(told.is_sorted_by_key(|progress| (progress.rows, progress.bytes)));
    assert_eq!(told.last().unwrap().rows, 20_000);
}

#[tokio::test]
async fn a_copy_is_part_of_its_session() {
    let database = reading::table().await;
    let pg = database.pg().await;
    let session = pg.session().await.unwrap();
    session.copy_in::<Reading>().rows((1..=10).map(reading)).await.unwrap();
    assert_eq!(Reading::find().count(&session).await.unwrap(), 10);
    assert_eq!(Reading::find().count(&pg).await.unwrap(), 0);
    // One that fails leaves the session as it was.
    let again = session.copy_in::<Reading>().rows((10..=20).map(reading)).await;
    assert!(again.unwrap_err().is_unique_violation());
    assert_eq!(Reading::find().count(&session).await.unwrap(), 10);
    session.commit().await.unwrap();
    assert_eq!(Reading::find().count(&pg).await.unwrap(), 10);

    let session = pg.begin().await.unwrap();
    session.copy_in::<Reading>().rows((11..=20).map(reading)).await.unwrap();
    session.rollback().await.unwrap();
    assert_eq!(Reading::find().count(&pg).await.unwrap(), 10);
}

#[tokio::test]
async fn a_session_hears_messages_again_after_its_copy() {
    let database = reading::table().await;
    let pg = database.pg().await;
    let session = pg.session().set_local("client_min_messages", "debug1").await.unwrap();
    session.copy_in::<Reading>().rows((1..=10).map(reading)).await.unwrap();
    let sql = "SELECT count(*) FROM pg_settings WHERE name = 'client_min_messages' AND setting = 'debug1'";
    assert_eq!(number(&session, sql).await, 1);
}

/// While rows are sent nobody reads what the server says; where it says more than the network holds, it
/// would stop reading as well.
#[tokio::test]
async fn a_trigger_that_talks_does_not_stop_it() {
    let database = reading::table().await;
    let pg = database.pg().await;
    pg.execute_unprepared(
        "CREATE FUNCTION talk() RETURNS trigger LANGUAGE plpgsql AS
         $$ BEGIN RAISE NOTICE '%', repeat('x', 10000); RETURN NEW; END $$;
         CREATE TRIGGER talk BEFORE INSERT ON reading FOR EACH ROW EXECUTE FUNCTION talk()",
    )
    .await
    .unwrap();
    // More than the network holds, both ways.
    let wide = |id| reading::Model { sensor: "x".repeat(4_000), ..reading(id) };
    let copies = async {
        pg.copy_in::<Reading>().rows((1..=5_000).map(wide)).await.unwrap();
        let session = pg.begin().await.unwrap();
        session.copy_in::<Reading>().rows((5_001..=10_000).map(wide)).await.unwrap();
        session.commit().await.unwrap();
    };
    tokio::time::timeout(Duration::from_secs(60), copies).await.expect("both wait");
    assert_eq!(Reading::find().count(&pg).await.unwrap(), 10_000);
}

#[tokio::test]
async fn what_is_there_already_is_updated_in_bulk() {
    let database = reading::table().await;
    let pg = database.pg().await;
    pg.copy_in::<Reading>().rows((1..=1_000).map(reading)).await.unwrap();
    let newer = (501..=1_500).map(|id| reading::Model { value: Some(-1.0), ..reading(id) });
    let conflict =
        OnConflict::column(reading::Column::Id).update_column(reading::Column::Value).to_owned();
    let changed = pg.copy_in::<Reading>().on_conflict(conflict).rows(newer).await.unwrap();
    assert_eq!(changed, 1_000);
    assert_eq!(number(&pg, "SELECT count(*) FROM reading").await, 1_500);
    assert_eq!(number(&pg, "SELECT count(*) FROM reading WHERE value = -1").await, 1_000);

    let same = (1_401..=1_600).map(reading);
    let nothing = OnConflict::column(reading::Column::Id).do_nothing().to_owned();
    let session = pg.begin().await.unwrap();
    let inserted = session.copy_in::<Reading>().on_conflict(nothing).rows(same).await.unwrap();
    assert_eq!(inserted, 100);
    let left = "SELECT count(*) FROM pg_class WHERE relname LIKE 'wharf%'";
    assert_eq!(number(&session, left).await, 0);
    session.commit().await.unwrap();
}

#[tokio::test]
async fn what_the_server_generates_is_left_to_it() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    pg.execute_unprepared(
        "CREATE TABLE reading (id int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
             sensor text NOT NULL DEFAULT '', value real, at timestamptz,
             twice real GENERATED ALWAYS AS (value * 2) STORED)",
    )
    .await
    .unwrap();
    let rows = (1..=10).map(|n| (n, 0.5_f64));
    pg.copy_in_named("reading", ["id", "value"]).rows(rows).await.unwrap();
    assert_eq!(number(&pg, "SELECT sum(twice)::int8 FROM reading").await, 10);
    let error = pg.copy_in_named("reading", ["twice"]).rows([0.5_f32]).await.unwrap_err();
    assert!(error.to_string().contains("column `twice` is generated"), "{error}");
}

#[tokio::test]
async fn a_tenants_table_is_its_own() {
    let database = reading::table().await;
    let pg = database.pg().await;
    pg.execute_unprepared("CREATE SCHEMA a; CREATE TABLE a.reading (LIKE reading)").await.unwrap();
    let tenant = pg.scoped("a").unwrap();
    tenant.copy_in::<Reading>().rows((1..=7).map(reading)).await.unwrap();
    assert_eq!(number(&pg, "SELECT count(*) FROM a.reading").await, 7);
    assert_eq!(number(&pg, "SELECT count(*) FROM reading").await, 0);
}

/// Done, failed and dropped; and the time is the server's, not that of those who make the rows.
#[tokio::test]
async fn the_monitor_sees_copies() {
    let database = reading::table().await;
    let pg = database.pg().await;
    let seen = Seen::of(&pg);
    let copies = || {
        let mut seen = seen.statements();
        seen.retain(|one| one.operation == "COPY");
        let told = |one: &Statement| (one.outcome.clone(), one.rows, one.table.clone());
        (seen.iter().map(told).collect::<Vec<_>>(), seen)
    };
    let copied = |outcome: &str, rows| vec![(outcome.to_owned(), rows, Some("reading".to_owned()))];

    let slow = stream::iter(1..=3).then(|id| async move {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Ok::<_, std::io::Error>(reading(id))
    });
    pg.copy_in::<Reading>().stream(slow).await.unwrap();
    let (told, seen) = copies();
    assert_eq!(told, copied("done", Some(3)));
    assert!(seen[0].in_transaction && !seen[0].read_only);
    // The first row is made before the COPY.
    assert!(seen[0].span >= Duration::from_millis(100), "{:?}", seen[0]);
    assert!(seen[0].elapsed < Duration::from_millis(80), "{:?}", seen[0]);

    pg.copy_in::<Reading>().rows([reading(3)]).await.unwrap_err();
    assert_eq!(copies().0, copied("23505", None));

    let rows = stream::iter([Ok::<_, std::io::Error>(reading(4))]).chain(stream::pending());
    let copy = pg.copy_in::<Reading>().stream(rows);
    tokio::time::timeout(Duration::from_millis(200), copy).await.unwrap_err();
    assert_eq!(copies().0, copied("dropped", None));

    // And its line of names.
    pg.copy_out(Reading::find()).to_writer(Vec::new(), Format::Csv).await.unwrap();
    let (told, _) = copies();
    assert_eq!((told.len(), &*told[0].0, told[0].1), (1, "done", Some(4)));
}

#[tokio::test]
async fn every_way_can_be_a_task_of_its_own() {
    let database = reading::table().await;
    let pg = database.pg().await;
    let (one, two, three, four) = (pg.clone(), pg.clone(), pg.clone(), pg.clone());
    let rows = (1..=10).map(reading);
    let copied = tokio::spawn(async move { one.copy_in::<Reading>().rows(rows).await });
    assert_eq!(copied.await.unwrap().unwrap(), 10);
    let copied = tokio::spawn(async move {
        let session = two.begin().await?;
        let rows = stream::iter((11..=20).map(|id| Ok::<_, std::io::Error>(reading(id))));
        session.copy_in::<Reading>().stream(rows).await?;
        session.copy_in_named("reading", ["sensor"]).rows(["a"]).await?;
        let csv = &b"id,sensor\n1000,b\n"[..];
        session.copy_in::<Reading>().from_reader(csv, Format::Csv).await?;
        session.insert_many::<Reading>((21..=30).map(reading)).exec_with_returning().await?;
        session.commit().await?;
        Ok::<_, wharf::Error>(())
    });
    // The name has a number of its own, which some reading has.
    assert!(copied.await.unwrap().unwrap_err().is_unique_violation());
    let inserted =
        tokio::spawn(
            async move { three.insert_many::<Reading>((21..=30).map(reading)).exec().await },
        );
    assert_eq!(inserted.await.unwrap().unwrap(), 10);
    let out = tokio::spawn(async move {
        let mut csv = Vec::new();
        four.copy_out(Reading::find()).to_writer(&mut csv, Format::Csv).await
    });
    assert_eq!(out.await.unwrap().unwrap(), 20);
}

#[tokio::test]
async fn who_waits_for_a_connection_is_told_of_the_copy_that_has_it() {
    let database = reading::table().await;
    let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0", "pool_timeout: 1"]);
    let begun = tokio::sync::Notify::new();
    let rows = stream::once(async {
        begun.notify_one();
        std::future::pending::<Result<reading::Model, std::io::Error>>().await
    });
    let copy = pg.copy_in::<Reading>().stream(rows);
    let waits = async {
        begun.notified().await;
        pg.ping().await.unwrap_err()
    };
    tokio::select! {
        error = waits => assert!(error.to_string().contains("a copy has held a connection"), "{error}"),
        _ = copy => panic!("it has no end"),
    }
}
