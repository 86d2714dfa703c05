//! PostgreSQL's programs on this machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::pgserver::request::Request;
use crate::pgserver::version::Version;

/// What a server needs; a folder with fewer holds a client.
const NEEDED: [&str; 3] = ["initdb", "pg_ctl", "postgres"];

/// Where packages put them: a folder, then what its name begins with, then the rest of the way.
const PLACES: [(&str, &str, &str); 7] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    ("/usr/local", "pgsql", "bin"),
];

/// One PostgreSQL as installed.
#[derive(Clone, Debug)]
pub(crate) struct Installation {
    bin: PathBuf,
    pub(crate) version: Version,
}

impl Installation {
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// Every one on this machine, the newest first. Runs a program for each.
    pub(crate) fn all() -> Vec<Installation> {
        let mut seen = BTreeSet::new();
        let mut found: Vec<Installation> = Vec::new();
        for bin in candidates() {
            // Through links (Debian's wrappers, Homebrew's cellar), so that none counts twice and
            // the shared files are found beside it.
            let Ok(real) = fs::canonicalize(bin.join("postgres")) else {
                continue;
            };
            let Some(bin) = real.parent().map(Path::to_owned) else {
                continue;
            };
            if !seen.insert(bin.clone()) || !NEEDED.iter().all(|p| bin.join(p).is_file()) {
                continue;
            }
            let spoken = output(Command::new(bin.join("postgres")).arg("--version"));
            if let Some(version) = spoken.as_deref().and_then(Version::from_program) {
                found.push(Installation { bin, version });
            }
        }
        found.sort_by(|a, b| b.version.cmp(&a.version));
        found
    }

    /// Those that can serve a request, the newest first; the reason if there are none.
    pub(crate) fn fitting(request: &Request) -> Result<Vec<Installation>, String> {
        let all = Installation::all();
        if all.is_empty() {
            return Err(
                "initdb, pg_ctl and postgres are neither on PATH nor where packages put them; install \
                 PostgreSQL's server package"
                    .to_owned(),
            );
        }
        let list: Vec<String> = all.iter().map(Installation::to_string).collect();
        if let Some(wanted) = request.wanted_version()
            && !all.iter().any(|one| one.version.meets(&wanted))
        {
            return Err(format!(
                "{} does not satisfy the requested version {wanted}; install PostgreSQL {wanted}, or change \
                 `pgserver.version`",
                list.join(", ")
            ));
        }
        let right = all.into_iter().filter(|one| request.version_reason(&one.version).is_none());
        let (mut fitting, mut lacking) = (Vec::new(), Vec::new());
        for one in right {
            match one.lacks(&request.extensions) {
                missing if missing.is_empty() => fitting.push(one),
                missing => lacking.push(format!("{one} lacks extension {}", missing.join(", "))),
            }
        }
        match fitting.is_empty() {
            true => Err(format!("{}; install its package", lacking.join("; "))),
            false => Ok(fitting),
        }
    }

    /// The extensions that are not installed for it.
    fn lacks(&self, extensions: &BTreeSet<String>) -> Vec<String> {
        if extensions.is_empty() {
            return Vec::new();
        }
        let shared = self.shared();
        let there = |name: &str| {
            let control = format!("extension/{name}.control");
            shared.iter().any(|dir| dir.join(&control).is_file())
        };
        extensions.iter().filter(|name| !there(name)).cloned().collect()
    }

    /// Folders that may hold its extensions. The programs know theirs by compilation and do not
    /// tell; pg_config does, but comes with a development package.
    fn shared(&self) -> Vec<PathBuf> {
        let mut shared = Vec::new();
        let config = self.program("pg_config");
        if let Some(dir) = output(Command::new(config).arg("--sharedir")) {
            shared.push(PathBuf::from(dir.trim()));
        }
        if let Some(prefix) = self.bin.parent() {
            shared.push(prefix.join("share/postgresql"));
            shared.push(prefix.join("share"));
            shared.push(prefix.join(format!("share/postgresql@{}", self.version.major())));
        }
        shared.push(PathBuf::from(format!("/usr/share/postgresql/{}", self.version.major())));
        shared
    }
}

impl std::fmt::Display for Installation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PostgreSQL {} in {}", self.version, self.bin.display())
    }
}

fn candidates() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if let Some(dir) = output(Command::new("pg_config").arg("--bindir")) {
        folders.push(PathBuf::from(dir.trim()));
    }
    for (parent, prefix, rest) in PLACES {
        let Ok(entries) = fs::read_dir(parent) else {
            continue;
        };
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                folders.push(entry.path().join(rest));
            }
        }
    }
    folders
}

fn output(command: &mut Command) -> Option<String> {
    let command = command.stdin(Stdio::null()).stderr(Stdio::null());
    let output = command.output().ok().filter(|output| output.status.success())?;
    String::from_utf8(output.stdout).ok()
}
