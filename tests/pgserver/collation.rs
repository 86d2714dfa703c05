//! The order of text: one for all runtimes, and told where it is another than the data's.

use wharf::config::Runtime;

use crate::docker::{Server, docker, engine};
use crate::support::{Dir, Log, config, run, server};

#[tokio::test]
async fn data_that_an_older_library_ordered_is_told_natively_too() {
    let log = Log::everywhere();
    let dir = Dir::new("collation");
    let mut config = config(Runtime::Native);
    config.name = "wharf-collation".to_owned();
    let pg = server(&dir, config);
    let at = pg.start().await.unwrap();
    // An order that depends on the C library's version, wherever this machine has a locale for it.
    run(&at, "CREATE DATABASE \"old one\" TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'und'")
        .await;
    run(&at, "UPDATE pg_database SET datcollversion = '2.1' WHERE datname = 'old one'").await;
    pg.restart().await.unwrap();
    pg.stop().await.unwrap();
    let lines = log.lines().into_iter().filter(|line| line.contains("wharf-collation"));
    let lines: Vec<String> = lines.filter(|line| line.contains("REFRESH")).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("REINDEX DATABASE \"old one\""), "{lines:?}");
}

/// Changes what a database knows of the C library that ordered it.
async fn ordered(server: &Server, version: &'static str) {
    let sql = format!(
        "CREATE DATABASE dictionary TEMPLATE template0 LOCALE 'en_US.utf8'; \
         UPDATE pg_database SET datcollversion = {version} WHERE datname = 'dictionary'"
    );
    for sql in sql.split("; ") {
        let psql = ["exec", &server.name, "psql", "-U", "postgres", "-X", "-q", "-c", sql];
        let ran = docker(&psql);
        assert!(ran.status.success(), "{ran:?}");
    }
}

#[tokio::test]
async fn a_volume_of_an_older_c_library_is_told_with_the_database_and_the_remedy() {
    if !engine() {
        return;
    }
    let log = Log::everywhere();
    let server = Server::new("older");
    let pg = server.pg(server.config());
    pg.start().await.unwrap();
    ordered(&server, "'2.19'").await;
    pg.restart().await.unwrap();
    let lines = log.lines().into_iter().filter(|line| line.contains(&server.name));
    let lines: Vec<String> = lines.filter(|line| line.contains("REFRESH")).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    for part in [
        "WARN",
        "`dictionary`",
        "2.19",
        "REINDEX DATABASE \"dictionary\"",
        "REFRESH COLLATION VERSION",
    ] {
        assert!(lines[0].contains(part), "{part}: {lines:?}");
    }
    // Done, it is quiet.
    for sql in
        ["REINDEX DATABASE dictionary", "ALTER DATABASE dictionary REFRESH COLLATION VERSION"]
    {
        let psql =
            ["exec", &server.name, "psql", "-U", "postgres", "-X", "-d", "dictionary", "-c", sql];
        assert!(docker(&psql).status.success(), "{sql}");
    }
    let log = Log::everywhere();
    pg.restart().await.unwrap();
    let lines = log.lines().into_iter().filter(|line| line.contains(&server.name));
    assert_eq!(lines.filter(|line| line.contains("REFRESH")).count(), 0);
}

#[tokio::test]
async fn a_volume_of_another_c_library_is_refused_before_its_indexes_are_used() {
    if !engine() {
        return;
    }
    let server = Server::new("musl");
    let pg = server.pg(server.config());
    pg.start().await.unwrap();
    // As Alpine's image leaves it, whose C library gives its order no version.
    ordered(&server, "NULL").await;
    let error = pg.restart().await.unwrap_err().to_string();
    assert!(error.contains("`dictionary`") && error.contains("another C library"), "{error}");
    assert!(error.contains("wharf server backup"), "{error}");
    assert!(pg.running().await.unwrap().is_none());
}
