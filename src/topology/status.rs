//! A server as it is shown.

use std::{
    fmt,
    time::{Duration, Instant},
};

use super::state::State;
use crate::config::HostPort;

/// What a server is, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ServerRole {
    /// It takes writes.
    Primary,
    /// It replays what the primary writes.
    Standby,
    /// It gave no answer, or none that is of use.
    Unknown,
}

/// One server of a database, as it was seen last. It displays as a line.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStatus {
    /// Its host name, IP address or socket folder.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// What it is.
    pub role: ServerRole,
    /// The timeline that it is on. Each promotion begins a new one.
    pub timeline: Option<u32>,
    /// How far a standby was behind the primary, in bytes of WAL.
    pub lag_bytes: Option<u64>,
    /// How far a standby was behind the primary, to one `topology.interval`. Zero if it had everything.
    pub lag: Option<Duration>,
    /// Why it is unknown, or serves no reads.
    pub problem: Option<String>,
}

impl State {
    pub(super) fn status(&self, server: usize, at: &HostPort, now: Instant) -> ServerStatus {
        let seen = &self.servers[server];
        let said = seen.said.filter(|_| self.is_fresh(seen, now));
        let position = said.and_then(|said| said.position);
        let role = match said {
            _ if seen.is_foreign => ServerRole::Unknown,
            Some(said) if said.is_standby => ServerRole::Standby,
            Some(_) if self.is_primary(server) => ServerRole::Primary,
            _ => ServerRole::Unknown,
        };
        let is_standby = role == ServerRole::Standby;
        let behind = position.filter(|position| is_standby && position.timeline == self.timeline);
        let lag = behind.and_then(|position| self.lag(position, seen.asked_at?));
        let problem = match (said, position) {
            _ if seen.is_foreign => Some("it belongs to another cluster".to_owned()),
            (None, _) => Some(seen.problem.clone().unwrap_or_else(|| "no answer yet".to_owned())),
            (Some(_), None) => {
                Some("its timeline is not known to this login; grant it pg_monitor".to_owned())
            }
            (Some(said), Some(position)) => match lag {
                _ if !said.is_standby && role == ServerRole::Unknown => {
                    Some("it claims to be the primary, and another server is".to_owned())
                }
                None if is_standby && self.timeline > 0 => Some(format!(
                    "it is on timeline {}, and the primary on {}",
                    position.timeline, self.timeline
                )),
                Some((bytes, lag)) if bytes > self.max_lag_bytes || lag > self.max_lag => {
                    Some("it is too far behind to serve reads".to_owned())
                }
                _ => None,
            },
        };
        ServerStatus {
            host: at.host.clone(),
            port: at.port,
            role,
            timeline: position.map(|position| position.timeline),
            lag_bytes: lag.map(|(bytes, _)| bytes),
            lag: lag.map(|(_, lag)| lag),
            problem,
        }
    }
}

impl ServerRole {
    /// In one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ServerRole::Primary => "primary",
            ServerRole::Standby => "standby",
            ServerRole::Unknown => "unknown",
        }
    }
}

impl fmt::Display for ServerStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = HostPort { host: self.host.clone(), port: self.port };
        write!(f, "{at}: {}", self.role.as_str())?;
        if let Some(timeline) = self.timeline {
            write!(f, ", timeline {timeline}")?;
        }
        if let (Some(bytes), Some(lag)) = (self.lag_bytes, self.lag) {
            match bytes {
                0 => f.write_str(", not behind")?,
                _ => write!(f, ", {bytes} bytes and {lag:.1?} behind")?,
            }
        }
        match &self.problem {
            Some(problem) => write!(f, " ({problem})"),
            None => Ok(()),
        }
    }
}
