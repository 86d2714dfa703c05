//! A dead man's switch: what belongs to this process goes when the process goes, whatever ends it.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use super::native::Account;

/// Waits for the end of its input, which comes when the last holder of the other end is gone, also
/// by SIGKILL. SIGQUIT is PostgreSQL's immediate shutdown, of the server and its standbys. The folder is removed again and again
/// for a while, as a start that was under way may still write into it. Only a process of the user that runs the server is
/// ended, `$3`, because that user writes the file with its number, and this may be root.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
cat >/dev/null
is_its_own() {
  case $1 in '' | *[!0-9]*) return 1 ;; esac
  [ "$(ps -o uid= -p "$1" 2>/dev/null | tr -d ' ' || true)" = "$2" ] || [ "$(stat -c %u "/proc/$1" 2>/dev/null)" = "$2" ]
}
tries=0
while [ -e "$1" ] && [ $tries -lt 200 ]; do
  for pid_file in "$1"/native/data*/postmaster.pid; do
    if [ -f "$pid_file" ] && [ ! -L "$pid_file" ] && [ -s "$pid_file" ] && read -r pid <"$pid_file" && is_its_own "$pid" "$3" && kill -QUIT "$pid" 2>/dev/null; then
      waited=0
      while [ -e "$pid_file" ] && kill -0 "$pid" 2>/dev/null && [ $waited -lt 100 ]; do
        sleep 0.05; waited=$((waited + 1))
      done
      [ -e "$pid_file" ] && kill -KILL "$pid" 2>/dev/null
    fi
  done
  rm -rf "$2" 2>/dev/null
  [ -e "$1" ] && sleep 0.05
  tries=$((tries + 1))
done
"#;

/// Stops the native server in a folder and removes the folder, when dropped or when this process
/// ends.
#[derive(Debug)]
pub(crate) struct Switch {
    armed: Option<(ChildStdin, Child)>,
}

impl Switch {
    /// Watches over the server's folder; `base` is what is removed with it.
    pub(crate) fn arm(server: &Path, base: &Path) -> io::Result<Switch> {
        // As an account that cannot be looked up, nothing is started that would have to be ended.
        let uid = Account::find().map_or(u32::MAX, |account| account.uid());
        let mut child = Command::new("sh")
            .args(["-c", SCRIPT, "wharf-pgserver-switch"])
            .args([server, base])
            .arg(uid.to_string())
            .current_dir("/")
            // A group of its own: Ctrl-C in the terminal ends the process it watches, not it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let armed = child.stdin.take().map(|stdin| (stdin, child));
        Ok(Switch { armed })
    }

    /// Does it now and waits for its end. Blocks.
    pub(crate) fn fire(mut self) -> io::Result<()> {
        if let Some((stdin, mut child)) = self.armed.take() {
            drop(stdin);
            child.wait()?;
        }
        Ok(())
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        if let Some((stdin, mut child)) = self.armed.take() {
            drop(stdin);
            // Only so that no zombie stays while this process lives on.
            let _ = std::thread::Builder::new().spawn(move || child.wait());
        }
    }
}
