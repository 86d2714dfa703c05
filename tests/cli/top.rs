//! The screen of `wharf top`, on a terminal.

use sea_orm::{ConnectionTrait as _, DbBackend, Statement};

use crate::it::TestDatabase;
use crate::support::{Project, Terminal, signal};

fn project(database: &TestDatabase) -> Project {
    Project::new(&format!(
        "databases:\n{}  down:\n    url: postgres://a:b@127.0.0.1:1/c\n",
        database.entry("it", &[])
    ))
}

/// Shows the rows of this database only: other tests run statements on the same server.
fn only(terminal: &mut Terminal, database: &TestDatabase) {
    // Before the screen is there, a terminal makes a line feed of Enter.
    terminal.shows(&["connections "]);
    terminal.press(&format!("/{}\r", database.name));
    terminal.shows(&[&format!("filter: {} (Esc", database.name)]);
}

/// Sleeps on the server until it is cancelled or its connection ends; what it met.
async fn sleep(pg: wharf::Pg) -> String {
    let slept = pg.execute_unprepared("SELECT 'slept by a test', pg_sleep(300)").await;
    slept.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_runs_what_is_shown_and_can_be_cancelled_after_a_question() {
    let database = TestDatabase::new().await;
    let project = project(&database);
    let sleeper = tokio::spawn(sleep(database.pg().await));
    let mut terminal = project.terminal(&["top", "it", "--interval", "0.2"]);
    only(&mut terminal, &database);
    let running = ["SELECT 'slept by a test'", "active", &database.name[..10]];
    let screen = terminal.shows(&running);
    assert!(terminal.is_full_screen());
    for part in
        ["wharf top  it", "postgres@127.0.0.1:", "PostgreSQL ", "primary", "connections ", " of "]
    {
        assert!(screen.contains(part), "no {part:?} in\n{screen}");
    }
    assert!(!screen.contains(":it@"), "{screen}");

    terminal.press("c");
    terminal.shows(&["This cancels the statement of process", "slept by a test", "[y/N]"]);
    terminal.press("n");
    terminal.shows(&["nothing was changed"]);
    assert!(!sleeper.is_finished());
    terminal.press("c");
    terminal.shows(&["[y/N]"]);
    terminal.press("y");
    terminal.shows(&["was asked to cancel its statement"]);
    assert!(sleeper.await.unwrap().contains("canceling statement due to user request"));
    terminal.shows_no("slept by a test");

    let sleeper = tokio::spawn(sleep(database.pg().await));
    terminal.shows(&running);
    terminal.press("t");
    terminal.shows(&["This ends the connection of process"]);
    terminal.press("y");
    terminal.shows(&["was asked to end"]);
    assert!(sleeper.await.unwrap().contains("terminating connection"));
    terminal.press("q");
    assert_eq!(terminal.ends(), 0);
    assert!(!terminal.is_full_screen(), "the terminal is as it was");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_whom_is_shown() {
    let database = TestDatabase::new().await;
    let project = project(&database);
    let pg = database.pg().await;
    pg.execute_unprepared("CREATE TABLE held (n int)").await.unwrap();
    let holder = pg.begin().await.unwrap();
    holder.execute_unprepared("LOCK TABLE held").await.unwrap();
    let waiter = tokio::spawn({
        let pg = pg.clone();
        async move { pg.execute_unprepared("INSERT INTO held VALUES (1)").await }
    });
    crate::support::wait_until("it waits", || {
        let once = project.run(&["top", "it", "--once"]).well();
        once.out.contains("└ ") && once.out.contains("waits for RowExclusiveLock on held")
    });
    let json = project.run(&["top", "it", "--json"]).well().json();
    let locks = json["servers"][0]["locks"].as_array().unwrap();
    assert!(locks.iter().any(|lock| lock["blocking_query"] == "LOCK TABLE held"), "{json}");
    let mut terminal = project.terminal(&["top", "it", "--interval", "0.2"]);
    only(&mut terminal, &database);
    terminal.shows(&["INSERT INTO held", "lock of ", "idle in tx"]);
    terminal.press("\u{1b}");
    terminal.shows_no("filter: ");
    terminal.press("2");
    terminal.shows(&[
        "process",
        "idle in transaction",
        "LOCK TABLE held",
        "└ ",
        "waits for RowExclusiveLock on held",
        "INSERT INTO held",
    ]);
    // Of a lock, the one who holds it is signalled.
    terminal.press("t");
    terminal.shows(&["This ends the connection of process", "LOCK TABLE held"]);
    terminal.press("y");
    terminal.shows(&["no backend waits for a lock"]);
    waiter.await.unwrap().unwrap();
    drop(holder);
    // Ctrl-C, as everywhere.
    terminal.press("\u{3}");
    assert_eq!(terminal.ends(), 0);
    pg.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_and_what_is_not_there_are_told_of() {
    let database = TestDatabase::new().await;
    let project = project(&database);
    let mut terminal = project.terminal_of(&["top", "it", "down", "--interval", "0.2"], 150, 30);
    terminal.shows(&["wharf top  it", "PostgreSQL "]);
    terminal.press("4");
    terminal.shows(&["from cache", "deadlocks", &database.name[..10]]);
    terminal.shows(&["commits ", "/s"]);
    terminal.press("3");
    terminal.shows(&["pg_stat_statements is not in this database", "shared_preload_libraries"]);
    terminal.press("\t");
    terminal.shows(&["wharf top  down", "Connection refused"]);
    terminal.press("\t");
    terminal.shows(&["wharf top  it", "PostgreSQL "]);
    terminal.press("p");
    terminal.shows(&["paused"]);
    // Whoever ends it leaves the terminal as it was.
    signal("-TERM", terminal.pid());
    assert_eq!(terminal.ends(), 0);
    assert!(!terminal.is_full_screen());
}

#[tokio::test]
async fn what_was_slow_is_shown_and_a_server_that_goes_away_is_said_and_met_again() {
    use crate::support::name;
    let (name, major) = (name("top"), crate::it::major());
    let yaml = format!(
        "pgserver:\n  name: {name}\n  version: {major}\n  runtime: native\n  postgres_conf: \
         {{shared_preload_libraries: pg_stat_statements}}\ndatabases:\n  shop:\n    pgserver: true\n    \
         database: postgres\n    extensions: [pg_stat_statements]\n"
    );
    let project = Project::new(&yaml);
    project.run(&["server", "up"]).well();
    let mut terminal = project.terminal(&["top", "--interval", "0.2"]);
    terminal.shows(&["no statement is running"]);
    terminal.press("3");
    project.run(&["run", "shop", "SELECT 'counted' FROM generate_series(1, 9)"]).well();
    terminal.shows(&["SELECT $1 FROM generate_series($2, $3)", "calls/s", "load", "mean"]);
    clean_up(&project).await;
    let screen = terminal.shows(&["SELECT $1 FROM generate_series($2, $3, $4)"]);
    assert!(!screen.contains("clean-up"), "{screen}");
    terminal.press("1");
    project.run(&["server", "down"]).well();
    terminal.shows(&["unreachable for "]);
    project.run(&["server", "up"]).well();
    terminal.shows_no("unreachable for ");
    terminal.press("q");
    assert_eq!(terminal.ends(), 0);
}

/// Leaves settings on a pool's connection. The server counts the statements that reset it before the last one here.
async fn clean_up(project: &Project) {
    let manager = wharf::Manager::open(project.path().join("etc/infra.yaml")).await.unwrap();
    let pg = manager.db("shop").unwrap();
    let counted = "SELECT count(*) FROM pg_stat_statements WHERE query LIKE '%/* wharf pool */%'";
    for tries in 0.. {
        pg.execute_unprepared("SET work_mem = '5MB'").await.unwrap();
        let row = pg.query_one_raw(Statement::from_string(DbBackend::Postgres, counted)).await;
        if row.unwrap().unwrap().try_get_by_index::<i64>(0).unwrap() > 2 {
            break;
        }
        assert!(tries < 1_000, "no clean-up is counted");
    }
    pg.execute_unprepared("SELECT 'counted' FROM generate_series(1, 9, 1)").await.unwrap();
    pg.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_look_is_printed_for_scripts() {
    let database = TestDatabase::new().await;
    let project = project(&database);
    project.run(&["top", "it"]).failed(1, &["not a terminal; pass --once"]);
    let sleeper = tokio::spawn(sleep(database.pg().await));
    crate::support::wait_until("it runs", || {
        project.run(&["top", "it", "--once"]).well().out.contains("slept by a test")
    });
    let json = project.run(&["top", "it", "--json"]).well().json();
    let mine = json["servers"][0]["activity"].as_array().unwrap().iter();
    let mut mine = mine.filter(|it| it["query"].as_str().unwrap().contains("slept by a test"));
    assert_eq!(mine.next().unwrap()["state"], "active", "{json}");
    let all = project.run(&["top", "--json"]).failed(4, &[]).json();
    let mut servers = all["servers"].as_array().unwrap().iter();
    let down = servers.find(|it| it["names"] == serde_json::json!(["down"])).unwrap();
    assert!(down["error"].as_str().unwrap().contains("Connection refused"), "{all}");
    sleeper.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_login_may_not_see_is_said() {
    let database = TestDatabase::new().await;
    let admin = database.pg().await;
    let role = database.role("blind", "PASSWORD 'b'").await;
    let url = database.url_of(&role, "b");
    let project = Project::new(&format!("databases:\n  it:\n    url: {url}\n"));
    let sleeper = tokio::spawn(sleep(admin.clone()));
    let mut terminal = project.terminal(&["top", "--interval", "0.2"]);
    let screen = terminal.shows(&["does not see what others run; GRANT pg_monitor", "hidden"]);
    assert!(!screen.contains("slept by a test"), "{screen}");
    terminal.press("q");
    assert_eq!(terminal.ends(), 0);
    sleeper.abort();
    let _ = sleeper.await;
    admin.execute_unprepared(&format!("DROP ROLE {role}")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_is_shown_whole_filtered_and_the_keys_are_told() {
    let database = TestDatabase::new().await;
    let project = project(&database);
    let long = format!("SELECT pg_sleep(300) /* {} the end */", "and on ".repeat(30));
    let pg = database.pg().await;
    let sleeper = tokio::spawn(async move { pg.execute_unprepared(&long).await });
    let mut terminal = project.terminal_of(&["top", "it", "--interval", "0.2"], 80, 24);
    // Whole headings and figures, and a statement that is cut.
    let screen =
        terminal.shows(&["pid", "state", "for", "waits for", "statement", "pg_sleep(300)"]);
    assert!(screen.contains('…') && !screen.contains("the end"), "{screen}");
    // Other tests run statements on this server, too.
    terminal.press("/and on and on\r");
    terminal.shows(&["filter: and on and on (Esc", "pg_sleep(300)"]);
    terminal.press("\r");
    terminal.shows(&["the end */"]);
    terminal.press("\r");
    terminal.shows_no("the end */");
    terminal.press("\u{1b}");
    terminal.shows_no("filter: ");
    terminal.press("/nonesuch");
    terminal.shows(&["filter: nonesuch_", "no row contains"]);
    terminal.press("\u{1b}");
    terminal.shows(&["pg_sleep(300)"]);
    terminal.press("?");
    terminal.shows(&["cancel the statement of the row", "sort the rows"]);
    terminal.press("?");
    terminal.shows_no("sort the rows");
    // Its own statements are not among those that run.
    assert!(!terminal.text().contains("wharf top */"), "{}", terminal.text());
    terminal.press("q");
    assert_eq!(terminal.ends(), 0);
    sleeper.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_sorted_by_the_next_column_and_rates_are_counted_since_the_start() {
    let database = TestDatabase::new().await;
    let project = project(&database);
    let pg = database.pg().await;
    pg.execute_unprepared("CREATE TABLE counted (n int)").await.unwrap();
    let sleeper = tokio::spawn(sleep(database.pg().await));
    let mut terminal = project.terminal_of(&["top", "it", "--interval", "0.2"], 160, 30);
    only(&mut terminal, &database);
    terminal.shows(&["for v", "slept by a test"]);
    terminal.press("s");
    terminal.shows(&["waits for v"]);
    terminal.press("2s");
    terminal.shows(&["locks are shown as a tree"]);
    terminal.press("4");
    terminal.shows(&["connections v", "rows written/s"]);
    // All of them in one line of the screen: the database's own rate.
    crate::support::wait_until("its rows are counted", || {
        let sql = "INSERT INTO counted SELECT generate_series(1, 100)";
        let done = project.run(&["run", "it", "--write", sql]);
        done.well();
        let text = terminal.text();
        let line =
            text.lines().find(|line| line.trim_end().ends_with(&database.name)).unwrap_or_default();
        let written = line.split_whitespace().rev().nth(6).unwrap_or_default();
        written.parse::<f64>().is_ok_and(|rate| rate > 0.0)
    });
    terminal.press("\u{1b}");
    terminal.shows(&["per second: since wharf top started", "now  ", "rows written "]);
    terminal.press("q");
    assert_eq!(terminal.ends(), 0);
    sleeper.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrow_screen_shows_whole_columns_and_a_wider_one_more_of_them() {
    let database = TestDatabase::new().await;
    let project = project(&database);
    let sleeper = tokio::spawn(sleep(database.pg().await));
    let args = ["top", "it", "--interval", "0.2"];
    // The filter's message has room here.
    let mut terminal = project.terminal_of(&args, 150, 24);
    only(&mut terminal, &database);
    terminal.resize(40, 24);
    let screen = terminal.shows(&[
        "pid",
        "for v",
        "statement",
        "SELECT 'slept",
        " 1 Statements    2    3    4",
        "since start",
        "? keys  q quit  1-4 view  / filter",
    ]);
    assert!(!screen.contains("waits"), "{screen}");
    for line in screen.lines() {
        assert!(!line.trim_end().ends_with("rollba") && line.chars().count() <= 40, "{screen}");
    }
    terminal.resize(150, 24);
    terminal.shows(&["waits for", "application", "SELECT 'slept by a test', pg_sleep(300)"]);
    terminal.press("q");
    assert_eq!(terminal.ends(), 0);
    sleeper.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn colors_are_for_those_who_want_them() {
    use crate::support::size;
    let database = TestDatabase::new().await;
    let project = project(&database);
    let sleeper = tokio::spawn(sleep(database.pg().await));
    let args = ["top", "it", "--interval", "0.2"];
    for (env, expected) in [(&[][..], true), (&[("NO_COLOR", "1")], false)] {
        let mut terminal = project.terminal_with(&args, size(100, 24), env);
        terminal.shows(&["slept by a test", "active "]);
        assert_eq!(terminal.has(|cell| cell.fgcolor() != vt100::Color::Default), expected);
        // What is selected is seen without colors.
        assert!(terminal.has(vt100::Cell::inverse));
        terminal.press("q");
        assert_eq!(terminal.ends(), 0);
    }
    sleeper.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_on_one_server_have_one_screen() {
    let database = TestDatabase::new().await;
    let entries = [database.entry("it", &[]), database.entry("reports", &["readonly: true"])];
    let project = Project::new(&format!("databases:\n{}{}", entries[0], entries[1]));
    let mut terminal = project.terminal(&["top", "--interval", "0.2"]);
    let screen = terminal.shows(&["wharf top  it, reports", "since start"]);
    assert!(!screen.contains("Tab server"), "{screen}");
    terminal.press("q");
    assert_eq!(terminal.ends(), 0);
}

#[tokio::test]
async fn a_silent_server_does_not_delay_the_screen_of_another_one() {
    let database = TestDatabase::new().await;
    // Accepts connections and says nothing.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = listener.local_addr().unwrap();
    let (host, port) = crate::it::server_address().await;
    let known = format!("{host}:{port}");
    let url = database.url().replacen(&known, &format!("{known},{silent}"), 1);
    let project = Project::new(&format!(
        "databases:\n  it: {{url: \"{url}\", topology: {{probe_timeout: 300 s}}}}\n"
    ));
    let mut terminal = project.terminal_of(&["top", "--interval", "0.2"], 150, 30);
    let both = [&*format!(" {known} primary "), &format!(" {silent} unknown")];
    terminal.shows(&[&both[..], &["wharf top  it", ", primary, up ", "since start"]].concat());
    terminal.press("\t");
    terminal.shows(&[&both[..], &["unreachable for "]].concat());
    terminal.press("\t");
    terminal.shows(&[", primary, up ", "since start"]);
    terminal.press("q");
    assert_eq!(terminal.ends(), 0);
}

#[test]
fn a_server_that_stops_answering_is_seen_at_once() {
    use crate::support::name;
    let (name, major) = (name("frozen"), crate::it::major());
    let yaml = format!(
        "pgserver: {{name: {name}, version: {major}, runtime: native}}\ndatabases:\n  shop: {{pgserver: true, \
         database: postgres}}\n"
    );
    let project = Project::new(&yaml);
    project.run(&["server", "up"]).well();
    let pids = project.run(&["run", "SELECT pg_backend_pid()", "--csv"]).well();
    assert!(pids.out.starts_with("pg_backend_pid\n"));
    let mut terminal = project.terminal(&["top", "--interval", "0.2"]);
    terminal.shows(&["no statement is running"]);
    // Every process of the server stands still; no connection is closed.
    let data = project.run(&["run", "SHOW data_directory", "--csv"]).well();
    let data = data.out.lines().nth(1).unwrap().to_owned();
    let postmaster = std::fs::read_to_string(format!("{data}/postmaster.pid")).unwrap();
    let postmaster: u32 = postmaster.lines().next().unwrap().parse().unwrap();
    let children =
        std::process::Command::new("pgrep").args(["-P", &postmaster.to_string()]).output();
    let children = String::from_utf8(children.unwrap().stdout).unwrap();
    let all: Vec<u32> =
        children.lines().map(|pid| pid.parse().unwrap()).chain([postmaster]).collect();
    for pid in &all {
        signal("-STOP", *pid);
    }
    let screen = terminal.shows(&["unreachable for "]);
    assert!(!screen.contains("connections "), "old figures: {screen}");
    for pid in &all {
        signal("-CONT", *pid);
    }
    terminal.shows(&["no statement is running"]);
    terminal.press("q");
    assert_eq!(terminal.ends(), 0);
}
