use crate::it::TestDatabase;
use crate::support::Project;

fn project(database: &TestDatabase, more: &str) -> Project {
    Project::new(&format!("databases:\n{}{more}", database.entry("it", &[])))
}

#[tokio::test]
async fn ping_tells_who_is_there_and_who_is_not() {
    let database = TestDatabase::new().await;
    let wrong = database.url_of("postgres", "wrong");
    let down = "  down:\n    url: postgres://a:b@127.0.0.1:1/c\n";
    let project = project(&database, &format!("{down}  wrong:\n    url: {wrong}\n"));
    project.run(&["ping", "it"]).well().says(&["it", "ok", " ms", "PostgreSQL "]);
    let all = project.run(&["ping"]).failed(4, &[]);
    all.says(&["Connection refused", "password authentication failed"]);
    let json = project.run(&["ping", "--json"]).failed(4, &[]).json();
    assert_eq!(json["it"]["ok"], true);
    assert_eq!(json["down"]["ok"], false);
    assert!(json["it"]["latency_ms"].as_f64().unwrap() > 0.0);
    project.run(&["ping", "itt"]).failed(3, &["itt", "it"]);
}

#[tokio::test]
async fn a_read_only_entry_is_never_written_by() {
    let database = TestDatabase::new().await;
    let entry = database.entry("reports", &["readonly: true"]);
    let project = Project::new(&format!("databases:\n{entry}"));
    let create = "CREATE TABLE t (n int)";
    project.run(&["run", "reports", create, "--write"]).failed(3, &["readonly: true"]);
    let psql = project.run(&["psql", "reports", "-c", create]);
    psql.failed(1, &["read-only transaction"]);
    // Nor dropped, made or restored over; whatever is confirmed.
    let (host, _) = crate::it::server_address().await;
    for command in ["drop", "create"] {
        let refused = project.run(&["db", command, "reports", "--yes", "--host", &host]);
        refused.failed(3, &["`reports` is `readonly: true`"]);
    }
    project.run(&["ping", "reports"]).well();
}

#[tokio::test]
async fn databases_are_made_listed_measured_and_dropped_after_a_question() {
    let database = TestDatabase::new().await;
    let (url, name) = (database.url(), format!("{}_new", database.name));
    let url = url.replace(&database.name, &name);
    let project =
        Project::new(&format!("databases:\n  new:\n    url: {url}\n    extensions: [pg_trgm]\n"));
    project.run(&["ping"]).failed(4, &[]).says(&["does not exist"]);
    project.run(&["db", "create", "new"]).well().says(&[&name, "created database", "with pg_trgm"]);
    project.run(&["db", "create", "new"]).well().says(&["exists already"]);
    let json = project.run(&["db", "list", "--json"]).well().json();
    let listed = json.as_array().unwrap().iter().find(|it| it["name"] == name.as_str()).unwrap();
    assert!(listed["size_bytes"].as_i64().unwrap() > 1_000_000);
    let sql = "CREATE TABLE big AS SELECT repeat('x', 1000) FROM generate_series(1, 1000)";
    project.run(&["run", "new", sql, "--write"]).well();
    project.run(&["db", "size", "new"]).well().says(&["public.big"]);
    let size = project.run(&["db", "size", "new", "--json"]).well().json();
    assert!(size["tables"][0]["size_bytes"].as_i64().unwrap() > 100_000, "{size}");
    let asked = project
        .run(&["db", "drop", "new"])
        .failed(5, &["permanently deletes database", &name, "--yes --host"]);
    assert_eq!(asked.out, "");
    // It is not the file's own server: a habitual yes does not do.
    let (host, _) = crate::it::server_address().await;
    let refused = project.run(&["db", "drop", "new", "--yes"]);
    refused.failed(5, &["is not on the file's own server", &format!("--yes --host {host}")]);
    let other = project.run(&["db", "drop", "new", "--yes", "--host", "elsewhere"]);
    other.failed(5, &["is not on the file's own server"]);
    project.run(&["db", "drop", "new", "--host", &host]).failed(2, &["--yes"]);
    // On a terminal it asks, and takes only the name.
    for typed in ["n\r", "y\r", "ne\r"] {
        let mut terminal = project.terminal(&["db", "drop", "new"]);
        terminal.shows(&["permanently deletes", "Type the name of the database to continue:"]);
        terminal.press(typed);
        assert_eq!(terminal.ends(), 5);
    }
    project.run(&["ping"]).well();
    let mut terminal = project.terminal(&["db", "drop", "new"]);
    terminal.shows(&["Type the name of the database to continue:"]);
    terminal.press(&format!("{name}\r"));
    assert_eq!(terminal.ends(), 0);
    project.run(&["db", "create", "new"]).well();
    let confirmed = ["db", "drop", "new", "--yes", "--host", &host];
    project.run(&confirmed).well().says(&["dropped database"]);
    project.run(&confirmed).well().says(&["does not exist"]);
}

#[tokio::test]
async fn psql_has_the_login_its_arguments_and_its_own_exit_code() {
    let database = TestDatabase::new().await;
    let project = project(&database, "");
    let psql = project.run(&["psql", "it", "-At", "-c", "SELECT current_database()"]).well();
    assert_eq!(psql.out.trim(), database.name);
    assert_eq!(project.run(&["psql", "it", "-c", "SELECT nonsense"]).code, 1);
    assert_eq!(
        project.run_with(&["psql", "it", "-v", "ON_ERROR_STOP=1"], "SELECT nonsense").code,
        3
    );
    // What `ps` shows of it.
    let shown = "\\! tr '\\0' ' ' < /proc/$PPID/cmdline";
    let shown = project.run(&["psql", "it", "-c", shown]).well();
    shown.says(&["psql"]);
    assert!(!shown.out.contains(":it@") && !shown.out.contains("postgres://"), "{shown:#?}");
    let output = project.command(&["psql", "it"]).env("PATH", "").output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert!(err.contains("psql is not on PATH; install"), "{err}");
}

#[tokio::test]
async fn colour_is_for_terminals_only() {
    let database = TestDatabase::new().await;
    let project = project(&database, "");
    for args in [&["ping"][..], &["doctor"], &["run", "it", "SELECT nonsense"]] {
        let done = project.run(args);
        assert!(!done.out.contains('\u{1b}') && !done.err.contains('\u{1b}'), "{done:#?}");
    }
}
