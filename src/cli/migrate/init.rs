//! `wharf migrate init`.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;
use toml_edit::{Array, InlineTable};

use crate::cli::context::{Context, entry};
use crate::cli::failure::Failure;
use crate::cli::project::module;
use crate::cli::{out, rustfmt, workspace};

/// The crate, beside the file or in the folder where this is called.
const FOLDER: &str = "migration";

pub(super) fn run(context: &Context, databases: Vec<String>) -> Result<(), Failure> {
    let folder = Path::new(FOLDER);
    if folder.exists() {
        return Err(Failure::Failed(
            "migration/ exists already; `wharf migrate new NAME` writes a migration".to_owned(),
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
        return Err(Failure::File(
            "every database in the file is `readonly: true`; add one that may be written to"
                .to_owned(),
        ));
    }
    let files = files(&chosen, &workspace::wharf(folder)?)?;
    let files: Vec<_> = files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    workspace::new_crate(folder, &files)?;
    out::line(format_args!("created migration/ for {}", chosen.join(", ")))?;
    out::line("Next: wharf migrate new create_customer")
}

/// The files of the crate: a migrator for each database, and the program that runs them.
pub(in crate::cli) fn files(
    databases: &[String],
    wharf: &InlineTable,
) -> Result<Vec<(String, String)>, Failure> {
    let formatted = |text: &str| rustfmt::formatted(text, Path::new("."));
    let mut files = vec![
        ("Cargo.toml".to_owned(), manifest(wharf)),
        ("src/main.rs".to_owned(), formatted(&program(databases))?),
    ];
    if let [only] = databases {
        files.push(("src/lib.rs".to_owned(), formatted(&migrator(only))?));
        return Ok(files);
    }
    let mut lib = "//! The migrations: one module per database.\n\n".to_owned();
    for name in databases {
        files.push((format!("src/{}/mod.rs", module(name)), formatted(&migrator(name))?));
        let _ = writeln!(lib, "pub mod {};", module(name));
    }
    files.push(("src/lib.rs".to_owned(), lib));
    Ok(files)
}

fn manifest(wharf: &InlineTable) -> String {
    let mut wharf = wharf.clone();
    wharf.insert("features", ["cli"].into_iter().collect::<Array>().into());
    wharf.insert("optional", true.into());
    format!(
        r#"[package]
name = "migration"
version = "0.1.0"
edition = "2024"
publish = false

[features]
# The program. A service that runs the migrations itself does not need it.
cli = ["dep:wharf"]

[[bin]]
name = "migration"
path = "src/main.rs"
required-features = ["cli"]

[dependencies]
sea-orm-migration = {{ version = "2.0", default-features = false, features = ["sqlx-postgres", "runtime-tokio"] }}
wharf ={wharf}
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
