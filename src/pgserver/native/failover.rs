//! A failover: a standby becomes the primary, and the old primary one of its standbys.
//!
//! The state file names the new primary before it is promoted. Whoever starts the server after an interruption promotes
//! it then, and makes a standby of the old one.

use std::time::{Duration, Instant};

use super::Native;
use super::postmaster::Postmaster;
use super::standby::{DEMOTED, DIVERGED, NONE};
use super::upstream;
use crate::pgserver::error::PgServerError;
use crate::pgserver::folder::Remembered;
use crate::pgserver::server::{Endpoint, blocking};

/// How long standbys have to receive what the primary has written.
const CATCH_UP: Duration = Duration::from_secs(5);
const INTERVAL: Duration = Duration::from_millis(20);
/// How long a promotion may take, in seconds. A standby replays first what it has received.
const PROMOTION: u32 = 300;

/// How much of the log the server at an address has.
const RECEIVED: &str = "SELECT CASE WHEN pg_is_in_recovery() \
    THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::text END";

/// A standby that could be promoted.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    node: u32,
    port: u16,
    /// Up to where it has the log.
    received: u64,
}

impl Native {
    pub(super) async fn fail_over(&self, may_lose: bool) -> Result<Endpoint, PgServerError> {
        let begun = Instant::now();
        let Some(old) = self.find(begun).await? else {
            return Err(self.request.not_running());
        };
        self.finish_promotion(&old, begun).await?;
        let written = self.ask(&old, "SELECT pg_current_wal_flush_lsn()::text", begun).await?;
        let written = written.as_deref().and_then(position).unwrap_or(u64::MAX);
        // Before anything is stopped, because most of what can be wrong shows here.
        let patience = if may_lose { Duration::ZERO } else { CATCH_UP };
        let candidate = self.caught_up(&old, begun, patience, |it| it >= written).await?;
        if let (Err(behind), false) = (&candidate, may_lose) {
            return Err(self.would_lose(behind.node, &old, behind.port, written - behind.received));
        }
        let this = self.clone();
        blocking(move || this.stop_node()).await?;
        let chosen = async {
            match self.last_position(begun).await? {
                Some(last) => self.caught_up(&old, begun, patience, |it| it > last).await,
                // Not shut down in time: where its log ends is not known.
                None => Ok(Err(candidate.unwrap_or_else(|behind| behind))),
            }
        };
        let (chosen, loses) = match chosen.await {
            Ok(Ok(chosen)) => (chosen, false),
            Ok(Err(behind)) if may_lose => (behind, true),
            refused => {
                // Nothing can take its place.
                self.start_again(&old, begun).await?;
                return Err(match refused {
                    Ok(Ok(behind) | Err(behind)) => {
                        self.would_lose(behind.node, &old, behind.port, 0)
                    }
                    Err(error) => error,
                });
            }
        };
        let new = self.at(chosen.node);
        self.remember(|it| {
            new.cluster.set_primary(it);
            let former = self.cluster.node();
            it.set(DEMOTED, if loses { NONE.to_owned() } else { former.to_string() });
            it.set(DIVERGED, if loses { former.to_string() } else { NONE.to_owned() });
        })?;
        let mut primary = Endpoint { port: chosen.port, ..old };
        new.promote(&primary, begun).await?;
        for node in new.cluster.standbys(self.request.config.replica.wanted()) {
            // One that has nothing, or changes of its own, is cloned below.
            let has_data = new.cluster.at(node).data_version().is_some();
            if has_data && !(loses && node == self.cluster.node()) {
                new.at(node).turn_to(&primary, begun).await?;
            }
        }
        primary.replica_ports.clear();
        new.with_standbys(primary, begun).await
    }

    /// Promotes the node that a failover has chosen, if that was interrupted before it was done.
    pub(super) async fn finish_promotion(
        &self,
        primary: &Endpoint,
        begun: Instant,
    ) -> Result<(), PgServerError> {
        let remembered = Remembered::read(&self.cluster.remembered());
        let is_unfinished = |key: &&str| remembered.get(key).is_some_and(|former| former != NONE);
        match [DEMOTED, DIVERGED].iter().any(is_unfinished) {
            true => self.promote(primary, begun).await,
            false => Ok(()),
        }
    }

    async fn promote(&self, at: &Endpoint, begun: Instant) -> Result<(), PgServerError> {
        let is_standby = "SELECT pg_is_in_recovery()::text";
        if self.ask(at, is_standby, begun).await?.as_deref() == Some("true") {
            let promote = format!("SELECT pg_promote(true, {PROMOTION})::text");
            let promoted = at.login().ask(&promote).await;
            let promoted = promoted
                .map_err(|error| self.failed("could not promote its standby", begun, error))?;
            if promoted.as_deref() != Some("true") {
                let reason = format!(
                    "it was not promoted within {PROMOTION} s; run `wharf server up` to go on"
                );
                return Err(self.failed("could not promote its standby", begun, reason));
            }
        }
        let this = self.clone();
        blocking(move || {
            // It follows nobody now.
            let known = this.cluster.started_with();
            let text = upstream::joined(&known, None, 0);
            if text != known {
                let data = this.cluster.data();
                let written = this.cluster.rewrite(this.account()?, &text);
                written.map_err(this.folder.io("write the settings in", &data))?;
            }
            Ok(())
        })
        .await
    }

    /// Waits until a standby has the log up to where it `is_enough`. The most advanced one, as an error if it is not.
    async fn caught_up(
        &self,
        old: &Endpoint,
        begun: Instant,
        patience: Duration,
        is_enough: impl Fn(u64) -> bool,
    ) -> Result<Result<Candidate, Candidate>, PgServerError> {
        let since = Instant::now();
        loop {
            let first = self.most_advanced(old, begun).await?;
            if is_enough(first.received) {
                return Ok(Ok(first));
            }
            if since.elapsed() > patience {
                return Ok(Err(first));
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }

    /// The standby that has most of the log; of several, the first.
    async fn most_advanced(
        &self,
        old: &Endpoint,
        begun: Instant,
    ) -> Result<Candidate, PgServerError> {
        let mut best: Option<Candidate> = None;
        for node in self.cluster.standbys(self.request.config.replica.wanted()) {
            let this = self.at(node);
            let port = blocking(move || Ok(Postmaster::of(&this.cluster.data())));
            let Some(port) = port.await?.and_then(|it| it.port) else { continue };
            let at = Endpoint { port, ..old.clone() };
            // One that does not answer is no candidate.
            let received = self.ask(&at, RECEIVED, begun).await.ok().flatten();
            let Some(received) = received.as_deref().and_then(position) else { continue };
            if best.is_none_or(|best| best.received < received) {
                best = Some(Candidate { node, port, received });
            }
        }
        best.ok_or_else(|| {
            let remedy = match self.request.config.replica.enabled {
                true => "run `wharf server up` to start one",
                false => "set `pgserver.replica: {enabled: true}` and run `wharf server up`",
            };
            self.request.invalid(format!("no standby is running; {remedy}"))
        })
    }

    /// Where the log of the stopped primary ends; `None` if it was not shut down properly.
    async fn last_position(&self, begun: Instant) -> Result<Option<u64>, PgServerError> {
        let this = self.clone();
        blocking(move || {
            let installation = this.choose_installation()?;
            let program = installation.program("pg_controldata");
            let said =
                this.account()?.command(&program).arg("-D").arg(this.cluster.data()).output();
            let said = said.map_err(|error| {
                this.failed(&format!("could not run {}", program.display()), begun, error)
            })?;
            let said = String::from_utf8_lossy(&said.stdout).into_owned();
            let value = |name: &str| {
                let line = said.lines().find_map(|line| line.strip_prefix(name))?;
                Some(line.trim().to_owned())
            };
            let is_shut_down =
                value("Database cluster state:").is_some_and(|state| state == "shut down");
            let last = value("Latest checkpoint location:").as_deref().and_then(position);
            Ok(last.filter(|_| is_shut_down))
        })
        .await
    }

    /// Starts the old primary as it was.
    async fn start_again(&self, old: &Endpoint, begun: Instant) -> Result<(), PgServerError> {
        let (this, port) = (self.clone(), old.port);
        blocking(move || {
            let installation = this.choose_installation()?;
            this.start_postmaster(&installation, this.account()?, port, None, begun)
        })
        .await
    }

    fn would_lose(&self, node: u32, old: &Endpoint, port: u16, bytes: u64) -> PgServerError {
        let host = &old.host;
        let missing = match bytes {
            0 => "the end of the primary's log".to_owned(),
            bytes => format!("{bytes} bytes of the primary's log"),
        };
        PgServerError::WouldLose {
            server: self.request.name().to_owned(),
            reason: format!(
                "the most advanced standby at {host}:{port} ({}) has not received {missing}",
                self.at(node).cluster.data().display()
            ),
        }
    }
}

/// A position in the log, as in `0/3000148`.
fn position(text: &str) -> Option<u64> {
    let (high, low) = text.trim().split_once('/')?;
    let part = |text: &str| u32::from_str_radix(text, 16).ok().map(u64::from);
    Some(part(high)? << 32 | part(low)?)
}

#[cfg(test)]
mod tests {
    use super::position;

    #[test]
    fn a_position_is_two_numbers() {
        assert_eq!(position("0/3000148"), Some(0x0300_0148));
        assert_eq!(position(" 1/0\n"), Some(1 << 32));
        for text in ["", "0", "0/", "/0", "x/1", "1/100000000"] {
            assert_eq!(position(text), None, "{text}");
        }
    }
}
