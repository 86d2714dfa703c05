//! Environment variables to the values that they replace.

use std::collections::{BTreeSet, HashMap};

use super::{
    ConfigError, Origin,
    fields::{self, Level, Shape},
    include,
    tree::{self, Value, ValueKind},
};

/// Variables of the Python original's own framework, after the prefix.
const ORIGINAL: [&str; 6] = [
    "DEFAULT_CONFIG_FILE",
    "NO_CONFIRM",
    "CONTAINER_CMD",
    "COMPOSE_CMD",
    "PG_CONFIG_FILE",
    "DOCS_CONFIG_FILE",
];

/// Replaces in the tree what each variable names. One that names no section of the file is somebody
/// else's; one that names a section and no key in it is an error.
pub(super) fn apply(
    tree: &mut Value,
    prefix: &str,
    variables: &[(String, String)],
) -> Result<(), ConfigError> {
    let mut taken: HashMap<Vec<String>, &str> = HashMap::new();
    let mut errors = Vec::new();
    let mut targets = Vec::new();
    for (variable, text) in variables {
        let Some(rest) = variable.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_'))
        else {
            continue;
        };
        let mut found = Vec::new();
        search(Some(tree), Level::Root, &normal(rest), &mut Vec::new(), &mut found);
        if found.len() > 1 {
            errors.push(ConfigError::OverrideAmbiguous {
                variables: vec![variable.clone()],
                paths: found.iter().map(|path| path.join(".")).collect(),
                remedy: "rename one of the keys",
            });
            continue;
        }
        let Some(path) = found.pop() else {
            if !ORIGINAL.contains(&rest) && names_section(tree, &normal(rest)) {
                errors.push(unmatched(tree, prefix, variable));
            } else if let ConfigError::OverrideUnmatched { nearest: Some(nearest), .. } =
                unmatched(tree, prefix, variable)
            {
                tracing::warn!("the variable {variable} matches nothing; the nearest is {nearest}");
            }
            continue;
        };
        if let Some(other) = taken.insert(path.clone(), variable) {
            errors.push(ConfigError::OverrideAmbiguous {
                variables: vec![other.to_owned(), variable.clone()],
                paths: vec![path.join(".")],
                remedy: "unset one of the variables",
            });
            continue;
        }
        targets.push((variable, text, path));
    }
    for (variable, text, path) in targets {
        match read(tree, variable, text, &path) {
            Ok(value) => set(tree, &path, value),
            Err(error) => errors.push(error),
        }
    }
    ConfigError::all(errors)
}

/// Whether a variable is about a section of the file: the name begins with that of one at its top.
fn names_section(tree: &Value, rest: &str) -> bool {
    let known = fields::SECTIONS.iter().copied();
    let present = tree::sorted(tree).into_iter().map(|(key, _)| key.as_str());
    known.chain(present).any(|key| {
        rest.strip_prefix(normal(key).as_str())
            .is_some_and(|tail| tail.is_empty() || tail.starts_with('_'))
    })
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

/// One value is taken as it is written, for the field to read, and `null`, `none` or nothing as no
/// value. Where a list or a map belongs, YAML is read; a list may be written as `a,b,c`.
fn read(tree: &Value, variable: &str, text: &str, path: &[String]) -> Result<Value, ConfigError> {
    let present = path.iter().try_fold(tree, |value, key| tree::child(value, key));
    let is_list = match fields::shape_at(path) {
        Some(shape) => matches!(shape, Shape::Names | Shape::Hosts),
        None => present.is_some_and(|value| matches!(value.kind, ValueKind::Array(_))),
    };
    let structured = match fields::shape_at(path) {
        Some(shape) => {
            matches!(shape, Shape::Names | Shape::Hosts | Shape::Section(_) | Shape::Settings)
        }
        None => present
            .is_some_and(|value| matches!(value.kind, ValueKind::Table(_) | ValueKind::Array(_))),
    };
    let at = Origin::Override { variable: variable.to_owned() };
    if matches!(text.to_ascii_lowercase().as_str(), "" | "null" | "none") {
        return Ok(tree::value(&at, ValueKind::Nil));
    }
    // What a variable says is text: `${` refers to nothing.
    let text = text.replace("${", "$${");
    if is_list && !text.trim_start().starts_with(['[', '{', '-', '!']) {
        let items = text.split(',').map(|item| tree::value(&at, item.trim())).collect::<Vec<_>>();
        return Ok(tree::value(&at, items));
    }
    if structured {
        return include::override_value(variable, &text, path);
    }
    Ok(tree::value(&at, text))
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
