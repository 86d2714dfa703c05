use std::process::Stdio;

use crate::support::Project;

const FILE: &str = "databases:\n  shop:\n    url: postgres://app:s3cret@db.example.com/shop\n    \
                    pool_size: 7\n";

#[test]
fn without_a_file_it_says_where_it_looked() {
    let project = Project::new("");
    std::fs::remove_file(project.path().join("etc/infra.yaml")).unwrap();
    let done = project.run(&["config"]).failed(3, &["etc/infra.yaml", "--file or WHARF_FILE"]);
    assert_eq!(done.out, "");
    project.run(&["--file", "other.yaml", "ping"]).failed(3, &["other.yaml does not exist"]);
}

#[test]
fn the_nearest_file_upward_is_taken_and_shown_as_a_person_would_write_it() {
    let project = Project::new(FILE);
    let below = project.path().join("src/deep");
    std::fs::create_dir_all(&below).unwrap();
    let output = project.command(&["config", "check"]).current_dir(below).output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(out, "../../etc/infra.yaml is valid: 1 database\n");
}

#[test]
fn a_wrong_file_is_refused_with_the_line_and_the_nearest_key() {
    let project = Project::new("databases:\n  shop:\n    url: postgres://a@b/c\n    pool_siz: 7\n");
    for command in [&["config", "check"][..], &["ping"], &["run", "shop", "select 1"]] {
        project.run(command).failed(3, &["etc/infra.yaml:4", "pool_size"]);
    }
}

#[test]
fn every_value_is_shown_with_its_source_and_no_secret() {
    let project = Project::new(FILE);
    let mut command = project.command(&["config"]);
    command.env("INFRA_DATABASES_SHOP_MAX_OVERFLOW", "3");
    let out = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let line = |path: &str| {
        let line = out.lines().find(|line| line.starts_with(path)).unwrap_or_default();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        line("databases.shop.pool_size "),
        ["databases.shop.pool_size", "7", "etc/infra.yaml:4"]
    );
    let overridden = "INFRA_DATABASES_SHOP_MAX_OVERFLOW";
    assert_eq!(line("databases.shop.max_overflow")[1..], ["3", overridden]);
    assert_eq!(line("databases.shop.pool_timeout")[1..], ["30s", "default"]);
    assert!(out.contains("***") && !out.contains("s3cret"), "{out}");
    let json = project.run(&["config", "show", "databases.shop.pool_size", "--json"]).well().json();
    assert_eq!(json.as_array().unwrap().len(), 1);
    assert_eq!(json[0]["value"], "7");
    project.run(&["config", "show", "databases.shp"]).failed(1, &["the file has no setting"]);
}

#[test]
fn who_stops_reading_ends_it_quietly() {
    let project = Project::new(FILE);
    let mut child = project.spawn(&["config"], Stdio::null());
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    assert!(output.status.success());
}

#[test]
fn a_wrong_command_line_is_refused_with_2() {
    let project = Project::new(FILE);
    project.run(&["pong"]).failed(2, &["ping"]);
    project.run(&["server", "wait", "--timeout", "soon"]).failed(2, &["not a number of seconds"]);
    project
        .run(&["run", "shop", "select 1", "--csv", "--json"])
        .failed(2, &["cannot be used with"]);
}
