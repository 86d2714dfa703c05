//! Every statement is seen, as what it was, when it has come to its end.

use std::time::Duration;

use entity::shop::customer;
use futures_util::{StreamExt, TryStreamExt};
use sea_orm::{
    ActiveModelTrait, ConnectionTrait, EntityTrait, IntoActiveModel, ModelTrait, Set,
    Statement as Sql, StreamTrait,
};
use wharf::{Manager, Pg};

use crate::{
    proxy::{Network, Proxy},
    seen::Seen,
    support::{TestDatabase, number, until},
};

fn sql(sql: &str) -> Sql {
    Sql::from_string(sea_orm::DbBackend::Postgres, sql)
}

fn customer(name: &str) -> customer::ActiveModel {
    customer::ActiveModel {
        name: Set(name.to_owned()),
        email: Set(format!("{name}@example.org")),
        ..Default::default()
    }
}

/// A database whose connections are open already, and who sees what is done there.
async fn watched(database: &TestDatabase, more: &[&str]) -> (Pg, Seen) {
    let pg = database.pg_with(more);
    pg.ping().await.unwrap();
    let seen = Seen::of(&pg);
    (pg, seen)
}

#[tokio::test]
async fn each_by_operation_table_and_rows() {
    let database = TestDatabase::shop().await;
    let (pg, seen) = watched(&database, &[]).await;
    let check = |what: &str, operation: &str, table: Option<&str>, rows: Option<u64>| {
        let one = seen.one();
        let found = (one.operation, one.table.as_deref(), one.rows, one.outcome.as_str());
        assert_eq!(found, (operation, table, rows, "done"), "{what}: {one:?}");
        assert!(!one.in_transaction && !one.read_only, "{one:?}");
        assert_eq!(one.wait, Some(Duration::ZERO));
        assert!(one.elapsed > Duration::ZERO && one.elapsed <= one.span, "{one:?}");
        assert_eq!(
            one.returned,
            operation == "SELECT" || what == "an insert" || what == "an update"
        );
    };
    let ada = customer("ada").insert(&pg).await.unwrap();
    check("an insert", "INSERT", Some("customer"), Some(1));
    customer::Entity::insert_many([customer("bob"), customer("eve")])
        .exec_without_returning(&pg)
        .await
        .unwrap();
    check("two at once", "INSERT", Some("customer"), Some(2));
    customer::Entity::find().all(&pg).await.unwrap();
    check("all", "SELECT", Some("customer"), Some(3));
    customer::Entity::find_by_id(-1).one(&pg).await.unwrap();
    check("none", "SELECT", Some("customer"), Some(0));
    let mut changed = ada.into_active_model();
    changed.name = Set("Ada".to_owned());
    let ada = changed.update(&pg).await.unwrap();
    check("an update", "UPDATE", Some("customer"), Some(1));
    customer::Entity::find().stream(&pg).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
    check("a stream", "SELECT", Some("customer"), Some(3));
    ada.delete(&pg).await.unwrap();
    check("a delete", "DELETE", Some("customer"), Some(1));
    pg.execute_unprepared("CREATE TABLE public.numbers (n int)").await.unwrap();
    check("unprepared", "CREATE", Some("public.numbers"), Some(0));
    pg.execute_raw(sql("INSERT INTO numbers SELECT generate_series(1, 7)")).await.unwrap();
    check("raw", "INSERT", Some("numbers"), Some(7));
    pg.execute_unprepared("COPY numbers TO '/dev/null'").await.unwrap();
    check("a COPY", "COPY", Some("numbers"), Some(7));
    // A ping is nobody's statement.
    pg.ping().await.unwrap();
    assert!(seen.statements().is_empty());
}

#[tokio::test]
async fn sessions_from_begin_to_end() {
    let database = TestDatabase::shop().await;
    let (pg, seen) = watched(&database, &[]).await;
    let operations = |seen: &Seen| {
        let statements = seen.statements();
        assert!(statements.iter().all(|one| one.in_transaction), "{statements:#?}");
        statements.iter().map(|one| one.text.clone()).collect::<Vec<_>>()
    };
    let session = pg.session().await.unwrap();
    let line = line!() - 1;
    customer::Entity::find().all(&session).await.unwrap();
    let inner = session.begin().await.unwrap();
    inner.commit().await.unwrap();
    let inner = session.begin().await.unwrap();
    inner.rollback().await.unwrap();
    drop(session.begin().await.unwrap());
    session.execute_unprepared("SET LOCAL lock_timeout = 1").await.unwrap();
    session.commit().await.unwrap();
    let statements = seen.statements();
    let place = format!("tests/it/statements.rs:{line}:");
    for one in &statements {
        assert!(one.opened_at.as_ref().unwrap().starts_with(&place), "{one:?}");
    }
    let operations_of: Vec<_> = statements.iter().map(|one| one.operation).collect();
    assert_eq!(
        operations_of,
        [
            "BEGIN",
            "SELECT",
            "SAVEPOINT",
            "RELEASE",
            "SAVEPOINT",
            "ROLLBACK",
            "SAVEPOINT",
            "ROLLBACK",
            "SET",
            "COMMIT"
        ]
    );
    // The wait is the first one's to tell.
    let waits: Vec<_> = statements.iter().filter(|one| one.wait.is_some()).collect();
    assert_eq!(waits.len(), 1);
    assert_eq!(waits[0].operation, "BEGIN");

    pg.session().set_local("app.tenant", "7").await.unwrap().rollback().await.unwrap();
    assert_eq!(operations(&seen), ["BEGIN; SELECT set_config(?, ..., true)", "ROLLBACK"]);
    drop(pg.session().await.unwrap());
    assert_eq!(operations(&seen), ["BEGIN", "ROLLBACK"]);

    let session = pg.session().read_only().await.unwrap();
    customer::Entity::find().all(&session).await.unwrap();
    session.commit().await.unwrap();
    let statements = seen.statements();
    assert!(statements.iter().all(|one| one.read_only && one.in_transaction), "{statements:#?}");
    let texts: Vec<_> = statements.iter().map(|one| one.operation).collect();
    assert_eq!(texts, ["BEGIN", "SELECT", "ROLLBACK"]);
}

#[tokio::test]
async fn failures_with_the_servers_word_for_them() {
    let database = TestDatabase::shop().await;
    let (pg, seen) = watched(&database, &[]).await;
    let failed = |seen: &Seen, sqlstate: &str| {
        let one = seen.one();
        assert_eq!((one.outcome.as_str(), one.sqlstate.as_deref()), (sqlstate, Some(sqlstate)));
        one
    };
    pg.execute_unprepared("SELECT 1/0").await.unwrap_err();
    failed(&seen, "22012");
    customer("ada").insert(&pg).await.unwrap();
    seen.one();
    customer("ada").insert(&pg).await.unwrap_err();
    assert_eq!(failed(&seen, "23505").table.as_deref(), Some("customer"));
    // A stream that fails on the way has given rows before.
    let rows = pg.stream_raw(sql("SELECT 1 / (3 - n) FROM generate_series(1, 9) n")).await.unwrap();
    let rows: Vec<_> = rows.collect().await;
    assert!(rows.last().unwrap().is_err());
    assert_eq!(failed(&seen, "22012").rows, Some(2));
    // A COMMIT that the server refuses.
    pg.execute_unprepared(
        "CREATE TABLE one (n int UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO one VALUES (1)",
    )
    .await
    .unwrap();
    let session = pg.session().await.unwrap();
    session.execute_unprepared("INSERT INTO one VALUES (1)").await.unwrap();
    seen.statements();
    session.commit().await.unwrap_err();
    assert_eq!(failed(&seen, "23505").operation, "COMMIT");
}

#[tokio::test]
async fn what_the_network_does_to_them() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start().await;
    let pg = proxy.pg(&database, &["socket_timeout: 300ms", "pool_pre_ping: false"]);
    pg.ping().await.unwrap();
    let seen = Seen::of(&pg);
    proxy.set(Network::Swallows);
    pg.execute_unprepared("SELECT 1").await.unwrap_err();
    let one = seen.one();
    assert_eq!((one.outcome.as_str(), &one.sqlstate), ("timeout", &None));
    assert!(one.elapsed >= Duration::from_millis(300), "{one:?}");
    proxy.set(Network::Whole);
    let session = pg.session().await.unwrap();
    seen.statements();
    proxy.set(Network::Resets);
    session.execute_unprepared("SELECT 1").await.unwrap_err();
    assert_eq!(seen.one().outcome, "connection");
}

#[tokio::test]
async fn those_whose_future_was_dropped() {
    let database = TestDatabase::new().await;
    let (pg, seen) = watched(&database, &[]).await;
    let limit = Duration::from_millis(50);
    let sleep = pg.execute_raw(sql("SELECT pg_sleep(20)"));
    tokio::time::timeout(limit, sleep).await.unwrap_err();
    let one = seen.one();
    assert_eq!((one.operation, one.outcome.as_str()), ("SELECT", "dropped"));
    assert!(one.elapsed >= Duration::from_millis(45), "{one:?}");
    // A stream that nobody reads to its end: with the rows that were read.
    let many = sql("SELECT n FROM generate_series(1, 100000) n");
    let mut rows = pg.stream_raw(many).await.unwrap();
    for _ in 0..3 {
        rows.next().await.unwrap().unwrap();
    }
    assert!(seen.statements().is_empty());
    drop(rows);
    let one = seen.one();
    assert_eq!((one.outcome.as_str(), one.rows), ("dropped", Some(3)));
}

#[tokio::test]
async fn a_streams_time_is_the_servers_and_not_its_readers() {
    let database = TestDatabase::new().await;
    let (pg, seen) = watched(&database, &[]).await;
    let slow = "SELECT pg_sleep(0.05)::text FROM generate_series(1, 4)";
    pg.stream_raw(sql(slow)).await.unwrap().try_collect::<Vec<_>>().await.unwrap();
    let one = seen.one();
    assert!(one.elapsed >= Duration::from_millis(200), "{one:?}");
    assert_eq!(one.rows, Some(4));
    let mut rows = pg.stream_raw(sql("SELECT n FROM generate_series(1, 4) n")).await.unwrap();
    while rows.next().await.is_some() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(rows);
    let one = seen.one();
    assert!(one.span >= Duration::from_millis(200), "{one:?}");
    assert!(one.elapsed < Duration::from_millis(150), "{one:?}");
}

#[tokio::test]
async fn the_wait_for_a_connection_is_not_part_of_the_statement() {
    let database = TestDatabase::new().await;
    let (pg, seen) = watched(&database, &["pool_size: 1", "max_overflow: 0"]).await;
    let session = pg.session().await.unwrap();
    let waiter = tokio::spawn({
        let pg = pg.clone();
        async move { number(&pg, "SELECT 1::bigint").await }
    });
    until("it waits", async || pg.stats().writer.waiting == 1).await;
    number(&session, "SELECT 2::bigint FROM pg_sleep(0.3)").await;
    drop(session);
    waiter.await.unwrap();
    let statements = seen.statements();
    let one = statements.last().unwrap();
    assert!(one.wait.unwrap() >= Duration::from_millis(280), "{one:?}");
    assert!(one.elapsed < Duration::from_millis(250), "{one:?}");
}

#[tokio::test]
async fn what_the_pool_does() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["pool_size: 1", "max_overflow: 0", "pool_timeout: 0.7"]);
    let seen = Seen::of(&pg);
    let session = pg.session().await.unwrap();
    pg.session().await.unwrap_err();
    session.rollback().await.unwrap();
    pg.read_only().ping().await.unwrap();
    let told = seen.pool();
    let events: Vec<_> = told.iter().map(|(pool, what, _)| (pool.as_str(), *what)).collect();
    assert_eq!(
        events,
        [
            ("it", "connected"),
            ("it", "lent"),
            ("it", "timed out"),
            ("it", "given back"),
            ("it.reader", "connected"),
            ("it.reader", "lent"),
            ("it.reader", "given back"),
        ]
    );
    assert!(told[2].2 >= Duration::from_millis(700), "{told:?}");
    assert!(told[3].2 >= Duration::from_millis(700), "{told:?}");
    // Where the entry itself reads only, there is one pool, and it has the entry's name.
    let pg = database.pg_with(&["readonly: true"]);
    let seen = Seen::of(&pg);
    pg.ping().await.unwrap();
    assert!(seen.pool().iter().all(|(pool, ..)| pool == "it"));
}

#[tokio::test]
async fn those_of_seaorms_own_connection_as_far_as_it_tells() {
    let database = TestDatabase::shop().await;
    let manager = Manager::from_config(database.config(&[]));
    let pg = manager.db("it").unwrap();
    let seen = Seen::of(&pg);
    let sea_orm = manager.connection("it").unwrap();
    customer("ada").insert(&sea_orm).await.unwrap();
    sea_orm.query_all_raw(sql("SELECT 1/0")).await.unwrap_err();
    sea_orm.execute_unprepared("SELECT 1").await.unwrap();
    let statements = seen.statements();
    let told: Vec<_> = statements
        .iter()
        .map(|one| (one.operation, one.table.as_deref(), one.outcome.as_str(), one.wait))
        .collect();
    assert_eq!(
        told,
        [("INSERT", Some("customer"), "done", None), ("SELECT", None, "_OTHER", None)]
    );
    // In the same figures.
    customer("bob").insert(&pg).await.unwrap();
    let top = pg.monitor().top(10);
    let inserts = top.statements.iter().find(|one| one.digest.operation() == "INSERT").unwrap();
    assert_eq!((inserts.calls, inserts.errors), (2, 0));
    manager.close().await;
}

#[tokio::test]
async fn none_where_the_file_says_so() {
    let database = TestDatabase::new().await;
    let more = ["monitor: {enabled: false, slow_statement_threshold: 1us}"];
    let manager = Manager::from_config(database.config(&more));
    let pg = manager.db("it").unwrap();
    let seen = Seen::of(&pg);
    number(&pg, "SELECT 1::bigint").await;
    number(&pg.session().await.unwrap(), "SELECT 1::bigint").await;
    number(&manager.connection("it").unwrap(), "SELECT 1::bigint").await;
    assert!(seen.statements().is_empty() && seen.pool().is_empty());
    assert!(pg.monitor().top(10).statements.is_empty());
    manager.close().await;
}

#[tokio::test]
async fn the_first_observer_stays() {
    let database = TestDatabase::new().await;
    let (pg, seen) = watched(&database, &[]).await;
    assert!(pg.monitor().set_observer(Seen::default()).is_err());
    number(&pg.read_only(), "SELECT 1::bigint").await;
    assert!(!seen.statements().is_empty());
}
