//! The servers: one, or a primary with two standbys, of this machine's PostgreSQL, each in a folder of its own.

use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use tokio_postgres::NoTls;

/// A superuser, who needs no password. wharf logs in as [`USER`].
const SUPERUSER: &str = "nemesis";
pub const USER: &str = "soak";
pub const DATABASE: &str = "soak";
pub const PASSWORD: &str = "first";

/// Connections are opened all the time, so a login must be cheap, and SCRAM is made not to be: with it, a build without
/// optimization did little else. A kill leaves the operating system's cache alone, so a server that waits for no disk loses nothing by it.
const SETTINGS: &str = "fsync = off
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_buffers = 32MB
max_connections = 100
wal_level = replica
wal_log_hints = on
wal_keep_size = 1GB
max_wal_size = 512MB
deadlock_timeout = 200ms
password_encryption = md5
wal_receiver_timeout = 5s
wal_retrieve_retry_interval = 200ms
";
const LOGINS: &str = "host replication all 127.0.0.1/32 trust
host all nemesis 127.0.0.1/32 trust
host all all 127.0.0.1/32 md5
";

pub struct Cluster {
    folder: tempfile::TempDir,
    programs: PathBuf,
    pub ports: Vec<u16>,
}

impl Cluster {
    /// Starts a primary, which is server 0, and its standbys.
    pub async fn start(standbys: usize) -> Result<Cluster> {
        let folder = tempfile::Builder::new().prefix("wharf-soak-").tempdir()?;
        let ports = (0..=standbys).map(|_| free_port()).collect::<Result<_>>()?;
        let cluster = Cluster { folder, programs: programs()?, ports };
        succeed(Command::new("chmod").arg("777").arg(cluster.folder.path()))?;
        let mut initdb = cluster.program("initdb");
        initdb.args(["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C"]);
        succeed(initdb.args(["--username", SUPERUSER, "-D"]).arg(cluster.data(0)))?;
        cluster.write("postgresql.auto.conf", SETTINGS)?;
        cluster.write("pg_hba.conf", LOGINS)?;
        cluster.up(0)?;
        let sql = format!("CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'");
        cluster.run_in(0, "postgres", &sql).await?;
        let sql = format!("CREATE DATABASE {DATABASE} OWNER {USER}");
        cluster.run_in(0, "postgres", &sql).await?;
        for standby in 1..=standbys {
            cluster.clone_from(standby, 0)?;
        }
        if standbys > 0 {
            cluster.until_streaming(0).await?;
            // Each acknowledged commit is on at least one standby, so the most advanced standby has all of them.
            for server in 0..=standbys {
                cluster.set(server, "synchronous_standby_names", "'ANY 1 (*)'").await?;
            }
        }
        Ok(cluster)
    }

    pub fn data(&self, server: usize) -> PathBuf {
        self.folder.path().join(server.to_string())
    }

    /// The file with wharf's password.
    pub fn password_file(&self) -> PathBuf {
        self.folder.path().join("password")
    }

    pub fn write_password(&self, password: &str) -> Result<()> {
        let file = self.password_file();
        // Whole at each moment, because wharf reads it whenever it connects.
        let fresh = file.with_extension("new");
        std::fs::write(&fresh, password)?;
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
        Ok(std::fs::rename(fresh, file)?)
    }

    fn write(&self, file: &str, text: &str) -> Result<()> {
        let mut tee = as_owner("sh");
        tee.args(["-c", "printf %s \"$1\" > \"$2\"", "sh", text]);
        succeed(tee.arg(self.data(0).join(file)))
    }

    fn program(&self, name: &str) -> Command {
        let mut command = as_owner(self.programs.join(name).to_string_lossy());
        command.current_dir("/");
        command
    }

    fn control(&self, server: usize, args: &[&str]) -> Result<Output> {
        let mut control = self.program("pg_ctl");
        control.args(["-w", "-t", "60", "-D"]).arg(self.data(server)).args(args);
        Ok(control.output()?)
    }

    pub fn up(&self, server: usize) -> Result<()> {
        let log = self.folder.path().join(format!("{server}.log"));
        let port = format!("-p {}", self.ports[server]);
        let path = log.to_string_lossy();
        let started = self.control(server, &["start", "-l", &path, "-o", &port])?;
        if !started.status.success() {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(20)..].join("\n");
            bail!("server {server} did not start; its log ends:\n{last}");
        }
        Ok(())
    }

    /// Stops a server: `fast` as a restart does, `immediate` as a crash does.
    pub fn down(&self, server: usize, mode: &str) -> Result<()> {
        let stopped = self.control(server, &["stop", "-m", mode])?;
        ensure!(stopped.status.success(), "server {server} did not stop: {stopped:?}");
        Ok(())
    }

    /// The process ids of a server: its postmaster, and the children of that.
    pub fn processes(&self, server: usize) -> Result<Vec<u32>> {
        let file = std::fs::read_to_string(self.data(server).join("postmaster.pid"))?;
        let postmaster: u32 = file.lines().next().context("an empty postmaster.pid")?.parse()?;
        let children = format!("/proc/{postmaster}/task/{postmaster}/children");
        let children = std::fs::read_to_string(children)?;
        let children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
        Ok([postmaster].into_iter().chain(children).collect())
    }

    /// Sends a signal to processes of a server. One that has ended meanwhile is no error.
    pub fn signal(&self, signal: &str, processes: &[u32]) -> Result<()> {
        let processes: Vec<String> = processes.iter().map(ToString::to_string).collect();
        if !processes.is_empty() {
            Command::new("kill").arg(format!("-{signal}")).args(processes).output()?;
        }
        Ok(())
    }

    /// Makes a server a standby of `primary`, with a fresh copy of its data.
    pub fn clone_from(&self, server: usize, primary: usize) -> Result<()> {
        succeed(as_owner("rm").arg("-rf").arg(self.data(server)))?;
        let mut backup = self.program("pg_basebackup");
        backup.args(["-h", "127.0.0.1", "-U", SUPERUSER, "--no-sync", "-c", "fast", "-R", "-p"]);
        succeed(backup.arg(self.ports[primary].to_string()).arg("-D").arg(self.data(server)))?;
        self.up(server)
    }

    /// Makes a server that was the primary a standby of `primary`, with the data that it has.
    pub fn rewind_to(&self, server: usize, primary: usize) -> Result<()> {
        let mut rewind = self.program("pg_rewind");
        rewind.args(["--no-sync", "--write-recovery-conf", "--source-server"]);
        rewind.arg(format!("{} dbname=postgres", self.address(primary)));
        succeed(rewind.arg("-D").arg(self.data(server)))?;
        self.up(server)
    }

    fn address(&self, server: usize) -> String {
        format!("host=127.0.0.1 port={} user={SUPERUSER}", self.ports[server])
    }

    pub fn promote(&self, server: usize) -> Result<()> {
        let promoted = self.control(server, &["promote"])?;
        ensure!(promoted.status.success(), "server {server} was not promoted: {promoted:?}");
        Ok(())
    }

    /// Has a standby follow another primary.
    pub async fn follow(&self, server: usize, primary: usize) -> Result<()> {
        self.set(server, "primary_conninfo", &format!("'{}'", self.address(primary))).await
    }

    pub async fn set(&self, server: usize, setting: &str, value: &str) -> Result<()> {
        self.run(server, &format!("ALTER SYSTEM SET {setting} = {value}")).await?;
        self.run(server, "SELECT pg_reload_conf()").await
    }

    /// A connection past wharf and past the network that breaks, with another driver, so that a fault of wharf's hides none.
    pub async fn client(&self, server: usize) -> Result<tokio_postgres::Client> {
        self.client_of(server, DATABASE).await
    }

    async fn client_of(&self, server: usize, database: &str) -> Result<tokio_postgres::Client> {
        let limit =
            "connect_timeout=10 options='-c statement_timeout=60s -c client_min_messages=error'";
        let address = format!("{} dbname={database} {limit}", self.address(server));
        let (client, connection) = tokio_postgres::connect(&address, NoTls).await?;
        tokio::spawn(connection);
        Ok(client)
    }

    pub async fn run(&self, server: usize, sql: &str) -> Result<()> {
        self.run_in(server, DATABASE, sql).await
    }

    async fn run_in(&self, server: usize, database: &str, sql: &str) -> Result<()> {
        let client = self.client_of(server, database).await?;
        client.batch_execute(sql).await.with_context(|| sql.to_owned())
    }

    /// The first column of the first row, as a number.
    pub async fn number(&self, server: usize, sql: &str) -> Result<i64> {
        let client = self.client_of(server, DATABASE).await;
        // A standby may not have the database yet.
        let client = match client {
            Ok(client) => client,
            Err(_) => self.client_of(server, "postgres").await?,
        };
        Ok(client.query_one(sql, &[]).await.with_context(|| sql.to_owned())?.get(0))
    }

    /// Waits until all other servers follow this one.
    pub async fn until_streaming(&self, primary: usize) -> Result<()> {
        let standbys = i64::try_from(self.ports.len() - 1)?;
        let streaming = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'";
        until("all standbys follow", async || {
            self.number(primary, streaming).await.is_ok_and(|count| count == standbys)
        })
        .await
    }

    /// How far a standby has received the WAL, in bytes, once its primary sends no more.
    pub async fn received(&self, server: usize) -> Result<i64> {
        let receivers = "SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming'";
        until("the standby has lost its primary", async || {
            self.number(server, receivers).await.is_ok_and(|count| count == 0)
        })
        .await?;
        let position = "SELECT pg_wal_lsn_diff(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), '0/0')::int8";
        self.number(server, position).await
    }

    /// The server that takes writes. None if there are none, or several.
    pub async fn primary(&self) -> Option<usize> {
        let mut primaries = Vec::new();
        for server in 0..self.ports.len() {
            let role = self.number(server, "SELECT pg_is_in_recovery()::int::int8").await;
            if role.is_ok_and(|is_standby| is_standby == 0) {
                primaries.push(server);
            }
        }
        (primaries.len() == 1).then(|| primaries[0])
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for server in 0..self.ports.len() {
            // One that the nemesis has stopped cannot be told to end.
            if let Ok(processes) = self.processes(server) {
                let _ = self.signal("CONT", &processes);
                let _ = self.control(server, &["stop", "-m", "immediate"]);
            }
        }
    }
}

/// Waits for a condition, for a minute at most.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) -> Result<()> {
    let started = Instant::now();
    while !holds().await {
        if started.elapsed() > Duration::from_secs(60) {
            bail!("waited a minute in vain: {what}");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The newest PostgreSQL of this machine, as Debian installs it.
fn programs() -> Result<PathBuf> {
    let root = Path::new("/usr/lib/postgresql");
    let majors = std::fs::read_dir(root).context("no PostgreSQL in /usr/lib/postgresql")?;
    let majors = majors.filter_map(|it| it.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let newest = majors.filter(|major| root.join(major.to_string()).join("bin/initdb").is_file());
    let newest = newest.max().context("no PostgreSQL server in /usr/lib/postgresql")?;
    Ok(root.join(newest.to_string()).join("bin"))
}

/// The server refuses to run as root.
fn as_owner(program: impl AsRef<str>) -> Command {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|it| it.uid() == 0);
    if !is_root {
        return Command::new(program.as_ref());
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]);
    command.arg(program.as_ref());
    command
}

fn succeed(command: &mut Command) -> Result<()> {
    let output = command.output()?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
