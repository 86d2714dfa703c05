//! Files of a container, which the engine takes and gives as archives.

use std::io::{self, Read as _};
use std::path::Path;

use futures_util::TryStreamExt as _;

use super::engine::{CallError, Engine};

/// The user that runs PostgreSQL in the official image and those based on it.
pub(super) const USER: &str = "postgres";

/// Puts files into a container that has not been started. Nobody but its user `postgres`, and root, can read them there.
///
/// The call that docker-api has for this makes files that everybody can read.
pub(super) async fn put(
    engine: &Engine,
    container: &str,
    files: &[(&str, String)],
) -> Result<(), CallError> {
    let users = read(engine, container, "/etc/passwd").await?.unwrap_or_default();
    let ids = ids(&users, USER);
    let ids = ids.ok_or_else(|| CallError::Failed(format!("its image has no user `{USER}`")))?;
    let archive = archive(files, ids).map_err(|error| CallError::Failed(error.to_string()))?;
    let container = engine.docker().containers().get(container);
    engine.ask(container.copy_to(Path::new("/"), archive.into())).await
}

/// Reads a file of a container, which need not run; `None` if it is not there.
pub(super) async fn read(
    engine: &Engine,
    container: &str,
    path: &str,
) -> Result<Option<String>, CallError> {
    let container = engine.docker().containers().get(container);
    let chunks: Vec<Vec<u8>> = match engine.ask(container.copy_from(path).try_collect()).await {
        Ok(chunks) => chunks,
        Err(CallError::NotFound) => return Ok(None),
        Err(error) => return Err(error),
    };
    let text = first(&chunks.concat()).map_err(|error| CallError::Failed(error.to_string()))?;
    Ok(Some(text))
}

/// User and group of a line of `/etc/passwd`: `postgres:x:999:999:…`.
fn ids(users: &str, user: &str) -> Option<(u64, u64)> {
    let mut fields = users.lines().map(|line| line.split(':'));
    let mut fields = fields.find(|fields| fields.clone().next() == Some(user))?.skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn archive(files: &[(&str, String)], (uid, gid): (u64, u64)) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_uid(uid);
        header.set_gid(gid);
        archive.append_data(&mut header, path.trim_start_matches('/'), text.as_bytes())?;
    }
    archive.into_inner()
}

/// The text of the first file of an archive.
fn first(archive: &[u8]) -> io::Result<String> {
    let mut text = String::new();
    let mut archive = tar::Archive::new(archive);
    if let Some(entry) = archive.entries()?.next() {
        entry?.read_to_string(&mut text)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_is_found_by_its_whole_name() {
        let users =
            "root:x:0:0:root:/root:/bin/sh\npostgresql:x:1:1::/:\npostgres:x:70:71::/:/bin/sh\n";
        assert_eq!(ids(users, "postgres"), Some((70, 71)));
        assert_eq!(ids(users, "nobody"), None);
        assert_eq!(ids("postgres:x", "postgres"), None);
    }

    #[test]
    fn an_archive_has_files_for_one_user_alone() {
        let made =
            archive(&[("/run/a", "text".to_owned()), ("/etc/b", String::new())], (70, 71)).unwrap();
        assert_eq!(first(&made).unwrap(), "text");
        let mut read = tar::Archive::new(made.as_slice());
        for entry in read.entries().unwrap() {
            let header = entry.unwrap().header().clone();
            assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (70, 71));
            assert_eq!(header.mode().unwrap(), 0o600);
        }
    }
}
