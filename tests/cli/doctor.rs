use sea_orm::ConnectionTrait as _;

use crate::it::{TestDatabase, major};
use crate::support::Project;

#[tokio::test]
async fn what_is_well_is_said_and_ends_with_0() {
    let database = TestDatabase::new().await;
    let entry = database.entry("it", &[]);
    let project = Project::new(&format!("databases:\n{entry}"));
    let mut command = project.command(&["doctor"]);
    let output = command.env("INFRA_DATABASES_IT_POOL_SIZE", "4").output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{out}");
    for part in ["ok", "etc/infra.yaml", "INFRA_DATABASES_IT_POOL_SIZE = 4", "PostgreSQL "] {
        assert!(out.contains(part), "no {part} in {out}");
    }
    // The run's own login.
    assert!(out.contains("its user is a superuser"), "{out}");
}

#[tokio::test]
async fn what_is_wrong_is_said_with_what_to_do_and_ends_with_1() {
    let database = TestDatabase::new().await;
    let wanting =
        database.entry("wanting", &["extensions: [pg_trgm]", "pool_size: 400", "max_overflow: 0"]);
    let down = "  down:\n    url: postgres://a:b@127.0.0.1:1/c\n";
    let project = Project::new(&format!("databases:\n{wanting}{down}"));
    let done = project.run(&["doctor"]).failed(1, &[]);
    done.says(&[
        "lacks the extension pg_trgm; run `wharf db create wanting`",
        "may open 400 connections, but the server allows",
        "lower pool_size",
        "Connection refused",
    ]);
    let json = project.run(&["doctor", "--json"]).failed(1, &[]).json();
    let wrong = json.as_array().unwrap().iter().filter(|it| it["verdict"] == "wrong").count();
    assert_eq!(wrong, 3, "{json}");
    project.run(&["db", "create", "wanting"]).well();
    let done = project.run(&["doctor"]).failed(1, &[]);
    assert!(!done.out.contains("pg_trgm"), "{done:#?}");
}

#[tokio::test]
async fn migrations_that_lie_in_the_project_and_are_not_applied_are_named() {
    let database = TestDatabase::shop().await;
    let entry = database.entry("it", &[]);
    let project = Project::new(&format!("databases:\n{entry}"));
    project.run(&["doctor"]).well().says(&["applied"]);
    let src = project.path().join("migration/src");
    std::fs::create_dir_all(&src).unwrap();
    std::fs::write(src.join("lib.rs"), "").unwrap();
    std::fs::write(src.join("../Cargo.toml"), "").unwrap();
    std::fs::write(src.join("m20990101_000001_of_tomorrow.rs"), "").unwrap();
    let done = project.run(&["doctor"]).well();
    done.says(&[
        "1 in migration/src pending",
        "m20990101_000001_of_tomorrow; run `wharf migrate up it`",
    ]);
    // A module a database.
    std::fs::create_dir(src.join("it")).unwrap();
    project.run(&["doctor"]).well().says(&["2 migrations applied\n"]);
    std::fs::write(src.join("it/m20990101_000002_of_its_own.rs"), "").unwrap();
    project.run(&["doctor"]).well().says(&["m20990101_000002_of_its_own"]);
}

#[test]
fn a_file_that_is_wrong_is_the_first_thing_it_says() {
    let project = Project::new("databases:\n  it:\n    pool_siz: 3\n");
    project.run(&["doctor"]).failed(1, &[]).says(&["wrong", "file", "pool_siz"]);
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_told_where_a_server_is_asked_for() {
    let major = major();
    let project = Project::new(&format!(
        "pgserver: {{version: {major}, name: wharf-cli-doctor, runtime: native}}\n"
    ));
    let mut command = project.command(&["doctor", "--json"]);
    let output = command.env("DOCKER_HOST", "unix:///nowhere.sock").output().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let of = |about: &str| {
        let found = json.as_array().unwrap().iter().find(|it| it["about"] == about);
        found.unwrap_or_else(|| panic!("nothing of {about} in {json}"))
    };
    // The installed one serves the file: an engine is not needed.
    assert_eq!(of("engine")["verdict"], "ok");
    assert!(of("engine")["said"].as_str().unwrap().contains("installed PostgreSQL"), "{json}");
    let programs = of("programs")["said"].as_str().unwrap();
    assert!(programs.contains(&format!("PostgreSQL {major}")), "{json}");
    assert!(of("server")["said"].as_str().unwrap().contains("run `wharf server up`"), "{json}");
}

#[test]
fn a_version_that_nothing_here_can_run_is_told_with_what_would() {
    let project = Project::new("pgserver: {version: 99, name: wharf-cli-doctor-99}\n");
    let mut command = project.command(&["doctor"]);
    let output = command.env("DOCKER_HOST", "unix:///nowhere.sock").output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert!(out.contains("/nowhere.sock"), "{out}");
    assert!(out.contains("does not satisfy the requested version 99"), "{out}");
    assert!(out.contains("start a Docker engine, or install PostgreSQL 99"), "{out}");
}

#[tokio::test]
async fn an_extension_is_recommended_only_where_the_server_has_it() {
    let database = TestDatabase::new().await;
    let wanting = database.entry("wanting", &["extensions: [no_such_extension]"]);
    let project = Project::new(&format!("databases:\n{wanting}"));
    let done = project.run(&["doctor"]).failed(1, &[]);
    done.says(&[
        "lacks the extension no_such_extension; this server does not have it; install its",
    ]);
    assert!(!done.out.contains("wharf db create"), "{done:#?}");
}

/// On an imitation of Citus: its functions and catalogs.
#[tokio::test]
async fn the_nodes_of_citus_are_counted_and_those_that_are_inactive_named() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    pg.execute_unprepared(include_str!("../it/citus.sql")).await.unwrap();
    pg.execute_unprepared(
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE c (id int);
         SELECT create_distributed_table('a', 'id'), create_distributed_table('b', 'id'), create_reference_table('c')",
    )
    .await
    .unwrap();
    let entry = database.entry("it", &[]);
    let project = Project::new(&format!("databases:\n{entry}"));
    let done = project.run(&["doctor"]).well();
    done.says(&["Citus 12.1.4: 3 nodes, 2 distributed tables, 1 reference table\n"]);
    let down = "UPDATE pg_dist_node SET isactive = false WHERE nodename LIKE 'worker%'";
    pg.execute_unprepared(down).await.unwrap();
    let json = project.run(&["doctor", "--json"]).well().json();
    let of_citus = |it: &&serde_json::Value| it["said"].as_str().unwrap().starts_with("Citus");
    let found: Vec<_> = json.as_array().unwrap().iter().filter(of_citus).collect();
    assert_eq!(found.len(), 1, "{json}");
    assert_eq!(found[0]["verdict"], "warning", "{json}");
    let said = found[0]["said"].as_str().unwrap();
    assert!(said.contains("; inactive: worker1:5432, worker2:5432; start them"), "{json}");
    // Without Citus there is nothing to say.
    let plain = TestDatabase::new().await;
    let project = Project::new(&format!("databases:\n{}", plain.entry("it", &[])));
    assert!(!project.run(&["doctor"]).well().out.contains("Citus"));
}
