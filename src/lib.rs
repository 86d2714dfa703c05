//! The database layer between a Rust service and PostgreSQL.
//!
//! One YAML file names the databases. SeaORM's entities run against them over connections that
//! wharf lends, in sessions that are kept whole or not at all; and the same file brings up the
//! PostgreSQL server to develop against.
//!
//! ```no_run
//! # async fn doc() -> Result<(), wharf::Error> {
//! use sea_orm::{ConnectionTrait, TransactionTrait};
//!
//! let manager = wharf::Manager::open("etc/infra.yaml").await?;
//! let pg = manager.db("shop")?;                       // a SeaORM connection, pooled
//!
//! pg.session()                                        // all or nothing
//!     .run(async |s| {
//!         s.execute_unprepared("UPDATE account SET cents = cents - 100 WHERE id = 1").await?;
//!         s.execute_unprepared("UPDATE account SET cents = cents + 100 WHERE id = 2").await
//!     })
//!     .await?;
//!
//! let report = pg.session().read_only().await?;       // the server refuses writes
//! # Ok(()) }
//! ```
//!
//! # Where to look
//! - [`Manager`]: every database of a file, by name.
//! - [`Pg`]: one database; `&Pg` is what SeaORM takes as a connection.
//! - [`Session`]: a unit of work; `&Session` is what SeaORM takes as a transaction.
//! - [`Pg::scoped`]: a schema a tenant; [`ensure`]: what many make at once, made once.
//! - [`Session::cursor`]: rows by the million, while the session does other things meanwhile.
//! - [`Pg::listen`], [`Session::notify`]: what sessions say to others when they commit.
#![cfg_attr(
    feature = "copy",
    doc = "- [`copy`]: rows by the million, into tables and out of them."
)]
//! - [`ext`]: what extensions add: vectors, time series, places.
//! - [`monitor`]: what is slow, what waits, what runs again and again.
//! - [`config`]: the file, key by key.
#![cfg_attr(feature = "pgserver", doc = "- [`pgserver`]: the server to develop against.")]
//! - [`Error`]: what went wrong, for which database, after how long, and what to do.
//!
//! # Coming from SeaORM's own connection
//! Change the type: `DatabaseConnection` to [`Pg`], `DatabaseTransaction` to [`Session`]. The
//! traits and the methods keep their names. Two things need SeaORM's own types, and have them from
//! [`Manager::connection`]: `Migrator::up` and `down`, and whatever takes sqlx's pool
//! (`get_postgres_connection_pool`). Two things differ on purpose: a raw `COMMIT` or `ROLLBACK` in a
//! session is refused, and so is an isolation level for a nested one.
//!
//! # Features
//! | feature | default | what for |
//! |---|---|---|
//! | `tls` | yes | TLS to the server, by rustls with the system's certificates |
//! | `entity-registry`, `schema-sync` | no | the SeaORM features of the same names |
//! | `tracing-spans` | no | a span for each statement, by OpenTelemetry's conventions |
//! | `pgserver` | no | start the file's server with this machine's PostgreSQL programs |
//! | `docker` | no | or in a container, by a Docker engine |
//! | `embedded` | no | or inside this process: some 500 crates more, for development only |
//! | `copy` | no | rows by the million: COPY, and inserts and upserts in bulk |
//! | `vector` | no | pgvector's types, expressions, indexes and searches |
//! | `postgis` | no | PostGIS's types and expressions, by geo-types |
//! | `patroni` | no | the servers of a cluster from Patroni's REST interface |
//! | `with-time` | no | SeaORM's feature of the same name, for `copy` |
//! | `migrate` | no | SeaORM migrations, one process at a time |
//! | `testing` | no | a database for every test |
//! | `cli` | no | the program `wharf`: `cargo install --features cli` |
//!
//! Without `tls`, `ssl_mode: prefer` connects in the clear and `require` is refused.

mod causal;
#[cfg(feature = "cli")]
pub mod cli;
pub mod config;
#[cfg(feature = "copy")]
pub mod copy;
mod database;
mod debug;
mod endpoint;
pub mod ensure;
mod error;
pub mod ext;
mod files;
#[cfg(any(feature = "cli", feature = "testing"))]
mod json;
pub mod listen;
mod manager;
#[cfg(feature = "migrate")]
pub mod migrate;
pub mod monitor;
#[cfg(feature = "patroni")]
mod patroni;
mod pg;
#[cfg(feature = "pgserver")]
pub mod pgserver;
mod pool;
#[cfg(any(feature = "migrate", feature = "pgserver"))]
mod provision;
mod schema;
mod session;
mod sql;
mod statement;
mod stats;
#[cfg(feature = "testing")]
pub mod testing;
mod topology;
mod view;

pub use causal::{CausalToken, InvalidToken, causal};
pub use error::{
    ConnectError, ConnectErrorKind, CutOff, Error, NoStandby, PoolTimeout, SingleConnection,
};
pub use manager::Manager;
pub use monitor::{assert_queries, scope};
pub use pg::{Healthy, Pg, PgStats};
pub use session::{Cursor, Retry, Session, SessionBuilder};
pub use stats::{Holder, PoolStats};
pub use topology::{ServerRole, ServerStatus};
/// A test with a database of its own.
///
/// ```no_run
/// # use sea_orm_migration::{MigrationTrait, MigratorTrait};
/// # struct Migrator;
/// # impl MigratorTrait for Migrator {
/// #     fn migrations() -> Vec<Box<dyn MigrationTrait>> { Vec::new() }
/// # }
/// use sea_orm::ConnectionTrait;
/// use wharf::{Error, Pg};
///
/// #[wharf::test(Migrator)]
/// async fn customers_are_counted(pg: Pg) -> Result<(), Error> {
///     pg.execute_unprepared("INSERT INTO customer (name) VALUES ('Ada')").await?;
///     Ok(())
/// }
/// # fn main() {}
/// ```
/// The migrator is the one of [`TestDatabase::new`](testing::TestDatabase::new); without it, the database
/// is empty. The function takes a [`Pg`], or a `&TestDatabase` for its fixtures and its address, and returns
/// nothing or a `Result`. It runs on a runtime of its own, of one thread; `flavor = "multi_thread"` and
/// `worker_threads = 2` are those of `#[tokio::test]`: `#[wharf::test(Migrator, flavor = "multi_thread")]`.
///
/// If the test panics or returns an error, the database is kept and its address printed. The test's
/// failure is the error's message, not its `Debug` form.
#[cfg(feature = "testing")]
pub use wharf_macros::test;
