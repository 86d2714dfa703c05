//! PostGIS: where things are.
//!
//! A column is a [`Geometry`] or a [`Geography`] field of an entity, with its SRID and, where all its rows
//! have the same, its shape in the type. [`SpatialExpr`] has the functions and operators for queries.
//!
//! ```no_run
//! use geo_types::Point;
//! use sea_orm::{EntityTrait, QueryFilter, QueryOrder, QuerySelect, Set};
//! use wharf::ext::postgis::{Geography, SpatialExpr};
//!
//! mod station {
//!     use sea_orm::entity::prelude::*;
//!     #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
//!     #[sea_orm(table_name = "station")]
//!     pub struct Model {
//!         #[sea_orm(primary_key)]
//!         pub id: i64,
//!         pub name: String,
//!         pub place: wharf::ext::postgis::Geography<4326, geo_types::Point>,   // geography(Point,4326)
//!     }
//!     #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
//!     pub enum Relation {}
//!     impl ActiveModelBehavior for ActiveModel {}
//! }
//!
//! # async fn doc(pg: wharf::Pg) -> Result<(), wharf::Error> {
//! let here = Geography::<4326, Point>::new((13.3777, 52.5163))?;      // longitude, latitude
//! let near = station::Entity::find()
//!     .filter(station::Column::Place.st_dwithin(here.clone(), 2_000.0))    // metres
//!     .order_by_asc(station::Column::Place.knn_distance(here))
//!     .limit(10)
//!     .all(&pg)
//!     .await?;
//! # Ok(()) }
//! ```
//!
//! The index is SeaORM's own to make:
//! ```
//! # use sea_orm::sea_query::{Index, IndexType};
//! let index = Index::create()
//!     .name("station_place")
//!     .table("station")
//!     .col("place")
//!     .index_type(IndexType::Custom("gist".into()))
//!     .to_owned();
//! ```

mod ewkb;
mod expr;
mod field;
mod json;
mod shape;

pub use crate::error::GeometryError;
pub use expr::SpatialExpr;
pub use field::{Geography, Geometry};
pub use shape::Shape;
