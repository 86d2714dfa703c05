//! A PgBouncer between the peers and the server, in transaction mode.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::MetadataExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use wharf::pgserver::Endpoint;

/// Set for the process of a measurement that goes through it.
pub const POOLED: &str = "BENCHES_POOLED";

/// How long it may take to listen.
const STARTS_WITHIN: Duration = Duration::from_secs(10);

pub struct PgBouncer {
    pub port: u16,
    process: Child,
    _folder: tempfile::TempDir,
}

impl PgBouncer {
    /// With as many connections of the server as a peer has of its own.
    pub fn start(program: &Path, before: &Endpoint, connections: u32) -> Result<PgBouncer> {
        let folder = tempfile::Builder::new().prefix("wharf-benches-").tempdir()?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let Endpoint { host, port: server, user, .. } = before;
        let text = format!(
            "[databases]\n* = host={host} port={server} user={user}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
             default_pool_size = {connections}\nignore_startup_parameters = extra_float_digits\n\
             log_connections = 0\nlog_disconnections = 0\n"
        );
        let file = folder.path().join("pgbouncer.ini");
        let copy = folder.path().join("pgbouncer");
        fs::write(&file, text)?;
        // It refuses to run as root, whose folders are closed to others.
        fs::copy(program, &copy)?;
        let opened = Command::new("chmod").arg("-R").arg("a+rx").arg(folder.path()).status()?;
        ensure!(opened.success(), "could not open {}", folder.path().display());
        let mut command = match folder.path().metadata()?.uid() == 0 {
            false => Command::new(&copy),
            true => {
                let mut command = Command::new("setpriv");
                command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]);
                command.arg(&copy);
                command
            }
        };
        command.arg(&file).current_dir("/").stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().context("could not start PgBouncer")?;
        let pooler = PgBouncer { port, process, _folder: folder };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            ensure!(begun.elapsed() < STARTS_WITHIN, "PgBouncer does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(pooler)
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
