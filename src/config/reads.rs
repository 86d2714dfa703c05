//! Where an entry reads: on its primary or on its standbys, and how far behind those may be.

use std::time::Duration;

/// Where [`Pg::read`](crate::Pg::read) reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reads {
    /// On the primary. The default.
    #[default]
    Primary,
    /// On a standby that has what was written before; else on the primary. Each COMMIT then asks for its position in the
    /// same message.
    Causal,
    /// On a standby that is not too far behind, whatever was written before; else on the primary.
    Eventual,
}

impl Reads {
    /// As the file spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Reads::Primary => "primary",
            Reads::Causal => "causal",
            Reads::Eventual => "eventual",
        }
    }
}

/// Which standbys may serve a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReplicaLimits {
    /// A standby that is further behind serves no read. Measured to one `topology.interval`; a standby that has everything
    /// of an idle primary is not behind. Default 10 s.
    pub max_lag: Duration,
    /// The same in bytes of WAL. Default 16 MiB.
    pub max_lag_bytes: u64,
    /// How long a causal read waits for its standby to catch up. Default 20 ms.
    pub wait: Duration,
    /// Who serves a read that no standby may serve.
    pub fallback: Fallback,
}

impl Default for ReplicaLimits {
    fn default() -> ReplicaLimits {
        ReplicaLimits {
            max_lag: Duration::from_secs(10),
            max_lag_bytes: 16 << 20,
            wait: Duration::from_millis(20),
            fallback: Fallback::Primary,
        }
    }
}

/// Who serves a read that no standby may serve.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fallback {
    /// The primary. The default.
    #[default]
    Primary,
    /// Nobody: the read fails with [`Error::NoStandby`](crate::Error::NoStandby), so that reads never add to the load of the
    /// primary.
    Error,
}

impl Fallback {
    /// As the file spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Fallback::Primary => "primary",
            Fallback::Error => "error",
        }
    }
}

/// How the servers of an entry that reads from standbys are observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopologyConfig {
    /// Pause between two questions to a server. Each server is asked on a connection of its own, which no pool counts.
    /// Default 1 s.
    pub interval: Duration,
    /// Longest wait for an answer; a server that gives none serves no read. Default 1 s.
    pub probe_timeout: Duration,
    /// Servers are asked only while something is read, so that servers which suspend when idle can. Default false.
    pub lazy: bool,
}

impl Default for TopologyConfig {
    fn default() -> TopologyConfig {
        let second = Duration::from_secs(1);
        TopologyConfig { interval: second, probe_timeout: second, lazy: false }
    }
}
