//! The entities of a database that has its tables.

use std::collections::{BTreeMap, BTreeSet};

use super::catalog::Schema;
use super::entity::Entities;
use super::write;
use crate::cli::failure::Failure;
use crate::cli::out;
use crate::{Error, Pg};

/// Files by name, and the features of sea-orm that they need.
pub(super) struct Files {
    pub(super) texts: BTreeMap<String, String>,
    pub(super) features: BTreeSet<&'static str>,
}

/// Generates the entities of the current schema, and tells what of it they lack.
pub(super) async fn files(pg: &Pg, serde: bool, lib: bool) -> Result<Files, Failure> {
    let schema = Schema::read(pg).await.map_err(Error::from)?;
    let entities = Entities::new(&schema);
    for note in &entities.notes {
        out::note(format_args!("{}: {note}", pg.name()));
    }
    Ok(Files { texts: write::files(&entities, serde, lib), features: entities.features.clone() })
}
