//! Where an entry reads.

use std::time::Duration;

use wharf::config::{Address, Fallback, HostPort, Reads};

use crate::{load, main_of, refused, says, try_load};

#[test]
fn an_entry_reads_on_its_primary_unless_it_says_otherwise() {
    let config = load("databases: {main: {host: db, database: shop, user: app}}");
    let main = main_of(&config);
    assert_eq!((main.reads, main.replicas.len()), (Reads::Primary, 0));
    assert_eq!(main.replica.max_lag, Duration::from_secs(10));
    assert_eq!((main.replica.max_lag_bytes, main.replica.fallback), (16 << 20, Fallback::Primary));
    assert_eq!(main.replica.wait, Duration::from_millis(20));
    assert_eq!(main.topology.interval, Duration::from_secs(1));
    assert_eq!(main.topology.probe_timeout, Duration::from_secs(1));
    assert!(!main.topology.lazy);
}

#[test]
fn every_value_of_it_is_read() {
    let config = load(
        "databases:\n  main:\n    host: db\n    replicas: [r1, \"[::1]:5433\"]\n    database: shop\n    user: app\n    \
         reads: causal\n    replica: {max_lag: 5min, max_lag_bytes: 1GB, wait: 0, fallback: error}\n    \
         topology: {interval: 200ms, probe_timeout: 3, lazy: true}\n",
    );
    let main = main_of(&config);
    let at = |host: &str, port| HostPort { host: host.to_owned(), port };
    assert_eq!(main.replicas, [at("r1", 5432), at("::1", 5433)]);
    assert_eq!((main.reads, main.replica.fallback), (Reads::Causal, Fallback::Error));
    assert_eq!(
        (main.replica.max_lag, main.replica.wait),
        (Duration::from_secs(300), Duration::ZERO)
    );
    assert_eq!(main.replica.max_lag_bytes, 1 << 30);
    assert_eq!(main.topology.interval, Duration::from_millis(200));
    assert_eq!(main.topology.probe_timeout, Duration::from_secs(3));
    assert!(main.topology.lazy);
}

#[test]
fn each_value_is_shown_with_its_source_and_can_be_overridden() {
    let yaml = "databases:\n  main:\n    hosts: [pg1, pg2]\n    database: shop\n    user: app\n    reads: causal\n    \
                replica: {max_lag: 5s}\n";
    let variables = [
        ("INFRA_DATABASES_MAIN_READS", "eventual"),
        ("INFRA_DATABASES_MAIN_REPLICA_WAIT", "5ms"),
        ("INFRA_DATABASES_MAIN_TOPOLOGY_LAZY", "true"),
    ];
    let effective = try_load(yaml, &variables).unwrap().effective();
    let at = |path: &str| {
        let setting = effective.get(&format!("databases.main.{path}")).unwrap();
        (setting.value.clone(), setting.source.to_string())
    };
    assert_eq!(at("reads").0, "eventual");
    assert!(at("reads").1.contains("INFRA_DATABASES_MAIN_READS"));
    assert_eq!(at("replica.max_lag"), ("5s".to_owned(), "infra.yaml:7".to_owned()));
    assert_eq!(at("replica.wait").0, "5ms");
    assert_eq!(at("topology.lazy").0, "true");
    assert_eq!(at("topology.interval").0, "1s");
    assert_eq!(at("replica.max_lag_bytes").0, (16 << 20).to_string());
}

#[test]
fn what_cannot_be_meant_is_refused() {
    for (lines, parts) in [
        ("    reads: sometimes\n", ["reads", "one of primary, causal, eventual"]),
        (
            "    reads: causal\n",
            ["reads", "names none; add `replicas`, list all servers in `hosts`"],
        ),
        ("    replicas: []\n", ["replicas", "is empty; name the standbys, or remove the key"]),
        (
            "    host: db\n    replicas: [db]\n",
            ["replicas.0", "names db:5432, which is the entry's primary"],
        ),
        ("    replicas: [r1, r2, r1]\n", ["replicas.2", "names r1:5432 again"]),
        ("    hosts: [a, b]\n    replicas: [c]\n", ["replicas", "`hosts` lists all servers"]),
        ("    replica: {max_lag: 0}\n", ["replica.max_lag", "at least 1ms"]),
        (
            "    replica: {max_lag_bytes: 16}\n",
            ["replica.max_lag_bytes", "a size above 0 with a unit"],
        ),
        ("    replica: {wait: -1}\n", ["replica.wait", "must not be negative"]),
        ("    replica: {fallback: none}\n", ["replica.fallback", "primary or error"]),
        ("    replica: {lag: 5}\n", ["replica.lag", "max_lag"]),
        ("    topology: {interval: 0}\n", ["topology.interval", "at least 1ms"]),
        ("    topology: lazy\n", ["topology", "a map"]),
        ("    patroni: []\n", ["patroni", "is empty; name the addresses of Patroni"]),
        ("    patroni: [pg1]\n", ["patroni.0", "does not begin with `http://`"]),
        ("    patroni: [\"https://pg1:8008\"]\n", ["patroni.0", "without TLS"]),
        ("    patroni: [\"http://pg1:8008/cluster\"]\n", ["patroni.0", "has a path"]),
        (
            "    patroni: [\"http://pg1\", \"http://pg1:8008/\"]\n",
            ["patroni.1", "names pg1:8008 again"],
        ),
        ("    patroni: [\"http://pg1\"]\n    hosts: [a]\n", ["`hosts`", "`patroni`"]),
        ("    patroni: [\"http://pg1\"]\n    host: a\n", ["`patroni`", "`host`"]),
    ] {
        says(&refused(lines), &parts);
    }
    let yaml = "pgserver: {version: 15}\ndatabases:\n  main: {pgserver: true, database: shop, replicas: [r1]}\n";
    says(&try_load(yaml, &[]).unwrap_err().to_string(), &["replicas", "`pgserver.replica`"]);
}

#[test]
fn patroni_is_named_by_the_addresses_of_its_rest_interface() {
    let yaml = "databases: {main: {patroni: [\"http://pg1\", \"http://[::1]:8009/\"], database: shop, user: app, reads: causal}}";
    let config = load(yaml);
    let at = |host: &str, port| HostPort { host: host.to_owned(), port };
    assert_eq!(main_of(&config).address, Address::Patroni(vec![at("pg1", 8008), at("::1", 8009)]));
    let shown = config.effective().get("databases.main.patroni").unwrap().value.clone();
    assert_eq!(shown, "[http://pg1:8008, http://[::1]:8009]");
}
