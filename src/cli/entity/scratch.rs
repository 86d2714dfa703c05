//! A database for the migrations, made for this and dropped again.

use crate::cli::context::entry;
use crate::cli::failure::Failure;
use crate::pgserver::PgServer;
use crate::testing::TestDatabase;
use crate::{Manager, Pg, provision};

/// The database that an entry asks for, but empty and of no name; on the server of the file, which has
/// its extensions, or else where tests have theirs.
pub(super) struct Scratch {
    pub(super) pg: Pg,
    database: TestDatabase,
    /// Was not running before.
    started: Option<PgServer>,
}

impl Scratch {
    pub(super) async fn open(manager: &Manager, name: &str) -> Result<Scratch, Failure> {
        let wanted = entry(manager, name)?;
        let mut started = None;
        let database = match manager.pgserver() {
            Some(server) => {
                let at = match server.running().await? {
                    Some(at) => at,
                    None => {
                        started = Some(server.clone());
                        server.start().await?
                    }
                };
                TestDatabase::empty_on(provision::as_superuser(wanted, &at, "postgres")).await?
            }
            None => TestDatabase::empty().await?,
        };
        let mut config = database.config();
        config.extensions.clone_from(&wanted.extensions);
        config.schema.clone_from(&wanted.schema);
        Ok(Scratch { pg: Pg::from_config(name, config), database, started })
    }

    pub(super) async fn close(self) -> Result<(), Failure> {
        self.pg.close().await?;
        drop(self.database);
        if let Some(server) = self.started {
            server.stop().await?;
        }
        Ok(())
    }
}
