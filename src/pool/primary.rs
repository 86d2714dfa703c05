//! Which of an entry's hosts is the primary.
//!
//! All hosts are asked at the same time, on connections of their own, so that a host that does not answer delays no other. An
//! answer is evidence for its own connection only, so each connection that is opened afterwards is asked again.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use sqlx::Connection as _;

use super::{
    ConnectTo, Host, Lent, Said,
    connector::Connector,
    probe::is_standby,
    state::{Failures, Transaction, Work},
};
use crate::{
    config::{HostPort, Role},
    error::{ConnectError, ConnectErrorKind, NotPrimary, server_error},
};

/// How long the other hosts may take after one is the primary, because one of them may be newer.
const OTHERS_MAY_TAKE: Duration = Duration::from_millis(250);

/// The pause before a host that is no primary is asked again, while another one has not answered yet.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// The last answer of a host.
#[derive(Debug)]
struct Answer {
    at: HostPort,
    said: Result<Said, ConnectError>,
}

impl Connector {
    /// Finds the primary if it is not known. Callers at the same time share one search.
    pub(super) async fn find_primary(&self) -> Result<(), ConnectError> {
        let _turn = self.host.seeking.lock().await;
        if !self.host.seeks_primary() {
            return Ok(());
        }
        let (to, started) = (self.current(), Instant::now());
        let limit = to.config.connect_timeout;
        let looked_up = tokio::time::timeout(limit, to.login()).await;
        let login = looked_up.map_err(|_| to.timed_out(started.elapsed()))?;
        let login = login.map_err(|error| to.no_login(started.elapsed(), error))?;
        let answers = self.ask_all(&to, &login).await;
        let found = primary_of(&to, &login, answers, &self.host, started.elapsed());
        match found {
            Ok((at, timeline, cluster)) => {
                self.host.note_primary(&at, timeline, cluster);
                Ok(())
            }
            Err(error) => {
                self.meter.not_connected(error.kind.name());
                Err(error)
            }
        }
    }

    /// Asks all hosts and returns the last answer of each. Ends [`OTHERS_MAY_TAKE`] after one is the primary, or when all have
    /// answered. While a host is silent, for up to `connect_timeout`, the others are asked again: the silent one may be the
    /// old primary, and another be promoted meanwhile.
    async fn ask_all(&self, to: &ConnectTo, login: &Role) -> Vec<Answer> {
        let ask = async |at: &HostPort, pause: Duration| {
            tokio::time::sleep(pause).await;
            self.ask(to.on(at), at, login).await
        };
        let mut asked: FuturesUnordered<_> =
            to.hosts.iter().map(|at| ask(at, Duration::ZERO)).collect();
        let mut answers: Vec<Answer> = Vec::new();
        let mut until = None;
        loop {
            let next = match until {
                None => asked.next().await,
                Some(at) => match tokio::time::timeout_at(at, asked.next()).await {
                    Ok(next) => next,
                    Err(_) => break,
                },
            };
            let Some(answer) = next else { break };
            if until.is_none() && answer.is_primary() {
                until = Some(tokio::time::Instant::now() + OTHERS_MAY_TAKE);
            }
            let host = to.hosts.iter().find(|host| **host == answer.at);
            answers.retain(|before| before.at != answer.at);
            answers.push(answer);
            match (until, host) {
                (None, _) if answers.len() == to.hosts.len() => break,
                (None, Some(host)) => asked.push(ask(host, ASK_AGAIN)),
                _ => {}
            }
        }
        answers
    }

    async fn ask(&self, to: ConnectTo, at: &HostPort, login: &Role) -> Answer {
        let started = Instant::now();
        let asked = tokio::time::timeout(to.config.connect_timeout, async {
            let (mut driver, _) = self.connect_as_libpq(&to, login).await?;
            let said = Said::ask(&mut driver).await;
            let _ = driver.close().now_or_never();
            said
        });
        let said = match asked.await {
            Ok(Ok(said)) => Ok(said),
            Ok(Err(error)) => Err(to.failed(&login.user, started.elapsed(), error)),
            Err(_) => Err(to.timed_out(started.elapsed())),
        };
        Answer { at: at.clone(), said }
    }
}

impl ConnectTo {
    /// Finds the primary if the entry has several hosts. Opens a connection to each of them.
    pub(crate) async fn on_primary(self) -> Result<ConnectTo, ConnectError> {
        if !self.has_hosts() {
            return Ok(self);
        }
        let read_only = self.read_only;
        let connector = Connector::new(Arc::new(Host::new(self)), read_only);
        connector.find_primary().await?;
        Ok(connector.current())
    }
}

impl Lent {
    /// Whether the server refused a write, on a connection of the pool that writes.
    pub(crate) fn was_refused_write(&self) -> bool {
        self.state.failures == Failures::RefusedWrite && !self.pool.connector.to.read_only
    }

    /// Asks a server that refused a write whether it is a standby, and if so, invalidates this connection and the idle ones:
    /// the server was demoted, or a proxy led to it. A primary that an administrator has made read-only keeps its connections.
    /// Costs one round trip after such a refusal outside of a transaction, else none.
    pub(crate) async fn leave_standby(&mut self) -> bool {
        if !self.was_refused_write() || self.state.transaction != Transaction::None {
            return false;
        }
        let Ok(flight) = self.in_flight() else { return false };
        let (landed, is_standby) = match flight.wait.until(is_standby(flight.driver)).await {
            Ok(is_standby) => (Ok(()), is_standby),
            Err(error) => (Err(error), false),
        };
        let landed = flight.land(landed);
        self.state.failures = Failures::Some;
        if landed.is_ok() && is_standby {
            self.state.work = Work::Broken;
            self.pool.connector.host.note_demotion();
        }
        landed.is_ok() && is_standby
    }
}

/// The primary with its timeline and cluster.
type Found = (HostPort, u32, Option<u64>);

/// Returns the primary, or why there is none. Of several, it is the one with the highest timeline, because the others are
/// left from before a promotion.
fn primary_of(
    to: &ConnectTo,
    login: &Role,
    mut answers: Vec<Answer>,
    host: &Host,
    elapsed: Duration,
) -> Result<Found, ConnectError> {
    answers.sort_by(|a, b| a.at.cmp(&b.at));
    let failed = |kind, text: String| ConnectError {
        database: to.name.to_string(),
        target: to.target_of_all(Some(&login.user)),
        kind,
        elapsed,
        source: Some(Arc::new(sqlx::Error::Configuration(Box::new(NotPrimary(text))))),
        root_cert: None,
    };
    let clusters: Vec<(&HostPort, u64)> = answers
        .iter()
        .filter_map(|answer| Some((&answer.at, answer.said.as_ref().ok()?.cluster?)))
        .collect();
    let known = host.cluster();
    let expected = known.or(clusters.first().map(|(_, cluster)| *cluster));
    if clusters.iter().any(|(_, cluster)| Some(*cluster) != expected) {
        let each: Vec<String> = clusters
            .iter()
            .map(|(at, cluster)| format!("{at} has system identifier {cluster}"))
            .collect();
        let known =
            known.map(|known| format!("; connections so far went to {known}")).unwrap_or_default();
        return Err(failed(ConnectErrorKind::OtherCluster, each.join(", ") + &known));
    }
    let mut primaries: Vec<(u32, &HostPort)> =
        answers.iter().filter_map(|answer| Some((answer.timeline()?, &answer.at))).collect();
    let seen = host.timeline();
    let old: Vec<_> = primaries.extract_if(.., |(timeline, _)| *timeline < seen).collect();
    primaries.sort_by_key(|(timeline, _)| std::cmp::Reverse(*timeline));
    let shown = |primaries: &[(u32, &HostPort)]| {
        let each = primaries.iter().map(|(timeline, at)| format!("{at} (timeline {timeline})"));
        each.collect::<Vec<_>>().join(", ")
    };
    match primaries.as_slice() {
        [(timeline, _), (other, _), ..] if timeline == other => {
            let text = format!("these claim to be the primary: {}", shown(&primaries));
            Err(failed(ConnectErrorKind::SplitBrain, text))
        }
        [(timeline, at), others @ ..] => {
            if !others.is_empty() {
                tracing::warn!(
                    database = %to.name, primary = %at, timeline, old = shown(others),
                    "several hosts claim to be the primary; the one with the highest timeline is used"
                );
            }
            Ok(((*at).clone(), *timeline, expected))
        }
        [] => {
            let kind = kind_of(&answers);
            let mut each: Vec<String> = answers.iter().map(ToString::to_string).collect();
            each.extend(
                to.hosts
                    .iter()
                    .filter(|at| !answers.iter().any(|it| it.at == **at))
                    .map(|at| format!("{at}: no answer")),
            );
            if !old.is_empty() {
                each.push(format!(
                    "a primary on timeline {seen} was seen before, so an older one was left behind by a promotion"
                ));
            }
            Err(failed(kind, each.join("; ")))
        }
    }
}

/// Returns the kind of error if no host is the primary: that of all hosts if it is the same, or that of a refused login.
fn kind_of(answers: &[Answer]) -> ConnectErrorKind {
    use ConnectErrorKind::{Authentication, Credentials, NoPrimary, NoSuchDatabase, Tls};
    let kinds: Vec<Option<ConnectErrorKind>> =
        answers.iter().map(|answer| answer.said.as_ref().err().map(|error| error.kind)).collect();
    let of_login = kinds
        .iter()
        .flatten()
        .find(|kind| matches!(kind, Authentication | Credentials | NoSuchDatabase | Tls));
    match (of_login, kinds.first()) {
        (Some(kind), _) => *kind,
        (None, Some(Some(first))) if kinds.iter().all(|kind| *kind == Some(*first)) => *first,
        _ => NoPrimary,
    }
}

impl Answer {
    fn is_primary(&self) -> bool {
        self.timeline().is_some()
    }

    /// Returns the timeline of a primary, which each promotion raises.
    fn timeline(&self) -> Option<u32> {
        let said = self.said.as_ref().ok().filter(|said| !said.is_standby)?;
        Some(said.position?.timeline)
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.at)?;
        match &self.said {
            Ok(_) => match self.timeline() {
                None => f.write_str(" is a standby"),
                Some(timeline) => write!(f, " is a primary (timeline {timeline})"),
            },
            Err(error) => match &error.source {
                Some(source) => match server_error(source) {
                    Some(server) => write!(f, ": {}", server.message()),
                    None => write!(f, ": {source}"),
                },
                None => f.write_str(": no answer"),
            },
        }
    }
}
