//! The Docker engine: where it is, and a limit to every call, for docker-api sets none.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use docker_api::{Docker, Error as ApiError};
use futures_util::StreamExt as _;

use super::address::{AddressSource, EngineAddress};

/// Longest time for a call that only asks or tells, a stop included.
const CALL: Duration = Duration::from_secs(60);
/// Longest time for the first sign of life.
const PING: Duration = Duration::from_secs(3);
/// Longest silence of a pull.
const PULL_SILENCE: Duration = Duration::from_secs(120);

/// How often the log says how far a pull is.
const PULL_TOLD: Duration = Duration::from_secs(2);

/// An engine that has answered.
#[derive(Clone, Debug)]
pub(super) struct Engine {
    docker: Docker,
    address: EngineAddress,
}

/// Why a call came to nothing.
#[derive(Debug)]
pub(super) enum CallError {
    /// What was asked for is not there.
    NotFound,
    /// The engine says no, or nothing.
    Failed(String),
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CallError::NotFound => f.write_str("not found"),
            CallError::Failed(reason) => f.write_str(reason),
        }
    }
}

impl Engine {
    /// Connects to the engine that `DOCKER_HOST` or a Docker context names, or whose socket exists.
    ///
    /// # Errors
    /// Why there is none, and what to do.
    pub(super) async fn connect() -> Result<Engine, String> {
        let address = EngineAddress::find()?;
        let url = &address.url;
        if let Some(path) = url.strip_prefix("unix://") {
            reachable(Path::new(path), &address.source).await?;
        }
        let docker = Docker::new(url).map_err(|error| format!("{url}: {error}"))?;
        let (source, remedy) = (&address.source, address.source.remedy());
        match tokio::time::timeout(PING, docker.ping()).await {
            Ok(Ok(_)) => Ok(Engine { docker, address }),
            // What an engine with TLS answers to a request without; its words do not come through docker-api.
            Ok(Err(ApiError::Fault { code, .. })) if code.as_u16() == 400 => Err(format!(
                "the Docker engine at {url} ({source}) rejects requests without TLS, and wharf does not use TLS to talk to an engine; {remedy}"
            )),
            Ok(Err(error)) => Err(format!(
                "no Docker engine answers at {url} ({source}): {error}; start it, or {remedy}"
            )),
            Err(_) => Err(format!(
                "the Docker engine at {url} ({source}) did not answer within {PING:?}; start it, or {remedy}"
            )),
        }
    }

    /// Returns `unix:///path` or `tcp://host:port`.
    pub(super) fn url(&self) -> &str {
        &self.address.url
    }

    /// Returns the host of the engine if that is another machine, where its containers are reached.
    pub(super) fn remote_host(&self) -> Option<&str> {
        self.address.remote_host()
    }

    pub(super) fn docker(&self) -> &Docker {
        &self.docker
    }

    /// What `call` gives, in time.
    pub(super) async fn ask<T>(
        &self,
        call: impl Future<Output = docker_api::Result<T>>,
    ) -> Result<T, CallError> {
        match tokio::time::timeout(CALL, call).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(ApiError::Fault { code, .. })) if code.as_u16() == 404 => {
                Err(CallError::NotFound)
            }
            Ok(Err(ApiError::Fault { message, .. })) => Err(CallError::Failed(message)),
            Ok(Err(error)) => Err(CallError::Failed(error.to_string())),
            Err(_) => Err(CallError::Failed(format!("the engine did not answer within {CALL:?}"))),
        }
    }

    /// As [`ask`](Engine::ask), of what may be so already (304).
    pub(super) async fn make_so(
        &self,
        call: impl Future<Output = docker_api::Result<()>>,
    ) -> Result<(), CallError> {
        let so_already = |error: &ApiError| matches!(error, ApiError::Fault { code, .. } if code.as_u16() == 304);
        self.ask(async {
            match call.await {
                Err(error) if so_already(&error) => Ok(()),
                done => done,
            }
        })
        .await
    }

    /// Pulls an image, with its progress in the log.
    pub(super) async fn pull(&self, image: &str) -> Result<(), String> {
        let (name, tag) = name_and_tag(image);
        let opts = docker_api::opts::PullOpts::builder().image(name).tag(tag).build();
        let images = self.docker.images();
        let mut chunks = images.pull(&opts);
        let mut told = std::time::Instant::now();
        // Bytes that have come of each layer, and that it has.
        let mut layers: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        tracing::info!("pulling the image {image}");
        loop {
            let next = tokio::time::timeout(PULL_SILENCE, chunks.next());
            match next
                .await
                .map_err(|_| format!("the registry sent nothing for {PULL_SILENCE:?}"))?
            {
                None => return Ok(()),
                Some(Err(error)) => return Err(error.to_string()),
                Some(Ok(docker_api::models::ImageBuildChunk::Error { error, .. })) => {
                    return Err(error);
                }
                Some(Ok(docker_api::models::ImageBuildChunk::PullStatus {
                    status,
                    id: Some(layer),
                    progress_detail,
                    ..
                })) if status == "Downloading" => {
                    let detail =
                        progress_detail.and_then(|detail| Some((detail.current?, detail.total?)));
                    if let Some((current, total)) = detail {
                        layers.insert(layer, (current, total));
                    }
                    if told.elapsed() > PULL_TOLD {
                        told = std::time::Instant::now();
                        let (done, all) =
                            layers.values().fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
                        let megabytes = |bytes: u64| bytes as f64 / 1e6;
                        let (done, all) = (megabytes(done), megabytes(all));
                        tracing::info!("pulling {image}: {done:.1} of {all:.1} MB");
                    }
                }
                Some(Ok(_)) => {}
            }
        }
    }
}

/// `name:tag`, or `name@digest`, as a pull wants them apart.
fn name_and_tag(image: &str) -> (&str, &str) {
    if let Some((name, digest)) = image.split_once('@') {
        return (name, digest);
    }
    match image.rsplit_once(':') {
        // The colon before a port is no tag's.
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, "latest"),
    }
}

/// Opens the socket once, because docker-api does not tell what keeps it from being opened.
async fn reachable(path: &Path, source: &AddressSource) -> Result<(), String> {
    let error = match tokio::net::UnixStream::connect(path).await {
        Ok(_) => return Ok(()),
        Err(error) => error,
    };
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "add your user to its group (`sudo usermod -aG docker $USER`) and log in again"
                .to_owned()
        }
        io::ErrorKind::NotFound => format!("start the engine, or {}", source.remedy()),
        _ => format!("start the engine (`sudo systemctl start docker`), or {}", source.remedy()),
    };
    Err(format!(
        "the Docker engine's socket {} ({source}) cannot be opened: {error}; {remedy}",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_has_a_name_and_a_tag() {
        for (image, name, tag) in [
            ("postgres:17", "postgres", "17"),
            ("postgres", "postgres", "latest"),
            ("registry:5000/postgres", "registry:5000/postgres", "latest"),
            ("registry:5000/postgres:17", "registry:5000/postgres", "17"),
            ("postgres@sha256:abc", "postgres", "sha256:abc"),
        ] {
            assert_eq!(name_and_tag(image), (name, tag), "{image}");
        }
    }
}
