//! The running server as its data folder and the process table tell of it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::files;

const INTERVAL: Duration = Duration::from_millis(20);
/// What a fast shutdown may take: it writes a checkpoint.
const FAST: Duration = Duration::from_secs(30);
const IMMEDIATE: Duration = Duration::from_secs(10);

/// What `postmaster.pid` says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Postmaster {
    pub(crate) pid: i32,
    pub(crate) port: Option<u16>,
}

impl Postmaster {
    /// The server of a data folder, if its process is there. One that was killed leaves its file
    /// behind, and its number may since have gone to any other program, another PostgreSQL included.
    pub(crate) fn of(data: &Path) -> Option<Postmaster> {
        let text = files::read(&data.join("postmaster.pid")).ok()?;
        let mut lines = text.lines();
        let pid = lines.next()?.trim().parse().ok().filter(|pid| *pid > 0)?;
        let started = lines.nth(1).and_then(|seconds| seconds.trim().parse().ok());
        let port = lines.next().and_then(|port| port.trim().parse().ok());
        (is_postgres(pid) && is_of(pid, data, started)).then_some(Postmaster { pid, port })
    }

    /// Has it read its settings again.
    pub(crate) fn reload(&self) {
        // Fails only if it has just gone.
        let _ = kill(Pid::from_raw(self.pid), Signal::SIGHUP);
    }

    /// Fast shutdown: sessions are ended, everything is written; then, if that takes too long,
    /// immediate shutdown, which recovers at the next start. Blocks; false if it still runs.
    pub(crate) fn stop(&self, data: &Path) -> bool {
        for (signal, patience) in [(Signal::SIGINT, FAST), (Signal::SIGQUIT, IMMEDIATE)] {
            // Fails only if it has just gone.
            let _ = kill(Pid::from_raw(self.pid), signal);
            let begun = Instant::now();
            while begun.elapsed() < patience {
                if Postmaster::of(data).is_none_or(|now| now.pid != self.pid) {
                    return true;
                }
                std::thread::sleep(INTERVAL);
            }
        }
        false
    }
}

/// Whether a process is alive (a zombie is not) and a PostgreSQL one.
fn is_postgres(pid: i32) -> bool {
    if kill(Pid::from_raw(pid), None) == Err(nix::errno::Errno::ESRCH) {
        return false;
    }
    let (name, state) = match fs::read_to_string(format!("/proc/{pid}/stat")) {
        // "4711 (postgres) S 1 …"; the name may hold brackets itself.
        Ok(stat) => {
            let Some((head, tail)) = stat.rsplit_once(')') else {
                return false;
            };
            let name = head.split_once('(').map_or("", |(_, name)| name);
            (name.to_owned(), tail.trim_start().to_owned())
        }
        Err(_) => {
            let ps =
                Command::new("ps").args(["-o", "stat=,comm=", "-p", &pid.to_string()]).output();
            let said = ps.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned());
            match said.as_deref().map(|said| said.split_once(char::is_whitespace)) {
                Ok(Some((state, name))) => (name.to_owned(), state.to_owned()),
                // No process table to ask: believe the file, the login will tell.
                _ => return true,
            }
        }
    };
    !state.starts_with('Z') && ["postgres", "postmaster"].iter().any(|p| name.contains(p))
}

/// Whether a PostgreSQL process belongs to this data folder, which is its working directory.
#[cfg(target_os = "linux")]
fn is_of(pid: i32, data: &Path, _: Option<u64>) -> bool {
    let Ok(works_in) = fs::read_link(format!("/proc/{pid}/cwd")) else {
        // It is another user's process, and so not this server.
        return false;
    };
    fs::canonicalize(data).is_ok_and(|data| data == works_in)
}

/// The same by the time at which it started, on systems whose process table does not have the working directory.
#[cfg(not(target_os = "linux"))]
fn is_of(pid: i32, _: &Path, started: Option<u64>) -> bool {
    /// Seconds that may lie between the start of the process and its file.
    const NEAR: u64 = 10;
    let ps = Command::new("ps").args(["-o", "etime=", "-p", &pid.to_string()]).output();
    let Ok(said) = ps.map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned()) else {
        return true;
    };
    // [[days-]hours:]minutes:seconds
    let mut age = 0;
    for (part, of_it) in said.rsplit([':', '-']).zip([1, 60, 3_600, 86_400]) {
        age += part.trim().parse::<u64>().unwrap_or(0) * of_it;
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let (Some(started), Ok(now)) = (started, now) else { return true };
    now.as_secs().saturating_sub(age).abs_diff(started) <= NEAR
}
