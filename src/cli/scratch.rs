//! A scratch database for migrations: created for one command, and dropped after it.

use super::context::{down, entry, is_on_server};
use super::failure::Failure;
use crate::pgserver::PgServer;
use crate::testing::TestDatabase;
use crate::{Error, Manager, Pg, provision};

/// Runs `work` on an empty database with the schema and the extensions that the entry `name` asks for. It is on the
/// server of the entry `on`, else on the file's server, else where tests have theirs. A server that was not running is
/// stopped again.
pub(super) async fn on_scratch<T>(
    manager: &Manager,
    name: &str,
    on: Option<&str>,
    work: impl AsyncFnOnce(&Pg) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let wanted = entry(manager, name)?;
    let mut started = None;
    let database = empty(manager, name, on, &mut started).await;
    let done = match database {
        Ok(database) => {
            let mut config = database.config();
            config.extensions.clone_from(&wanted.extensions);
            config.schema.clone_from(&wanted.schema);
            let pg = Pg::from_config(name, config);
            let done = work(&pg).await;
            pg.close().await?;
            drop(database);
            done
        }
        Err(failure) => Err(failure),
    };
    if let Some(server) = started {
        server.stop().await?;
    }
    done
}

async fn empty(
    manager: &Manager,
    name: &str,
    on: Option<&str>,
    started: &mut Option<PgServer>,
) -> Result<TestDatabase, Failure> {
    if let Some(on) = on {
        let mut config = entry(manager, on)?.clone();
        if !is_on_server(&config) {
            (config.readonly, config.read_role, config.schema) = (false, None, None);
            return Ok(TestDatabase::empty_on(config).await?);
        }
        if manager.pgserver().is_none() {
            return Err(down(on));
        }
    }
    let Some(server) = manager.pgserver() else {
        return Ok(TestDatabase::empty().await?);
    };
    let at = match server.running().await? {
        Some(at) => at,
        None => {
            let at = server.start().await.map_err(Error::from)?;
            *started = Some(server.clone());
            at
        }
    };
    let wanted = entry(manager, on.unwrap_or(name))?;
    Ok(TestDatabase::empty_on(provision::as_superuser(wanted, &at, "postgres")).await?)
}
