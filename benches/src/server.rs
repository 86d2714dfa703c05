//! The PostgreSQL that is measured on: pgbench's tables in a server of their own, which waits for
//! no disk, so that the clients are what differs.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    peers::CONNECTIONS,
    pgbouncer::{POOLED, PgBouncer},
};
use anyhow::{Context, Result, ensure};
use sea_orm::ConnectionTrait;

use wharf::{
    Pg,
    config::{PgServerConfig, Runtime},
    pgserver::{Endpoint, PgServer},
};

/// The variable that names the database to the process of a measurement.
pub const URL: &str = "BENCHES_URL";
/// And the one that names the program pgbench.
pub const PGBENCH: &str = "BENCHES_PGBENCH";

pub const SCALE: i32 = 10;
/// Accounts of one branch.
pub const BRANCH: i32 = 100_000;
pub const ACCOUNTS: i32 = SCALE * BRANCH;

pub struct Server {
    server: PgServer,
    at: Endpoint,
    pg: Pg,
    pgbench: PathBuf,
    pooler: Option<PgBouncer>,
}

impl Server {
    /// Behind a PgBouncer, if its program is given.
    pub async fn start(pgbouncer: Option<&Path>) -> Result<Server> {
        let mut config = PgServerConfig::new("benches");
        config.runtime = Runtime::Native;
        config.pass = Some(String::new().into());
        // Nothing that the server does by itself falls into some peer's turn.
        let settings = [
            ("autovacuum", "off"),
            ("checkpoint_timeout", "1d"),
            ("jit", "off"),
            ("max_wal_size", "8GB"),
            ("shared_buffers", "512MB"),
        ];
        config.postgres_conf =
            settings.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let server = PgServer::temporary(config, []);
        let at = server.start().await?;
        let pgbench = pgbench(&at.version)?;
        let pg = Pg::from_url(&url(&at)).await?;
        let mut server = Server { server, at, pg, pgbench, pooler: None };
        server.fill().await?;
        server.pooler = pgbouncer
            .map(|program| PgBouncer::start(program, &server.at, CONNECTIONS))
            .transpose()?;
        Ok(server)
    }

    async fn fill(&self) -> Result<()> {
        let mut fill = self.environment(Command::new(&self.pgbench));
        // Room on each page, so that updated rows stay where they are.
        fill.args(["--initialize", "--quiet", "--fillfactor=85"]).arg(format!("--scale={SCALE}"));
        let output = fill.output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "pgbench --initialize: {said}");
        self.tidy().await
    }

    /// Removes what the writers of a round have left.
    pub async fn tidy(&self) -> Result<()> {
        for sql in ["TRUNCATE pgbench_history", "VACUUM ANALYZE pgbench_accounts", "CHECKPOINT"] {
            self.pg.execute_unprepared(sql).await?;
        }
        Ok(())
    }

    /// Has the process of a measurement find it. Not by arguments, which everybody can read.
    pub fn environment(&self, mut command: Command) -> Command {
        let mut at = self.at.clone();
        if let Some(pooler) = &self.pooler {
            at.port = pooler.port;
            command.env(POOLED, "1");
        }
        let Endpoint { host, port, user, .. } = &at;
        command.env(URL, url(&at)).env(PGBENCH, &self.pgbench);
        command.env("PGHOST", host).env("PGPORT", port.to_string());
        command.env("PGUSER", user).env("PGDATABASE", "postgres");
        command
    }

    pub fn url(&self) -> String {
        url(&self.at)
    }

    pub fn version(&self) -> &str {
        &self.at.version
    }

    pub async fn stop(self) -> Result<()> {
        Ok(self.server.stop().await?)
    }
}

fn url(at: &Endpoint) -> String {
    format!("postgres://{}@{}:{}/postgres", at.user, at.host, at.port)
}

/// The server's own pgbench where it is installed as Debian does it; else the path's.
fn pgbench(version: &str) -> Result<PathBuf> {
    let major = version.split('.').next().unwrap_or_default();
    let own = Path::new("/usr/lib/postgresql").join(major).join("bin");
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders = std::iter::once(own).chain(env::split_paths(&path));
    let found = folders.find_map(|folder| Some(folder.join("pgbench")).filter(|it| it.is_file()));
    found.context("no program `pgbench` in the path (Debian: apt-get install postgresql)")
}
