//! `wharf init`: a first file, and a small service.

use std::fs;
use std::path::Path;

use toml_edit::{Array, InlineTable};

use super::args::Init;
use super::context::shown;
use super::entity;
use super::failure::Failure;
use super::migrate;
use super::{out, workspace};
use crate::pgserver;

const INFRA: &str = include_str!("service/infra.yaml");
const MANIFEST: &str = include_str!("service/Cargo.toml.txt");
const MAIN: &str = include_str!("service/main.rs");
const MIGRATOR: &str = include_str!("service/migrator.rs");
const MIGRATION: &str = include_str!("service/create_note.rs");
const ENTITY: &str = include_str!("service/entity.rs");
const NOTE: &str = include_str!("service/note.rs");
const PRELUDE: &str = include_str!("service/prelude.rs");

/// The service's name in the templates.
const NAME: &str = "shop";
/// The major version that they ask for.
const VERSION: &str = "17";

/// Files that .gitignore lists.
const IGNORED: [&str; 3] = ["/target", ".env", "secrets.yaml"];

/// Names of other crates of the service, and those that cargo refuses.
const TAKEN: [&str; 12] = [
    "alloc",
    "axum",
    "core",
    "entity",
    "migration",
    "proc_macro",
    "serde",
    "std",
    "test",
    "tokio",
    "sea_orm",
    "wharf",
];

pub(super) async fn run(command: Init) -> Result<(), Failure> {
    let folder = std::path::absolute(&command.folder)?;
    let name = name(&folder);
    let mut files = vec![("infra.yaml".to_owned(), infra(&name).await)];
    if command.service {
        files.extend(service(&folder, &name)?);
    }
    let existing: Vec<&str> = files
        .iter()
        .map(|(file, _)| file.as_str())
        .filter(|file| folder.join(file).exists())
        .collect();
    if !existing.is_empty() {
        return Err(Failure::Failed(format!(
            "{} exists already in {}; nothing was written",
            existing.join(", "),
            shown(&folder)
        )));
    }
    for (file, text) in &files {
        let path = folder.join(file);
        fs::create_dir_all(path.parent().unwrap_or(&folder))?;
        fs::write(path, text)?;
        out::line(format_args!("created {}", shown(&command.folder.join(file))))?;
    }
    ignore(&folder)?;
    next(&command)
}

/// The name of the folder as one of a crate and a database: lower case, `_` for everything that is
/// neither a letter nor a digit.
fn name(folder: &Path) -> String {
    let last = folder.file_name().map(|name| name.to_string_lossy().to_lowercase());
    let name: String = last
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
        .collect();
    match name.trim_matches('_') {
        "" => "app".to_owned(),
        // Docker takes no name of one letter.
        letter if letter.len() == 1 => format!("app_{letter}"),
        taken if TAKEN.contains(&taken) => format!("{taken}_app"),
        keyword if syn::parse_str::<syn::Ident>(keyword).is_err() => {
            let digit = keyword.starts_with(|c: char| c.is_ascii_digit());
            if digit { format!("app_{keyword}") } else { format!("{keyword}_app") }
        }
        name => name.to_owned(),
    }
}

/// The file, for a server that this machine can run: without a Docker engine, of the version that is
/// installed.
async fn infra(name: &str) -> String {
    let text = INFRA.replace(NAME, name);
    if pgserver::engine().await.is_ok() {
        return text;
    }
    let installed = tokio::task::spawn_blocking(pgserver::majors).await.unwrap_or_default();
    match installed.first() {
        Some(newest) => text.replace(
            &format!("version: {VERSION}\n"),
            &format!("version: {newest} # the one installed on this machine\n"),
        ),
        None => text,
    }
}

/// The files of the service.
fn service(folder: &Path, name: &str) -> Result<Vec<(String, String)>, Failure> {
    let wharf = |crate_: &Path, feature: &str| -> Result<InlineTable, Failure> {
        let mut table = workspace::wharf(crate_)?;
        table.insert("features", [feature].into_iter().collect::<Array>().into());
        Ok(table)
    };
    let manifest = MANIFEST
        .replace(NAME, name)
        .replace(" WHARF_FOR_THE_SERVICE", &wharf(folder, "migrate")?.to_string())
        .replace(" WHARF_FOR_TESTS", &wharf(folder, "testing")?.to_string());
    let mut files = vec![
        ("Cargo.toml".to_owned(), manifest),
        ("src/main.rs".to_owned(), MAIN.replace(NAME, name)),
    ];
    let migration = workspace::wharf(&folder.join("migration"))?;
    for (file, text) in migrate::files(&[name.to_owned()], &migration)? {
        let text = if file == "src/lib.rs" { MIGRATOR.replace(NAME, name) } else { text };
        files.push((format!("migration/{file}"), text));
    }
    for (file, text) in [
        ("migration/src/m20260101_000001_create_note.rs", MIGRATION.to_owned()),
        ("entity/Cargo.toml", entity::manifest_with_serde()?),
        ("entity/src/lib.rs", ENTITY.to_owned()),
        ("entity/src/prelude.rs", PRELUDE.to_owned()),
        ("entity/src/note.rs", NOTE.to_owned()),
    ] {
        files.push((file.to_owned(), text));
    }
    Ok(files)
}

/// Adds to .gitignore what it lacks.
fn ignore(folder: &Path) -> Result<(), Failure> {
    let path = folder.join(".gitignore");
    let mut text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Failure::Failed(format!("{}: {error}", shown(&path)))),
    };
    let missing: Vec<&str> = IGNORED
        .into_iter()
        .filter(|line| {
            !text
                .lines()
                .any(|it| it.trim().trim_start_matches('/') == line.trim_start_matches('/'))
        })
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for line in missing {
        text.push_str(line);
        text.push('\n');
    }
    Ok(fs::write(path, text)?)
}

fn next(command: &Init) -> Result<(), Failure> {
    let mut steps = Vec::new();
    if command.folder != Path::new(".") {
        steps.push(format!("cd {}", shown(&command.folder)));
    }
    steps.push("wharf server up".to_owned());
    match command.service {
        true => steps
            .extend(["cargo run", "curl localhost:3000/notes", "cargo test"].map(str::to_owned)),
        false => steps.push("wharf migrate init".to_owned()),
    }
    out::line("\nNext:")?;
    steps.iter().try_for_each(|step| out::line(format_args!("  {step}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folders_name_becomes_one_of_a_crate_and_a_database() {
        for (folder, expected) in [
            ("/srv/shop", "shop"),
            ("/srv/My-Shop 2", "my_shop_2"),
            ("/srv/2fa", "app_2fa"),
            ("/srv/test", "test_app"),
            ("/srv/match", "match_app"),
            ("/srv/äö", "app"),
            ("/srv/a", "app_a"),
            ("/srv/7", "app_7"),
            ("/", "app"),
        ] {
            assert_eq!(name(Path::new(folder)), expected, "{folder}");
        }
    }
}
