//! The project around the file: its crates `migration` and `entity`, and its own program.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::context::{Context, down, entry, is_on_server, shown};
use super::failure::Failure;
use super::out;
use crate::Error;

/// Set for the project's own program, so that it never hands over in its turn.
const HANDED_OVER: &str = "WHARF_HANDED_OVER";

/// How long a database may take to answer before a build that takes minutes.
const DEADLINE: Duration = Duration::from_secs(10);

/// SQLSTATE of a database that does not exist.
const NO_DATABASE: &str = "3D000";

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

/// The folder of the crate `migration`.
pub(super) fn migration() -> Result<PathBuf, Failure> {
    folder("migration")?.ok_or_else(|| {
        Failure::File(
            "this project has no migrations: there is no migration/Cargo.toml in this folder or a \
             parent; create it with `wharf migrate init`"
                .to_owned(),
        )
    })
}

/// Replaces this process with the project's own program, which knows its migrations: with the same
/// arguments, in the same folder.
///
/// Its first build takes minutes, so `databases` are checked before: all that have migrations, if none
/// is named. With `start`, the command starts the file's server by itself.
pub(super) async fn hand_over(
    context: &Context,
    databases: &[String],
    start: bool,
) -> Result<(), Failure> {
    let migration = migration()?;
    if std::env::var_os(HANDED_OVER).is_some() {
        return Err(Failure::File(format!(
            "the program in {} has no migrations; call `.migrations::<Migrator>(\"NAME\")` in its main",
            shown(&migration)
        )));
    }
    let named = match databases.is_empty() {
        true => databases_in(&migration),
        false => databases.to_vec(),
    };
    check(context, &named, start).await?;
    let mut program = Command::new(build(&migration)?);
    program.args(std::env::args_os().skip(1)).env(HANDED_OVER, "1");
    become_it(program)
}

/// The databases whose migrations the program knows, read from its main; none where that is not in
/// the usual form.
fn databases_in(migration: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(migration.join("src/main.rs")).unwrap_or_default();
    let calls = text.split(".migrations::<").skip(1);
    let names = calls.filter_map(|call| {
        let (_, arguments) = call.split_once(">(\"")?;
        arguments.split_once('"').map(|(name, _)| name.to_owned())
    });
    names.collect()
}

/// Fails if a database cannot be used. One that is still to be created is not missing.
async fn check(context: &Context, databases: &[String], start: bool) -> Result<(), Failure> {
    let manager = context.manager()?;
    for name in databases {
        let entry = entry(&manager, name)?;
        if is_on_server(entry) {
            let server = manager.pgserver().ok_or(Error::NoPgServer)?;
            if !start && server.running().await?.is_none() {
                return Err(down(name));
            }
            continue;
        }
        if start {
            continue;
        }
        match tokio::time::timeout(DEADLINE, manager.db(name)?.healthy()).await {
            Ok(Err(error))
                if !(entry.create_db && error.sqlstate().as_deref() == Some(NO_DATABASE)) =>
            {
                return Err(error.into());
            }
            Err(_) => {
                return Err(Failure::Absent(format!(
                    "database `{name}` did not answer within {DEADLINE:?}; run `wharf doctor`"
                )));
            }
            Ok(_) => {}
        }
    }
    manager.close().await;
    Ok(())
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
    let (package, target) = package(&manifest)?;
    let bins = package["targets"].as_array().into_iter().flatten();
    let bin = bins.into_iter().find(|it| {
        it["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "bin"))
    });
    let uses_wharf = dependency(&package).is_some();
    let Some(bin) = bin.filter(|_| uses_wharf) else {
        return Err(Failure::File(format!(
            "the crate in {} has no program that uses wharf: it needs {PROGRAM}; run `wharf migrate init` \
             in an empty folder to see one",
            shown(migration)
        )));
    };
    let name = bin["name"].as_str().unwrap_or_default();
    if !target.join("debug").join(name).exists() {
        out::note(format_args!(
            "building the program in {}; the first build takes some minutes",
            shown(migration)
        ));
    }
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
            "the crate in {} does not build; see cargo's errors above",
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

/// The package of a manifest, as `cargo metadata` has it, and its target folder.
fn package(manifest: &Path) -> Result<(Value, PathBuf), Failure> {
    let whole = std::fs::canonicalize(manifest)?;
    let mut cargo = cargo();
    cargo.args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"]).arg(manifest);
    let said = cargo.stderr(Stdio::piped()).output().map_err(|error| {
        Failure::Failed(format!("cannot run cargo, which builds the migrations: {error}"))
    })?;
    if !said.status.success() {
        let why = String::from_utf8_lossy(&said.stderr);
        return Err(Failure::File(format!("{}: {}", shown(manifest), why.trim())));
    }
    let metadata: Value = serde_json::from_slice(&said.stdout).map_err(|error| {
        Failure::Failed(format!("cannot read the output of cargo metadata: {error}"))
    })?;
    let target = PathBuf::from(metadata["target_directory"].as_str().unwrap_or("target"));
    let of_manifest =
        |it: &&Value| it["manifest_path"].as_str().is_some_and(|path| Path::new(path) == whole);
    let package = metadata["packages"].as_array().into_iter().flatten().find(of_manifest);
    match package {
        Some(package) => Ok((package.clone(), target)),
        None => Err(Failure::File(format!("{} is not the manifest of a package", shown(manifest)))),
    }
}

/// How a package depends on wharf, if it does.
fn dependency(package: &Value) -> Option<&Value> {
    package["dependencies"].as_array()?.iter().find(|it| it["name"] == "wharf")
}

/// The name of a database as one of a module.
pub(super) fn module(database: &str) -> String {
    database.replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}
