//! A database into a file, and back.

use std::path::Path;

use secrecy::ExposeSecret as _;
use wharf::config::Runtime;
use wharf::pgserver::{Endpoint, PgServer};

use crate::docker::{Server, engine};
use crate::support::{Dir, config, run, server};

/// What is being written, or was left.
fn hidden(dir: &Path) -> Vec<String> {
    let names =
        std::fs::read_dir(dir).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains(".dump") && name.starts_with('.')).collect()
}

async fn there_and_back(pg: &PgServer, at: &Endpoint, dir: &Path) {
    run(
        at,
        "CREATE TABLE kept AS SELECT n, repeat('x', 500) AS t FROM generate_series(1, 20000) n",
    )
    .await;
    let file = dir.join("postgres.dump");
    let mut told = 0;
    let contents = pg.backup("postgres", &file, |bytes| told = bytes).await.unwrap();
    assert_eq!(contents.tables, ["public.kept"]);
    assert_eq!((contents.size, told), (file.metadata().unwrap().len(), told));
    assert_eq!(told, contents.size);
    assert!(hidden(dir).is_empty(), "{:?}", hidden(dir));

    // Two at once do not mix, and one that is dropped leaves nothing.
    let twice = dir.join("twice.dump");
    let (one, two) =
        tokio::join!(pg.backup("postgres", &twice, |_| {}), pg.backup("postgres", &twice, |_| {}));
    assert_eq!(one.unwrap().tables, two.unwrap().tables);
    assert_eq!(pg.contents(&twice).await.unwrap().tables, ["public.kept"]);
    let begun = std::cell::Cell::new(false);
    let dropped = pg.backup("postgres", dir.join("dropped.dump"), |_| begun.set(true));
    let mut dropped = Box::pin(dropped);
    std::future::poll_fn(|context| {
        use std::future::Future as _;
        let ended = dropped.as_mut().poll(context);
        if begun.get() || ended.is_ready() {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    drop(dropped);
    assert!(hidden(dir).is_empty(), "{:?}", hidden(dir));

    // In place of what is there, and beside what the backup does not have.
    run(at, "DELETE FROM kept WHERE n > 5; CREATE TABLE other (n int)").await;
    let read = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let count = read.clone();
    let told = move |bytes| count.store(bytes, std::sync::atomic::Ordering::Relaxed);
    pg.restore("postgres", &file, told).await.unwrap();
    assert_eq!(run(at, "SELECT sum(n)::text FROM kept").await.unwrap(), "200010000");
    assert_eq!(run(at, "SELECT count(*)::text FROM other").await.unwrap(), "0");
    assert_eq!(read.load(std::sync::atomic::Ordering::Relaxed), contents.size);

    // A restore that is dropped ends with its future, and nothing of it stays, though the container goes on. A lock holds
    // it where it begins.
    let mut held = crate::support::connect(at).await.unwrap();
    use sqlx::Executor as _;
    held.execute("BEGIN; LOCK TABLE kept IN ACCESS SHARE MODE").await.unwrap();
    let waits = "SELECT count(*)::text FROM pg_locks WHERE NOT granted";
    let restore = pg.restore("postgres", &file, |_| {});
    tokio::select! {
        done = restore => panic!("it got past the lock: {done:?}"),
        () = async { while run(at, waits).await.unwrap() == "0" {} } => {}
    }
    let runs = "SELECT count(*)::text FROM pg_stat_activity WHERE application_name LIKE 'wharf %' \
                AND application_name <> 'wharf pgserver'";
    crate::support::wait_until_async("it has ended", async || run(at, runs).await.unwrap() == "0")
        .await;
    held.execute("COMMIT").await.unwrap();
    assert_eq!(run(at, "SELECT sum(n)::text FROM kept").await.unwrap(), "200010000");

    // Into a database that is not there yet.
    pg.restore("made \"for\" it", &file, |_| {}).await.unwrap();
    let made = "SELECT pg_size_pretty(pg_database_size('made \"for\" it'))";
    assert!(run(at, made).await.is_some());

    // Half a file is noticed, and nothing of it stays.
    let whole = std::fs::read(&file).unwrap();
    let half = dir.join("half.dump");
    std::fs::write(&half, &whole[..whole.len() / 2]).unwrap();
    run(at, "DELETE FROM kept WHERE n > 5").await;
    let error = pg.restore("postgres", &half, |_| {}).await.unwrap_err().to_string();
    assert!(error.contains("restoring") && error.contains("half.dump"), "{error}");
    assert_eq!(run(at, "SELECT count(*)::text FROM kept").await.unwrap(), "5");

    // What is none is refused before anything is touched.
    let none = dir.join("none.dump");
    std::fs::write(&none, "SELECT 1;").unwrap();
    let error = pg.restore("postgres", &none, |_| {}).await.unwrap_err().to_string();
    assert!(error.contains("none.dump is not a backup that can be read"), "{error}");
    let error = pg.restore("postgres", dir.join("absent"), |_| {}).await.unwrap_err().to_string();
    assert!(error.contains("cannot read") && error.contains("absent"), "{error}");
    let error = pg.backup("nowhere", dir.join("no.dump"), |_| {}).await.unwrap_err().to_string();
    assert!(error.contains("database \"nowhere\" does not exist"), "{error}");
    assert!(!dir.join("no.dump").exists() && hidden(dir).is_empty());
}

#[tokio::test]
async fn a_native_servers_database_goes_into_a_file_and_back() {
    let dir = Dir::new("backup-native");
    let pg = server(&dir, config(Runtime::Native));
    let at = pg.start().await.unwrap();
    there_and_back(&pg, &at, dir.path()).await;
    pg.stop().await.unwrap();
    let error = pg.backup("postgres", dir.path().join("x"), |_| {}).await.unwrap_err();
    assert!(error.to_string().contains("the server is not running"), "{error}");
}

#[tokio::test]
async fn a_containers_database_goes_into_a_file_and_back() {
    if !engine() {
        return;
    }
    let server = Server::new("backup");
    let pg = server.pg(server.config());
    let at = pg.start().await.unwrap();
    there_and_back(&pg, &at, server.dir.path()).await;
}

/// Its catalog has rules of its own, and background workers that must not meet half of a table.
#[tokio::test]
async fn a_database_of_timescaledb_goes_into_a_file_and_back() {
    if !engine() {
        return;
    }
    let server = Server::new("backup-timescale");
    let mut config = server.config();
    config.image = Some("timescale/timescaledb:latest-pg17".to_owned());
    config.postgres_conf.insert("shared_preload_libraries".to_owned(), "timescaledb".to_owned());
    let pg = server.pg(config);
    let at = pg.start().await.unwrap();
    run(&at, "CREATE EXTENSION IF NOT EXISTS timescaledb").await;
    run(&at, "CREATE TABLE reading (at timestamptz NOT NULL, value int)").await;
    run(&at, "SELECT create_hypertable('reading', 'at')::text").await;
    let fill =
        "INSERT INTO reading SELECT now() - n * interval '1 day', n FROM generate_series(1, 100) n";
    run(&at, fill).await;
    let file = server.dir.path().join("timescale.dump");
    pg.backup("postgres", &file, |_| {}).await.unwrap();
    let error = pg.restore("postgres", &file, |_| {}).await.unwrap_err().to_string();
    assert!(error.contains("database `postgres` exists"), "{error}");
    for into in ["another \"one\"", "third"] {
        pg.restore(into, &file, |_| {}).await.unwrap();
    }
    let url = format!(
        "postgres://postgres:{}@{}:{}/third",
        at.password.as_ref().unwrap().expose_secret(),
        at.host,
        at.port
    );
    let third = wharf::Pg::from_url(&url).await.unwrap();
    let asked = "SELECT count(*) || ' ' || (SELECT count(*) FROM timescaledb_information.chunks) || ' ' || \
                 current_setting('timescaledb.restoring') FROM reading";
    let asked = sea_orm::Statement::from_string(sea_orm::DbBackend::Postgres, asked);
    let row = sea_orm::ConnectionTrait::query_one_raw(&third, asked).await.unwrap().unwrap();
    let shown: String = row.try_get_by_index(0).unwrap();
    let chunks =
        run(&at, "SELECT count(*)::text FROM timescaledb_information.chunks").await.unwrap();
    assert_eq!(shown, format!("100 {chunks} off"));
    third.close().await.unwrap();
}
