//! What `wharf::config` promises, one behaviour a test.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod effective;
mod entries;
mod environment;
mod faults;
mod forms;
mod includes;
mod mistakes;
mod monitor;
mod overrides;
mod pooler;
mod properties;
mod python;
mod reads;
mod references;
mod secrets;
mod server;

use std::{
    fmt::{self, Write as _},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use wharf::config::{Config, ConfigError, DatabaseConfig};

/// The config that a text stands for, with these overrides.
pub fn try_load(yaml: &str, env: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let env = env.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    Config::loader("infra.yaml").text(yaml).env(env).load()
}

/// Why an entry with these lines is refused.
pub fn refused(lines: &str) -> String {
    let yaml = format!("databases:\n  main:\n    database: shop\n    user: app\n{lines}");
    try_load(&yaml, &[]).unwrap_err().to_string()
}

pub fn load(yaml: &str) -> Config {
    try_load(yaml, &[]).unwrap_or_else(|error| panic!("{error}"))
}

/// What is said about a text that is refused.
pub fn refusal(yaml: &str) -> String {
    match try_load(yaml, &[]) {
        Ok(config) => panic!("accepted: {config:?}"),
        Err(error) => error.to_string(),
    }
}

/// The entry `main` whose keys beside `database` and `user` are these.
pub fn entry(keys: &str) -> String {
    format!("databases:\n  main: {{database: shop, user: app, {keys}}}\n")
}

pub fn main_of(config: &Config) -> &DatabaseConfig {
    config.databases.get("main").expect("the entry `main`")
}

/// A folder with these files.
pub fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

/// Loads `infra.yaml` of a folder with these files.
pub fn load_files(files: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let folder = folder(files);
    Config::loader(folder.path().join("infra.yaml")).env([]).load()
}

pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/config/fixtures").join(name)
}

#[track_caller]
pub fn says(error: &str, parts: &[&str]) {
    for part in parts {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
}

/// What is logged meanwhile, a line an event.
pub fn log_of(run: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<String>>);
    struct Line(String);
    impl tracing::field::Visit for Line {
        fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
            write!(self.0, "{field}={value:?} ").unwrap();
        }
    }
    impl tracing::Subscriber for Log {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::Id {
            tracing::Id::from_u64(1)
        }
        fn record(&self, _: &tracing::Id, _: &tracing::span::Record<'_>) {}
        fn record_follows_from(&self, _: &tracing::Id, _: &tracing::Id) {}
        fn event(&self, event: &tracing::Event<'_>) {
            let mut line = Line(String::new());
            event.record(&mut line);
            writeln!(self.0.lock().unwrap(), "{}", line.0).unwrap();
        }
        fn enter(&self, _: &tracing::Id) {}
        fn exit(&self, _: &tracing::Id) {}
    }
    let log = Log::default();
    tracing::subscriber::with_default(log.clone(), run);
    log.0.lock().unwrap().clone()
}
