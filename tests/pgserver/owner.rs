//! Whose a server is: of the file that describes it, and of nobody else's.

use std::fs;
use std::path::{Path, PathBuf};

use wharf::config::Config;
use wharf::pgserver::{PgServer, PgServerError, Status};

use crate::support::{Dir, Log, major, run};

/// A project's file, with its folder.
fn project(dir: &Dir, name: &str, section: &str) -> PathBuf {
    let folder = dir.path().join(name).join("etc");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("infra.yaml");
    let section = section.replace("MAJOR", &major());
    fs::write(&file, format!("pgserver: {section}\ndatabases: {{}}\n")).unwrap();
    file
}

fn server(dir: &Dir, file: &Path) -> PgServer {
    let config = Config::loader(file).env([]).load().unwrap();
    PgServer::new(config.pgserver.unwrap(), []).data_dir(dir.path().join("servers"))
}

fn is_foreign(error: &PgServerError, owner: &Path) -> bool {
    let said = error.to_string();
    matches!(error, PgServerError::Foreign { file, .. } if file == owner)
        && said.contains("`name:` of its own")
}

#[tokio::test]
async fn two_projects_of_one_name_have_a_server_each() {
    let dir = Dir::new("owner-two");
    let section = "{version: MAJOR, runtime: native}";
    let (one, two) = (project(&dir, "a/shop", section), project(&dir, "b/shop", section));
    let (one, two) = (server(&dir, &one), server(&dir, &two));
    assert!(one.config().name.starts_with("shop-"), "{}", one.config().name);
    assert_ne!(one.config().name, two.config().name);
    let (at_one, at_two) = (one.start().await.unwrap(), two.start().await.unwrap());
    assert_ne!(at_one.port, at_two.port);
    one.remove().await.unwrap();
    assert_eq!(run(&at_two, "SELECT '1'").await.unwrap(), "1");
    two.remove().await.unwrap();
}

#[tokio::test]
async fn a_server_of_another_file_is_neither_used_nor_stopped_nor_removed() {
    let dir = Dir::new("owner-foreign");
    let section = "{name: shared, version: MAJOR, runtime: native}";
    let (first, second) = (project(&dir, "a", section), project(&dir, "b", section));
    let (one, two) = (server(&dir, &first), server(&dir, &second));
    let at = one.start().await.unwrap();
    for error in [
        two.start().await.map(|_| ()).unwrap_err(),
        two.stop().await.unwrap_err(),
        two.restart().await.map(|_| ()).unwrap_err(),
        two.remove().await.unwrap_err(),
        two.status().await.map(|_| ()).unwrap_err(),
        two.holdings().await.map(|_| ()).unwrap_err(),
    ] {
        assert!(is_foreign(&error, &first), "{error}");
    }
    assert_eq!(run(&at, "SELECT '1'").await.unwrap(), "1");
    // Whoever removes it gives the name free.
    one.remove().await.unwrap();
    two.start().await.unwrap();
    assert!(is_foreign(&one.start().await.unwrap_err(), &second));
    two.remove().await.unwrap();
}

#[tokio::test]
async fn a_section_that_two_files_include_is_one_server() {
    let dir = Dir::new("owner-include");
    let common = dir.path().join("server.yaml");
    fs::write(&common, format!("name: team\nversion: {}\nruntime: native\n", major())).unwrap();
    let section = "!include ../../server.yaml";
    let (one, two) = (project(&dir, "a", section), project(&dir, "b", section));
    let (one, two) = (server(&dir, &one), server(&dir, &two));
    let at = one.start().await.unwrap();
    assert_eq!(two.start().await.unwrap().port, at.port);
    two.remove().await.unwrap();
    assert!(matches!(one.status().await.unwrap(), Status::Stopped));
}

#[tokio::test]
async fn a_project_that_was_moved_keeps_its_server_or_is_told_of_it() {
    let dir = Dir::new("owner-moved");
    let section = "{name: kept, version: MAJOR, runtime: native}";
    let first = project(&dir, "before", section);
    let at = server(&dir, &first).start().await.unwrap();
    run(&at, "CREATE TABLE t AS SELECT '1' AS n").await;
    fs::rename(dir.path().join("before"), dir.path().join("after")).unwrap();
    let moved = server(&dir, &dir.path().join("after/etc/infra.yaml"));
    let at = moved.start().await.unwrap();
    assert_eq!(run(&at, "SELECT n FROM t").await.unwrap(), "1");
    moved.remove().await.unwrap();
    // A name that comes from the place is another one elsewhere.
    let first = project(&dir, "x/shop", "{version: MAJOR, runtime: native}");
    let before = server(&dir, &first);
    before.start().await.unwrap();
    before.stop().await.unwrap();
    fs::rename(dir.path().join("x"), dir.path().join("y")).unwrap();
    let log = Log::listen();
    let after = server(&dir, &dir.path().join("y/shop/etc/infra.yaml"));
    after.start().await.unwrap();
    let name = &before.config().name;
    let text = log.lines().join("\n");
    assert!(text.contains(&format!("write `name: {name}` to keep it")), "{text}");
    after.remove().await.unwrap();
}
