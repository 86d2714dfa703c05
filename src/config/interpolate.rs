//! `${path.to.key}` to the value that it leads to.

use std::collections::HashMap;

use ::config::Map;

use super::{
    ConfigError, Origin,
    fields::{self, Shape},
    tree::{self, Value, ValueKind},
    url,
};

/// What stands for a value whose reference leads nowhere: its error has been noted.
pub(super) const BROKEN: &str = "\u{0}";
const MAX_CHAIN: usize = 64;
const MAX_TEXT: usize = 64 << 10;
const MAX_VALUES: usize = 100_000;
/// Through references as well, all of which use the stack.
const MAX_DEPTH: usize = 128;

/// Begins a reference to a variable of the environment, unless the file has a section of this name.
const ENV: &str = "env.";

/// Looks a variable of the environment up; `Err` if it is not UTF-8.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> Result<Option<String>, ()>;

/// The sections that are wharf's with every reference resolved; the others are only referred to. A
/// value whose reference leads nowhere is left out and its error added to `errors`.
pub(super) fn resolve(
    tree: &Value,
    env: Lookup<'_>,
    errors: &mut Vec<ConfigError>,
) -> Result<Value, ConfigError> {
    let mut resolver = Resolver {
        tree,
        env,
        errors,
        chain: Vec::new(),
        known: HashMap::new(),
        values: 0,
        depth: 0,
    };
    let mut sections = Map::new();
    for name in fields::SECTIONS {
        if let Some(section) = tree::child(tree, name) {
            let mut path = vec![(*name).to_owned()];
            let place = Place {
                at: tree::origin(section),
                path: (*name).to_owned(),
                secret: false,
                url: false,
            };
            sections.insert((*name).to_owned(), resolver.value(section, &mut path, &place)?);
        }
    }
    Ok(tree::value(&tree::origin(tree), sections))
}

enum Piece {
    Text(String),
    Reference(String),
}

/// The value of ours that is being resolved, which is what errors speak of.
#[derive(Clone)]
struct Place {
    at: Origin,
    path: String,
    secret: bool,
    url: bool,
}

struct Resolver<'a> {
    tree: &'a Value,
    env: Lookup<'a>,
    errors: &'a mut Vec<ConfigError>,
    /// References that are being followed.
    chain: Vec<String>,
    /// Text of references that were followed; without it, doubling references would take forever.
    known: HashMap<(String, bool), String>,
    values: usize,
    depth: usize,
}

impl Resolver<'_> {
    fn value(
        &mut self,
        value: &Value,
        path: &mut Vec<String>,
        above: &Place,
    ) -> Result<Value, ConfigError> {
        self.values += 1;
        self.depth += 1;
        if self.values > MAX_VALUES || self.depth > MAX_DEPTH {
            let what = "too many values, or too deep, once references are written out".to_owned();
            return Err(ConfigError::TooLarge { at: above.at.clone(), what });
        }
        let resolved = self.kind(value, path, above);
        self.depth -= 1;
        resolved
    }

    fn kind(
        &mut self,
        value: &Value,
        path: &mut Vec<String>,
        above: &Place,
    ) -> Result<Value, ConfigError> {
        // Inside something that was referred to, errors keep speaking of the value that refers.
        let place = if self.chain.is_empty() { Place::new(value, path) } else { above.clone() };
        let origin = tree::origin(value);
        match &value.kind {
            ValueKind::Table(_) => {
                let mut table = Map::new();
                for (key, below) in tree::sorted(value) {
                    path.push(key.clone());
                    table.insert(key.clone(), self.value(below, path, &place)?);
                    path.pop();
                }
                Ok(tree::value(&origin, table))
            }
            ValueKind::Array(items) => {
                let mut values = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    path.push(index.to_string());
                    values.push(self.value(item, path, &place)?);
                    path.pop();
                }
                Ok(tree::value(&origin, values))
            }
            ValueKind::String(text) => match self.text(text, &origin, &place) {
                // The file is read on, so that its other faults are found, too.
                Err(error)
                    if self.chain.is_empty() && !matches!(error, ConfigError::TooLarge { .. }) =>
                {
                    self.errors.push(error);
                    Ok(tree::value(&origin, BROKEN))
                }
                resolved => resolved,
            },
            _ => Ok(value.clone()),
        }
    }

    fn text(&mut self, text: &str, origin: &Origin, place: &Place) -> Result<Value, ConfigError> {
        let pieces = split(text).ok_or_else(|| {
            place.invalid("holds a `${` that is not closed by `}`; write `$${` for a plain `${`")
        })?;
        // Alone, a reference stands for whatever it leads to; its origin is where it is written.
        if let [Piece::Reference(reference)] = pieces.as_slice() {
            let kind = self.follow(reference, place)?.kind;
            return Ok(tree::value(origin, kind));
        }
        let mut parts = Vec::new();
        for piece in pieces {
            parts.push(match piece {
                Piece::Text(text) => (text, false),
                Piece::Reference(reference) => (self.inserted(&reference, place)?, true),
            });
        }
        let joined = if place.url && parts.iter().any(|(_, inserted)| *inserted) {
            url::join(&parts).map_err(|reason| ConfigError::Url {
                at: place.at.clone(),
                path: place.path.clone(),
                reason: reason.to_owned(),
            })?
        } else {
            parts.into_iter().map(|(text, _)| text).collect()
        };
        if joined.len() > MAX_TEXT {
            let what = format!("longer than {MAX_TEXT} bytes once references are written out");
            return Err(ConfigError::TooLarge { at: place.at.clone(), what });
        }
        Ok(tree::value(origin, joined))
    }

    /// The text that a reference inside other text stands for; nothing is empty text.
    fn inserted(&mut self, reference: &str, place: &Place) -> Result<String, ConfigError> {
        let key = (reference.to_owned(), place.url);
        if let Some(text) = self.known.get(&key) {
            return Ok(text.clone());
        }
        let value = self.follow(reference, place)?;
        let text = match value.kind {
            ValueKind::String(text) => text,
            ValueKind::Nil => String::new(),
            _ => {
                return Err(ConfigError::NotText {
                    at: place.at.clone(),
                    path: place.path.clone(),
                    reference: reference.to_owned(),
                    found: tree::kind_name(&value),
                });
            }
        };
        self.known.insert(key, text.clone());
        Ok(text)
    }

    fn follow(&mut self, reference: &str, place: &Place) -> Result<Value, ConfigError> {
        let tree = self.tree;
        if let Some(name) = reference.strip_prefix(ENV)
            && tree::child(tree, ENV.trim_end_matches('.')).is_none()
        {
            return self.variable(name, place);
        }
        let Some(target) = tree::find(tree, reference) else {
            return Err(self.unresolved(reference, place));
        };
        let cyclic = self.chain.iter().any(|link| link == reference);
        self.chain.push(reference.to_owned());
        if cyclic || self.chain.len() > MAX_CHAIN {
            let mut chain: Vec<String> =
                self.chain.iter().skip_while(|link| *link != reference).cloned().collect();
            if !cyclic {
                chain =
                    self.chain.iter().take(3).cloned().chain(["… (too long)".to_owned()]).collect();
            }
            return Err(ConfigError::ReferenceCycle {
                at: place.at.clone(),
                path: place.path.clone(),
                chain,
            });
        }
        let resolved = self.value(target, &mut Vec::new(), place)?;
        self.chain.pop();
        Ok(resolved)
    }

    /// The value of a variable of the environment, as it is.
    fn variable(&self, name: &str, place: &Place) -> Result<Value, ConfigError> {
        match (self.env)(name) {
            Ok(Some(text)) => Ok(tree::value(&place.at, text)),
            Ok(None) => Err(place.invalid(&format!(
                "needs the environment variable {name}, which is not set; set it, or write the value"
            ))),
            Err(()) => Err(ConfigError::OverrideNotUtf8 { variable: name.to_owned() }),
        }
    }

    fn unresolved(&self, reference: &str, place: &Place) -> ConfigError {
        let is_variable = reference.contains(|c: char| c.is_ascii_uppercase())
            && reference.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
        if is_variable {
            return place.invalid(&format!(
                "refers to `${{{reference}}}`, but `${{…}}` is a path in the file, which has none of this \
                 name; write `${{env.{reference}}}` to read the environment variable"
            ));
        }
        let mut paths = Vec::new();
        tree::paths(self.tree, "", 2000, &mut paths);
        let nearest = tree::nearest(reference, paths.iter().map(String::as_str));
        // A password may happen to hold `${`; only what looks like a slip of the pen is repeated.
        let shown = !place.secret || nearest.is_some();
        let reference = if shown { reference } else { "…" }.to_owned();
        ConfigError::Unresolved {
            at: place.at.clone(),
            path: place.path.clone(),
            reference,
            nearest,
        }
    }
}

impl Place {
    fn new(value: &Value, path: &[String]) -> Self {
        let shape = fields::shape_at(path);
        Self {
            at: tree::origin(value),
            path: path.join("."),
            secret: shape.is_some_and(Shape::is_secret),
            url: matches!(shape, Some(Shape::Url)),
        }
    }

    fn invalid(&self, reason: &str) -> ConfigError {
        ConfigError::Invalid {
            at: self.at.clone(),
            path: self.path.clone(),
            reason: reason.to_owned(),
        }
    }
}

/// Cuts text at its references; `$${` is a plain `${`. `None` if one is not closed.
fn split(text: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let (before, after) = rest.split_at(start);
        let after = after.strip_prefix("${")?;
        if let Some(before) = before.strip_suffix('$') {
            plain.push_str(before);
            plain.push_str("${");
            rest = after;
            continue;
        }
        plain.push_str(before);
        let (reference, after) = after.split_once('}')?;
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
        }
        pieces.push(Piece::Reference(reference.trim().to_owned()));
        rest = after;
    }
    plain.push_str(rest);
    if !plain.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Some(pieces)
}
