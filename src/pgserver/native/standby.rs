//! The streaming standbys of a native server.
//!
//! Each clones the primary once, by pg_basebackup, and then follows it. A replication slot on the primary keeps what the
//! standby has not received yet. It is made for one clone, whose settings name it: if it is gone or was overrun, the
//! standby can never follow, and it clones again. The lines that make a standby follow are wharf's own (`upstream.rs`),
//! because the primary's port may be another one at each start.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use secrecy::ExposeSecret as _;

use super::Native;
use super::account::Account;
use super::cluster::succeeded;
use super::postmaster::Postmaster;
use super::programs::Installation;
use super::upstream::{self, Upstream};
use crate::pgserver::difference::Difference;
use crate::pgserver::error::PgServerError;
use crate::pgserver::folder::Remembered;
use crate::pgserver::replication_slot;
use crate::pgserver::server::{Endpoint, blocking};
use crate::sql;

/// Remembered from before the first slot is made until no standby is left.
const STANDBYS: &str = "standbys";
/// Remembered as the node that was the primary until a failover, until it is a standby. Its data has no sign of that yet.
pub(super) const DEMOTED: &str = "demoted";
/// Remembered in place of that if it has changes that the new primary lacks.
pub(super) const DIVERGED: &str = "diverged";
/// Remembered where there is no such node.
pub(super) const NONE: &str = "-";

/// How long a standby may go without receiving anything until it counts as one that cannot follow.
const SILENCE: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_millis(20);
/// How long a server of this machine may take for a small question.
const ANSWER: Duration = Duration::from_secs(10);

/// What is needed to start a server.
#[derive(Clone, Debug)]
struct Tools {
    installation: Installation,
    account: Account,
}

impl Native {
    /// Has as many standbys follow the running primary as the file asks for; the primary with their ports.
    pub(super) async fn with_standbys(
        &self,
        mut primary: Endpoint,
        begun: Instant,
    ) -> Result<Endpoint, PgServerError> {
        self.finish_promotion(&primary, begun).await?;
        primary.replica_ports.clear();
        let wanted = self.cluster.standbys(self.request.config.replica.wanted());
        self.retire(&wanted).await?;
        let had_some = Remembered::read(&self.cluster.remembered()).get(STANDBYS) == Some("true");
        if wanted.is_empty() && !had_some {
            return Ok(primary);
        }
        self.remember(|it| it.set(STANDBYS, true))?;
        self.limit_slots(&primary, begun).await?;
        self.drop_slots(&primary, &wanted, begun).await?;
        for node in &wanted {
            let port = self.at(*node).follow(&primary, begun).await?;
            primary.replica_ports.push(port);
        }
        // Those of clones that were replaced.
        self.drop_slots(&primary, &wanted, begun).await?;
        self.remember(|it| {
            it.set(STANDBYS, !wanted.is_empty());
            it.set(DEMOTED, NONE);
            it.set(DIVERGED, NONE);
        })?;
        Ok(primary)
    }

    /// How the standbys that run differ from what the file asks for now. Their settings are the primary's. Blocks.
    pub(super) fn standby_differences(&self) -> Vec<Difference> {
        let wanted = self.cluster.standbys(self.request.config.replica.wanted());
        let nodes = wanted.into_iter().map(|node| self.cluster.at(node));
        let differs = nodes.filter_map(|node| {
            let fixed = node.fixed_port(&self.request)?;
            let running = Postmaster::of(&node.data())?.port?;
            (running != fixed).then(|| Difference {
                setting: "replica.port".to_owned(),
                running: Some(running.to_string()),
                wanted: Some(fixed.to_string()),
            })
        });
        differs.collect()
    }

    /// Removes the standbys that are not asked for any more. One that was promoted is nobody's copy, and its data stays.
    async fn retire(&self, wanted: &[u32]) -> Result<(), PgServerError> {
        let (this, wanted) = (self.clone(), wanted.to_owned());
        blocking(move || {
            let primary = this.cluster.node();
            for node in this.cluster.nodes() {
                if node.node() == primary || wanted.contains(&node.node()) {
                    continue;
                }
                let standby = this.at(node.node());
                standby.stop_node()?;
                let data = node.data();
                if !node.is_standby() && !standby.was_primary() {
                    tracing::warn!(
                        "pgserver `{}`: a standby that was promoted is not asked for any more; its data is kept in {}",
                        this.request.name(),
                        data.display()
                    );
                    continue;
                }
                fs::remove_dir_all(&data).map_err(this.folder.io("remove", &data))?;
                let log = node.log();
                match fs::remove_file(&log) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(this.folder.io("remove", &log)(error));
                    }
                    _ => {}
                }
            }
            Ok(())
        })
        .await
    }

    /// Whether this node was the primary until a failover that is not finished.
    fn was_primary(&self) -> bool {
        let remembered = Remembered::read(&self.cluster.remembered());
        let node = self.cluster.node().to_string();
        [DEMOTED, DIVERGED].iter().any(|key| remembered.get(key) == Some(&node))
    }

    /// Limits what slots keep, on a primary that was started without standbys; lifts the limit likewise.
    async fn limit_slots(&self, primary: &Endpoint, begun: Instant) -> Result<(), PgServerError> {
        let this = self.clone();
        let written = blocking(move || {
            let Some(text) = this.cluster.with_slot_limit(&this.request) else { return Ok(false) };
            let account = this.account()?;
            let data = this.cluster.data();
            let written = this.cluster.rewrite(account, &text);
            written.map_err(this.folder.io("write the settings in", &data))?;
            Ok(true)
        });
        if written.await? {
            self.ask(primary, "SELECT pg_reload_conf()::text", begun).await?;
        }
        Ok(())
    }

    /// Drops wharf's slots that no standby of `wanted` uses, because the primary would keep its log for them.
    async fn drop_slots(
        &self,
        primary: &Endpoint,
        wanted: &[u32],
        begun: Instant,
    ) -> Result<(), PgServerError> {
        let nodes: Vec<_> = wanted.iter().map(|node| self.cluster.at(*node)).collect();
        let used = blocking(move || {
            let slots = nodes.iter().filter_map(|node| upstream::slot_of(&node.started_with()));
            Ok(slots.collect::<BTreeSet<String>>())
        });
        let used: Vec<String> = used.await?.iter().map(|slot| sql::quote_literal(slot)).collect();
        let others = match used.is_empty() {
            true => String::new(),
            false => format!("AND slot_name NOT IN ({})", used.join(", ")),
        };
        let drop = format!(
            "SELECT count(pg_drop_replication_slot(slot_name))::text FROM pg_replication_slots \
             WHERE slot_name LIKE 'wharf\\_%' AND NOT active {others}"
        );
        self.ask(primary, &drop, begun).await.map(|_| ())
    }

    /// Has this node follow the primary, whatever state it is in; where it listens. Returns once it streams.
    async fn follow(&self, primary: &Endpoint, begun: Instant) -> Result<u16, PgServerError> {
        let tools = self.tools().await?;
        self.write_passfile(primary, tools.account).await?;
        let mut slot = self.usable_slot(primary, &tools, begun).await?;
        let mut is_fresh = slot.is_none();
        loop {
            let known = match slot.take() {
                Some(known) => known,
                None => self.clone_primary(primary, &tools, begun).await?,
            };
            let outcome = match self.run(primary, &tools, &known, begun).await {
                Ok(port) => self.streams(primary, &known, begun).await?.map(|()| port),
                Err(error) if is_fresh => return Err(error),
                Err(taken @ PgServerError::PortTaken { .. }) => return Err(taken),
                Err(error) => Err(error.to_string()),
            };
            let reason = match outcome {
                Ok(port) => {
                    self.drop_old_slots(primary, port).await;
                    return Ok(port);
                }
                Err(reason) if is_fresh => {
                    let reason = format!("{reason}; see {}", self.cluster.log().display());
                    return Err(self.failed("its standby does not follow", begun, reason));
                }
                Err(reason) => reason,
            };
            tracing::info!(
                "pgserver `{}`: a standby cannot follow and is cloned again: {reason}",
                self.request.name()
            );
            is_fresh = true;
        }
    }

    async fn tools(&self) -> Result<Tools, PgServerError> {
        let this = self.clone();
        // By the primary's data, as this node may have none.
        let primary = super::Cluster::primary(self.cluster.root().to_owned()).node();
        blocking(move || {
            let installation = this.at(primary).choose_installation()?;
            Ok(Tools { installation, account: this.account()? })
        })
        .await
    }

    pub(super) fn account(&self) -> Result<Account, PgServerError> {
        Account::find().map_err(|reason| self.request.invalid(reason))
    }

    async fn write_passfile(
        &self,
        primary: &Endpoint,
        account: Account,
    ) -> Result<(), PgServerError> {
        let Some(password) = primary.password.clone() else { return Ok(()) };
        let this = self.clone();
        blocking(move || {
            // A backslash keeps a colon from ending the password.
            let password = password.expose_secret().replace('\\', "\\\\").replace(':', "\\:");
            let (path, text) = (this.cluster.passfile(), format!("*:*:*:*:{password}\n"));
            if account.read(&path).is_ok_and(|known| known == text) {
                return Ok(());
            }
            account.write(&path, &text).map_err(this.folder.io("write", &path))
        })
        .await
    }

    /// The slot that this node was made for, if it can follow with it.
    async fn usable_slot(
        &self,
        primary: &Endpoint,
        tools: &Tools,
        begun: Instant,
    ) -> Result<Option<String>, PgServerError> {
        let (this, tools) = (self.clone(), tools.clone());
        let slot = blocking(move || {
            let data = this.cluster.data();
            if this.cluster.data_version().is_none() {
                return Ok(None);
            }
            if !this.cluster.is_standby() {
                let remembered = Remembered::read(&this.cluster.remembered());
                let node = this.cluster.node().to_string();
                if remembered.get(DIVERGED) == Some(&node) {
                    return Ok(None);
                }
                if remembered.get(DEMOTED) != Some(&node) {
                    return Err(this.request.invalid(format!(
                        "its standby in {} was promoted and no longer follows; rows written to it since then exist only there. Copy them if you need them; then run `wharf server down`, remove that folder, and the next start clones it again",
                        data.display()
                    )));
                }
                this.stop_node()?;
                let made = this.cluster.make_standby(tools.account, &data);
                made.map_err(this.folder.io("make a standby in", &data))?;
            }
            Ok(upstream::slot_of(&this.cluster.started_with()))
        });
        let Some(slot) = slot.await? else { return Ok(None) };
        let serves = format!(
            "SELECT (wal_status IS DISTINCT FROM 'lost')::text FROM pg_replication_slots WHERE slot_name = {}",
            sql::quote_literal(&slot)
        );
        let serves = self.ask(primary, &serves, begun).await?;
        Ok(serves.filter(|serves| serves == "true").map(|_| slot))
    }

    fn upstream(&self, primary: &Endpoint, slot: &str) -> Upstream {
        Upstream {
            host: primary.host.clone(),
            port: primary.port,
            user: primary.user.clone(),
            passfile: primary.password.as_ref().map(|_| self.cluster.passfile()),
            name: self.request.name().to_owned(),
            slot: slot.to_owned(),
        }
    }

    /// Makes a slot that no clone uses yet.
    async fn new_slot(&self, primary: &Endpoint, begun: Instant) -> Result<String, PgServerError> {
        let failed = |error| self.failed("could not generate a name", begun, error);
        let slot = replication_slot::new_name(failed)?;
        self.ask(primary, &replication_slot::create(&slot), begun).await?;
        Ok(slot)
    }

    /// Clones the primary beside the data and moves the clone there when it is complete; its slot.
    async fn clone_primary(
        &self,
        primary: &Endpoint,
        tools: &Tools,
        begun: Instant,
    ) -> Result<String, PgServerError> {
        let slot = self.new_slot(primary, begun).await?;
        tracing::info!("pgserver `{}`: cloning its primary", self.request.name());
        let (this, tools) = (self.clone(), tools.clone());
        let upstream = self.upstream(primary, &slot);
        blocking(move || {
            this.stop_node()?;
            let cloned = this.clone_into_place(&upstream, &tools);
            let what = format!("pg_basebackup ({}) could not clone it", tools.installation);
            cloned.map_err(|error| this.failed(&what, begun, this.hint(error)))
        })
        .await?;
        Ok(slot)
    }

    /// Blocks.
    fn clone_into_place(&self, upstream: &Upstream, tools: &Tools) -> io::Result<()> {
        let Tools { installation, account } = tools;
        self.cluster.sweep_new()?;
        let new = self.cluster.new_data()?;
        let mut backup = account.command(&installation.program("pg_basebackup"));
        backup.arg("-D").arg(&new).args(["-h", &upstream.host, "-p", &upstream.port.to_string()]);
        backup.args(["-U", &upstream.user, "-w", "-X", "stream", "-S", &upstream.slot]);
        backup.args(["-c", "fast"]);
        if self.request.temporary {
            backup.arg("--no-sync");
        }
        if let Some(passfile) = &upstream.passfile {
            backup.env("PGPASSFILE", passfile);
        }
        succeeded(backup.output()?)?;
        self.cluster.make_standby(*account, &new)?;
        // With its slot, and with whatever port: both are written at each start.
        let port = upstream.port;
        self.cluster.configure_in(&new, *account, &self.request, port, Some(upstream))?;
        let data = self.cluster.data();
        match fs::remove_dir_all(&data) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::rename(&new, &data)
    }

    /// Starts this node, or finds it running, as a standby of the primary; its port.
    async fn run(
        &self,
        primary: &Endpoint,
        tools: &Tools,
        slot: &str,
        begun: Instant,
    ) -> Result<u16, PgServerError> {
        let (this, tools) = (self.clone(), tools.clone());
        let upstream = self.upstream(primary, slot);
        blocking(move || {
            let data = this.cluster.data();
            match Postmaster::of(&data).and_then(|it| Some((it, it.port?))) {
                Some((postmaster, port)) => {
                    let rewritten = this.rewrite_upstream(&upstream, port, tools.account)?;
                    if rewritten {
                        postmaster.reload();
                    }
                    Ok(port)
                }
                None => {
                    let Tools { installation, account } = &tools;
                    this.start_at_a_port(installation, *account, Some(&upstream), begun)
                }
            }
        })
        .await
    }

    /// Names another primary in the settings of this node; false if they name that one. Blocks.
    fn rewrite_upstream(
        &self,
        upstream: &Upstream,
        port: u16,
        account: Account,
    ) -> Result<bool, PgServerError> {
        let known = self.cluster.started_with();
        let text = upstream::joined(&known, Some(upstream), port);
        if text == known {
            return Ok(false);
        }
        let data = self.cluster.data();
        let written = self.cluster.rewrite(account, &text);
        written.map_err(self.folder.io("write the settings in", &data))?;
        Ok(true)
    }

    /// Waits until the node receives what the primary writes; the inner error says that it does not.
    async fn streams(
        &self,
        primary: &Endpoint,
        slot: &str,
        begun: Instant,
    ) -> Result<Result<(), String>, PgServerError> {
        let state = format!(
            "SELECT concat(r.state, ' ', r.flush_lsn) FROM pg_stat_replication r \
             JOIN pg_replication_slots s ON s.active_pid = r.pid WHERE s.slot_name = {}",
            sql::quote_literal(slot)
        );
        let mut since = Instant::now();
        let mut last = None;
        loop {
            let now = self.ask(primary, &state, begun).await?;
            if now.as_deref().is_some_and(|now| now.starts_with("streaming")) {
                return Ok(Ok(()));
            }
            if now != last {
                (since, last) = (Instant::now(), now);
            }
            if since.elapsed() > SILENCE {
                let how = last
                    .map_or_else(|| "not connected".to_owned(), |last| format!("in state {last}"));
                return Ok(Err(format!("it is {how} since {SILENCE:?}")));
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// Drops the slots that a standby has from when it was the primary. Nobody uses them, and they keep its log.
    async fn drop_old_slots(&self, primary: &Endpoint, port: u16) {
        let at = Endpoint { port, ..primary.clone() };
        let drop = "SELECT count(pg_drop_replication_slot(slot_name))::text FROM pg_replication_slots \
                    WHERE slot_name LIKE 'wharf\\_%' AND NOT active";
        if let Err(error) = self.ask(&at, drop, Instant::now()).await {
            tracing::warn!("{error}");
        }
    }

    /// Makes this node, which is not the primary any more or has another one now, ready to follow `primary`: with a slot
    /// there, and without another clone.
    pub(super) async fn turn_to(
        &self,
        primary: &Endpoint,
        begun: Instant,
    ) -> Result<(), PgServerError> {
        let slot = self.new_slot(primary, begun).await?;
        let (this, upstream) = (self.clone(), self.upstream(primary, &slot));
        blocking(move || {
            let account = this.account()?;
            let postmaster = Postmaster::of(&this.cluster.data());
            let port = postmaster.and_then(|it| it.port).unwrap_or(upstream.port);
            this.rewrite_upstream(&upstream, port, account)?;
            if let Some(postmaster) = postmaster {
                postmaster.reload();
            }
            Ok(())
        })
        .await
    }

    /// The first column of the first row that a server answers, as text.
    pub(super) async fn ask(
        &self,
        at: &Endpoint,
        sql: &str,
        begun: Instant,
    ) -> Result<Option<String>, PgServerError> {
        let what = format!("could not ask the server at {}:{}", at.host, at.port);
        match tokio::time::timeout(ANSWER, at.login().ask(sql)).await {
            Ok(asked) => asked.map_err(|error| self.failed(&what, begun, error)),
            Err(_) => {
                Err(self.failed(&what, begun, format!("it did not answer within {ANSWER:?}")))
            }
        }
    }
}
