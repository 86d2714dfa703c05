//! What PostgreSQL's extensions add, for entities and queries.

pub mod citus;
#[cfg(feature = "postgis")]
pub mod postgis;
pub mod timescale;
#[cfg(feature = "vector")]
pub mod vector;
