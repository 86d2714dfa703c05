//! `!include`, anchors and merge keys written out: the tree of one file to the tree of values.

use std::{
    borrow::Cow,
    collections::HashMap,
    path::{Component, Path, PathBuf},
    rc::Rc,
};

use ::config::Map;

use super::{
    ConfigError, Origin, fields, source,
    tree::{self, Value, ValueKind},
    yaml::{self, Kind, Node, Place, Tag},
};

const MAX_VALUES: usize = 100_000;
const MAX_TEXT: usize = 16 << 20;
const MAX_INCLUDES: usize = 32;

/// What a file, or this text in its place, stands for.
pub(super) fn read(path: &Path, text: Option<&str>) -> Result<Value, ConfigError> {
    let mut reader = Reader::default();
    let place = Place::File(clean(path));
    let root = match text {
        Some(text) => yaml::parse(&with_merges(text), &place)?,
        None => {
            let (canonical, root) = reader.open(path, None)?;
            reader.chain.push((canonical, None));
            root
        }
    };
    reader.convert(&root, &place, &mut Vec::new())
}

/// The value of an override that stands for a list or a map, written as YAML.
pub(super) fn override_value(
    variable: &str,
    text: &str,
    path: &[String],
) -> Result<Value, ConfigError> {
    let place = Place::Variable(variable.to_owned());
    let node = yaml::parse(text, &place)?;
    Reader::default().convert(&node, &place, &mut path.to_vec())
}

/// Reads files once and turns them into values, in the place where they are included.
#[derive(Default)]
struct Reader {
    files: HashMap<PathBuf, Rc<Node>>,
    /// The includes that are being followed, by the file's true name and the section.
    chain: Vec<(PathBuf, Option<String>)>,
    values: usize,
    text: usize,
}

type Included = (Rc<Node>, Place);

impl Reader {
    fn open(
        &mut self,
        path: &Path,
        included_at: Option<&Origin>,
    ) -> Result<(PathBuf, Rc<Node>), ConfigError> {
        let (canonical, place) = (source::true_name(path, included_at)?, Place::File(clean(path)));
        // An error may quote a key of it, which in another sort of file is a line of its own, such as a secret.
        if let Some(at) = included_at
            && !canonical.extension().is_some_and(|it| it == "yaml" || it == "yml" || it == "json")
        {
            let what = "`!include` reads files named *.yaml, *.yml or *.json; for a secret, use `password_file`";
            return Err(ConfigError::Unsupported { at: at.clone(), what: what.to_owned() });
        }
        if let Some(root) = self.files.get(&canonical) {
            return Ok((canonical, root.clone()));
        }
        let root = yaml::parse(&with_merges(&source::text(path, included_at)?), &place)?;
        self.files.insert(canonical.clone(), root.clone());
        Ok((canonical, root))
    }

    /// Follows an `!include`; the caller shortens the chain again.
    fn include(&mut self, node: &Node, place: &Place) -> Result<Included, ConfigError> {
        let at = place.line(node.line);
        let unsupported =
            |what: &str| ConfigError::Unsupported { at: at.clone(), what: what.to_owned() };
        let Kind::Scalar(name) = &node.kind else {
            return Err(unsupported(
                "`!include` takes the name of a file: `!include other.yaml#section`",
            ));
        };
        let Place::File(from) = place else {
            return Err(unsupported(
                "`!include` works in files only, not in an environment variable",
            ));
        };
        let (file, section) = match name.split_once('#') {
            Some((file, section)) => (file.trim(), Some(section.trim().to_owned())),
            None => (name.trim(), None),
        };
        if file.is_empty() {
            return Err(unsupported("`!include` names no file: `!include other.yaml#section`"));
        }
        let path = from.parent().unwrap_or(Path::new("")).join(file);
        let (canonical, root) = self.open(&path, Some(&at))?;
        let step = (canonical, section.clone());
        if self.chain.contains(&step) {
            let mut chain: Vec<String> =
                self.chain.iter().skip_while(|link| **link != step).map(link_name).collect();
            chain.push(link_name(&step));
            return Err(ConfigError::IncludeCycle { at, chain });
        }
        if self.chain.len() >= MAX_INCLUDES {
            let what = format!("includes are nested more than {MAX_INCLUDES} deep");
            return Err(ConfigError::TooLarge { at, what });
        }
        self.chain.push(step);
        let shown = Place::File(clean(&path));
        let Some(section) = section else {
            return Ok((root, shown));
        };
        if let Some(found) = self.select(&root, &shown, &section)? {
            return Ok(found);
        }
        let mut names = Vec::new();
        sections(&root, "", 3, &mut names);
        let nearest = tree::nearest(&section, names.iter().map(String::as_str));
        Err(ConfigError::IncludeSection { at, path: clean(&path), section, nearest })
    }

    /// The node at a dotted path, through merges and further includes.
    fn select(
        &mut self,
        node: &Rc<Node>,
        place: &Place,
        path: &str,
    ) -> Result<Option<Included>, ConfigError> {
        self.count(&place.line(node.line))?;
        if node.tag == Tag::Include {
            let links = self.chain.len();
            let (node, place) = self.include(node, place)?;
            let found = self.select(&node, &place, path)?;
            if found.is_none() {
                self.chain.truncate(links);
            }
            return Ok(found);
        }
        let entries = match &node.kind {
            Kind::Map(entries) => entries,
            _ => return Ok(None),
        };
        for (key, child) in entries.iter().filter(|(key, _)| !key.merge) {
            let Some(rest) = key.text.as_deref().and_then(|text| path.strip_prefix(text)) else {
                continue;
            };
            if rest.is_empty() && child.tag == Tag::Include {
                return self.include(child, place).map(Some);
            }
            if rest.is_empty() {
                return Ok(Some((child.clone(), place.clone())));
            }
            if let Some(rest) = rest.strip_prefix('.')
                && let Some(found) = self.select(child, place, rest)?
            {
                return Ok(Some(found));
            }
        }
        for (_, child) in entries.iter().filter(|(key, _)| key.merge) {
            let merged = match &child.kind {
                Kind::List(items) => items.as_slice(),
                _ => std::slice::from_ref(child),
            };
            for child in merged {
                if let Some(found) = self.select(child, place, path)? {
                    return Ok(Some(found));
                }
            }
        }
        Ok(None)
    }

    fn convert(
        &mut self,
        node: &Node,
        place: &Place,
        path: &mut Vec<String>,
    ) -> Result<Value, ConfigError> {
        let at = place.line(node.line);
        self.count(&at)?;
        if path.len() > yaml::MAX_DEPTH {
            let what = format!("values are nested more than {} deep", yaml::MAX_DEPTH);
            return Err(ConfigError::TooLarge { at, what });
        }
        match &node.tag {
            Tag::Include => {
                let links = self.chain.len();
                let (node, place) = self.include(node, place)?;
                let value = self.convert(&node, &place, path)?;
                self.chain.truncate(links);
                return Ok(value);
            }
            Tag::Other(tag) if is_ours(path) => {
                let what = format!("the tag `{tag}` means nothing here; only `!include` does");
                return Err(ConfigError::Unsupported { at, what });
            }
            Tag::Other(_) | Tag::Plain => {}
        }
        match &node.kind {
            Kind::Null => Ok(tree::value(&at, ValueKind::Nil)),
            Kind::Scalar(text) => {
                self.text += text.len();
                Ok(tree::value(&at, text.clone()))
            }
            Kind::List(items) => {
                let mut values = Vec::new();
                for (index, item) in items.iter().enumerate() {
                    path.push(index.to_string());
                    values.push(self.convert(item, place, path)?);
                    path.pop();
                }
                Ok(tree::value(&at, values))
            }
            Kind::Map(entries) => self.map(entries, &at, place, path),
        }
    }

    /// A few includes or aliases can stand for any number of values.
    fn count(&mut self, at: &Origin) -> Result<(), ConfigError> {
        self.values += 1;
        if self.values > MAX_VALUES || self.text > MAX_TEXT {
            let what = "too many values once includes and aliases are written out".to_owned();
            return Err(ConfigError::TooLarge { at: at.clone(), what });
        }
        Ok(())
    }

    fn map(
        &mut self,
        entries: &[(yaml::Key, Rc<Node>)],
        at: &Origin,
        place: &Place,
        path: &mut Vec<String>,
    ) -> Result<Value, ConfigError> {
        // Sections that are not ours are read as leniently as their own readers may do.
        let strict = path.is_empty() || is_ours(path);
        let mut table = Map::new();
        let mut lines: HashMap<&str, usize> = HashMap::new();
        for (key, child) in entries.iter().filter(|(key, _)| !key.merge) {
            let Some(text) = key.text.as_deref() else {
                if strict {
                    let what = "a list or a map as a key; keys are text".to_owned();
                    return Err(ConfigError::Unsupported { at: place.line(key.line), what });
                }
                continue;
            };
            if let Some(first) = lines.insert(text, key.line)
                && strict
            {
                let (at, first) = (place.line(key.line), place.line(first));
                return Err(ConfigError::DuplicateKey { at, key: tree::shown(text), first });
            }
            self.text += text.len();
            path.push(text.to_owned());
            table.insert(text.to_owned(), self.convert(child, place, path)?);
            path.pop();
        }
        let mut merges: Vec<_> = entries.iter().filter(|(key, _)| key.merge).collect();
        if path.is_empty() {
            // Of the files that a document is on top of, later ones override earlier ones.
            merges.reverse();
        }
        for (key, child) in merges {
            let merged = self.convert(child, place, path)?;
            let sources = match merged.kind {
                ValueKind::Array(items) => items,
                kind => vec![Value::new(None, kind)],
            };
            for source in sources {
                match source.kind {
                    ValueKind::Table(source) if path.is_empty() => fill(&mut table, source),
                    ValueKind::Table(source) => {
                        for (key, value) in source {
                            table.entry(key).or_insert(value);
                        }
                    }
                    _ if strict => {
                        let what = "`<<` takes a map, or a list of maps".to_owned();
                        return Err(ConfigError::Unsupported { at: place.line(key.line), what });
                    }
                    _ => {}
                }
            }
        }
        Ok(tree::value(at, table))
    }
}

/// A document whose first lines are `!include FILE`, before its keys, is one on top of those files, as
/// the Python original reads it: each such line as a merge key, which YAML has for that.
fn with_merges(text: &str) -> Cow<'_, str> {
    let is_include = |line: &str| line.starts_with("!include ");
    let is_blank = |line: &str| {
        let line = line.trim();
        line.is_empty() || line == "---" || line.starts_with(['#', '%'])
    };
    let mut lines = text.lines();
    let head: usize = lines.by_ref().take_while(|line| is_include(line) || is_blank(line)).count();
    let has_keys = text.lines().skip(head).any(|line| !is_blank(line));
    if !has_keys || !text.lines().take(head).any(is_include) {
        return Cow::Borrowed(text);
    }
    let lines = text.lines().enumerate().map(|(at, line)| match at < head && is_include(line) {
        true => format!("<<: {line}\n"),
        false => format!("{line}\n"),
    });
    Cow::Owned(lines.collect())
}

/// Adds what a map lacks, at every depth.
fn fill(table: &mut Map<String, Value>, source: Map<String, Value>) {
    for (key, value) in source {
        match table.get_mut(&key) {
            Some(own) => {
                if let (ValueKind::Table(own), ValueKind::Table(below)) =
                    (&mut own.kind, value.kind)
                {
                    fill(own, below);
                }
            }
            None => {
                table.insert(key, value);
            }
        }
    }
}

fn is_ours(path: &[String]) -> bool {
    path.first().is_some_and(|top| fields::SECTIONS.contains(&top.as_str()))
}

fn link_name((path, section): &(PathBuf, Option<String>)) -> String {
    match section {
        Some(section) => format!("{}#{section}", path.display()),
        None => path.display().to_string(),
    }
}

/// Names that `#section` could have meant.
fn sections(node: &Node, prefix: &str, depth: usize, names: &mut Vec<String>) {
    let Kind::Map(entries) = &node.kind else {
        return;
    };
    for (key, child) in entries.iter().take(200) {
        let Some(text) = &key.text else { continue };
        let name = if prefix.is_empty() { text.clone() } else { format!("{prefix}.{text}") };
        if depth > 1 && names.len() < 2000 {
            sections(child, &name, depth - 1, names);
        }
        names.push(name);
    }
}

/// Without the `./` that people write, so that a file has one name in errors.
pub(super) fn clean(path: &Path) -> PathBuf {
    path.components().filter(|part| !matches!(part, Component::CurDir)).collect()
}
