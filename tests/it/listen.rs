//! What is notified is heard, and where it may not have been that is told.

use std::{
    future::poll_fn,
    task::Poll,
    time::{Duration, Instant},
};

use futures_util::{FutureExt, StreamExt, future::join};
use sea_orm::ConnectionTrait;
use wharf::{
    ConnectErrorKind, Error, Manager, Pg,
    listen::{Event, Listener, Notification},
};

use crate::{
    proxy::{Network, Proxy, Trap},
    support::{Log, TestDatabase, config, native_server, number, until},
};

/// The next event, which is to be a notification.
async fn heard(listener: &mut Listener) -> Notification {
    match next(listener).await {
        Event::Notification(said) => said,
        lost => panic!("{lost:?}"),
    }
}

async fn payload(listener: &mut Listener) -> String {
    heard(listener).await.payload
}

async fn next(listener: &mut Listener) -> Event {
    let event = tokio::time::timeout(Duration::from_secs(20), listener.recv()).await;
    event.expect("nothing was heard").unwrap()
}

/// The next event, which is to be that some may be lost; for how long nothing was heard.
async fn lost(listener: &mut Listener) -> Duration {
    match next(listener).await {
        Event::Lost { gap } => gap,
        said => panic!("{said:?}"),
    }
}

/// How many connections go by the name `ears`.
async fn ears(pg: &Pg) -> i64 {
    let count = "SELECT count(*) FROM pg_stat_activity \
                 WHERE datname = current_database() AND application_name = 'ears'";
    number(pg, count).await
}

/// Has the server end them; how many there were.
async fn cut_off(pg: &Pg) -> i64 {
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = 'ears'";
    number(pg, cut).await
}

const EARS: &str = "application_name: ears";

#[tokio::test]
async fn it_is_heard_when_it_is_committed_and_never_where_it_is_not() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let mut listener = pg.listen(["orders", "stock"]).await.unwrap();
    let first = pg.session().await.unwrap();
    first.notify("orders", "1").await.unwrap();
    let undone = pg.session().await.unwrap();
    undone.notify("orders", "undone").await.unwrap();
    undone.rollback().await.unwrap();
    drop({
        let dropped = pg.session().await.unwrap();
        dropped.notify("orders", "dropped").await.unwrap();
        dropped
    });
    let partly = pg.session().await.unwrap();
    let nested = partly.begin().await.unwrap();
    nested.notify("orders", "nested and undone").await.unwrap();
    nested.rollback().await.unwrap();
    partly.notify("stock", "2").await.unwrap();
    partly.notify("stock", "2").await.unwrap();
    partly.commit().await.unwrap();
    let said = heard(&mut listener).await;
    assert_eq!((&*said.channel, &*said.payload), ("stock", "2"), "the first that was committed");
    pg.notify("orders", "").await.unwrap();
    assert_eq!(payload(&mut listener).await, "", "the same twice in one session is heard once");
    let process = number(&first, "SELECT pg_backend_pid()::bigint").await;
    first.commit().await.unwrap();
    let said = heard(&mut listener).await;
    assert_eq!((&*said.channel, &*said.payload), ("orders", "1"));
    assert_eq!(i64::from(said.process_id), process);
}

#[tokio::test]
async fn a_name_is_taken_as_it_stands() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let longest = "ö".repeat(31);
    for name in ["Orders", "a \"b\"; DROP TABLE x; --", "it's", "a.b", "*", "$user", &longest] {
        let mut listener = pg.listen([name]).await.unwrap();
        pg.notify(&name.to_lowercase(), "another").await.unwrap();
        let payload = "it's \\ \"so\"\n";
        pg.notify(name, payload).await.unwrap();
        let mut said = heard(&mut listener).await;
        if name == name.to_lowercase() {
            said = heard(&mut listener).await;
        }
        assert_eq!((&*said.channel, &*said.payload), (name, payload));
    }
    let long = "x".repeat(64);
    for name in ["", "a\0b", &long] {
        for error in [
            pg.listen(["fine", name]).await.map(drop).unwrap_err(),
            pg.notify(name, "").await.unwrap_err(),
        ] {
            assert!(matches!(error, Error::Notifications { .. }), "{error}");
            assert!(error.to_string().contains("is not a valid channel name: it"), "{error}");
        }
    }
}

#[tokio::test]
async fn a_payload_that_is_too_long_is_refused_before_the_server_has_it() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let mut listener = pg.listen(["orders"]).await.unwrap();
    let session = pg.session().await.unwrap();
    // It is its bytes that count.
    for wrong in ["x".repeat(8_000), "ö".repeat(4_000), "a\0b".to_owned()] {
        let error = session.notify("orders", wrong).await.unwrap_err();
        assert!(matches!(error, Error::Notifications { .. }), "{error}");
        assert!(error.to_string().contains("payload for channel \"orders\" "), "{error}");
    }
    let longest = "x".repeat(7_999);
    session.notify("orders", &*longest).await.unwrap();
    session.commit().await.unwrap();
    assert_eq!(payload(&mut listener).await, longest);
}

#[tokio::test]
async fn who_only_reads_listens_and_does_not_notify() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let reader = pg.read_only();
    let mut listener = reader.listen(["orders"]).await.unwrap();
    let session = pg.session().read_only().await.unwrap();
    for error in [
        reader.notify("orders", "").await.unwrap_err(),
        session.notify("orders", "").await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::ReadOnly { .. }), "{error}");
    }
    // A view of a schema hears and says what all do.
    pg.scoped("tenant").unwrap().notify("orders", "1").await.unwrap();
    assert_eq!(payload(&mut listener).await, "1");
}

#[tokio::test]
async fn many_are_heard_in_their_order_however_late_they_are_read() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let mut listener = pg.listen(["numbers"]).await.unwrap();
    let many =
        "SELECT pg_notify('numbers', lpad(n::text, 1000, '0')) FROM generate_series(1, 10000) n";
    pg.execute_unprepared(many).await.unwrap();
    // More than are kept unread: and yet there is somebody to ask for another channel.
    listener.listen("more").await.unwrap();
    pg.notify("more", "last").await.unwrap();
    for n in 1..=10_000 {
        assert_eq!(payload(&mut listener).await.parse::<u32>().unwrap(), n);
    }
    assert_eq!(payload(&mut listener).await, "last");
}

#[tokio::test]
async fn channels_come_and_go() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&[EARS]);
    let other = database.pg().await;
    let mut listener = pg.listen(Vec::<String>::new()).await.unwrap();
    for _ in 0..2 {
        listener.listen("a").await.unwrap();
    }
    listener.listen("b").await.unwrap();
    listener.unlisten("a").await.unwrap();
    listener.unlisten("never").await.unwrap();
    for channel in ["a", "b"] {
        other.notify(channel, "").await.unwrap();
    }
    assert_eq!(heard(&mut listener).await.channel, "b");
    assert!(matches!(listener.listen("").await.unwrap_err(), Error::Notifications { .. }));
    // They are those of the next connection, too.
    assert_eq!(cut_off(&other).await, 1);
    lost(&mut listener).await;
    for channel in ["a", "b"] {
        other.notify(channel, "").await.unwrap();
    }
    assert_eq!(heard(&mut listener).await.channel, "b");
}

#[tokio::test]
async fn what_may_be_lost_is_told_when_all_is_listened_to_again() {
    let (log, _guard) = Log::of_this_thread();
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&[EARS]);
    let other = database.pg().await;
    let mut listener = pg.listen(["a", "b"]).await.unwrap();
    other.notify("a", "before").await.unwrap();
    assert_eq!(payload(&mut listener).await, "before");
    for round in 1..=3 {
        let begun = Instant::now();
        assert_eq!(cut_off(&other).await, 1);
        // Nobody said anything, and nobody can know.
        let gap = lost(&mut listener).await;
        assert!(gap > Duration::ZERO && begun.elapsed() < Duration::from_secs(5));
        other.notify("b", "after").await.unwrap();
        assert_eq!(payload(&mut listener).await, "after");
        assert_eq!(log.times("lost the listening connection"), round, "{}", log.text());
        assert_eq!(log.times("listening again"), round);
    }
}

/// What is said while `away`, whose end is `back`, gives no notification, but its loss is told.
async fn told_of(
    listener: &mut Listener,
    other: &Pg,
    away: impl AsyncFnOnce(),
    back: impl AsyncFnOnce(),
) {
    other.notify("a", "before").await.unwrap();
    assert_eq!(payload(listener).await, "before");
    let begun = Instant::now();
    away().await;
    other.notify("a", "meanwhile").await.unwrap();
    let away_for = begun.elapsed();
    back().await;
    let gap = lost(listener).await;
    assert!(gap >= away_for, "{gap:?} of {away_for:?}");
    other.notify("a", "after").await.unwrap();
    assert_eq!(payload(listener).await, "after");
}

#[tokio::test]
async fn a_network_that_resets_is_noticed_at_once() {
    let database = TestDatabase::new().await;
    let other = database.pg().await;
    let proxy = Proxy::start().await;
    let mut listener = proxy.pg(&database, &[]).listen(["a"]).await.unwrap();
    proxy.accepted();
    let away = async || {
        proxy.set(Network::Resets);
        // The third attempt.
        let mut attempts = 0;
        until("it is tried again", async || {
            attempts += proxy.accepted();
            attempts >= 3
        })
        .await;
    };
    told_of(&mut listener, &other, away, async || proxy.set(Network::Whole)).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_tried_again() {
    let database = TestDatabase::new().await;
    let other = database.pg().await;
    let mut proxy = Proxy::start().await;
    let mut listener = proxy.pg(&database, &[EARS]).listen(["a"]).await.unwrap();
    other.notify("a", "before").await.unwrap();
    assert_eq!(payload(&mut listener).await, "before");
    proxy.refuse().await;
    assert_eq!(cut_off(&other).await, 1);
    until("it is cut off", async || ears(&other).await == 0).await;
    other.notify("a", "meanwhile").await.unwrap();
    assert!(listener.recv().now_or_never().is_none());
    // While nobody is there it waits to be told of another channel.
    let mut asked = Box::pin(listener.listen("b"));
    assert!(poll_fn(|context| Poll::Ready(asked.as_mut().poll(context))).await.is_pending());
    proxy.listen_again().await;
    asked.await.unwrap();
    lost(&mut listener).await;
    other.notify("b", "after").await.unwrap();
    assert_eq!(payload(&mut listener).await, "after");
}

#[tokio::test]
async fn what_is_asked_for_while_the_connection_is_lost_is_done_on_the_next() {
    let database = TestDatabase::new().await;
    let other = database.pg().await;
    let proxy = Proxy::start().await;
    let mut listener = proxy.pg(&database, &[]).listen(["a"]).await.unwrap();
    for trap in [Trap::ResetBefore, Trap::ResetAfter] {
        proxy.trap("LISTEN \"b\"", trap);
        listener.listen("b").await.unwrap();
        other.notify("b", "heard").await.unwrap();
        lost(&mut listener).await;
        assert_eq!(payload(&mut listener).await, "heard");
        proxy.trap("UNLISTEN \"b\"", trap);
        listener.unlisten("b").await.unwrap();
        other.notify("b", "not heard").await.unwrap();
        other.notify("a", "heard").await.unwrap();
        lost(&mut listener).await;
        assert_eq!(payload(&mut listener).await, "heard");
    }
}

#[tokio::test]
async fn a_network_that_swallows_everything_is_noticed_by_a_ping() {
    let database = TestDatabase::new().await;
    let other = database.pg().await;
    let proxy = Proxy::start().await;
    let pg = proxy.pg(&database, &["connect_timeout: 2s"]);
    let mut listener = pg.listen(["a"]).ping_every(Duration::from_millis(100)).await.unwrap();
    proxy.accepted();
    proxy.asked();
    // What is silent and there is not taken for lost.
    let mut pings = 0;
    until("it is asked for a sign of life", async || {
        pings += proxy.asked();
        pings >= 3
    })
    .await;
    assert_eq!(proxy.accepted(), 0);
    let away = async || {
        proxy.set(Network::Swallows);
        until("it connects anew", async || proxy.accepted() > 0).await;
    };
    told_of(&mut listener, &other, away, async || proxy.set(Network::Whole)).await;
}

#[tokio::test]
async fn a_password_that_has_changed_meanwhile_is_read_anew() {
    let server = native_server("ears");
    let at = server.start().await.unwrap();
    let admin = format!("postgres://{}:it@{}:{}/postgres", at.user, at.host, at.port);
    let admin = Pg::from_url(&admin).await.unwrap();
    admin.execute_unprepared("CREATE ROLE ears LOGIN PASSWORD 'first'").await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "first").unwrap();
    let yaml = format!(
        "databases:\n  it:\n    host: {}\n    port: {}\n    database: postgres\n    user: ears\n    \
         password_file: {}\n    {EARS}\n",
        at.host,
        at.port,
        file.display()
    );
    let pg = Manager::from_config(config(&yaml)).db("it").unwrap();
    let mut listener = pg.listen(["a"]).await.unwrap();
    admin.execute_unprepared("ALTER ROLE ears PASSWORD 'second'").await.unwrap();
    std::fs::write(&file, "second").unwrap();
    assert_eq!(cut_off(&admin).await, 1);
    lost(&mut listener).await;
    admin.notify("a", "after").await.unwrap();
    assert_eq!(payload(&mut listener).await, "after");
    drop(listener);
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_told_at_once() {
    let database = TestDatabase::new().await;
    let mut proxy = Proxy::start().await;
    let pg = proxy.pg(&database, &[]);
    proxy.refuse().await;
    let begun = Instant::now();
    let Error::Connect(error) = pg.listen(["a"]).await.unwrap_err() else { panic!("another") };
    assert_eq!(error.kind, ConnectErrorKind::Unreachable, "{error}");
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn its_connection_is_none_of_the_pools_and_goes_with_it() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&[EARS, "pool_size: 1", "max_overflow: 0"]);
    let other = database.pg().await;
    let listener = pg.listen(["a"]).await.unwrap();
    assert_eq!(pg.stats().writer.open, 0);
    assert_eq!(ears(&other).await, 1);
    pg.ping().await.unwrap();
    assert_eq!((pg.stats().writer.open, ears(&other).await), (1, 2));
    drop(listener);
    until("the connection is closed", async || ears(&other).await == 1).await;
    // A future that is dropped leaves none behind, wherever it was.
    for polls in 1..40 {
        let mut opening = Box::pin(pg.listen(["a"]).into_future());
        for _ in 0..polls {
            if opening.as_mut().now_or_never().is_some() {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    until("the connections are closed", async || ears(&other).await == 1).await;
}

#[tokio::test]
async fn it_ends_with_its_database() {
    let database = TestDatabase::new().await;
    let pg = database.pg_with(&[EARS]);
    let other = database.pg().await;
    let mut waits = pg.listen(["a"]).await.unwrap();
    let mut late = pg.listen(["a"]).await.unwrap();
    let mut stream = pg.listen(["a"]).await.unwrap();
    other.notify("a", "1").await.unwrap();
    for listener in [&mut waits, &mut late] {
        assert_eq!(payload(listener).await, "1");
    }
    assert!(matches!(stream.next().await, Some(Event::Notification(_))));
    let waiting = tokio::spawn(async move { waits.recv().await });
    let streamed = tokio::spawn(stream.collect::<Vec<_>>());
    pg.close_by_ref().await.unwrap();
    let closed = |error: Error| assert!(matches!(error, Error::Closed { .. }), "{error}");
    let ended = tokio::time::timeout(Duration::from_secs(20), join(waiting, streamed)).await;
    let (waiting, streamed) = ended.expect("a listener outlives its database");
    closed(waiting.unwrap().unwrap_err());
    assert_eq!(streamed.unwrap(), []);
    closed(late.recv().await.unwrap_err());
    closed(late.listen("b").await.unwrap_err());
    closed(pg.listen(["a"]).await.unwrap_err());
    until("the connections are closed", async || ears(&other).await == 0).await;
}

#[test]
fn it_ends_with_its_runtime() {
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (first, second) = (runtime(), runtime());
    let database = second.block_on(TestDatabase::new());
    let pg = database.pg_with(&[EARS]);
    let mut listener = first.block_on(pg.listen(["a"]).into_future()).unwrap();
    drop(first);
    second.block_on(async {
        assert!(matches!(listener.recv().await.unwrap_err(), Error::Closed { .. }));
        let other = database.pg().await;
        until("the connection is closed", async || ears(&other).await == 0).await;
        other.close().await.unwrap();
    });
}
