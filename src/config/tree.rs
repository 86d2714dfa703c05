//! Values with where they came from, and ways to find one.
//!
//! Every scalar is kept as the text that the file has, and gets its type from the field that reads it:
//! a guess at this point would turn the version `17.10` into 17.1 and the password `0123` into 123.

use std::{fmt, path::PathBuf};

pub(super) use ::config::{Value, ValueKind};

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// A line of a file.
    File {
        /// The file, as it was named: the one asked for, or that one's folder with an include's name.
        path: PathBuf,
        /// Its line; the first one is 1.
        line: usize,
    },
    /// An environment variable.
    Override {
        /// Its name.
        variable: String,
    },
    /// The url given to [`DatabaseConfig::from_url`](super::DatabaseConfig::from_url).
    Argument,
    /// Not given: wharf's own default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Override { variable } => f.write_str(variable),
            Self::Argument => f.write_str("the url given"),
            Self::Default => f.write_str("default"),
        }
    }
}

impl Origin {
    /// The form that fits into `config::Value`, which has room for one text: `file:line`, or
    /// `variable:` with nothing after the colon.
    fn encode(&self) -> Option<String> {
        match self {
            Self::File { .. } => Some(self.to_string()),
            Self::Override { variable } => Some(format!("{variable}:")),
            Self::Argument | Self::Default => None,
        }
    }

    fn decode(text: &str) -> Self {
        match text.rsplit_once(':') {
            Some((path, line)) if !line.is_empty() => {
                Self::File { path: path.into(), line: line.parse().unwrap_or(0) }
            }
            Some((variable, _)) => Self::Override { variable: variable.to_owned() },
            None => Self::Override { variable: text.to_owned() },
        }
    }
}

pub(super) fn value(origin: &Origin, kind: impl Into<ValueKind>) -> Value {
    Value::new(origin.encode().as_ref(), kind)
}

pub(super) fn origin(value: &Value) -> Origin {
    value.origin().map_or(Origin::Default, Origin::decode)
}

/// What a value is, for errors: never the value itself.
pub(super) fn kind_name(value: &Value) -> &'static str {
    match &value.kind {
        ValueKind::Nil => "nothing",
        ValueKind::Table(_) => "a map",
        ValueKind::Array(_) => "a list",
        ValueKind::String(text) if text.is_empty() => "empty text",
        ValueKind::String(_) => "text",
        _ => "something else",
    }
}

pub(super) fn child<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match &value.kind {
        ValueKind::Table(table) => table.get(key),
        ValueKind::Array(items) => items.get(key.parse::<usize>().ok()?),
        _ => None,
    }
}

/// The keys of a map in order, so that of two mistakes the same one is always reported first.
pub(super) fn sorted(value: &Value) -> Vec<(&String, &Value)> {
    match &value.kind {
        ValueKind::Table(table) => {
            let mut entries: Vec<_> = table.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            entries
        }
        _ => Vec::new(),
    }
}

/// A key that is shown although nobody knows it: without what cannot belong to a name. `{password:x}`,
/// where the space is missing, is one key, and half of it is a secret.
pub(super) fn shown(key: &str) -> String {
    match key.find(|c: char| !c.is_alphanumeric() && !matches!(c, '_' | '-' | '.')) {
        Some(end) => format!("{}…", key.get(..end).unwrap_or_default()),
        None => key.to_owned(),
    }
}

/// Where the value at `path` came from, or else the nearest one above it.
pub(super) fn origin_at<S: AsRef<str>>(root: &Value, path: &[S]) -> Origin {
    let mut here = root;
    let mut found = origin(root);
    for key in path {
        match child(here, key.as_ref()) {
            Some(next) => here = next,
            None => break,
        }
        if here.origin().is_some() {
            found = origin(here);
        }
    }
    found
}

/// The value at a dotted path; keys may hold dots themselves.
pub(super) fn find<'a>(root: &'a Value, path: &str) -> Option<&'a Value> {
    if let Some(exact) = child(root, path) {
        return Some(exact);
    }
    path.match_indices('.').find_map(|(dot, _)| {
        let (head, tail) = (path.get(..dot)?, path.get(dot + 1..)?);
        find(child(root, head)?, tail)
    })
}

/// Dotted paths of the scalars below, at most `limit` of them.
pub(super) fn paths(value: &Value, prefix: &str, limit: usize, found: &mut Vec<String>) {
    for (key, next) in sorted(value) {
        if found.len() >= limit {
            return;
        }
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match next.kind {
            ValueKind::Table(_) => paths(next, &path, limit, found),
            _ => found.push(path),
        }
    }
}

/// The candidate nearest in spelling, if one is near enough to be meant.
pub(super) fn nearest<'a>(
    wrong: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<String> {
    let wrong = wrong.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| {
            let lower = candidate.to_lowercase();
            // Distance finds typos; Jaro-Winkler, which weighs the beginning, finds `username` for `user`.
            let score = strsim::normalized_damerau_levenshtein(&wrong, &lower)
                .max(strsim::jaro_winkler(&wrong, &lower) - 0.1);
            (score, candidate)
        })
        .filter(|(score, _)| *score > 0.65)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate.to_owned())
}
