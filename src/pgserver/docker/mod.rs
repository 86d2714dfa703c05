//! A server in a container.
//!
//! The data is in a named volume (`volume.rs`) and outlives the container, which is made anew at every
//! start: so what the file asks for now is what it gets.

mod engine;
mod image;
mod volume;

use std::collections::BTreeMap;
use std::fs;
use std::future::ready;
use std::hash::BuildHasher as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use docker_api::models::ContainerInspect200Response as Inspected;
use docker_api::opts::{ContainerCreateOpts, ContainerRemoveOpts, HostPort, LogsOpts, PublishPort};
use foldhash::fast::FixedState;
use futures_util::StreamExt as _;
use secrecy::ExposeSecret as _;

use self::engine::{CallError, Engine};
use super::error::PgServerError;
use super::folder::{Folder, Remembered};
use super::launcher::Launcher;
use super::login::{Greeting, LoginError};
use super::password;
use super::request::Request;
use super::server::{Endpoint, blocking};
use crate::config::Runtime;

/// What everything that wharf makes on an engine is labelled with: the server's name.
const LABEL: &str = "wharf.pgserver";
/// What a container was made from.
const SETTINGS: &str = "wharf.settings";

/// Where a container finds the password: in a file, for its environment is there for everybody to see.
const PASSWORD_FILE: &str = "/run/wharf-password";

/// How often the log says that a start still goes on.
const PROGRESS: Duration = Duration::from_secs(5);
const LOG_LINES: usize = 20;

/// The way `docker`.
#[derive(Clone, Debug)]
pub(crate) struct Docker {
    request: Arc<Request>,
    folder: Folder,
}

/// A container of this server's.
struct Container {
    running: bool,
    /// It has ended before, and the engine has started it again.
    restarts: bool,
    port: Option<u16>,
    /// What it was made from: hashes, for some settings are secret.
    settings: BTreeMap<String, String>,
}

impl Docker {
    pub(crate) fn new(request: Arc<Request>, folder: Folder) -> Docker {
        Docker { request, folder }
    }

    fn root(&self) -> PathBuf {
        self.folder.join("docker")
    }

    fn remembered(&self) -> PathBuf {
        self.root().join("state")
    }

    fn failed(&self, what: &str, begun: Instant, reason: impl ToString) -> PgServerError {
        PgServerError::Failed {
            server: self.request.name().to_owned(),
            what: what.to_owned(),
            after: begun.elapsed(),
            reason: reason.to_string(),
        }
    }

    async fn engine(&self) -> Result<Engine, PgServerError> {
        let begun = Instant::now();
        let connected = Engine::connect().await;
        connected.map_err(|reason| self.failed("no Docker engine could be used", begun, reason))
    }

    fn endpoint(&self, port: u16, version: &str) -> Endpoint {
        Endpoint {
            host: self.request.connect_host().to_owned(),
            port,
            user: self.request.config.user.clone(),
            password: password::of(&self.request, &self.root().join("password")),
            runtime: Runtime::Docker,
            version: version.to_owned(),
            single_connection: false,
        }
    }

    /// What the container is made from, each value as a hash.
    fn settings(&self, image: &str) -> BTreeMap<String, String> {
        let config = &self.request.config;
        let port = self.request.fixed_port().map_or_else(String::new, |port| port.to_string());
        let fixed =
            [("image", image), ("host", &config.host), ("port", &port), ("user", &config.user)];
        let conf = config.postgres_conf.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let hash = |value: &str| format!("{:016x}", FixedState::default().hash_one(value));
        fixed.into_iter().chain(conf).map(|(name, value)| (name.to_owned(), hash(value))).collect()
    }

    /// The container of this name, if there is one; one that somebody else made is an error.
    async fn container(&self, engine: &Engine) -> Result<Option<Container>, PgServerError> {
        let begun = Instant::now();
        let name = self.request.name();
        let container = engine.docker().containers().get(name);
        let inspected = match engine.ask(container.inspect()).await {
            Ok(inspected) => inspected,
            Err(CallError::NotFound) => return Ok(None),
            Err(error) => {
                return Err(self.failed("looking for its container failed", begun, error));
            }
        };
        let labels = inspected.config.as_ref().and_then(|config| config.labels.clone());
        let labels = labels.unwrap_or_default();
        if labels.get(LABEL).map(String::as_str) != Some(name) {
            return Err(self.foreign("container", name));
        }
        let settings = labels.get(SETTINGS).map(String::as_str).unwrap_or_default();
        let pairs = settings.split(' ').filter_map(|pair| pair.split_once('='));
        Ok(Some(Container {
            running: is_running(&inspected),
            restarts: inspected.restart_count.is_some_and(|count| count > 0),
            port: host_port(&inspected),
            settings: pairs.map(|(name, hash)| (name.to_owned(), hash.to_owned())).collect(),
        }))
    }

    fn foreign(&self, what: &str, name: &str) -> PgServerError {
        self.request.invalid(format!(
            "the engine has a {what} `{name}` that wharf did not make, which is left alone: give the \
             server another `pgserver.name`, or remove that {what}"
        ))
    }

    /// The image, pulled if it is not there, and its environment.
    async fn image(
        &self,
        engine: &Engine,
        begun: Instant,
    ) -> Result<(String, Vec<String>), PgServerError> {
        let image = image::wanted(&self.request).map_err(|reason| self.request.invalid(reason))?;
        let mut env = env_of(engine, &image).await;
        if let Err(CallError::NotFound) = env {
            engine.pull(&image).await.map_err(|reason| {
                let remedy = "is this machine online, and is the name right? An image that is there \
                              already is not pulled";
                self.failed(&format!("pulling {image} failed"), begun, format!("{reason}: {remedy}"))
            })?;
            env = env_of(engine, &image).await;
        }
        let env =
            env.map_err(|error| self.failed(&format!("looking at {image} failed"), begun, error))?;
        match image::objection(&self.request, &image, &env) {
            Some(reason) => Err(self.request.invalid(reason)),
            None => Ok((image, env)),
        }
    }

    /// A container that is not started yet.
    async fn create(
        &self,
        engine: &Engine,
        (image, env): (&str, &[String]),
        port: u16,
        begun: Instant,
    ) -> Result<(), PgServerError> {
        let name = self.request.name();
        let config = &self.request.config;
        let mut command = vec!["postgres".to_owned()];
        for (name, value) in &config.postgres_conf {
            command.extend(["-c".to_owned(), format!("{name}={value}")]);
        }
        let secret = password::of(&self.request, &self.root().join("password"));
        let mut variables = vec![format!("POSTGRES_USER={}", config.user)];
        variables.push(match secret {
            Some(_) => format!("POSTGRES_PASSWORD_FILE={PASSWORD_FILE}"),
            None => "POSTGRES_HOST_AUTH_METHOD=trust".to_owned(),
        });
        let settings = self.settings(image);
        let settings: Vec<_> =
            settings.iter().map(|(name, hash)| format!("{name}={hash}")).collect();
        let settings = settings.join(" ");
        let host = match self.request.bind_host() {
            "localhost" => "127.0.0.1",
            host => host,
        };
        let opts = ContainerCreateOpts::builder()
            .name(name)
            .image(image)
            .command(command)
            .env(variables)
            .labels([(LABEL, name), (SETTINGS, settings.as_str())])
            .volumes([format!("{}:{}", self.volume(), image::data_mount(env))])
            .expose(PublishPort::tcp(5432), HostPort::with_ip(u32::from(port), host.to_owned()))
            .restart_policy("unless-stopped", 0)
            .build();
        let failed =
            |error: CallError| self.failed("its container could not be made", begun, error);
        let container =
            engine.ask(engine.docker().containers().create(&opts)).await.map_err(failed)?;
        if let Some(secret) = secret {
            let copied = container.copy_file_into(PASSWORD_FILE, secret.expose_secret().as_bytes());
            engine.ask(copied).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn remove(&self, engine: &Engine, begun: Instant) -> Result<(), PgServerError> {
        let container = engine.docker().containers().get(self.request.name());
        let opts = ContainerRemoveOpts::builder().force(true).build();
        match engine.ask(container.remove(&opts)).await {
            Ok(_) | Err(CallError::NotFound) => Ok(()),
            Err(error) => Err(self.failed("its old container could not be removed", begun, error)),
        }
    }

    /// Makes a container and starts it; where it is to listen.
    async fn launch(&self, engine: &Engine, begun: Instant) -> Result<u16, PgServerError> {
        let (image, env) = self.image(engine, begun).await?;
        let root = self.root();
        fs::create_dir_all(&root).map_err(self.folder.io("make the folder", &root))?;
        password::of_or_new(&self.request, &root.join("password"))
            .map_err(self.folder.io("keep a password in", &root))?;
        self.remove(engine, begun).await?;
        self.data(engine, &env, begun).await?;
        let mut remembered = Remembered::read(&self.remembered());
        let mut last = remembered.port();
        loop {
            let port = self.folder.choose_port(&self.request, last)?;
            remembered.set("port", port);
            // Before it is there: whoever looks for it has to ask the engine.
            let state = self.remembered();
            remembered.write(&state).map_err(self.folder.io("write", &state))?;
            self.create(engine, (&image, &env), port, begun).await?;
            let container = engine.docker().containers().get(self.request.name());
            match engine.make_so(container.start()).await {
                Ok(()) => return Ok(port),
                Err(error) => {
                    self.remove(engine, begun).await?;
                    let said = error.to_string();
                    let taken = ["port is already allocated", "address already in use"];
                    if !taken.iter().any(|taken| said.contains(taken)) {
                        return Err(self.failed("its container did not start", begun, said));
                    }
                    if self.request.fixed_port().is_some() {
                        return Err(PgServerError::PortTaken {
                            server: self.request.name().to_owned(),
                            host: self.request.config.host.clone(),
                            port,
                        });
                    }
                    last = None;
                }
            }
        }
    }

    /// Waits until somebody can log in.
    async fn ready(
        &self,
        engine: &Engine,
        endpoint: &Endpoint,
        begun: Instant,
    ) -> Result<Greeting, PgServerError> {
        let login = endpoint.login();
        let deadline = begun + self.request.deadline;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let reason = match login.until(left.min(PROGRESS)).await {
                Ok(greeting) => return Ok(greeting),
                Err(LoginError::NotReady(reason)) => reason,
                Err(LoginError::Refused { code, message }) => {
                    let message = format!("{message}{}", self.doubt());
                    let refused = LoginError::Refused { code, message };
                    return Err(login.error(self.request.name(), &refused));
                }
            };
            let container = self.container(engine).await?;
            let alive = container.is_some_and(|it| it.running && !it.restarts);
            if !alive || left.is_zero() {
                let what = match alive {
                    true => "no login succeeded",
                    false => "its container ended",
                };
                let log = self.log(engine).await;
                if !alive {
                    // Or the engine starts it again and again.
                    let container = engine.docker().containers().get(self.request.name());
                    let stopped = engine.make_so(container.stop(&Default::default())).await;
                    stopped
                        .map_err(|error| self.failed("its container did not stop", begun, error))?;
                }
                let reason = format!("{reason}{}; the end of its log:\n{log}", self.doubt());
                return Err(self.failed(what, begun, reason));
            }
            tracing::info!(
                "pgserver `{}`: its container is starting, since {:.0?}",
                self.request.name(),
                begun.elapsed()
            );
        }
    }

    /// What may be wrong with data that nobody has logged in to yet, as far as is known here.
    fn doubt(&self) -> String {
        if Remembered::read(&self.remembered()).get("version").is_some() {
            return String::new();
        }
        let (name, volume) = (self.request.name(), self.volume());
        format!(
            "; if its first start was broken off, its data is not whole: `docker rm -f {name} && docker \
             volume rm {volume}` has the next start begin anew, without what is in that volume"
        )
    }

    /// The end of the container's log.
    async fn log(&self, engine: &Engine) -> String {
        let container = engine.docker().containers().get(self.request.name());
        let opts = LogsOpts::builder().stdout(true).stderr(true).n_lines(LOG_LINES).build();
        // An error is its last word, however often it is said.
        let chunks = container.logs(&opts).take_while(|chunk| ready(chunk.is_ok()));
        let chunks = chunks.filter_map(|chunk| ready(chunk.ok()));
        let read = tokio::time::timeout(PROGRESS, chunks.collect::<Vec<_>>()).await;
        let bytes: Vec<u8> =
            read.unwrap_or_default().iter().flat_map(|chunk| chunk.to_vec()).collect();
        String::from_utf8_lossy(&bytes).trim_end().to_owned()
    }

    fn tell_differences(&self, container: &Container, image: &str) {
        let wanted = self.settings(image);
        let names = wanted.keys().chain(container.settings.keys());
        let mut differ: Vec<&str> = names
            .filter(|name| wanted.get(*name) != container.settings.get(*name))
            .map(String::as_str)
            .collect();
        differ.sort_unstable();
        differ.dedup();
        if !differ.is_empty() {
            tracing::warn!(
                "pgserver `{}`: it runs already and the file asks for other settings than it was \
                 started with; stop it and start it again for them to take effect: {}",
                self.request.name(),
                differ.join(", "),
            );
        }
    }
}

async fn env_of(engine: &Engine, image: &str) -> Result<Vec<String>, CallError> {
    let inspected = engine.ask(engine.docker().images().get(image).inspect()).await?;
    Ok(inspected.config.and_then(|config| config.env).unwrap_or_default())
}

fn is_running(inspected: &Inspected) -> bool {
    inspected.state.as_ref().and_then(|state| state.running).unwrap_or(false)
}

fn host_port(inspected: &Inspected) -> Option<u16> {
    let ports = inspected.network_settings.as_ref()?.ports.as_ref()?;
    ports.get("5432/tcp")?.as_ref()?.first()?.host_port.as_ref()?.parse().ok()
}

#[async_trait]
impl Launcher for Docker {
    fn runtime(&self) -> Runtime {
        Runtime::Docker
    }

    async fn can_serve(&self) -> Result<String, String> {
        if self.request.temporary {
            return Err(
                "a temporary server ends with its process, and a container would not".to_owned()
            );
        }
        if let Some(reason) = self.request.standby_reason() {
            return Err(reason);
        }
        let image = image::wanted(&self.request)?;
        let engine = Engine::connect().await?;
        match env_of(&engine, &image).await {
            Ok(env) => match image::objection(&self.request, &image, &env) {
                Some(reason) => Err(reason),
                None => Ok(format!("image {image}")),
            },
            Err(CallError::NotFound) if self.request.config.runtime == Runtime::Docker => {
                Ok(format!("image {image}, which is pulled first"))
            }
            Err(CallError::NotFound) => Err(format!(
                "the engine has no image {image}; `docker pull {image}`, or say `runtime: docker`, \
                 which pulls it"
            )),
            Err(error) => Err(format!("the engine was asked for {image}: {error}")),
        }
    }

    async fn running(&self) -> Result<Option<Endpoint>, PgServerError> {
        // Who never started one here need not have an engine.
        let remembered = self.remembered();
        let known = blocking(move || Ok(remembered.exists())).await?;
        let Ok(engine) = (match known {
            true => Engine::connect().await,
            false => return Ok(None),
        }) else {
            return Ok(None);
        };
        let found = self.container(&engine).await?.filter(|container| container.running);
        let version = Remembered::read(&self.remembered());
        let version = version.get("version").unwrap_or_default();
        Ok(found.and_then(|container| container.port).map(|port| self.endpoint(port, version)))
    }

    async fn start(&self) -> Result<Endpoint, PgServerError> {
        let begun = Instant::now();
        let engine = self.engine().await?;
        let found = self.container(&engine).await?.filter(|container| container.running);
        let port = match &found {
            Some(Container { port: Some(port), .. }) => *port,
            _ => self.launch(&engine, begun).await?,
        };
        let mut endpoint = self.endpoint(port, "");
        let greeting = self.ready(&engine, &endpoint, begun).await?;
        endpoint.version = greeting.version;
        if let Some(container) = &found {
            let image = image::wanted(&self.request).unwrap_or_default();
            self.tell_differences(container, &image);
        }
        let mut remembered = Remembered::read(&self.remembered());
        remembered.set("port", port);
        remembered.set("version", &endpoint.version);
        let state = self.remembered();
        remembered.write(&state).map_err(self.folder.io("write", &state))?;
        Ok(endpoint)
    }

    async fn stop(&self) -> Result<(), PgServerError> {
        let begun = Instant::now();
        if !self.remembered().exists() {
            return Ok(());
        }
        let engine = match Engine::connect().await {
            Ok(engine) => engine,
            // Nor is there anything to stop, unless DOCKER_HOST has changed; and what else runs this
            // server is still to be stopped.
            Err(reason) => {
                tracing::warn!(
                    "pgserver `{}`: its container was not looked for: {reason}",
                    self.request.name()
                );
                return Ok(());
            }
        };
        if self.container(&engine).await?.is_none_or(|container| !container.running) {
            return Ok(());
        }
        let container = engine.docker().containers().get(self.request.name());
        let stopped = engine.make_so(container.stop(&Default::default())).await;
        stopped.map_err(|error| self.failed("its container did not stop", begun, error))
    }
}
