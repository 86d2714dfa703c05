//! Entities for every schema: each file of `corpus/` is a schema with rows. Its entities are generated, all in one crate,
//! and `corpus/checker.rs` uses them as a service would.
//!
//! A line `-- NOTE …` of a file is what the generator says of it. It says nothing else.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::entity::{Workspace, cargo, manifest};
use crate::it::TestDatabase;

const CORPUS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cli/corpus");

/// Of wharf, in both programs, so that it is built once.
const FEATURES: &str = "cli copy";

/// The program of the migrations: each is one file.
const MIGRATION: &str = r#"
use sea_orm_migration::prelude::*;

macro_rules! schemas {
    ($($name:ident)*) => {
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
                    let sql = include_str!(concat!("CORPUS/", stringify!($name), ".sql"));
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
    for entry in fs::read_dir(CORPUS).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|it| it == "sql") {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            schemas.insert(name, fs::read_to_string(path).unwrap());
        }
    }
    if let Ok(only) = std::env::var("CORPUS_ONLY") {
        schemas.retain(|name, _| name.contains(&only));
    }
    let mut yaml = "databases:\n".to_owned();
    let mut databases = Vec::new();
    for name in schemas.keys() {
        let database = TestDatabase::new().await;
        yaml += &database.entry(name, &[]);
        databases.push(database);
    }

    let team = Workspace::new(&yaml, "");
    let names: Vec<&str> = schemas.keys().map(String::as_str).collect();
    let calls = format!("schemas! {{ {} }}\n", names.join(" "));
    team.write("migration/src/main.rs", &(MIGRATION.replace("CORPUS", CORPUS) + &calls));
    team.write("migration/Cargo.toml", &manifest("migration", FEATURES));
    team.add("migration");
    let generated = team.wharf(&["entity", "generate", "--serde"]).well();
    for (name, sql) in &schemas {
        notes(name, sql, &generated.err);
    }
    let check = team.wharf(&["entity", "generate", "--check"]).well();
    assert!(!check.out.contains("out of date"), "{check:?}");

    let mut main = fs::read_to_string(format!("{CORPUS}/checker.rs")).unwrap();
    main += "\nasync fn check_all() {\n";
    for name in names {
        let folder = team.path().join("entity/src").join(name);
        let folder = if folder.is_dir() { folder } else { team.path().join("entity/src") };
        writeln!(
            main,
            "    let schema = Schema::open({name:?}, include_str!({:?})).await;",
            format!("{CORPUS}/{name}.sql")
        )
        .unwrap();
        calls_of(&mut main, name, &folder);
    }
    writeln!(main, "    println!(\"{} schemas\");\n}}", schemas.len()).unwrap();
    team.write("service/src/main.rs", &main);
    let entity = "entity = { path = \"../entity\" }\n";
    team.write("service/Cargo.toml", &(manifest("service", FEATURES) + entity));
    team.run(&mut cargo()).well().says(&[&format!("{} schemas", schemas.len())]);
}

/// What was said of a schema is what its file has.
fn notes(name: &str, sql: &str, said: &str) {
    let has = |text: &str, begin: &str| {
        let mut all: Vec<String> =
            text.lines().filter_map(|line| line.strip_prefix(begin)).map(str::to_owned).collect();
        all.sort();
        all
    };
    assert_eq!(has(said, &format!("{name}: ")), has(sql, "-- NOTE "), "{name}");
}

/// The calls of the checker for each entity, and each relation that its file declares.
fn calls_of(main: &mut String, schema: &str, folder: &Path) {
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
        let at = match folder.ends_with(schema) {
            true => format!("entity::{schema}::{module}"),
            false => format!("entity::{module}"),
        };
        writeln!(main, "    schema.check::<{at}::Entity>().await;").unwrap();
        let models = file.items.iter().filter_map(|item| match item {
            syn::Item::Struct(model) if model.ident == "Model" => Some(&model.fields),
            _ => None,
        });
        for field in models.flatten() {
            relation(main, &at, field);
        }
    }
}

fn relation(main: &mut String, at: &str, field: &syn::Field) {
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
    writeln!(
        main,
        "    {{\n        let rows = {at}::Entity::load().with({with}).all(&schema.pg).await.expect(\"{at}.{name}\");\n        \
         let found: Vec<usize> = rows.iter().map(|it| it.{name}.{count}).collect();\n        \
         schema.relation(\"{at}.{name}\", found.iter().sum(), {definition}).await;\n    }}"
    )
    .unwrap();
}
