//! The section `pgserver:` as the file has it, to a checked [`PgServerConfig`].

use std::path::PathBuf;

use serde::Deserialize;

use super::{
    ConfigError, Origin, PgServerConfig, ReplicaConfig, fields, pgserver,
    read::{self, Count, Flag, Port, RuntimeName, Secret, Settings, Size, Text},
    tree::{self, Value, ValueKind},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Section {
    version: Option<Text>,
    image: Option<Text>,
    name: Option<Text>,
    host: Option<Text>,
    port: Option<Port>,
    user: Option<Text>,
    pass: Option<Secret>,
    postgres_conf: Option<Settings>,
    shm_size: Option<Size>,
    replica: Option<Replica>,
    port_r: Option<Port>,
    runtime: Option<RuntimeName>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Replica {
    enabled: Option<Flag>,
    count: Option<Count>,
    port: Option<Port>,
}

/// A server to check entries against where the section is missing or invalid; adds the error where
/// entries need a section that is missing.
pub(super) fn missing(
    tree: &Value,
    section: &str,
    names: &[String],
    errors: &mut Vec<ConfigError>,
) -> Option<PgServerConfig> {
    let mut server = PgServerConfig::new("wharf");
    server.replica.enabled = true;
    if tree::child(tree, "pgserver").is_some() {
        return Some(server);
    }
    let own = |name: &&String| {
        let entry = tree::child(tree, section).and_then(|entries| tree::child(entries, name))?;
        tree::child(entry, "pgserver").map(|value| &value.kind)
    };
    let needs = |name: &&String| match own(name) {
        Some(ValueKind::String(text)) => read::own(text).is_some_and(|own| own.is_some()),
        _ => false,
    };
    let first = names.iter().find(needs)?;
    let path = [section, first.as_str(), "pgserver"];
    errors.push(ConfigError::Invalid {
        at: tree::origin_at(tree, &path),
        path: path.join("."),
        reason: "needs the section `pgserver:`, which the file lacks; add it, as in \
                 `pgserver: {name: shop, version: 17}`"
            .to_owned(),
    });
    Some(server)
}

/// Checks the section of a tree that has one.
pub(super) fn check(tree: &Value) -> Result<PgServerConfig, ConfigError> {
    let path = ["pgserver".to_owned()];
    read::known_keys(tree, &path, fields::PGSERVER)?;
    let section: Section = read::section(tree, &path)?;
    let name = filled(tree, "name", section.name)?;
    let file = file(tree);
    let default_name =
        || file.as_deref().map_or_else(|| "wharf".to_owned(), pgserver::default_name);
    let checked = PgServerConfig {
        has_default_name: name.is_none(),
        name: name.unwrap_or_else(default_name),
        file: file.clone(),
        version: filled(tree, "version", section.version)?,
        image: filled(tree, "image", section.image)?,
        host: filled(tree, "host", section.host)?.unwrap_or_else(|| "127.0.0.1".to_owned()),
        port: section.port.map(|port| port.0).filter(|port| *port != 0),
        user: filled(tree, "user", section.user)?.unwrap_or_else(|| "postgres".to_owned()),
        pass: section.pass.map(|secret| secret.0),
        postgres_conf: read::settings(
            tree,
            &["pgserver".to_owned(), "postgres_conf".to_owned()],
            section.postgres_conf,
        )?,
        shm_size: section.shm_size.map(|size| size.0),
        replica: replica(tree, section.replica.unwrap_or_default(), section.port_r)?,
        runtime: section.runtime.map(|runtime| runtime.0).unwrap_or_default(),
    };
    if checked.version.is_none() && checked.image.is_none() {
        return Err(invalid(
            tree,
            &[],
            "has neither `version` nor `image`; add one, as in `version: 17`",
        ));
    }
    if !checked.version.as_deref().is_none_or(is_version) {
        return Err(invalid(
            tree,
            &["version"],
            "must be a version of PostgreSQL, such as 17 or 17.5",
        ));
    }
    if !is_name(&checked.name) {
        let reason = "must be a name for a container and a folder: letters, digits, `_`, `.` and `-`, beginning \
            with a letter or a digit";
        return Err(invalid(tree, &["name"], reason));
    }
    if let Some((key, reason)) = checked.replica.fault(checked.port) {
        return Err(invalid(tree, &["replica", key], &reason));
    }
    Ok(checked)
}

/// The file that the section stands in; one that is made of variables alone belongs to the file that was loaded.
fn file(tree: &Value) -> Option<PathBuf> {
    let section = match tree::origin_at(tree, &["pgserver"]) {
        Origin::File { path, .. } => Some(path),
        _ => None,
    };
    let loaded = || match tree::origin(tree) {
        Origin::File { path, .. } => Some(path),
        _ => None,
    };
    section.or_else(loaded).as_deref().and_then(pgserver::one_path)
}

fn replica(
    tree: &Value,
    replica: Replica,
    old: Option<Port>,
) -> Result<ReplicaConfig, ConfigError> {
    if replica.port.is_some() && old.is_some() {
        let keys = [&["pgserver", "replica", "port"][..], &["pgserver", "port_r"][..]]
            .map(|path| format!("`{}` ({})", path.join("."), tree::origin_at(tree, path)));
        return Err(ConfigError::BothForms {
            at: tree::origin_at(tree, &["pgserver"]),
            path: "pgserver".to_owned(),
            keys: keys.into(),
        });
    }
    let port = replica.port.or(old).map(|port| port.0).filter(|port| *port != 0);
    let count = replica.count.map_or(ReplicaConfig::default().count, |count| count.0);
    Ok(ReplicaConfig { enabled: replica.enabled.is_some_and(|flag| flag.0), count, port })
}

fn filled(tree: &Value, key: &str, text: Option<Text>) -> Result<Option<String>, ConfigError> {
    match text {
        Some(Text(text)) if text.is_empty() => {
            Err(invalid(tree, &[key], "is empty; write a value, or remove the key"))
        }
        text => Ok(text.map(|text| text.0)),
    }
}

fn invalid(tree: &Value, below: &[&str], reason: &str) -> ConfigError {
    let path: Vec<&str> = std::iter::once("pgserver").chain(below.iter().copied()).collect();
    ConfigError::Invalid {
        at: tree::origin_at(tree, &path),
        path: path.join("."),
        reason: reason.to_owned(),
    }
}

fn is_version(version: &str) -> bool {
    version.split('.').all(|part| {
        !part.is_empty() && part.len() <= 4 && part.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}
