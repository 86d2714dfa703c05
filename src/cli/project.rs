//! The project that the file is in: its crates `migration` and `entity`, and its own program.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::context::shown;
use super::failure::Failure;

/// Set for the project's own program, so that it never hands over in its turn.
const HANDED_OVER: &str = "WHARF_HANDED_OVER";

/// What the crate needs, where it has no such program.
const PROGRAM: &str = "an optional dependency on wharf with the feature `cli`, and a src/main.rs that is \
                       `wharf::cli::Program::new().migrations::<Migrator>(\"NAME\").main()`";

/// The folder of a crate of the project: the nearest of this name from here upward, as a person would
/// write its path.
pub(super) fn folder(name: &str) -> Result<Option<PathBuf>, Failure> {
    let here = std::env::current_dir()?;
    for (up, above) in here.ancestors().enumerate() {
        if above.join(name).join("Cargo.toml").is_file() {
            let above: PathBuf = std::iter::repeat_n("..", up).collect();
            return Ok(Some(above.join(name)));
        }
    }
    Ok(None)
}

/// The folder of the migrations, which must be there.
pub(super) fn migration() -> Result<PathBuf, Failure> {
    folder("migration")?.ok_or_else(|| {
        Failure::File(
            "this project has no migrations: there is no migration/Cargo.toml here or in a folder \
             above; `wharf migrate init` makes it"
                .to_owned(),
        )
    })
}

/// Ends this process and goes on as the project's own program, which knows its migrations: with the
/// same arguments, in the same folder.
pub(super) fn hand_over() -> Result<(), Failure> {
    let migration = migration()?;
    if std::env::var_os(HANDED_OVER).is_some() {
        return Err(Failure::File(format!(
            "the program in {} knows no migrations: its main needs \
             `.migrations::<Migrator>(\"NAME\")`",
            shown(&migration)
        )));
    }
    let mut program = Command::new(build(&migration)?);
    program.args(std::env::args_os().skip(1)).env(HANDED_OVER, "1");
    become_it(program)
}

#[cfg(unix)]
fn become_it(mut program: Command) -> Result<(), Failure> {
    use std::os::unix::process::CommandExt as _;
    Err(program.exec().into())
}

#[cfg(not(unix))]
fn become_it(mut program: Command) -> Result<(), Failure> {
    match program.status()?.code() {
        Some(0) => Ok(()),
        code => Err(Failure::Code(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))),
    }
}

/// Builds the program of the crate; where it is then.
fn build(migration: &Path) -> Result<PathBuf, Failure> {
    let manifest = migration.join("Cargo.toml");
    let package = package(&manifest)?;
    let bins = package["targets"].as_array().into_iter().flatten();
    let bin = bins.into_iter().find(|it| {
        it["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "bin"))
    });
    let uses_wharf = dependency(&package).is_some();
    let Some(bin) = bin.filter(|_| uses_wharf) else {
        return Err(Failure::File(format!(
            "the crate in {} has no program of wharf's: it needs {PROGRAM}; `wharf migrate init` in an \
             empty folder shows the whole of it",
            shown(migration)
        )));
    };
    let name = bin["name"].as_str().unwrap_or_default();
    let mut cargo = cargo();
    cargo.args(["build", "--message-format=json-render-diagnostics", "--bin", name]);
    cargo.arg("--manifest-path").arg(&manifest);
    for feature in bin["required-features"].as_array().into_iter().flatten() {
        cargo.args(["--features", feature.as_str().unwrap_or_default()]);
    }
    if !std::io::stderr().is_terminal() {
        cargo.arg("--quiet");
    }
    let built = cargo.stderr(Stdio::inherit()).output()?;
    if !built.status.success() {
        return Err(Failure::Failed(format!(
            "the migrations in {} do not build; cargo has said why",
            shown(migration)
        )));
    }
    let said = String::from_utf8_lossy(&built.stdout);
    let messages = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let executable = messages
        .filter(|it| it["reason"] == "compiler-artifact" && it["target"]["name"] == name)
        .find_map(|it| it["executable"].as_str().map(PathBuf::from));
    executable
        .ok_or_else(|| Failure::Failed(format!("cargo built no program from {}", shown(&manifest))))
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// What cargo knows of the package of a manifest.
fn package(manifest: &Path) -> Result<Value, Failure> {
    let whole = std::fs::canonicalize(manifest)?;
    let packages = packages(manifest)?;
    let of_manifest =
        |it: &&Value| it["manifest_path"].as_str().is_some_and(|path| Path::new(path) == whole);
    packages.iter().find(of_manifest).cloned().ok_or_else(|| {
        Failure::File(format!("{} is not the manifest of a package", shown(manifest)))
    })
}

/// The packages of a manifest's workspace, as cargo knows them.
pub(super) fn packages(manifest: &Path) -> Result<Vec<Value>, Failure> {
    let mut cargo = cargo();
    cargo.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(manifest);
    let said = cargo.stderr(Stdio::piped()).output().map_err(|error| {
        Failure::Failed(format!("cargo could not be run, which builds the migrations: {error}"))
    })?;
    if !said.status.success() {
        let why = String::from_utf8_lossy(&said.stderr);
        return Err(Failure::File(format!("{}: {}", shown(manifest), why.trim())));
    }
    let metadata: Value = serde_json::from_slice(&said.stdout)
        .map_err(|error| Failure::Failed(format!("cargo metadata: {error}")))?;
    Ok(metadata["packages"].as_array().cloned().unwrap_or_default())
}

/// How a package depends on wharf, if it does.
pub(super) fn dependency(package: &Value) -> Option<&Value> {
    package["dependencies"].as_array()?.iter().find(|it| it["name"] == "wharf")
}

/// Makes a library of this name, as a member of the workspace if there is one.
pub(super) fn new_crate(name: &str, folder: &Path) -> Result<(), Failure> {
    let mut cargo = cargo();
    cargo.args(["new", "--quiet", "--lib", "--vcs", "none", "--name", name]).arg(folder);
    let made = cargo.stderr(Stdio::piped()).output()?;
    match made.status.success() {
        true => Ok(()),
        false => {
            let why = String::from_utf8_lossy(&made.stderr);
            Err(Failure::Failed(format!("cargo new {}: {}", shown(folder), why.trim())))
        }
    }
}

/// The name of a database as one of a module.
pub(super) fn module(database: &str) -> String {
    database.replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}
