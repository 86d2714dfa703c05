//! The engine inside this process.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use sqlx::Connection as _;
use wharf::config::Runtime;
use wharf::pgserver::{PgServerError, Status};

use crate::support::{Dir, Part, config, connect, run, server};

#[tokio::test]
async fn it_starts_is_found_stops_and_keeps_its_data() {
    let dir = Dir::new("e-lifecycle");
    let mut config = config(Runtime::Embedded);
    config.version = Some("17".to_owned());
    config.user = "o'neil \"x\"".to_owned();
    config.postgres_conf.insert("work_mem".into(), "5MB".into());
    let pg = server(&dir, config.clone());
    pg.stop().await.unwrap();
    let first = pg.start().await.unwrap();
    assert_eq!((first.runtime, first.single_connection), (Runtime::Embedded, true));
    assert_eq!(first.version, "17.5");
    assert_eq!(run(&first, "SHOW server_version").await.unwrap(), "17.5");
    assert_eq!(run(&first, "SHOW work_mem").await.unwrap(), "5MB");
    assert_eq!(run(&first, "SELECT current_user::text").await.unwrap(), config.user);
    run(&first, "CREATE TABLE t AS SELECT 'kept' AS v").await;
    TcpStream::connect(("127.0.0.2", first.port)).unwrap_err();
    let data = std::fs::metadata(dir.path().join("wharf/embedded")).unwrap();
    assert_eq!(data.permissions().mode() & 0o777, 0o700);

    let again = server(&dir, config).start().await.unwrap();
    assert_eq!(again.port, first.port);
    assert!(
        matches!(pg.status().await.unwrap(), Status::Running(found) if found.port == first.port)
    );

    pg.stop().await.unwrap();
    pg.stop().await.unwrap();
    assert!(matches!(pg.status().await.unwrap(), Status::Stopped));
    TcpStream::connect(("127.0.0.1", first.port)).unwrap_err();
    let second = pg.start().await.unwrap();
    assert_eq!(second.port, first.port);
    assert_eq!(run(&second, "SELECT v FROM t").await.unwrap(), "kept");
    pg.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_connection_is_told_so_at_once_and_a_stop_hangs_up() {
    let dir = Dir::new("e-second");
    let pg = server(&dir, config(Runtime::Embedded));
    let endpoint = pg.start().await.unwrap();
    let mut first = connect(&endpoint).await.unwrap();
    let begun = Instant::now();
    let error = connect(&endpoint).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let error = error.into_database_error().unwrap();
    assert_eq!(error.code().unwrap(), "53300");
    assert!(error.message().contains("one connection in all"), "{error}");

    // Who only looks whether the port is open takes nothing away, nor does finding it.
    let _probe = TcpStream::connect(("127.0.0.1", endpoint.port)).unwrap();
    pg.start().await.unwrap();
    first.ping().await.unwrap();
    first.close().await.unwrap();
    // One right after the other works, closed or only dropped.
    for _ in 0..3 {
        drop(connect(&endpoint).await.unwrap());
    }
    let mut last = connect(&endpoint).await.unwrap();
    pg.stop().await.unwrap();
    last.ping().await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_breaks_off_does_not_end_the_engine() {
    let dir = Dir::new("e-breaks");
    let pg = server(&dir, config(Runtime::Embedded));
    let endpoint = pg.start().await.unwrap();
    // A future dropped in the middle of an answer: the socket is reset with bytes unread.
    let mut connection = connect(&endpoint).await.unwrap();
    let many = "SELECT repeat('x', 1000) FROM generate_series(1, 50000)";
    let rows = sqlx::raw_sql(many).execute(&mut connection);
    tokio::time::timeout(Duration::from_millis(30), rows).await.unwrap_err();
    drop(connection);
    assert_eq!(run(&endpoint, "SELECT 'alive'").await.unwrap(), "alive");
    // Bytes that are no protocol at all, after a proper start.
    let mut raw = TcpStream::connect(("127.0.0.1", endpoint.port)).unwrap();
    raw.write_all(b"\0\0\0\x17\0\x03\0\0user\0postgres\0\0").unwrap();
    assert!(raw.read(&mut [0; 1]).unwrap() == 1);
    raw.write_all(&[0xff; 64]).unwrap();
    drop(raw);
    assert_eq!(run(&endpoint, "SELECT 'alive'").await.unwrap(), "alive");
    pg.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_starts_at_once_make_one_engine() {
    let dir = Dir::new("e-tasks");
    let (one, two) =
        (server(&dir, config(Runtime::Embedded)), server(&dir, config(Runtime::Embedded)));
    let (a, b) = tokio::join!(one.start(), two.start());
    assert_eq!(a.unwrap().port, b.unwrap().port);
    two.stop().await.unwrap();
}

#[tokio::test]
async fn the_data_of_another_process_is_refused_and_survives_its_death() {
    let dir = Dir::new("e-killed");
    let mut part = Part::play("embedded writes", dir.path());
    assert_eq!((part.says().parse::<u16>().is_ok(), part.says().as_str()), (true, "written"));
    let pg = server(&dir, config(Runtime::Embedded));
    let begun = Instant::now();
    for error in [pg.start().await.map(drop), pg.stop().await, pg.status().await.map(drop)] {
        let error = error.unwrap_err();
        assert!(
            matches!(error, PgServerError::InUse { pid, .. } if pid == Some(part.pid())),
            "{error}"
        );
        assert!(error.to_string().contains("one connection"), "{error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(2));
    part.kill();
    let endpoint = pg.start().await.unwrap();
    let kept = run(&endpoint, "SELECT string_agg(v, ',') FROM t").await.unwrap();
    assert_eq!(kept, "kept");
    pg.stop().await.unwrap();
}

#[tokio::test]
async fn a_bad_setting_and_a_taken_port_are_said() {
    let dir = Dir::new("e-setting");
    let mut bad = config(Runtime::Embedded);
    bad.postgres_conf.insert("work_memory".into(), "5MB".into());
    let error = server(&dir, bad).start().await.unwrap_err().to_string();
    assert!(error.contains("work_memory"), "{error}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut fixed = config(Runtime::Embedded);
    fixed.port = Some(taken.local_addr().unwrap().port());
    let error = server(&dir, fixed).start().await.unwrap_err();
    assert!(matches!(error, PgServerError::PortTaken { .. }), "{error}");
    let pg = server(&dir, config(Runtime::Embedded));
    pg.start().await.unwrap();
    pg.stop().await.unwrap();
}

#[tokio::test]
async fn read_only_connections_and_extensions_go_together() {
    let dir = Dir::new("e-readonly");
    let vector = ["vector".to_owned()];
    let pg = wharf::pgserver::PgServer::new(config(Runtime::Embedded), vector).data_dir(dir.path());
    let endpoint = pg.start().await.unwrap();
    let options = sqlx::postgres::PgConnectOptions::new_without_pgpass()
        .host(&endpoint.host)
        .port(endpoint.port)
        .username(&endpoint.user)
        .database("postgres")
        .options([("default_transaction_read_only", "on")]);
    let mut connection = sqlx::PgConnection::connect_with(&options).await.unwrap();
    let refused = sqlx::raw_sql("CREATE TABLE t ()").execute(&mut connection).await;
    assert_eq!(refused.unwrap_err().into_database_error().unwrap().code().unwrap(), "25006");
    connection.close().await.unwrap();
    // In a database of its own, as a service has one.
    run(&endpoint, "CREATE DATABASE app").await;
    let options = options.database("app").options([("default_transaction_read_only", "off")]);
    for _ in 0..2 {
        let mut connection = sqlx::PgConnection::connect_with(&options).await.unwrap();
        let sql = "CREATE EXTENSION IF NOT EXISTS vector; SELECT '[1]'::vector <-> '[2]'";
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
    pg.stop().await.unwrap();
}
