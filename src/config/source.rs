//! The only place that reads files and the environment.

use std::{
    collections::HashMap,
    fmt, fs,
    io::{self, Read as _},
    path::{Component, Path, PathBuf},
    rc::Rc,
};

use ::config::{Map, Source};

use super::{
    ConfigError, Origin, fields, overrides,
    tree::{self, Value, ValueKind},
    yaml::{self, Kind, Node, Place, Tag},
};

const MAX_FILE: u64 = 1 << 20;
const MAX_VALUES: usize = 100_000;
const MAX_TEXT: usize = 16 << 20;
const MAX_INCLUDES: usize = 32;

/// A YAML file with everything it includes.
#[derive(Clone)]
pub(super) struct Yaml {
    pub(super) path: PathBuf,
    /// In place of what the file holds.
    pub(super) text: Option<String>,
}

// The text may hold passwords.
impl fmt::Debug for Yaml {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Yaml")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl Yaml {
    fn read(&self) -> Result<Value, ConfigError> {
        let mut reader = Reader::default();
        let place = Place::File(clean(&self.path));
        let root = match &self.text {
            Some(text) => yaml::parse(text, &place)?,
            None => {
                let (canonical, root) = reader.open(&self.path, None)?;
                reader.chain.push((canonical, None));
                root
            }
        };
        reader.convert(&root, &place, &mut Vec::new())
    }
}

impl Source for Yaml {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ::config::ConfigError> {
        let mut tree = Value::default();
        self.collect_to(&mut tree)?;
        tree.into_table()
    }

    // The default method takes each key for a path, so that `a.b` or `a[0]` as a key would be misread.
    fn collect_to(&self, cache: &mut Value) -> Result<(), ::config::ConfigError> {
        let tree = self.read()?;
        if !matches!(tree.kind, ValueKind::Table(_)) {
            let (at, found) = (tree::origin(&tree), tree::kind_name(&tree));
            let expected = "a map of sections, such as `databases:`";
            return Err(ConfigError::WrongType {
                at,
                path: "(the file)".to_owned(),
                expected,
                found,
            }
            .into());
        }
        *cache = tree;
        Ok(())
    }
}

/// The variables of the environment that may override values of the file.
#[derive(Clone)]
pub(super) struct Environment {
    prefix: String,
    variables: Vec<(String, String)>,
}

// The values may be passwords.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl Environment {
    /// Those of `given`, or of the process, that begin with the prefix.
    pub(super) fn new(
        prefix: &str,
        given: Option<&[(String, String)]>,
    ) -> Result<Self, ConfigError> {
        if prefix.is_empty() {
            return Err(ConfigError::EmptyPrefix);
        }
        let start = format!("{prefix}_");
        let mut variables = Vec::new();
        match given {
            Some(given) => {
                variables.extend(
                    given
                        .iter()
                        .filter(|(name, _)| name.starts_with(&start))
                        .cloned(),
                );
            }
            None => {
                for (name, text) in std::env::vars_os() {
                    let Some(name) = name.to_str().filter(|name| name.starts_with(&start)) else {
                        continue;
                    };
                    let text = text
                        .into_string()
                        .map_err(|_| ConfigError::OverrideNotUtf8 {
                            variable: name.to_owned(),
                        })?;
                    variables.push((name.to_owned(), text));
                }
            }
        }
        variables.sort();
        Ok(Self {
            prefix: prefix.to_owned(),
            variables,
        })
    }
}

impl Source for Environment {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ::config::ConfigError> {
        let mut tree = Value::new(None, Map::<String, Value>::new());
        self.collect_to(&mut tree)?;
        tree.into_table()
    }

    // What `A_B_C` means depends on the keys that are there, so the tree read so far is needed.
    fn collect_to(&self, cache: &mut Value) -> Result<(), ::config::ConfigError> {
        Ok(overrides::apply(cache, &self.prefix, &self.variables)?)
    }
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

/// The name of the running program, for `application_name`.
pub(super) fn program() -> String {
    let name = std::env::current_exe().ok();
    let name = name
        .as_deref()
        .and_then(Path::file_stem)
        .and_then(|stem| stem.to_str());
    name.unwrap_or("wharf").to_owned()
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
        let shown = clean(path);
        let refuse = |cause: io::Error| match cause.kind() {
            io::ErrorKind::NotFound => ConfigError::Missing {
                path: shown.clone(),
                included_at: included_at.cloned(),
            },
            _ => ConfigError::Unreadable {
                path: shown.clone(),
                included_at: included_at.cloned(),
                cause,
            },
        };
        let canonical = fs::canonicalize(path).map_err(&refuse)?;
        if let Some(root) = self.files.get(&canonical) {
            return Ok((canonical, root.clone()));
        }
        if canonical.is_dir() {
            return Err(refuse(io::Error::new(
                io::ErrorKind::IsADirectory,
                "it is a folder; name a file in it",
            )));
        }
        let mut bytes = Vec::new();
        let file = fs::File::open(&canonical).map_err(&refuse)?;
        file.take(MAX_FILE + 1)
            .read_to_end(&mut bytes)
            .map_err(&refuse)?;
        let place = Place::File(shown.clone());
        if bytes.len() as u64 > MAX_FILE {
            let what = format!("longer than {MAX_FILE} bytes");
            return Err(ConfigError::TooLarge {
                at: place.line(1),
                what,
            });
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let before = error
                .as_bytes()
                .iter()
                .take(error.utf8_error().valid_up_to());
            ConfigError::NotUtf8 {
                at: place.line(1 + before.filter(|byte| **byte == b'\n').count()),
            }
        })?;
        let root = yaml::parse(&text, &place)?;
        self.files.insert(canonical.clone(), root.clone());
        Ok((canonical, root))
    }

    /// Follows an `!include`; the caller shortens the chain again.
    fn include(&mut self, node: &Node, place: &Place) -> Result<Included, ConfigError> {
        let at = place.line(node.line);
        let unsupported = |what: &str| ConfigError::Unsupported {
            at: at.clone(),
            what: what.to_owned(),
        };
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
            return Err(unsupported(
                "`!include` names no file: `!include other.yaml#section`",
            ));
        }
        let path = from.parent().unwrap_or(Path::new("")).join(file);
        let (canonical, root) = self.open(&path, Some(&at))?;
        let step = (canonical, section.clone());
        if self.chain.contains(&step) {
            let mut chain: Vec<String> = self
                .chain
                .iter()
                .skip_while(|link| **link != step)
                .map(link_name)
                .collect();
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
        Err(ConfigError::IncludeSection {
            at,
            path: clean(&path),
            section,
            nearest,
        })
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
            return Err(ConfigError::TooLarge {
                at: at.clone(),
                what,
            });
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
                    return Err(ConfigError::Unsupported {
                        at: place.line(key.line),
                        what,
                    });
                }
                continue;
            };
            if let Some(first) = lines.insert(text, key.line)
                && strict
            {
                let (at, first) = (place.line(key.line), place.line(first));
                return Err(ConfigError::DuplicateKey {
                    at,
                    key: text.to_owned(),
                    first,
                });
            }
            self.text += text.len();
            path.push(text.to_owned());
            table.insert(text.to_owned(), self.convert(child, place, path)?);
            path.pop();
        }
        for (key, child) in entries.iter().filter(|(key, _)| key.merge) {
            let merged = self.convert(child, place, path)?;
            let sources = match merged.kind {
                ValueKind::Array(items) => items,
                kind => vec![Value::new(None, kind)],
            };
            for source in sources {
                match source.kind {
                    ValueKind::Table(source) => {
                        for (key, value) in source {
                            table.entry(key).or_insert(value);
                        }
                    }
                    _ if strict => {
                        let what = "`<<` takes a map, or a list of maps".to_owned();
                        return Err(ConfigError::Unsupported {
                            at: place.line(key.line),
                            what,
                        });
                    }
                    _ => {}
                }
            }
        }
        Ok(tree::value(at, table))
    }
}

fn is_ours(path: &[String]) -> bool {
    path.first()
        .is_some_and(|top| fields::SECTIONS.contains(&top.as_str()))
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
        let name = if prefix.is_empty() {
            text.clone()
        } else {
            format!("{prefix}.{text}")
        };
        if depth > 1 && names.len() < 2000 {
            sections(child, &name, depth - 1, names);
        }
        names.push(name);
    }
}

/// Without the `./` that people write, so that a file has one name in errors.
fn clean(path: &Path) -> PathBuf {
    path.components()
        .filter(|part| !matches!(part, Component::CurDir))
        .collect()
}
