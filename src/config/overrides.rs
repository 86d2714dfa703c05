//! Environment variables to the values that they replace.

use std::collections::{BTreeSet, HashMap};

use super::{
    ConfigError, Origin,
    fields::{self, Level, Shape},
    include,
    tree::{self, Value, ValueKind},
};

/// Replaces in the tree what each variable names.
pub(super) fn apply(
    tree: &mut Value,
    prefix: &str,
    variables: &[(String, String)],
) -> Result<(), ConfigError> {
    let mut taken: HashMap<Vec<String>, &str> = HashMap::new();
    let mut targets = Vec::new();
    for (variable, text) in variables {
        let Some(rest) = variable.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_'))
        else {
            continue;
        };
        let mut found = Vec::new();
        search(Some(tree), Level::Root, &normal(rest), &mut Vec::new(), &mut found);
        if found.len() > 1 {
            return Err(ConfigError::OverrideAmbiguous {
                variables: vec![variable.clone()],
                paths: found.iter().map(|path| path.join(".")).collect(),
                remedy: "rename one of the keys",
            });
        }
        let Some(path) = found.pop() else {
            return Err(unmatched(tree, prefix, variable));
        };
        if let Some(other) = taken.insert(path.clone(), variable) {
            return Err(ConfigError::OverrideAmbiguous {
                variables: vec![other.to_owned(), variable.clone()],
                paths: vec![path.join(".")],
                remedy: "unset one of the variables",
            });
        }
        targets.push((variable, text, path));
    }
    for (variable, text, path) in targets {
        let value = read(tree, variable, text, &path)?;
        set(tree, &path, value);
    }
    Ok(())
}

/// As it stands in the name of a variable: one has neither case nor hyphens.
fn normal(key: &str) -> String {
    key.chars()
        .flat_map(char::to_lowercase)
        .map(|c| if c.is_alphanumeric() { c } else { '_' })
        .collect()
}

/// Every path whose keys, joined by underscores, are `rest`. Underscores inside a key and those between
/// two keys look alike, so each way of cutting `rest` that the tree allows is tried.
fn search(
    value: Option<&Value>,
    level: Level,
    rest: &str,
    path: &mut Vec<String>,
    found: &mut Vec<Vec<String>>,
) {
    let before = found.len();
    let present = value.map(tree::sorted).unwrap_or_default();
    let keys: BTreeSet<&str> = present
        .iter()
        .map(|(key, _)| key.as_str())
        .chain(level.known().iter().map(|field| field.name))
        .collect();
    for key in keys {
        let Some(tail) = rest.strip_prefix(&normal(key)) else {
            continue;
        };
        path.push(key.to_owned());
        if tail.is_empty() {
            found.push(path.clone());
        } else if let Some(tail) = tail.strip_prefix('_') {
            let below = value.and_then(|value| tree::child(value, key));
            if below.is_none_or(|below| matches!(below.kind, ValueKind::Table(_) | ValueKind::Nil))
            {
                search(below, level.below(key), tail, path, found);
            }
        }
        path.pop();
    }
    if matches!(level, Level::Settings) && found.len() == before && !rest.is_empty() {
        let mut path = path.clone();
        path.push(rest.to_owned());
        found.push(path);
    }
}

/// One value is taken as it is written, for the field to read; where a list or a map belongs, YAML is.
fn read(tree: &Value, variable: &str, text: &str, path: &[String]) -> Result<Value, ConfigError> {
    let present = path.iter().try_fold(tree, |value, key| tree::child(value, key));
    let structured = match fields::shape_at(path) {
        Some(shape) => matches!(shape, Shape::Names | Shape::Section(_) | Shape::Settings),
        None => present
            .is_some_and(|value| matches!(value.kind, ValueKind::Table(_) | ValueKind::Array(_))),
    };
    if structured {
        return include::override_value(variable, text, path);
    }
    Ok(tree::value(&Origin::Override { variable: variable.to_owned() }, text))
}

fn set(tree: &mut Value, path: &[String], value: Value) {
    let Some((key, below)) = path.split_first() else {
        *tree = value;
        return;
    };
    if let ValueKind::Nil = tree.kind {
        *tree = Value::new(
            value.origin().map(str::to_owned).as_ref(),
            ::config::Map::<String, Value>::new(),
        );
    }
    if let ValueKind::Table(table) = &mut tree.kind {
        set(table.entry(key.clone()).or_default(), below, value);
    }
}

fn unmatched(tree: &Value, prefix: &str, variable: &str) -> ConfigError {
    let mut names = Vec::new();
    collect(Some(tree), Level::Root, prefix, &mut names);
    let nearest = tree::nearest(variable, names.iter().map(String::as_str));
    let path = match tree::origin(tree) {
        Origin::File { path, .. } => path,
        _ => "the file".into(),
    };
    ConfigError::OverrideUnmatched { variable: variable.to_owned(), path, nearest }
}

/// Names of variables that would match.
fn collect(value: Option<&Value>, level: Level, prefix: &str, names: &mut Vec<String>) {
    let present = value.map(tree::sorted).unwrap_or_default();
    let keys: BTreeSet<&str> = present
        .iter()
        .map(|(key, _)| key.as_str())
        .chain(level.known().iter().map(|field| field.name))
        .collect();
    for key in keys {
        if names.len() >= 2000 {
            return;
        }
        let name = format!("{prefix}_{}", normal(key).to_uppercase());
        let below = value.and_then(|value| tree::child(value, key));
        match below.map(|below| &below.kind) {
            None | Some(ValueKind::Table(_)) => collect(below, level.below(key), &name, names),
            Some(_) => {}
        }
        names.push(name);
    }
}
