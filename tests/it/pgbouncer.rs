//! A real PgBouncer before the server of this run. `.ci/poolers` fetches it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::owner::{as_owner, free_port};

/// The first version of Debian's that keeps prepared statements for its clients, and the last that does not.
pub const NEW: &str = "1.24";
pub const OLD: &str = "1.18";

pub struct PgBouncer {
    pub port: u16,
    process: Child,
    _folder: tempfile::TempDir,
}

/// Where the program is, if it is there. Without it a test says that it did not run, or fails where that is required.
pub fn program(version: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("WHARF_TEST_POOLERS").map(PathBuf::from).or_else(|| {
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
        Some(cache?.join("wharf/poolers"))
    });
    let path = folder.map(|folder| folder.join(format!("pgbouncer-{version}")));
    let found = path.filter(|path| path.exists());
    if found.is_none() {
        let required = std::env::var("WHARF_TEST_POOLER").is_ok_and(|value| value == "require");
        assert!(!required, "WHARF_TEST_POOLER=require, and there is no PgBouncer; run .ci/poolers");
        // Past the harness, which keeps what a test prints to itself.
        use std::io::Write as _;
        let what = format!("did not run: there is no PgBouncer {version}; run .ci/poolers");
        let mut stderr = std::io::stderr();
        writeln!(stderr, "{what}").unwrap();
    }
    found
}

impl PgBouncer {
    /// In transaction mode with two connections of the server, which `server` names as libpq does. `lines` are settings of
    /// PgBouncer's.
    pub fn start(version: &str, server: &str, lines: &[&str]) -> Option<PgBouncer> {
        let program = program(version)?;
        let folder = tempfile::Builder::new().prefix("wharf-pgbouncer-").tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        // Root's cache is not everybody's.
        fs::copy(program, at("pgbouncer")).unwrap();
        let port = free_port();
        let text = format!(
            "[databases]\n* = {server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = transaction\ndefault_pool_size = 2\nmax_client_conn = 200\n{}\n",
            lines.join("\n")
        );
        fs::write(at("pgbouncer.ini"), text).unwrap();
        let open = Command::new("chmod").arg("-R").arg("a+rx").arg(folder.path()).status().unwrap();
        assert!(open.success());
        let mut process = as_owner(at("pgbouncer").to_str().unwrap())
            .arg(at("pgbouncer.ini"))
            .current_dir("/")
            .stdout(Stdio::null())
            .stderr(fs::File::create(at("log")).unwrap())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = process.try_wait().unwrap().is_some();
            assert!(!ended && begun.elapsed() < Duration::from_secs(60), "{}", log(folder.path()));
            std::thread::yield_now();
        }
        Some(PgBouncer { port, process, _folder: folder })
    }
}

fn log(folder: &Path) -> String {
    fs::read_to_string(folder.join("log")).unwrap_or_default()
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
