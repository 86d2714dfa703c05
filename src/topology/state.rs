//! What is known of the servers, and what follows from it for a read. Nothing in here waits or asks.

use std::{
    collections::VecDeque,
    fmt,
    time::{Duration, Instant},
};

use crate::{
    causal::{CausalToken, Position},
    config::DatabaseConfig,
    error::ConnectError,
    pool::{Said, ServerId},
};

/// What a read has to see.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Need {
    pub(crate) position: Option<Position>,
    /// A write whose position is not known.
    pub(crate) pending: Option<Instant>,
    /// A token from elsewhere, and when it came.
    pub(crate) token: Option<(CausalToken, Instant)>,
}

/// Why no standby may serve a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The position of what was written is not known yet.
    Pending,
    /// The token is of another cluster.
    OtherCluster,
    /// No standby has what was written.
    Behind,
    /// No standby is there, or all are too far behind.
    NoStandby,
    /// A standby exists only on an older timeline than what was written.
    OldTimeline,
    /// The primary was not seen yet.
    NoPrimary,
    /// The standby canceled it, or was lost.
    Conflict,
    /// No standby offers its isolation level.
    Isolation,
}

/// The standby that may serve a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) server: usize,
    pub(super) id: ServerId,
    pub(super) timeline: u32,
    /// What the read needs, if anything.
    pub(super) needed: Option<Position>,
    /// The standby was seen to have it.
    pub(super) is_proven: bool,
}

/// What an answer has changed.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) primary: Option<(usize, Said)>,
    pub(super) is_failover: bool,
    pub(super) faults: Vec<Fault>,
}

/// What an operator has to know. Each is told once, until it has passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    SplitBrain(Vec<usize>),
    ReplicaIsPrimary(usize),
    PrimaryIsStandby(usize),
    OtherCluster(usize),
}

pub(super) struct State {
    pub(super) servers: Vec<Seen>,
    primary: Option<usize>,
    /// The highest timeline of a primary so far.
    pub(super) timeline: u32,
    /// Where the primary was, at each answer of the last `max_lag`.
    history: VecDeque<(Instant, Position)>,
    /// The first server is the primary, because the entry says so.
    is_fixed: bool,
    pub(super) max_lag: Duration,
    pub(super) max_lag_bytes: u64,
    /// How long an answer counts.
    expires: Duration,
    faults: Vec<Fault>,
}

/// The last answer of a server.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) said: Option<Said>,
    pub(super) asked_at: Option<Instant>,
    pub(super) problem: Option<String>,
    pub(super) is_foreign: bool,
}

/// Whether both are known and differ.
fn differs(a: Option<u64>, b: Option<u64>) -> bool {
    matches!((a, b), (Some(a), Some(b)) if a != b)
}

impl Fault {
    fn servers(&self) -> &[usize] {
        match self {
            Fault::SplitBrain(servers) => servers,
            Fault::ReplicaIsPrimary(server)
            | Fault::PrimaryIsStandby(server)
            | Fault::OtherCluster(server) => std::slice::from_ref(server),
        }
    }
}

impl State {
    pub(super) fn new(servers: usize, is_fixed: bool, config: &DatabaseConfig) -> State {
        State {
            servers: vec![Seen::default(); servers],
            primary: None,
            timeline: 0,
            history: VecDeque::new(),
            is_fixed,
            max_lag: config.replica.max_lag,
            max_lag_bytes: config.replica.max_lag_bytes,
            expires: (config.topology.interval + config.topology.probe_timeout) * 2,
            faults: Vec::new(),
        }
    }

    /// Whether servers are being asked.
    pub(super) fn is_current(&self, now: Instant) -> bool {
        self.servers.iter().any(|seen| self.is_fresh(seen, now))
    }

    pub(super) fn is_primary(&self, server: usize) -> bool {
        self.primary == Some(server)
    }

    pub(super) fn is_fresh(&self, seen: &Seen, now: Instant) -> bool {
        seen.asked_at.is_some_and(|at| now.saturating_duration_since(at) <= self.expires)
    }

    /// Where the primary was, and when it was asked.
    pub(super) fn sample(&self) -> Option<(Position, Instant)> {
        let seen = &self.servers[self.primary?];
        Some((seen.said?.position?, seen.asked_at?))
    }

    /// Notes an answer, or that there was none. `cluster` is the one that is known from elsewhere.
    pub(super) fn note(
        &mut self,
        server: usize,
        asked_at: Instant,
        said: Result<Said, ConnectError>,
        cluster: Option<u64>,
    ) -> Change {
        let before = self.primary;
        let seen = &mut self.servers[server];
        match said {
            Ok(said) => {
                seen.is_foreign = differs(said.cluster, cluster);
                // The position of a server only grows, and a read may have seen a later one meanwhile.
                let known = seen.said.filter(|known| known.server.is(said.server));
                let known = known.and_then(|known| known.position);
                let position = match (said.position, known) {
                    (Some(new), Some(known)) if said.is_standby => Some(new.merge(known)),
                    (new, _) => new,
                };
                *seen = Seen {
                    said: Some(Said { position, ..said }),
                    asked_at: Some(asked_at),
                    problem: None,
                    is_foreign: seen.is_foreign,
                };
            }
            Err(error) => {
                *seen = Seen { problem: Some(error.to_string()), ..Seen::default() };
            }
        }
        self.settle(before, asked_at)
    }

    /// Notes that a server cannot be reached.
    pub(super) fn note_failure(&mut self, server: usize, error: &ConnectError) {
        self.servers[server] = Seen { problem: Some(error.to_string()), ..Seen::default() };
    }

    /// Notes how far a standby had replayed.
    pub(super) fn note_replayed(&mut self, server: usize, id: ServerId, position: Position) {
        if let Some(said) = &mut self.servers[server].said
            && said.is_standby
            && said.server.is(id)
        {
            said.position = Some(said.position.map_or(position, |known| known.merge(position)));
        }
    }

    /// Decides which server is the primary.
    fn settle(&mut self, before: Option<usize>, now: Instant) -> Change {
        let mut change = Change::default();
        let mut faults = Vec::new();
        let mut primaries = Vec::new();
        for (server, seen) in self.servers.iter().enumerate() {
            let Some(said) = seen.said.filter(|_| self.is_fresh(seen, now)) else { continue };
            if seen.is_foreign {
                faults.push(Fault::OtherCluster(server));
                continue;
            }
            let is_given = server == 0;
            match (said.is_standby, self.is_fixed) {
                (true, true) if is_given => faults.push(Fault::PrimaryIsStandby(server)),
                (false, true) if !is_given => faults.push(Fault::ReplicaIsPrimary(server)),
                (false, _) => primaries.extend(said.position.map(|it| (it.timeline, server))),
                (true, _) => {}
            }
        }
        let highest = primaries.iter().map(|(timeline, _)| *timeline).max();
        primaries.retain(|(timeline, _)| Some(*timeline) == highest && *timeline >= self.timeline);
        self.primary = match primaries.as_slice() {
            [] => None,
            [(timeline, server)] => {
                // Nothing of an old timeline tells how far a standby of the new one is.
                if *timeline > self.timeline {
                    self.history.clear();
                }
                change.is_failover = self.timeline > 0 && *timeline > self.timeline;
                self.timeline = *timeline;
                Some(*server)
            }
            several => {
                faults.push(Fault::SplitBrain(several.iter().map(|(_, server)| *server).collect()));
                None
            }
        };
        if let Some(server) = self.primary {
            let said = self.servers[server].said;
            change.primary = said.filter(|_| self.primary != before).map(|said| (server, said));
            self.remember(now);
        }
        change.faults = faults.iter().filter(|it| !self.faults.contains(it)).cloned().collect();
        // A server that is silent for a moment does not take back what it said.
        let is_silent = |server: &usize| !self.is_fresh(&self.servers[*server], now);
        let kept = self.faults.iter().filter(|it| it.servers().iter().any(is_silent)).cloned();
        faults.extend(kept.collect::<Vec<_>>());
        faults.dedup();
        self.faults = faults;
        change
    }

    fn remember(&mut self, now: Instant) {
        let Some((position, asked_at)) = self.sample() else { return };
        if self.history.back().is_none_or(|(at, _)| *at < asked_at) {
            self.history.push_back((asked_at, position));
        }
        // One that is older than `max_lag` is kept, to tell that a standby is too far behind.
        while self
            .history
            .get(1)
            .is_some_and(|(at, _)| now.saturating_duration_since(*at) > self.max_lag + self.expires)
        {
            self.history.pop_front();
        }
    }

    /// How far a standby was behind when it was asked: in bytes, and in time since the primary was first seen to be further.
    pub(super) fn lag(&self, position: Position, asked_at: Instant) -> Option<(u64, Duration)> {
        let (_, last) = self.history.back()?;
        let first = self.history.iter().find(|(_, at)| at.lsn > position.lsn);
        let lag = first.map_or(Duration::ZERO, |(at, _)| asked_at.saturating_duration_since(*at));
        Some((last.lsn.saturating_sub(position.lsn), lag))
    }

    /// Chooses the standby for a read. `cluster` and `timeline` are those of the primary that writes go to, as far as they are
    /// known; `turn` is where the search begins.
    pub(super) fn choose(
        &self,
        need: &Need,
        (cluster, timeline): (Option<u64>, u32),
        turn: usize,
        now: Instant,
    ) -> Result<Choice, Reason> {
        let needed = self.needed(need, cluster)?;
        if self.timeline == 0 {
            return Err(Reason::NoPrimary);
        }
        if self.timeline < timeline {
            return Err(Reason::OldTimeline);
        }
        let count = self.servers.len();
        let mut best: Option<(Position, Choice)> = None;
        for server in (0..count).map(|step| (turn + step) % count) {
            let seen = &self.servers[server];
            let Some((position, id)) = self.may_serve(seen, cluster, now) else { continue };
            let is_proven = needed.is_none_or(|needed| position.covers(needed));
            let choice = Choice { server, id, timeline: position.timeline, needed, is_proven };
            if is_proven {
                return Ok(choice);
            }
            if best.is_none_or(|(before, _)| position.lsn > before.lsn) {
                best = Some((position, choice));
            }
        }
        let (position, choice) = best.ok_or(Reason::NoStandby)?;
        match needed {
            Some(needed) if position.timeline < needed.timeline => Err(Reason::OldTimeline),
            _ => Ok(choice),
        }
    }

    /// The position that a read needs.
    fn needed(&self, need: &Need, cluster: Option<u64>) -> Result<Option<Position>, Reason> {
        if need.pending.is_some() {
            return Err(Reason::Pending);
        }
        let Some((token, came)) = need.token else { return Ok(need.position) };
        if token.cluster != cluster.unwrap_or(CausalToken::ANY_CLUSTER) {
            return Err(Reason::OtherCluster);
        }
        let mut position = token.position;
        // Nobody can have written what the primary had not when it was asked after that.
        if let Some((sample, asked_at)) = self.sample()
            && asked_at > came
            && position.timeline <= sample.timeline
        {
            position.lsn = position.lsn.min(sample.lsn);
        }
        Ok(Some(need.position.map_or(position, |own| own.merge(position))))
    }

    /// Returns where a server is, if it is a standby that is near enough to the primary.
    fn may_serve(
        &self,
        seen: &Seen,
        cluster: Option<u64>,
        now: Instant,
    ) -> Option<(Position, ServerId)> {
        let said = seen.said.filter(|said| said.is_standby && !differs(said.cluster, cluster))?;
        let asked_at = seen.asked_at.filter(|_| self.is_fresh(seen, now))?;
        let position = said.position.filter(|position| position.timeline == self.timeline)?;
        let (bytes, lag) = self.lag(position, asked_at)?;
        let is_near = bytes <= self.max_lag_bytes && lag <= self.max_lag;
        is_near.then_some((position, said.server))
    }
}

impl Reason {
    /// As metrics are labelled.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Reason::Pending => "pending",
            Reason::OtherCluster => "other_cluster",
            Reason::Behind => "behind",
            Reason::NoStandby => "no_standby",
            Reason::OldTimeline => "old_timeline",
            Reason::NoPrimary => "no_primary",
            Reason::Conflict => "conflict",
            Reason::Isolation => "isolation",
        }
    }

    /// Whether another answer may help.
    pub(super) fn is_for_lack_of_answers(self) -> bool {
        matches!(self, Reason::NoStandby | Reason::OldTimeline | Reason::NoPrimary)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::Pending => "the position of an earlier write is not known yet",
            Reason::OtherCluster => "the causal token is of another cluster",
            Reason::Behind => "no standby has replayed what was written before",
            Reason::NoStandby => "no standby is reachable and near enough to the primary",
            Reason::OldTimeline => {
                "the standbys are on an older timeline than what was written before"
            }
            Reason::NoPrimary => "the primary was not reached yet",
            Reason::Conflict => "the standby canceled it or was lost",
            Reason::Isolation => "a standby does not offer SERIALIZABLE",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HostPort;

    const SECOND: Duration = Duration::from_secs(1);

    fn state(servers: usize) -> State {
        let config = DatabaseConfig::from_url("postgres://app@pg1,pg2/shop").unwrap();
        State::new(servers, false, &config)
    }

    fn said(is_standby: bool, timeline: u32, lsn: u64, id: u64) -> Said {
        let position = Some(Position { timeline, lsn });
        Said { is_standby, position, cluster: Some(7), server: ServerId::from(id) }
    }

    impl State {
        fn hears(&mut self, server: usize, at: Instant, said: Said) -> Change {
            self.note(server, at, Ok(said), Some(7))
        }

        fn serves(&self, lsn: u64, at: Instant) -> Result<Choice, Reason> {
            let position = Some(Position { timeline: self.timeline, lsn });
            self.choose(&Need { position, ..Need::default() }, (Some(7), 0), 0, at)
        }
    }

    #[test]
    fn of_several_primaries_the_highest_timeline_counts_and_equal_ones_are_none() {
        let (mut state, now) = (state(3), Instant::now());
        state.hears(0, now, said(false, 1, 100, 1));
        assert_eq!(state.primary, Some(0));
        let change = state.hears(1, now, said(false, 2, 90, 2));
        assert!(change.is_failover && change.primary.is_some_and(|(server, _)| server == 1));
        // The old one has the higher number.
        state.hears(0, now, said(false, 1, 500, 1));
        assert_eq!(state.primary, Some(1));
        // It is no primary either when the new one is silent.
        state.servers[1] = Seen::default();
        state.hears(0, now, said(false, 1, 600, 1));
        assert_eq!(state.primary, None);
        state.hears(1, now, said(false, 2, 95, 2));
        let change = state.hears(2, now, said(false, 2, 95, 3));
        assert_eq!((state.primary, change.faults), (None, vec![Fault::SplitBrain(vec![1, 2])]));
        // It is told once.
        assert!(state.hears(2, now, said(false, 2, 96, 3)).faults.is_empty());
    }

    #[test]
    fn what_a_server_has_replayed_dies_with_its_process() {
        let (mut state, now) = (state(2), Instant::now());
        state.hears(0, now, said(false, 1, 100, 1));
        state.hears(1, now, said(true, 1, 80, 2));
        assert!(!state.serves(90, now).unwrap().is_proven);
        state.note_replayed(1, ServerId::from(2), Position { timeline: 1, lsn: 95 });
        assert!(state.serves(90, now).unwrap().is_proven);
        // A later answer may have been given before.
        state.hears(1, now, said(true, 1, 85, 2));
        assert!(state.serves(90, now).unwrap().is_proven);
        // Another server behind the name, or the same one after a restart.
        state.note_replayed(1, ServerId::from(3), Position { timeline: 1, lsn: 99 });
        assert!(!state.serves(99, now).unwrap().is_proven);
        state.hears(1, now, said(true, 1, 85, 3));
        assert!(!state.serves(90, now).unwrap().is_proven);
    }

    #[test]
    fn a_standby_is_behind_only_while_it_lacks_something() {
        let (mut state, start) = (state(2), Instant::now());
        let at = |seconds| start + SECOND * seconds;
        state.hears(0, at(0), said(false, 1, 100, 1));
        state.hears(1, at(0), said(true, 1, 100, 2));
        // The primary writes nothing for a minute.
        for second in 1..60 {
            state.hears(0, at(second), said(false, 1, 100, 1));
        }
        state.hears(1, at(60), said(true, 1, 100, 2));
        assert!(state.serves(100, at(60)).is_ok());
        // Then it does, and the standby stands still.
        for second in 61..75 {
            state.hears(0, at(second), said(false, 1, 200, 1));
            state.hears(1, at(second), said(true, 1, 100, 2));
            assert_eq!(state.serves(100, at(second)).is_ok(), second <= 71, "{second}");
        }
        let status = state.status(1, &HostPort { host: "b".to_owned(), port: 1 }, at(74));
        assert_eq!((status.lag_bytes, status.lag), (Some(100), Some(SECOND * 13)));
        // Too many bytes.
        state.hears(1, at(75), said(true, 1, 200, 2));
        assert!(state.serves(100, at(75)).is_ok());
        state.hears(0, at(75), said(false, 1, 200 + (17 << 20), 1));
        assert_eq!(state.serves(100, at(75)), Err(Reason::NoStandby));
        assert!(state.history.len() < 30, "{}", state.history.len());
    }

    #[test]
    fn an_answer_counts_for_a_while_and_not_for_ever() {
        let (mut state, now) = (state(2), Instant::now());
        state.hears(0, now, said(false, 1, 100, 1));
        state.hears(1, now, said(true, 1, 100, 2));
        assert!(state.serves(100, now + SECOND * 4).is_ok());
        assert_eq!(state.serves(100, now + SECOND * 5), Err(Reason::NoStandby));
        assert!(!state.is_current(now + SECOND * 5));
    }

    #[test]
    fn a_server_of_another_cluster_serves_nothing() {
        let (mut state, now) = (state(2), Instant::now());
        state.hears(0, now, said(false, 1, 100, 1));
        let change =
            state.note(1, now, Ok(Said { cluster: Some(8), ..said(true, 1, 100, 2) }), Some(7));
        assert_eq!(change.faults, [Fault::OtherCluster(1)]);
        assert_eq!(state.serves(1, now), Err(Reason::NoStandby));
    }

    #[test]
    fn a_token_is_bounded_by_what_the_primary_had_after_it_came() {
        let (mut state, now) = (state(2), Instant::now());
        state.hears(0, now, said(false, 1, 100, 1));
        state.hears(1, now, said(true, 1, 100, 2));
        let token = CausalToken { cluster: 7, position: Position { timeline: 1, lsn: 1_000 } };
        let serves = |state: &State, token, came| {
            let need = Need { token: Some((token, came)), ..Need::default() };
            state.choose(&need, (Some(7), 0), 0, now).map(|choice| choice.is_proven)
        };
        assert_eq!(serves(&state, token, now), Ok(false));
        assert_eq!(serves(&state, token, now - SECOND), Ok(true));
        // No server was seen on that timeline.
        let newer = CausalToken { position: Position { timeline: 2, lsn: 1 }, ..token };
        assert_eq!(serves(&state, newer, now - SECOND), Err(Reason::OldTimeline));
        let other = CausalToken { cluster: 8, ..token };
        assert_eq!(serves(&state, other, now), Err(Reason::OtherCluster));
        // Writes go to a primary that this has not seen yet.
        let chosen = state.choose(&Need::default(), (Some(7), 2), 0, now);
        assert_eq!(chosen, Err(Reason::OldTimeline));
    }
}
