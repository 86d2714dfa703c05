//! The servers of an entry that has several: their roles, and how far each standby is behind.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::cli::out;
use crate::config::{Address, DatabaseConfig, HostPort, Reads, Settings};
use crate::pool::{ConnectTo, Probe};
use crate::topology::Topology;
use crate::{Pg, ServerRole, ServerStatus};

pub(super) struct Cluster {
    topology: Arc<Topology>,
    /// A connection to each server, which stays open between two samples.
    probes: Mutex<Vec<Probe>>,
}

/// One server of a cluster.
#[derive(Clone)]
pub(super) struct Member {
    pub(super) cluster: Arc<Cluster>,
    /// Its place in the list of servers.
    pub(super) place: usize,
}

impl Cluster {
    pub(super) fn new(topology: Arc<Topology>) -> Cluster {
        Cluster { probes: Mutex::new(topology.probes()), topology }
    }

    pub(super) fn servers(&self) -> Vec<HostPort> {
        let servers = self.topology.status().into_iter();
        servers.map(|it| HostPort { host: it.host, port: it.port }).collect()
    }

    /// Asks all servers at the same time, each within `topology.probe_timeout`. Costs one commit on each.
    pub(super) async fn ask(&self) -> Vec<ServerStatus> {
        self.topology.ask_all_on(&mut self.probes.lock().await).await
    }
}

/// Returns the entry on one of its servers, whatever the role of that is. Its transactions are read-only.
pub(super) fn alone(to: &ConnectTo, at: HostPort) -> Pg {
    let mut config = DatabaseConfig {
        address: Address::Host { host: at.host, port: at.port },
        replicas: Vec::new(),
        reads: Reads::Primary,
        must_be_primary: false,
        ..(*to.config).clone()
    };
    // Not by `readonly`, which would log in as `read_role` and roll back in place of a COMMIT.
    let Settings(settings) = &mut config.settings;
    settings.insert("default_transaction_read_only".to_owned(), "on".to_owned());
    Pg::from_config(&to.name, config)
}

/// Says it in words: `standby, 16.78 MB behind`.
pub(super) fn role_and_lag(role: ServerRole, lag_bytes: Option<u64>) -> String {
    match (role, lag_bytes) {
        (ServerRole::Standby, Some(0)) => "standby, not behind".to_owned(),
        (ServerRole::Standby, Some(bytes)) => format!("standby, {} behind", out::size(bytes)),
        (ServerRole::Standby, None) => "standby, lag unknown".to_owned(),
        (ServerRole::Primary | ServerRole::Unknown, _) => role.as_str().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_alone_is_read_only_and_may_have_any_role() {
        let text = "databases: {shop: {hosts: [a, b], user: app, database: d, reads: causal, read_role: {user: r}}}";
        let config = crate::config::Config::loader("infra.yaml").text(text).env([]).load().unwrap();
        let entry = Pg::from_config("shop", config.databases["shop"].clone());
        let to = entry.database().located(false).await.unwrap();
        let pg = alone(&to, HostPort { host: "b".to_owned(), port: 5432 });
        let to = pg.database().located(pg.is_read_only()).await.unwrap();
        assert_eq!((to.servers(), to.target(None)), (vec![to.at()], "app@b:5432/d".to_owned()));
        assert!(!to.has_hosts() && !to.config.must_be_primary);
        assert_eq!(to.config.reads, Reads::Primary);
        assert_eq!(to.config.settings["default_transaction_read_only"], "on");
    }
}
