//! Entities for every schema: each file of `corpus/` is a schema with rows. Its entities are generated, all in one crate,
//! and `corpus/checker.rs` uses them as a service would.
//!
//! A line `-- NOTE …` of a file is what the generator says of it. It says nothing else.
//!
//! `CORPUS_APPLICATIONS=1` adds the schemas of applications, which take the compiler almost half an hour (`.ci/nightly`).
//! `CORPUS_ONLY=NAME` takes those whose names have this in them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use crate::entity::{Workspace, cargo, manifest};
use crate::it::TestDatabase;

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/corpus");

/// Of wharf, in both programs, so that it is built once.
const FEATURES: &str = "cli copy";

/// The program of the migrations: each is one file.
const MIGRATION: &str = r#"
use sea_orm_migration::prelude::*;

macro_rules! schemas {
    ($($name:ident $path:literal)*) => {
        $(mod $name {
            use super::*;
            pub struct Migrator;
            #[async_trait::async_trait]
            impl MigratorTrait for Migrator {
                fn migrations() -> Vec<Box<dyn MigrationTrait>> { vec![Box::new(Whole)] }
            }
            struct Whole;
            impl MigrationName for Whole {
                fn name(&self) -> &str { "m20260101_000001_whole" }
            }
            #[async_trait::async_trait]
            impl MigrationTrait for Whole {
                async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
                    let sql = include_str!($path);
                    manager.get_connection().execute_unprepared(sql).await.map(|_| ())
                }
            }
        })*
        fn main() -> std::process::ExitCode {
            wharf::cli::Program::new()$(.migrations::<$name::Migrator>(stringify!($name)))*.main()
        }
    };
}
"#;

#[tokio::test]
async fn every_schema_of_the_corpus_has_entities_that_are_right() {
    let mut schemas = BTreeMap::new();
    let mut paths: Vec<_> = fs::read_dir(CORPUS).unwrap().map(|it| it.unwrap().path()).collect();
    if std::env::var_os("CORPUS_APPLICATIONS").is_some() {
        let applications = fs::read_dir(format!("{CORPUS}/applications")).unwrap();
        paths.extend(applications.map(|it| it.unwrap().path()));
    }
    for path in paths {
        if path.extension().is_some_and(|it| it == "sql") {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            schemas.insert(name, path);
        }
    }
    if let Ok(only) = std::env::var("CORPUS_ONLY") {
        schemas.retain(|name, _| name.contains(&only));
    }
    let all: Vec<_> = schemas.into_iter().collect();
    // A server has room for some fifty databases of tests.
    for group in all.chunks(35) {
        are_right(&group.iter().cloned().collect()).await;
    }
}

/// `schemas` are the files by their names.
async fn are_right(schemas: &BTreeMap<String, PathBuf>) {
    let mut yaml = "databases:\n".to_owned();
    let mut databases = Vec::new();
    for name in schemas.keys() {
        let database = TestDatabase::new().await;
        yaml += &database.entry(name, &[]);
        databases.push(database);
    }

    let team = Workspace::new(&yaml, "");
    let names: Vec<&str> = schemas.keys().map(String::as_str).collect();
    let calls: Vec<String> =
        schemas.iter().map(|(name, path)| format!("{name} {path:?}")).collect();
    let calls = format!("schemas! {{ {} }}\n", calls.join(" "));
    team.write("migration/src/main.rs", &(MIGRATION.to_owned() + &calls));
    team.write("migration/Cargo.toml", &manifest("migration", FEATURES));
    team.add("migration");
    let generated = team.wharf(&["entity", "generate", "--serde"]).well();
    let said: Vec<_> =
        schemas.keys().map(|name| notes(&generated.err, &format!("{name}: "))).collect();
    let expected: Vec<_> = schemas
        .values()
        .map(|path| notes(&fs::read_to_string(path).unwrap(), "-- NOTE "))
        .collect();
    let differing = said
        .iter()
        .zip(&expected)
        .zip(schemas.keys())
        .filter(|((said, expected), _)| said != expected);
    let differing: Vec<_> = differing.collect();
    assert!(differing.is_empty(), "{differing:#?}");
    let check = team.wharf(&["entity", "generate", "--check"]).well();
    assert!(!check.out.contains("out of date"), "{check:?}");

    let mut service = "#[tokio::main]\nasync fn main() {\n".to_owned();
    let mut dependencies = String::new();
    for (number, part) in parts(&team, &names).iter().enumerate() {
        let crates = [format!("entity_{number}"), format!("check_{number}")];
        for name in &crates {
            team.add(name);
            team.profile(name, "debug = false, incremental = false");
        }
        add_part(&team, part, schemas, &crates);
        let check = &crates[1];
        writeln!(service, "    {check}::check_all().await;").unwrap();
        writeln!(dependencies, "{check} = {{ path = \"../{check}\" }}").unwrap();
    }
    writeln!(service, "    println!(\"{} schemas\");\n}}", schemas.len()).unwrap();
    team.write("service/src/main.rs", &service);
    team.write("service/Cargo.toml", &(manifest("service", FEATURES) + &dependencies));
    team.run(&mut cargo()).well().says(&[&format!("{} schemas", schemas.len())]);
}

/// Schemas of which each part becomes a crate, so that the compiler has as many as the machine has cores, and none is larger
/// than its memory. SeaORM's macros take it about a second for each entity.
fn parts<'a>(team: &Workspace, names: &[&'a str]) -> Vec<Vec<&'a str>> {
    const MOST: usize = 60;
    let mut sized: Vec<(usize, &str)> = names
        .iter()
        .map(|name| (fs::read_dir(folder_of(team, name)).unwrap().count(), *name))
        .collect();
    sized.sort_by_key(|(size, name)| (std::cmp::Reverse(*size), *name));
    let count = sized.iter().map(|(size, _)| size).sum::<usize>().div_ceil(MOST).max(2);
    let mut parts = vec![(0, Vec::new()); count];
    for (size, name) in sized {
        let smallest = parts.iter_mut().min_by_key(|(size, _)| *size).unwrap();
        smallest.0 += size;
        smallest.1.push(name);
    }
    parts.into_iter().map(|(_, names)| names).filter(|names| !names.is_empty()).collect()
}

/// Where the entities of a schema were generated.
fn folder_of(team: &Workspace, schema: &str) -> PathBuf {
    let all = team.path().join("entity/src");
    let own = all.join(schema);
    // One database alone has no folder of its own.
    if own.is_dir() { own } else { all }
}

/// A crate with the entities of some schemas, and one that checks them.
fn add_part(
    team: &Workspace,
    schemas: &[&str],
    files: &BTreeMap<String, PathBuf>,
    [entity, check]: &[String; 2],
) {
    let mut main = fs::read_to_string(format!("{CORPUS}/checker.rs")).unwrap();
    let (mut all, mut modules) = (String::new(), String::new());
    for name in schemas {
        let (from, sql) = (folder_of(team, name), &files[*name]);
        let root = if from.ends_with(name) { "mod.rs" } else { "lib.rs" };
        writeln!(modules, "#[path = {:?}]\npub mod {name};", from.join(root)).unwrap();
        writeln!(all, "    let schema = Schema::open({name:?}, include_str!({sql:?})).await;")
            .unwrap();
        writeln!(all, "    {name}::check(&schema).await;").unwrap();
        // A future of its own for each, because one of all takes the compiler minutes.
        writeln!(main, "\nmod {name} {{\n    use super::*;\n").unwrap();
        let mut calls = String::new();
        calls_of(&mut main, &mut calls, &format!("{entity}::{name}"), &from);
        writeln!(main, "    pub async fn check(schema: &Schema) {{\n{calls}    }}\n}}").unwrap();
    }
    writeln!(main, "\npub async fn check_all() {{\n{all}}}").unwrap();
    team.write(&format!("{entity}/src/lib.rs"), &modules);
    let manifest_of = fs::read_to_string(team.path().join("entity/Cargo.toml")).unwrap();
    team.write(
        &format!("{entity}/Cargo.toml"),
        &manifest_of.replace("name = \"entity\"", &format!("name = {entity:?}")),
    );
    team.write(&format!("{check}/src/lib.rs"), &main);
    let dependency = format!("{entity} = {{ path = \"../{entity}\" }}\n");
    team.write(&format!("{check}/Cargo.toml"), &(manifest(check, FEATURES) + &dependency));
}

/// The lines that begin so.
fn notes(text: &str, begin: &str) -> Vec<String> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(begin));
    let mut notes: Vec<String> = lines.map(str::to_owned).collect();
    notes.sort();
    notes
}

/// The calls of the checker for each entity, and each relation that its file declares.
fn calls_of(main: &mut String, calls: &mut String, schema: &str, folder: &Path) {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    for path in files {
        let module = path.file_stem().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        if !text.contains("DeriveEntityModel") {
            continue;
        }
        let file = syn::parse_file(&text).unwrap();
        let module = match syn::parse_str::<syn::Ident>(module) {
            Ok(_) if module != "gen" => module.to_owned(),
            _ => format!("r#{module}"),
        };
        let at = format!("{schema}::{module}");
        writeln!(calls, "        Box::pin(schema.check::<{at}::Entity>()).await;").unwrap();
        let models = file.items.iter().filter_map(|item| match item {
            syn::Item::Struct(model) if model.ident == "Model" => Some(&model.fields),
            _ => None,
        });
        for field in models.flatten() {
            relation(main, calls, &at, field);
        }
    }
}

fn relation(main: &mut String, calls: &mut String, at: &str, field: &syn::Field) {
    let syn::Type::Path(of) = &field.ty else { return };
    let last = of.path.segments.last().unwrap();
    if !["BelongsTo", "HasOne", "HasMany"].iter().any(|it| last.ident == it) {
        return;
    }
    let syn::PathArguments::AngleBracketed(of) = &last.arguments else { panic!() };
    let syn::GenericArgument::Type(mut target) = of.args[0].clone() else { panic!() };
    if let syn::Type::Path(path) = &target
        && let syn::PathArguments::AngleBracketed(inner) =
            &path.path.segments.last().unwrap().arguments
    {
        let syn::GenericArgument::Type(inner) = inner.args[0].clone() else { panic!() };
        target = inner;
    }
    let syn::Type::Path(target) = target else { panic!() };
    let parts: Vec<String> = target.path.segments.iter().map(|it| it.ident.to_string()).collect();
    let name = field.ident.as_ref().unwrap();
    let mut variant = None;
    for attribute in field.attrs.iter().filter(|it| it.path().is_ident("sea_orm")) {
        let _ = attribute.parse_nested_meta(|meta| {
            let value = meta.value().and_then(|it| it.parse::<syn::LitStr>());
            if meta.path.is_ident("relation_enum") {
                variant = Some(value?.value());
            }
            Ok(())
        });
    }
    let other = match &parts[..] {
        [_super, module, _entity] => at.rsplit_once("::").unwrap().0.to_owned() + "::" + module,
        _ => at.to_owned(),
    };
    let count = if last.ident == "HasMany" { "len()" } else { "as_ref().is_some().into()" };
    let (with, definition) = match variant {
        Some(variant) => {
            let relation = format!("{at}::Relation::{variant}");
            (relation.clone(), format!("({relation}.def(), None)"))
        }
        None => {
            let related = format!("<{at}::Entity as Related<{other}::Entity>>");
            (format!("{other}::Entity"), format!("({related}::to(), {related}::via())"))
        }
    };
    let check = format!("relation_{}", calls.lines().count());
    writeln!(calls, "        Box::pin({check}(schema)).await;").unwrap();
    writeln!(
        main,
        "    async fn {check}(schema: &Schema) {{\n        \
         let rows = {at}::Entity::load().with({with}).all(&schema.pg).await.expect(\"{at}.{name}\");\n        \
         let found: Vec<usize> = rows.iter().map(|it| it.{name}.{count}).collect();\n        \
         schema.relation(\"{at}.{name}\", found.iter().sum(), {definition}).await;\n    }}"
    )
    .unwrap();
}
