//! What there is of a server on an engine.

use std::time::Instant;

use super::container::Container;
use super::engine::{CallError, Engine};
use super::{Docker, LABEL};
use crate::config::ReplicaConfig;
use crate::pgserver::error::PgServerError;

/// What there may be.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Container,
    Volume,
    /// For `/dev/shm`, with nothing in it that lasts.
    Memory,
    Network,
}

impl Docker {
    /// `container wharf`, `volume wharf-data, with its data`, ….
    pub(super) async fn inventory_shown(&self) -> Result<Vec<String>, PgServerError> {
        let Some(engine) = self.engine_that_was_used().await? else {
            return Ok(Vec::new());
        };
        let shown = |(kind, name): (Kind, String)| match kind {
            Kind::Container => format!("container {name}"),
            Kind::Volume => format!("volume {name}, with its data"),
            Kind::Memory => format!("volume {name}"),
            Kind::Network => format!("network {name}"),
        };
        Ok(self.inventory(&engine).await?.into_iter().map(shown).collect())
    }

    pub(super) async fn remove_inventory(&self) -> Result<(), PgServerError> {
        let begun = Instant::now();
        let Some(engine) = self.engine_that_was_used().await? else {
            return Ok(());
        };
        for (kind, name) in self.inventory(&engine).await? {
            let removed = match kind {
                Kind::Container => Container::remove(&engine, &name).await,
                Kind::Volume | Kind::Memory => self.remove_volume(&engine, &name).await,
                Kind::Network => engine.ask(engine.docker().networks().get(&name).delete()).await,
            };
            removed
                .map_err(|error| self.failed(&format!("could not remove {name}"), begun, error))?;
        }
        Ok(())
    }

    /// None where there is no engine and none was ever used here. One that was used and cannot be
    /// reached is an error: nobody can say that nothing is there.
    async fn engine_that_was_used(&self) -> Result<Option<Engine>, PgServerError> {
        let begun = Instant::now();
        match self.connect().await {
            Ok(engine) => {
                self.settle().await;
                Ok(Some(engine))
            }
            Err(reason) if self.remembered().exists() => {
                let what = "could not list what it has on the Docker engine that ran it";
                Err(self.failed(what, begun, reason))
            }
            Err(_) => Ok(None),
        }
    }

    /// The volumes, and the containers before them; each with whether it is there.
    async fn inventory(&self, engine: &Engine) -> Result<Vec<(Kind, String)>, PgServerError> {
        let begun = Instant::now();
        let failed =
            |error| self.failed("could not list the engine's containers and volumes", begun, error);
        let mut found = Vec::new();
        let server = self.request.name();
        let standbys = || (1..=ReplicaConfig::MAX_COUNT).map(|number| self.standby_name(number));
        let volumes = (1..=ReplicaConfig::MAX_COUNT).map(|number| self.standby_volume(number));
        for name in standbys().chain([server.to_owned()]) {
            let container = Container::of(engine, &name).await.map_err(failed)?;
            if container.is_some_and(|container| container.is_of(server)) {
                found.push((Kind::Container, name));
            }
        }
        for name in volumes.chain([self.volume()]) {
            if self.has_volume(engine, &name).await.map_err(failed)? {
                found.push((Kind::Volume, name));
            }
        }
        for name in standbys().chain([server.to_owned()]) {
            let name = format!("{name}-shm");
            if self.has_volume(engine, &name).await.map_err(failed)? {
                found.push((Kind::Memory, name));
            }
        }
        let name = self.network();
        match engine.ask(engine.docker().networks().get(&name).inspect()).await {
            Ok(network) => {
                let labels = network.labels.unwrap_or_default();
                if labels.get(LABEL).is_some_and(|label| label == server) {
                    found.push((Kind::Network, name));
                }
            }
            Err(CallError::NotFound) => {}
            Err(error) => return Err(failed(error)),
        }
        Ok(found)
    }
}
