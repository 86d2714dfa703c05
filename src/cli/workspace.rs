//! The Cargo workspace around a project's crates: joined or created, so that nothing is built twice.

use std::fs;
use std::path::{Component, Path, PathBuf};

use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, Value, value};

use super::context::shown;
use super::failure::Failure;

/// Where cargo keeps the sources of a program that it built from a registry, or from a git repository.
const FROM_REGISTRY: &str = "/registry/src/";
const FROM_GIT: &str = "/git/checkouts/";

const TABLES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

/// What says where a dependency is from.
const SOURCE: [&str; 7] = ["version", "registry", "git", "branch", "tag", "rev", "path"];

/// A manifest that was read, and where.
struct Manifest {
    folder: PathBuf,
    document: DocumentMut,
}

impl Manifest {
    /// The one in this folder; `None` if there is none.
    fn read(folder: &Path) -> Result<Option<Manifest>, Failure> {
        let path = folder.join("Cargo.toml");
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::Failed(format!("{}: {error}", shown(&path)))),
        };
        let document = text
            .parse()
            .map_err(|error| Failure::File(format!("{} is invalid: {error}", shown(&path))))?;
        Ok(Some(Manifest { folder: folder.to_owned(), document }))
    }

    fn write(&self) -> Result<(), Failure> {
        Ok(fs::write(self.folder.join("Cargo.toml"), self.document.to_string())?)
    }

    fn is_workspace(&self) -> bool {
        self.document.contains_key("workspace")
    }

    /// The values of a list of the section `[workspace]`.
    fn list(&self, key: &str) -> Vec<&str> {
        let list = self.document.get("workspace").and_then(|it| it.get(key)?.as_array());
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    fn has_member(&self, path: &str) -> bool {
        self.list("members").iter().any(|pattern| is_match(pattern, path))
    }

    /// The manifests of its members that are there; those in excluded folders count, too.
    fn members(&self) -> Vec<Manifest> {
        let mut folders = vec![self.folder.clone()];
        for pattern in self.list("members") {
            folders.extend(existing(&self.folder, pattern));
        }
        // A member that cannot be read is cargo's to complain about.
        folders.iter().filter_map(|folder| Manifest::read(folder).ok().flatten()).collect()
    }

    /// How this package depends on a crate.
    fn dependency(&self, name: &str) -> Option<&Item> {
        TABLES.iter().find_map(|table| self.document.get(table)?.get(name))
    }
}

/// The manifest of the workspace around a folder; else the nearest package, which is a workspace of its
/// own once it has a second crate.
fn around(folder: &Path) -> Result<Option<Manifest>, Failure> {
    let mut nearest = None;
    for above in folder.ancestors().skip(1) {
        let Some(manifest) = Manifest::read(above)? else {
            continue;
        };
        if manifest.is_workspace() {
            let path = relative(&manifest.folder, folder);
            let excluded = manifest.list("exclude").iter().any(|it| path.starts_with(it));
            return Ok(if excluded { nearest } else { Some(manifest) });
        }
        nearest = nearest.or(Some(manifest));
    }
    Ok(nearest)
}

/// Creates a crate in a folder that is not there yet and adds it to the workspace around it, which is
/// created if there is none. Files are given by their paths in the crate.
pub(super) fn new_crate(folder: &Path, files: &[(&str, &str)]) -> Result<(), Failure> {
    let whole = std::path::absolute(folder)?;
    let around = around(&whole)?;
    for (file, text) in files {
        let path = whole.join(file);
        fs::create_dir_all(path.parent().unwrap_or(&whole))?;
        fs::write(path, text)?;
    }
    let Some(mut root) = around else {
        let above = whole.parent().unwrap_or(&whole);
        let mut root = Manifest { folder: above.to_owned(), document: DocumentMut::new() };
        add(&mut root, &relative(above, &whole));
        return root.write();
    };
    let member = relative(&root.folder, &whole);
    if root.has_member(&member) {
        return Ok(());
    }
    add(&mut root, &member);
    root.write()
}

/// Adds a member, in the style of the list that is there.
fn add(root: &mut Manifest, member: &str) {
    let is_new = !root.is_workspace();
    let workspace = root.document.entry("workspace").or_insert(Item::Table(Table::new()));
    // One that is no table is cargo's to complain about.
    let Some(workspace) = workspace.as_table_like_mut() else {
        return;
    };
    if is_new {
        workspace.insert("resolver", value("3"));
    }
    let members = workspace.entry("members").or_insert(value(Array::new()));
    if let Some(members) = members.as_array_mut() {
        let indent = members.iter().last().and_then(|it| it.decor().prefix()?.as_str());
        match indent.filter(|indent| indent.contains('\n')).map(str::to_owned) {
            Some(indent) => {
                members.push_formatted(Value::from(member).decorated(indent, ""));
                members.set_trailing_comma(true);
            }
            None => members.push(member),
        }
    }
}

/// How a crate in this folder depends on wharf: as the enclosing project does, else by where this
/// program is from. The table lacks the features.
pub(super) fn wharf(folder: &Path) -> Result<InlineTable, Failure> {
    let whole = std::path::absolute(folder)?;
    let Some(root) = around(&whole)? else {
        return Ok(own_source());
    };
    let shared = root.document.get("workspace").and_then(|it| it.get("dependencies")?.get("wharf"));
    if shared.is_some() {
        let mut table = InlineTable::new();
        table.insert("workspace", true.into());
        return Ok(table);
    }
    for member in root.members() {
        if let Some(used) = member.dependency("wharf") {
            return Ok(source(used, &member.folder, &whole));
        }
    }
    Ok(own_source())
}

/// Where a dependency of the crate in `from` is from, as the crate in `to` has to write it.
fn source(used: &Item, from: &Path, to: &Path) -> InlineTable {
    let mut table = InlineTable::new();
    if let Some(version) = used.as_str() {
        table.insert("version", version.into());
        return table;
    }
    for key in SOURCE {
        let Some(text) = used.get(key).and_then(Item::as_str) else {
            continue;
        };
        let path = Path::new(text);
        let text = match key {
            "path" if path.is_relative() => relative(to, &normal(&from.join(path))),
            _ => text.to_owned(),
        };
        table.insert(key, text.into());
    }
    table
}

/// Where this program is from: the registry or the repository that cargo built it from.
fn own_source() -> InlineTable {
    let built_in = env!("CARGO_MANIFEST_DIR").replace('\\', "/");
    let mut table = InlineTable::new();
    if built_in.contains(FROM_REGISTRY) {
        table.insert("version", env!("CARGO_PKG_VERSION").into());
        return table;
    }
    table.insert("git", env!("CARGO_PKG_REPOSITORY").into());
    // `…/git/checkouts/wharf-0123456789abcdef/1a2b3c4`: the revision.
    if let Some((_, checkout)) = built_in.split_once(FROM_GIT)
        && let Some(revision) = checkout.split('/').nth(1)
    {
        table.insert("rev", revision.into());
    }
    table
}

/// The path from one folder to another, both absolute, with `/`.
fn relative(from: &Path, to: &Path) -> String {
    let (from, to): (Vec<_>, Vec<_>) = (from.components().collect(), to.components().collect());
    let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n("..".to_owned(), from.len() - shared);
    let down = to[shared..].iter().map(|it| it.as_os_str().to_string_lossy().into_owned());
    let path: Vec<String> = up.chain(down).collect();
    if path.is_empty() { ".".to_owned() } else { path.join("/") }
}

/// Without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

/// Whether a pattern of `members` names this path.
fn is_match(pattern: &str, path: &str) -> bool {
    let parts = |path: &str| -> Vec<String> {
        path.split('/').filter(|it| !matches!(*it, "" | ".")).map(str::to_owned).collect()
    };
    let (pattern, path) = (parts(pattern), parts(path));
    pattern.len() == path.len() && pattern.iter().zip(&path).all(|(a, b)| is_name_match(a, b))
}

fn is_name_match(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).filter_map(|at| rest.get(at..)).any(|rest| is_name_match(after, rest))
        }),
    }
}

/// The folders that a pattern of `members` names.
fn existing(root: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    for part in pattern.split('/').filter(|it| !matches!(*it, "" | ".")) {
        found = match part.contains('*') {
            false => found.into_iter().map(|folder| folder.join(part)).collect(),
            true => {
                let below = found.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
                let named = below.flatten().filter(|entry| {
                    entry.file_name().to_str().is_some_and(|name| is_name_match(part, name))
                });
                named.map(|entry| entry.path()).collect()
            }
        };
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_matched_as_cargo_does() {
        for (pattern, path, matches) in [
            ("migration", "migration", true),
            ("./migration/", "migration", true),
            ("crates/*", "crates/migration", true),
            ("crates/*", "migration", false),
            ("crates/*", "crates/a/migration", false),
            ("*", "migration", true),
            ("m*n", "migration", true),
            ("m*x", "migration", false),
        ] {
            assert_eq!(is_match(pattern, path), matches, "{pattern} {path}");
        }
    }

    #[test]
    fn a_path_leads_from_one_folder_to_another() {
        let path = |from: &str, to: &str| relative(Path::new(from), Path::new(to));
        assert_eq!(path("/a/b", "/a/b/c"), "c");
        assert_eq!(path("/a/b/c", "/a/d"), "../../d");
        assert_eq!(path("/a", "/a"), ".");
        assert_eq!(normal(Path::new("/a/b/../c/./d")), Path::new("/a/c/d"));
    }

    #[test]
    fn this_programs_own_source_is_never_empty() {
        let table = own_source();
        let named = table.get("git").or(table.get("version")).and_then(Value::as_str);
        assert!(named.is_some_and(|text| !text.is_empty()), "{table}");
    }
}
