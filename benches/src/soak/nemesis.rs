//! The faults, one after the other, by a seeded random number generator. Each is healed before the next.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use fastrand::Rng;

use super::{
    cluster::{Cluster, USER, until},
    network::{Blow, Mode, Network},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Cut,
    Reset,
    Truncate,
    Ambush,
    Delay,
    BlackHole,
    Refuse,
    Cancel,
    Terminate,
    KillBackend,
    AlterTable,
    Password,
    Freeze,
    Restart,
    Kill,
    PauseReplay,
    Promote,
}

/// Each as often as it stands here.
const ON_ONE_SERVER: [Fault; 19] = [
    Fault::Cut,
    Fault::Reset,
    Fault::Reset,
    Fault::Truncate,
    Fault::Truncate,
    Fault::Ambush,
    Fault::Ambush,
    Fault::Delay,
    Fault::BlackHole,
    Fault::BlackHole,
    Fault::Refuse,
    Fault::Cancel,
    Fault::Terminate,
    Fault::KillBackend,
    Fault::AlterTable,
    Fault::Password,
    Fault::Freeze,
    Fault::Restart,
    Fault::Kill,
];
const IN_A_CLUSTER: [Fault; 5] =
    [Fault::PauseReplay, Fault::PauseReplay, Fault::Promote, Fault::Promote, Fault::Promote];

pub struct Nemesis<'a> {
    cluster: &'a Cluster,
    networks: &'a [Network],
    rng: Rng,
    began: Instant,
    passwords: u32,
    primary: usize,
    /// How often each fault happened.
    pub counts: BTreeMap<String, u32>,
}

impl<'a> Nemesis<'a> {
    pub fn new(cluster: &'a Cluster, networks: &'a [Network], seed: u64) -> Nemesis<'a> {
        Nemesis {
            cluster,
            networks,
            rng: Rng::with_seed(seed),
            began: Instant::now(),
            passwords: 0,
            primary: 0,
            counts: BTreeMap::new(),
        }
    }

    /// Where the primary is now.
    pub fn primary(&self) -> usize {
        self.primary
    }

    /// Strikes until then. A fault that has begun is healed.
    pub async fn run(&mut self, until: Instant) -> Result<()> {
        let mut faults = ON_ONE_SERVER.to_vec();
        if self.networks.len() > 1 {
            faults.extend(IN_A_CLUSTER);
        }
        // All of them, in another order each time, so that a short run has many kinds.
        let mut left: Vec<Fault> = Vec::new();
        loop {
            tokio::time::sleep(Duration::from_millis(self.rng.u64(200..1_500))).await;
            if Instant::now() >= until {
                return Ok(());
            }
            if left.is_empty() {
                left.clone_from(&faults);
                self.rng.shuffle(&mut left);
                // The third one, so that a short run of a cluster has one, too.
                if let Some(promote) = left.iter().position(|fault| *fault == Fault::Promote) {
                    let third = left.len() - 3;
                    left.swap(promote, third);
                }
            }
            let Some(fault) = left.pop() else { return Ok(()) };
            self.strike(fault).await.with_context(|| format!("{fault:?}"))?;
        }
    }

    /// The primary more often than a standby.
    fn any_server(&mut self) -> usize {
        match self.rng.bool() {
            true => self.primary,
            false => self.rng.usize(..self.networks.len()),
        }
    }

    fn tell(&mut self, kind: &str, what: &str) {
        println!("{:7.1} s  {kind}: {what}", self.began.elapsed().as_secs_f64());
        *self.counts.entry(kind.to_owned()).or_default() += 1;
    }

    async fn strike(&mut self, fault: Fault) -> Result<()> {
        let server = self.any_server();
        let network = &self.networks[server];
        let name = match (self.networks.len(), server == self.primary) {
            (1, _) => "the server".to_owned(),
            (_, true) => format!("the primary (server {server})"),
            (_, false) => format!("a standby (server {server})"),
        };
        match fault {
            Fault::Cut => {
                self.tell("cut", &name);
                network.strike(Blow::Cut);
            }
            Fault::Reset => {
                self.tell("reset", &name);
                network.strike(Blow::Reset);
            }
            Fault::Truncate => {
                let bytes = self.rng.usize(1..60);
                self.tell("truncate", &format!("{name}, {bytes} bytes"));
                network.strike(Blow::Truncate(bytes));
            }
            Fault::Ambush => {
                let (before, after) = (self.rng.u32(..4), self.rng.u32(..8));
                let what = format!("the primary, {before} before and {after} after");
                self.tell("reset at COMMIT", &what);
                self.networks[self.primary].ambush(before, after);
            }
            Fault::Delay => {
                let delay = Duration::from_millis(self.rng.u64(10..300));
                self.for_a_while("delay", &name, server, Mode::Delay(delay), 3_000).await;
            }
            Fault::BlackHole => {
                self.for_a_while("black hole", &name, server, Mode::BlackHole, 8_000).await;
            }
            Fault::Refuse => {
                network.strike(Blow::Reset);
                self.for_a_while("refuse", &name, server, Mode::Refuse, 3_000).await;
            }
            Fault::Cancel => {
                self.tell("cancel", "what the primary runs");
                // A COMMIT that waits for a standby and is canceled is acknowledged all the same (PostgreSQL's own way), so
                // only what waits for a lock or reads is.
                let which = "wait_event_type = 'Lock' OR query LIKE 'SELECT%' AND wait_event IS DISTINCT FROM 'SyncRep'";
                self.each_backend("pg_cancel_backend(pid)", which).await?;
            }
            Fault::Terminate => {
                self.tell("terminate", "a third of the primary's backends");
                self.each_backend("pg_terminate_backend(pid)", "pid % 3 = 0").await?;
            }
            Fault::KillBackend => {
                self.tell("kill a backend", &name);
                let pid = format!(
                    "SELECT pid::int8 FROM pg_stat_activity WHERE usename = '{USER}' ORDER BY state, pid LIMIT 1"
                );
                if let Ok(pid) = self.cluster.number(server, &pid).await {
                    self.cluster.signal("KILL", &[u32::try_from(pid)?])?;
                }
                // The postmaster then restarts all others.
                let cluster = self.cluster;
                until("the server is up again", async || {
                    cluster.number(server, "SELECT 1::int8").await.is_ok()
                })
                .await?;
            }
            Fault::AlterTable => self.alter_table().await?,
            Fault::Password => self.change_password().await?,
            Fault::Freeze => {
                let pause = self.length(7_000);
                self.tell("stop", &format!("{name}, for {pause:.1?} (SIGSTOP)"));
                let mut processes = self.cluster.processes(server)?;
                self.cluster.signal("STOP", &processes)?;
                tokio::time::sleep(pause).await;
                // Those that were forked in between, too.
                processes.extend(self.cluster.processes(server)?);
                self.cluster.signal("CONT", &processes)?;
            }
            Fault::Restart => {
                self.tell("restart", &name);
                self.cluster.down(server, "fast")?;
                self.down_time().await;
                self.cluster.up(server)?;
                self.settle().await?;
            }
            Fault::Kill => {
                self.tell("kill", &name);
                self.cluster.down(server, "immediate")?;
                self.down_time().await;
                self.cluster.up(server)?;
                self.settle().await?;
            }
            Fault::PauseReplay => self.pause_replay().await?,
            Fault::Promote => self.promote().await?,
        }
        Ok(())
    }

    /// How long a fault lasts: mostly short, and at times up to `most` milliseconds, which is longer than the timeouts.
    fn length(&mut self, most: u64) -> Duration {
        let is_long = self.rng.u8(..3) == 0;
        let (least, most) = if is_long { (most * 2 / 3, most) } else { (50, most / 8) };
        Duration::from_millis(self.rng.u64(least..most))
    }

    async fn down_time(&mut self) {
        tokio::time::sleep(Duration::from_millis(self.rng.u64(0..1_000))).await;
    }

    /// Waits until the cluster is whole, because a promotion may lose what only a server has that is away.
    async fn settle(&self) -> Result<()> {
        match self.networks.len() {
            1 => Ok(()),
            _ => self.cluster.until_streaming(self.primary).await,
        }
    }

    async fn for_a_while(&mut self, kind: &str, name: &str, server: usize, mode: Mode, most: u64) {
        let pause = self.length(most);
        let more = match mode {
            Mode::Delay(delay) => format!(" ({delay:?})"),
            _ => String::new(),
        };
        self.tell(kind, &format!("{name}, for {pause:.1?}{more}"));
        self.networks[server].set(mode);
        tokio::time::sleep(pause).await;
        self.networks[server].set(Mode::Whole);
    }

    async fn each_backend(&self, call: &str, which: &str) -> Result<()> {
        let sql =
            format!("SELECT {call} FROM pg_stat_activity WHERE usename = '{USER}' AND ({which})");
        self.cluster.run(self.primary, &sql).await
    }

    /// Makes prepared statements stale.
    async fn alter_table(&mut self) -> Result<()> {
        let alter = match self.rng.u8(..4) {
            0 => "ALTER TABLE big ADD COLUMN IF NOT EXISTS more int",
            1 => "ALTER TABLE big DROP COLUMN IF EXISTS more",
            2 => "ALTER TABLE ledger ADD COLUMN IF NOT EXISTS more int",
            _ => "ALTER TABLE ledger DROP COLUMN IF EXISTS more",
        };
        self.tell("alter a table", alter);
        // A reader that never ends must not hold it up, nor it all others.
        let alter = format!("SET lock_timeout = '2s'; {alter}");
        if let Err(error) = self.cluster.run(self.primary, &alter).await {
            println!("          gave up: {error:#}");
        }
        Ok(())
    }

    async fn change_password(&mut self) -> Result<()> {
        self.passwords += 1;
        let password = format!("number {}", self.passwords);
        self.tell("change the password", &password);
        self.cluster.run(self.primary, &format!("ALTER ROLE {USER} PASSWORD '{password}'")).await?;
        // Nobody can connect until the file has it, too.
        tokio::time::sleep(Duration::from_millis(self.rng.u64(0..300))).await;
        self.cluster.write_password(&password)?;
        if self.rng.bool() {
            self.each_backend("pg_terminate_backend(pid)", "pid % 2 = 0").await?;
        }
        Ok(())
    }

    async fn pause_replay(&mut self) -> Result<()> {
        let standby = (self.primary + self.rng.usize(1..self.networks.len())) % self.networks.len();
        let pause = Duration::from_millis(self.rng.u64(100..4_000));
        self.tell("pause replay", &format!("server {standby}, for {pause:.1?}"));
        self.cluster.run(standby, "SELECT pg_wal_replay_pause()").await?;
        tokio::time::sleep(pause).await;
        self.cluster.run(standby, "SELECT pg_wal_replay_resume()").await
    }

    /// The primary dies, the standby that is furthest takes over, the others follow it.
    async fn promote(&mut self) -> Result<()> {
        let old = self.primary;
        self.tell("kill and promote", &format!("the primary (server {old}) dies"));
        self.cluster.down(old, "immediate")?;
        self.down_time().await;
        let mut standbys = Vec::new();
        for server in (0..self.networks.len()).filter(|server| *server != old) {
            standbys.push((self.cluster.received(server).await?, server));
        }
        let (received, new) = standbys.iter().copied().max().context("no standby")?;
        let behind = standbys.iter().map(|(other, _)| received - other).max().unwrap_or_default();
        self.cluster.promote(new)?;
        self.primary = new;
        let at = self.began.elapsed().as_secs_f64();
        println!("{at:7.1} s  promoted server {new}, which was {behind} bytes ahead");
        for (_, server) in standbys.into_iter().filter(|(_, server)| *server != new) {
            self.cluster.follow(server, new).await?;
        }
        self.down_time().await;
        let way = match self.rng.bool() {
            true => "rewound",
            false => "cloned anew",
        };
        if way == "rewound" {
            // Before its first checkpoint the new primary says that it is on the old timeline, and nothing is rewound.
            self.cluster.run(new, "CHECKPOINT").await?;
            self.cluster.rewind_to(old, new)?;
        } else {
            self.cluster.clone_from(old, new)?;
        }
        self.cluster.until_streaming(new).await?;
        let at = self.began.elapsed().as_secs_f64();
        println!("{at:7.1} s  server {old} follows server {new}, {way}");
        Ok(())
    }
}
