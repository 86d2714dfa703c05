//! The file's server by this machine's programs.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use crate::it::major;
use crate::support::{Project, name, signal};

fn yaml(name: &str, work_mem: &str) -> String {
    let major = major();
    format!(
        "pgserver:\n  name: {name}\n  version: {major}\n  runtime: native\n  pass: s3cret\n  \
         postgres_conf: {{work_mem: {work_mem}}}\ndatabases:\n  shop:\n    pgserver: true\n    \
         database: shop\n    create_db: true\n    extensions: [pg_trgm]\n"
    )
}

#[test]
fn it_goes_up_shows_itself_and_goes_down_and_its_data_stays() {
    let project = Project::new(&yaml(&name("life"), "5MB"));
    project.run(&["server", "status"]).failed(4, &[]).says(&["stopped; run `wharf server up`"]);
    project.run(&["server", "wait", "--timeout", "0.1"]).failed(4, &["run `wharf server up`"]);
    project.run(&["server", "psql", "-c", "select 1"]).failed(4, &["run `wharf server up`"]);
    project
        .run(&["ping"])
        .failed(4, &[])
        .says(&["the file's server is not running", "wharf server up"]);
    let up = project.run(&["server", "up", "--json"]).well().json();
    assert_eq!((&up["runtime"], &up["databases"][0]), (&"native".into(), &"shop".into()), "{up}");
    assert!(!up.to_string().contains("s3cret"));
    let again = project.run(&["server", "up"]).well();
    again.says(&[&format!("PostgreSQL {}", major()), "already running", "wharf psql shop"]);
    project.run(&["server", "wait"]).well();
    project.run(&["ping", "shop"]).well();
    let create = "CREATE TABLE kept AS SELECT 1 AS n";
    project.run(&["run", "shop", create, "--write"]).well();

    let status = project.run(&["server", "status"]).well();
    status.says(&["running (native)", "connections", " of 100", "shop: pg_trgm 1."]);
    let json = project.run(&["server", "status", "--json"]).well().json();
    assert_eq!(json["port"], up["port"]);
    assert_eq!(json["connections"]["max"], 100);
    assert_eq!(json["extensions"][0]["missing"].as_array().unwrap().len(), 0);
    let databases = json["databases"].as_array().unwrap();
    let shop = databases.iter().find(|it| it["name"] == "shop").unwrap();
    assert!(shop["size_bytes"].as_u64().unwrap() > 1_000_000);

    let log = project.run(&["server", "logs", "-n", "3"]).well();
    assert_eq!(log.out.lines().count(), 3, "{log:#?}");
    follows_the_log(&project);
    let psql = project.run(&["server", "psql", "-At", "shop", "-c", "SELECT n FROM kept"]);
    assert_eq!(psql.well().out, "1\n");
    let sum = project.run_with(&["server", "psql", "-At"], "SELECT 1 + 1");
    assert_eq!(sum.well().out, "2\n");
    assert_eq!(project.run(&["server", "exec", "sh", "-c", "exit 7"]).code, 7);
    project.run(&["server", "exec", "pg_isready"]).well().says(&["accepting connections"]);
    project.run(&["server", "exec", "no-such"]).failed(1, &["could not run no-such"]);

    project.run(&["server", "down"]).well().says(&["stopped PostgreSQL", "its data is kept"]);
    project.run(&["server", "down"]).well().says(&["the server is not running"]);
    project.run(&["server", "up"]).well();
    project.run(&["run", "shop", "SELECT n FROM kept"]).well().says(&["1"]);
}

#[test]
fn a_failover_says_where_the_primary_is_and_status_who_follows_it() {
    let yaml = yaml(&name("failover"), "5MB");
    let project = Project::new(&yaml);
    project.run(&["server", "failover"]).failed(4, &["run `wharf server up`"]);
    project.run(&["server", "up"]).well();
    project.run(&["server", "failover"]).failed(1, &["no standby is running", "enabled: true"]);
    project.write(&yaml.replacen("pgserver:\n", "pgserver:\n  replica: {enabled: true}\n", 1));
    let up = project.run(&["server", "up", "--json"]).well().json();
    let (primary, standby) = (up["port"].clone(), up["replica_port"].clone());
    assert_eq!(up["replica_ports"], serde_json::json!([standby]), "{up}");
    let status = project.run(&["server", "status"]).well();
    status.says(&["as postgres, the primary", &format!("streaming at 127.0.0.1:{standby}")]);
    let create = "CREATE TABLE kept AS SELECT 1 AS n";
    project.run(&["run", "shop", create, "--write"]).well();
    let moved = project.run(&["server", "failover"]).well();
    moved.says(&[
        &format!("primary at 127.0.0.1:{standby}, was 127.0.0.1:{primary}; took "),
        &format!("standby at 127.0.0.1:{primary}\n"),
    ]);
    project.run(&["run", "shop", "INSERT INTO kept VALUES (2)", "--write"]).well();
    let status = project.run(&["server", "status", "--json"]).well().json();
    assert_eq!((&status["port"], &status["replica_port"]), (&standby, &primary), "{status}");
    assert_eq!(status["standbys"][0]["port"], primary, "{status}");
    let back = project.run(&["server", "failover", "--json"]).well().json();
    assert_eq!((&back["old_port"], &back["port"]), (&standby, &primary), "{back}");
    project.run(&["run", "shop", "SELECT count(*) FROM kept", "--csv"]).well().says(&["2"]);
}

/// What the server logs from then on is printed, until Ctrl-C.
fn follows_the_log(project: &Project) {
    let mut follow = project.spawn(&["server", "logs", "-f", "-n", "1"], Stdio::null());
    let lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    // By a thread, so that what does not come fails the test and does not stop it for good.
    let (send, lines_of) = mpsc::channel();
    std::thread::spawn(move || lines.map(Result::unwrap).try_for_each(|line| send.send(line)));
    let next = || lines_of.recv_timeout(Duration::from_secs(60));
    // The last line of before, and from here on those that come.
    next().unwrap();
    project.run(&["run", "shop", "SELECT 1/0 AS followed"]).failed(1, &["division by zero"]);
    while !next().unwrap().contains("1/0 AS followed") {}
    assert!(follow.try_wait().unwrap().is_none());
    // As soon as a line is there: none is lost between two of them.
    signal("-INT", follow.id());
    while next() != Err(mpsc::RecvTimeoutError::Disconnected) {}
    assert!(follow.wait().unwrap().success());
}

#[test]
fn what_the_file_changed_is_shown_and_applied_after_a_yes() {
    let name = name("change");
    let project = Project::new(&yaml(&name, "5MB"));
    project.run(&["server", "up"]).well();
    project.write(&yaml(&name, "6MB"));
    let shows = |expected: &str| {
        project.run(&["run", "shop", "SHOW work_mem"]).well().says(&[expected]);
    };
    // Nobody to ask: it stays, and says so.
    let up = project.run(&["server", "up"]).well();
    assert!(up.err.contains("work_mem (5MB -> 6MB)"), "{up:#?}");
    assert!(up.err.contains("run `wharf server restart` to apply"), "{up:#?}");
    shows("5MB");
    project.run(&["server", "status"]).well().says(&["work_mem (5MB -> 6MB)"]);
    let mut terminal = project.terminal(&["server", "up"]);
    terminal.shows(&["its data is kept. Continue? [y/N]"]);
    terminal.press("n\r");
    assert_eq!(terminal.ends(), 0);
    shows("5MB");
    let mut terminal = project.terminal(&["server", "up"]);
    terminal.shows(&["[y/N]"]);
    terminal.press("y\r");
    assert_eq!(terminal.ends(), 0);
    shows("6MB");
    project.write(&yaml(&name, "7MB"));
    project.run(&["server", "up", "--yes"]).well();
    shows("7MB");
    project.write(&yaml(&name, "8MB"));
    project.run(&["server", "restart"]).well();
    shows("8MB");
}

#[test]
fn a_database_goes_into_a_file_and_back_after_a_question() {
    let project = Project::new(&yaml(&name("backup"), "5MB"));
    project.run(&["server", "backup", "shop", "shop.dump"]).failed(4, &["is not running"]);
    project.run(&["server", "up"]).well();
    let create = "CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n";
    project.run(&["run", "shop", create, "--write"]).well();
    let backup = project.run(&["server", "backup", "shop", "shop.dump"]).well();
    backup.says(&["backed up database shop to shop.dump", "1 table,"]);
    project.run(&["server", "backup", "shop", "shop.dump"]).failed(5, &["overwrites", "--yes"]);
    project.run(&["run", "shop", "DELETE FROM kept", "--write"]).well();
    project.run(&["server", "restore", "shop", "shop.dump"]).failed(5, &["has 1 table.", "--yes"]);
    let count = |expected: &str| {
        let count = project.run(&["run", "shop", "SELECT count(*) FROM kept", "--csv"]).well();
        assert_eq!(count.out, format!("count\n{expected}\n"));
    };
    count("0");
    let json =
        project.run(&["server", "restore", "shop", "shop.dump", "--yes", "--json"]).well().json();
    assert_eq!(json["tables"][0], "public.kept");
    count("1000");
    project
        .run(&["server", "restore", "shop", "etc/infra.yaml", "--yes"])
        .failed(1, &["etc/infra.yaml is not a backup"]);
    project.run(&["server", "backup", "shp", "x.dump"]).failed(3, &["shp"]);
}

#[test]
fn clean_removes_everything_after_a_question() {
    let project = Project::new(&yaml(&name("clean"), "5MB"));
    project.run(&["server", "clean"]).well().says(&["nothing to delete"]);
    project.run(&["server", "up"]).well();
    project.run(&["server", "clean"]).failed(5, &["folder /", "permanently deletes", "--yes"]);
    project.run(&["ping"]).well();
    project.run(&["server", "clean", "--yes"]).well().says(&["deleted folder /"]);
    project.run(&["server", "status"]).failed(4, &[]);
    project.run(&["server", "clean", "--yes"]).well().says(&["nothing to delete"]);
}

#[test]
fn a_file_without_a_server_says_so() {
    let project = Project::new("databases:\n  shop:\n    url: postgres://a:b@127.0.0.1:1/c\n");
    for command in ["up", "down", "status", "clean", "logs"] {
        project.run(&["server", command]).failed(3, &["no section `pgserver:`"]);
    }
}

#[test]
fn psql_is_at_home_on_a_terminal() {
    let project = Project::new(&yaml(&name("psql"), "5MB"));
    project.run(&["server", "up"]).well();
    for args in [&["server", "psql", "shop"][..], &["psql", "shop"]] {
        let mut terminal = project.terminal(args);
        terminal.shows(&["shop=# "]);
        terminal.press("SELECT 6 * 7 AS answer;\r");
        terminal.shows(&["answer", "42"]);
        // Ctrl-C is for psql's statement, not for wharf.
        terminal.press("SELECT pg_sleep(600);\r");
        terminal.shows(&["pg_sleep(600);"]);
        wait_for_sleep(&project);
        terminal.press("\u{3}");
        terminal.shows(&["canceling statement due to user request"]);
        terminal.press("\\q\r");
        assert_eq!(terminal.ends(), 0);
    }
}

fn wait_for_sleep(project: &Project) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'";
    crate::support::wait_until("the statement runs", || {
        project.run(&["run", "shop", sql, "--csv"]).well().out == "count\n1\n"
    });
}

#[test]
fn one_inside_the_process_lives_until_ctrl_c() {
    use std::io::{BufRead as _, BufReader};
    let yaml =
        format!("pgserver: {{name: {}, version: 17, runtime: embedded}}\n", name("embedded"));
    let project = Project::new(&yaml);
    let mut child = project.spawn(&["server", "up"], std::process::Stdio::null());
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("press Ctrl-C to stop it")));
    project.run(&["server", "down"]).failed(1, &["runs in process", &child.id().to_string()]);
    crate::support::signal("-INT", child.id());
    assert!(child.wait().unwrap().success());
}
