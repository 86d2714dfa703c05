//! The database `shop`: customers and what they bought.

use sea_orm_migration::prelude::*;

mod m20261123_000001_create_customer;
mod m20261123_000002_create_purchase;

/// The migrations of this database, oldest first.
#[derive(Debug, Clone, Copy)]
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261123_000001_create_customer::Migration),
            Box::new(m20261123_000002_create_purchase::Migration),
        ]
    }
}
