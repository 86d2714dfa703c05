//! What the file says, checked.
//!
//! # The file
//! ```yaml
//! pgserver: !include pg.yaml#pgserver         # a section of another file
//! logging: !include ./lg.yaml                 # not wharf's: left alone
//!
//! databases:                                  # or `dbs:`, not both
//!   production:                               # by parts
//!     host: db.example.com
//!     database: shop
//!     user: app
//!     password: ${vault.shop}                 # a value of any section
//!     pool_size: 20
//!     statement_timeout: 30s
//!   reports:                                  # by url
//!     url: postgresql://${pgserver.user}:${pgserver.pass}@127.0.0.1:${pgserver.port}/shop
//!     readonly: true
//!   local:                                    # on the server of `pgserver:`, wherever that listens
//!     pgserver: true                          # or `replica`: on its standby
//!     database: shop
//!
//! monitor:                                    # for every database; an entry may have its own
//!   slow_statement_threshold: 200ms
//!
//! vault: {shop: s3cret}
//! ```
//! Its keys are the fields of [`DatabaseConfig`], [`PgServerConfig`] and [`MonitorConfig`], which tell the
//! defaults. Any other key in these sections is refused; any other section at the top is left alone.
//!
//! **Forms.** An entry says where its database is in one of three ways: `host`, `port`, `database`,
//! `user`, `password`; or `url`; or `pgserver: true` with `database`, where `user` and `password` are the
//! server's own unless given. `type: postgresql` may stand in each. A url has the scheme `postgresql` or
//! `postgres` (SQLAlchemy's `+driver` has no effect) and takes libpq's parameters `host`, `port`, `user`,
//! `password`, `dbname`, `sslmode`, `sslrootcert`, `sslcert`, `sslkey`, `application_name`,
//! `connect_timeout`. A user and a database must be named.
//!
//! **Values** get their type from their key, not from their looks: `version: 17.10` and
//! `password: 0123` are text as written, `pool_size: "7"` is a number. true and false may be written as
//! in YAML 1.1 as well (yes, no, on, off). A key with nothing behind it counts as not given; `""` is
//! the empty text.
//!
//! **Times** are a number with a unit (`us`, `ms`, `s`, `min`, `h`, `d`), fractions allowed. A bare number
//! is seconds in `pool_timeout`, `pool_recycle`, `connect_timeout`, `socket_timeout`,
//! `leak_detection_threshold` and `slow_statement_threshold`, as in SQLAlchemy and libpq, and milliseconds in `statement_timeout`, `lock_timeout` and `idle_in_transaction_timeout`, as in
//! PostgreSQL, where 0 means off. `pool_recycle: -1` means never.
//!
//! **Includes.** `!include file.yaml` or `!include file.yaml#section.below` stands for a value, anywhere,
//! the whole document included; the name is relative to the file that has it. Anchors, aliases and merge
//! keys (`<<`) work; a key given twice in a map does not.
//!
//! **References.** `${path.to.key}` is the value at that path, once everything is included and
//! overridden. Alone it stands for whatever is there; inside text for one value, nothing being empty
//! text. `$${` is a plain `${`. A value inserted into the user, the password or the database of a `url`
//! is percent-encoded on its way, so a password may hold `@` or `/`; write it unencoded where it is
//! defined.
//!
//! **Overrides.** `INFRA_DATABASES_PRODUCTION_POOL_SIZE=7` replaces `databases.production.pool_size`;
//! another prefix is [`Loader::env_prefix`]. Case does not matter after the prefix, and an underscore
//! stands for itself, a hyphen, or the step to the next key; a variable that fits two paths, or none, is
//! refused. What may be named: any value that is in the file, and any key that an entry, `pgserver:`
//! or `monitor:` may have. The text has the type of the key; lists and maps are written as YAML (`[vector, postgis]`).
//!
//! **SQLAlchemy's keys** `echo`, `echo_pool`, `expire_on_commit`, `autoflush`, `pool_use_lifo` and
//! `pool_reset_on_return` are accepted and have no effect; loading logs a warning for each.
//!
//! ```
//! use wharf::config::Config;
//!
//! let config = Config::loader("infra.yaml")
//!     .text("databases: {main: {url: 'postgres://app:s3cret@db.example.com/shop', pool_size: 3}}")
//!     .env([("INFRA_DATABASES_MAIN_POOL_SIZE".to_owned(), "7".to_owned())])
//!     .load()?;
//! assert_eq!(config.databases["main"].pool_size, 7);
//!
//! let effective = config.effective();
//! let size = effective.get("databases.main.pool_size").expect("every field is there");
//! assert_eq!(size.source.to_string(), "INFRA_DATABASES_MAIN_POOL_SIZE");
//! assert!(!effective.to_string().contains("s3cret"));
//! # Ok::<(), wharf::config::ConfigError>(())
//! ```

mod database;
mod effective;
mod entry;
mod error;
mod faults;
mod fields;
mod form;
mod include;
mod interpolate;
mod monitor;
mod overrides;
mod pgserver;
mod pooler;
mod read;
mod reads;
mod server;
mod source;
mod tree;
mod url;
pub(crate) mod yaml;

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use ::config::Source as _;

pub use database::{Address, DatabaseConfig, HostPort, LoginSource, Role, Settings, SslMode};
pub use effective::{Effective, Setting};
pub(crate) use entry::pool_limits;
pub use error::ConfigError;
pub use monitor::{MonitorConfig, NPlusOne};
#[cfg(feature = "pgserver")]
pub(crate) use pgserver::holds_secret;
pub use pgserver::{PgServerConfig, ReplicaConfig, Runtime};
pub use pooler::Pooler;
pub use reads::{Fallback, Reads, ReplicaLimits, TopologyConfig};
#[cfg(feature = "cli")]
pub(crate) use source::USUAL;
#[cfg(any(feature = "cli", feature = "testing"))]
pub(crate) use source::find;
pub use tree::Origin;
use tree::{Value, ValueKind};

/// Everything that one file says.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Config {
    /// The databases by the key that names them in the file.
    pub databases: BTreeMap<String, DatabaseConfig>,
    /// The server for development, if the file has one.
    pub pgserver: Option<PgServerConfig>,
    pub(crate) effective: Effective,
}

impl Config {
    /// Reads a file, what it includes, and the overrides `INFRA_…` in the environment of the process.
    ///
    /// Blocks on reading the files, which happens once.
    ///
    /// # Errors
    /// Everything in the file, in an include or in an override that is not right; nothing is corrected
    /// silently. See [`ConfigError`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        Self::loader(path).load()
    }

    /// Reads a file in another way than [`Config::load`].
    pub fn loader(path: impl AsRef<Path>) -> Loader {
        Loader { path: path.as_ref().to_owned(), text: None, prefix: "INFRA".to_owned(), env: None }
    }

    /// Every value of `databases:`, `monitor:` and `pgserver:` as it was loaded, secrets masked, with where it came
    /// from: file and line, override, or default.
    ///
    /// What a url says is shown by parts as well.
    #[must_use]
    pub fn effective(&self) -> Effective {
        self.effective.clone()
    }

    fn from_tree(
        tree: &Value,
        at: impl FnOnce() -> Origin,
        env: interpolate::Lookup<'_>,
        mut errors: Vec<ConfigError>,
    ) -> Result<Self, ConfigError> {
        if !fields::SECTIONS.iter().any(|name| tree::child(tree, name).is_some()) {
            let near = tree::sorted(tree).into_iter();
            let nearest = near
                .map(|(key, _)| key.as_str())
                .find_map(|key| tree::nearest(key, fields::SECTIONS.iter().copied()));
            errors.push(ConfigError::NothingHere { at: at(), nearest });
            return Err(all(errors));
        }
        let mut tree = interpolate::resolve(tree, env, &mut errors)?;
        let section = section_name(&tree)?;
        let mut pgserver = None;
        if tree::child(&tree, "pgserver").is_some() {
            let path = ["pgserver".to_owned()];
            pgserver = faults::find(&mut tree, &path, &mut errors, |tree| server::check(tree));
        }
        let path = ["monitor".to_owned()];
        let monitor = faults::find(&mut tree, &path, &mut errors, |tree| monitor::check(tree));
        let monitor = monitor.unwrap_or_default();
        let mut databases = BTreeMap::new();
        let names = entries(&tree, section)?;
        // Entries are checked as if the section were there and valid, once it is known not to be.
        let described = match &pgserver {
            Some(server) => Some(server.clone()),
            None => server::missing(&tree, section, &names, &mut errors),
        };
        for name in names {
            let path = [section.to_owned(), name.clone()];
            let entry = faults::find(&mut tree, &path, &mut errors, |tree| {
                entry::check(tree, &path, described.as_ref(), &monitor)
            });
            databases.extend(entry.map(|entry| (name, entry)));
        }
        if !errors.is_empty() {
            return Err(all(errors));
        }
        let mut config = Self { databases, pgserver, effective: Effective::default() };
        config.effective = Effective::new(&config, &tree, section);
        for setting in config.effective.settings().iter().filter(|setting| !setting.has_effect) {
            tracing::warn!(path = %setting.path, at = %setting.source, "this key is read by SQLAlchemy only and has no effect");
        }
        Ok(config)
    }
}

/// Faults as one error.
fn all(errors: Vec<ConfigError>) -> ConfigError {
    ConfigError::all(errors).err().unwrap_or(ConfigError::EmptyPrefix)
}

/// The name that the file gives to `databases:`.
fn section_name(tree: &Value) -> Result<&'static str, ConfigError> {
    match (tree::child(tree, "databases"), tree::child(tree, "dbs")) {
        (Some(databases), Some(dbs)) => Err(ConfigError::BothForms {
            at: tree::origin(dbs),
            path: "databases".to_owned(),
            keys: vec![
                format!("`databases` ({})", tree::origin(databases)),
                format!("`dbs` ({})", tree::origin(dbs)),
            ],
        }),
        (None, Some(_)) => Ok("dbs"),
        _ => Ok("databases"),
    }
}

fn entries(tree: &Value, section: &str) -> Result<Vec<String>, ConfigError> {
    match tree::child(tree, section) {
        None => Ok(Vec::new()),
        Some(databases) => match databases.kind {
            ValueKind::Table(_) | ValueKind::Nil => {
                Ok(tree::sorted(databases).into_iter().map(|(name, _)| name.clone()).collect())
            }
            _ => Err(read::wrong_type(tree, &[section.to_owned()])),
        },
    }
}

impl DatabaseConfig {
    /// An entry that consists of a url, `postgresql://user:password@host:port/database`; everything else
    /// has its default. Reads neither file nor environment.
    ///
    /// # Errors
    /// [`ConfigError::Url`] if it cannot be read, or names no user or no database;
    /// [`ConfigError::WrongType`] or [`ConfigError::Invalid`] for what a parameter says. The url itself is
    /// never shown.
    pub fn from_url(url: &str) -> Result<Self, ConfigError> {
        entry::from_url(url)
    }
}

/// How to read a file; see [`Config::loader`].
#[derive(Clone)]
#[must_use]
pub struct Loader {
    path: PathBuf,
    text: Option<String>,
    prefix: String,
    env: Option<Vec<(String, String)>>,
}

// The text and the environment may hold passwords.
impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loader")
            .field("path", &self.path)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl Loader {
    /// Reads overrides from variables that begin with this and an underscore, in this case. Default
    /// `INFRA`.
    pub fn env_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// Reads overrides from these variables in place of the environment; from none if there are none.
    pub fn env(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.env = Some(variables.into_iter().collect());
        self
    }

    /// Reads this text in place of the file's; errors and includes go by the file's name all the same.
    pub fn text(mut self, yaml: impl Into<String>) -> Self {
        self.text = Some(yaml.into());
        self
    }

    /// Reads the file; see [`Config::load`].
    ///
    /// # Errors
    /// As [`Config::load`], and [`ConfigError::EmptyPrefix`].
    pub fn load(self) -> Result<Config, ConfigError> {
        let environment = source::Environment::new(&self.prefix, self.env.as_deref())?;
        let at = || Origin::File { path: self.path.clone(), line: 1 };
        // Not by `config`'s builder: it takes the keys at the top for paths, and merging it forgets
        // where maps came from.
        let yaml = source::Yaml { path: self.path.clone(), text: self.text.clone() };
        let mut tree = Value::default();
        yaml.collect_to(&mut tree).map_err(|error| ConfigError::from_source(error, at))?;
        let overridden = environment.collect_to(&mut tree);
        let errors = overridden.err().map(|error| ConfigError::from_source(error, at));
        let variable = |name: &str| match &self.env {
            Some(given) => {
                Ok(given.iter().find(|(key, _)| key == name).map(|(_, text)| text.clone()))
            }
            None => {
                std::env::var_os(name).map(|text| text.into_string().map_err(|_| ())).transpose()
            }
        };
        Config::from_tree(&tree, at, &variable, errors.into_iter().collect())
    }
}
