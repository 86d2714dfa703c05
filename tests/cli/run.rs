//! `wharf run`: one statement, or a file of them, printed for people and for programs.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use sea_orm::ConnectionTrait as _;

use crate::it::{TestDatabase, number};
use crate::support::{Project, size};

fn project(database: &TestDatabase) -> Project {
    Project::new(&format!("databases:\n{}", database.entry("it", &[])))
}

#[tokio::test]
async fn one_statement_is_run_and_printed_as_a_table_as_json_or_as_csv() {
    let database = TestDatabase::new().await;
    let project = project(&database);
    let sql = "SELECT 1 AS n, 1.50::numeric AS exact, 'a,\"b' AS text, NULL AS none, true AS yes, \
               ARRAY[1,2] AS list, '{\"k\": [1]}'::jsonb AS json, '2 days'::interval AS span, \
               int4range(1,3) AS range, '\\x01ff'::bytea AS bytes";
    let table = project.run(&["run", "it", sql]).well();
    let lines: Vec<&str> = table.out.lines().collect();
    assert_eq!(lines.len(), 2, "{table:#?}");
    assert!(lines[0].starts_with("n  exact  text  none  yes  list"), "{table:#?}");
    table.says(&["1   1.50  a,\"b  NULL  t    {1,2}  {\"k\": [1]}  2 days  [1,3)  \\x01ff"]);
    assert_eq!(table.err, "(1 row)\n");

    let json = project.run(&["run", "it", sql, "--json"]).well();
    assert!(json.out.contains("\"exact\":1.50,"), "{json:#?}");
    let json = json.json();
    assert_eq!(json[0]["n"], 1);
    assert_eq!(json[0]["none"], serde_json::Value::Null);
    assert_eq!(json[0]["json"]["k"][0], 1);
    assert_eq!(json[0]["list"], serde_json::json!([1, 2]));
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
    let project = project(&database);
    let create = "CREATE TABLE t AS SELECT 1 AS n";
    let refused = project.run(&["run", "it", create]);
    refused.failed(1, &["cannot execute CREATE TABLE AS in a read-only transaction", "--write"]);
    let both = "COMMIT; CREATE TABLE t (n int)";
    project.run(&["run", "it", both]).failed(1, &["COMMIT", "wharf psql"]);
    let hidden = "SELECT 1; CREATE TABLE t (n int)";
    project.run(&["run", "it", hidden]).failed(1, &["multiple commands", "wharf run NAME -f FILE"]);
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
    let hint = ["VACUUM cannot run inside a transaction block", "HINT: ", "run [NAME] --write SQL"];
    project.run(&["run", "it", "VACUUM t"]).failed(1, &hint);
    let several = project.run_with(&["run", "it", "--write", "-"], "SELECT 1; VACUUM t;");
    several.failed(1, &hint);
    let count = project.run(&["run", "it", "SELECT count(*) FROM t", "--csv"]).well();
    assert_eq!(count.out, "count\n2\n");
}

#[tokio::test]
async fn a_table_ends_before_it_floods_the_terminal_and_says_so() {
    let database = TestDatabase::new().await;
    let project = project(&database);
    let sql = "SELECT generate_series(1, 5000) AS n";
    let table = project.run(&["run", "it", sql]).well();
    assert_eq!(table.out.lines().count(), 1001);
    assert!(table.err.contains("more than 1000 rows; use --limit 0"), "{}", table.err);
    let rows = |args: &[&str]| project.run(args).well().out.lines().count();
    assert_eq!(rows(&["run", "it", sql, "--limit", "0"]), 5001);
    assert_eq!(rows(&["run", "it", sql, "--csv"]), 5001);
    assert_eq!(rows(&["run", "it", sql, "--csv", "--limit", "10"]), 11);
}

#[tokio::test]
async fn the_name_may_be_left_out_where_there_is_one_database() {
    let database = TestDatabase::new().await;
    let one = project(&database);
    assert_eq!(one.run(&["run", "SELECT 1 AS n", "--csv"]).well().out, "n\n1\n");
    let two = Project::new(&format!(
        "databases:\n{}{}",
        database.entry("it", &[]),
        database.entry("other", &[])
    ));
    two.run(&["run", "SELECT 1"]).failed(2, &["names 2 databases", "it, other"]);
    two.run(&["run"]).failed(2, &["no statement was given"]);
}

#[tokio::test]
async fn null_is_apart_from_empty_text_and_columns_of_one_name_are_kept() {
    let database = TestDatabase::new().await;
    let project = project(&database);
    let sql = "SELECT NULL AS a, '' AS a, 'NULL' AS b";
    assert_eq!(project.run(&["run", sql, "--csv"]).well().out, "a,a,b\n,\"\",NULL\n");
    let json = project.run(&["run", sql, "--json"]).well().json();
    assert_eq!(json, serde_json::json!([{"a": null, "a_2": "", "b": "NULL"}]));
    // On a terminal NULL is dim, and the text is not.
    for (sql, is_dim) in [(sql, true), ("SELECT 'NULL' AS b", false)] {
        for expanded in ["-x=off", "-x=on"] {
            let mut terminal = project.terminal_of(&["run", sql, expanded], 80, 24);
            terminal.shows(&["NULL"]);
            assert_eq!(terminal.ends(), 0);
            assert_eq!(terminal.has(vt100::Cell::dim), is_dim, "{sql} {expanded}");
        }
    }
    let none = project.run(&["run", "SELECT 1 WHERE false", "--json"]).well();
    assert_eq!(none.json(), serde_json::json!([]));
}

#[tokio::test]
async fn an_error_shows_its_place_its_detail_and_its_hint() {
    let database = TestDatabase::new().await;
    let project = project(&database);
    let sql = "SELECT 1,\n  nonesuch FROM pg_class";
    let failed =
        project.run(&["run", sql]).failed(1, &["(SQLSTATE 42703)", "LINE 2:   nonesuch FROM"]);
    let lines: Vec<&str> = failed.err.lines().collect();
    let (line, caret) = (lines[1], lines[2]);
    assert_eq!(line.find("nonesuch"), caret.find('^'), "{failed:#?}");
    project.run(&["run", "SELECT lenght('a')"]).failed(1, &["HINT: No function matches"]);
    let json = project.run(&["run", sql, "--json"]).failed(1, &[]);
    let error = json.json_error();
    assert_eq!((&error["sqlstate"], &error["line"]), (&"42703".into(), &2.into()), "{error}");
    assert_eq!(error["position"], 13);
    let raised = "DO $$ BEGIN RAISE NOTICE 'so far'; RAISE EXCEPTION 'no' USING DETAIL = 'why', HINT = 'how'; \
                  END $$";
    let said = ["NOTICE: so far", "DETAIL: why", "HINT: how", "CONTEXT: "];
    project.run(&["run", raised, "--write"]).failed(1, &said);
}

#[tokio::test]
async fn a_file_runs_whole_or_not_at_all_and_says_which_line_failed() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let project = project(&database);
    let file = |text: &str| std::fs::write(project.path().join("x.sql"), text).unwrap();
    file("-- two\nCREATE TABLE t (n int);\nINSERT INTO t VALUES (1), (2);\n\nSELECT n FROM t;\n");
    project.run(&["run", "it", "-f", "x.sql"]).failed(1, &["read-only", "LINE 2", "--write"]);
    let done = project.run(&["run", "it", "-f", "x.sql", "--write"]).well();
    done.says(&["done\n", "done: 2 rows\n", "n\n1\n2\n"]);
    file("INSERT INTO t VALUES (3);\nSELECT\n  nonesuch;\n");
    project.run(&["run", "-f", "x.sql", "--write"]).failed(1, &["LINE 3:   nonesuch"]);
    assert_eq!(number(&pg, "SELECT count(*) FROM t").await, 2);
    file("INSERT INTO t VALUES (3); COMMIT; SELECT 1");
    project.run(&["run", "-f", "x.sql", "--write"]).failed(1, &["COMMIT is not allowed", "psql"]);
    assert_eq!(number(&pg, "SELECT count(*) FROM t").await, 2);
    project.run(&["run", "-f", "missing.sql"]).failed(1, &["missing.sql"]);
    let piped = project.run_with(&["run", "-"], "SELECT 1 AS a; SELECT 2 AS b;").well();
    piped.says(&["a\n1\n", "b\n2\n"]);
}

#[tokio::test]
async fn a_row_that_is_wider_than_the_terminal_has_a_line_per_column() {
    let database = TestDatabase::new().await;
    let project = project(&database);
    let sql = "SELECT 7 AS id, repeat('x', 50) AS text, 12.5 AS price, NULL AS none";
    for (columns, is_record) in [(120, false), (80, false), (40, true)] {
        let mut terminal = project.terminal_of(&["run", sql], columns, 24);
        let text = terminal.shows(&["price", "12.5"]);
        assert_eq!(terminal.ends(), 0);
        assert_eq!(text.contains("-[ row 1 ]"), is_record, "{columns}: {text}");
        assert!(text.lines().all(|line| line.chars().count() <= usize::from(columns)), "{text}");
        // Nothing is left out.
        assert_eq!(text.matches('x').count(), 51, "{columns}: {text}");
    }
    let is_record = |args: &[&str], columns: &str| {
        let done = project.command(args).env("COLUMNS", columns).output().unwrap();
        String::from_utf8(done.stdout).unwrap().contains("-[ row 1 ]")
    };
    assert!(is_record(&["run", sql], "40"));
    assert!(!is_record(&["run", sql], "120"));
    assert!(!is_record(&["run", sql, "-x=off"], "40"));
    let narrow = [("COLUMNS", "40")];
    let mut terminal = project.terminal_with(&["run", sql], size(120, 24), &narrow);
    terminal.shows(&["-[ row 1 ]", "12.5"]);
    assert_eq!(terminal.ends(), 0);
    let on = project.run(&["run", "SELECT 1 AS a", "-x=on"]).well();
    on.says(&["-[ row 1 ]", "a  1\n"]);
    let numbers =
        project.run(&["run", "SELECT * FROM (VALUES (1, 'a'), (1000, 'b')) AS v (n, t)"]).well();
    numbers.says(&["   n  t\n   1  a\n1000  b\n"]);
}

#[tokio::test]
async fn rows_come_at_once_and_a_reader_that_goes_away_ends_the_statement() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let project = project(&database);
    let sql = "SELECT generate_series(1, 1000000000) AS n /* endless */";
    let mut child = project.spawn(&["run", sql, "--csv"], Stdio::null());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "n");
    assert_eq!(lines.next().unwrap().unwrap(), "1");
    drop(lines);
    // As with `| head`: no error, and nothing goes on.
    assert!(child.wait().unwrap().success());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
    let running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%/* endless%' AND pid <> \
                   pg_backend_pid() AND state = 'active'";
    crate::it::until("it is canceled", async || number(&pg, running).await == 0).await;
}

/// The most memory that the program has had, in KiB.
#[cfg(target_os = "linux")]
fn peak(project: &Project, rows: u32) -> u64 {
    let sql = format!("SELECT n, repeat('x', 100) AS text FROM generate_series(1, {rows}) n");
    let mut child = project.spawn(&["run", &sql, "--csv", "--limit", "0"], Stdio::null());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut peak = 0;
    let mut count = 0;
    for line in lines.by_ref() {
        line.unwrap();
        count += 1;
        if count % 100_000 == 0 || count == 1000 {
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id()));
            let status = status.unwrap_or_default();
            let high = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let high = high.and_then(|text| text.trim().strip_suffix(" kB")?.parse().ok());
            peak = peak.max(high.unwrap_or(0));
        }
    }
    assert_eq!(count, rows + 1);
    assert!(child.wait().unwrap().success());
    peak
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_million_rows_take_the_memory_of_some_thousand() {
    let database = TestDatabase::new().await;
    let project = project(&database);
    let (few, many) = (peak(&project, 5_000), peak(&project, 1_000_000));
    assert!(few > 0 && many < few + 16 * 1024, "{few} KiB, then {many} KiB");
}

#[tokio::test]
async fn what_writes_runs_to_its_end_whoever_reads_its_rows() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let project = project(&database);
    project.run(&["run", "CREATE TABLE t (n int)", "--write"]).well();
    let many = "INSERT INTO t SELECT generate_series(1, 300000) RETURNING n";
    let done = project.run(&["run", many, "--write"]).well();
    assert!(done.err.contains("more than 1000 rows"), "{}", done.err);
    assert_eq!(number(&pg, "SELECT count(*) FROM t").await, 300_000);
    // Nobody reads, as with `| head`.
    let mut child = project.spawn(&["run", many, "--write", "--csv"], Stdio::null());
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(number(&pg, "SELECT count(*) FROM t").await, 600_000);
    // Nor the end of a statement in a file, in a table.
    std::fs::write(
        project.path().join("x.sql"),
        "DELETE FROM t; SELECT 1; INSERT INTO t VALUES (7)",
    )
    .unwrap();
    let mut child = project.spawn(&["run", "-f", "x.sql", "--write"], Stdio::null());
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(number(&pg, "SELECT count(*) FROM t").await, 1);
    // A failure is one, whoever reads.
    let mut child = project.spawn(&["run", "DROP TABLE nonesuch", "--write"], Stdio::null());
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(1));
    for keyword in ["COMMIT", "BEGIN"] {
        let refused = project.run(&["run", keyword, "--write"]);
        refused.failed(1, &[&format!("{keyword} is not allowed here"), "wharf psql"]);
    }
}

#[tokio::test]
async fn a_failure_at_commit_and_in_the_middle_of_rows_is_json_too() {
    let database = TestDatabase::new().await;
    let project = project(&database);
    let file = |text: &str| std::fs::write(project.path().join("x.sql"), text).unwrap();
    file(
        "CREATE TABLE t (n int UNIQUE DEFERRABLE INITIALLY DEFERRED);\nINSERT INTO t VALUES (1), (1);",
    );
    let failed = project.run(&["run", "-f", "x.sql", "--write", "--json"]).failed(1, &[]);
    let error = failed.json_error();
    assert_eq!(error["sqlstate"], "23505", "{error}");
    assert!(error["detail"].as_str().unwrap().contains("(n)=(1)"), "{error}");
    let late = "SELECT 1 / (3 - n) AS n FROM generate_series(1, 5) n";
    let failed = project.run(&["run", late, "--json"]).failed(1, &[]);
    assert_eq!(failed.json(), serde_json::json!([{"n": 0}, {"n": 1}]));
    // A file of one statement knows its lines, too.
    file("\u{feff}\n\n\nSELECT nope;");
    project.run(&["run", "-f", "x.sql"]).failed(1, &["LINE 4: SELECT nope"]);
    // What a terminal would obey is shown and not sent.
    let hostile = project.run(&["run", "SELECT E'a\\x1b[31mb' AS x"]).well();
    hostile.says(&["a\\x1B[31mb"]);
}

/// A terminal obeys what a row, a name or an error has in it, unless it is shown.
#[tokio::test]
async fn what_comes_from_a_database_is_shown_and_not_obeyed() {
    let database = TestDatabase::new().await;
    let project = Project::new(&format!("databases:\n{}", database.entry("it", &[])));
    let hostile = |text: &str| {
        text.chars().any(|c| c.is_control() && c != '\n' || ('\u{202a}'..='\u{202e}').contains(&c))
    };
    let value = "E'\\x1b]0;t\\x07 \\u009b31m\\rx' || U&'\\202e'";
    let select = format!("SELECT {value} AS \"name\u{1b}[31m\u{202e}\n\"");
    for expanded in ["-x=off", "-x=on"] {
        let shown = project.run(&["run", expanded, &select]).well();
        assert!(!hostile(&shown.out), "{:?}", shown.out);
        shown.says(&["\\x1B]0;t\\x07 \\x9B31m\\x0Dx\\u{202E}", "name\\x1B[31m\\u{202E}\\x0A"]);
    }
    let raise = |level: &str| {
        format!("DO $$ BEGIN RAISE {level} USING MESSAGE = {value}, HINT = {value}; END $$")
    };
    let error = project.run(&["run", &raise("EXCEPTION")]).failed(1, &["\\x1B]0;t", "HINT: \\x1B"]);
    assert!(!hostile(&error.err), "{:?}", error.err);
    let notice = project.run(&["run", &raise("NOTICE")]).well();
    assert!(!hostile(&notice.err) && notice.err.contains("NOTICE: \\x1B]0;t"), "{:?}", notice.err);
    // What programs read is exact.
    let json = project.run(&["run", "--json", &select]).well().json();
    let row = json[0].as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned();
    assert_eq!(row, "\u{1b}]0;t\u{7} \u{9b}31m\rx\u{202e}");
    let csv = project.run(&["run", "--csv", &select]).well();
    assert!(csv.out.contains(&row), "{:?}", csv.out);
    let failed = project.run(&["run", "--json", &raise("EXCEPTION")]).failed(1, &[]).json_error();
    assert_eq!(failed["error"], row.as_str());
    // A statement that runs, and a database's name.
    let pg = database.pg().await;
    let name = format!("{}\u{1b}[2J\u{202e}", database.name);
    pg.execute_unprepared(&format!("CREATE DATABASE \"{name}\"")).await.unwrap();
    let listed = project.run(&["db", "list"]);
    let held = pg.session().await.unwrap();
    held.execute_unprepared("SELECT 1 AS \"\u{1b}[2Jin a session\u{202e}\"").await.unwrap();
    let top = project.run(&["top", "--once"]);
    held.rollback().await.unwrap();
    pg.execute_unprepared(&format!("DROP DATABASE \"{name}\"")).await.unwrap();
    let shown = format!("{}\\x1B[2J\\u{{202E}}", database.name);
    assert!(!hostile(&listed.well().says(&[&shown]).out));
    assert!(!hostile(&top.well().says(&["\\x1B[2Jin a session\\u{202E}"]).out));
}

#[tokio::test]
async fn without_write_nothing_acts_outside_of_its_transaction() {
    let database = TestDatabase::new().await;
    let project = Project::new(&format!("databases:\n{}", database.entry("it", &[])));
    let file = tempfile::tempdir().unwrap().path().join("written");
    let program = format!("COPY (SELECT 1) TO PROGRAM 'cat > {}'", file.display());
    for (sql, what) in [
        (program.as_str(), "COPY TO PROGRAM acts outside of its transaction"),
        ("SELECT pg_terminate_backend(1)", "pg_terminate_backend() acts"),
        ("SELECT 1; COPY (SELECT 1) TO '/tmp/never'", "COPY TO a file acts"),
    ] {
        project.run(&["run", sql]).failed(1, &[what, "allow it with --write"]);
    }
    let script = project.path().join("s.sql");
    std::fs::write(&script, format!("SELECT 1;\n{program};\n")).unwrap();
    project.run(&["run", "-f", script.to_str().unwrap()]).failed(1, &["COPY TO PROGRAM"]);
    assert!(!file.exists());
    project.run(&["run", "COPY (SELECT 7) TO STDOUT"]);
    project.run(&["run", "--write", "SELECT pg_terminate_backend(0)"]).well();
}
