//! The server that the project's file describes, for its tests.

use std::path::PathBuf;

use super::leftovers;
use crate::{
    config::{self, Address, Config, Runtime},
    pgserver::PgServer,
};

/// Returns the server of the project's file, if it has one that serves more than this process.
pub(super) fn server() -> Option<(PathBuf, PgServer)> {
    let file = match std::env::var_os("WHARF_FILE") {
        Some(file) => PathBuf::from(file),
        None => {
            let here = std::env::current_dir().ok()?;
            config::find(&here).map(|(folder, name)| folder.join(name))?
        }
    };
    let config = match Config::load(&file) {
        Ok(config) => config,
        // An entry may need a variable that only production has.
        Err(error) => {
            leftovers::tell(&format!(
                "tests do not run on the server of the file, because it is not valid here: {error}"
            ));
            return None;
        }
    };
    let server = config.pgserver.filter(|server| server.runtime != Runtime::Embedded)?;
    let on = config.databases.values().filter(|entry| entry.address == Address::PgServer);
    let extensions: Vec<String> = on.flat_map(|entry| entry.extensions.clone()).collect();
    Some((file, PgServer::new(server, extensions)))
}
