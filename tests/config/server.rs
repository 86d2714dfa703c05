//! The section `pgserver:`.

use secrecy::ExposeSecret as _;
use wharf::config::{PgServerConfig, Runtime};

use crate::{load, refusal, says};

fn server(keys: &str) -> PgServerConfig {
    load(&format!("pgserver: {{{keys}}}")).pgserver.unwrap()
}

#[test]
fn every_field_has_the_documented_default() {
    let server = server("version: 17");
    assert_eq!(
        (server.name.as_str(), server.host.as_str(), server.user.as_str()),
        ("wharf", "127.0.0.1", "postgres")
    );
    assert!(server.port.is_none() && server.pass.is_none() && server.image.is_none());
    assert!(
        server.postgres_conf.is_empty() && !server.replica.enabled && server.replica.port.is_none()
    );
    assert_eq!(server.replica.count, 1);
    assert_eq!(server.runtime, Runtime::Auto);
    assert_eq!(server.shm_size, None);
}

#[test]
fn a_size_has_a_unit() {
    for (size, bytes) in [
        ("64MB", 64 << 20),
        ("1GB", 1 << 30),
        ("2g", 2 << 30),
        ("512 kB", 512 << 10),
        ("1T", 1 << 40),
    ] {
        assert_eq!(
            server(&format!("version: 17, shm_size: {size}")).shm_size,
            Some(bytes),
            "{size}"
        );
    }
    for size in ["64", "0MB", "-1GB", "1.5GB", "1PB", "GB", "99999999999TB"] {
        let refused = refusal(&format!("pgserver: {{version: 17, shm_size: {size}}}"));
        says(&refused, &["pgserver.shm_size", "a size above 0 with a unit (64MB, 1GB"]);
    }
}

#[test]
fn every_field_is_read() {
    let server = server(
        "version: 17.5, image: 'postgres:17', name: my-pg, host: 0.0.0.0, port: 6000, user: boss, pass: pw, \
         postgres_conf: {max_connections: 50, fsync: off, shared_preload_libraries: [a, b], auto_explain.log_min_duration: 1s}, \
         replica: {enabled: true, count: 2, port: 6001}, runtime: docker",
    );
    assert_eq!(server.version.as_deref(), Some("17.5"));
    assert_eq!(server.image.as_deref(), Some("postgres:17"));
    assert_eq!(
        (server.name.as_str(), server.host.as_str(), server.user.as_str()),
        ("my-pg", "0.0.0.0", "boss")
    );
    assert_eq!(server.port, Some(6000));
    assert_eq!(server.pass.unwrap().expose_secret(), "pw");
    let conf: Vec<_> =
        server.postgres_conf.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        conf,
        [
            "auto_explain.log_min_duration=1s",
            "fsync=off",
            "max_connections=50",
            "shared_preload_libraries=a,b"
        ]
    );
    assert!(server.replica.enabled);
    assert_eq!((server.replica.count, server.replica.port), (2, Some(6001)));
    assert_eq!(server.runtime, Runtime::Docker);
}

#[test]
fn a_version_keeps_its_digits() {
    assert_eq!(server("version: 17.10").version.as_deref(), Some("17.10"));
    assert_eq!(server("version: '17'").version.as_deref(), Some("17"));
}

#[test]
fn version_or_image_is_required() {
    says(&refusal("pgserver: {port: 1}"), &["infra.yaml:1", "neither `version` nor `image`"]);
}

#[test]
fn port_zero_is_chosen_at_start() {
    assert_eq!(server("version: 17, port: 0").port, None);
}

#[test]
fn a_standby_has_a_port_of_its_own() {
    says(
        &refusal("pgserver: {version: 17, port: 5, replica: {enabled: true, port: 5}}"),
        &["pgserver.replica.port"],
    );
    says(
        &refusal("pgserver: {version: 17, port_r: 5, replica: {port: 6}}"),
        &["`pgserver.port_r`", "keep one"],
    );
}

#[test]
fn standbys_are_one_to_eight_also_where_there_are_none_yet() {
    assert_eq!(server("version: 17, replica: {enabled: false, count: 8}").replica.count, 8);
    for (count, fault) in [
        ("0", "must be 1 to 8"),
        ("9", "must be 1 to 8"),
        ("-1", "must be an integer ≥ 0"),
        ("two", "must be an integer ≥ 0"),
    ] {
        let refused = refusal(&format!("pgserver: {{version: 17, replica: {{count: {count}}}}}"));
        says(&refused, &["infra.yaml:1", "`pgserver.replica.count`", fault]);
    }
}

#[test]
fn the_ports_of_several_standbys_follow_the_first_and_are_their_own() {
    let ports = |port: u16, first: u16, count: u32| {
        format!(
            "pgserver: {{version: 17, port: {port}, replica: {{enabled: true, count: {count}, port: {first}}}}}"
        )
    };
    for (port, first) in [(5433, 5434), (5437, 5434), (5433, 65533)] {
        load(&ports(port, first, 3));
    }
    let refused = refusal(&ports(5436, 5434, 3));
    says(
        &refused,
        &["`pgserver.replica.port`", "5434 to 5436, and 5436 is the port of the server"],
    );
    says(&refusal(&ports(5433, 65534, 3)), &["pgserver.replica.port", "no port for 3 standbys"]);
    // Without standbys it says nothing.
    load("pgserver: {version: 17, port: 5436, replica: {count: 3, port: 5434}}");
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    for keys in [
        "name: ../x",
        "name: ''",
        "name: a b",
        "version: latest",
        "version: '17; rm'",
        "host: ''",
        "postgres_conf: {'a b': 1}",
        "postgres_conf: {a: \"1\\nb = 2\"}",
    ] {
        says(&refusal(&format!("pgserver: {{image: x, {keys}}}")), &["infra.yaml:1", "pgserver."]);
    }
}

#[test]
fn an_unknown_runtime_is_refused_with_the_known() {
    says(
        &refusal("pgserver: {version: 17, runtime: podman}"),
        &["pgserver.runtime", "auto, docker, native, embedded"],
    );
}

#[test]
fn a_setting_is_one_value_or_a_list() {
    says(
        &refusal("pgserver: {version: 17, postgres_conf: {a: {b: 1}}}"),
        &["pgserver.postgres_conf.a"],
    );
    says(
        &refusal("pgserver: {version: 17, postgres_conf: {a: }}"),
        &["pgserver.postgres_conf.a", "nothing"],
    );
}
