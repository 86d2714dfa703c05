//! `wharf migrate init`.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::cli::context::{Context, entry};
use crate::cli::failure::Failure;
use crate::cli::project::module;
use crate::cli::{out, project, rustfmt};

pub(super) fn run(context: &Context, databases: Vec<String>) -> Result<(), Failure> {
    let folder = Path::new("migration");
    if folder.exists() {
        return Err(Failure::Failed(
            "migration/ is here already; `wharf migrate new NAME` writes a migration".to_owned(),
        ));
    }
    let manager = context.manager()?;
    let mut chosen = databases;
    if chosen.is_empty() {
        let entries = manager.config().databases.iter();
        chosen = entries.filter(|(_, it)| !it.readonly).map(|(name, _)| name.clone()).collect();
    }
    for name in &chosen {
        entry(&manager, name)?;
    }
    if chosen.is_empty() {
        return Err(Failure::File("the file names no database that may be written to".to_owned()));
    }
    let wharf = wharf(Path::new("Cargo.toml"));
    // So that the workspace here, if there is one, has it for a member.
    project::new_crate("migration", folder)?;
    let write = |file: &str, text: &str| -> Result<(), Failure> {
        let text = match file.ends_with(".rs") {
            true => rustfmt::formatted(text, folder)?,
            false => text.to_owned(),
        };
        Ok(fs::write(folder.join(file), text)?)
    };
    write("Cargo.toml", &manifest(&wharf))?;
    write("src/main.rs", &program(&chosen))?;
    match chosen.as_slice() {
        [only] => write("src/lib.rs", &migrator(only))?,
        several => {
            let mut modules = String::new();
            for name in several {
                fs::create_dir(folder.join("src").join(module(name)))?;
                write(&format!("src/{}/mod.rs", module(name)), &migrator(name))?;
                let _ = writeln!(modules, "pub mod {};", module(name));
            }
            write("src/lib.rs", &format!("//! The migrations, a module a database.\n\n{modules}"))?;
        }
    }
    let of = chosen.join(", ");
    out::line(format_args!(
        "migration/ is made, for {of}; `wharf migrate new NAME` writes a migration"
    ))
}

/// How the crate depends on wharf: as the project does already, else as the program that runs was
/// published.
fn wharf(manifest: &Path) -> String {
    let packages = match manifest.is_file() {
        true => project::packages(manifest).unwrap_or_default(),
        false => Vec::new(),
    };
    let known = packages.iter().find_map(project::dependency);
    let source = known.and_then(|it| it["source"].as_str()).unwrap_or_default();
    if let Some(path) = known.and_then(|it| it["path"].as_str()) {
        return format!("path = {}", Value::from(path));
    }
    if source.starts_with("registry") {
        let version = known.and_then(|it| it["req"].as_str()).unwrap_or("*");
        return format!("version = {}", Value::from(version));
    }
    let git = source.strip_prefix("git+").unwrap_or(env!("CARGO_PKG_REPOSITORY"));
    match git.split_once('?').map(|(url, rest)| (url, rest.split_once('='))) {
        Some((url, Some((kind, named)))) => {
            format!("git = {}, {kind} = {}", Value::from(url), Value::from(named))
        }
        _ => format!("git = {}", Value::from(git)),
    }
}

fn manifest(wharf: &str) -> String {
    format!(
        r#"[package]
name = "migration"
version = "0.1.0"
edition = "2024"
publish = false

[features]
# The program, which services that run the migrations themselves do without.
cli = ["dep:wharf"]

[[bin]]
name = "migration"
path = "src/main.rs"
required-features = ["cli"]

[dependencies]
sea-orm-migration = {{ version = "2.0", default-features = false, features = ["sqlx-postgres", "runtime-tokio"] }}
wharf = {{ {wharf}, features = ["cli"], optional = true }}
"#
    )
}

fn program(databases: &[String]) -> String {
    let mut text =
        "//! The program `wharf` with these migrations in it: `wharf migrate` builds and runs it.

fn main() -> std::process::ExitCode {
    wharf::cli::Program::new()"
            .to_owned();
    for name in databases {
        let migrator = match databases.len() {
            1 => "migration::Migrator".to_owned(),
            _ => format!("migration::{}::Migrator", module(name)),
        };
        let _ = write!(text, ".migrations::<{migrator}>({})", Value::from(name.as_str()));
    }
    text + ".main()\n}\n"
}

fn migrator(database: &str) -> String {
    format!(
        "//! The migrations of the database `{database}`.

use sea_orm_migration::prelude::*;

/// The migrations, oldest first.
#[derive(Clone, Copy, Debug)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {{
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {{
        vec![]
    }}
}}
"
    )
}
