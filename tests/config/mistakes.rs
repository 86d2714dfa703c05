//! Every mistake is told with file, line, path and the nearest right key.

use wharf::config::ConfigError;

use crate::{entry, refusal, says, try_load};

#[test]
fn an_unknown_key_is_named_with_the_nearest() {
    for (wrong, right) in [
        ("pool_sise: 3", "pool_size"),
        ("usr: a", "user"),
        ("username: a", "user"),
        ("passwd: a", "password"),
        ("sslmode: require", "ssl_mode"),
        ("read-only: true", "readonly"),
    ] {
        let key = wrong.split(':').next().unwrap();
        says(
            &refusal(&entry(wrong)),
            &[
                "infra.yaml:2",
                &format!("`databases.main.{key}`"),
                &format!("the nearest is `{right}`"),
            ],
        );
    }
    says(
        &refusal("pgserver: {version: 1, password: x}"),
        &["pgserver.password", "the nearest is `pass`"],
    );
    says(&refusal(&entry("read_role: {usr: x}")), &["databases.main.read_role.usr", "`user`"]);
    says(
        &refusal("pgserver: {version: 1, replica: {prt: 1}}"),
        &["pgserver.replica.prt", "`port`"],
    );
}

#[test]
fn an_unknown_key_is_named_with_all_that_may_stand_there() {
    says(&refusal("pgserver: {version: 1, zzz: x}"), &["known: version, image, name"]);
}

#[test]
fn a_wrong_type_is_told_by_what_should_stand_there() {
    for (keys, path, expected) in [
        ("pool_size: ten", "pool_size", "an integer ≥ 0"),
        ("pool_size: 7.6", "pool_size", "an integer ≥ 0"),
        ("pool_size: -1", "pool_size", "an integer ≥ 0"),
        ("pool_size: +1", "pool_size", "an integer ≥ 0"),
        ("pool_size: 4294967296", "pool_size", "an integer ≥ 0"),
        ("pool_size: [1]", "pool_size", "an integer ≥ 0"),
        ("port: 70000", "port", "a port"),
        ("readonly: maybe", "readonly", "true or false"),
        ("readonly: 1", "readonly", "true or false"),
        ("pool_timeout: soon", "pool_timeout", "a time"),
        ("extensions: vector", "extensions", "a list"),
        ("extensions: [[a]]", "extensions.0", "a list of names"),
        ("read_role: reader", "read_role", "a map"),
        ("read_role: {user: [a]}", "read_role.user", "text"),
        ("schema: {a: b}", "schema", "text"),
        ("password: [a]", "password", "text"),
        ("ssl_mode: maybe", "ssl_mode", "verify-full"),
        ("host: \"a\\0b\"", "host", "text"),
    ] {
        let error = try_load(&entry(keys), &[]).expect_err(keys);
        assert!(matches!(error, ConfigError::WrongType { .. }), "{keys}: {error}");
        says(&error.to_string(), &["infra.yaml:2", &format!("`databases.main.{path}`"), expected]);
    }
    says(&refusal("databases: [a]"), &["`databases`", "a map"]);
    says(&refusal("databases: {main: [a]}"), &["`databases.main`", "a map"]);
    says(&refusal("pgserver: 17"), &["`pgserver`", "a map"]);
    says(&refusal("databases: {main: {url: [a]}}"), &["`databases.main.url`", "url"]);
}

#[test]
fn the_line_is_that_of_the_value_in_the_file_that_has_it() {
    let error = crate::load_files(&[
        ("infra.yaml", "databases:\n  main: !include etc/main.yaml\n"),
        ("etc/main.yaml", "database: shop\nuser: app\n\npool_size: ten\n"),
    ]);
    says(&error.unwrap_err().to_string(), &["etc/main.yaml:4", "`databases.main.pool_size`"]);
}

#[test]
fn a_file_with_none_of_wharfs_sections_is_refused() {
    says(
        &refusal("database: {main: {}}\nlogging: {}\n"),
        &["infra.yaml", "no `databases:`", "`databases`"],
    );
}

#[test]
fn an_empty_section_is_no_database() {
    assert!(crate::load("databases:\n").databases.is_empty());
}

#[test]
fn a_setting_with_a_key_of_its_own_or_that_the_driver_needs_is_refused() {
    for (setting, named) in [
        ("Statement_Timeout: 5s", "use `statement_timeout` of the entry"),
        ("search_path: x", "use `schema`"),
        ("default_transaction_read_only: off", "use `readonly`"),
        ("DateStyle: German", "which the driver reads"),
        ("role: admin", "whose rights hold"),
        ("'bad name': 1", "is not the name of a PostgreSQL setting"),
        ("app.x: \"a\\tb\"", "a tab or another control character"),
        ("app.x: \"a\\nb\"", "contains a line break"),
    ] {
        let yaml = format!("databases: {{db: {{database: x, settings: {{{setting}}}}}}}");
        let refused = wharf::config::Config::loader("infra.yaml").text(&yaml).env([]).load();
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("databases.db.settings.") && error.contains(named), "{error}");
    }
}

#[test]
fn every_setting_that_is_refused_is_named() {
    for settings in ["DateStyle: German, role: admin", "'bad name': 1, app.x: \"a\\nb\""] {
        let yaml = format!("databases: {{db: {{database: x, settings: {{{settings}}}}}}}");
        let refused = wharf::config::Config::loader("infra.yaml").text(&yaml).env([]).load();
        let error = refused.unwrap_err().to_string();
        assert_eq!(error.matches("databases.db.settings.").count(), 2, "{error}");
    }
}
