//! Citus: tables that are distributed over several servers.
//!
//! A [`DistributedTable`] has its rows in shards, by the value of one column. A [`ReferenceTable`] is copied to every
//! node. A [`DistributedSchema`] has all of a tenant's tables on one node. Each is a step of a migration; inserts and
//! queries are those of any table.
//!
//! ```no_run
//! # mod tenant {
//! #     use sea_orm::entity::prelude::*;
//! #     #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
//! #     #[sea_orm(table_name = "tenant")]
//! #     pub struct Model { #[sea_orm(primary_key)] pub id: i64, pub name: String }
//! #     #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)] pub enum Relation {}
//! #     impl ActiveModelBehavior for ActiveModel {}
//! # }
//! # mod invoice {
//! #     use sea_orm::entity::prelude::*;
//! #     #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
//! #     #[sea_orm(table_name = "invoice")]
//! #     pub struct Model {
//! #         #[sea_orm(primary_key, auto_increment = false)] pub tenant_id: i64,
//! #         #[sea_orm(primary_key)] pub id: i64,
//! #         pub currency: String,
//! #     }
//! #     #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)] pub enum Relation {}
//! #     impl ActiveModelBehavior for ActiveModel {}
//! # }
//! # mod currency {
//! #     use sea_orm::entity::prelude::*;
//! #     #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
//! #     #[sea_orm(table_name = "currency")]
//! #     pub struct Model { #[sea_orm(primary_key, auto_increment = false)] pub code: String }
//! #     #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)] pub enum Relation {}
//! #     impl ActiveModelBehavior for ActiveModel {}
//! # }
//! use wharf::ext::citus::{DistributedTable, ReferenceTable};
//!
//! # async fn up(m: &sea_orm_migration::SchemaManager<'_>) -> Result<(), sea_orm::DbErr> {
//! // in the migration, after create_table; the primary key has to contain the column: (tenant_id, id)
//! let db = m.get_connection();
//! ReferenceTable::new(currency::Entity).create(db).await?;
//! DistributedTable::new(tenant::Entity, tenant::Column::Id).shard_count(64).create(db).await?;
//! DistributedTable::new(invoice::Entity, invoice::Column::TenantId)
//!     .colocate_with(tenant::Entity)
//!     .create(db)
//!     .await?;
//! # Ok(()) }
//! ```
//!
//! # Without Citus
//! In a database without the extension a step changes nothing and logs one line (INFO), so the same migrations run on a
//! plain PostgreSQL, as in tests. `required()` makes that an error, [`CitusError::Missing`].
//!
//! # Cost
//! The methods take any connection: a migration's, a [`Pg`](crate::Pg), a [`Session`](crate::Session). Each costs two
//! round trips: one asks for Citus, one does it. If the future is dropped before the answer, it is unknown whether it was
//! done, unless it runs in a transaction, as a migration does. Errors are [`CitusError`] inside of the `DbErr`, which
//! [`Error::of`](crate::Error::of) finds.

mod schema;
mod statement;
mod table;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

pub use crate::error::CitusError;
pub use schema::DistributedSchema;
#[cfg(feature = "cli")]
pub(crate) use statement::IN_DATABASE;
pub use table::{DistributedTable, ReferenceTable};

/// Returns the version of Citus in the database, as in `12.1.4`; none if the database does not have the extension. One
/// round trip, two if it has.
///
/// ```no_run
/// # async fn doc(pg: wharf::Pg) -> Result<(), wharf::Error> {
/// if let Some(version) = wharf::ext::citus::version(&pg).await? {
///     println!("Citus {version}");
/// }
/// # Ok(()) }
/// ```
///
/// # Errors
/// Those of the server.
pub async fn version(db: &impl ConnectionTrait) -> Result<Option<String>, DbErr> {
    if !statement::look(db).await?.has_citus {
        return Ok(None);
    }
    // "Citus 12.1.4 on x86_64-pc-linux-gnu, compiled by gcc …"
    let sql = "SELECT split_part(pg_catalog.citus_version(), ' ', 2)";
    let row = db.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await?;
    row.map(|row| row.try_get_by_index(0)).transpose()
}
