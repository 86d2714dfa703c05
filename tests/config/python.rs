//! Files written for the Python original load as they are.

use secrecy::ExposeSecret as _;
use wharf::config::{Address, Config, DatabaseConfig};

use crate::fixture;

fn port(database: &DatabaseConfig) -> u16 {
    match &database.address {
        Address::Host { port, .. } => *port,
        other => panic!("{other:?}"),
    }
}

fn infra() -> Config {
    Config::loader(fixture("infra.yaml")).env([]).load().unwrap()
}

#[test]
fn sections_come_from_other_files() {
    let config = infra();
    assert_eq!(config.databases.keys().collect::<Vec<_>>(), ["main", "main_ro", "unittest_reader"]);
    assert_eq!(config.pgserver.unwrap().name, "infra-pg");
}

#[test]
fn several_entries_share_one_server() {
    let config = infra();
    assert_eq!(port(&config.databases["main"]), 7432);
    assert_eq!(config.databases["main"].address, config.databases["main_ro"].address);
    assert_eq!(config.databases["main_ro"].database, "main");
}

#[test]
fn an_empty_password_is_an_empty_password() {
    let config = infra();
    assert_eq!(config.databases["main"].password.as_ref().unwrap().expose_secret(), "");
    assert_eq!(config.databases["main"].user, "postgres");
}

#[test]
fn a_replica_is_reached_by_its_port() {
    let config = infra();
    assert_eq!(port(&config.databases["unittest_reader"]), 7433);
    assert_eq!(config.pgserver.unwrap().replica.port, Some(7433));
}

#[test]
fn the_older_spelling_of_the_replicas_port_is_read() {
    let config = Config::loader(fixture("older.yaml")).env([]).load().unwrap();
    assert_eq!(port(&config.databases["main_reader"]), 7433);
    assert_eq!(config.pgserver.unwrap().replica.port, Some(7433));
}

#[test]
fn an_override_reaches_the_urls_built_from_it() {
    let env = [("INFRA_PGSERVER_PORT", "5433"), ("INFRA_PGSERVER_PASS", "p@ss/1")];
    let env = env.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let config = Config::loader(fixture("infra.yaml")).env(env).load().unwrap();
    assert_eq!(port(&config.databases["main"]), 5433);
    assert_eq!(config.databases["main"].password.as_ref().unwrap().expose_secret(), "p@ss/1");
}

#[test]
fn the_words_of_yaml_1_1_are_booleans() {
    let config = infra();
    assert!(config.databases["unittest_reader"].readonly);
    assert!(!config.databases["unittest_reader"].create_db);
}

#[test]
fn foreign_sections_may_hold_anything() {
    let yaml = "databases: {}\nservice: {tag: !odd [1], ref: '${no.where}', a: 1, a: 2, ? [x] : y, <<: 3}\n";
    crate::load(yaml);
}

#[test]
fn keys_without_effect_are_told_to_the_log() {
    let log = crate::log_of(|| drop(infra()));
    crate::says(&log, &["dbs.main_ro.echo", "pg.yaml:", "no effect"]);
    assert_eq!(log.lines().count(), 1, "{log}");
}

#[test]
fn keys_that_only_sqlalchemy_reads_are_accepted_and_shown_without_effect() {
    let effective = infra().effective();
    let echo = effective.get("dbs.main_ro.echo").unwrap();
    assert!(!echo.has_effect);
    assert!(effective.to_string().contains("(no effect)"));
    for key in
        ["echo_pool", "expire_on_commit", "autoflush", "pool_use_lifo", "pool_reset_on_return"]
    {
        crate::load(&crate::entry(&format!("{key}: {{any: [thing]}}")));
    }
}

#[test]
fn reconnection_settings_of_the_original_are_said_to_have_no_effect() {
    let yaml = crate::entry("auto_reconnect: true, max_retries: 3, retry_delay: 1.5");
    let said = crate::log_of(|| drop(crate::load(&yaml)));
    for key in ["auto_reconnect", "max_retries", "retry_delay"] {
        assert!(said.contains(&format!("databases.main.{key}")), "{said}");
    }
    let effective = crate::load(&yaml).effective();
    assert!(!effective.get("databases.main.max_retries").unwrap().has_effect);
}
