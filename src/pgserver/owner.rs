//! Which file a server belongs to, so that two projects never share one, or remove each other's.

use std::fs;
use std::path::PathBuf;

use super::error::PgServerError;
use super::folder::Folder;
use super::request::Request;
use crate::endpoint;

/// Refuses a server that belongs to another file.
pub(super) fn check(folder: &Folder, request: &Request) -> Result<(), PgServerError> {
    let file = request.config.file.as_deref();
    match endpoint::other_owner(folder.path(), file) {
        Some(file) => Err(PgServerError::Foreign { server: request.name().to_owned(), file }),
        None => Ok(()),
    }
}

/// Notes that the server belongs to the request's file. To be called under the folder's lock.
pub(super) fn take(folder: &Folder, request: &Request) -> Result<(), PgServerError> {
    check(folder, request)?;
    let Some(file) = &request.config.file else { return Ok(()) };
    let known = endpoint::owner(folder.path());
    if known.as_ref() == Some(file) {
        return Ok(());
    }
    if let Some(known) = known {
        tracing::info!(
            "pgserver `{}`: it belonged to {}, which no longer exists, and belongs to {} now",
            request.name(),
            known.display(),
            file.display()
        );
    }
    endpoint::set_owner(folder.path(), file)
        .map_err(folder.io("write its owner into", folder.path()))
}

/// Returns a server that is likely this project's from before it was moved, whose data would be lost from sight: its name,
/// and the file that it belonged to. Blocks.
pub(super) fn earlier(folder: &Folder, request: &Request) -> Option<(String, PathBuf)> {
    let (readable, _) = request.name().rsplit_once('-')?;
    if !request.config.has_default_name || folder.path().exists() {
        return None;
    }
    let servers = fs::read_dir(folder.path().parent()?).ok()?;
    servers.flatten().find_map(|server| {
        let name = server.file_name().into_string().ok()?;
        let is_like = name.rsplit_once('-').is_some_and(|(other, _)| other == readable);
        let owner = endpoint::owner(&server.path())?;
        // Another file of the same project describes another server.
        let is_same_file = owner.file_name() == request.config.file.as_ref()?.file_name();
        (is_like && is_same_file && !owner.exists()).then_some((name, owner))
    })
}

/// Forgets whom a server belonged to, once nothing is left of it.
pub(super) fn release(folder: &Folder) {
    // Without it, the next server of this name is somebody else's too.
    let _ = fs::remove_file(folder.join(endpoint::OWNER));
}
