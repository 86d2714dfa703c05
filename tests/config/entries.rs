//! The fields of an entry: defaults, units, bounds.

use std::time::Duration;

use wharf::config::SslMode;

use crate::{entry, load, main_of, refusal, says};

#[test]
fn every_field_has_the_documented_default() {
    let config = load(&entry(""));
    let main = main_of(&config);
    assert_eq!((main.pool_size, main.max_overflow), (5, 10));
    assert_eq!(main.pool_timeout, Duration::from_secs(30));
    assert_eq!(main.pool_recycle, Duration::from_secs(3600));
    assert_eq!(main.connect_timeout, Duration::from_secs(10));
    assert_eq!((main.min_connections, main.socket_timeout), (0, None));
    assert_eq!(main.leak_detection_threshold, Some(Duration::from_secs(60)));
    assert!(main.password_file.is_none() && main.login_source.is_none());
    assert!(main.pool_pre_ping && !main.readonly && !main.create_db);
    assert!(main.read_role.is_none() && main.extensions.is_empty() && main.schema.is_none());
    assert_eq!(
        (main.statement_timeout, main.lock_timeout, main.idle_in_transaction_timeout),
        (None, None, None)
    );
    assert_eq!(main.ssl_mode, SslMode::Prefer);
    assert!(main.ssl_root_cert.is_none() && main.ssl_cert.is_none() && main.ssl_key.is_none());
    assert!(main.application_name.starts_with("config"), "{}", main.application_name);
}

#[test]
fn every_field_is_read() {
    let config = load(&entry(
        "pool_size: 7, max_overflow: 0, pool_timeout: 1.5, pool_recycle: 5min, pool_pre_ping: false, connect_timeout: 250ms, \
         min_connections: 3, socket_timeout: 90, leak_detection_threshold: 5min, password_file: p.txt, \
         readonly: true, read_role: {user: reader, password_file: r.txt}, extensions: [vector, pg_trgm], schema: 'app, public', \
         statement_timeout: 500, lock_timeout: 2s, idle_in_transaction_timeout: 1min, application_name: web, \
         ssl_mode: verify-full, ssl_root_cert: ca.pem, ssl_cert: c.pem, ssl_key: k.pem",
    ));
    let main = main_of(&config);
    assert_eq!((main.pool_size, main.max_overflow), (7, 0));
    assert_eq!(main.pool_timeout, Duration::from_millis(1500));
    assert_eq!(main.pool_recycle, Duration::from_secs(300));
    assert_eq!(main.connect_timeout, Duration::from_millis(250));
    assert!(!main.pool_pre_ping && main.readonly);
    assert_eq!((main.min_connections, main.socket_timeout), (3, Some(Duration::from_secs(90))));
    assert_eq!(main.leak_detection_threshold, Some(Duration::from_secs(300)));
    assert_eq!(main.password_file.as_deref().unwrap().to_str(), Some("p.txt"));
    let role = main.read_role.as_ref().unwrap();
    assert_eq!(role.user, "reader");
    assert_eq!(role.password_file.as_deref().unwrap().to_str(), Some("r.txt"));
    assert_eq!(main.extensions, ["vector", "pg_trgm"]);
    assert_eq!(main.schema.as_deref(), Some("app, public"));
    assert_eq!(main.statement_timeout, Some(Duration::from_millis(500)));
    assert_eq!(main.lock_timeout, Some(Duration::from_secs(2)));
    assert_eq!(main.idle_in_transaction_timeout, Some(Duration::from_secs(60)));
    assert_eq!(main.application_name, "web");
    assert_eq!(main.ssl_mode, SslMode::VerifyFull);
    assert_eq!(main.ssl_root_cert.as_deref().unwrap().to_str(), Some("ca.pem"));
    assert_eq!(main.ssl_cert.as_deref().unwrap().to_str(), Some("c.pem"));
    assert_eq!(main.ssl_key.as_deref().unwrap().to_str(), Some("k.pem"));
    assert!(main_of(&load(&entry("create_db: true"))).create_db);
}

#[test]
fn a_zero_pool_is_refused() {
    says(
        &refusal(&entry("pool_size: 0")),
        &["infra.yaml:2", "databases.main.pool_size", "at least 1"],
    );
}

#[test]
fn an_absurd_pool_is_refused() {
    says(&refusal(&entry("pool_size: 9000, max_overflow: 9000")), &["databases.main.", "10000"]);
}

#[test]
fn more_opened_ahead_than_kept_is_refused() {
    says(
        &refusal(&entry("pool_size: 3, min_connections: 4")),
        &["infra.yaml:2", "databases.main.min_connections", "`pool_size` (3)"],
    );
}

#[test]
fn a_socket_timeout_that_comes_before_the_servers_own_is_refused() {
    says(
        &refusal(&entry("statement_timeout: 30s, socket_timeout: 30s")),
        &["databases.main.socket_timeout", "statement_timeout", "longer"],
    );
    let config = load(&entry("statement_timeout: 30s, socket_timeout: 31s"));
    assert_eq!(main_of(&config).socket_timeout, Some(Duration::from_secs(31)));
}

#[test]
fn a_zero_switches_off_what_can_be_off() {
    let config = load(&entry("socket_timeout: 0, leak_detection_threshold: 0"));
    let main = main_of(&config);
    assert_eq!((main.socket_timeout, main.leak_detection_threshold), (None, None));
}

#[test]
fn a_password_and_a_file_with_one_exclude_each_other() {
    for keys in
        ["password: a, password_file: b", "read_role: {user: r, password: a, password_file: b}"]
    {
        says(&refusal(&entry(keys)), &["password_file", "one of the two"]);
    }
    let url = "databases: {main: {url: 'postgres://a:b@c/d', password_file: e}}";
    says(&refusal(url), &["password_file", "one of the two"]);
}

#[test]
fn times_without_a_unit_are_those_of_their_origin() {
    let config = load(&entry("pool_timeout: 2, statement_timeout: 2"));
    assert_eq!(main_of(&config).pool_timeout, Duration::from_secs(2));
    assert_eq!(main_of(&config).statement_timeout, Some(Duration::from_millis(2)));
}

#[test]
fn every_unit_is_read() {
    for (text, expected) in
        [("500ms", 500), ("30s", 30_000), ("5 min", 300_000), ("1h", 3_600_000), ("1d", 86_400_000)]
    {
        let config = load(&entry(&format!("statement_timeout: {text}")));
        assert_eq!(
            main_of(&config).statement_timeout,
            Some(Duration::from_millis(expected)),
            "{text}"
        );
    }
}

#[test]
fn a_statement_timeout_of_zero_is_off() {
    assert_eq!(
        main_of(&load(&entry("statement_timeout: 0"))).statement_timeout,
        Some(Duration::ZERO)
    );
}

#[test]
fn a_recycle_of_minus_one_is_never() {
    assert_eq!(main_of(&load(&entry("pool_recycle: -1"))).pool_recycle, Duration::MAX);
}

#[test]
fn times_that_cannot_be_are_refused() {
    for keys in [
        "pool_timeout: 0",
        "pool_timeout: -1",
        "pool_timeout: -3",
        "pool_recycle: 0",
        "pool_recycle: -2",
        "connect_timeout: 0",
        "socket_timeout: -1",
        "leak_detection_threshold: -5",
        "statement_timeout: -1",
        "statement_timeout: 30d",
        "statement_timeout: 0.5",
        "lock_timeout: 1y",
        "lock_timeout: soon",
        "pool_timeout: 1e3",
        "pool_timeout: .inf",
        "pool_timeout: ''",
        "pool_timeout: 1.2.3",
        "pool_timeout: 99999999999999999999",
        "pool_timeout: 18446744073709551615d",
    ] {
        let error = refusal(&entry(keys));
        says(&error, &["infra.yaml:2", keys.split(':').next().unwrap()]);
    }
}

#[test]
fn readonly_and_create_db_exclude_each_other() {
    says(&refusal(&entry("readonly: true, create_db: true")), &["create_db", "readonly"]);
}

#[test]
fn a_read_role_needs_a_user() {
    says(&refusal(&entry("read_role: {password: x}")), &["databases.main.read_role", "`user`"]);
}

#[test]
fn numbers_where_text_belongs_are_text_as_written() {
    use secrecy::ExposeSecret as _;
    let config = load("databases: {main: {database: 0123, user: 1e3, password: 0x1F}}");
    let main = main_of(&config);
    assert_eq!((main.database.as_str(), main.user.as_str()), ("0123", "1e3"));
    assert_eq!(main.password.as_ref().unwrap().expose_secret(), "0x1F");
}

#[test]
fn a_key_with_nothing_behind_it_counts_as_not_given() {
    let config = load(&entry("pool_size: , password: ~, port: null"));
    assert_eq!(main_of(&config).pool_size, 5);
    assert!(main_of(&config).password.is_none());
}

#[test]
fn empty_names_are_refused() {
    for keys in ["host: ''", "schema: ''", "extensions: ['']", "read_role: {user: ''}"] {
        says(&refusal(&entry(keys)), &["is empty"]);
    }
}
