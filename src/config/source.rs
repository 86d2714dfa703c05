//! The only place that reads files and the environment.

use std::{
    fmt, fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use ::config::{Map, Source};

use super::{
    ConfigError, Origin, include, overrides,
    tree::{self, Value, ValueKind},
};

const MAX_FILE: u64 = 1 << 20;

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
        f.debug_struct("Yaml").field("path", &self.path).finish_non_exhaustive()
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
        let tree = include::read(&self.path, self.text.as_deref())?;
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
        f.debug_struct("Environment").field("prefix", &self.prefix).finish_non_exhaustive()
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
                variables
                    .extend(given.iter().filter(|(name, _)| name.starts_with(&start)).cloned());
            }
            None => {
                for (name, text) in std::env::vars_os() {
                    let Some(name) = name.to_str().filter(|name| name.starts_with(&start)) else {
                        continue;
                    };
                    let text = text
                        .into_string()
                        .map_err(|_| ConfigError::OverrideNotUtf8 { variable: name.to_owned() })?;
                    variables.push((name.to_owned(), text));
                }
            }
        }
        variables.sort();
        Ok(Self { prefix: prefix.to_owned(), variables })
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

/// The name of the running program, for `application_name`.
pub(super) fn program() -> String {
    let name = std::env::current_exe().ok();
    let name = name.as_deref().and_then(Path::file_stem).and_then(|stem| stem.to_str());
    name.unwrap_or("wharf").to_owned()
}

/// The name of the user that runs the program, for an entry without `user`, as in libpq.
pub(super) fn system_user() -> Option<String> {
    whoami::username().ok()
}

/// The name by which a file is known whatever links lead to it.
pub(super) fn true_name(path: &Path, included_at: Option<&Origin>) -> Result<PathBuf, ConfigError> {
    fs::canonicalize(path).map_err(|cause| unreadable(path, included_at, cause))
}

/// What a file holds.
pub(super) fn text(path: &Path, included_at: Option<&Origin>) -> Result<String, ConfigError> {
    let refuse = |cause| unreadable(path, included_at, cause);
    let line = |line| Origin::File { path: include::clean(path), line };
    // Before it is opened: a pipe would wait for its writer, and a device never ends.
    let kind = fs::metadata(path).map_err(refuse)?.file_type();
    if kind.is_dir() {
        let cause =
            io::Error::new(io::ErrorKind::IsADirectory, "it is a folder; name a file in it");
        return Err(refuse(cause));
    }
    if !kind.is_file() {
        let why = "it is a pipe, a socket or a device; name a regular file";
        return Err(refuse(io::Error::new(io::ErrorKind::InvalidInput, why)));
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).map_err(refuse)?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(refuse)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(ConfigError::TooLarge {
            at: line(1),
            what: format!("longer than {MAX_FILE} bytes"),
        });
    }
    String::from_utf8(bytes).map_err(|error| {
        let before = error.as_bytes().iter().take(error.utf8_error().valid_up_to());
        ConfigError::NotUtf8 { at: line(1 + before.filter(|byte| **byte == b'\n').count()) }
    })
}

fn unreadable(path: &Path, included_at: Option<&Origin>, cause: io::Error) -> ConfigError {
    let (path, included_at) = (include::clean(path), included_at.cloned());
    if cause.kind() != io::ErrorKind::NotFound {
        return ConfigError::Unreadable { path, included_at, cause };
    }
    let folder = path.parent().unwrap_or(Path::new(""));
    let folder = std::path::absolute(folder.join(".")).unwrap_or_else(|_| folder.to_owned());
    let folder = include::clean(&folder);
    let nearest =
        path.file_name().and_then(|wrong| nearest_file(&folder, &wrong.to_string_lossy()));
    ConfigError::Missing { path, included_at, folder, nearest }
}

/// The file of a folder that is nearest in spelling.
fn nearest_file(folder: &Path, wrong: &str) -> Option<String> {
    const MOST: usize = 1_000;
    let files = fs::read_dir(folder).ok()?.take(MOST).filter_map(Result::ok);
    let files = files.filter(|file| file.file_type().is_ok_and(|kind| !kind.is_dir()));
    let names: Vec<_> = files.filter_map(|file| file.file_name().into_string().ok()).collect();
    tree::nearest(wrong, names.iter().map(String::as_str))
}

/// Where a file is looked for that nobody named.
#[cfg(any(feature = "cli", feature = "testing"))]
pub(crate) const USUAL: [&str; 2] = ["etc/infra.yaml", "infra.yaml"];

/// Looks for the file that nobody named, in a folder and those above it.
#[cfg(any(feature = "cli", feature = "testing"))]
pub(crate) fn find(from: &Path) -> Option<(&Path, &'static str)> {
    let found = |folder: &Path| USUAL.into_iter().find(|name| folder.join(name).is_file());
    from.ancestors().find_map(|folder| found(folder).map(|name| (folder, name)))
}
