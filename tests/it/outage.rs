//! The server goes, or the network on the way there does: what is lost, how long it is waited for,
//! and how soon everything works again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{
    TryStreamExt,
    future::{BoxFuture, join_all},
};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement, StreamTrait, TransactionTrait,
};
use wharf::{
    ConnectErrorKind, Error, Manager, Pg,
    config::{DatabaseConfig, PgServerConfig, Runtime},
    pgserver::PgServer,
};

use crate::{
    proxy::{Network, Proxy, Trap},
    support::{Log, TestDatabase, config, number, say, until},
};

/// What the pool may take to serve again once the server is back, and what a busy machine may add.
const AT_ONCE: Duration = Duration::from_millis(1000 + 1500);

async fn one(pg: &Pg) -> Result<(), Error> {
    Ok(pg.execute_unprepared("SELECT 1").await.map(|_| ())?)
}

/// A server of its own that can be ended and started again at the same place.
struct Server {
    server: PgServer,
    folder: tempfile::TempDir,
    pg: Pg,
}

impl Server {
    async fn start() -> Server {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut config = PgServerConfig::new("outage");
        config.runtime = Runtime::Native;
        config.port = Some(port);
        config.pass = Some("it".into());
        let server = PgServer::new(config, []).data_dir(folder.path());
        let at = server.start().await.unwrap();
        let url = format!("postgres://{}:it@127.0.0.1:{port}/postgres", at.user);
        let mut config = DatabaseConfig::from_url(&url).unwrap();
        (config.pool_size, config.max_overflow) = (4, 4);
        let pg = Pg::from_config("outage", config);
        pg.execute_unprepared("CREATE TABLE entry (n int)").await.unwrap();
        Server { server, folder, pg }
    }

    fn kill(&self) {
        let pid = self.folder.path().join("outage/native/data/postmaster.pid");
        let pid = std::fs::read_to_string(pid).unwrap().lines().next().unwrap().to_owned();
        let killed = std::process::Command::new("kill").args(["-9", &pid]).status().unwrap();
        assert!(killed.success());
    }
}

/// Eight tasks that never stop asking, while `outage` happens. Gives how many statements of each
/// failed.
async fn under_load(server: &Server, outage: impl AsyncFnOnce()) -> Vec<u32> {
    let stop = Arc::new(AtomicBool::new(false));
    let done: Vec<_> = (0..8).map(|_| Arc::new(AtomicU32::new(0))).collect();
    let tasks: Vec<_> = done
        .iter()
        .map(|done| {
            let (pg, stop, done) = (server.pg.clone(), Arc::clone(&stop), Arc::clone(done));
            tokio::spawn(async move {
                let mut failures = 0;
                while !stop.load(Ordering::Relaxed) {
                    match pg.execute_unprepared("INSERT INTO entry VALUES (1)").await {
                        Ok(_) => done.fetch_add(1, Ordering::Relaxed),
                        Err(_) => {
                            failures += 1;
                            0
                        }
                    };
                }
                failures
            })
        })
        .collect();
    let progress = async || {
        let before: Vec<_> = done.iter().map(|done| done.load(Ordering::Relaxed)).collect();
        while done.iter().zip(&before).any(|(done, before)| done.load(Ordering::Relaxed) <= *before)
        {
            tokio::task::yield_now().await;
        }
    };
    progress().await;
    outage().await;
    let back = Instant::now();
    progress().await;
    assert!(back.elapsed() < AT_ONCE, "served {:?} after the server was back", back.elapsed());
    stop.store(true, Ordering::Relaxed);
    let mut failures = Vec::new();
    for task in tasks {
        failures.push(task.await.unwrap());
    }
    failures
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_costs_the_statements_in_flight_and_no_more() {
    let server = Server::start().await;
    let restart = async || {
        server.server.stop().await.unwrap();
        server.server.start().await.unwrap();
    };
    for failures in under_load(&server, restart).await {
        assert!(failures <= 1, "one task lost {failures} statements");
    }
    server.server.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_postmaster_costs_the_statements_in_flight_and_no_more() {
    let server = Server::start().await;
    let crash = async || {
        server.kill();
        server.server.start().await.unwrap();
    };
    for failures in under_load(&server, crash).await {
        assert!(failures <= 1, "one task lost {failures} statements");
    }
    server.server.stop().await.unwrap();
}

#[tokio::test]
async fn connections_that_were_lost_while_they_idled_cost_one_statement_at_most() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&["pool_size: 4", "max_overflow: 0"]);
    let other = database.pg().await;
    let lose_all = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                    WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let four = async || {
        let sessions =
            [pg.session().await, pg.session().await, pg.session().await, pg.session().await];
        sessions.into_iter().for_each(|session| drop(session.unwrap()));
        while pg.stats().writer.idle < 4 {
            tokio::task::yield_now().await;
        }
    };
    four().await;
    assert_eq!(number(&other, lose_all).await, 4);
    let mut failed = 0;
    for _ in 0..5 {
        failed += u32::from(one(&pg).await.is_err());
    }
    assert!(failed <= 1, "{failed} failed");
    // A session has done nothing yet when it finds out, and begins on another connection.
    four().await;
    assert_eq!(number(&other, lose_all).await, 4);
    pg.session().await.unwrap().rollback().await.unwrap();
}

#[tokio::test]
async fn a_reset_in_the_middle_of_a_statement_is_its_error_and_nobody_elses() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start().await;
    let pg = proxy.pg(&database, &["pool_size: 2", "max_overflow: 0"]);
    one(&pg).await.unwrap();
    proxy.trap("the trap", Trap::ResetBefore);
    let error = Error::from(pg.execute_unprepared("SELECT 'the trap'").await.unwrap_err());
    assert!(matches!(&error, Error::Db(DbErr::Exec(_))), "{error}");
    one(&pg).await.unwrap();
    proxy.trap("the trap", Trap::ResetAfter);
    pg.execute_unprepared("SELECT 'the trap'").await.unwrap_err();
    one(&pg).await.unwrap();
    // In a session: it is over, and a retry runs it again.
    let calls = AtomicU32::new(0);
    proxy.trap("the trap", Trap::ResetBefore);
    let run = pg.session().retry(1).run(async |s| {
        calls.fetch_add(1, Ordering::Relaxed);
        s.execute_unprepared("SELECT 'the trap'").await
    });
    run.await.unwrap();
    assert_eq!(calls.into_inner(), 2);
}

#[tokio::test]
async fn a_network_that_swallows_everything_is_given_up_after_socket_timeout() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start().await;
    let more = [
        "pool_size: 1",
        "max_overflow: 0",
        "socket_timeout: 0.5",
        "pool_timeout: 1.5",
        "connect_timeout: 1",
    ];
    let pg = proxy.pg(&database, &more);
    one(&pg).await.unwrap();
    proxy.set(Network::Swallows);
    let started = Instant::now();
    let error = one(&pg).await.unwrap_err();
    assert!(matches!(error, Error::NoAnswer { .. }), "{error}");
    assert!(error.to_string().contains("no answer within 500ms"), "{error}");
    assert!(started.elapsed() < Duration::from_millis(500) + AT_ONCE);
    // A new connection gets no answer either: that is what is said, within the deadline.
    let started = Instant::now();
    let Error::Connect(error) = one(&pg).await.unwrap_err() else { panic!("not a connect error") };
    assert_eq!(error.kind, ConnectErrorKind::Timeout, "{error}");
    assert!(started.elapsed() < Duration::from_millis(1500) + AT_ONCE, "{error}");
    proxy.set(Network::Whole);
    let back = Instant::now();
    one(&pg).await.unwrap();
    assert!(back.elapsed() < AT_ONCE, "{:?}", back.elapsed());
}

#[tokio::test]
async fn a_stream_whose_rows_stay_away_is_given_up_after_socket_timeout() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start().await;
    let pg = proxy.pg(&database, &["socket_timeout: 0.5"]);
    let many = "SELECT repeat('x', 1000) FROM generate_series(1, 50000)";
    let mut rows = pg.stream_raw(Statement::from_string(DbBackend::Postgres, many)).await.unwrap();
    rows.try_next().await.unwrap().unwrap();
    // Its reader's time does not count.
    tokio::time::sleep(Duration::from_millis(600)).await;
    rows.try_next().await.unwrap().unwrap();
    proxy.set(Network::Swallows);
    let started = Instant::now();
    let error = loop {
        match rows.try_next().await {
            Ok(row) => assert!(row.is_some(), "all of them came"),
            Err(error) => break Error::from(error),
        }
    };
    assert!(matches!(error, Error::NoAnswer { .. }), "{error}");
    assert!(started.elapsed() < Duration::from_millis(500) + AT_ONCE);
}

#[tokio::test]
async fn seaorms_own_connection_too_is_given_up_after_socket_timeout() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start().await;
    let more = ["pool_size: 2", "socket_timeout: 0.5", "pool_timeout: 1.5", "connect_timeout: 1"];
    let manager = proxy.manager(&database, &more);
    let own = manager.connection("it").unwrap();
    let statement = |text: &str| Statement::from_string(DbBackend::Postgres, text);
    let pid = async |on: &DatabaseConnection| {
        let row = on.query_one_raw(statement("SELECT pg_backend_pid()")).await?.unwrap();
        row.try_get_by_index::<i32>(0)
    };

    // A session, a statement, and an answer that stops half-way.
    let transaction = own.begin().await.unwrap();
    transaction.execute_unprepared("SELECT 1").await.unwrap();
    let many = "SELECT repeat('x', 1000) FROM generate_series(1, 50000)";
    let mut rows = own.stream_raw(statement(many)).await.unwrap();
    rows.try_next().await.unwrap().unwrap();
    proxy.set(Network::Swallows);
    let limit = Duration::from_millis(500) + AT_ONCE;
    let in_time = async |work: BoxFuture<'_, Result<(), DbErr>>| {
        let started = Instant::now();
        let error = tokio::time::timeout(limit, work).await.expect("in time").unwrap_err();
        (error, started.elapsed())
    };
    let rest = async {
        while rows.try_next().await?.is_some() {}
        Ok(())
    };
    in_time(Box::pin(rest)).await;
    drop(rows);
    let (error, after) =
        in_time(Box::pin(async { transaction.execute_unprepared("SELECT 1").await.map(drop) }))
            .await;
    assert!(after >= Duration::from_millis(500), "{after:?}: {error}");
    drop(transaction);

    // It serves again, and what is idle for longer stays.
    proxy.set(Network::Whole);
    let serving = pid(&own).await.unwrap();
    tokio::time::sleep(Duration::from_millis(800)).await;
    let others = "SELECT count(*) FROM pg_stat_activity WHERE pid = ";
    let pg = manager.db("it").unwrap();
    assert_eq!(number(&pg, &format!("{others}{serving}")).await, 1);
}

/// In a container whose file system is read-only, for one.
#[tokio::test]
async fn seaorms_own_connection_works_without_a_folder_for_temporary_files() {
    let database = TestDatabase::new().await;
    let folder = tempfile::tempdir().unwrap();
    // No path of a socket is so long.
    let too_long = folder.path().join("x".repeat(100));
    std::fs::create_dir(&too_long).unwrap();
    for temporary in [folder.path().join("not-there"), too_long] {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "outage::part_without_a_folder", "--nocapture"]);
        command
            .env("TMPDIR", temporary)
            .env("WHARF_TEST_PART", database.entry("it", &["socket_timeout: 60"]));
        let done = command.env("RUST_BACKTRACE", "0").output().unwrap();
        assert!(done.status.success(), "{done:?}");
        let said = String::from_utf8_lossy(&done.stdout);
        assert!(
            said.contains("connected") && said.contains("socket_timeout does not apply"),
            "{done:?}"
        );
    }
}

/// Not a test: what the other process does.
#[tokio::test]
async fn part_without_a_folder() {
    let Ok(entry) = std::env::var("WHARF_TEST_PART") else {
        return;
    };
    let (log, _guard) = Log::of_this_thread();
    let manager = Manager::from_config(config(&format!("databases:\n{entry}")));
    manager.connection("it").unwrap().execute_unprepared("SELECT 1").await.unwrap();
    let said = format!("connected; {}\n", log.text());
    std::io::Write::write_all(&mut std::io::stdout(), said.as_bytes()).unwrap();
}

/// What tells that a connection lives is an answer: a ROLLBACK that nobody hears, and lending alone, tell
/// nothing.
#[tokio::test]
async fn a_connection_that_was_silent_is_pinged_before_use_however_it_came_back() {
    let database = TestDatabase::new().await;
    for monitor in ["monitor: {enabled: true}", "monitor: {enabled: false}"] {
        let proxy = Proxy::start().await;
        let more =
            ["pool_size: 1", "max_overflow: 0", "pool_timeout: 1", "connect_timeout: 1", monitor];
        let pg = proxy.pg(&database, &more);
        let session = pg.session().await.unwrap();
        number(&session, "SELECT 1::bigint").await;
        // The clock of the pool is what is waited for here, not another task.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        proxy.set(Network::Swallows);
        drop(session);
        let asked = tokio::time::timeout(Duration::from_secs(60), one(&pg)).await;
        let error = asked.expect("it was used without a ping, and hangs").unwrap_err();
        assert!(matches!(error, Error::Connect(_)), "{error}");
        proxy.set(Network::Whole);
        until("it is back", async || one(&pg).await.is_ok()).await;
    }
}

/// A dead connection is not asked again: `socket_timeout` is waited for once.
#[tokio::test]
async fn a_session_that_lost_its_connection_has_ended_at_once() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start().await;
    let pg = proxy.pg(&database, &["pool_size: 1", "max_overflow: 0", "socket_timeout: 0.5"]);
    pg.execute_unprepared("CREATE TABLE entry (n int)").await.unwrap();
    let calls = AtomicU32::new(0);
    let work = async |s: &wharf::Session| {
        if calls.fetch_add(1, Ordering::Relaxed) == 0 {
            proxy.set(Network::Swallows);
            let lost = Error::from(
                s.execute_unprepared("INSERT INTO entry VALUES (1)").await.unwrap_err(),
            );
            assert!(matches!(lost, Error::NoAnswer { .. }), "{lost}");
            let ended = Error::from(s.execute_unprepared("SELECT 1").await.unwrap_err());
            assert!(matches!(ended, Error::SessionEnded { .. }), "{ended}");
            proxy.set(Network::Whole);
            return Ok(());
        }
        s.execute_unprepared("INSERT INTO entry VALUES (2)").await.map(drop).map_err(Error::from)
    };
    let error = pg.session().run(work).await.unwrap_err();
    assert!(matches!(error, Error::SessionEnded { .. }), "no COMMIT was sent: {error}");
    calls.store(0, Ordering::Relaxed);
    pg.session().retry(1).run(work).await.unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    assert_eq!(number(&pg, "SELECT sum(n) FROM entry WHERE n = 2").await, 2);
}

/// The table in docs/connections.md. The limit of each call is a timer beside it, so that a busy machine delays both.
#[tokio::test]
async fn no_call_takes_longer_than_its_worst_case() {
    const P: Duration = Duration::from_millis(1500);
    const S: Duration = Duration::from_millis(1000);
    let database = TestDatabase::new().await;
    let select = || Statement::from_string(DbBackend::Postgres, "SELECT 1");
    type Call = for<'a> fn(&'a Pg, &'a Proxy) -> BoxFuture<'a, ()>;
    /// Makes the call, when nothing answers any more.
    async fn unheard<T>(proxy: &Proxy, call: impl Future<Output = T>) {
        proxy.set(Network::Swallows);
        drop(call.await);
    }
    let calls: [(&str, Duration, Call); 9] = [
        ("a statement", P + S, |pg, proxy| Box::pin(unheard(proxy, one(pg)))),
        ("one without a connection", P, |pg, proxy| {
            Box::pin(async {
                pg.resize(2, 0).unwrap();
                let _held = pg.session().await.unwrap();
                unheard(proxy, one(pg)).await
            })
        }),
        ("session().await", 2 * P + S, |pg, proxy| {
            Box::pin(unheard(proxy, async { pg.session().await }))
        }),
        ("a statement of a session", S, |pg, proxy| {
            Box::pin(async {
                let s = pg.session().await.unwrap();
                unheard(proxy, s.execute_unprepared("SELECT 1")).await
            })
        }),
        ("commit()", S, |pg, proxy| {
            Box::pin(async {
                let s = pg.session().await.unwrap();
                unheard(proxy, s.commit()).await
            })
        }),
        ("commit() behind a failed statement", 2 * S, |pg, proxy| {
            Box::pin(async {
                let s = pg.session().await.unwrap();
                s.execute_unprepared("SELECT 1/0").await.unwrap_err();
                unheard(proxy, s.commit()).await
            })
        }),
        ("rollback()", S, |pg, proxy| {
            Box::pin(async {
                let s = pg.session().await.unwrap();
                unheard(proxy, s.rollback()).await
            })
        }),
        ("ping()", P, |pg, proxy| Box::pin(unheard(proxy, pg.ping()))),
        ("close_within(1 s)", 2 * S, |pg, proxy| {
            Box::pin(async {
                let s = pg.session().await.unwrap();
                let closed = unheard(proxy, pg.close_within(S));
                let _ = futures_util::join!(closed, s.execute_unprepared("SELECT 1"));
            })
        }),
    ];
    let database = &database;
    join_all(calls.map(async |(name, worst, call)| {
        let proxy = Proxy::start().await;
        let more = [
            "pool_size: 1",
            "max_overflow: 0",
            "pool_timeout: 1.5",
            "connect_timeout: 1.5",
            "socket_timeout: 1",
        ];
        let pg = proxy.pg(database, &more);
        pg.query_one_raw(select()).await.unwrap();
        // Less than one more timeout is too long.
        let took = tokio::time::timeout(worst + S / 2, call(&pg, &proxy)).await;
        assert!(took.is_ok(), "{name} took longer than {worst:?}");
    }))
    .await;
}

/// Rows that keep coming are no silence, however long all of them take.
#[tokio::test]
async fn socket_timeout_does_not_end_an_answer_that_keeps_coming() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start().await;
    let pg = proxy.pg(&database, &["socket_timeout: 1"]);
    // Each is sent by itself, because it fills the server's buffer.
    let steady = "SELECT repeat('x', 9000), pg_sleep(0.02)::text FROM generate_series(1, 100)";
    let started = Instant::now();
    let statement = Statement::from_string(DbBackend::Postgres, steady);
    assert_eq!(pg.query_all_raw(statement).await.unwrap().len(), 100);
    assert!(started.elapsed() > Duration::from_secs(1), "it took too little to show anything");
}

/// A health check has an end on a network that swallows everything, without socket_timeout too.
#[tokio::test]
async fn a_ping_ends_within_pool_timeout_where_nothing_answers() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start().await;
    let more = ["pool_size: 1", "max_overflow: 0", "pool_timeout: 0.5", "connect_timeout: 0.5"];
    let pg = proxy.pg(&database, &more);
    // Used within the last second, so that it is lent without a ping of the pool's.
    pg.ping().await.unwrap();
    proxy.set(Network::Swallows);
    let error = Error::from(pg.ping().await.unwrap_err());
    assert!(matches!(error, Error::NoAnswer { .. } | Error::Connect(_)), "{error}");
    let error = Error::from(pg.ping().await.unwrap_err());
    assert!(matches!(error, Error::Connect(_)), "{error}");
    proxy.set(Network::Whole);
    until("it is back", async || pg.ping().await.is_ok()).await;
}

/// A caller may be less patient than the server is quick: the connection opens all the same.
#[tokio::test]
async fn a_connection_opens_that_takes_longer_than_pool_timeout() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start().await;
    proxy.delay(Duration::from_millis(100));
    let pg = proxy.pg(&database, &["pool_size: 1", "max_overflow: 0", "pool_timeout: 0.005"]);
    one(&pg).await.unwrap_err();
    until("it is open", async || pg.stats().writer.open == 1).await;
    assert_eq!(proxy.accepted(), 1);
}

#[tokio::test]
async fn the_ping_of_an_idle_connection_ends_with_the_callers_deadline() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start().await;
    let more = ["pool_size: 2", "max_overflow: 0", "pool_timeout: 1", "connect_timeout: 1"];
    let pg = proxy.pg(&database, &more);
    one(&pg).await.unwrap();
    // The clock of the pool is what is waited for here, not another task.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    proxy.set(Network::Swallows);
    let started = Instant::now();
    let Error::Connect(error) = one(&pg).await.unwrap_err() else { panic!("not a connect error") };
    assert_eq!(error.kind, ConnectErrorKind::Timeout, "{error}");
    assert!(started.elapsed() < Duration::from_secs(1) + AT_ONCE);
    proxy.set(Network::Whole);
    one(&pg).await.unwrap();
}

#[tokio::test]
async fn an_outage_longer_than_the_deadline_is_told_by_its_own_name() {
    let database = TestDatabase::new().await;
    let mut proxy = Proxy::start().await;
    let pg = proxy.pg(&database, &["pool_size: 2", "max_overflow: 0", "pool_timeout: 0.7"]);
    one(&pg).await.unwrap();
    proxy.refuse().await;
    proxy.set(Network::Resets);
    let _ = one(&pg).await;
    for _ in 0..3 {
        let started = Instant::now();
        let Error::Connect(error) = one(&pg).await.unwrap_err() else { panic!("not one") };
        assert_eq!(error.kind, ConnectErrorKind::Unreachable, "{error}");
        let waited = Duration::from_millis(650)..Duration::from_millis(700) + AT_ONCE;
        assert!(waited.contains(&started.elapsed()), "{:?}", started.elapsed());
        assert!(waited.contains(&error.elapsed), "{error}");
    }
    // A sign of life is not worth the wait: the next attempt says how things are.
    let started = Instant::now();
    let error = Error::from(pg.ping().await.unwrap_err());
    assert!(matches!(error, Error::Connect(_)), "{error}");
    assert!(started.elapsed() < Duration::from_millis(650), "{:?}", started.elapsed());
    proxy.listen_again().await;
    proxy.set(Network::Whole);
    let back = Instant::now();
    one(&pg).await.unwrap();
    assert!(back.elapsed() < AT_ONCE, "{:?}", back.elapsed());
}

/// Where the server is right for writing, it is for reading: what keeps from it is an outage.
#[tokio::test]
async fn readers_wait_for_a_server_that_only_writers_have_reached() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start().await;
    let pg = proxy.pg(&database, &["pool_size: 1", "max_overflow: 0"]);
    one(&pg).await.unwrap();
    proxy.set(Network::Resets);
    proxy.accepted();
    let readers = pg.read_only();
    let reader = tokio::spawn(async move { one(&readers).await });
    let mut attempts = 0;
    until("it was tried again", async || {
        attempts += proxy.accepted();
        attempts >= 3
    })
    .await;
    assert!(!reader.is_finished(), "{:?}", reader.await);
    proxy.set(Network::Whole);
    reader.await.unwrap().unwrap();
}

/// The connection that all wait for is being opened on a runtime that ends: the others open one on theirs.
#[tokio::test]
async fn the_end_of_a_runtime_leaves_nobody_waiting() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start().await;
    let more = ["pool_size: 1", "max_overflow: 0", "pool_timeout: 300", "connect_timeout: 300"];
    let pg = proxy.pg(&database, &more);
    proxy.set(Network::Swallows);
    let waiter = || {
        let pg = pg.clone();
        async move { one(&pg).await }
    };
    let other = tokio::runtime::Builder::new_multi_thread();
    let other = { other }.worker_threads(1).enable_all().build().unwrap();
    let gone = [other.spawn(waiter()), other.spawn(waiter())];
    until("they wait", async || pg.stats().writer.waiting == 2 && pg.stats().writer.opening == 1)
        .await;
    let here = [tokio::spawn(waiter()), tokio::spawn(waiter()), tokio::spawn(waiter())];
    until("all wait", async || pg.stats().writer.waiting == 5).await;
    proxy.set(Network::Whole);
    other.shutdown_background();
    for served in here {
        let served = tokio::time::timeout(Duration::from_secs(60), served).await;
        served.expect("it waits for a runtime that has ended").unwrap().unwrap();
    }
    drop(gone);
}

#[tokio::test]
async fn many_who_wait_for_a_server_knock_one_at_a_time() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start().await;
    let pg = proxy.pg(&database, &["pool_size: 10", "max_overflow: 10"]);
    one(&pg).await.unwrap();
    proxy.set(Network::Resets);
    let _ = one(&pg).await;
    proxy.accepted();
    let waiters: Vec<_> = (0..60)
        .map(|_| {
            let pg = pg.clone();
            tokio::spawn(async move { one(&pg).await })
        })
        .collect();
    // This long is the outage.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let knocks = proxy.accepted();
    assert!((3..=14).contains(&knocks), "{knocks} attempts in 2 s");
    proxy.set(Network::Whole);
    let back = Instant::now();
    for waiter in waiters {
        waiter.await.unwrap().unwrap();
    }
    assert!(back.elapsed() < AT_ONCE, "{:?}", back.elapsed());
    let stats = pg.stats().writer;
    assert!(stats.open <= 20, "{stats}");
}

#[tokio::test]
async fn a_commit_that_the_network_broke_is_unknown_and_never_run_again() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start().await;
    let pg = proxy.pg(&database, &["pool_size: 1", "max_overflow: 0", "socket_timeout: 0.5"]);
    pg.execute_unprepared("CREATE TABLE entry (n int)").await.unwrap();
    for (n, (trap, kept)) in
        [(Trap::ResetBefore, 0), (Trap::ResetAfter, 1), (Trap::SwallowAfter, 1)]
            .into_iter()
            .enumerate()
    {
        let (calls, hooks) = (AtomicU32::new(0), Arc::new(AtomicU32::new(0)));
        proxy.trap("COMMIT", trap);
        let run = pg.session().retry(3).run(async |s| {
            calls.fetch_add(1, Ordering::Relaxed);
            let hooks = Arc::clone(&hooks);
            s.after_commit(move || _ = hooks.fetch_add(1, Ordering::Relaxed));
            s.execute_unprepared(&format!("INSERT INTO entry VALUES ({n})")).await
        });
        let error = Error::from(run.await.unwrap_err());
        assert!(matches!(error, Error::CommitUnknown { .. }), "{trap:?}: {error}");
        assert_eq!((calls.into_inner(), hooks.load(Ordering::Relaxed)), (1, 0), "{trap:?}");
        let found = number(&pg, &format!("SELECT count(*) FROM entry WHERE n = {n}")).await;
        assert_eq!(found, kept, "{trap:?}");
    }
}

/// What does not answer in time is waited for once, also where a session begins.
#[tokio::test]
async fn a_session_that_cannot_begin_waits_for_the_socket_once() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start().await;
    let more = ["pool_size: 1", "max_overflow: 0", "socket_timeout: 0.3", "pool_pre_ping: false"];
    let pg = proxy.pg(&database, &more);
    one(&pg).await.unwrap();
    proxy.accepted();
    proxy.set(Network::Swallows);
    let error = pg.session().await.unwrap_err();
    assert!(matches!(error, Error::NoAnswer { .. }), "{error}");
    assert_eq!(proxy.accepted(), 0, "it was tried on another connection");
}

/// Whoever waits for a connection gets one that comes back, whatever becomes of another that was to be opened.
#[tokio::test]
async fn a_failed_connect_fails_nobody_whom_another_connection_serves() {
    let database = TestDatabase::new().await;
    // As often as it is asked but once, the login does not come.
    let mut config = database.config(&["pool_size: 2", "max_overflow: 0"]);
    let mut entry = config.databases.remove("it").unwrap();
    let asked = Arc::new(AtomicU32::new(0));
    let failed = Arc::clone(&asked);
    entry.set_login_source(move |login| {
        let fails = failed.fetch_add(1, Ordering::SeqCst) > 0;
        async move { if fails { Err("the vault hiccups".into()) } else { Ok(login) } }
    });
    let pg = Pg::from_config("it", entry);
    let held = pg.session().await.unwrap();
    let waiter = tokio::spawn({
        let pg = pg.clone();
        async move { one(&pg).await }
    });
    until("the second connection was not to be had", async || asked.load(Ordering::SeqCst) > 1)
        .await;
    until("and is tried again", async || asked.load(Ordering::SeqCst) > 2).await;
    held.rollback().await.unwrap();
    waiter.await.unwrap().unwrap();
    // Where nothing else can serve them, they are told.
    let lost = pg.execute_unprepared("SELECT pg_terminate_backend(pg_backend_pid())").await;
    lost.unwrap_err();
    let Error::Connect(error) = one(&pg).await.unwrap_err() else { panic!("not a connect error") };
    assert_eq!(error.kind, ConnectErrorKind::Credentials, "{error}");
}

/// A ping that had no time to be answered says nothing of the other connections.
#[tokio::test]
async fn a_caller_with_little_time_closes_no_connection_but_its_own() {
    let database = TestDatabase::new().await;
    let proxy = Proxy::start().await;
    let more = ["pool_size: 3", "max_overflow: 0", "pool_timeout: 0.02"];
    let pg = proxy.pg(&database, &more);
    pg.warm_up().await.ok();
    until("three are open", async || {
        let all = futures_util::future::join_all((0..3).map(|_| pg.session().into_future())).await;
        drop(all);
        pg.stats().writer.open == 3
    })
    .await;
    // The clock of the pool is what is waited for here, not another task.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    proxy.delay(Duration::from_millis(60));
    let error = one(&pg).await.unwrap_err();
    assert!(matches!(error, Error::Connect(_)), "{error}");
    until("its own is seen to", async || pg.stats().writer.in_use == 0).await;
    assert!(pg.stats().writer.open >= 2, "{:?}", pg.stats());
    proxy.delay(Duration::ZERO);
    until("they serve", async || one(&pg).await.is_ok()).await;
}

/// In a process that has names of its own.
#[tokio::test]
async fn a_name_whose_first_address_swallows_everything_is_reached_at_its_other_one() {
    let database = TestDatabase::new().await;
    let folder = tempfile::tempdir().unwrap();
    let hosts = folder.path().join("hosts");
    std::fs::write(&hosts, "127.0.0.1 two.test\n127.0.0.77 two.test\n").unwrap();
    let own_names = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
    let unshared = |command: &[&std::ffi::OsStr]| {
        let mut unshare = std::process::Command::new("unshare");
        unshare.args(["--map-root-user", "--mount", "sh", "-c", own_names]).arg(&hosts);
        unshare.args(command).env("WHARF_TEST_PART", database.url()).output().unwrap()
    };
    if !unshared(&["true".as_ref()]).status.success() {
        return say("did not run: this machine gives a process no names of its own");
    }
    let this = std::env::current_exe().unwrap();
    let test = "outage::part_with_two_addresses".as_ref();
    let done = unshared(&[this.as_os_str(), "--exact".as_ref(), test]);
    let said = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success() && said.contains("1 passed"), "{done:?}");
}

#[tokio::test]
async fn part_with_two_addresses() {
    let Ok(url) = std::env::var("WHARF_TEST_PART") else { return };
    if !url.starts_with("postgres") {
        return;
    }
    // Two connections fill it; who comes then hears nothing.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let hole = socket.listen(0).unwrap();
    let port = hole.local_addr().unwrap().port();
    let hole_at = ("127.0.0.1", port);
    let _first = tokio::net::TcpStream::connect(hole_at).await.unwrap();
    let _more: Vec<_> =
        (0..4).map(|_| tokio::spawn(tokio::net::TcpStream::connect(hole_at))).collect();
    let mut config = DatabaseConfig::from_url(&url).unwrap();
    let wharf::config::Address::Host { host, port: server } = config.address.clone() else {
        panic!("{:?}", config.address)
    };
    let listener = tokio::net::TcpListener::bind(("127.0.0.77", port)).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = tokio::net::TcpStream::connect((host.as_str(), server)).await.unwrap();
            tokio::spawn(async move {
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    config.address = wharf::config::Address::Host { host: "two.test".to_owned(), port };
    let pg = Pg::from_config("it", config);
    assert_eq!(number(&pg, "SELECT 7::int8").await, 7);
}
