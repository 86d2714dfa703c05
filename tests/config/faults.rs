//! All faults of a file come at once, each with what to write.

use wharf::config::ConfigError;

use crate::{refusal, says, try_load};

#[test]
fn every_fault_of_a_file_is_listed_with_its_line() {
    let yaml = "
pgserver: {nmae: x}
databases:
  a: {pool_size: ten, pool_sise: 3, readonly: maybe}
  b: {pgserver: replica, database: shop}
  c: {url: 'mysql://x', monitor: {explian: true, top_statements: no}}
  d: {database: ok, user: '${DB_USER}', password: '${vault.pass}'}
monitor: {slow: 1}
";
    let error = try_load(yaml, &[("INFRA_PGSERVER_PRT", "1")]).unwrap_err();
    let ConfigError::Several(faults) = &error else { panic!("{error}") };
    let text = error.to_string();
    says(
        &text,
        &[
            "INFRA_PGSERVER_PRT matches nothing",
            "infra.yaml:2: `pgserver.nmae` is not a setting; the nearest is `name`",
            "infra.yaml:2: `pgserver` has neither `version` nor `image`; add one",
            "infra.yaml:4: `databases.a.pool_sise` is not a setting; the nearest is `pool_size`",
            "infra.yaml:4: `databases.a.pool_size` must be an integer",
            "infra.yaml:4: `databases.a.readonly` must be true or false",
            "infra.yaml:4: `databases.a` has neither `url` nor `database`",
            "infra.yaml:5: `databases.b.readonly` must be true on a standby",
            "infra.yaml:6: `databases.c.url` is not a valid url",
            "infra.yaml:6: `databases.c.monitor.explian` is not a setting",
            "infra.yaml:6: `databases.c.monitor.top_statements` must be",
            "infra.yaml:7: `databases.d.user` refers to `${DB_USER}`",
            "infra.yaml:7: `databases.d.password`: `${…}` is not in the file",
            "infra.yaml:8: `monitor.slow` is not a setting",
        ],
    );
    assert_eq!(faults.len(), 14, "{text}");
    assert!(text.starts_with("14 faults:\n  "), "{text}");
}

#[test]
fn one_fault_is_told_alone() {
    let error = refusal("databases: {main: {database: shop, pool_sise: 3}}");
    assert!(error.starts_with("infra.yaml:1: "), "{error}");
}

#[test]
fn a_missing_server_section_is_told_once_and_hides_nothing() {
    let error = refusal("databases: {a: {pgserver: true}, b: {pgserver: replica, database: s}}");
    says(
        &error,
        &[
            "3 faults",
            "`databases.a.pgserver` needs the section `pgserver:`",
            "`databases.a` has neither",
            "`databases.b.readonly` must be true",
        ],
    );
}

#[test]
fn a_value_that_leads_nowhere_has_no_second_fault() {
    let error = refusal("databases: {main: {url: '${vault.url}', pool_size: '${x}'}}");
    says(&error, &["2 faults", "`databases.main.url`: `${…}`", "${x}"]);
}

/// `fn main() -> Result<(), wharf::Error>` prints `Debug`.
#[test]
fn debug_of_an_error_is_its_message() {
    let error = try_load("databases: {main: {database: shop, pool_sise: 3}}", &[]).unwrap_err();
    let message = error.to_string();
    assert_eq!(format!("{error:?}"), message);
    assert_eq!(format!("{:?}", wharf::Error::from(error)), message);
    let down =
        wharf::Error::PgServerDown { database: "shop".to_owned(), reason: "no file".to_owned() };
    let shown = format!("{down:?}");
    assert!(shown.starts_with("database `shop`: the file's server is not running"), "{shown}");
}
