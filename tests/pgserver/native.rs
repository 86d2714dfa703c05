//! This machine's PostgreSQL programs.

use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;

use sea_orm::ConnectionTrait as _;
use secrecy::{ExposeSecret as _, SecretString};
use wharf::Manager;
use wharf::config::{Config, Runtime};
use wharf::pgserver::{PgServer, PgServerError, Status};

use crate::support::{Dir, Log, Part, config, connect, major, run, server, signal};

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn it_starts_is_found_stops_and_keeps_its_data() {
    let dir = Dir::new("lifecycle");
    let mut config = config(Runtime::Native);
    config.user = "dev user".to_owned();
    config.version = Some(major());
    config.postgres_conf.insert("work_mem".into(), "5MB".into());
    config.postgres_conf.insert("cluster_name".into(), "it's \\ mine".into());
    let pg = server(&dir, config.clone());
    assert!(matches!(pg.status().await.unwrap(), Status::Stopped));
    pg.stop().await.unwrap();

    let first = pg.start().await.unwrap();
    assert_eq!((first.runtime, first.single_connection), (Runtime::Native, false));
    assert!(first.version.starts_with(&format!("{}.", major())), "{}", first.version);
    assert_eq!(run(&first, "SHOW work_mem").await.unwrap(), "5MB");
    assert_eq!(run(&first, "SHOW cluster_name").await.unwrap(), "it's \\ mine");
    assert_eq!(run(&first, "SHOW server_encoding").await.unwrap(), "UTF8");
    run(&first, "CREATE TABLE t AS SELECT 'kept' AS v").await;

    // Another value for the same server finds it, as does the look-up.
    let postmaster = dir.postmaster();
    let again = server(&dir, config.clone()).start().await.unwrap();
    assert_eq!((again.port, dir.postmaster()), (first.port, postmaster));
    assert_eq!(pg.running().await.unwrap().unwrap().port, first.port);
    assert!(
        matches!(pg.status().await.unwrap(), Status::Running(found) if found.port == first.port)
    );

    // Nothing listens beyond the address that was told, which is also within 127.0.0.0/8.
    TcpStream::connect(("127.0.0.1", first.port)).unwrap();
    TcpStream::connect(("127.0.0.2", first.port)).unwrap_err();

    pg.stop().await.unwrap();
    pg.stop().await.unwrap();
    assert!(matches!(pg.status().await.unwrap(), Status::Stopped));
    assert!(pg.running().await.unwrap().is_none());
    TcpStream::connect(("127.0.0.1", first.port)).unwrap_err();

    let second = pg.start().await.unwrap();
    assert_eq!(second.port, first.port, "the port is kept");
    assert_eq!(run(&second, "SELECT v FROM t").await.unwrap(), "kept");
    pg.stop().await.unwrap();
}

#[tokio::test]
async fn a_made_password_is_kept_to_its_user_and_needed() {
    let dir = Dir::new("password");
    let pg = server(&dir, config(Runtime::Native));
    let mut endpoint = pg.start().await.unwrap();
    let password = endpoint.password.clone().unwrap();
    assert!(password.expose_secret().len() >= 32);
    assert!(!format!("{endpoint:?}").contains(password.expose_secret()));

    let file = dir.native().join("password");
    assert_eq!((mode(&file), mode(&dir.native())), (0o600, 0o700));
    let owner = |path: &Path| std::fs::metadata(path).unwrap().uid();
    assert_eq!(owner(&file), owner(&dir.native().join("data")));
    assert!(!dir.native().join("password.new").exists());

    endpoint.password = Some(SecretString::from("wrong"));
    connect(&endpoint).await.unwrap_err();
    endpoint.password = None;
    connect(&endpoint).await.unwrap_err();
    pg.stop().await.unwrap();

    // Without a password: whoever reaches the port.
    let mut open = config(Runtime::Native);
    open.pass = Some(SecretString::from(""));
    let endpoint = server(&dir, open).start().await.unwrap();
    assert!(endpoint.password.is_none());
    connect(&endpoint).await.unwrap();
    pg.stop().await.unwrap();
}

#[tokio::test]
async fn what_the_file_changed_is_said_and_taken_up_by_the_next_start() {
    let dir = Dir::new("changed");
    let mut config = config(Runtime::Native);
    config.pass = Some(SecretString::from("first"));
    server(&dir, config.clone()).start().await.unwrap();

    config.postgres_conf.insert("work_mem".into(), "5MB".into());
    let log = Log::listen();
    let found = server(&dir, config.clone()).start().await.unwrap();
    assert_ne!(run(&found, "SHOW work_mem").await.unwrap(), "5MB");
    let log = log.lines().join("\n");
    assert!(log.contains("WARN") && log.contains("restart it to apply: work_mem"), "{log}");
    assert!(!log.contains("5MB"), "the value of a setting may be secret: {log}");

    config.pass = Some(SecretString::from("it's \\ the \"second\" {one}"));
    let pg = server(&dir, config);
    let error = pg.start().await.unwrap_err();
    assert!(matches!(error, PgServerError::Login { .. }), "{error}");
    assert!(!error.to_string().contains("second"), "{error}");
    pg.stop().await.unwrap();
    let endpoint = pg.start().await.unwrap();
    assert_eq!(run(&endpoint, "SHOW work_mem").await.unwrap(), "5MB");
    let log = std::fs::read_to_string(dir.native().join("server.log")).unwrap();
    assert!(!log.contains("second"), "{log}");
    pg.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn two_starts_at_once_make_one_server() {
    let dir = Dir::new("tasks");
    let (one, two) = (server(&dir, config(Runtime::Native)), server(&dir, config(Runtime::Native)));
    let (a, b) = tokio::join!(one.start(), two.start());
    assert_eq!(a.unwrap().port, b.unwrap().port);
    one.stop().await.unwrap();
}

#[tokio::test]
async fn two_processes_at_once_make_one_server_that_outlives_them() {
    let dir = Dir::new("processes");
    let mut parts = [Part::play("native", dir.path()), Part::play("native", dir.path())];
    let ports: Vec<String> = parts.iter_mut().map(Part::says).collect();
    assert_eq!(ports[0], ports[1]);
    let [one, two] = parts;
    one.kill();
    two.end();
    let pg = server(&dir, config(Runtime::Native));
    assert_eq!(pg.start().await.unwrap().port.to_string(), ports[0]);
    pg.stop().await.unwrap();
}

#[tokio::test]
async fn a_dropped_start_leaves_nothing_half_done() {
    let dir = Dir::new("dropped");
    let pg = server(&dir, config(Runtime::Native));
    tokio::select! {
        biased;
        _ = pg.start() => panic!("a first start takes longer than one poll"),
        () = tokio::task::yield_now() => {}
    }
    let endpoint = pg.start().await.unwrap();
    run(&endpoint, "SELECT 'x'").await;
    pg.stop().await.unwrap();
}

#[tokio::test]
async fn a_killed_server_recovers() {
    let dir = Dir::new("killed");
    let pg = server(&dir, config(Runtime::Native));
    let endpoint = pg.start().await.unwrap();
    run(&endpoint, "CREATE TABLE t AS SELECT 'kept' AS v").await;
    signal("-KILL", dir.postmaster());
    let endpoint = pg.start().await.unwrap();
    assert_eq!(run(&endpoint, "SELECT v FROM t").await.unwrap(), "kept");

    // A number that has gone to another program is not taken for the server, nor is that ended.
    pg.stop().await.unwrap();
    let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let stale = format!("{}\n/\n0\n{}\n/\n127.0.0.1\n0 0\nready\n", other.id(), endpoint.port);
    std::fs::write(dir.native().join("data/postmaster.pid"), stale).unwrap();
    assert!(pg.running().await.unwrap().is_none());
    pg.stop().await.unwrap();
    assert!(other.try_wait().unwrap().is_none());
    pg.start().await.unwrap();
    pg.stop().await.unwrap();
    other.kill().unwrap();
    other.wait().unwrap();
}

#[tokio::test]
async fn a_taken_port_is_named_and_a_chosen_one_gives_way() {
    let dir = Dir::new("port");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut fixed = config(Runtime::Native);
    fixed.port = Some(port);
    let error = server(&dir, fixed.clone()).start().await.unwrap_err();
    assert!(matches!(error, PgServerError::PortTaken { port: p, .. } if p == port), "{error}");
    assert!(error.to_string().contains("pgserver.port"), "{error}");

    drop(taken);
    let pg = server(&dir, fixed);
    assert_eq!(pg.start().await.unwrap().port, port);
    pg.stop().await.unwrap();
    // Now only remembered, not asked for.
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let pg = server(&dir, config(Runtime::Native));
    assert_ne!(pg.start().await.unwrap().port, port);
    pg.stop().await.unwrap();
}

#[tokio::test]
async fn data_of_another_version_is_left_alone() {
    let dir = Dir::new("version");
    let data = dir.native().join("data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("PG_VERSION"), "9.6\n").unwrap();
    for version in [None, Some(major())] {
        let mut config = config(Runtime::Native);
        config.version = version;
        let error = server(&dir, config).start().await.unwrap_err();
        assert!(
            matches!(&error, PgServerError::DataVersion { data, .. } if data == "9.6"),
            "{error}"
        );
        assert!(error.to_string().contains(&major()), "{error}");
    }
}

#[tokio::test]
async fn a_bad_setting_is_shown_in_the_servers_words() {
    let dir = Dir::new("setting");
    let mut config = config(Runtime::Native);
    config.postgres_conf.insert("work_memory".into(), "5MB".into());
    let pg = server(&dir, config.clone());
    let error = pg.start().await.unwrap_err().to_string();
    assert!(error.contains("unrecognized configuration parameter \"work_memory\""), "{error}");
    // Put right, it starts.
    config.postgres_conf.clear();
    let pg = server(&dir, config);
    pg.start().await.unwrap();
    pg.stop().await.unwrap();
}

#[tokio::test]
async fn an_interrupted_first_start_poisons_nothing() {
    let dir = Dir::new("poisoned");
    let half = dir.native().join("data.new-0");
    std::fs::create_dir_all(&half).unwrap();
    std::fs::write(half.join("PG_VERSION"), "15\n").unwrap();
    let pg = server(&dir, config(Runtime::Native));
    pg.start().await.unwrap();
    pg.stop().await.unwrap();
    assert!(!half.exists());
}

#[tokio::test]
async fn without_a_word_data_is_kept_in_the_users_data_folder() {
    let dir = Dir::new("default");
    // As a user who is not root: whoever runs the tests, or `postgres`.
    let user = match nix::unistd::Uid::current() {
        root if root.is_root() => nix::unistd::User::from_name("postgres"),
        uid => nix::unistd::User::from_uid(uid),
    };
    let user = user.unwrap().unwrap();
    let home = dir.path().join("home");
    let base = home.join("wharf/pgserver");
    std::fs::create_dir(&home).unwrap();
    std::os::unix::fs::chown(&home, Some(user.uid.as_raw()), None).unwrap();
    let binary = home.join("tests");
    // By another process: what this one has open for writing, a program that another test starts now would inherit, and
    // nothing could run the copy meanwhile.
    let mut copy = std::process::Command::new("cp");
    let copied = copy.arg(std::env::current_exe().unwrap()).arg(&binary).status().unwrap();
    assert!(copied.success());
    let mut program = std::process::Command::new(binary);
    program.current_dir("/");
    if nix::unistd::Uid::current().is_root() {
        program.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    program.env("HOME", "/nonexistent").env("XDG_DATA_HOME", &home);
    let mut part = Part::play_by(program, "default native", dir.path());
    let port = part.says();
    part.end();
    let data = base.join("wharf/native/data");
    assert_eq!(std::fs::metadata(&data).unwrap().uid(), user.uid.as_raw());
    let pg = PgServer::new(config(Runtime::Native), []).data_dir(base);
    assert_eq!(pg.running().await.unwrap().unwrap().port.to_string(), port);
    pg.stop().await.unwrap();
}

#[tokio::test]
async fn connections_follow_the_server_to_another_port() {
    let dir = Dir::new("moves");
    let own = server(&dir, config(Runtime::Native));
    let before = own.start().await.unwrap();
    let file = "pgserver: {version: 15}\ndatabases: {db: {pgserver: true, database: postgres}}";
    let file = Config::loader("infra.yaml").text(file).env([]).load().unwrap();
    let manager = Manager::with_pgserver(file, server(&dir, config(Runtime::Native)));
    let pg = manager.db("db").unwrap();
    pg.ping().await.unwrap();
    own.stop().await.unwrap();
    // Somebody else has its port now, and closes what comes.
    let taken = std::net::TcpListener::bind(("127.0.0.1", before.port)).unwrap();
    std::thread::spawn(move || taken.incoming().for_each(drop));
    let after = own.start().await.unwrap();
    assert_ne!(after.port, before.port);
    // The first may meet the connection that the server has ended.
    let _ = pg.execute_unprepared("SELECT 1").await;
    pg.execute_unprepared("SELECT 1").await.unwrap();
    own.stop().await.unwrap();
}

/// As root, whose files the server's user must not have written or read by links of its own making.
#[tokio::test]
async fn no_link_in_the_servers_folder_is_followed() {
    let dir = Dir::new("links");
    let pg = server(&dir, config(Runtime::Native));
    pg.start().await.unwrap();
    pg.stop().await.unwrap();
    let native = dir.native();
    let victim = dir.path().join("victim");
    let planted = ["data/wharf.conf", "data/pg_hba.conf", "state", "server.log"];
    for name in planted {
        std::fs::write(&victim, "somebody's secret").unwrap();
        std::fs::set_permissions(&victim, std::fs::Permissions::from_mode(0o600)).unwrap();
        let link = native.join(name);
        std::fs::remove_file(&link).unwrap();
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        match name {
            // It is the server's user who writes that one, and who may not.
            "server.log" => {
                use futures_util::StreamExt as _;
                let read = pg.logs(10, false).await;
                let lines = match read {
                    Ok(lines) => lines.collect::<Vec<_>>().await,
                    Err(_) => Vec::new(),
                };
                assert!(!format!("{lines:?}").contains("secret"), "{lines:?}");
                std::fs::remove_file(&link).unwrap();
            }
            _ => {
                let at = pg.start().await.unwrap();
                assert_eq!(run(&at, "SELECT 'runs'").await.unwrap(), "runs");
                pg.stop().await.unwrap();
                assert!(!link.is_symlink(), "{name}");
            }
        }
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "somebody's secret", "{name}");
        let owner = |path: &Path| std::fs::metadata(path).unwrap().uid();
        assert_eq!(owner(&victim), owner(dir.path()), "{name}");
    }
    // Nor can another user hold the lock: whoever can open a file can lock it.
    for private in ["start.lock", "native/state", "native/password", "endpoint"] {
        let file = dir.path().join("wharf").join(private);
        if file.exists() {
            assert_eq!(mode(&file) & 0o077, 0, "{private}");
        }
    }
    assert!(dir.path().join("wharf/start.lock").exists());
}
