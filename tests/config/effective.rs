//! The effective configuration, masked, with the source of each value.

use wharf::config::Origin;

use crate::{load_files, try_load};

#[test]
fn each_value_tells_where_it_came_from() {
    let yaml = "databases:\n  main:\n    database: shop\n    user: app\n    pool_timeout: 5\n";
    let effective = try_load(yaml, &[("INFRA_DATABASES_MAIN_POOL_SIZE", "7")]).unwrap().effective();
    let at = |path: &str| {
        let setting = effective.get(path).unwrap_or_else(|| panic!("{path}"));
        (setting.value.clone(), setting.source.clone())
    };
    let line = |line| Origin::File { path: "infra.yaml".into(), line };
    assert_eq!(at("databases.main.database"), ("shop".to_owned(), line(3)));
    assert_eq!(at("databases.main.pool_timeout"), ("5s".to_owned(), line(5)));
    let variable = "INFRA_DATABASES_MAIN_POOL_SIZE".to_owned();
    assert_eq!(at("databases.main.pool_size"), ("7".to_owned(), Origin::Override { variable }));
    assert_eq!(at("databases.main.max_overflow"), ("10".to_owned(), Origin::Default));
    assert_eq!(at("databases.main.schema"), ("-".to_owned(), Origin::Default));
}

#[test]
fn values_of_an_include_name_the_included_file() {
    let files = [
        ("infra.yaml", "dbs: !include etc/d.yaml"),
        ("etc/d.yaml", "main:\n  database: shop\n  user: app\n"),
    ];
    let effective = load_files(&files).unwrap().effective();
    let source = effective.get("dbs.main.user").unwrap().source.to_string();
    assert!(source.ends_with("etc/d.yaml:3"), "{source}");
}

#[test]
fn a_url_is_shown_masked_and_by_parts() {
    let yaml =
        "databases:\n  main:\n    url: postgres://app:hunter2@db:6000/shop?sslmode=require\n";
    let effective = try_load(yaml, &[]).unwrap().effective();
    let value =
        |path: &str| effective.get(&format!("databases.main.{path}")).unwrap().value.clone();
    assert_eq!(value("url"), "postgresql://app:***@db:6000/shop");
    assert_eq!(
        (value("host"), value("port"), value("password")),
        ("db".into(), "6000".into(), "***".into())
    );
    assert_eq!(value("ssl_mode"), "require");
    assert_eq!(
        effective.get("databases.main.ssl_mode").unwrap().source.to_string(),
        "infra.yaml:3"
    );
}

#[test]
fn several_hosts_are_shown_with_their_ports() {
    let yaml = "databases:\n  main:\n    url: postgres://app:hunter2@pg1,[::1]:6000/shop\n";
    let effective = try_load(yaml, &[]).unwrap().effective();
    let value =
        |path: &str| effective.get(&format!("databases.main.{path}")).map(|it| it.value.clone());
    assert_eq!(value("url").unwrap(), "postgresql://app:***@pg1:5432,[::1]:6000/shop");
    assert_eq!(value("hosts").unwrap(), "[pg1:5432, [::1]:6000]");
    assert!(value("host").is_none() && value("port").is_none());
}

#[test]
fn an_entry_on_the_files_server_has_its_login_from_there() {
    let yaml = "pgserver:\n  version: 17\n  user: boss\n  pass: x\ndatabases:\n  main: {pgserver: true, database: shop}\n";
    let effective = try_load(yaml, &[]).unwrap().effective();
    assert_eq!(effective.get("databases.main.user").unwrap().source.to_string(), "infra.yaml:3");
    assert_eq!(
        effective.get("databases.main.password").unwrap().source.to_string(),
        "infra.yaml:4"
    );
    assert_eq!(effective.get("databases.main.pgserver").unwrap().value, "true");
}

#[test]
fn the_servers_values_are_shown() {
    let yaml = "pgserver: {version: 17, pass: hunter2, postgres_conf: {fsync: off, primary_conninfo: password=hunter2}}";
    let effective = try_load(yaml, &[]).unwrap().effective();
    let value = |path: &str| effective.get(&format!("pgserver.{path}")).unwrap().value.clone();
    assert_eq!(
        (value("version"), value("pass"), value("runtime")),
        ("17".into(), "***".into(), "auto".into())
    );
    assert_eq!(
        (value("postgres_conf.fsync"), value("postgres_conf.primary_conninfo")),
        ("off".into(), "***".into())
    );
    assert_eq!(value("port"), "(chosen at start)");
    assert_eq!((value("replica.enabled"), value("replica.count")), ("false".into(), "1".into()));
}

#[test]
fn it_displays_as_an_aligned_table() {
    let table = try_load(&crate::entry("pool_size: 12345, max_overflow: 0"), &[]);
    let table = table.map(|config| config.effective().to_string()).unwrap_or_default();
    assert!(table.is_empty(), "too many connections are refused");
    let table = crate::load(&crate::entry("")).effective().to_string();
    let column = |line: &str| line.find("default").or(line.find("infra.yaml"));
    let columns: std::collections::BTreeSet<_> = table.lines().map(column).collect();
    assert_eq!(columns.len(), 1, "{table}");
}

#[test]
fn it_covers_wharfs_sections_only() {
    let effective = try_load("databases: {}\nlogging: {level: info}\n", &[]).unwrap().effective();
    assert!(effective.settings().is_empty());
}
