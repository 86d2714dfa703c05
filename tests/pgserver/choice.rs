//! Which way is taken, and what is said about it.

use std::time::{Duration, Instant};

use wharf::config::{PgServerConfig, Runtime};
use wharf::pgserver::{PgServer, PgServerError};

use crate::support::{Dir, Log, config, major, run, server};

#[tokio::test]
async fn auto_takes_native_and_says_so_in_one_line() {
    let dir = Dir::new("auto");
    let log = Log::listen();
    let pg = server(&dir, config(Runtime::Auto));
    let endpoint = pg.start().await.unwrap();
    assert_eq!(endpoint.runtime, Runtime::Native);
    pg.stop().await.unwrap();
    let log = log.lines();
    let told: Vec<&String> = log.iter().filter(|line| line.starts_with("INFO ")).collect();
    assert_eq!(told.len(), 1, "{log:?}");
    let line = format!("INFO pgserver `wharf`: runtime native, PostgreSQL {}", major());
    assert!(told[0].starts_with(&line), "{log:?}");
    let reason = |line: &&String| {
        line.starts_with("DEBUG ")
            && line.contains("docker: the file has neither `version` nor `image`")
    };
    assert!(log.iter().any(|line| reason(&line)), "{log:?}");
}

#[tokio::test]
async fn auto_takes_the_engine_for_an_extension_that_only_it_has() {
    let dir = Dir::new("vector");
    let log = Log::listen();
    let vector = || ["vector".to_owned(), "plpgsql".to_owned()];
    let pg = PgServer::new(config(Runtime::Auto), vector()).data_dir(dir.path());
    let endpoint = pg.start().await.unwrap();
    assert_eq!(endpoint.runtime, Runtime::Embedded);
    run(&endpoint, "CREATE EXTENSION IF NOT EXISTS vector").await;
    assert_eq!(run(&endpoint, "SELECT ('[1,2]'::vector <-> '[1,3]')::text").await.unwrap(), "1");
    let log = log.lines().join("\n");
    assert!(log.contains("runtime embedded") && log.contains("lacks extension vector"), "{log}");

    // The one that runs goes first, also when native could serve now.
    let found = server(&dir, config(Runtime::Auto)).start().await.unwrap();
    assert_eq!((found.runtime, found.port), (Runtime::Embedded, endpoint.port));
    pg.stop().await.unwrap();
}

#[tokio::test]
async fn a_running_engine_without_the_extension_is_not_taken() {
    let dir = Dir::new("without");
    let pg = server(&dir, config(Runtime::Embedded));
    pg.start().await.unwrap();
    let wanting = PgServer::new(config(Runtime::Auto), ["vector".to_owned()]).data_dir(dir.path());
    let error = wanting.start().await.unwrap_err().to_string();
    assert!(error.contains("without extension vector; restart it"), "{error}");
    pg.stop().await.unwrap();
    assert_eq!(wanting.start().await.unwrap().runtime, Runtime::Embedded);
    wanting.stop().await.unwrap();
}

#[tokio::test]
async fn where_nothing_fits_every_way_is_named_with_its_reason() {
    let dir = Dir::new("nothing");
    let mut config = config(Runtime::Auto);
    config.version = Some("12".to_owned());
    let error = server(&dir, config.clone()).start().await.unwrap_err();
    assert!(
        matches!(&error, PgServerError::NoRuntime { tried, .. } if tried.len() == 3),
        "{error}"
    );
    let text = error.to_string();
    for part in [
        "install a Docker engine that runs postgres:12, or PostgreSQL 12",
        "does not satisfy the requested version 12",
        "embedded: PostgreSQL 17.5",
        "docker:",
    ] {
        assert!(text.contains(part), "{text}");
    }
    for (runtime, reason) in [
        (Runtime::Native, "does not satisfy the requested version 12"),
        (Runtime::Embedded, "PostgreSQL 17.5 does not satisfy the requested version 12"),
    ] {
        config.runtime = runtime;
        let error = server(&dir, config.clone()).start().await.unwrap_err();
        assert!(matches!(error, PgServerError::Unavailable { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    let pg = PgServer::new(crate::support::config(Runtime::Native), ["vector".to_owned()]);
    let error = pg.data_dir(dir.path()).start().await.unwrap_err();
    assert!(error.to_string().contains("lacks extension vector; install"), "{error}");
}

#[tokio::test]
async fn a_standby_that_the_runtime_cannot_run_is_not_passed_over_in_silence() {
    let dir = Dir::new("standby");
    let mut config = config(Runtime::Embedded);
    config.replica.enabled = true;
    let error = server(&dir, config).start().await.unwrap_err().to_string();
    assert!(error.contains("it cannot run a standby"), "{error}");
    assert!(error.contains("replica: {enabled: false}"), "{error}");
}

#[tokio::test]
async fn the_engine_does_not_open_a_port_without_password_to_others() {
    let dir = Dir::new("beyond");
    let mut config = config(Runtime::Embedded);
    config.host = "0.0.0.0".to_owned();
    let error = server(&dir, config).start().await.unwrap_err();
    assert!(error.to_string().contains("does not check passwords"), "{error}");
}

#[tokio::test]
async fn a_superuser_without_a_password_is_not_opened_to_others_and_what_runs_can_be_stopped() {
    let dir = Dir::new("open");
    let pg = server(&dir, config(Runtime::Native));
    pg.start().await.unwrap();
    let mut open = config(Runtime::Native);
    (open.host, open.pass) = ("0.0.0.0".to_owned(), Some("".into()));
    let open = server(&dir, open);
    for error in [open.start().await.unwrap_err(), open.restart().await.unwrap_err()] {
        assert!(error.to_string().contains("reachable from other machines"), "{error}");
    }
    assert!(pg.running().await.unwrap().is_some(), "the restart stopped it");
    open.stop().await.unwrap();
    assert!(pg.running().await.unwrap().is_none());
}

#[tokio::test]
async fn what_is_wrong_whatever_runs_it_is_said_at_once() {
    let dir = Dir::new("invalid");
    let begun = Instant::now();
    let mut bad_version = PgServerConfig::new("wharf");
    bad_version.version = Some("latest".to_owned());
    for (config, part) in
        [(PgServerConfig::new("../x"), "`name`"), (bad_version, "`version: \"latest\"`")]
    {
        let pg = server(&dir, config);
        for error in [pg.start().await.map(drop), pg.stop().await, pg.running().await.map(drop)] {
            let error = error.unwrap_err();
            assert!(matches!(error, PgServerError::Invalid { .. }), "{error}");
            assert!(error.to_string().contains(part), "{error}");
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn a_name_that_docker_does_not_allow_is_refused_before_anything_starts() {
    if !crate::docker::engine() {
        return;
    }
    for name in ["a", "größe", "-a"] {
        let dir = Dir::new("name");
        let mut config = config(Runtime::Docker);
        (config.name, config.version) = (name.to_owned(), Some("17".to_owned()));
        let error = server(&dir, config).start().await.unwrap_err().to_string();
        assert!(error.contains("Docker does not allow the name"), "{error}");
    }
}
