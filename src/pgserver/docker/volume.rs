//! The volumes with a server's data. A start makes them and never removes one: what is in it is
//! somebody's.

use std::collections::HashMap;
use std::time::Instant;

use docker_api::opts::VolumeCreateOpts;

use super::engine::{CallError, Engine};
use super::{Docker, LABEL, SHM};
use crate::pgserver::error::PgServerError;

/// The major version that made the data.
const MAJOR: &str = "wharf.major";

/// A volume for `/dev/shm`.
pub(super) struct SharedMemory {
    pub(super) volume: String,
    /// In bytes.
    pub(super) size: String,
}

impl Docker {
    pub(super) fn volume(&self) -> String {
        format!("{}-data", self.request.name())
    }

    /// A volume for data of the image with this environment, made if it is not there.
    pub(super) async fn volume_for(
        &self,
        engine: &Engine,
        name: &str,
        env: &[String],
        begun: Instant,
    ) -> Result<(), PgServerError> {
        let failed = |error| self.failed("could not create its volume", begun, error);
        let major = env.iter().find_map(|line| line.strip_prefix("PG_MAJOR=")).unwrap_or_default();
        if let Some(labels) = self.labels_of(engine, name).await.map_err(failed)? {
            if labels.get(LABEL).map(String::as_str) != Some(self.request.name()) {
                return Err(self.foreign("volume", name));
            }
            let data = labels.get(MAJOR).map(String::as_str).unwrap_or_default();
            if data != major {
                return Err(PgServerError::DataVersion {
                    server: self.request.name().to_owned(),
                    data: data.to_owned(),
                    wanted: format!("the image has PostgreSQL {major}"),
                    folder: format!("volume {name}").into(),
                });
            }
            return Ok(());
        }
        self.make_volume(engine, name, major).await.map_err(failed)
    }

    /// What a container has for `/dev/shm`, if the file says how large that is: a volume in memory, made anew for a
    /// container that is made anew. docker-api has no word for `ShmSize`.
    pub(super) async fn shared_memory(
        &self,
        engine: &Engine,
        container: &str,
    ) -> Result<Option<SharedMemory>, CallError> {
        let volume = format!("{container}-shm");
        if self.has_volume(engine, &volume).await? {
            self.remove_volume(engine, &volume).await?;
        }
        let Some(bytes) = self.request.config.shm_size else { return Ok(None) };
        let size = bytes.to_string();
        let of = format!("size={size},mode=1777");
        let opts = VolumeCreateOpts::builder()
            .name(&volume)
            .driver("local")
            .driver_opts([("type", "tmpfs"), ("device", "tmpfs"), ("o", &of)])
            .labels([(LABEL, self.request.name()), (SHM, &size)])
            .build();
        engine.ask(engine.docker().volumes().create(&opts)).await?;
        Ok(Some(SharedMemory { volume, size }))
    }

    /// Whether there is such a volume, and it is this server's.
    pub(super) async fn has_volume(&self, engine: &Engine, name: &str) -> Result<bool, CallError> {
        let labels = self.labels_of(engine, name).await?;
        Ok(labels.is_some_and(|it| it.get(LABEL).is_some_and(|it| it == self.request.name())))
    }

    /// The major version that made the data of a volume of this server's, if that is there.
    pub(super) async fn major_of(
        &self,
        engine: &Engine,
        name: &str,
    ) -> Result<Option<String>, CallError> {
        let labels = self.labels_of(engine, name).await?;
        let own = labels.filter(|it| it.get(LABEL).is_some_and(|it| it == self.request.name()));
        Ok(own.map(|it| it.get(MAJOR).cloned().unwrap_or_default()))
    }

    pub(super) async fn remove_volume(&self, engine: &Engine, name: &str) -> Result<(), CallError> {
        let volume = engine.docker().volumes().get(name);
        match engine.ask(volume.delete()).await {
            Ok(()) | Err(CallError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Those of a volume, if it is there.
    async fn labels_of(
        &self,
        engine: &Engine,
        volume: &str,
    ) -> Result<Option<HashMap<String, String>>, CallError> {
        let volume = engine.docker().volumes().get(volume);
        match engine.ask(volume.inspect()).await {
            Ok(volume) => Ok(Some(volume.labels)),
            Err(CallError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn make_volume(&self, engine: &Engine, name: &str, major: &str) -> Result<(), CallError> {
        let labels = [(LABEL, self.request.name()), (MAJOR, major)];
        let opts = VolumeCreateOpts::builder().name(name).labels(labels).build();
        engine.ask(engine.docker().volumes().create(&opts)).await.map(|_| ())
    }
}
