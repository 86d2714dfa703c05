//! A server in a container.
//!
//! The data is in a named volume (`volume.rs`) and outlives the container, which is made anew at every
//! start: so what the file asks for now is what it gets.

mod container;
mod engine;
mod exec;
mod image;
mod standby;
mod volume;

use std::collections::BTreeMap;
use std::fs;
use std::future::ready;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use docker_api::conn::TtyChunk;
use docker_api::opts::LogsOpts;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use secrecy::ExposeSecret as _;

use self::container::{Container, Recipe};
use self::engine::{CallError, Engine};
use super::difference::Difference;
use super::error::PgServerError;
use super::folder::{Folder, Remembered};
use super::launcher::Launcher;
use super::login::{Greeting, LoginError};
use super::password;
use super::program::{Chunk, Program, Running};
use super::request::Request;
use super::server::{Endpoint, blocking};
use crate::config::Runtime;
use crate::sql;

/// What everything that wharf makes on an engine is labelled with: the server's name.
const LABEL: &str = "wharf.pgserver";

/// Where a container finds the password.
const PASSWORD_FILE: &str = "/run/wharf-password";

/// What PostgreSQL has to end its sessions and write everything.
const STOP: Duration = Duration::from_secs(30);
/// How often the log says that a start still goes on.
const PROGRESS: Duration = Duration::from_secs(5);
const LOG_LINES: usize = 20;

/// The way `docker`.
#[derive(Clone, Debug)]
pub(crate) struct Docker {
    request: Arc<Request>,
    folder: Folder,
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
        self.request.failed(what, begun, reason)
    }

    async fn engine(&self) -> Result<Engine, PgServerError> {
        let begun = Instant::now();
        let connected = Engine::connect().await;
        connected.map_err(|reason| self.failed("no Docker engine could be used", begun, reason))
    }

    fn endpoint(&self, port: u16, replica_port: Option<u16>, version: &str) -> Endpoint {
        Endpoint {
            host: self.request.connect_host().to_owned(),
            port,
            replica_port,
            user: self.request.config.user.clone(),
            password: password::of(&self.request, &self.root().join("password")),
            runtime: Runtime::Docker,
            version: version.to_owned(),
            single_connection: false,
        }
    }

    /// The address of this machine that ports are published at; the engine knows no names.
    fn listen_host(&self) -> &str {
        match self.request.bind_host() {
            "localhost" => "127.0.0.1",
            host => host,
        }
    }

    /// What the container would be made from now.
    fn wanted(&self, image: &str) -> BTreeMap<String, String> {
        let config = &self.request.config;
        let mut wanted = config.postgres_conf.clone();
        wanted.insert("image".to_owned(), image.to_owned());
        wanted.insert("host".to_owned(), self.listen_host().to_owned());
        wanted.insert("user".to_owned(), config.user.clone());
        if let Some(port) = self.request.fixed_port() {
            wanted.insert("port".to_owned(), port.to_string());
        }
        wanted
    }

    /// The container of the server, if there is one; one that somebody else made is an error.
    async fn container(&self, engine: &Engine) -> Result<Option<Container>, PgServerError> {
        self.own_container(engine, self.request.name()).await
    }

    async fn own_container(
        &self,
        engine: &Engine,
        name: &str,
    ) -> Result<Option<Container>, PgServerError> {
        let begun = Instant::now();
        match Container::of(engine, name).await {
            Ok(Some(container)) if !container.is_of(self.request.name()) => {
                Err(self.foreign("container", name))
            }
            Ok(container) => Ok(container),
            Err(error) => Err(self.failed("looking for its container failed", begun, error)),
        }
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

    /// Makes a container and starts it; where it is to listen.
    async fn launch(&self, engine: &Engine, begun: Instant) -> Result<u16, PgServerError> {
        let (image, env) = self.image(engine, begun).await?;
        let (name, root) = (self.request.name(), self.root());
        fs::create_dir_all(&root).map_err(self.folder.io("make the folder", &root))?;
        let secret = password::of_or_new(&self.request, &root.join("password"))
            .map_err(self.folder.io("keep a password in", &root))?;
        let removed = Container::remove(engine, name).await;
        removed.map_err(|error| self.failed("its old container was not removed", begun, error))?;
        self.volume_for(engine, &self.volume(), &env, begun).await?;
        let volume = self.volume();
        let recipe = Recipe {
            name,
            image: &image,
            entrypoint: None,
            conf: &self.request.config.postgres_conf,
            env: vec![
                format!("POSTGRES_USER={}", self.request.config.user),
                match secret {
                    Some(_) => format!("POSTGRES_PASSWORD_FILE={PASSWORD_FILE}"),
                    None => "POSTGRES_HOST_AUTH_METHOD=trust".to_owned(),
                },
            ],
            labels: vec![(LABEL, name)],
            volume: (&volume, image::data_mount(&env)),
            network: None,
            host: self.listen_host(),
            secret: secret.as_ref().map(|it| (PASSWORD_FILE, it.expose_secret().to_owned())),
        };
        self.start_one(engine, &recipe, "port", self.request.fixed_port(), begun).await
    }

    /// Makes a container and starts it: at the port that the file fixes, at the one that is remembered
    /// as `key`, or at one that is free.
    async fn start_one(
        &self,
        engine: &Engine,
        recipe: &Recipe<'_>,
        key: &str,
        fixed: Option<u16>,
        begun: Instant,
    ) -> Result<u16, PgServerError> {
        let name = recipe.name;
        let state = self.remembered();
        let mut remembered = Remembered::read(&state);
        let mut last = remembered.get(key).and_then(|port| port.parse().ok());
        loop {
            let port = match self.folder.choose_port(&self.request, fixed, last) {
                Err(PgServerError::PortTaken { port, by, .. }) => {
                    return Err(self.port_taken(engine, port, by).await);
                }
                chosen => chosen?,
            };
            remembered.set(key, port);
            // Before it is there: whoever looks for it has to ask the engine.
            remembered.write(&state).map_err(self.folder.io("write", &state))?;
            let made = recipe.make(engine, port).await;
            made.map_err(|error| self.failed("its container could not be made", begun, error))?;
            let Err(error) = Container::start(engine, name).await else {
                return Ok(port);
            };
            let removed = Container::remove(engine, name).await;
            removed.map_err(|error| self.failed("its container was not removed", begun, error))?;
            let said = error.to_string();
            let taken = ["port is already allocated", "address already in use"];
            if !taken.iter().any(|taken| said.contains(taken)) {
                return Err(self.failed("its container did not start", begun, said));
            }
            if fixed.is_some() {
                return Err(self.port_taken(engine, port, None).await);
            }
            last = None;
        }
    }

    async fn port_taken(&self, engine: &Engine, port: u16, by: Option<String>) -> PgServerError {
        // What listens for a container is a program of the engine's, whose name says little.
        let by = Container::publishing(engine, port).await.or(by);
        self.request.port_taken(port, by)
    }

    /// Waits until somebody can log in.
    async fn ready(
        &self,
        engine: &Engine,
        name: &str,
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
            let container = self.own_container(engine, name).await?;
            let alive = container.is_some_and(|it| it.running && !it.restarts);
            if !alive || left.is_zero() {
                let what = match alive {
                    true => format!("no login to container `{name}` succeeded"),
                    false => format!("container `{name}` ended"),
                };
                let log = self.last_words(engine, name).await;
                if !alive {
                    // Or the engine starts it again and again.
                    let stopped = Container::stop(engine, name).await;
                    stopped
                        .map_err(|error| self.failed("its container did not stop", begun, error))?;
                }
                let remedy = match log.contains("No space left on device") {
                    true => {
                        "; its disk is full: make room (`docker system df` shows what takes it)"
                            .to_owned()
                    }
                    false => self.doubt(),
                };
                let reason = format!("{reason}{remedy}; the end of its log:\n{log}");
                return Err(self.failed(&what, begun, reason));
            }
            tracing::info!(
                "pgserver `{}`: container `{name}` is starting, since {:.0?}",
                self.request.name(),
                begun.elapsed()
            );
        }
    }

    /// Gives the superuser the password that the file has now. Inside its container the server asks
    /// for none, unless its image was told otherwise.
    async fn change_password(&self, engine: &Engine, at: &Endpoint) -> io::Result<()> {
        let Some(password) = &at.password else {
            return Err(io::ErrorKind::NotFound.into());
        };
        tracing::info!(
            "pgserver `{}`: the file gives user `{}` another password than its data; changing it",
            self.request.name(),
            at.user,
        );
        // By standard input, so that it stands in no argument; and in no log.
        let statement = format!(
            "SET log_statement = none; SET log_min_duration_statement = -1; \
             SET log_min_error_statement = panic; ALTER ROLE {} PASSWORD {};",
            sql::quote_ident(&at.user),
            sql::quote_literal(password.expose_secret()),
        );
        let psql = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", &at.user, "-d", "postgres"];
        let input = futures_util::stream::iter([Ok(statement.into_bytes())]);
        let program = Program::new(psql).input(input.boxed());
        let running = engine.run(self.request.name(), program, Vec::new()).await;
        let running = running.map_err(|error| io::Error::other(error.to_string()))?;
        running.text().await.map(drop)
    }

    /// What may be wrong with data that nobody has logged in to yet, as far as is known here.
    fn doubt(&self) -> String {
        if self.has_served() {
            return String::new();
        }
        let (name, volume) = (self.request.name(), self.volume());
        format!(
            "; if its first start was broken off, its data is not whole: `docker rm -f {name} && docker \
             volume rm {volume}` has the next start begin anew, without what is in that volume"
        )
    }

    fn has_served(&self) -> bool {
        Remembered::read(&self.remembered()).get("version").is_some()
    }

    async fn last_words(&self, engine: &Engine, name: &str) -> String {
        let chunks = log(engine, name, LOG_LINES, false);
        let chunks = chunks.filter_map(|chunk| ready(chunk.ok()));
        let read = tokio::time::timeout(PROGRESS, chunks.collect::<Vec<_>>()).await;
        let bytes: Vec<u8> = read
            .unwrap_or_default()
            .into_iter()
            .flat_map(|chunk| match chunk {
                Chunk::Out(bytes) | Chunk::Err(bytes) => bytes,
            })
            .collect();
        String::from_utf8_lossy(&bytes).trim_end().to_owned()
    }

    /// An engine to look for what there is of the server; none if it cannot be reached, which is
    /// said where something may be there.
    async fn engine_to_look(&self) -> Option<Engine> {
        match Engine::connect().await {
            Ok(engine) => Some(engine),
            Err(reason) => {
                if self.remembered().exists() {
                    let server = self.request.name();
                    tracing::warn!(
                        "pgserver `{server}`: its container was not looked for: {reason}"
                    );
                }
                None
            }
        }
    }

    /// The volumes, and the containers before them; each with whether it is there.
    async fn inventory(&self, engine: &Engine) -> Result<Vec<(Kind, String)>, PgServerError> {
        let begun = Instant::now();
        let failed = |error| self.failed("the engine was asked what there is", begun, error);
        let mut found = Vec::new();
        let server = self.request.name();
        for name in [self.standby_name(), server.to_owned()] {
            let container = Container::of(engine, &name).await.map_err(failed)?;
            if container.is_some_and(|container| container.is_of(server)) {
                found.push((Kind::Container, name));
            }
        }
        for name in [self.standby_volume(), self.volume()] {
            if self.has_volume(engine, &name).await.map_err(failed)? {
                found.push((Kind::Volume, name));
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

#[cfg(feature = "cli")]
pub(crate) async fn engine_version() -> Result<String, String> {
    let engine = Engine::connect().await?;
    let version = engine.ask(engine.docker().version()).await.map_err(|error| error.to_string())?;
    Ok(version.version.unwrap_or_default())
}

/// What there may be of a server on an engine.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Container,
    Volume,
    Network,
}

async fn env_of(engine: &Engine, image: &str) -> Result<Vec<String>, CallError> {
    let inspected = engine.ask(engine.docker().images().get(image).inspect()).await?;
    Ok(inspected.config.and_then(|config| config.env).unwrap_or_default())
}

fn log(
    engine: &Engine,
    name: &str,
    lines: usize,
    follow: bool,
) -> BoxStream<'static, io::Result<Chunk>> {
    let container = engine.docker().containers().get(name);
    let opts = LogsOpts::builder().stdout(true).stderr(true).n_lines(lines).follow(follow).build();
    async_stream::stream! {
        let mut chunks = Box::pin(container.logs(&opts));
        // An error is its last word, however often it is said.
        while let Some(Ok(chunk)) = chunks.next().await {
            yield Ok(match chunk {
                TtyChunk::StdErr(bytes) => Chunk::Err(bytes),
                TtyChunk::StdOut(bytes) | TtyChunk::StdIn(bytes) => Chunk::Out(bytes),
            });
        }
    }
    .boxed()
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
        let Some(port) = found.and_then(|container| container.port) else {
            return Ok(None);
        };
        let replica = match self.request.config.replica.enabled {
            true => self.standby(&engine).await?.filter(|container| container.running),
            false => None,
        };
        let version = Remembered::read(&self.remembered());
        let version = version.get("version").unwrap_or_default();
        Ok(Some(self.endpoint(port, replica.and_then(|it| it.port), version)))
    }

    async fn start(&self) -> Result<Endpoint, PgServerError> {
        let begun = Instant::now();
        let engine = self.engine().await?;
        let found = self.container(&engine).await?.filter(|container| container.running);
        let (port, is_new) = match found {
            Some(Container { port: Some(port), .. }) => (port, false),
            _ => (self.launch(&engine, begun).await?, true),
        };
        let mut endpoint = self.endpoint(port, None, "");
        let mut ready = self.ready(&engine, self.request.name(), &endpoint, begun).await;
        if let (true, Err(PgServerError::Login { .. })) = (is_new, &ready)
            && self.change_password(&engine, &endpoint).await.is_ok()
        {
            ready = self.ready(&engine, self.request.name(), &endpoint, begun).await;
        }
        endpoint.version = ready?.version;
        let mut remembered = Remembered::read(&self.remembered());
        remembered.set("port", port);
        remembered.set("version", &endpoint.version);
        let state = self.remembered();
        remembered.write(&state).map_err(self.folder.io("write", &state))?;
        match self.request.config.replica.enabled {
            true => endpoint.replica_port = Some(self.follow(&engine, &endpoint, begun).await?),
            false => self.unfollow(&engine, &endpoint, begun).await?,
        }
        Ok(endpoint)
    }

    async fn stop(&self) -> Result<(), PgServerError> {
        let begun = Instant::now();
        if !self.remembered().exists() {
            return Ok(());
        }
        // Where there is no engine there is nothing to stop, unless DOCKER_HOST has changed; and what
        // else runs this server is still to be stopped.
        let Some(engine) = self.engine_to_look().await else {
            return Ok(());
        };
        let failed = |error| self.failed("its container did not stop", begun, error);
        if self.standby(&engine).await?.is_some_and(|container| container.running) {
            Container::stop(&engine, &self.standby_name()).await.map_err(failed)?;
        }
        let Some(Container { running: true, port: Some(port), .. }) =
            self.container(&engine).await?
        else {
            return Ok(());
        };
        if !self.has_served() {
            // Stopped while it initialises its volume, it would leave half of its data there.
            let endpoint = self.endpoint(port, None, "");
            let _ = self.ready(&engine, self.request.name(), &endpoint, begun).await;
        }
        Container::stop(&engine, self.request.name()).await.map_err(failed)
    }

    async fn differences(&self) -> Result<Vec<Difference>, PgServerError> {
        if !self.remembered().exists() {
            return Ok(Vec::new());
        }
        let Ok(engine) = Engine::connect().await else {
            return Ok(Vec::new());
        };
        let Some(mut container) = self.container(&engine).await?.filter(|it| it.running) else {
            return Ok(Vec::new());
        };
        let wanted = self.wanted(&image::wanted(&self.request).unwrap_or_default());
        if !wanted.contains_key("port") {
            container.settings.remove("port");
        }
        let mut differences = Difference::between(&container.settings, &wanted);
        let replica = self.request.config.replica;
        if let (true, Some(fixed)) = (replica.enabled, replica.port)
            && let Some(Container { running: true, port: Some(port), .. }) =
                self.standby(&engine).await?
            && port != fixed
        {
            differences.push(Difference {
                setting: "replica.port".to_owned(),
                running: Some(port.to_string()),
                wanted: Some(fixed.to_string()),
            });
        }
        Ok(differences)
    }

    async fn holdings(&self) -> Result<Vec<String>, PgServerError> {
        let Some(engine) = self.engine_to_look().await else {
            return Ok(Vec::new());
        };
        let found = self.inventory(&engine).await?;
        let shown = |(kind, name): (Kind, String)| match kind {
            Kind::Container => format!("container {name}"),
            Kind::Volume => format!("volume {name}, with its data"),
            Kind::Network => format!("network {name}"),
        };
        Ok(found.into_iter().map(shown).collect())
    }

    async fn remove(&self) -> Result<(), PgServerError> {
        let begun = Instant::now();
        let Some(engine) = self.engine_to_look().await else {
            return Ok(());
        };
        for (kind, name) in self.inventory(&engine).await? {
            let removed = match kind {
                Kind::Container => Container::remove(&engine, &name).await,
                Kind::Volume => self.remove_volume(&engine, &name).await,
                Kind::Network => engine.ask(engine.docker().networks().get(&name).delete()).await,
            };
            removed.map_err(|error| {
                self.failed(&format!("{name} could not be removed"), begun, error)
            })?;
        }
        let root = self.root();
        match fs::remove_dir_all(&root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(self.folder.io("remove", &root)(error))
            }
            _ => Ok(()),
        }
    }

    async fn spawn(&self, program: Program) -> Result<Running, PgServerError> {
        let begun = Instant::now();
        let engine = self.engine().await?;
        let mut env = vec![format!("PGUSER={}", self.request.config.user)];
        if let Some(secret) = password::of(&self.request, &self.root().join("password")) {
            env.push(format!("PGPASSWORD={}", secret.expose_secret()));
        }
        let what = format!("{} could not be run in its container", program.name());
        let running = engine.run(self.request.name(), program, env).await;
        running.map_err(|error| self.failed(&what, begun, error))
    }

    async fn log(
        &self,
        lines: usize,
        follow: bool,
    ) -> Result<BoxStream<'static, io::Result<Chunk>>, PgServerError> {
        let engine = self.engine().await?;
        match self.container(&engine).await? {
            Some(_) => Ok(log(&engine, self.request.name(), lines, follow)),
            None => Err(self.request.invalid("it has no container, and so no log".to_owned())),
        }
    }
}
