//! `wharf migrate`, with this project's own migrations and with one that begins with nothing.

use std::fs;
use std::path::Path;

use sea_orm::ConnectionTrait as _;
use wharf::ensure::table_exists;

use crate::it::{TestDatabase, number};
use crate::support::{Done, Project, run_by_cargo};

/// The program in this repository, whose migrations are of `shop`, `audit` and `library`, with the
/// project's file.
fn wharf(project: &Project, args: &[&str]) -> Done {
    let file = project.path().join("etc/infra.yaml");
    let mut command = project.command(args);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).env("WHARF_FILE", file);
    Done::of(args, run_by_cargo(&mut command))
}

#[tokio::test]
async fn a_database_is_brought_up_to_date_and_back_and_its_state_is_told() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let project = Project::new(&format!("databases:\n{}", database.entry("shop", &[])));

    let planned = wharf(&project, &["migrate", "up", "shop", "--dry-run"]).well();
    planned.says(&["-- shop", "-- m20261123_000001_create_customer", "CREATE TABLE \"purchase\""]);
    planned.notes(&["shop: the migrations ran on a scratch database; shop was only read"]);
    let lint = wharf(&project, &["migrate", "lint", "shop", "--min-size", "8MB"]).well();
    lint.notes(&["nothing unsafe in 2 pending migrations"]);
    let target = wharf(&project, &["migrate", "lint", "shop", "--on-target"]).well();
    target.notes(&[
        "shop: the migrations ran on the database itself, in a transaction that was rolled back",
    ]);
    wharf(&project, &["migrate", "up", "--on-target"]).failed(2, &["need --dry-run"]);
    wharf(&project, &["migrate", "lint", "--min-size", "large"]).failed(2, &["as in 8MB"]);
    let status = wharf(&project, &["migrate", "status", "shop", "--json"]).well().json();
    assert_eq!(status.as_array().unwrap().len(), 2);
    assert_eq!(status[1]["state"], "pending");

    wharf(&project, &["migrate", "up", "shop", "-n", "1"])
        .well()
        .says(&["  m20261123_000001_create_customer\n", "shop: 1 migration applied in"]);
    let status = wharf(&project, &["migrate", "status", "shop"]).well();
    status.says(&["create_customer  applied  ", " ago\n", "create_purchase  pending\n"]);
    let json = wharf(&project, &["migrate", "up", "shop", "--json"]).well().json();
    assert_eq!(json[0]["migrations"][0], "m20261123_000002_create_purchase", "{json}");
    wharf(&project, &["migrate", "up", "shop"]).well().says(&["shop: nothing to do\n"]);

    // What loses data asks; and a yes alone is no answer on a server that is not the file's own.
    let (host, _) = crate::it::server_address().await;
    for command in ["down", "fresh", "refresh"] {
        let asked = wharf(&project, &["migrate", command, "shop"]);
        let at = format!("to confirm, pass --yes --host {host}");
        asked.failed(5, &[&format!("/{}, ", database.name), " MB).", &at]);
        wharf(&project, &["migrate", command, "shop", "--yes"]).failed(5, &["--host"]);
    }
    assert!(table_exists(&pg, "public", "purchase").await.unwrap());
    wharf(&project, &["migrate", "down", "shop", "--yes", "--host", &host])
        .well()
        .says(&["1 migration rolled back"]);
    assert!(!table_exists(&pg, "public", "purchase").await.unwrap());
    pg.execute_unprepared(
        "CREATE TABLE stray (); INSERT INTO customer (name, email) VALUES ('', '')",
    )
    .await
    .unwrap();
    wharf(&project, &["migrate", "fresh", "shop", "--yes", "--host", &host])
        .well()
        .says(&["2 migrations applied"]);
    assert!(!table_exists(&pg, "public", "stray").await.unwrap());
    assert_eq!(number(&pg, "SELECT count(*) FROM customer").await, 0);
    // Nor does anything confirm a change of what the file says is only read.
    project.write(&format!("databases:\n{}", database.entry("shop", &["readonly: true"])));
    for command in ["up", "down", "fresh", "refresh"] {
        let refused = wharf(&project, &["migrate", command, "shop", "--yes", "--host", &host]);
        refused.failed(3, &["`shop` is `readonly: true`"]);
    }
    project.write(&format!("databases:\n{}", database.entry("shop", &[])));
    let again = wharf(&project, &["migrate", "refresh", "shop", "--yes", "--host", &host]).well();
    again.says(&["4 migrations rolled back or applied"]);
}

/// What only looks needs no database of the name, no right to write, and a server for the scratch database.
#[tokio::test]
async fn a_look_at_pending_migrations_needs_nothing_of_the_target() {
    let database = TestDatabase::new().await;
    let absent = format!("{}_absent", database.name);
    let url = database.url().replace(&database.name, &absent);
    let other = database.entry("audit", &[]);
    let file = |more: &str| format!("databases:\n{other}  shop:\n    url: \"{url}\"\n    {more}\n");
    let project = Project::new(&file("create_db: true"));
    for command in [&["status"][..], &["up", "--dry-run"], &["lint", "--scratch", "audit"]] {
        wharf(&project, &[&["migrate"], command, &["shop"]].concat()).well();
    }
    project.write(&file("readonly: true").replace(&absent, &database.name));
    wharf(&project, &["migrate", "lint", "shop", "--scratch", "audit"]).well();
    let target = wharf(&project, &["migrate", "lint", "shop", "--on-target"]);
    target.failed(3, &["`shop` is `readonly: true`"]);
    let there = format!("SELECT count(*) FROM pg_database WHERE datname = '{absent}'");
    assert_eq!(number(&database.pg().await, &there).await, 0);
}

#[tokio::test]
async fn every_tenant_is_brought_up_to_date_and_one_that_fails_keeps_none_of_the_others_from_it() {
    let database = TestDatabase::new().await;
    let pg = database.pg().await;
    let project = Project::new(&format!("databases:\n{}", database.entry("shop", &[])));
    let named = ["migrate", "up", "shop", "--schema", "tenant_a", "--schema", "tenant_b"];
    // Nobody reads on (`| head`): that ends the output and not the work.
    let file = project.path().join("etc/infra.yaml");
    let mut unread = project.command(&named);
    unread.current_dir(env!("CARGO_MANIFEST_DIR")).env("WHARF_FILE", file);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = run_by_cargo(unread.stdout(writer));
    assert!(ended.status.success(), "{ended:?}");
    for schema in ["tenant_a", "tenant_b"] {
        assert!(table_exists(&pg, schema, "purchase").await.unwrap(), "{schema}");
    }
    // In the way of the third; `_` is no wildcard.
    let more = "CREATE SCHEMA tenant_c CREATE TABLE customer (); CREATE SCHEMA tenantxd";
    pg.execute_unprepared(more).await.unwrap();
    pg.execute_unprepared("DROP TABLE tenant_b.purchase; DELETE FROM tenant_b.seaql_migrations")
        .await
        .unwrap();
    pg.execute_unprepared("DROP TABLE tenant_b.customer").await.unwrap();
    let all = wharf(&project, &["migrate", "up", "shop", "--schema", "tenant_*"]);
    let all =
        all.failed(1, &["shop, schema tenant_c: ", "\"customer\" already exists", "1 of 3 failed"]);
    all.says(&["shop, schema tenant_a: nothing to do", "shop, schema tenant_b: 2 migrations"]);
    let none = wharf(&project, &["migrate", "up", "shop", "--schema", "client_*"]);
    none.failed(1, &["database `shop` has no schema like client_*"]);
}

#[tokio::test]
async fn what_cannot_be_migrated_is_said() {
    let database = TestDatabase::new().await;
    let project = Project::new(&format!("databases:\n{}", database.entry("it", &[])));
    let none = project.run(&["migrate", "up"]);
    none.failed(3, &["this project has no migrations", "`wharf migrate init`"]);
    let none = project.run(&["migrate", "new", "create_customer"]);
    none.failed(3, &["this project has no migrations", "`wharf migrate init`"]);
    let other = wharf(&project, &["migrate", "up", "it"]);
    other.failed(3, &["database `it` has no migrations in this project", "shop, audit, library"]);
    // Those that are known here, but are not in the file.
    wharf(&project, &["migrate", "up", "shop"]).failed(3, &["shop", "it"]);

    // A crate of migrations without a program, as sea-orm-cli makes none for wharf.
    let src = project.path().join("migration/src");
    fs::create_dir_all(&src).unwrap();
    let manifest = "[package]\nname = \"migration\"\nversion = \"0.1.0\"\nedition = \"2024\"\n";
    fs::write(src.join("../Cargo.toml"), manifest).unwrap();
    fs::write(src.join("main.rs"), "fn main() {}").unwrap();
    let without = project.run(&["migrate", "up"]);
    without.failed(3, &["no program that uses wharf", "wharf::cli::Program::new()"]);
    // One that was handed over to, and knows no more than who did that.
    let mut handed = project.command(&["migrate", "up"]);
    let handed = Done::of(&[], handed.env("WHARF_HANDED_OVER", "1").output().unwrap());
    handed.failed(3, &["the program in migration has no migrations", "`.migrations::<Migrator>"]);
    fs::write(src.join("../Cargo.toml"), "nonsense").unwrap();
    project.run(&["migrate", "up"]).failed(3, &["migration/Cargo.toml: error"]);
}

/// A crate of migrations that nobody builds.
fn migrations(files: &[(&str, &str)]) -> Project {
    let project = Project::new("databases:\n  it:\n    url: postgres://a:b@127.0.0.1:1/c\n");
    for (name, text) in files.iter().chain(&[("Cargo.toml", "")]) {
        let path = project.path().join("migration").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    project
}

const MIGRATOR: &str = "use sea_orm_migration::prelude::*;

// Kept as it is.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![]
    }
}
";

/// The one file in a folder whose name ends so.
fn file(folder: &Path, end: &str) -> String {
    let files = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    let mut ending = files.filter(|it| it.to_string_lossy().ends_with(end));
    let found = ending.next().unwrap_or_else(|| panic!("no {end} in {}", folder.display()));
    assert!(ending.next().is_none());
    fs::read_to_string(found).unwrap()
}

#[test]
fn a_new_migration_comes_last_in_its_migrator() {
    let project = migrations(&[("src/lib.rs", MIGRATOR)]);
    let src = project.path().join("migration/src");
    let made = project.run(&["migrate", "new", "create_customer"]).well();
    made.says(&["migration/src/m20", "_create_customer.rs, and added it to migration/src/lib.rs"]);
    project.run(&["migrate", "new", "add_note_to_customer"]).well();
    project.run(&["migrate", "new", "create_order"]).well();
    let lib = fs::read_to_string(src.join("lib.rs")).unwrap();
    let at = |text: &str| lib.find(text).unwrap_or_else(|| panic!("no {text} in {lib}"));
    assert!(lib.contains("// Kept as it is."), "{lib}");
    assert!(at("_create_customer;") < at("_add_note_to_customer;"), "{lib}");
    assert!(at("_create_customer::Migration)") < at("_add_note_to_customer::Migration)"), "{lib}");
    assert!(at("_add_note_to_customer::Migration)") < at("_create_order::Migration)"), "{lib}");
    assert_eq!(lib.matches("Box::new(").count(), 3, "{lib}");
    assert!(file(&src, "_create_customer.rs").contains(".table(\"customer\")"));
    // Also by their names, in however short a time they are made.
    let mut modules: Vec<&str> = lib.lines().filter(|it| it.starts_with("mod m")).collect();
    modules.sort_unstable();
    assert!(
        modules[0].ends_with("_create_customer;") && modules[2].ends_with("_create_order;"),
        "{lib}"
    );
    // One that was forgotten fails instead of being noted as done.
    assert!(file(&src, "_add_note_to_customer.rs").contains("is not written yet"));

    for name in ["Create", "create-order", "1st", ""] {
        project.run(&["migrate", "new", name]).failed(1, &["lower-case letters, digits and _"]);
    }
}

#[test]
fn a_new_migration_is_the_one_of_its_database() {
    let project = migrations(&[
        ("src/lib.rs", "pub mod audit;\npub mod shop;\n"),
        ("src/shop/mod.rs", MIGRATOR),
        ("src/audit.rs", MIGRATOR),
    ]);
    let src = project.path().join("migration/src");
    project
        .run(&["migrate", "new", "create_a"])
        .failed(3, &["add the name of the database: audit, shop"]);
    project
        .run(&["migrate", "new", "stock", "create_a"])
        .failed(3, &["there is none for `stock`, only for audit, shop"]);
    project.run(&["migrate", "new", "shop", "create_a"]).well();
    assert!(file(&src.join("shop"), "_create_a.rs").contains("Creates `a`."));
    assert!(!fs::read_to_string(src.join("audit.rs")).unwrap().contains("create_a"));

    // A module is named as Rust has it.
    fs::write(src.join("my_stock.rs"), MIGRATOR).unwrap();
    project.run(&["migrate", "new", "my-stock", "create_c"]).well().says(&["src/my_stock/m20"]);

    let computed = MIGRATOR.replace("vec![]", "all()");
    fs::write(src.join("shop/mod.rs"), &computed).unwrap();
    project
        .run(&["migrate", "new", "shop", "create_b"])
        .failed(1, &["not a plain `vec![…]`", "by hand"]);
    assert_eq!(fs::read_to_string(src.join("shop/mod.rs")).unwrap(), computed);
}
