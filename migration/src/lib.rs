//! The tables of wharf's examples: one module a database, one migrator a module, one file a
//! migration. This crate depends on sea-orm-migration alone and knows nothing of wharf, as a
//! service's own migrations would.
//!
//! ```no_run
//! # async fn f(db: &sea_orm_migration::sea_orm::DatabaseConnection)
//! # -> Result<(), sea_orm_migration::DbErr> {
//! use sea_orm_migration::MigratorTrait;
//! migration::shop::Migrator::up(db, None).await
//! # }
//! ```

// async_trait takes `SchemaManager<'_>` for another signature than the trait's own `SchemaManager`.
#![allow(elided_lifetimes_in_paths)]

pub mod audit;
pub mod library;
pub mod shop;
