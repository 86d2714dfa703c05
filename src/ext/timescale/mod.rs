//! TimescaleDB: tables that grow with time.
//!
//! A [`Hypertable`] is made of a table in the migration that creates it; inserts and queries are those of any
//! table. [`time_bucket`] groups rows by time.
//!
//! ```no_run
//! # mod reading {
//! #     use sea_orm::entity::prelude::*;
//! #     #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
//! #     #[sea_orm(table_name = "reading")]
//! #     pub struct Model {
//! #         #[sea_orm(primary_key)] pub at: DateTimeUtc,
//! #         #[sea_orm(primary_key)] pub device: i32,
//! #         pub celsius: f64,
//! #     }
//! #     #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)] pub enum Relation {}
//! #     impl ActiveModelBehavior for ActiveModel {}
//! # }
//! use sea_orm::{ColumnTrait, EntityTrait, FromQueryResult, QuerySelect, entity::prelude::DateTimeUtc};
//! use sea_orm::sea_query::Expr;
//! use wharf::ext::timescale::{Hypertable, Interval, time_bucket};
//!
//! # async fn up(m: &sea_orm_migration::SchemaManager<'_>) -> Result<(), sea_orm::DbErr> {
//! // in the migration, after create_table; the primary key has to contain the time: (at, device)
//! Hypertable::new(reading::Entity, reading::Column::At)
//!     .chunk_interval(Interval::days(1))
//!     .create(m.get_connection())
//!     .await?;
//! # Ok(()) }
//!
//! #[derive(FromQueryResult)]
//! struct Hour { hour: DateTimeUtc, mean: f64 }
//!
//! # async fn doc(pg: wharf::Pg) -> Result<(), wharf::Error> {
//! let hours = reading::Entity::find()
//!     .select_only()
//!     .column_as(time_bucket(Interval::hours(1), reading::Column::At), "hour")
//!     .column_as(reading::Column::Celsius.avg(), "mean")
//!     .group_by(time_bucket(Interval::hours(1), reading::Column::At))
//!     .into_model::<Hour>()
//!     .all(&pg)
//!     .await?;
//! # Ok(()) }
//! ```
//!
//! # Licence
//! Hypertables, [`time_bucket`], [`first`], [`last`] and dropping chunks are in every build. Policies
//! (retention, compression, refresh), compression itself and continuous aggregates are not in the Apache
//! build, which Linux distributions package and the images `-oss` have: there they give
//! [`TimescaleError::Licence`], which says what to do. [`licence`] asks ahead.

mod aggregate;
mod bucket;
mod hypertable;
mod interval;
mod refused;
mod statement;

pub use crate::error::TimescaleError;
pub use aggregate::ContinuousAggregate;
pub use bucket::{first, last, time_bucket, time_bucket_in};
pub use hypertable::{Compression, Hypertable};
pub use interval::Interval;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

use crate::error::Error;

/// Under which licence the server runs TimescaleDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Licence {
    /// Hypertables and the functions for queries.
    Apache,
    /// The above, and policies, compression and continuous aggregates.
    Community,
}

/// Under which licence TimescaleDB runs there. One round trip.
///
/// # Errors
/// [`TimescaleError::Missing`] where the database has no TimescaleDB; what the server says.
pub async fn licence(db: &impl ConnectionTrait) -> Result<Licence, DbErr> {
    const SQL: &str = "SELECT current_setting('timescaledb.license')
                         FROM pg_extension WHERE extname = 'timescaledb'";
    let row = db.query_one_raw(Statement::from_string(DbBackend::Postgres, SQL)).await?;
    let missing = || {
        let subject = "the licence".to_owned();
        let source = DbErr::RecordNotFound("pg_extension has no timescaledb".to_owned());
        DbErr::from(Error::from(TimescaleError::Missing { subject, source }))
    };
    let licence: String = row.ok_or_else(missing)?.try_get_by_index(0)?;
    Ok(if licence == "apache" { Licence::Apache } else { Licence::Community })
}
