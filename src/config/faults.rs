//! All faults of a section, where a check ends at the first.

use super::{
    ConfigError,
    interpolate::BROKEN,
    tree::{self, Value, ValueKind},
};

/// Far more than anybody reads.
const MOST: usize = 50;

/// Checks the section at `path`, and once more without what was wrong, until nothing is. Adds each fault
/// to `errors`. What the check has written into the tree stays there if there was none.
pub(super) fn find<T>(
    tree: &mut Value,
    path: &[String],
    errors: &mut Vec<ConfigError>,
    check: impl Fn(&mut Value) -> Result<T, ConfigError>,
) -> Option<T> {
    // The section alone, because it is copied for each fault.
    let mut rest = alone(tree, path);
    for attempt in 0..MOST {
        let mut tried = rest.clone();
        let error = match check(&mut tried) {
            Ok(checked) if attempt == 0 => {
                put_back(tree, path, tried);
                return Some(checked);
            }
            Ok(_) => return None,
            Err(error) => error,
        };
        let (goes_on, is_noted) = mend(&mut rest, path, &error);
        if !is_noted {
            errors.push(error);
        }
        if !goes_on {
            return None;
        }
    }
    None
}

/// A tree that has nothing but the value at `path`.
fn alone(tree: &Value, path: &[String]) -> Value {
    let Some((key, below)) = path.split_first() else {
        return tree.clone();
    };
    let mut table = ::config::Map::new();
    if let Some(value) = tree::child(tree, key) {
        table.insert(key.clone(), alone(value, below));
    }
    tree::value(&tree::origin(tree), table)
}

fn put_back(tree: &mut Value, path: &[String], from: Value) {
    let value = path.iter().try_fold(&from, |value, key| tree::child(value, key)).cloned();
    if let (Some(at), Some(value)) = (find_mut(tree, path), value) {
        *at = value;
    }
}

fn find_mut<'a>(tree: &'a mut Value, path: &[String]) -> Option<&'a mut Value> {
    path.iter().try_fold(tree, |value, key| match &mut value.kind {
        ValueKind::Table(table) => table.get_mut(key),
        _ => None,
    })
}

/// Makes the section pass the check that failed: whether that was possible, and whether the fault has
/// been noted before, when its reference was resolved.
fn mend(tree: &mut Value, path: &[String], error: &ConfigError) -> (bool, bool) {
    let section = path.join(".");
    let at = match error {
        ConfigError::NeitherForm { .. } => {
            let had_broken_url = is_broken(tree, path, &["url"]);
            return (insert(tree, path, "database", "any"), had_broken_url);
        }
        ConfigError::UnknownKey { path, .. }
        | ConfigError::WrongType { path, .. }
        | ConfigError::Invalid { path, .. }
        | ConfigError::Url { path, .. } => path,
        _ => return (false, false),
    };
    let Some(below) = at.strip_prefix(&section) else {
        return (false, false);
    };
    let keys: Vec<&str> = below.split('.').filter(|key| !key.is_empty()).collect();
    match keys.as_slice() {
        // What is missing has no key of its own.
        [] if section == "pgserver" => (insert(tree, path, "version", "17"), false),
        [] => (false, false),
        ["readonly"] if !exists(tree, path, &["readonly"]) => {
            (insert(tree, path, "readonly", "true"), false)
        }
        keys => {
            let is_noted = is_broken(tree, path, keys);
            if keys == ["url"] {
                insert(tree, path, "database", "any");
            }
            // A login lacks something without its user.
            let keys = if keys.first() == Some(&"read_role") { &keys[..1] } else { keys };
            (remove(tree, path, keys), is_noted)
        }
    }
}

fn exists(tree: &Value, path: &[String], keys: &[&str]) -> bool {
    value_at(tree, path, keys).is_some()
}

fn value_at<'a>(tree: &'a Value, path: &[String], keys: &[&str]) -> Option<&'a Value> {
    let section = path.iter().try_fold(tree, |value, key| tree::child(value, key))?;
    keys.iter().try_fold(section, |value, key| tree::child(value, key))
}

fn is_broken(tree: &Value, path: &[String], keys: &[&str]) -> bool {
    let value = value_at(tree, path, keys);
    value.is_some_and(|value| matches!(&value.kind, ValueKind::String(text) if text == BROKEN))
}

fn insert(tree: &mut Value, path: &[String], key: &str, text: &str) -> bool {
    let Some(section) = find_mut(tree, path) else {
        return false;
    };
    let at = tree::origin(section);
    match &mut section.kind {
        ValueKind::Table(table) => {
            table.insert(key.to_owned(), tree::value(&at, text));
            true
        }
        _ => false,
    }
}

/// Removes a value; of a list, the whole list.
fn remove(tree: &mut Value, path: &[String], keys: &[&str]) -> bool {
    let Some((last, above)) = keys.split_last() else {
        return false;
    };
    let mut whole = path.to_vec();
    whole.extend(above.iter().map(|key| (*key).to_owned()));
    match find_mut(tree, &whole).map(|value| &mut value.kind) {
        Some(ValueKind::Table(table)) => table.remove(*last).is_some(),
        Some(ValueKind::Array(_)) => remove(tree, path, above),
        _ => false,
    }
}
