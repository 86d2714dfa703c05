//! Files that are written whole or not at all, and never through a link that somebody else has put there.

#[cfg(feature = "pgserver")]
use std::io::Write as _;
use std::{
    fs::{File, OpenOptions},
    io,
    path::Path,
};

#[cfg(any(feature = "copy", feature = "pgserver"))]
use tempfile::NamedTempFile;

/// Creates a file beside its place, under a name that nobody can guess or has taken, closed to other users. It is removed
/// when it is dropped; `persist` moves it into place, over whatever is there.
#[cfg(feature = "pgserver")]
fn beside(path: &Path) -> io::Result<NamedTempFile> {
    with_mode(path, 0o600)
}

/// The same for what people keep and hand on: with the mode of the file that is there, or of a new one.
#[cfg(any(feature = "copy", feature = "pgserver"))]
pub(crate) fn beside_for_others(path: &Path) -> io::Result<NamedTempFile> {
    #[cfg(unix)]
    let there = std::fs::metadata(path).ok().map(|there| {
        use std::os::unix::fs::PermissionsExt as _;
        there.permissions().mode() & 0o777
    });
    #[cfg(not(unix))]
    let there = None;
    with_mode(path, there.unwrap_or(0o666))
}

#[cfg(any(feature = "copy", feature = "pgserver"))]
fn with_mode(path: &Path, mode: u32) -> io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let prefix = format!(".{}.", path.file_name().unwrap_or_default().to_string_lossy());
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        // Without what the umask takes away.
        builder.permissions(std::fs::Permissions::from_mode(mode));
    }
    #[cfg(not(unix))]
    let _ = mode;
    builder.tempfile_in(folder.unwrap_or(Path::new(".")))
}

/// Writes a file, whole or not at all, closed to other users. `finish` has it before it is in its place.
#[cfg(feature = "pgserver")]
pub(crate) fn write(
    path: &Path,
    text: &str,
    finish: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let mut file = beside(path)?;
    file.write_all(text.as_bytes())?;
    finish(file.as_file())?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Opens a file to read, unless it is a link, or a pipe, which would wait for somebody who writes.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    open_with(OpenOptions::new().read(true), path)
}

/// Opens a file to lock, closed to other users, because whoever can open it can lock it. It is created if it is not there;
/// a link or a pipe is refused.
#[cfg(feature = "pgserver")]
pub(crate) fn open_lock(path: &Path) -> io::Result<File> {
    let file =
        open_with(OpenOptions::new().read(true).write(true).create(true).truncate(false), path)?;
    // An earlier version left it open.
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
    }
    Ok(file)
}

/// Reads a file, unless it is a link or a pipe.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    io::read_to_string(open(path)?)
}

fn open_with(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600).custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK);
    }
    let file = options.open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")),
    }
}

#[cfg(all(test, unix, feature = "pgserver"))]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    #[test]
    fn a_link_is_replaced_and_what_it_leads_to_is_neither_written_nor_read() {
        let dir = tempfile::tempdir().unwrap();
        let (victim, planted) = (dir.path().join("victim"), dir.path().join("conf"));
        fs::write(&victim, "theirs").unwrap();
        std::os::unix::fs::symlink(&victim, &planted).unwrap();
        assert!(read(&planted).is_err());
        write(&planted, "ours", |_| Ok(())).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "theirs");
        assert_eq!(read(&planted).unwrap(), "ours");
        let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&planted), 0o600);
        let kept = dir.path().join("kept");
        beside_for_others(&kept).unwrap().persist(&kept).unwrap();
        fs::write(dir.path().join("plain"), "").unwrap();
        assert_eq!(mode(&kept), mode(&dir.path().join("plain")));
        // A file that did not get into its place is removed.
        write(&dir.path().join("failed"), "x", |_| Err(io::Error::other("x"))).unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
    }
}
