//! `INFRA_<PATH>`.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use wharf::config::{Address, Config, ConfigError};

use crate::{entry, log_of, main_of, says, try_load};

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
        ("INFRA_DATABASES_MAIN_READONLY", "1"),
        ("INFRA_DATABASES_MAIN_EXTENSIONS", "[vector"),
        ("INFRA_DATABASES_MAIN_EXTENSIONS", "!include x.yaml"),
        ("INFRA_DATABASES_MAIN_POOL_SIZE", "0"),
        ("INFRA_DATABASES_MAIN", "x"),
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
            "the nearest is `INFRA_DATABASES_PRODUCTION_POOL_SIZE`",
        ],
    );
    for variable in [
        "INFRA_DATABASES_STAGING_POOL_SIZE",
        "INFRA_DATABASES_PRODUCTION_POOL_SIZE_X",
        "INFRA_PGSERVER_PRT",
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
}

#[test]
fn a_variable_with_a_reference_in_it_is_text() {
    let password = |text: &str| {
        let config = with(&entry(""), &[("INFRA_DATABASES_MAIN_PASSWORD", text)]);
        main_of(&config).password.as_ref().unwrap().expose_secret().to_owned()
    };
    for text in ["${x.other}", "a${b", "$${c}", "$"] {
        assert_eq!(password(text), text);
    }
    let list = with(&entry(""), &[("INFRA_DATABASES_MAIN_EXTENSIONS", "['${x}']")]);
    assert_eq!(main_of(&list).extensions, ["${x}"]);
}

#[test]
fn a_variable_that_names_no_section_of_the_file_is_somebody_elses() {
    for variable in [
        "INFRA_REGION",
        "INFRA_",
        "INFRA__PGSERVER",
        "INFRA_DEFAULT_CONFIG_FILE",
        "INFRA_NO_CONFIRM",
        "INFRA_CONTAINER_CMD",
        "INFRA_COMPOSE_CMD",
        "INFRA_PG_CONFIG_FILE",
        "INFRA_DOCS_CONFIG_FILE",
    ] {
        with(PRODUCTION, &[(variable, "x")]);
    }
    // Also where the file happens to have a section of that name.
    with(&format!("{PRODUCTION}default: {{a: 1}}\n"), &[("INFRA_DEFAULT_CONFIG_FILE", "x")]);
    let misspelt =
        mistake(&format!("{PRODUCTION}logging: {{level: a}}\n"), &[("INFRA_LOGGING_LEVL", "b")]);
    says(&misspelt, &["the nearest is `INFRA_LOGGING_LEVEL`"]);
    // One that is near a section's name is likely meant for it.
    let near = log_of(|| drop(with(PRODUCTION, &[("INFRA_PGSERVE_PORT", "1")])));
    says(&near, &["INFRA_PGSERVE_PORT", "INFRA_PGSERVER_PORT"]);
}

#[test]
fn lists_are_written_with_commas_and_nothing_as_null_none_or_empty() {
    let extensions = |text: &str| {
        let config = with(&entry("extensions: [x]"), &[("INFRA_DATABASES_MAIN_EXTENSIONS", text)]);
        main_of(&config).extensions.clone()
    };
    assert_eq!(extensions("vector,pg_trgm, citext"), ["vector", "pg_trgm", "citext"]);
    assert_eq!(extensions("vector"), ["vector"]);
    assert_eq!(extensions("[vector, citext]"), ["vector", "citext"]);
    for nothing in ["", "null", "None", "NULL"] {
        assert_eq!(extensions(nothing), [""; 0]);
        let size = with(&entry("pool_size: 7"), &[("INFRA_DATABASES_MAIN_POOL_SIZE", nothing)]);
        assert_eq!(main_of(&size).pool_size, 5);
    }
}

#[test]
fn a_part_that_is_injected_replaces_that_of_a_url_and_a_url_replaces_parts() {
    let url = "databases: {main: {url: 'postgres://app:old@db:1/shop'}}";
    let config = with(
        url,
        &[("INFRA_DATABASES_MAIN_PASSWORD", "new"), ("INFRA_DATABASES_MAIN_HOST", "other")],
    );
    let main = main_of(&config);
    assert_eq!(main.password.as_ref().unwrap().expose_secret(), "new");
    assert_eq!((main.user.as_str(), main.database.as_str()), ("app", "shop"));
    assert!(matches!(&main.address, Address::Host { host, port: 1 } if host == "other"));
    let config = with(&entry("host: a"), &[("INFRA_DATABASES_MAIN_URL", "postgres://b@c/d")]);
    let main = main_of(&config);
    assert_eq!((main.user.as_str(), main.database.as_str()), ("b", "d"));
    // The file itself gives one form only.
    let both = "databases: {main: {url: 'postgres://a@b/c', password: x}}";
    says(
        &mistake(both, &[("INFRA_DATABASES_MAIN_HOST", "h")]),
        &["`url`", "`password`", "keep one"],
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
