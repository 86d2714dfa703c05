//! wharf: the database layer between a Rust service and PostgreSQL.

pub mod config;
mod error;
#[cfg(feature = "pgserver")]
pub mod pgserver;

pub use error::Error;
