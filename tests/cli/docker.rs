//! The file's server in Docker. Without an engine these tests say that they did not run; with
//! `WHARF_TEST_DOCKER=require` they fail.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{
    Done, Project, docker, engine, for_everybody, name, say, signal, size, wait_until,
};

fn is_running(name: &str) -> bool {
    let args = ["inspect", "-f", "{{.State.Running}}", name];
    let output = Command::new("docker").args(args).output().unwrap();
    output.stdout.starts_with(b"true")
}

fn yaml(name: &str, more: &str) -> String {
    format!(
        "pgserver:\n  name: {name}\n  version: 17\n  runtime: docker\n{more}databases:\n  shop:\n    \
         pgserver: true\n    database: shop\n    create_db: true\n"
    )
}

#[test]
fn from_up_to_clean() {
    if !engine() {
        return;
    }
    let name = name("docker");
    let project = Project::new(&yaml(&name, "  replica: {enabled: true}\n"));
    let up = project.run(&["server", "up"]).well();
    up.says(&["PostgreSQL 17", "(docker)", "standby at 127.0.0.1:", "wharf psql shop"]);
    let create = "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n";
    project.run(&["run", "shop", create, "--write"]).well();
    let status = project.run(&["server", "status"]).well();
    status.says(&["running (docker)", &format!("{name}-replica streaming at 127.0.0.1:")]);
    project.run(&["server", "logs", "-n", "1"]).well();
    let psql = ["server", "psql", "-At", "shop", "-c", "SELECT count(*) FROM kept"];
    assert_eq!(project.run(&psql).well().out, "1000\n");
    let script = "SELECT 1;\nSELECT nonsense;\nSELECT 2;\n";
    let told = project.run_with(&["server", "psql", "-At", "-v", "ON_ERROR_STOP=1"], script);
    assert_eq!((told.code, told.out.as_str()), (3, "1\n"), "{told:#?}");
    assert_eq!(project.run(&["server", "exec", "sh", "-c", "exit 7"]).code, 7);
    project.run(&["server", "exec", "cat", "/etc/hostname"]).well();
    project.run(&["server", "backup", "shop", "shop.dump"]).well().says(&["1 table,"]);
    project.run(&["run", "shop", "DELETE FROM kept", "--write"]).well();
    project.run(&["server", "restore", "shop", "shop.dump", "--yes"]).well();
    assert_eq!(project.run(&psql).well().out, "1000\n");
    project.run(&["server", "down"]).well();
    let stopped = project.run(&["server", "status"]).failed(4, &[]);
    stopped.says(&["stopped", &format!("volume {name}-data, with its data")]);
    project.run(&["server", "up"]).well();
    assert_eq!(project.run(&psql).well().out, "1000\n");
    // Without the engine nobody knows what is there.
    let mut blind = project.command(&["server", "clean", "--yes"]);
    let blind = blind.env("DOCKER_HOST", "unix:///nowhere.sock").output().unwrap();
    let said = String::from_utf8_lossy(&blind.stderr).into_owned();
    assert_eq!(blind.status.code(), Some(1), "{said}");
    assert!(said.contains("could not list what it has on the Docker engine that ran it"), "{said}");
    let asked = project.run(&["server", "clean"]).failed(5, &["container", "volume", "network"]);
    assert!(is_running(&name), "{asked:#?}");
    project.run(&["server", "clean", "--yes"]).well();
    for (kind, what) in [("container", ""), ("volume", "-data"), ("network", "-network")] {
        assert!(!docker(&[kind, "inspect", &format!("{name}{what}")]), "{kind} {name}{what}");
    }
}

#[test]
fn psql_in_the_container_is_at_home_on_a_terminal_without_one_on_this_machine() {
    if !engine() {
        return;
    }
    let project = Project::new(&yaml(&name("tty"), ""));
    project.run(&["server", "up"]).well();
    let mut terminal = project.terminal(&["server", "psql", "shop"]);
    terminal.shows(&["shop=# "]);
    terminal.press("SELECT 6 * 7 AS answer;\r");
    terminal.shows(&["answer", "42"]);
    terminal.press("\\! stty size\r");
    terminal.shows(&["30 120"]);
    terminal.press("SELECT pg_sleep(600);\r");
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'";
    wait_until("the statement runs", || {
        project.run(&["run", "shop", sql, "--csv"]).well().out == "count\n1\n"
    });
    terminal.press("\u{3}");
    terminal.shows(&["canceling statement due to user request"]);
    terminal.press("\\q\r");
    assert_eq!(terminal.ends(), 0);
    // `psql NAME` falls back to it.
    let mut psql = project.command(&["psql", "shop", "-At", "-c", "SELECT 'inside'"]);
    let output = psql.env("PATH", "").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "inside\n", "{output:?}");
}

#[test]
fn a_program_on_a_terminal_has_its_bytes_alone_and_follows_its_window() {
    if !engine() {
        return;
    }
    let project = Project::new(&yaml(&name("window"), ""));
    project.run(&["server", "up"]).well();
    let waits = r#"until [ "$(stty size)" = "40 100" ]; do sleep 0.1; done; echo fol''lowed"#;
    // As long as a byte that a terminal shows: the header of a frame would end with it.
    let line = "x".repeat(usize::from(b'A'));
    let begins = format!("stty size; echo {line}");
    let script = format!("{begins}; read n; {waits}; exit 3");
    let mut terminal = project.terminal(&["server", "exec", "sh", "-c", &script]);
    terminal.shows(&["30 120", &line]);
    terminal.resize(100, 40);
    terminal.press("\r");
    terminal.shows(&["followed"]);
    assert_eq!(terminal.ends(), 3);
    let bytes = String::from_utf8(terminal.bytes()).unwrap();
    assert_eq!(bytes, format!("30 120\r\n{line}\r\n\r\nfollowed\r\n"));

    let no_psql = [("PATH", "")];
    for (args, env) in [(&["server", "psql", "shop"][..], &[][..]), (&["psql", "shop"], &no_psql)] {
        let mut terminal = project.terminal_with(args, size(120, 30), env);
        terminal.shows(&["shop=# "]);
        terminal.resize(100, 40);
        terminal.press(&format!("\\! {waits}\r"));
        terminal.shows(&["followed"]);
        terminal.press("\\q\r");
        assert_eq!(terminal.ends(), 0);
        let bytes = terminal.bytes();
        let shown = String::from_utf8_lossy(&bytes);
        assert!(!bytes.contains(&0) && !shown.contains('\u{fffd}'), "{args:?}: {shown:?}");
    }
    // Without a terminal the two streams stay apart.
    let apart = project.run(&["server", "exec", "sh", "-c", "echo out; echo err >&2"]).well();
    assert_eq!((apart.out.as_str(), apart.err.as_str()), ("out\n", "err\n"));
}

/// The engine of this machine at an address that other machines could reach, as a remote engine is.
struct Remote {
    host: String,
    url: String,
    _runtime: tokio::runtime::Runtime,
}

impl Remote {
    fn new() -> Remote {
        let addresses = Command::new("hostname").arg("-I").output().unwrap().stdout;
        let addresses = String::from_utf8(addresses).unwrap();
        let host = addresses.split(' ').next().unwrap().to_owned();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let bound = runtime.block_on(tokio::net::TcpListener::bind((host.as_str(), 0))).unwrap();
        let url = format!("tcp://{}", bound.local_addr().unwrap());
        runtime.spawn(async move {
            while let Ok((mut client, _)) = bound.accept().await {
                tokio::spawn(async move {
                    let socket = tokio::net::UnixStream::connect("/var/run/docker.sock").await;
                    tokio::io::copy_bidirectional(&mut client, &mut socket.unwrap()).await
                });
            }
        });
        Remote { host, url, _runtime: runtime }
    }
}

#[test]
fn a_server_of_a_remote_engine_is_found_at_its_host() {
    if !engine() {
        return;
    }
    let (remote, name) = (Remote::new(), name("remote"));
    // By a context, as most people have it.
    let yaml_of = |more: &str| yaml(&name, more);
    let project = Project::new(&yaml_of("  replica: {enabled: true}\n"));
    let config = project.path().join("docker");
    let meta = config.join("contexts/meta/any");
    std::fs::create_dir_all(&meta).unwrap();
    let described = serde_json::json!({
        "Name": "far", "Metadata": {}, "Endpoints": {"docker": {"Host": remote.url}},
    });
    std::fs::write(meta.join("meta.json"), described.to_string()).unwrap();
    std::fs::write(config.join("config.json"), r#"{"currentContext": "far"}"#).unwrap();
    let run = |args: &[&str]| {
        let mut command = project.command(args);
        command.env_remove("DOCKER_HOST").env("DOCKER_CONFIG", &config);
        Done::of(args, command.output().unwrap())
    };
    let up = run(&["server", "up"]).well();
    up.says(&["PostgreSQL 17", &format!("at {}:", remote.host)]);
    assert!(!up.out.contains("127.0.0.1"), "{up:#?}");
    let published = ["port", &name, "5432/tcp"];
    let published = Command::new("docker").args(published).output().unwrap().stdout;
    let published = String::from_utf8(published).unwrap();
    assert!(published.starts_with("0.0.0.0:"), "{published}");
    // The same port after a restart, and no difference that would ask for one.
    run(&["server", "down"]).well();
    let again = run(&["server", "up"]).well();
    assert!(!again.err.contains("restart"), "{again:#?}");
    let again = ["port", &name, "5432/tcp"];
    let again = Command::new("docker").args(again).output().unwrap().stdout;
    assert_eq!(String::from_utf8(again).unwrap(), published);
    let status = run(&["server", "status"]).well();
    status.says(&["running (docker)", &format!("streaming at {}:", remote.host)]);
    let host = run(&["run", "shop", "SELECT inet_server_port()", "--csv"]).well();
    assert_eq!(host.out, "inet_server_port\n5432\n");
    let exec = run(&["server", "exec", "sh", "-c", "echo inside"]).well();
    assert_eq!(exec.out, "inside\n");
    let file = run(&["server", "backup", "shop", "shop.dump"]).well();
    file.says(&["shop.dump"]);
    run(&["server", "clean", "--yes"]).well();
    assert!(!docker(&["volume", "inspect", &format!("{name}-data")]));

    // Nobody logs in to it without a password.
    project.write(&yaml_of("  pass: \"\"\n"));
    let open = run(&["server", "up"]).failed(1, &["lets anybody log in as its superuser"]);
    assert!(open.err.contains(&format!("the engine at {} publishes it", remote.host)), "{open:#?}");
    assert!(!docker(&["inspect", &name]));
}

#[test]
fn killed_or_interrupted_at_any_moment_it_leaves_what_the_next_one_handles() {
    if !engine() {
        return;
    }
    let name = name("killed");
    let project = Project::new(&yaml(&name, "  replica: {enabled: true}\n"));
    // From before the first call to the engine to after the last.
    let whole = {
        let begun = Instant::now();
        project.run(&["server", "up"]).well();
        begun.elapsed()
    };
    project.run(&["server", "clean", "--yes"]).well();
    let moments = 8;
    for moment in 0..=moments {
        let signal_of_it = if moment % 2 == 0 { "-KILL" } else { "-INT" };
        let mut child = project.spawn(&["server", "up"], Stdio::null());
        // This is not to wait for anything: any moment will do.
        std::thread::sleep(whole * moment / moments);
        if child.try_wait().unwrap().is_none() {
            signal(signal_of_it, child.id());
        }
        child.wait().unwrap();
        match moment % 3 {
            // A stop in the middle of the first start waits for data that is whole.
            0 => {
                project.run(&["server", "down"]).well();
                project.run(&["server", "up"]).well();
                project.run(&["server", "clean", "--yes"]).well();
            }
            1 => {
                project.run(&["server", "up"]).well();
                project.run(&["server", "clean", "--yes"]).well();
            }
            _ => {
                project.run(&["server", "clean", "--yes"]).well();
            }
        }
        for (kind, what) in [
            ("container", ""),
            ("container", "-replica"),
            ("volume", "-data"),
            ("volume", "-replica-data"),
            ("network", "-network"),
        ] {
            let there = docker(&[kind, "inspect", &format!("{name}{what}")]);
            assert!(!there, "{kind} {name}{what} after moment {moment}");
        }
    }
}

#[test]
fn a_start_that_was_killed_and_then_stopped_leaves_data_that_is_whole() {
    if !engine() {
        return;
    }
    let name = name("early");
    let project = Project::new(&yaml(&name, ""));
    let mut child = project.spawn(&["server", "up"], Stdio::null());
    wait_until("the container runs", || is_running(&name));
    signal("-KILL", child.id());
    child.wait().unwrap();
    project.run(&["server", "down"]).well();
    // It ended by itself, and was not killed for not doing so.
    let ended = ["inspect", "-f", "{{.State.ExitCode}}", &name];
    let ended = Command::new("docker").args(ended).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&ended.stdout).trim(), "0");
    project.run(&["server", "up"]).well();
    project.run(&["ping"]).well();
}

#[test]
fn the_time_from_up_to_a_query_is_told() {
    if !engine() {
        return;
    }
    let project = Project::new(&yaml(&name("quick"), ""));
    let begun = Instant::now();
    project.run(&["server", "up"]).well();
    project.run(&["run", "shop", "SELECT 1"]).well();
    let took = begun.elapsed();
    say(&format!("from `wharf server up` to a query: {took:.1?}"));
    // Other tests start servers on these cores meanwhile: by itself it is some 3 s.
    assert!(took < Duration::from_secs(30), "{took:?}");
}

#[test]
fn an_engine_that_cannot_be_used_is_told_with_what_to_do() {
    let project = Project::new(&yaml(&name("nowhere"), ""));
    let up = |host: &str| {
        let mut command = project.command(&["server", "up"]);
        let output = command.env("DOCKER_HOST", host).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    let absent = up("unix:///nowhere/docker.sock");
    assert!(absent.contains("/nowhere/docker.sock (DOCKER_HOST) cannot be opened"), "{absent}");
    assert!(absent.contains("or correct DOCKER_HOST"), "{absent}");
    assert!(absent.contains("`runtime: auto` chooses one that can run it"), "{absent}");
    let ssh = up("ssh://user@host");
    assert!(ssh.contains("ssh -NL /tmp/docker.sock:/var/run/docker.sock user@host`"), "{ssh}");
    let npipe = up("npipe:////./pipe/docker_engine");
    assert!(npipe.contains("use unix:///path or tcp://host:port"), "{npipe}");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = up(&format!("tcp://{}", silent.local_addr().unwrap()));
    assert!(silent.contains("did not answer within"), "{silent}");
}

#[test]
fn an_engine_that_requires_tls_is_told_with_what_named_it() {
    // What an engine with TLS answers to a request without.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            use std::io::{Read as _, Write as _};
            let mut client = client.unwrap();
            let _ = client.read(&mut [0; 4096]);
            let body = "Client sent an HTTP request to an HTTPS server.\n";
            let _ = write!(client, "HTTP/1.0 400 Bad Request\r\n\r\n{body}");
        }
    });
    let project = Project::new(&yaml(&name("tls"), ""));
    let up = |verify: &str| {
        let mut command = project.command(&["server", "up"]);
        command.env("DOCKER_HOST", format!("tcp://{address}")).env("DOCKER_TLS_VERIFY", verify);
        Done::of(&["server", "up"], command.output().unwrap())
    };
    up("1").failed(1, &["DOCKER_HOST: tcp://", "DOCKER_TLS_VERIFY asks for TLS", "ssh -NL"]);
    up("").failed(1, &["(DOCKER_HOST) rejects requests without TLS"]);
}

#[test]
fn a_socket_that_is_closed_to_the_user_is_told_with_the_group_to_join() {
    if !engine() {
        return;
    }
    let project = Project::new(&yaml(&name("closed"), ""));
    let wharf = for_everybody(project.path());
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(wharf);
    let output = command
        .args(["server", "up"])
        .env("HOME", "/tmp")
        .env("XDG_DATA_HOME", "/tmp/wharf-cli-closed")
        .current_dir(project.path())
        .output()
        .unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.contains("Permission denied"), "{err}");
    assert!(err.contains("sudo usermod -aG docker $USER"), "{err}");
    let _ = std::fs::remove_dir_all("/tmp/wharf-cli-closed");
}

#[test]
fn an_image_that_cannot_be_had_is_told() {
    if !engine() {
        return;
    }
    let image = "  image: registry.invalid/postgres:17\n";
    let project = Project::new(&yaml(&name("offline"), image));
    let up = project.run(&["server", "up"]);
    up.failed(1, &["could not pull registry.invalid/postgres:17", "check the network"]);
}

#[test]
fn a_restore_that_is_killed_ends_in_the_container_too_and_leaves_the_data_as_it_was() {
    if !engine() {
        return;
    }
    let name = name("restore-killed");
    let project = Project::new(&yaml(&name, ""));
    project.run(&["server", "up"]).well();
    let write = |sql: &str| project.run(&["run", "shop", sql, "--write"]).well();
    write("CREATE TABLE kept AS SELECT 'backed up' AS v");
    project.run(&["server", "backup", "shop", "kept.dump"]).well();
    write("UPDATE kept SET v = 'later'");
    // A reader holds the restore up, which has read all of its small file by then.
    let hold = ["server", "psql", "shop"];
    let mut holder =
        project.command(&hold).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut input = holder.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, b"BEGIN; SELECT * FROM kept;\n").unwrap();
    let count = |sql: &str| project.run(&["run", "shop", sql, "--csv"]).well().out;
    wait_until("the reader holds its lock", || {
        count("SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'")
            == "count\n1\n"
    });
    let restore = ["server", "restore", "shop", "kept.dump", "--yes"];
    let mut restore = project.spawn(&restore, Stdio::null());
    wait_until("the restore waits for the reader", || {
        count("SELECT count(*) FROM pg_locks WHERE NOT granted") == "count\n1\n"
    });
    signal("-KILL", restore.id());
    restore.wait().unwrap();
    let programs = || {
        let top = Command::new("docker").args(["top", &name, "-o", "pid,args"]).output().unwrap();
        String::from_utf8(top.stdout).unwrap()
    };
    wait_until("pg_restore has ended", || !programs().contains("pg_restore"));
    std::io::Write::write_all(&mut input, b"COMMIT;\n").unwrap();
    drop(input);
    holder.wait().unwrap();
    wait_until("nobody waits any more", || {
        count("SELECT count(*) FROM pg_locks WHERE NOT granted") == "count\n0\n"
    });
    assert_eq!(count("SELECT v FROM kept"), "v\nlater\n");
    // What a program that ended by itself has left running goes on.
    project.run(&["server", "exec", "sh", "-c", "sleep 601 >/dev/null 2>&1 &"]).well();
    project.run(&["server", "exec", "true"]).well();
    assert!(programs().contains("sleep 601"), "{}", programs());
}
