//! `wharf migrate new`.

use std::fs;
use std::path::{Path, PathBuf};

use chrono::{TimeDelta, Utc};
use syn::spanned::Spanned as _;
use syn::{Expr, File, ImplItem, Item, Macro, Stmt};

use crate::cli::context::shown;
use crate::cli::failure::Failure;
use crate::cli::{out, project, rustfmt};

pub(super) fn run(name: &str, database: Option<&str>) -> Result<(), Failure> {
    let first = name.starts_with(|c: char| c.is_ascii_lowercase());
    if !first || !name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_') {
        return Err(Failure::Failed(format!(
            "{name:?} is not a valid name; use lower-case letters, digits and _, as in create_customer"
        )));
    }
    let migrator = Migrator::find(&project::migration()?.join("src"), database)?;
    let module = migrator.next(name);
    let file = migrator.folder.join(format!("{module}.rs"));
    let with_it = rustfmt::formatted(&migrator.with(&module)?, &migrator.folder)?;
    fs::create_dir_all(&migrator.folder)?;
    // In this order: a file that no migrator names is harmless.
    fs::write(&file, rustfmt::formatted(&migration(name), &migrator.folder)?)?;
    fs::write(&migrator.file, with_it)?;
    out::line(format_args!("created {}, and added it to {}", shown(&file), shown(&migrator.file)))
}

/// The file of a migrator.
struct Migrator {
    file: PathBuf,
    /// Where its migrations are.
    folder: PathBuf,
    text: String,
    parsed: File,
}

impl Migrator {
    /// The one of a database, in src/lib.rs or in a module that is named after the database.
    fn find(src: &Path, database: Option<&str>) -> Result<Migrator, Failure> {
        if let Some(only) = Migrator::read(&src.join("lib.rs"), src)? {
            return Ok(only);
        }
        let mut all = Vec::new();
        for entry in fs::read_dir(src)? {
            let path = entry?.path();
            let (file, folder) = match path.is_dir() {
                true => (path.join("mod.rs"), path.clone()),
                false => (path.clone(), path.with_extension("")),
            };
            if path.is_dir() || path.extension().is_some_and(|it| it == "rs") {
                all.extend(Migrator::read(&file, &folder)?);
            }
        }
        all.sort_by(|a, b| a.file.cmp(&b.file));
        let name =
            |it: &Migrator| it.folder.file_name().map(|it| it.to_string_lossy().into_owned());
        let names: Vec<String> = all.iter().filter_map(name).collect();
        let found = match database {
            Some(wanted) => {
                let module = project::module(wanted);
                all.into_iter().find(|it| name(it).as_ref() == Some(&module))
            }
            None if all.len() == 1 => all.pop(),
            None => None,
        };
        found.ok_or_else(|| {
            let said = match (names.is_empty(), database) {
                (true, _) => "no file has a `fn migrations() -> …`".to_owned(),
                (_, Some(wanted)) => {
                    format!("there is none for `{wanted}`, only for {}", names.join(", "))
                }
                (_, None) => format!("add the name of the database: {}", names.join(", ")),
            };
            Failure::File(format!("no migrator found in {}: {said}", shown(src)))
        })
    }

    /// `None` where the file is not there, or has no migrator.
    fn read(file: &Path, folder: &Path) -> Result<Option<Migrator>, Failure> {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::Failed(format!("{}: {error}", shown(file)))),
        };
        let parsed = syn::parse_file(&text)
            .map_err(|error| Failure::Failed(format!("{}: {error}", shown(file))))?;
        let migrator = Migrator { file: file.into(), folder: folder.into(), text, parsed };
        let is_one = migrator.parsed.items.iter().any(|item| body(item).is_some());
        Ok(is_one.then_some(migrator))
    }

    /// The module of a new migration: by the time, and after all others.
    fn next(&self, name: &str) -> String {
        let modules = self.parsed.items.iter().filter_map(|item| match item {
            Item::Mod(it) => Some(it.ident.to_string()),
            _ => None,
        });
        let last = modules.filter(|it| it.starts_with('m')).max().unwrap_or_default();
        let last: String = last.chars().take("m20260101_000000".len()).collect();
        let (mut now, far) = (Utc::now(), Utc::now() + TimeDelta::hours(1));
        loop {
            let stamp = now.format("m%Y%m%d_%H%M%S").to_string();
            // One of the far future is not waited for.
            if stamp > last || now > far {
                return format!("{stamp}_{name}");
            }
            now += TimeDelta::seconds(1);
        }
    }

    /// The text with one more migration, the last.
    fn with(&self, module: &str) -> Result<String, Failure> {
        let items = &self.parsed.items;
        let list = items.iter().find_map(body).and_then(list).ok_or_else(|| {
            Failure::Failed(format!(
                "the migrations in {} are not a plain `vec![…]`; add {module} by hand",
                shown(&self.file)
            ))
        })?;
        let end = list.delimiter.span().close().byte_range().start;
        let inside = list.tokens.to_string();
        let comma = if inside.is_empty() || inside.trim_end().ends_with(',') { "" } else { ", " };
        let mut text = self.text.clone();
        text.insert_str(end, &format!("{comma}Box::new({module}::Migration)"));
        let is_module = |item: &&Item| matches!(item, Item::Mod(it) if it.content.is_none());
        let is_use = |item: &&Item| matches!(item, Item::Use(_));
        let last = items.iter().rfind(is_module);
        let (at, gap) = match last.or_else(|| items.iter().rfind(is_use)) {
            Some(item) => {
                (item.span().byte_range().end, if last.is_some() { "\n" } else { "\n\n" })
            }
            None => (0, ""),
        };
        text.insert_str(at, &format!("{gap}mod {module};"));
        Ok(text)
    }
}

/// What `fn migrations` of an implementation says.
fn body(item: &Item) -> Option<&[Stmt]> {
    let Item::Impl(implementation) = item else {
        return None;
    };
    implementation.items.iter().find_map(|item| match item {
        ImplItem::Fn(it) if it.sig.ident == "migrations" => Some(it.block.stmts.as_slice()),
        _ => None,
    })
}

/// The `vec![…]` that it ends with.
fn list(body: &[Stmt]) -> Option<&Macro> {
    let list = match body.last()? {
        Stmt::Expr(Expr::Macro(it), None) => &it.mac,
        Stmt::Macro(it) if it.semi_token.is_none() => &it.mac,
        _ => return None,
    };
    list.path.is_ident("vec").then_some(list)
}

/// A migration of this name, to be filled in.
fn migration(name: &str) -> String {
    let (what, up, down) = match name.strip_prefix("create_") {
        Some(table) => (
            format!("Creates `{table}`."),
            format!(
                "let table = Table::create().table(\"{table}\").col(big_pk_auto(\"id\")).to_owned();
                 manager.create_table(table).await"
            ),
            format!("manager.drop_table(Table::drop().table(\"{table}\").to_owned()).await"),
        ),
        None => {
            let open = |way: &str| {
                format!(
                    "let _ = manager; // manager.get_connection().execute_unprepared(\"ALTER TABLE …\").await?;
                     Err(DbErr::Migration(\"{name}: {way} is not written yet\".to_owned()))"
                )
            };
            let mut what = name.replace('_', " ");
            what[..1].make_ascii_uppercase();
            (format!("{what}."), open("up"), open("down"))
        }
    };
    let schema =
        if name.starts_with("create_") { "use sea_orm_migration::schema::*;\n" } else { "" };
    format!(
        "//! {what}

use sea_orm_migration::prelude::*;
{schema}
#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {{
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {{
        {up}
    }}

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {{
        {down}
    }}
}}
"
    )
}
