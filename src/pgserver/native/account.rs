//! Who runs PostgreSQL's programs.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::{User, geteuid};

/// PostgreSQL refuses to run as root.
const FOR_ROOT: &str = "postgres";

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

    /// Hands a file or folder to that user.
    pub(crate) fn own(&self, path: &Path) -> io::Result<()> {
        match self.other {
            Some((uid, gid)) => std::os::unix::fs::lchown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }
}
