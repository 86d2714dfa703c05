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
async fn one_statement_is_run_and_printed_as_a_table_as_json_or_as_csv() {
    let database = TestDatabase::new().await;
    let project = project(&database, "");
    let sql = "SELECT 1 AS n, 1.50::numeric AS exact, 'a,\"b' AS text, NULL AS none, true AS yes, \
               ARRAY[1,2] AS list, '{\"k\": [1]}'::jsonb AS json, '2 days'::interval AS span, \
               int4range(1,3) AS range, '\\x01ff'::bytea AS bytes";
    let table = project.run(&["run", "it", sql]).well();
    let lines: Vec<&str> = table.out.lines().collect();
    assert_eq!(lines.len(), 2, "{table:#?}");
    assert!(lines[0].starts_with("n  exact  text  none  yes  list"), "{table:#?}");
    table.says(&["1  1.50   a,\"b  NULL  t    {1,2}  {\"k\": [1]}  2 days  [1,3)  \\x01ff"]);
    assert_eq!(table.err, "(1 row)\n");

    let json = project.run(&["run", "it", sql, "--json"]).well();
    assert!(json.out.contains("\"exact\": 1.50,"), "{json:#?}");
    let json = json.json();
    assert_eq!(json[0]["n"], 1);
    assert_eq!(json[0]["none"], serde_json::Value::Null);
    assert_eq!(json[0]["json"]["k"][0], 1);
    assert_eq!(json[0]["span"], "2 days");

    let csv = project.run(&["run", "it", sql, "--csv"]).well();
    let mut reader = csv::Reader::from_reader(csv.out.as_bytes());
    let row = reader.records().next().unwrap().unwrap();
    assert_eq!(&row[2], "a,\"b");
    assert_eq!(&row[3], "");

    let input = project.run_with(&["run", "it", "-", "--csv"], "SELECT 'from\nstdin' AS x");
    assert_eq!(input.well().out, "x\n\"from\nstdin\"\n");
}

#[tokio::test]
async fn it_only_reads_unless_told_to_write_and_cannot_be_talked_out_of_that() {
    let database = TestDatabase::new().await;
    let project = project(&database, "");
    let create = "CREATE TABLE t AS SELECT 1 AS n";
    let refused = project.run(&["run", "it", create]);
    refused.failed(1, &["cannot execute CREATE TABLE AS in a read-only transaction", "--write"]);
    let both = "COMMIT; CREATE TABLE t (n int)";
    project.run(&["run", "it", both]).failed(1, &["COMMIT", "wharf psql"]);
    let hidden = "SELECT 1; CREATE TABLE t (n int)";
    project
        .run(&["run", "it", hidden])
        .failed(1, &["multiple commands", "wharf psql NAME -f FILE"]);
    let setting = "SELECT set_config('transaction_read_only', 'off', false)";
    project.run(&["run", "it", setting]).failed(1, &["must be set before any query"]);
    project
        .run(&["run", "it", "SELECT * FROM t"])
        .failed(1, &["relation \"t\" does not exist", "42P01"]);
    project.run(&["run", "it", create, "--write"]).well().says(&["done: 1 row"]);
    let returning = "INSERT INTO t VALUES (2) RETURNING n";
    let json = project.run(&["run", "it", returning, "--write", "--json"]).well().json();
    assert_eq!(json[0]["n"], 2);
    // Outside of a transaction.
    project.run(&["run", "it", "VACUUM t", "--write"]).well();
    let count = project.run(&["run", "it", "SELECT count(*) FROM t", "--csv"]).well();
    assert_eq!(count.out, "count\n2\n");
}

#[tokio::test]
async fn a_table_ends_before_it_floods_the_terminal_and_says_so() {
    let database = TestDatabase::new().await;
    let project = project(&database, "");
    let sql = "SELECT generate_series(1, 5000) AS n";
    let table = project.run(&["run", "it", sql]).well();
    assert_eq!(table.out.lines().count(), 1001);
    assert!(table.err.contains("more than 1000 rows; --limit 0"), "{}", table.err);
    let rows = |args: &[&str]| project.run(args).well().out.lines().count();
    assert_eq!(rows(&["run", "it", sql, "--limit", "0"]), 5001);
    assert_eq!(rows(&["run", "it", sql, "--csv"]), 5001);
    assert_eq!(rows(&["run", "it", sql, "--csv", "--limit", "10"]), 11);
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
        .failed(5, &["permanently deletes database", &name, "--yes"]);
    assert_eq!(asked.out, "");
    project.run(&["ping"]).well();
    // On a terminal it asks, and takes only a yes.
    let mut terminal = project.terminal(&["db", "drop", "new"]);
    terminal.shows(&["permanently deletes", "Continue? [y/N]"]);
    terminal.press("n\r");
    assert_eq!(terminal.ends(), 5);
    project.run(&["ping"]).well();
    project.run(&["db", "drop", "new", "--yes"]).well().says(&["dropped database"]);
    project.run(&["db", "drop", "new", "--yes"]).well().says(&["does not exist"]);
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
