//! The generator's options, remembered in the manifest of the crate that it writes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, value};

use crate::cli::context::shown;
use crate::cli::failure::Failure;

/// What SeaORM implements serde's traits by, for dates, decimals, vectors and relations.
const SEA_ORM_SERDE: &str = "with-json";

/// The manifest of the crate `entity`, whose section `[package.metadata.wharf]` has the options.
pub(super) struct Options {
    path: PathBuf,
    document: DocumentMut,
    /// Whether models derive serde's traits.
    pub(super) serde: bool,
    /// Those of sea-orm that the entities' types need.
    features: BTreeSet<&'static str>,
}

impl Options {
    /// Those of the last run, changed by what the command line says. `text` is the manifest of a crate
    /// that does not exist yet.
    pub(super) fn read(folder: &Path, text: &str, serde: Option<bool>) -> Result<Options, Failure> {
        let path = folder.join("Cargo.toml");
        let found = match fs::read_to_string(&path) {
            Ok(found) => found,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => text.to_owned(),
            Err(error) => return Err(Failure::Failed(format!("{}: {error}", shown(&path)))),
        };
        let document = parse(&path, &found)?;
        let wharf = document.get("package").and_then(|it| it.get("metadata")?.get("wharf"));
        let remembered = wharf.and_then(|it| it.get("serde")?.as_bool()).unwrap_or(false);
        Ok(Options {
            path,
            document,
            serde: serde.unwrap_or(remembered),
            features: BTreeSet::new(),
        })
    }

    /// With serde, in the manifest of a crate that is about to be written.
    pub(super) fn with_serde(text: &str) -> Result<Options, Failure> {
        let path = PathBuf::from("entity/Cargo.toml");
        Ok(Options { document: parse(&path, text)?, path, serde: true, features: BTreeSet::new() })
    }

    pub(super) fn needs(&mut self, features: &BTreeSet<&'static str>) {
        self.features.extend(features);
    }

    /// Writes them, with the dependencies that they need. What else the manifest says stays.
    pub(super) fn write(self) -> Result<(), Failure> {
        let path = self.path.clone();
        let text = self.text();
        match fs::read_to_string(&path) {
            Ok(found) if found == text => Ok(()),
            _ => Ok(fs::write(path, text)?),
        }
    }

    /// The manifest with them.
    pub(super) fn text(mut self) -> String {
        let metadata = table(self.document.as_table_mut(), &["package", "metadata", "wharf"]);
        if let Some(metadata) = metadata {
            metadata.insert("serde", value(self.serde));
        }
        if self.serde {
            self.features.insert(SEA_ORM_SERDE);
        }
        if let Some(dependencies) = table(self.document.as_table_mut(), &["dependencies"]) {
            if self.serde && !dependencies.contains_key("serde") {
                let mut serde = InlineTable::new();
                serde.insert("version", "1".into());
                serde.insert("features", ["derive"].into_iter().collect::<Array>().into());
                dependencies.insert("serde", value(serde));
            }
            if let Some(sea_orm) = dependencies.get_mut("sea-orm") {
                add_features(sea_orm, &self.features);
            }
        }
        self.document.to_string()
    }
}

/// Adds those that a dependency lacks.
fn add_features(dependency: &mut Item, needed: &BTreeSet<&str>) {
    let list = |it: &Item| {
        let listed = it.get("features").and_then(Item::as_array);
        let listed = listed.into_iter().flatten().filter_map(|it| it.as_str().map(str::to_owned));
        listed.collect::<Vec<_>>()
    };
    let listed = list(dependency);
    let is =
        |key: &str, default: bool| dependency.get(key).and_then(Item::as_bool).unwrap_or(default);
    // A workspace's dependency may have any, and one with SeaORM's default features has these.
    let is_there: &[&str] = match is("workspace", false) || is("default-features", true) {
        true => &["with-chrono", "with-json", "with-rust_decimal", "with-uuid"],
        false => &[],
    };
    let missing: Vec<&str> = needed
        .iter()
        .filter(|it| !is_there.contains(it) && !listed.iter().any(|listed| listed == **it))
        .copied()
        .collect();
    if missing.is_empty() {
        return;
    }
    if let Some(version) = dependency.as_str() {
        let mut table = InlineTable::new();
        table.insert("version", version.into());
        *dependency = value(table);
    }
    if let Some(table) = dependency.as_table_like_mut() {
        let features = table.entry("features").or_insert_with(|| value(Array::new()));
        if let Some(features) = features.as_array_mut() {
            missing.into_iter().for_each(|feature| features.push(feature));
        }
    }
}

fn parse(path: &Path, text: &str) -> Result<DocumentMut, Failure> {
    text.parse().map_err(|error| Failure::File(format!("{} is invalid: {error}", shown(path))))
}

/// The table at this path, created where it is missing; `None` where something else is in its place.
fn table<'a>(mut at: &'a mut Table, path: &[&str]) -> Option<&'a mut Table> {
    for key in path {
        let mut missing = Table::new();
        missing.set_implicit(true);
        at = at.entry(key).or_insert(Item::Table(missing)).as_table_mut()?;
    }
    at.set_implicit(false);
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str, serde: bool) -> String {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("Cargo.toml"), text).unwrap();
        Options::read(dir.path(), "", Some(serde)).unwrap().write().unwrap();
        let again = Options::read(dir.path(), "", None).unwrap();
        assert_eq!(again.serde, serde);
        fs::read_to_string(dir.path().join("Cargo.toml")).unwrap()
    }

    #[test]
    fn serde_comes_into_a_manifest_that_stays_as_it_is_otherwise() {
        let before = "[package]\nname = \"entity\" # ours\n\n[dependencies]\n\
                      sea-orm = { version = \"2.0\", default-features = false, features = [\"macros\"] }\n";
        let after = written(before, true);
        assert!(after.starts_with("[package]\nname = \"entity\" # ours\n"), "{after}");
        assert!(after.contains("features = [\"macros\", \"with-json\"]"), "{after}");
        assert!(after.contains("serde = { version = \"1\", features = [\"derive\"] }"), "{after}");
        assert!(after.contains("[package.metadata.wharf]\nserde = true"), "{after}");
        assert!(!written(before, false).contains("derive"));
    }

    #[test]
    fn a_dependency_gets_the_features_that_it_lacks() {
        for (dependency, expected) in [
            (
                "{ version = \"2.0\", default-features = false, features = [\"macros\"] }",
                "{ version = \"2.0\", default-features = false, features = [\"macros\", \"with-ipnetwork\", \"with-uuid\"] }",
            ),
            // with-uuid is one of SeaORM's default features.
            ("\"2.0\"", "{ version = \"2.0\", features = [\"with-ipnetwork\"] }"),
            ("{ workspace = true }", "{ workspace = true , features = [\"with-ipnetwork\"] }"),
            (
                "{ version = \"2.0\", features = [\"with-ipnetwork\"] }",
                "{ version = \"2.0\", features = [\"with-ipnetwork\"] }",
            ),
        ] {
            let text = format!("sea-orm = {dependency}\n");
            let mut document: DocumentMut = text.parse().unwrap();
            add_features(
                &mut document["sea-orm"],
                &BTreeSet::from(["with-ipnetwork", "with-uuid"]),
            );
            assert_eq!(document.to_string(), format!("sea-orm = {expected}\n"));
        }
    }
}
