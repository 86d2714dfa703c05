//! `wharf init` and `wharf migrate init`, in folders that are not this repository.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::support::{Done, Project};

fn wharf(project: &Project, folder: &Path, args: &[&str]) -> Done {
    let mut command = project.command(args);
    Done::of(args, command.current_dir(folder).output().unwrap())
}

fn read(folder: &Path, file: &str) -> String {
    fs::read_to_string(folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn write(folder: &Path, file: &str, text: &str) {
    fs::create_dir_all(folder.join(file).parent().unwrap()).unwrap();
    fs::write(folder.join(file), text).unwrap();
}

/// A folder with nothing but a file that names a database.
fn empty() -> (Project, TempDir) {
    let project = Project::new("databases: {}");
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "infra.yaml", "databases: {shop: {database: shop, user: app}}");
    (project, dir)
}

#[test]
fn a_first_file_is_valid_names_the_folder_and_says_what_comes_next() {
    let (project, dir) = empty();
    let done = wharf(&project, dir.path(), &["init", "My-Shop"]).well();
    done.says(&["created My-Shop/infra.yaml", "Next:\n  cd My-Shop\n  wharf server up"]);
    let folder = dir.path().join("My-Shop");
    let valid = wharf(&project, &folder, &["config", "check"]).well();
    valid.says(&["infra.yaml is valid: 1 database, a development server"]);
    wharf(&project, &folder, &["config"]).well().says(&["databases.my_shop.create_db"]);
    assert_eq!(read(&folder, ".gitignore"), "/target\n.env\nsecrets.yaml\n");

    // Nothing is overwritten, and what somebody ignores already stays.
    let again = wharf(&project, dir.path(), &["init", "My-Shop", "--service"]);
    again.failed(1, &["infra.yaml exists already", "nothing was written"]);
    assert!(!folder.join("Cargo.toml").exists());
    write(dir.path(), "other/.gitignore", "target\nmine");
    wharf(&project, dir.path(), &["init", "other"]).well();
    assert_eq!(read(dir.path(), "other/.gitignore"), "target\nmine\n.env\nsecrets.yaml\n");
}

#[test]
fn a_service_is_whole_and_its_manifests_are_valid() {
    let (project, dir) = empty();
    wharf(&project, dir.path(), &["init", "shop", "--service"]).well().says(&["cargo run"]);
    let folder = dir.path().join("shop");
    let metadata = std::process::Command::new("cargo")
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(&folder)
        .output()
        .unwrap();
    assert!(metadata.status.success(), "{metadata:?}");
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let names: Vec<_> =
        metadata["packages"].as_array().unwrap().iter().map(|it| &it["name"]).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    let migration = read(&folder, "migration/Cargo.toml");
    assert!(migration.contains("git = \"https://github.com/wharf-rs/wharf\""), "{migration}");
}

#[test]
fn migrate_init_in_an_empty_folder_makes_a_workspace_and_names_the_repository() {
    let (project, dir) = empty();
    wharf(&project, dir.path(), &["migrate", "init"]).well().says(&["created migration/ for shop"]);
    let root = read(dir.path(), "Cargo.toml");
    assert!(
        root.contains("members = [\"migration\"]") && root.contains("resolver = \"3\""),
        "{root}"
    );
    let manifest = read(dir.path(), "migration/Cargo.toml");
    assert!(manifest.contains("git = \"https://github.com/wharf-rs/wharf\""), "{manifest}");
    assert!(read(dir.path(), "migration/src/main.rs").contains("Migrator>(\"shop\")"));
}

#[test]
fn a_package_becomes_a_workspace_and_its_source_of_wharf_is_taken() {
    let (project, dir) = empty();
    let before = "[package]\nname = \"service\" # ours\n\n[dependencies]\n\
                  wharf = { path = \"../wharf\", features = [\"tls\"] }\n";
    write(dir.path(), "Cargo.toml", before);
    wharf(&project, dir.path(), &["migrate", "init"]).well();
    let root = read(dir.path(), "Cargo.toml");
    assert!(root.starts_with(before) && root.contains("members = [\"migration\"]"), "{root}");
    let manifest = read(dir.path(), "migration/Cargo.toml");
    assert!(manifest.contains("path = \"../../wharf\""), "{manifest}");
    assert!(manifest.contains("features = [\"cli\"]"), "{manifest}");
}

#[test]
fn a_workspace_is_joined_also_where_its_members_are_not_there_yet() {
    for (dependency, expected) in [
        ("wharf = { version = \"0.1\", registry = \"ours\" }", "registry = \"ours\""),
        ("wharf = \"0.1\"", "version = \"0.1\""),
        ("wharf = { git = \"https://x/y\", tag = \"v1\" }", "tag = \"v1\""),
    ] {
        let (project, dir) = empty();
        let root = "[workspace]\nmembers = [\n    \"service\", # the one\n    \"missing\",\n]\n";
        write(dir.path(), "Cargo.toml", root);
        let service = format!("[package]\nname = \"service\"\n\n[dependencies]\n{dependency}\n");
        write(dir.path(), "service/Cargo.toml", &service);
        wharf(&project, dir.path(), &["migrate", "init"]).well();
        let root = read(dir.path(), "Cargo.toml");
        assert!(root.contains("# the one") && root.contains("    \"migration\",\n"), "{root}");
        let manifest = read(dir.path(), "migration/Cargo.toml");
        assert!(manifest.contains(expected), "{manifest}");
    }
    // Members by a pattern, and the dependency of the whole workspace.
    let (project, dir) = empty();
    let root = "[workspace]\nmembers = [\"m*\"]\n\n[workspace.dependencies]\nwharf = \"0.1\"\n";
    write(dir.path(), "Cargo.toml", root);
    wharf(&project, dir.path(), &["migrate", "init"]).well();
    assert_eq!(read(dir.path(), "Cargo.toml"), root);
    assert!(read(dir.path(), "migration/Cargo.toml").contains("workspace = true"));
}
