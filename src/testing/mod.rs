//! A database for every test.
//!
//! ```no_run
//! # async fn doc<Migrator: sea_orm_migration::MigratorTrait + 'static>() -> Result<(), wharf::Error> {
//! use sea_orm::ConnectionTrait;
//! use wharf::testing::TestDatabase;
//!
//! let database = TestDatabase::new::<Migrator>().await?;        // its own, migrated; dropped at the end
//! database.load_yaml("customer:\n  - {id: 1, name: Ada}").await?;
//! database.execute_unprepared("UPDATE customer SET name = 'Grace' WHERE id = 1").await?;
//! # Ok(()) }
//! ```
//! [`#[wharf::test(Migrator)]`](macro@crate::test) is shorter. The migrations run once: into a template, of
//! which every test gets a copy, in some 20 ms.
//!
//! Tests that never commit can share one database: what they do in a [session](crate::Pg::session) that
//! they drop, for 0.1 ms, nobody else has seen. What they test takes `&impl ConnectionTrait` or
//! `&impl TransactionTrait` then, and gets the session in place of the `Pg`; its own transactions nest in it.
//!
//! # The server
//! The first of these that there is; a line on standard error tells which:
//! 1. that of `TEST_DATABASE_URL` (`postgres://user:password@host/any`), whose user may create databases,
//! 2. the server of the project's file (`WHARF_FILE`, or `etc/infra.yaml` or `infra.yaml` in the current folder or above),
//!    if that has a section `pgserver:`: its version and its extensions. It is started if it does not run, and stays,
//! 3. one that is started for all test runs of this user, by this machine's PostgreSQL or in Docker, and stays: the next
//!    run finds it, and databases that were kept can be looked at. It does not wait for disks, and is in memory where the
//!    system has `/dev/shm`. [`TestDatabase::server`] stops or removes it,
//! 4. with the feature `embedded`, the engine in this process, which serves one connection in all: tests come one after the
//!    other, each with one session at a time, and what a failed one leaves ends with the process.
//!
//! `WHARF_TEST_RUNTIME` (`native`, `docker`, `embedded`) takes that way of 3 and 4 alone.
//!
//! # What stays
//! Nothing but where a test panicked, or gave `#[wharf::test]` an error: its database is kept, its address
//! is printed, and it is dropped by a run on the next day. [`TestDatabase::keep`] keeps one on purpose. `WHARF_TEST_KEEP=never` keeps none. What a killed process has left is
//! dropped by the next run on the same machine.

mod admin;
mod file;
mod fixture;
mod leftovers;
mod run;
mod server;
mod template;

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use sea_orm::ConnectionTrait;
use sea_orm_migration::MigratorTrait;
use tokio::sync::OwnedSemaphorePermit;

#[doc(hidden)]
pub use self::run::{ByDebug, ByDisplay, Failure, Flavor, Outcome, run};
use self::server::Server;
use crate::{config::DatabaseConfig, error::Error, pg::Pg, pgserver::PgServer, sql};

/// Connections that a test's pool may have.
const POOL: u32 = 5;

/// A database of a test's own. It is a [`Pg`], and is dropped when this is.
#[derive(Debug)]
pub struct TestDatabase {
    pg: Pg,
    name: String,
    server: Arc<Server>,
    keep: AtomicBool,
    /// So many at once as the server has connections for.
    _room: OwnedSemaphorePermit,
}

impl TestDatabase {
    /// A database on which the migrations of `M` have been run. The first of a build waits for that
    /// (as long as they take), all others for a copy.
    ///
    /// Where hundreds are asked for at once, so many are given as the server has connections for, five
    /// each; the others wait until some are dropped.
    ///
    /// # Errors
    /// [`Error::PgServer`] where there is no server and none can be started, with what to do;
    /// [`Error::Migrate`]; what the server says. Dropping the future leaves at most an empty database,
    /// which is dropped by the next run.
    pub async fn new<M: MigratorTrait + 'static>() -> Result<TestDatabase, Error> {
        let server = server::of_this_run().await?;
        let template = template::of::<M>(&server).await?;
        match TestDatabase::made(Arc::clone(&server), Some(&template)).await {
            // A newer build of this program has dropped it.
            Err(error) if error.sqlstate().as_deref() == Some("3D000") => {
                server.forget_template(&template);
                let template = template::of::<M>(&server).await?;
                TestDatabase::made(server, Some(&template)).await
            }
            made => made,
        }
    }

    /// An empty database.
    ///
    /// # Errors
    /// As [`new`](TestDatabase::new).
    pub async fn empty() -> Result<TestDatabase, Error> {
        TestDatabase::made(server::of_this_run().await?, None).await
    }

    /// An empty database on the server of an entry, whose login may make databases.
    #[cfg(feature = "cli")]
    pub(crate) async fn empty_on(entry: DatabaseConfig) -> Result<TestDatabase, Error> {
        TestDatabase::made(Server::of(entry).await?, None).await
    }

    /// An empty database on `server`, which is started if it is not there, and stays: for tests that need
    /// what its image has, an extension.
    ///
    /// ```no_run
    /// # async fn doc() -> Result<(), wharf::Error> {
    /// # use wharf::{config::{PgServerConfig, Runtime}, pgserver::PgServer, testing::TestDatabase};
    /// let mut config = PgServerConfig::new("shop-testing");
    /// config.runtime = Runtime::Docker;
    /// config.image = Some("pgvector/pgvector:pg17".to_owned());
    /// let database = TestDatabase::on(&PgServer::new(config, [])).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// [`Error::PgServer`] where it cannot be started; what the server says.
    pub async fn on(server: &PgServer) -> Result<TestDatabase, Error> {
        TestDatabase::made(server::at(server.start().await?).await?, None).await
    }

    /// The server that is started where `TEST_DATABASE_URL` names none; to stop or remove it. Starts
    /// nothing.
    #[must_use]
    pub fn server() -> PgServer {
        server::own(crate::config::Runtime::Auto)
    }

    /// The database as a [`Pg`] that can be cloned and moved.
    #[must_use]
    pub fn pg(&self) -> &Pg {
        &self.pg
    }

    /// Its name on the server.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is, password included: for what takes a url.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url(&self.name)
    }

    /// Its entry, as a file would have it: for a pool with other settings.
    #[must_use]
    pub fn config(&self) -> DatabaseConfig {
        self.server.entry(&self.name)
    }

    async fn made(server: Arc<Server>, template: Option<&str>) -> Result<TestDatabase, Error> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let room = server.room().await?;
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}{next}", leftovers::prefix());
        let template = template.unwrap_or("template0");
        server.create(&name, template).await?;
        let mut config = server.entry(&name);
        (config.pool_size, config.max_overflow) = (POOL, 0);
        let pg = Pg::from_config(&name, config);
        Ok(TestDatabase { pg, name, server, keep: AtomicBool::new(false), _room: room })
    }

    /// Loads a text of SQL statements: a fixture. All of it or, if one fails, nothing.
    ///
    /// # Errors
    /// What the server says.
    pub async fn load(&self, fixture: &str) -> Result<(), Error> {
        self.pg.session().run(async |s| s.execute_unprepared(fixture).await.map(|_| ())).await?;
        Ok(())
    }

    /// Loads rows from YAML: tables (`customer:`, or `shop.customer:`), each with a list of rows, each with
    /// `column: value`; all of it or nothing. The server reads a value as it is written, by its column's type:
    /// `00501`, `NO` and `1.10` are those texts in a column of text, whatever YAML makes of them. In a column of
    /// type json or jsonb, YAML's numbers, booleans, lists and maps are JSON's. What a row does not name has its
    /// default. Rows may refer to rows that come later, if the login owns the tables: foreign keys are checked at
    /// the end. Sequences go on behind the highest number of their column.
    ///
    /// # Errors
    /// The place in the text, or the table and what the server says.
    pub async fn load_yaml(&self, fixture: &str) -> Result<(), Error> {
        self.pg.session().run(async |s| fixture::load(s, fixture).await).await
    }

    /// Keeps the database when this is dropped, and prints its address then; to look at what a test does.
    pub fn keep(&self) {
        self.keep.store(true, Ordering::Relaxed);
    }
}

impl From<&TestDatabase> for Pg {
    fn from(database: &TestDatabase) -> Pg {
        database.pg.clone()
    }
}

impl Deref for TestDatabase {
    type Target = Pg;

    fn deref(&self) -> &Pg {
        &self.pg
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let never = std::env::var("WHARF_TEST_KEEP").is_ok_and(|keep| keep == "never");
        let failed = std::thread::panicking() || self.keep.load(Ordering::Relaxed);
        let kept = failed && !never;
        if kept {
            leftovers::tell(&format!("the database of this test is kept: {}", self.url()));
        }
        let name = sql::quote_ident(&self.name);
        let (sql, longest) = match kept {
            true => {
                (format!("COMMENT ON DATABASE {name} IS '{}'", leftovers::kept_now()), admin::MARK)
            }
            false => (format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"), admin::DROP),
        };
        if let Err(error) = self.server.admin.run_now(sql, longest) {
            leftovers::tell(&format!("database {}: {error}", self.name));
        }
    }
}
