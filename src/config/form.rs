//! The form of an entry: by parts, by `url`, or on the file's own server.

use super::{
    ConfigError, Origin,
    read::{self, Own},
    tree::{self, Value, ValueKind},
    url,
};

/// What a url says, by parts.
const PARTS: [&str; 7] = ["host", "port", "hosts", "patroni", "database", "user", "password"];

/// Whether an environment variable says it, which replaces what the file says in another form.
fn is_override(value: &Value) -> bool {
    matches!(tree::origin(value), Origin::Override { .. })
}

/// Removes the parts of the file if a variable gives a url, which replaces them.
pub(super) fn settle_overrides(tree: &mut Value, path: &[String]) {
    let Some(url) = given(tree, path, "url") else {
        return;
    };
    if !is_override(url) {
        return;
    }
    let replaced =
        PARTS.iter().filter(|key| given(tree, path, key).is_some_and(|value| !is_override(value)));
    let replaced: Vec<&str> = replaced.copied().collect();
    if let Some(entry) = entry(tree, path) {
        for key in replaced {
            entry.remove(key);
        }
    }
}

/// The map of an entry.
fn entry<'a>(tree: &'a mut Value, path: &[String]) -> Option<&'a mut ::config::Map<String, Value>> {
    let entry = path.iter().try_fold(tree, |value, key| match &mut value.kind {
        ValueKind::Table(table) => table.get_mut(key),
        _ => None,
    })?;
    match &mut entry.kind {
        ValueKind::Table(entry) => Some(entry),
        _ => None,
    }
}

/// The value of a key of the entry, unless it is left empty.
fn given<'a>(tree: &'a Value, path: &[String], key: &str) -> Option<&'a Value> {
    let entry = path.iter().try_fold(tree, |value, key| tree::child(value, key))?;
    tree::child(entry, key).filter(|value| !matches!(value.kind, ValueKind::Nil))
}

/// Refuses an entry that says where its database is in two ways, or in none.
pub(super) fn one(tree: &Value, path: &[String]) -> Result<(), ConfigError> {
    let server = match given(tree, path, "pgserver") {
        Some(_) => {
            let own: Own = read::section(tree, &[path, &["pgserver".to_owned()]].concat())?;
            own.0.is_some()
        }
        None => false,
    };
    let clashes: &[&str] = match given(tree, path, "url") {
        Some(_) if server => {
            &["url", "pgserver", "host", "port", "hosts", "patroni", "database", "user", "password"]
        }
        Some(_) => &["url", "host", "port", "hosts", "patroni", "database", "user", "password"],
        None if server => &["pgserver", "host", "port", "hosts", "patroni"],
        None if given(tree, path, "hosts").is_some() => &["hosts", "host", "port", "patroni"],
        None if given(tree, path, "patroni").is_some() => &["patroni", "host", "port"],
        None => &[],
    };
    let keys: Vec<String> = clashes
        .iter()
        .filter_map(|key| Some((key, given(tree, path, key)?)))
        // A part that a variable gives replaces the url's.
        .filter(|(key, value)| !(clashes[0] == "url" && PARTS.contains(*key) && is_override(value)))
        .map(|(key, value)| format!("`{key}` ({})", tree::origin(value)))
        .collect();
    if keys.len() > 1 {
        return Err(ConfigError::BothForms {
            at: tree::origin_at(tree, path),
            path: path.join("."),
            keys,
        });
    }
    if given(tree, path, "url").is_none() && given(tree, path, "database").is_none() {
        return Err(ConfigError::NeitherForm {
            at: tree::origin_at(tree, path),
            path: path.join("."),
        });
    }
    Ok(())
}

/// Writes what the url of an entry says beside it, as if it were given by parts.
pub(super) fn expand_url(tree: &mut Value, path: &[String]) -> Result<(), ConfigError> {
    let Some(value) = given(tree, path, "url") else {
        return Ok(());
    };
    let (at, place) = (tree::origin(value), [path, &["url".to_owned()]].concat());
    let ValueKind::String(text) = &value.kind else {
        return Err(read::wrong_type(tree, &place));
    };
    let refuse = |reason| ConfigError::Url { at: at.clone(), path: place.join("."), reason };
    let parts = url::parse(text).map_err(refuse)?;
    for (key, what) in [("database", "database; end it with `/name`")] {
        if !parts.iter().any(|(given, text)| *given == key && !text.is_empty()) {
            return Err(refuse(format!("it names no {what}")));
        }
    }
    let parts: url::Parts = parts
        .into_iter()
        .filter(|(key, _)| !given(tree, path, key).is_some_and(is_override))
        .collect();
    for (key, _) in &parts {
        if let Some(other) = given(tree, path, key) {
            let keys = vec![format!("`url` ({at})"), format!("`{key}` ({})", tree::origin(other))];
            return Err(ConfigError::BothForms {
                at: tree::origin_at(tree, path),
                path: path.join("."),
                keys,
            });
        }
    }
    if let Some(entry) = entry(tree, path) {
        for (key, text) in parts {
            let value = match key {
                "hosts" => {
                    let hosts = text.split(',').map(|host| tree::value(&at, host));
                    tree::value(&at, hosts.collect::<Vec<_>>())
                }
                _ => tree::value(&at, text),
            };
            entry.insert(key.to_owned(), value);
        }
    }
    Ok(())
}
