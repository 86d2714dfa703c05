//! pgvector: what is near in meaning.
//!
//! | what | by |
//! |---|---|
//! | a column of an entity | [`Vector`], [`HalfVec`], [`SparseVec`], [`Bits`], each of a length; or SeaORM's own [`PgVector`](sea_orm::prelude::PgVector) |
//! | a distance in a query | [`VectorColumn`], [`Distance`] |
//! | an index | [`VectorIndex`], [`IndexProgress`] |
//! | what is nearest | [`nearest`], filtered or re-ranked; [`hybrid`] with full text |
//!
//! ```no_run
//! # mod passage {
//! #     use sea_orm::entity::prelude::*;
//! #     #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
//! #     #[sea_orm(table_name = "passage")]
//! #     pub struct Model {
//! #         #[sea_orm(primary_key)]
//! #         pub id: i64,
//! #         pub topic: String,
//! #         #[sea_orm(column_type = "Vector(Some(384))")]
//! #         pub embedding: PgVector,
//! #     }
//! #     #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
//! #     pub enum Relation {}
//! #     impl ActiveModelBehavior for ActiveModel {}
//! # }
//! # async fn doc(pg: wharf::Pg, question: Vec<f32>) -> Result<(), wharf::Error> {
//! use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
//! use wharf::ext::vector::{self, Near};
//!
//! let about_music = passage::Entity::find().filter(passage::Column::Topic.eq("music"));
//! let found = vector::nearest(about_music, passage::Column::Embedding, question).limit(5).all(&pg).await?;
//! for Near { model, distance } in found {
//!     println!("{distance:.2} {}", model.id);
//! }
//! # Ok(()) }
//! ```
//! Needs pgvector 0.8 or newer on the server; `create_extension` is the migration's, or
//! `extensions: [vector]` in the file.

mod build;
mod distance;
mod field;
mod hybrid;
mod index;
mod nearest;
mod search;
mod types;
mod value;

pub use crate::error::VectorError;
pub use build::{IndexBuild, IndexProgress};
pub use distance::{Distance, VectorColumn};
pub use hybrid::{Fused, Hybrid, Words, hybrid};
pub use index::VectorIndex;
pub use nearest::{Near, Nearest, Rerank, nearest};
pub use types::{Bits, HalfVec, SparseVec, Vector};
pub use value::{AnyVector, Kind, check};
