//! wharf: the database layer between a Rust service and PostgreSQL.

pub mod config;
#[cfg(feature = "pgserver")]
mod ensure;
mod error;
mod manager;
mod pg;
#[cfg(feature = "pgserver")]
pub mod pgserver;
mod pool;
mod session;
mod sql;

pub use error::{ConnectError, ConnectErrorKind, Error, PoolTimeout, SingleConnection};
pub use manager::Manager;
pub use pg::{Healthy, Pg, PgStats};
pub use pool::PoolStats;
pub use session::{Session, SessionBuilder};
