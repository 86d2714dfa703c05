//! `INFRA_<PATH>`.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use wharf::config::{Config, ConfigError};

use crate::{entry, main_of, says, try_load};

fn with(yaml: &str, env: &[(&str, &str)]) -> Config {
    try_load(yaml, env).unwrap_or_else(|error| panic!("{error}"))
}

fn mistake(yaml: &str, env: &[(&str, &str)]) -> String {
    try_load(yaml, env).expect_err("a refusal").to_string()
}

const PRODUCTION: &str =
    "databases: {production: {database: shop, user: app, pool_size: 3}}\npgserver: {version: 17}\n";

#[test]
fn a_value_of_the_file_is_replaced() {
    let config = with(PRODUCTION, &[("INFRA_DATABASES_PRODUCTION_POOL_SIZE", "7")]);
    assert_eq!(config.databases["production"].pool_size, 7);
}

#[test]
fn a_field_that_the_file_leaves_out_is_set() {
    let config = with(
        PRODUCTION,
        &[
            ("INFRA_PGSERVER_PORT", "5433"),
            ("INFRA_PGSERVER_REPLICA_PORT", "5434"),
            ("INFRA_PGSERVER_POSTGRES_CONF_MAX_CONNECTIONS", "9"),
            ("INFRA_DATABASES_PRODUCTION_READ_ROLE_USER", "reader"),
        ],
    );
    let server = config.pgserver.unwrap();
    assert_eq!((server.port, server.replica.port), (Some(5433), Some(5434)));
    assert_eq!(server.postgres_conf["max_connections"], "9");
    assert_eq!(config.databases["production"].read_role.as_ref().unwrap().user, "reader");
}

#[test]
fn underscores_match_hyphens_and_case_does_not_matter() {
    let yaml = "databases: {My-Shop_db: {database: shop, user: app}}";
    for variable in ["INFRA_DATABASES_MY_SHOP_DB_POOL_SIZE", "INFRA_databases_my_shop_db_pool_size"]
    {
        assert_eq!(with(yaml, &[(variable, "7")]).databases["My-Shop_db"].pool_size, 7);
    }
}

#[test]
fn the_prefix_is_configurable_and_has_a_case() {
    let load = |prefix: &str, variable: &str| {
        Config::loader("x.yaml")
            .text(entry(""))
            .env_prefix(prefix)
            .env([(variable.to_owned(), "7".to_owned())])
            .load()
    };
    assert_eq!(main_of(&load("APP", "APP_DATABASES_MAIN_POOL_SIZE").unwrap()).pool_size, 7);
    assert_eq!(main_of(&load("APP", "INFRA_DATABASES_MAIN_POOL_SIZE").unwrap()).pool_size, 5);
    assert_eq!(main_of(&load("APP", "app_DATABASES_MAIN_POOL_SIZE").unwrap()).pool_size, 5);
    assert!(matches!(load("", "X"), Err(ConfigError::EmptyPrefix)));
}

#[test]
fn values_have_the_type_of_their_field() {
    let config = with(
        &entry(""),
        &[
            ("INFRA_DATABASES_MAIN_READONLY", "TRUE"),
            ("INFRA_DATABASES_MAIN_EXTENSIONS", "[vector, pg_trgm]"),
            ("INFRA_DATABASES_MAIN_STATEMENT_TIMEOUT", "5min"),
            ("INFRA_DATABASES_MAIN_PASSWORD", "[no, list] # and no comment"),
            ("INFRA_DATABASES_MAIN_READ_ROLE", "{user: reader}"),
        ],
    );
    let main = main_of(&config);
    assert!(main.readonly);
    assert_eq!(main.extensions, ["vector", "pg_trgm"]);
    assert_eq!(main.statement_timeout, Some(Duration::from_secs(300)));
    assert_eq!(main.password.as_ref().unwrap().expose_secret(), "[no, list] # and no comment");
    assert_eq!(main.read_role.as_ref().unwrap().user, "reader");
}

#[test]
fn a_value_of_the_wrong_type_names_the_variable() {
    for (variable, text) in [
        ("INFRA_DATABASES_MAIN_POOL_SIZE", "many"),
        ("INFRA_DATABASES_MAIN_POOL_SIZE", ""),
        ("INFRA_DATABASES_MAIN_READONLY", "1"),
        ("INFRA_DATABASES_MAIN_EXTENSIONS", "vector"),
        ("INFRA_DATABASES_MAIN_EXTENSIONS", "[vector"),
        ("INFRA_DATABASES_MAIN_EXTENSIONS", "!include x.yaml"),
        ("INFRA_DATABASES_MAIN_READ_ROLE", ""),
        ("INFRA_DATABASES_MAIN_POOL_SIZE", "0"),
        ("INFRA_DATABASES_MAIN", "x"),
        ("INFRA_DATABASES_MAIN_URL", "postgres://a@b/c"),
    ] {
        says(&mistake(&entry(""), &[(variable, text)]), &[variable]);
    }
}

#[test]
fn an_override_that_matches_nothing_is_refused_with_the_nearest() {
    let error = mistake(PRODUCTION, &[("INFRA_DATABASES_PRODUCTION_POOL_SISE", "7")]);
    says(
        &error,
        &[
            "INFRA_DATABASES_PRODUCTION_POOL_SISE",
            "nothing in infra.yaml",
            "did you mean `INFRA_DATABASES_PRODUCTION_POOL_SIZE`?",
        ],
    );
    for variable in [
        "INFRA_X",
        "INFRA_",
        "INFRA_DATABASES_STAGING_POOL_SIZE",
        "INFRA_DATABASES_PRODUCTION_POOL_SIZE_X",
        "INFRA__PGSERVER",
    ] {
        assert!(
            matches!(
                try_load(PRODUCTION, &[(variable, "7")]),
                Err(ConfigError::OverrideUnmatched { .. })
            ),
            "{variable}"
        );
    }
    assert!(matches!(
        try_load(&entry(""), &[("INFRA_PGSERVER_PORT", "7")]),
        Err(ConfigError::OverrideUnmatched { .. })
    ));
}

#[test]
fn an_override_that_matches_twice_is_refused() {
    let error = mistake("databases: {}\nx: {a_b: 1, a-b: 2}\n", &[("INFRA_X_A_B", "3")]);
    says(&error, &["INFRA_X_A_B", "x.a-b or x.a_b"]);
    let error =
        mistake("databases: {}\nx: {a: {b_c: 1}, a_b: {c: 2}}\n", &[("INFRA_X_A_B_C", "3")]);
    says(&error, &["x.a.b_c or x.a_b.c"]);
}

#[test]
fn two_variables_for_one_value_are_refused() {
    let error = mistake(PRODUCTION, &[("INFRA_PGSERVER_PORT", "1"), ("INFRA_pgserver_port", "2")]);
    says(&error, &["INFRA_PGSERVER_PORT and INFRA_pgserver_port", "pgserver.port"]);
}

#[test]
fn variables_without_the_prefix_are_not_looked_at() {
    with(PRODUCTION, &[("INFRASTRUCTURE_X", "1"), ("PGSERVER_PORT", "x"), ("INFRA", "y")]);
}

#[test]
fn a_value_of_a_foreign_section_may_be_overridden() {
    let yaml = "vault: {shop-db: a}\ndatabases: {main: {database: s, user: u, password: '${vault.shop-db}'}}";
    let config = with(yaml, &[("INFRA_VAULT_SHOP_DB", "b")]);
    assert_eq!(main_of(&config).password.as_ref().unwrap().expose_secret(), "b");
}

#[test]
fn overrides_apply_before_references() {
    let yaml = "x: {name: a, other: b}\ndatabases: {main: {database: '${x.name}', user: u}}";
    assert_eq!(main_of(&with(yaml, &[("INFRA_X_NAME", "c")])).database, "c");
    assert_eq!(
        main_of(&with(yaml, &[("INFRA_DATABASES_MAIN_DATABASE", "${x.other}")])).database,
        "b"
    );
}

#[test]
fn keys_with_odd_characters_are_neither_misread_nor_fatal() {
    let yaml = "a.b: 1\nx[0]: 2\n'': 3\n'[': 4\ndatabases: {'my.db': {database: s, user: u}, 'e[1]': {database: s, user: u}}\n";
    let config = with(yaml, &[("INFRA_DATABASES_MY_DB_POOL_SIZE", "7")]);
    assert_eq!(config.databases.keys().collect::<Vec<_>>(), ["e[1]", "my.db"]);
    assert_eq!(config.databases["my.db"].pool_size, 7);
}

/// What the test below prints in a process that has this variable.
#[cfg(unix)]
fn in_a_process_with(variable: &str, text: &[u8]) -> String {
    use std::os::unix::ffi::OsStrExt as _;
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["overrides::prints_what_the_process_has", "--exact", "--nocapture"])
        .env(variable, std::ffi::OsStr::from_bytes(text))
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Prints for the tests below, which run it in a process of its own.
#[test]
fn prints_what_the_process_has() {
    match Config::loader("infra.yaml").text(PRODUCTION).load() {
        Ok(config) => println!("pool_size={}", config.databases["production"].pool_size),
        Err(error) => println!("error={error}"),
    }
}

#[test]
#[cfg(unix)]
fn the_environment_of_the_process_is_read_unless_another_is_given() {
    says(&in_a_process_with("INFRA_DATABASES_PRODUCTION_POOL_SIZE", b"9"), &["pool_size=9"]);
}

#[test]
#[cfg(unix)]
fn a_variable_that_is_not_utf8_is_refused_if_it_is_meant_for_the_file() {
    says(
        &in_a_process_with("INFRA_PGSERVER_PASS", b"hunter2\xff"),
        &["error=", "INFRA_PGSERVER_PASS", "UTF-8"],
    );
    assert!(!in_a_process_with("INFRA_PGSERVER_PASS", b"hunter2\xff").contains("hunter2"));
    says(&in_a_process_with("OTHER", b"\xff"), &["pool_size=3"]);
}
