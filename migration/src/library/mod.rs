//! The database `library`: passages of text, searched by meaning.

use sea_orm_migration::prelude::*;

mod m20261123_000001_create_extension_vector;
mod m20261123_000002_create_passage;
mod m20261123_000003_index_passage_embedding;

/// The migrations of this database, oldest first.
#[derive(Debug, Clone, Copy)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261123_000001_create_extension_vector::Migration),
            Box::new(m20261123_000002_create_passage::Migration),
            Box::new(m20261123_000003_index_passage_embedding::Migration),
        ]
    }
}
