//! The metrics of the servers of one database.

use std::sync::Arc;

use metrics::{Key, KeyName, Label, SharedString};

use super::{
    Monitor,
    meter::{self, FAILOVERS, READS, REPLICATION_LAG, SERVER_UP},
};
use crate::config::HostPort;

/// Where a read goes, and why.
const READ_LABELS: [(&str, &str); 11] = [
    ("standby", "proven"),
    ("standby", "checked"),
    ("standby", "waited"),
    ("primary", "pending"),
    ("primary", "other_cluster"),
    ("primary", "behind"),
    ("primary", "old_timeline"),
    ("primary", "no_standby"),
    ("primary", "no_primary"),
    ("primary", "conflict"),
    ("primary", "isolation"),
];

/// What is told of the servers, and of the reads that they serve.
pub(crate) struct TopologyMeter {
    monitor: Arc<Monitor>,
    servers: Vec<ServerKeys>,
    /// By target and reason.
    reads: Vec<((&'static str, &'static str), Key)>,
    failovers: Key,
}

struct ServerKeys {
    /// One for each role.
    roles: Vec<(&'static str, Key)>,
    lag: Key,
}

/// The roles by which servers are labelled.
const ROLES: [&str; 3] = ["primary", "standby", "unknown"];

impl TopologyMeter {
    pub(crate) fn new(
        monitor: Arc<Monitor>,
        database: &str,
        servers: &[HostPort],
    ) -> TopologyMeter {
        let labels = vec![
            Label::from_static_parts("db.system.name", "postgresql"),
            Label::new("wharf.database", SharedString::from(database.to_owned())),
        ];
        let servers = servers.iter().map(|at| {
            let mut labels = labels.clone();
            labels.push(Label::new("server.address", SharedString::from(at.host.clone())));
            labels.push(Label::new("server.port", SharedString::from(at.port.to_string())));
            let key = |metric| Key::from_parts(KeyName::from_const_str(metric), labels.clone());
            let role = |role| {
                let label = Label::from_static_parts("wharf.server.role", role);
                (role, key(SERVER_UP).with_extra_labels(vec![label]))
            };
            ServerKeys { roles: ROLES.map(role).into(), lag: key(REPLICATION_LAG) }
        });
        let servers = servers.collect();
        let key = |metric| Key::from_parts(KeyName::from_const_str(metric), labels.clone());
        let reads = READ_LABELS.map(|(target, reason)| {
            let more = vec![
                Label::from_static_parts("wharf.read.target", target),
                Label::from_static_parts("wharf.read.reason", reason),
            ];
            ((target, reason), key(READS).with_extra_labels(more))
        });
        TopologyMeter { monitor, servers, reads: reads.into(), failovers: key(FAILOVERS) }
    }

    /// Tells the role of each server, and how many bytes it is behind.
    pub(crate) fn servers(&self, servers: impl IntoIterator<Item = (&'static str, Option<u64>)>) {
        if !self.monitor.is_enabled() {
            return;
        }
        for (keys, (role, lag)) in self.servers.iter().zip(servers) {
            for (known, key) in &keys.roles {
                meter::set(key, usize::from(*known == role));
            }
            if let Some(lag) = lag {
                meter::set(&keys.lag, usize::try_from(lag).unwrap_or(usize::MAX));
            }
        }
    }

    /// Counts a read by the server that it goes to and why.
    pub(crate) fn read(&self, target: &'static str, reason: &'static str) {
        let key = self.reads.iter().find(|(labels, _)| *labels == (target, reason));
        key.into_iter().for_each(|(_, key)| self.count(key));
    }

    pub(crate) fn failover(&self) {
        self.count(&self.failovers);
    }

    fn count(&self, key: &Key) {
        if self.monitor.is_enabled() {
            meter::count(key);
        }
    }
}
