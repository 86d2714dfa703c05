//! An entry that reads on the standbys of the file's server.

use serde_json::{Value, json};

use crate::it::major;
use crate::support::{Done, Project, name, signal, wait_until};

#[test]
fn ping_and_doctor_list_the_servers_and_a_failover_shows() {
    let (name, major) = (name("reads"), major());
    let project = Project::new(&format!(
        "pgserver:\n  name: {name}\n  version: {major}\n  runtime: native\n  replica: {{enabled: true, count: 2}}\n\
         databases:\n  shop: {{pgserver: true, database: shop, create_db: true, reads: causal}}\n  \
         plain: {{pgserver: true, database: shop}}\n"
    ));
    let up = project.run(&["server", "up", "--json"]).well().json();
    let servers = || {
        let ping = project.run(&["ping", "--json"]).well().json();
        assert_eq!(ping["plain"]["servers"].as_array().unwrap().len(), 0, "{ping}");
        let servers = ping["shop"]["servers"].as_array().unwrap().clone();
        assert_eq!(servers.len(), 3, "{ping}");
        servers
    };
    let primary = |servers: &[serde_json::Value]| {
        let primaries = servers.iter().filter(|it| it["role"] == "primary");
        let primaries: Vec<_> = primaries.cloned().collect();
        assert_eq!(primaries.len(), 1, "{servers:?}");
        (primaries[0]["port"].clone(), primaries[0]["timeline"].clone())
    };
    assert_eq!(primary(&servers()), (up["port"].clone(), 1.into()));
    project.run(&["ping"]).well().says(&["primary, timeline 1", "standby, timeline 1"]);
    project.run(&["doctor"]).says(&["primary, timeline 1", "standby, timeline 1, not behind"]);

    let failed_over = project.run(&["server", "failover", "--json"]).well().json();
    assert_ne!(failed_over["port"], up["port"]);
    assert_eq!(primary(&servers()), (failed_over["port"].clone(), 2.into()));
    project.run(&["server", "clean", "--yes"]).well();
}

/// A primary with two standbys that run, and where they listen, the primary first.
fn cluster(test: &str) -> (Project, [u16; 3]) {
    let (name, major) = (name(test), major());
    let server = format!(
        "pgserver:\n  name: {name}\n  version: {major}\n  runtime: native\n  pass: p\n  \
         replica: {{enabled: true, count: 2}}\n"
    );
    let shop = "databases:\n  shop: {pgserver: true, database: postgres}\n";
    let project = Project::new(&format!("{server}{shop}"));
    let up = project.run(&["server", "up", "--json"]).well().json();
    let port = |port: &Value| u16::try_from(port.as_u64().unwrap()).unwrap();
    let ports = [port(&up["port"]), port(&up["replica_ports"][0]), port(&up["replica_ports"][1])];
    let [primary, one, other] = ports;
    // In the alphabet before `shop`, which has the same primary.
    project.write(&format!(
        "{server}{shop}  plain: {{url: \"postgres://postgres:p@127.0.0.1:{primary}/postgres\"}}\n  \
         listed: {{url: \"postgres://postgres:p@127.0.0.1:{one},127.0.0.1:{primary},127.0.0.1:{other}/postgres\"}}\n  \
         named: {{host: localhost, port: {primary}, replicas: [\"127.0.0.1:{other}\"], user: postgres, \
         password: p, database: postgres, reads: causal}}\n  \
         one: {{url: \"postgres://postgres:p@127.0.0.1:{one}/postgres\"}}\n"
    ));
    (project, ports)
}

/// Lets a standby receive what is written and not replay it.
fn pause_replay(project: &Project, standby: &str) {
    project.run(&["run", standby, "--write", "SELECT pg_wal_replay_pause()"]).well();
    wait_until("its replay is paused", || {
        let state = project.run(&["run", standby, "SELECT pg_get_wal_replay_pause_state()"]);
        state.well().out.contains("paused")
    });
}

fn stop(project: &Project, server: &str) {
    let data = project.run(&["run", server, "SHOW data_directory", "--csv"]).well();
    let file = format!("{}/postmaster.pid", data.out.lines().nth(1).unwrap());
    let pid = std::fs::read_to_string(&file).unwrap();
    signal("-INT", pid.lines().next().unwrap().parse().unwrap());
    wait_until("it has stopped", || !std::path::Path::new(&file).exists());
}

/// The servers that `wharf top --json` shows of the entries, with the port of each.
fn watched(project: &Project, names: &[&str], code: i32) -> Vec<(u64, Value)> {
    let shown = project.run(&[&["top", "--json"], names].concat()).failed(code, &[]).json();
    let servers = shown["servers"].as_array().unwrap().iter();
    let port = |target: &str| {
        let port = target.strip_prefix("postgres@")?.strip_suffix("/postgres")?.rsplit_once(':');
        port?.1.parse().ok()
    };
    servers.map(|it| (port(it["target"].as_str().unwrap()).unwrap(), it.clone())).collect()
}

#[test]
fn top_prints_each_server_of_an_entry_with_its_role_and_lag() {
    let (project, [primary, one, other]) = cluster("lag");
    let all: [u64; 3] = [primary.into(), one.into(), other.into()];
    let ports = |of: &[(u64, Value)]| of.iter().map(|(port, _)| *port).collect::<Vec<_>>();
    let roles = |of: &[(u64, Value)]| {
        of.iter().map(|(_, it)| it["role"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let lags = |of: &[(u64, Value)]| of.iter().map(|(_, it)| it["lag_bytes"].clone()).collect();

    // Neither the entry's `reads` nor the way in which it names its servers makes a difference.
    let shop = watched(&project, &["shop"], 0);
    assert_eq!(ports(&shop), all);
    assert_eq!(roles(&shop), ["primary", "standby", "standby"]);
    assert_eq!(shop[1].1["standby"], true);
    assert!(shop[1].1["activity"].is_array(), "{shop:?}");
    let listed = watched(&project, &["listed"], 0);
    assert_eq!(ports(&listed), [all[1], all[0], all[2]]);
    assert_eq!(roles(&listed), ["standby", "primary", "standby"]);
    assert_eq!(ports(&watched(&project, &["named"], 0)), [all[0], all[2]]);
    // A server has one screen, whatever entries are on it.
    let every = watched(&project, &[], 0);
    assert_eq!(ports(&every), [all[1], all[0], all[2]]);
    let names: Vec<_> = every.iter().map(|(_, it)| it["names"].clone()).collect();
    assert_eq!(
        names,
        [
            json!(["listed", "one", "shop"]),
            json!(["listed", "named", "plain", "shop"]),
            json!(["listed", "named", "shop"])
        ]
    );
    // One server alone is as it always was.
    let plain = watched(&project, &["plain"], 0);
    assert_eq!((ports(&plain), roles(&plain)), (vec![all[0]], vec!["primary".to_owned()]));
    let printed = project.run(&["top", "plain", "--once"]).well();
    assert!(printed.out.starts_with("plain: PostgreSQL "), "{printed:?}");
    // An entry that is met first does not hide the others' lag.
    let merged = watched(&project, &["one", "shop"], 0);
    assert_eq!(ports(&merged), [all[1], all[0], all[2]]);
    assert!(merged[0].1["lag_bytes"].is_u64(), "{merged:?}");

    pause_replay(&project, "one");
    let sql = "CREATE TABLE written AS SELECT generate_series(1, 1000) AS n";
    project.run(&["run", "shop", "--write", sql]).well();
    wait_until("the other standby has all of it", || {
        let lags: Vec<Value> = lags(&watched(&project, &["shop"], 0));
        assert!(lags[0].is_null(), "{lags:?}");
        assert!(lags[1].as_u64().unwrap() > 30_000, "{lags:?}");
        lags[2] == 0
    });
    wait_until("so it is printed", || {
        let printed = project.run(&["top", "shop", "--once"]).well();
        printed.says(&[
            &format!("shop at 127.0.0.1:{primary}: PostgreSQL "),
            &format!("shop at 127.0.0.1:{one}: PostgreSQL "),
            &format!("shop at 127.0.0.1:{other}: PostgreSQL "),
            ", primary, up ",
            "kB behind, up ",
        ]);
        printed.out.contains(", standby, not behind, up ")
    });

    stop(&project, "one");
    let listed = watched(&project, &["listed"], 4);
    assert_eq!(ports(&listed), [all[1], all[0], all[2]]);
    assert_eq!(roles(&listed), ["unknown", "primary", "standby"]);
    assert!(listed[0].1["error"].as_str().unwrap().contains("Connection refused"), "{listed:?}");
    assert!(listed[0].1["lag_bytes"].is_null() && listed[2].1["lag_bytes"].is_u64(), "{listed:?}");
    let printed = project.run(&["top", "listed", "--once"]);
    printed.failed(4, &[&format!("listed at 127.0.0.1:{one}: "), "Connection refused"]).says(&[
        &format!("listed at 127.0.0.1:{primary}: PostgreSQL "),
        &format!("listed at 127.0.0.1:{other}: PostgreSQL "),
    ]);
}

#[test]
fn top_has_a_screen_for_each_server_of_an_entry() {
    let (project, [primary, one, other]) = cluster("screens");
    let at = |port: u16| format!("127.0.0.1:{port}");
    pause_replay(&project, "one");
    let sql = "CREATE TABLE written AS SELECT generate_series(1, 1000) AS n";
    project.run(&["run", "shop", "--write", sql]).well();

    let mut terminal = project.terminal_of(&["top", "shop", "--interval", "0.2"], 130, 30);
    let screen = terminal.shows(&[
        &format!("wharf top  shop  postgres@{}/postgres  PostgreSQL ", at(primary)),
        ", primary, up ",
        &format!(" {} primary ", at(primary)),
        &format!(" {} standby, ", at(one)),
        "kB behind",
        &format!(" {} standby, not behind", at(other)),
        "Tab server",
        "since start",
    ]);
    assert!(!screen.contains("unreachable"), "{screen}");
    terminal.press("3");
    terminal.shows(&["pg_stat_statements is not in this database"]);
    terminal.press("\t");
    terminal.shows(&[
        &format!("wharf top  shop  postgres@{}/postgres  PostgreSQL ", at(one)),
        ", standby, up ",
        "pg_stat_statements is not in this database",
        &format!(" {} standby, not behind", at(other)),
    ]);
    // Its own statements, which are canceled there.
    terminal.press("1");
    let sleeps = ["run", "one", "SELECT 'on the standby', pg_sleep(300)"];
    let sleeper = project.spawn(&sleeps, std::process::Stdio::null());
    terminal.shows(&["SELECT 'on the standby'"]);
    terminal.press("c");
    terminal.shows(&["This cancels the statement of process", "[y/N]"]);
    terminal.press("y");
    terminal.shows(&["was asked to cancel its statement"]);
    let slept = Done::of(&sleeps, sleeper.wait_with_output().unwrap());
    slept.failed(1, &["canceling statement due to user request"]);
    // The one that is shown stays where not all have room.
    terminal.resize(60, 30);
    terminal.shows(&[&format!(" {} standby, ", at(one)), "kB behind"]);
    terminal.resize(130, 30);
    terminal.press("4\t");
    terminal.shows(&[
        &format!("wharf top  shop  postgres@{}/postgres  PostgreSQL ", at(other)),
        ", standby, up ",
        "from cache",
    ]);

    stop(&project, "one");
    terminal.shows(&[
        &format!(" {} unknown ", at(one)),
        &format!(" {} standby, not behind", at(other)),
        "since start",
    ]);
    terminal.press("\t");
    terminal
        .shows(&[&format!("wharf top  shop  postgres@{}/postgres", at(primary)), ", primary, "]);
    terminal.press("\t");
    terminal.shows(&[
        "unreachable for ",
        "Connection refused",
        &format!(" {} primary ", at(primary)),
    ]);
    terminal.press("\t");
    terminal.shows(&[&format!("postgres@{}/postgres  PostgreSQL ", at(other)), "from cache"]);
    // Each screen stays with its server, whatever the role of that is.
    project.run(&["server", "failover"]).well();
    terminal.shows(&[
        &format!("postgres@{}/postgres  PostgreSQL ", at(other)),
        ", primary, up ",
        &format!(" {} primary", at(other)),
    ]);
    terminal.press("q");
    assert_eq!(terminal.ends(), 0);
}
