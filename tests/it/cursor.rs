//! Rows in batches, from a cursor that the server keeps.

use entity::shop::customer;
use futures_util::{StreamExt, TryStreamExt};
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DbBackend, DbErr, EntityTrait, FromQueryResult,
    IntoActiveModel, QueryFilter, QueryOrder, Set, Statement,
};
use wharf::{Error, Pg, Session};

use crate::{
    proxy::Proxy,
    support::{Log, TestDatabase, number},
};

fn raw(sql: &str) -> Statement {
    Statement::from_string(DbBackend::Postgres, sql)
}

async fn fill(pg: &Pg, customers: u32) {
    pg.execute_unprepared(&format!(
        "INSERT INTO customer (name, email) SELECT 'C' || n, 'C' || n || '@EXAMPLE.ORG' \
         FROM generate_series(1, {customers}) n"
    ))
    .await
    .unwrap();
}

/// How many cursors the session has open.
async fn open_cursors(session: &Session) -> i64 {
    number(session, "SELECT count(*) FROM pg_cursors WHERE name LIKE 'wharf%'").await
}

#[tokio::test]
async fn every_row_can_be_changed_while_the_rows_are_read() {
    let database = TestDatabase::shop().await;
    let pg = database.pg().await;
    fill(&pg, 250).await;
    let session = pg.session().await.unwrap();
    let by_id = customer::Entity::find().order_by_asc(customer::Column::Id);
    let mut customers =
        session.cursor(&by_id).fetch_size(100).models::<customer::Model>().await.unwrap();
    let mut names = Vec::new();
    while let Some(one) = customers.try_next().await.unwrap() {
        names.push(one.name.clone());
        // What comes later is what was there when the cursor was opened.
        assert!(one.email.ends_with("@EXAMPLE.ORG"));
        let email = one.email.to_lowercase();
        let mut one = one.into_active_model();
        one.email = Set(email);
        one.update(&session).await.unwrap();
        if names.len() == 50 {
            let all = "UPDATE customer SET email = lower(email)";
            session.execute_unprepared(all).await.unwrap();
        }
    }
    drop(customers);
    assert_eq!(names, (1..=250).map(|n| format!("C{n}")).collect::<Vec<_>>());
    assert_eq!(open_cursors(&session).await, 0, "it is closed behind its last row");
    session.commit().await.unwrap();
    let changed = "SELECT count(*) FROM customer WHERE email LIKE '%@example.org'";
    assert_eq!(number(&pg, changed).await, 250);
}

#[derive(FromQueryResult)]
struct Name {
    name: String,
}

#[tokio::test]
async fn values_are_bound() {
    let database = TestDatabase::shop().await;
    let pg = database.pg().await;
    fill(&pg, 20).await;
    let mean = "it's \\ $1; --";
    pg.execute_raw(Statement::from_sql_and_values(
        DbBackend::Postgres,
        "INSERT INTO customer (name, email) VALUES ($1, 'mean@example.org')",
        [mean.into()],
    ))
    .await
    .unwrap();
    let session = pg.session().await.unwrap();
    let named = customer::Entity::find()
        .filter(customer::Column::Name.eq(mean))
        .filter(customer::Column::Id.gt(0));
    let found: Vec<Name> =
        session.cursor(&named).models().await.unwrap().try_collect().await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].name, mean);
    let select = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT name FROM customer WHERE name = $1 OR id = ANY($2) ORDER BY id",
        [mean.into(), vec![2, 3].into()],
    );
    let found: Vec<Name> =
        session.cursor_raw(select).models().await.unwrap().try_collect().await.unwrap();
    assert_eq!(found.iter().map(|found| &*found.name).collect::<Vec<_>>(), ["C2", "C3", mean]);
    // What the server cannot make of a value is told, and what does not fit into the model.
    let session = pg.session().await.unwrap();
    let division = raw("SELECT 'x' AS name, 1 / (3 - n) FROM generate_series(1, 5) n");
    let mut rows = session.cursor_raw(division).fetch_size(2).models::<Name>().await.unwrap();
    assert!(rows.try_next().await.unwrap().is_some() && rows.try_next().await.unwrap().is_some());
    let error = Error::from(rows.try_next().await.map(|_| ()).unwrap_err());
    assert_eq!(error.sqlstate().as_deref(), Some("22012"), "{error}");
    drop(rows);
    let session = pg.session().await.unwrap();
    let other = raw("SELECT 1 AS other");
    let mut rows = session.cursor_raw(other).models::<Name>().await.unwrap();
    let error = rows.try_next().await.map(|_| ()).unwrap_err();
    assert!(error.to_string().contains("name"), "{error}");
    drop(rows);
    assert_eq!(number(&session, "SELECT 7::bigint").await, 7, "the session lives");
}

#[tokio::test]
async fn cursors_of_other_columns_are_told_apart() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0"]);
    let session = pg.session().await.unwrap();
    let numbers = raw("SELECT n FROM generate_series(1, 5) n");
    let texts = raw("SELECT 'x' || n, n::bigint FROM generate_series(1, 5) n");
    let mut numbers = session.cursor_raw(numbers).fetch_size(2).rows().await.unwrap();
    let mut texts = session.cursor_raw(texts).fetch_size(2).rows().await.unwrap();
    for n in 1..=5 {
        let number = numbers.try_next().await.unwrap().unwrap();
        assert_eq!(number.try_get_by_index::<i32>(0).unwrap(), n);
        let text = texts.try_next().await.unwrap().unwrap();
        assert_eq!(text.try_get_by_index::<String>(0).unwrap(), format!("x{n}"));
        assert_eq!(text.try_get_by_index::<i64>(1).unwrap(), i64::from(n));
    }
    assert!(numbers.try_next().await.unwrap().is_none());
    assert!(texts.try_next().await.unwrap().is_none());
    drop((numbers, texts));
    session.commit().await.unwrap();
    // The next session's, on the same connection.
    let session = pg.session().await.unwrap();
    let texts = raw("SELECT 'y'");
    let texts: Vec<_> =
        session.cursor_raw(texts).fetch_size(2).rows().await.unwrap().try_collect().await.unwrap();
    assert_eq!(texts[0].try_get_by_index::<String>(0).unwrap(), "y");
}

#[tokio::test]
async fn a_batch_of_more_rows_than_fetch_takes_is_refused_before_anything_is_sent() {
    let database = TestDatabase::shop().await;
    let pg = database.pg().await;
    let session = pg.session().await.unwrap();
    for (rows, fits) in [(0, false), (1, true), (i32::MAX as u32, true), (1 << 31, false)] {
        let open = session.cursor_raw(raw("SELECT 1")).fetch_size(rows).rows();
        match fits {
            true => assert_eq!(open.await.unwrap().count().await, 1),
            false => {
                let error = wharf::assert_queries(0, open).await.map(|_| ()).unwrap_err();
                assert!(error.to_string().contains(&format!("{rows} rows")), "{error}");
            }
        }
    }
    session.rollback().await.unwrap();
}

#[tokio::test]
async fn it_goes_in_sessions_that_only_read_and_in_nested_ones() {
    let database = TestDatabase::shop().await;
    let pg = database.pg().await;
    fill(&pg, 30).await;
    let count = async |session: &Session| {
        let all = customer::Entity::find();
        let rows = session.cursor(&all).fetch_size(10).models::<customer::Model>().await?;
        Ok::<_, DbErr>(rows.try_collect::<Vec<_>>().await?.len())
    };
    let reader = pg.session().read_only().await.unwrap();
    assert_eq!(count(&reader).await.unwrap(), 30);
    let rows = reader.cursor_raw(raw("SELECT name FROM customer")).models::<Name>().await.unwrap();
    assert_eq!(rows.try_collect::<Vec<_>>().await.unwrap().len(), 30);
    // Nothing else comes in by it.
    for (sql, state) in [
        ("SELECT 1; INSERT INTO customer (name, email) VALUES ('a', 'b')", "42601"),
        ("INSERT INTO customer (name, email) VALUES ('a', 'b') RETURNING id", "42601"),
        ("SELECT id FROM customer FOR UPDATE", "25006"),
    ] {
        let reader = pg.session().read_only().await.unwrap();
        let error = Error::from(reader.cursor_raw(raw(sql)).rows().await.map(drop).unwrap_err());
        assert_eq!(error.sqlstate().as_deref(), Some(state), "{sql}: {error}");
    }
    let error = reader.cursor_raw(raw("SELECT 1; COMMIT")).rows().await.map(drop).unwrap_err();
    assert!(matches!(Error::from(error), Error::TransactionControl { .. }));
    let session = pg.session().await.unwrap();
    let nested = session.begin().await.unwrap();
    assert_eq!(count(&nested).await.unwrap(), 30);
    nested.rollback().await.unwrap();
    assert_eq!(count(&session).await.unwrap(), 30);
}

#[tokio::test]
async fn one_that_is_dropped_is_gone_with_its_session() {
    let database = TestDatabase::shop().await;
    let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0"]);
    fill(&pg, 30).await;
    let session = pg.session().await.unwrap();
    let all = customer::Entity::find();
    let mut rows = session.cursor(&all).fetch_size(10).models::<customer::Model>().await.unwrap();
    rows.try_next().await.unwrap().unwrap();
    drop(rows);
    assert_eq!(open_cursors(&session).await, 1);
    session.commit().await.unwrap();
    let session = pg.session().await.unwrap();
    assert_eq!(open_cursors(&session).await, 0);
}

#[tokio::test]
async fn it_costs_three_round_trips_and_one_a_batch() {
    let database = TestDatabase::shop().await;
    let proxy = Proxy::start().await;
    let pg = proxy.pg(&database, &["pool_size: 1", "max_overflow: 0", "pool_pre_ping: false"]);
    fill(&pg, 1_000).await;
    let session = pg.session().await.unwrap();
    let all = customer::Entity::find();
    proxy.asked();
    let rows = session.cursor(&all).fetch_size(100).models::<customer::Model>().await.unwrap();
    assert_eq!(proxy.asked(), 2, "DECLARE, which is prepared for itself");
    let rows: Vec<_> = rows.try_collect().await.unwrap();
    assert_eq!(rows.len(), 1_000);
    // The eleventh is the one without rows.
    assert_eq!(proxy.asked(), 1 + 11 + 1, "FETCH, prepared once, and CLOSE");
}

#[tokio::test]
async fn its_batches_are_seen_and_are_no_n_plus_one() {
    let (log, _guard) = Log::of_this_thread();
    let database = TestDatabase::shop().await;
    let pg = database.pg_with(&["monitor: {n_plus_one: error, n_plus_one_threshold: 5}"]);
    fill(&pg, 100).await;
    pg.monitor().reset();
    let session = pg.session().await.unwrap();
    for _ in 0..2 {
        let all = customer::Entity::find();
        let rows = session.cursor(&all).fetch_size(10).models::<customer::Model>().await.unwrap();
        assert_eq!(rows.try_collect::<Vec<_>>().await.unwrap().len(), 100);
    }
    session.commit().await.unwrap();
    assert_eq!(log.times("the same statement"), 0, "{}", log.text());
    let top = pg.monitor().top(20);
    let calls = |operation: &str| {
        let of = top.statements.iter().filter(|one| one.digest.operation() == operation);
        of.map(|one| (one.calls, one.digest.text().to_owned())).collect::<Vec<_>>()
    };
    // However many cursors there are, and whatever their names.
    assert_eq!(calls("FETCH"), [(22, "FETCH FORWARD ? FROM ?".to_owned())]);
    assert_eq!(calls("CLOSE"), [(2, "CLOSE ?".to_owned())]);
    let [(2, declare)] = &calls("DECLARE")[..] else { panic!("{top}") };
    assert!(declare.contains("FROM \"customer\""), "{declare}");
}
