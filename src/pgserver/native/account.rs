//! Who runs PostgreSQL's programs.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::{User, geteuid};

use super::cluster::succeeded;
use crate::files;

/// PostgreSQL refuses to run as root.
const FOR_ROOT: &str = "postgres";

/// Writes standard input to a file, whole or not at all.
const WRITE: &str = r#"umask 077 && new=$(mktemp "$1.XXXXXX") && cat >"$new" && mv -f "$new" "$1""#;

/// The user that the server runs as and that owns its files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    /// User and group to change to; `None` where this process' own will do.
    other: Option<(u32, u32)>,
}

impl Account {
    /// This process' user, or `postgres` if that is root; the reason if there is none.
    pub(crate) fn find() -> Result<Account, String> {
        if !geteuid().is_root() {
            return Ok(Account { other: None });
        }
        match User::from_name(FOR_ROOT) {
            Ok(Some(user)) => Ok(Account { other: Some((user.uid.as_raw(), user.gid.as_raw())) }),
            Ok(None) => Err(format!(
                "PostgreSQL refuses to run as root, and there is no user `{FOR_ROOT}`; create it (`useradd --system {FOR_ROOT}`), or run this as another user"
            )),
            Err(error) => Err(format!(
                "PostgreSQL refuses to run as root and user `{FOR_ROOT}` cannot be looked up: {error}"
            )),
        }
    }

    /// The number of that user.
    pub(crate) fn uid(&self) -> u32 {
        self.other.map_or_else(|| geteuid().as_raw(), |(uid, _)| uid)
    }

    /// A program run as that user, from a folder it can enter, and with nothing in its environment
    /// that would point it at another server.
    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        for (key, _) in std::env::vars_os() {
            if key.to_string_lossy().starts_with("PG") {
                command.env_remove(key);
            }
        }
        command.current_dir("/").env("LC_MESSAGES", "C").env_remove("LC_ALL");
        command.stdin(Stdio::null());
        if let Some((uid, gid)) = self.other {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Writes a file in a folder of that user's, as that user: root would follow links that the user may have put there.
    pub(crate) fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        if self.other.is_none() {
            return files::write(path, text, |_| Ok(()));
        }
        let mut write = self.command(Path::new("/bin/sh"));
        write.args(["-c", WRITE, "sh"]).arg(path).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = write.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // What keeps it from reading is what it says below.
            let _ = stdin.write_all(text.as_bytes());
        }
        succeeded(child.wait_with_output()?)
    }

    /// Reads a file of that user's, as that user.
    pub(crate) fn read(&self, path: &Path) -> io::Result<String> {
        if self.other.is_none() {
            return files::read(path);
        }
        let read = self.command(Path::new("/bin/cat")).arg("--").arg(path).output()?;
        let text = String::from_utf8_lossy(&read.stdout).into_owned();
        succeeded(read)?;
        Ok(text)
    }

    /// Hands a new file to that user, before it is in its place.
    pub(crate) fn own_file(&self, file: &File) -> io::Result<()> {
        match self.other {
            Some((uid, gid)) => std::os::unix::fs::fchown(file, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }

    /// Hands a file or folder to that user.
    pub(crate) fn own(&self, path: &Path) -> io::Result<()> {
        match self.other {
            Some((uid, gid)) => std::os::unix::fs::lchown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }
}
