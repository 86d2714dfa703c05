//! A server in a container, on a real engine.
//!
//! Without an engine these tests say that they did not run; with `WHARF_TEST_DOCKER=require` they fail.

use std::io::Write as _;
use std::process::{Command, Output};
use std::time::Duration;

use wharf::config::{PgServerConfig, Runtime};
use wharf::pgserver::{Endpoint, PgServer, PgServerError, Status};

use crate::support::{Dir, Log, config, run};

/// Whether there is an engine to test on.
pub fn engine() -> bool {
    let there = docker(&["info"]).status.success();
    if !there {
        let required = std::env::var("WHARF_TEST_DOCKER").is_ok_and(|value| value == "require");
        assert!(!required, "WHARF_TEST_DOCKER=require, and no Docker engine answers");
        // Past the harness, which keeps what a test prints to itself.
        let mut stderr = std::io::stderr();
        writeln!(stderr, "NOT RUN: no Docker engine answers on this machine").unwrap();
    }
    there
}

pub fn docker(arguments: &[&str]) -> Output {
    match Command::new("docker").args(arguments).output() {
        Ok(output) => output,
        Err(_) => Command::new("false").output().unwrap(),
    }
}

pub fn said(arguments: &[&str]) -> String {
    let output = docker(arguments);
    assert!(output.status.success(), "docker {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A server of a test's own; nothing of it is left on the engine.
pub struct Server {
    pub name: String,
    pub dir: Dir,
}

impl Server {
    pub fn new(test: &str) -> Server {
        let name = format!("wharf-test-{}-{test}", std::process::id());
        Server { dir: Dir::new(&format!("docker-{test}")), name }
    }

    pub fn config(&self) -> PgServerConfig {
        let mut config = config(Runtime::Docker);
        config.name = self.name.clone();
        config.version = Some("17".to_owned());
        config
    }

    pub fn pg(&self, config: PgServerConfig) -> PgServer {
        PgServer::new(config, []).data_dir(self.dir.path())
    }

    pub fn standby(&self) -> String {
        format!("{}-replica", self.name)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let second = format!("{}-2", self.standby());
        docker(&["rm", "-f", &self.name, &self.standby(), &second]);
        let volumes =
            ["data", "replica-data", "replica-2-data", "shm", "replica-shm", "replica-2-shm"];
        for volume in volumes {
            docker(&["volume", "rm", "-f", &format!("{}-{volume}", self.name)]);
        }
        docker(&["network", "rm", &format!("{}-network", self.name)]);
    }
}

async fn one(endpoint: &Endpoint, sql: &'static str) -> String {
    run(endpoint, sql).await.unwrap()
}

#[tokio::test]
async fn it_is_found_again_and_its_data_outlives_its_containers() {
    if !engine() {
        return;
    }
    let server = Server::new("life");
    let pg = server.pg(server.config());
    assert!(matches!(pg.status().await.unwrap(), Status::Stopped));
    let first = pg.start().await.unwrap();
    assert_eq!(first.runtime, Runtime::Docker);
    assert!(first.version.starts_with("17"), "{}", first.version);
    run(&first, "CREATE TABLE kept (n int); INSERT INTO kept VALUES (7)").await;
    let again = server.pg(server.config()).start().await.unwrap();
    assert_eq!(again.port, first.port);
    let Status::Running(running) = pg.status().await.unwrap() else { panic!("it runs") };
    assert_eq!((running.port, running.version), (first.port, first.version.clone()));
    pg.stop().await.unwrap();
    pg.stop().await.unwrap();
    assert!(matches!(pg.status().await.unwrap(), Status::Stopped));
    let second = pg.start().await.unwrap();
    assert_eq!(second.port, first.port);
    assert_eq!(one(&second, "SELECT n::text FROM kept").await, "7");
}

#[tokio::test]
async fn its_password_is_kept_and_stands_nowhere_on_the_engine() {
    if !engine() {
        return;
    }
    use secrecy::ExposeSecret as _;
    let server = Server::new("secret");
    let at = server.pg(server.config()).start().await.unwrap();
    let password = at.password.as_ref().unwrap().expose_secret().to_owned();
    assert_eq!(password.len(), 32);
    assert!(!said(&["inspect", &server.name]).contains(&password));
    let mut wrong = at.clone();
    wrong.password = Some("wrong".into());
    assert!(crate::support::connect(&wrong).await.is_err());
    let address = said(&["port", &server.name, "5432/tcp"]);
    assert!(address.starts_with("127.0.0.1:"), "{address}");
}

#[tokio::test]
async fn images_bring_their_extensions() {
    if !engine() {
        return;
    }
    for (image, extension, sql, expected) in [
        ("pgvector/pgvector:pg17", "vector", "SELECT ('[1,2]'::vector <-> '[1,3]')::text", "1"),
        (
            "timescale/timescaledb:latest-pg17",
            "timescaledb",
            "SELECT time_bucket('1 day', '2026-01-02 03:04'::timestamp)::date::text",
            "2026-01-02",
        ),
        ("postgis/postgis:17-3.5", "postgis", "SELECT ST_AsText(ST_Point(1, 2))", "POINT(1 2)"),
    ] {
        let server = Server::new(extension);
        let mut config = server.config();
        config.image = Some(image.to_owned());
        if extension == "timescaledb" {
            let preload = "shared_preload_libraries".to_owned();
            config.postgres_conf.insert(preload, extension.to_owned());
        }
        let pg = PgServer::new(config, [extension.to_owned()]).data_dir(server.dir.path());
        let at = pg.start().await.unwrap();
        let create: &'static str = format!("CREATE EXTENSION IF NOT EXISTS {extension}").leak();
        run(&at, create).await;
        assert_eq!(one(&at, sql).await, expected, "{image}");
    }
}

#[tokio::test]
async fn what_does_not_go_together_is_said_before_anything_starts() {
    if !engine() {
        return;
    }
    let server = Server::new("objections");
    let wanting = PgServer::new(server.config(), ["timescaledb".to_owned()]);
    let error = wanting.data_dir(server.dir.path()).start().await.unwrap_err().to_string();
    assert!(error.contains("such as timescale/timescaledb:latest-pg17"), "{error}");
    assert!(error.contains("shared_preload_libraries: timescaledb"), "{error}");
    let mut other = server.config();
    other.version = Some("16".to_owned());
    other.image = Some("postgres:17".to_owned());
    let error = server.pg(other).start().await.unwrap_err().to_string();
    assert!(error.contains("has PostgreSQL 17, which does not satisfy `version: 16`"), "{error}");
    let mut neither = server.config();
    neither.version = None;
    let error = server.pg(neither).start().await.unwrap_err().to_string();
    assert!(error.contains("neither `version` nor `image`"), "{error}");
    let mut absent = server.config();
    absent.image = Some("registry.invalid/postgres:17".to_owned());
    let error = server.pg(absent).start().await.unwrap_err().to_string();
    assert!(error.contains("could not pull registry.invalid/postgres:17"), "{error}");
    assert!(error.contains("check the network"), "{error}");
    assert!(!docker(&["inspect", &server.name]).status.success());
}

#[tokio::test]
async fn settings_take_effect_with_the_next_start() {
    if !engine() {
        return;
    }
    let log = Log::listen();
    let server = Server::new("settings");
    let mut config = server.config();
    config.postgres_conf.insert("work_mem".to_owned(), "5MB".to_owned());
    let at = server.pg(config.clone()).start().await.unwrap();
    assert_eq!(one(&at, "SHOW work_mem").await, "5MB");
    config.postgres_conf.insert("work_mem".to_owned(), "6MB".to_owned());
    let pg = server.pg(config);
    let at = pg.start().await.unwrap();
    assert_eq!(one(&at, "SHOW work_mem").await, "5MB");
    let lines = log.lines().join("\n");
    assert!(lines.contains("restart it to apply: work_mem"), "{lines}");
    pg.stop().await.unwrap();
    assert_eq!(one(&pg.start().await.unwrap(), "SHOW work_mem").await, "6MB");
}

#[tokio::test]
async fn shared_memory_is_as_large_as_the_file_says_and_nothing_of_it_stays() {
    if !engine() {
        return;
    }
    let log = Log::listen();
    let server = Server::new("shm");
    let mut config = server.config();
    let kilobytes = || -> u64 {
        let df = said(&["exec", &server.name, "df", "-k", "/dev/shm"]);
        let line = df.lines().last().unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    for megabytes in [Some(96), Some(128), None] {
        config.shm_size = megabytes.map(|megabytes| megabytes << 20);
        let pg = server.pg(config.clone());
        pg.start().await.unwrap();
        if megabytes == Some(128) {
            let lines = log.lines().join("\n");
            assert!(lines.contains("restart it to apply: shm_size"), "{lines}");
        }
        pg.stop().await.unwrap();
        let at = pg.start().await.unwrap();
        assert_eq!(kilobytes(), megabytes.unwrap_or(64) << 10);
        // What a parallel join puts there.
        assert_eq!(one(&at, "SELECT count(*)::text FROM generate_series(1, 9)").await, "9");
    }
    config.shm_size = Some(96 << 20);
    let pg = server.pg(config);
    pg.stop().await.unwrap();
    pg.start().await.unwrap();
    pg.remove().await.unwrap();
    let left = said(&["volume", "ls", "-q", "--filter", &format!("name={}", server.name)]);
    assert_eq!(left, "");
}

#[tokio::test]
async fn what_others_made_is_left_alone() {
    if !engine() {
        return;
    }
    let server = Server::new("foreign");
    said(&["create", "--name", &server.name, "postgres:17"]);
    let error = server.pg(server.config()).start().await.unwrap_err().to_string();
    assert!(error.contains("that wharf did not create"), "{error}");
    assert!(docker(&["inspect", &server.name]).status.success());
    said(&["rm", &server.name]);
    let volume = format!("{}-data", server.name);
    said(&["volume", "create", &volume]);
    let error = server.pg(server.config()).start().await.unwrap_err().to_string();
    assert!(error.contains(&format!("a volume `{volume}` that wharf did not create")), "{error}");
    assert!(docker(&["volume", "inspect", &volume]).status.success());
}

#[tokio::test]
async fn a_first_start_that_was_broken_off_is_told_with_the_way_out_and_no_data_is_removed() {
    if !engine() {
        return;
    }
    let server = Server::new("poisoned");
    let volume = format!("{}-data", server.name);
    let label = format!("wharf.pgserver={}", server.name);
    said(&["volume", "create", "--label", &label, "--label", "wharf.major=17", &volume]);
    // What an initialisation leaves that was killed early.
    let mount = format!("{volume}:/data");
    let kill = "echo 17 > /data/PG_VERSION";
    said(&["run", "--rm", "-v", &mount, "postgres:17", "bash", "-c", kill]);
    let pg = server.pg(server.config());
    let error = pg.start().await.unwrap_err().to_string();
    assert!(error.contains("-poisoned` ended after"), "{error}");
    let remedy = format!("docker rm -f {} && docker volume rm {volume}", server.name);
    assert!(error.contains(&remedy), "{error}");
    assert!(docker(&["volume", "inspect", &volume]).status.success());
    // The engine does not go on trying.
    assert_eq!(said(&["inspect", "-f", "{{.State.Status}}", &server.name]), "exited");
    let sh = Command::new("sh").args(["-c", &remedy]).status().unwrap();
    assert!(sh.success());
    assert_eq!(one(&pg.start().await.unwrap(), "SELECT 1::text").await, "1");
}

#[tokio::test]
async fn data_stays_whatever_is_pruned_and_whoever_asks() {
    if !engine() {
        return;
    }
    let server = Server::new("kept");
    let pg = server.pg(server.config());
    let at = pg.start().await.unwrap();
    run(&at, "CREATE TABLE kept (n int)").await;
    pg.stop().await.unwrap();
    // All that wharf remembers is gone, and its container.
    said(&["rm", &server.name]);
    std::fs::remove_dir_all(server.dir.path().join(&server.name)).unwrap();
    let mut config = server.config();
    config.pass = Some("another".into());
    let at = server.pg(config).start().await.unwrap();
    assert_eq!(one(&at, "SELECT count(*)::text FROM kept").await, "0");
}

#[tokio::test]
async fn a_password_that_the_file_changed_is_taken_up_by_the_next_start() {
    if !engine() {
        return;
    }
    let server = Server::new("password");
    let mut config = server.config();
    config.pass = Some("first".into());
    server.pg(config.clone()).start().await.unwrap();
    config.pass = Some("it's \\ the \"second\" {one}".into());
    let pg = server.pg(config.clone());
    let error = pg.start().await.unwrap_err().to_string();
    assert!(error.contains("restart it"), "{error}");
    assert!(!error.contains("second"), "{error}");
    pg.stop().await.unwrap();
    let at = pg.start().await.unwrap();
    assert_eq!(one(&at, "SELECT 1::text").await, "1");
    let log = docker(&["logs", &server.name]);
    assert!(!String::from_utf8_lossy(&log.stderr).contains("second"));
    // A user that the data does not have is nobody's to make.
    config.user = "somebody".to_owned();
    pg.stop().await.unwrap();
    let error = server.pg(config).start().await.unwrap_err();
    assert!(matches!(error, PgServerError::Login { .. }), "{error}");
}

#[tokio::test]
async fn data_of_another_major_version_is_told() {
    if !engine() {
        return;
    }
    let server = Server::new("major");
    let pg = server.pg(server.config());
    pg.start().await.unwrap();
    pg.stop().await.unwrap();
    said(&["rm", "-f", &server.name]);
    // As an older image would have left it.
    let volume = format!("{}-data", server.name);
    said(&["volume", "rm", &volume]);
    let label = format!("wharf.pgserver={}", server.name);
    said(&["volume", "create", "--label", &label, "--label", "wharf.major=16", &volume]);
    let error = pg.start().await.unwrap_err();
    assert!(matches!(&error, PgServerError::DataVersion { data, .. } if data == "16"), "{error}");
}

#[tokio::test]
async fn data_on_another_engine_is_told_and_no_empty_server_is_started() {
    if !engine() {
        return;
    }
    let server = Server::new("engines");
    let mut config = server.config();
    config.runtime = Runtime::Auto;
    let pg = server.pg(config);
    pg.start().await.unwrap();
    pg.stop().await.unwrap();
    let state = server.dir.path().join(&server.name).join("docker/state");
    let text = std::fs::read_to_string(&state).unwrap();
    let used = text.lines().find(|line| line.starts_with("engine=")).unwrap();
    let other = text.replace(used, "engine=unix:///another.sock");
    // The same engine by another address.
    std::fs::write(&state, &other).unwrap();
    pg.start().await.unwrap();
    pg.stop().await.unwrap();
    // This engine has nothing of it, as after a switch of the context.
    std::fs::write(&state, &other).unwrap();
    let volume = format!("{}-data", server.name);
    said(&["rm", "-f", &server.name]);
    said(&["volume", "rm", &volume]);
    let started = pg.start().await.unwrap_err();
    let removed = pg.remove().await.unwrap_err();
    for error in [started.to_string(), removed.to_string()] {
        assert!(error.contains("on the Docker engine at unix:///another.sock"), "{error}");
        assert!(error.contains("set DOCKER_HOST=unix:///another.sock"), "{error}");
    }
    assert!(matches!(started, PgServerError::Elsewhere { .. }), "{started}");
    assert!(!docker(&["volume", "inspect", &volume]).status.success());
    assert!(state.exists());
}

#[tokio::test]
async fn a_host_that_the_engine_does_not_have_is_told() {
    if !engine() {
        return;
    }
    let server = Server::new("nowhere");
    let mut config = server.config();
    // An address for documentation, which no machine has. It may be one of the engine's, behind a forwarded socket.
    config.host = "198.51.100.7".to_owned();
    let error = server.pg(config).start().await.unwrap_err().to_string();
    assert!(error.contains("set `host` to an address of the engine's machine"), "{error}");
    assert!(!docker(&["inspect", &server.name]).status.success());
}

#[tokio::test]
async fn two_starts_at_once_make_one() {
    if !engine() {
        return;
    }
    let server = Server::new("two");
    let (one, two) = (server.pg(server.config()), server.pg(server.config()));
    let (one, two) = tokio::join!(one.start(), two.start());
    assert_eq!(one.unwrap().port, two.unwrap().port);
}

#[tokio::test]
async fn a_port_that_is_taken_is_told_and_leaves_nothing() {
    if !engine() {
        return;
    }
    let server = Server::new("port");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = server.config();
    config.port = Some(taken.local_addr().unwrap().port());
    let error = server.pg(config.clone()).start().await.unwrap_err();
    assert!(matches!(error, PgServerError::PortTaken { .. }), "{error}");
    drop(taken);
    assert_eq!(server.pg(config.clone()).start().await.unwrap().port, config.port.unwrap());
}

#[tokio::test]
async fn auto_takes_the_engine_that_has_the_image_and_says_so() {
    if !engine() {
        return;
    }
    let log = Log::listen();
    let server = Server::new("auto");
    let mut config = server.config();
    config.runtime = Runtime::Auto;
    let at = server.pg(config).start().await.unwrap();
    assert_eq!(at.runtime, Runtime::Docker);
    let line = log.lines().join("\n");
    assert!(
        line.contains("runtime docker, image postgres:17\n")
            && line.contains("because it is the first that can serve the file"),
        "{line}"
    );
}

#[tokio::test]
async fn one_that_is_killed_says_so_and_starts_again() {
    if !engine() {
        return;
    }
    let server = Server::new("killed");
    let pg = server.pg(server.config()).deadline(Duration::from_secs(30));
    let at = pg.start().await.unwrap();
    run(&at, "CREATE TABLE kept (n int)").await;
    said(&["kill", &server.name]);
    assert!(matches!(pg.status().await.unwrap(), Status::Stopped));
    let at = pg.start().await.unwrap();
    assert_eq!(one(&at, "SELECT count(*)::text FROM kept").await, "0");
}

#[tokio::test]
async fn a_disk_that_is_full_is_told() {
    if !engine() {
        return;
    }
    let server = Server::new("full");
    let volume = format!("{}-data", server.name);
    let label = format!("wharf.pgserver={}", server.name);
    let small = ["type=tmpfs", "device=tmpfs", "o=size=12m"];
    let mut create = vec!["volume", "create", "--label", &label, "--label", "wharf.major=17"];
    create.extend(small.iter().flat_map(|option| ["--opt", option]));
    create.push(&volume);
    said(&create);
    let error = server.pg(server.config()).start().await.unwrap_err().to_string();
    assert!(error.contains("the disk is full; free space"), "{error}");
    assert!(error.contains("No space left on device"), "{error}");
}

/// A volume keeps from its first start how one logs in; the file has the last word.
#[tokio::test]
async fn a_later_password_or_none_takes_effect() {
    if !engine() {
        return;
    }
    let server = Server::new("pass");
    let with = |pass: Option<&str>| {
        let mut config = server.config();
        config.pass = pass.map(Into::into);
        server.pg(config)
    };
    async fn logs_in(at: &wharf::pgserver::Endpoint, password: &str) -> bool {
        let mut other = at.clone();
        other.password = Some(password.into());
        crate::support::connect(&other).await.is_ok()
    }
    let open = with(Some(""));
    let at = open.start().await.unwrap();
    run(&at, "CREATE TABLE kept AS SELECT 'kept' AS v").await;
    assert!(logs_in(&at, "anything").await);
    // Until it is started anew, the difference is told.
    let closed = with(Some("it's \"new\" \\"));
    let differs = closed.differences().await.unwrap();
    assert!(differs.iter().any(|it| it.setting == "pass"), "{differs:?}");
    let at = closed.restart().await.unwrap();
    crate::support::wait_until_async("the server asks for it", async || {
        !logs_in(&at, "anything").await
    })
    .await;
    assert_eq!(run(&at, "SELECT v FROM kept").await.unwrap(), "kept");
    let at = with(Some("another")).restart().await.unwrap();
    assert!(!logs_in(&at, "it's \"new\" \\").await);
    assert_eq!(run(&at, "SELECT v FROM kept").await.unwrap(), "kept");
    // And the other way round.
    let at = open.restart().await.unwrap();
    assert!(at.password.is_none() && logs_in(&at, "anything").await);
    assert_eq!(run(&at, "SELECT v FROM kept").await.unwrap(), "kept");
    // One that is generated.
    let at = with(None).restart().await.unwrap();
    crate::support::wait_until_async("the server asks for it", async || {
        !logs_in(&at, "anything").await
    })
    .await;
    assert_eq!(run(&at, "SELECT v FROM kept").await.unwrap(), "kept");
}

/// The engine starts a container again that has crashed, and it recovers.
#[tokio::test]
async fn a_container_that_crashed_and_recovers_is_not_given_up() {
    if !engine() {
        return;
    }
    let server = Server::new("crashed");
    let pg = server.pg(server.config());
    let at = pg.start().await.unwrap();
    run(&at, "CREATE TABLE kept AS SELECT 'kept' AS v").await;
    // The server's first process, as a crash ends it: `docker kill` would be an order to stop.
    said(&["exec", &server.name, "sh", "-c", "kill -QUIT 1"]);
    let restarts = || said(&["inspect", "--format", "{{.RestartCount}}", &server.name]);
    crate::support::wait_until("the engine starts it again", || restarts().trim() == "1");
    let at = pg.start().await.unwrap();
    assert_eq!(run(&at, "SELECT v FROM kept").await.unwrap(), "kept");
    assert_eq!(restarts().trim(), "1", "it was neither stopped nor made anew");
}

/// Teammates on either runtime sort alike.
#[tokio::test]
async fn a_container_sorts_as_a_native_server() {
    if !engine() {
        return;
    }
    let order = "SELECT datcollate || ' ' || (SELECT string_agg(t, '' ORDER BY t) FROM unnest('{b,A,a,B,ä}'::text[]) t)
                   FROM pg_database WHERE datname = 'postgres'";
    let dir = Dir::new("order");
    let native = crate::support::server(&dir, crate::support::config(Runtime::Native));
    let at = native.start().await.unwrap();
    let expected = one(&at, order).await;
    native.stop().await.unwrap();
    let server = Server::new("order");
    let at = server.pg(server.config()).start().await.unwrap();
    assert_eq!(one(&at, order).await, expected);
}
