//! The file's server in Docker. Without an engine these tests say that they did not run; with
//! `WHARF_TEST_DOCKER=require` they fail.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Project, docker, engine, for_everybody, name, say, signal, wait_until};

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
    assert!(absent.contains("/nowhere/docker.sock cannot be opened"), "{absent}");
    assert!(absent.contains("`runtime: auto` chooses one that can run it"), "{absent}");
    let ssh = up("ssh://user@host");
    assert!(ssh.contains("ssh -NL /tmp/docker.sock:/var/run/docker.sock HOST"), "{ssh}");
    let npipe = up("npipe:////./pipe/docker_engine");
    assert!(npipe.contains("use unix:///path or tcp://host:port"), "{npipe}");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = up(&format!("tcp://{}", silent.local_addr().unwrap()));
    assert!(silent.contains("did not answer within"), "{silent}");
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
