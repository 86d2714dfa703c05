//! The volume with a server's data, and the proof that it is whole.
//!
//! The proof is a second, empty volume, made when somebody has logged in to the data. Without it a first
//! start was broken off, and what that left behind would start again as if it were complete, without
//! user or database.

use std::collections::HashMap;
use std::time::Instant;

use docker_api::opts::VolumeCreateOpts;

use super::engine::{CallError, Engine};
use super::{Docker, LABEL};
use crate::pgserver::error::PgServerError;

/// The major version that made the data.
const MAJOR: &str = "wharf.major";

impl Docker {
    pub(super) fn volume(&self) -> String {
        format!("{}-data", self.request.name())
    }

    /// There once somebody has logged in to the data.
    fn proof(&self) -> String {
        format!("{}-ready", self.request.name())
    }

    /// Somebody has logged in to the data.
    pub(super) async fn prove(&self, engine: &Engine) -> Result<(), CallError> {
        self.make_volume(engine, &self.proof(), "").await
    }

    /// The volume with the data, made if it is not there.
    pub(super) async fn data(
        &self,
        engine: &Engine,
        env: &[String],
        begun: Instant,
    ) -> Result<(), PgServerError> {
        let failed = |error| self.failed("its volume could not be made", begun, error);
        let major = env.iter().find_map(|line| line.strip_prefix("PG_MAJOR=")).unwrap_or_default();
        let proven = self.labels_of(engine, &self.proof()).await.map_err(failed)?.is_some();
        if let Some(labels) = self.labels_of(engine, &self.volume()).await.map_err(failed)? {
            if labels.get(LABEL).map(String::as_str) != Some(self.request.name()) {
                return Err(self.foreign("volume", &self.volume()));
            }
            let data = labels.get(MAJOR).map(String::as_str).unwrap_or_default();
            if proven && data != major {
                return Err(PgServerError::DataVersion {
                    server: self.request.name().to_owned(),
                    data: data.to_owned(),
                    wanted: format!("the image has PostgreSQL {major}"),
                    folder: format!("volume {}", self.volume()).into(),
                });
            }
            if proven {
                return Ok(());
            }
            tracing::warn!(
                "pgserver `{}`: its first start was broken off before anybody could log in; its volume \
                 is made anew",
                self.request.name()
            );
            let volume = engine.docker().volumes().get(self.volume());
            engine.ask(volume.delete()).await.map_err(failed)?;
        }
        self.make_volume(engine, &self.volume(), major).await.map_err(failed)
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
