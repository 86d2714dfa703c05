//! The database `audit`: what happened, when, and its details as JSON.

use sea_orm_migration::prelude::*;

mod m20261123_000001_create_event;

/// The migrations of this database, oldest first.
#[derive(Debug, Clone, Copy)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(m20261123_000001_create_event::Migration)]
    }
}
