//! A server's data is never lost from sight: what runs or has the data goes first, whatever else could serve.

use wharf::config::Runtime;
use wharf::pgserver::{PgServer, PgServerError};

use crate::support::{Dir, Log, config, run, server, signal};

/// The major version of this machine's PostgreSQL.
async fn major() -> String {
    let dir = Dir::new("major");
    let pg = server(&dir, config(Runtime::Native));
    let version = pg.start().await.unwrap().version;
    pg.stop().await.unwrap();
    version.split('.').next().unwrap().to_owned()
}

fn elsewhere(error: &PgServerError) -> String {
    assert!(matches!(error, PgServerError::Elsewhere { .. }), "{error}");
    error.to_string()
}

#[tokio::test]
async fn the_runtime_that_has_the_data_goes_first() {
    let dir = Dir::new("held");
    let engine = server(&dir, config(Runtime::Embedded));
    run(&engine.start().await.unwrap(), "CREATE TABLE kept AS SELECT 'kept' AS v").await;
    engine.stop().await.unwrap();
    // By itself, native would be taken.
    let auto = server(&dir, config(Runtime::Auto));
    let at = auto.start().await.unwrap();
    assert_eq!(at.runtime, Runtime::Embedded);
    assert_eq!(run(&at, "SELECT v FROM kept").await.unwrap(), "kept");
    let at = auto.restart().await.unwrap();
    assert_eq!(run(&at, "SELECT v FROM kept").await.unwrap(), "kept");
    auto.stop().await.unwrap();

    // Whoever names another gets an empty one, and is told.
    let log = Log::everywhere();
    let native = server(&dir, config(Runtime::Native));
    native.start().await.unwrap();
    native.stop().await.unwrap();
    let log = log.lines().join("\n");
    assert!(log.contains("which has no data; its data in embedded (folder "), "{log}");

    // Now that two have data, the choice is the file's.
    for error in [auto.start().await.unwrap_err(), auto.restart().await.unwrap_err()] {
        let error = elsewhere(&error);
        assert!(
            error.contains("native (folder ") && error.contains("embedded (folder "),
            "{error}"
        );
        assert!(error.contains("set `runtime:`"), "{error}");
    }
}

#[tokio::test]
async fn a_restart_that_could_not_start_stops_nothing() {
    let dir = Dir::new("stops-nothing");
    let pg = server(&dir, config(Runtime::Auto));
    let at = pg.start().await.unwrap();
    assert_eq!(at.runtime, Runtime::Native);
    run(&at, "CREATE TABLE kept AS SELECT 'kept' AS v").await;
    let postmaster = dir.postmaster();
    // The engine has the extension, and native does not.
    let wanting =
        |runtime| PgServer::new(config(runtime), ["vector".to_owned()]).data_dir(dir.path());
    let auto = wanting(Runtime::Auto);
    for error in [auto.start().await.unwrap_err(), auto.restart().await.unwrap_err()] {
        let error = elsewhere(&error);
        assert!(
            error.contains("native (folder ") && error.contains("lacks extension vector"),
            "{error}"
        );
    }
    let native = wanting(Runtime::Native).restart().await.unwrap_err();
    assert!(native.to_string().contains("lacks extension vector"), "{native}");
    // Another major version.
    for runtime in [Runtime::Auto, Runtime::Native] {
        let mut other = config(runtime);
        other.version = Some("12".to_owned());
        let error = server(&dir, other).restart().await.unwrap_err().to_string();
        assert!(error.contains("12"), "{error}");
    }
    // Another runtime, beside it.
    let beside = elsewhere(&server(&dir, config(Runtime::Embedded)).start().await.unwrap_err());
    assert!(beside.contains("it is running in native"), "{beside}");
    assert!(beside.contains("wharf server down"), "{beside}");

    assert_eq!(dir.postmaster(), postmaster, "it was stopped meanwhile");
    assert_eq!(run(&at, "SELECT v FROM kept").await.unwrap(), "kept");
    pg.stop().await.unwrap();
}

#[tokio::test]
async fn nobody_elses_server_is_stopped() {
    let (dir, others) = (Dir::new("stale"), Dir::new("others"));
    let (pg, other) =
        (server(&dir, config(Runtime::Native)), server(&others, config(Runtime::Native)));
    let (at, others_at) = (pg.start().await.unwrap(), other.start().await.unwrap());
    run(&at, "CREATE TABLE kept AS SELECT 'kept' AS v").await;
    // Killed; and its number has gone to another PostgreSQL, of the same user.
    let pid_file = dir.native().join("data/postmaster.pid");
    let written = std::fs::read_to_string(&pid_file).unwrap();
    signal("-KILL", dir.postmaster());
    let rest = written.split_once('\n').unwrap().1;
    std::fs::write(&pid_file, format!("{}\n{rest}", others.postmaster())).unwrap();
    assert!(pg.running().await.unwrap().is_none());
    pg.stop().await.unwrap();
    assert_eq!(run(&others_at, "SELECT 'there'").await.unwrap(), "there");
    // It starts beside the other one.
    let at = pg.start().await.unwrap();
    assert_eq!(run(&at, "SELECT v FROM kept").await.unwrap(), "kept");
    pg.remove().await.unwrap();
    assert_eq!(run(&others_at, "SELECT 'there'").await.unwrap(), "there");
    other.stop().await.unwrap();
}

#[tokio::test]
async fn where_the_registry_cannot_be_reached_only_the_same_major_is_used() {
    if !crate::docker::engine() {
        return;
    }
    let major = major().await;
    let log = Log::everywhere();
    let dir = Dir::new("registry");
    let mut same = config(Runtime::Auto);
    // Nobody listens there.
    same.image = Some(format!("127.0.0.1:1/none:{major}"));
    let pg = server(&dir, same);
    assert_eq!(pg.start().await.unwrap().runtime, Runtime::Native);
    pg.stop().await.unwrap();
    let log = log.lines().join("\n");
    assert!(log.contains("could not pull 127.0.0.1:1/none"), "{log}");
    assert!(log.contains("runtime native is used in place of docker"), "{log}");

    let dir = Dir::new("registry-other");
    let mut other = config(Runtime::Auto);
    other.image = Some("127.0.0.1:1/none:9".to_owned());
    let error = server(&dir, other).start().await.unwrap_err();
    let PgServerError::NoRuntime { tried, .. } = &error else { panic!("{error}") };
    assert_eq!(tried[0].runtime, Runtime::Docker);
    let text = error.to_string();
    assert!(text.contains("could not pull 127.0.0.1:1/none:9"), "{text}");
    assert!(
        text.contains(&format!("it has PostgreSQL {major}, and the image PostgreSQL 9")),
        "{text}"
    );
}

#[tokio::test]
async fn data_in_a_volume_goes_first() {
    if !crate::docker::engine() {
        return;
    }
    let server = crate::docker::Server::new("held");
    let pg = server.pg(server.config());
    run(&pg.start().await.unwrap(), "CREATE TABLE kept AS SELECT 'kept' AS v").await;
    pg.stop().await.unwrap();
    let mut auto = server.config();
    (auto.runtime, auto.version) = (Runtime::Auto, None);
    // Without version or image, Docker cannot serve the file; native could.
    let error = elsewhere(&server.pg(auto).start().await.unwrap_err());
    assert!(error.contains("its data is in docker (volume "), "{error}");
    let mut auto = server.config();
    auto.runtime = Runtime::Auto;
    let at = server.pg(auto.clone()).start().await.unwrap();
    assert_eq!(at.runtime, Runtime::Docker);
    assert_eq!(run(&at, "SELECT v FROM kept").await.unwrap(), "kept");
    // Another major version is refused, and the container goes on.
    (auto.version, auto.image) = (None, Some("timescale/timescaledb:latest-pg16".to_owned()));
    let error = server.pg(auto).restart().await.unwrap_err().to_string();
    assert!(
        error.contains("created by PostgreSQL 17") || error.contains("could not pull"),
        "{error}"
    );
    assert_eq!(run(&at, "SELECT v FROM kept").await.unwrap(), "kept");
    pg.stop().await.unwrap();
}
