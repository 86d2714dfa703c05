//! A server in a container.
//!
//! The data is in a named volume (`volume.rs`) and outlives the container, which is made anew at every
//! start: so what the file asks for now is what it gets.

mod address;
mod authentication;
mod container;
mod engine;
mod exec;
mod files;
mod image;
mod inventory;
mod launch;
mod settings;
mod standby;
mod tether;
mod volume;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use docker_api::conn::TtyChunk;
use docker_api::opts::LogsOpts;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use secrecy::ExposeSecret as _;

use self::container::{Container, NO_PASS, PASS};
use self::engine::{CallError, Engine};
use super::difference::Difference;
use super::error::PgServerError;
use super::folder::{Folder, Remembered};
use super::launcher::{Data, Launcher, Offer};
use super::password;
use super::program::{Chunk, Program, Running};
use super::request::{Request, is_loopback};
use super::server::{Endpoint, blocking};
use super::version::Version;
use crate::config::Runtime;

/// What everything that wharf makes on an engine is labelled with: the server's name.
const LABEL: &str = "wharf.pgserver";
/// The label with the size of the shared memory, in bytes.
const SHM: &str = "wharf.shm-size";
/// The configuration file that a container belongs to.
const FILE: &str = "wharf.file";
/// What a standby that is gone may keep of the primary's log, until the disk would be full.
const SLOT_KEEPS: (&str, &str) = ("max_slot_wal_keep_size", "8GB");

/// What PostgreSQL has to end its sessions and write everything.
const STOP: Duration = Duration::from_secs(30);

/// How long an engine may still be at a call whose caller has died.
const SETTLES: Duration = Duration::from_secs(3);
/// Remembered from before the first call that makes something until a start has come to its end.
const STARTING: &str = "starting";
/// Remembered as the address of the engine that has the container.
const ENGINE: &str = "engine";

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

    fn remember(&self, what: impl FnOnce(&mut Remembered)) -> Result<(), PgServerError> {
        let state = self.remembered();
        let mut remembered = Remembered::read(&state);
        what(&mut remembered);
        remembered.write(&state).map_err(self.folder.io("write", &state))
    }

    fn is_starting(&self) -> bool {
        Remembered::read(&self.remembered()).get(STARTING) == Some("true")
    }

    /// Waits until nothing of a start that died can appear any more. An engine finishes a call whose
    /// caller is gone, and does not tell what it is at.
    async fn settle(&self) {
        if self.is_starting() {
            let noted = fs::metadata(self.remembered()).and_then(|state| state.modified());
            let since = noted.ok().and_then(|noted| noted.elapsed().ok()).unwrap_or_default();
            tokio::time::sleep(SETTLES.saturating_sub(since)).await;
        }
    }

    fn failed(&self, what: &str, begun: Instant, reason: impl ToString) -> PgServerError {
        self.request.failed(what, begun, reason)
    }

    /// Connects to the engine, unless the server's data is on another one: a context is switched for other work too, and
    /// an empty server must not be started then.
    async fn connect(&self) -> Result<Engine, String> {
        let engine = Engine::connect().await?;
        let remembered = Remembered::read(&self.remembered());
        let Some(earlier) = remembered.get(ENGINE).filter(|earlier| *earlier != engine.url())
        else {
            return Ok(engine);
        };
        // One engine may have several addresses.
        let has_volume = self.has_volume(&engine, &self.volume()).await;
        if self.has_served() && matches!(has_volume, Ok(false)) {
            return Err(format!(
                "its data is on the Docker engine at {earlier}, and the engine in use is {}; set DOCKER_HOST={earlier} or switch the context back; if that engine is gone for good, remove {}",
                engine.url(),
                self.root().display(),
            ));
        }
        Ok(engine)
    }

    async fn engine(&self) -> Result<Engine, PgServerError> {
        let begun = Instant::now();
        let connected = self.connect().await;
        connected.map_err(|reason| self.failed("no Docker engine is available", begun, reason))
    }

    fn endpoint(
        &self,
        engine: &Engine,
        port: u16,
        replica_ports: Vec<u16>,
        version: &str,
    ) -> Endpoint {
        // An address of its own that the file names is one of the engine's machine.
        let host = match (engine.remote_host(), self.request.connect_host()) {
            (Some(remote), host) if is_loopback(host) => remote,
            (_, host) => host,
        };
        Endpoint {
            host: host.to_owned(),
            port,
            replica_ports,
            user: self.request.config.user.clone(),
            password: password::of(&self.request, &self.root().join("password")),
            runtime: Runtime::Docker,
            version: version.to_owned(),
            single_connection: false,
        }
    }

    /// Returns the address of the engine's machine that ports are published at; the engine knows no names. On a
    /// remote engine, loopback would be out of reach.
    fn listen_host(&self, engine: &Engine) -> &str {
        match self.request.bind_host() {
            host if engine.remote_host().is_some() && is_loopback(host) => "0.0.0.0",
            "localhost" => "127.0.0.1",
            host => host,
        }
    }

    /// Says why a remote engine must not run a server that asks for no password.
    fn password_reason(&self, engine: &Engine) -> Option<String> {
        let host = engine.remote_host()?;
        password::is_not_asked_for(&self.request).then(|| {
            format!(
                "`pass: \"\"` lets anybody log in as its superuser, and the engine at {host} publishes it to other machines; give it a password, or use an engine of this machine"
            )
        })
    }

    /// The file's settings, and a limit for what a standby keeps.
    fn settings(&self) -> BTreeMap<String, String> {
        let mut settings = self.request.config.postgres_conf.clone();
        if self.request.config.replica.enabled {
            let (name, value) = SLOT_KEEPS;
            settings.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
        settings
    }

    /// The configuration file that the server belongs to; empty if it belongs to none.
    fn file(&self) -> String {
        self.request.config.file.as_deref().map_or_else(String::new, |it| it.display().to_string())
    }

    /// What the container would be made from now.
    fn wanted(&self, engine: &Engine, image: &str) -> BTreeMap<String, String> {
        let config = &self.request.config;
        let mut wanted = self.settings();
        wanted.insert("image".to_owned(), image.to_owned());
        wanted.insert("host".to_owned(), self.listen_host(engine).to_owned());
        wanted.insert("user".to_owned(), config.user.clone());
        let pass = if password::is_not_asked_for(&self.request) { NO_PASS } else { PASS };
        wanted.insert("pass".to_owned(), pass.to_owned());
        if let Some(size) = config.shm_size {
            wanted.insert("shm_size".to_owned(), size.to_string());
        }
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
            Ok(Some(container)) => {
                // Of another user of the engine, whose state is in another folder.
                let file = container.labels.get(FILE).filter(|file| !file.is_empty());
                match file.filter(|file| **file != self.file() && Path::new(file).exists()) {
                    Some(file) if self.request.config.file.is_some() => {
                        Err(PgServerError::Foreign {
                            server: self.request.name().to_owned(),
                            file: file.into(),
                        })
                    }
                    _ => Ok(Some(container)),
                }
            }
            Ok(None) => Ok(None),
            Err(error) => Err(self.failed("could not look up its container", begun, error)),
        }
    }

    fn foreign(&self, what: &str, name: &str) -> PgServerError {
        self.request.invalid(format!(
            "the engine has a {what} `{name}` that wharf did not create; set another `pgserver.name`, or remove that {what}"
        ))
    }
}

#[cfg(feature = "cli")]
pub(crate) async fn engine_version() -> Result<String, String> {
    let engine = Engine::connect().await?;
    let version = engine.ask(engine.docker().version()).await.map_err(|error| error.to_string())?;
    Ok(version.version.unwrap_or_default())
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

    async fn can_serve(&self) -> Result<Offer, String> {
        if self.request.temporary {
            return Err(
                "a temporary server must end with its process, and a container does not".to_owned()
            );
        }
        let name = self.request.name();
        if name.len() < 2 || !name.is_ascii() || !name.starts_with(|c: char| c.is_alphanumeric()) {
            return Err(format!(
                "Docker does not allow the name `{name}`; set `pgserver.name` to 2 or more ASCII letters \
                 or digits"
            ));
        }
        let image = image::wanted(&self.request)?;
        let engine = self.connect().await?;
        if let Some(reason) = self.password_reason(&engine) {
            return Err(reason);
        }
        match env_of(&engine, &image).await {
            Ok(env) => match image::objection(&self.request, &image, &env) {
                Some(reason) => Err(reason),
                None => Ok(Offer { what: format!("image {image}"), major: image::major_of(&env) }),
            },
            Err(CallError::NotFound) => {
                let wanted = self.request.wanted_version().map(|version| version.major());
                let major = wanted.or_else(|| image::major_in_tag(&image));
                Ok(Offer { what: format!("image {image}, which is pulled first"), major })
            }
            Err(error) => Err(format!("could not inspect {image}: {error}")),
        }
    }

    async fn data(&self) -> Result<Option<Data>, PgServerError> {
        let begun = Instant::now();
        // No engine is asked if none was ever used, because this machine may have none.
        if !self.remembered().exists() {
            return Ok(None);
        }
        let name = self.volume();
        let place = format!("volume {name}");
        let data = |major| Data { major, place: place.clone(), folder: place.clone().into() };
        match self.connect().await {
            Ok(engine) => {
                let failed = |error| self.failed("could not look up its volume", begun, error);
                let made_by = self.major_of(&engine, &name).await.map_err(failed)?;
                Ok(made_by.map(|major| data(Some(major).filter(|major| !major.is_empty()))))
            }
            // Without the engine, the data must be assumed to be there.
            Err(_) if self.has_served() => {
                let remembered = Remembered::read(&self.remembered());
                let version = remembered.get("version").and_then(Version::parse);
                Ok(Some(data(version.map(|version| version.major()))))
            }
            Err(_) => Ok(None),
        }
    }

    async fn prepare(&self) -> Result<(), PgServerError> {
        let engine = self.engine().await?;
        self.image(&engine, Instant::now()).await.map(|_| ())
    }

    fn password_file(&self) -> PathBuf {
        self.root().join("password")
    }

    async fn running(&self) -> Result<Option<Endpoint>, PgServerError> {
        // Who never started one here need not have an engine.
        let remembered = self.remembered();
        let known = blocking(move || Ok(remembered.exists())).await?;
        let Ok(engine) = (match known {
            true => self.connect().await,
            false => return Ok(None),
        }) else {
            return Ok(None);
        };
        let found = self.container(&engine).await?.filter(|container| container.running);
        let Some(port) = found.and_then(|container| container.port) else {
            return Ok(None);
        };
        let mut replica_ports = Vec::new();
        for number in self.wanted_standbys() {
            let standby = self.standby(&engine, number).await?;
            let running = standby.filter(|container| container.running);
            replica_ports.extend(running.and_then(|container| container.port));
        }
        let version = Remembered::read(&self.remembered());
        let version = version.get("version").unwrap_or_default();
        Ok(Some(self.endpoint(&engine, port, replica_ports, version)))
    }

    async fn start(&self) -> Result<Endpoint, PgServerError> {
        let begun = Instant::now();
        let engine = self.engine().await?;
        self.settle().await;
        let found = self.container(&engine).await?.filter(|container| container.running);
        let (port, is_new) = match found {
            Some(Container { port: Some(port), .. }) => (port, false),
            _ => (self.launch(&engine, begun).await?, true),
        };
        let mut endpoint = self.endpoint(&engine, port, Vec::new(), "");
        let ready = self.ready(&engine, self.request.name(), &endpoint, begun).await;
        endpoint.version = match is_new {
            true => self.authenticate(&engine, &endpoint, ready, begun).await?.version,
            false => ready?.version,
        };
        self.remember(|it| {
            it.set("port", port);
            it.set("version", &endpoint.version);
        })?;
        endpoint.replica_ports = self.follow_all(&engine, &endpoint, begun).await?;
        if self.is_starting() {
            self.remember(|it| it.set(STARTING, false))?;
        }
        Ok(endpoint)
    }

    async fn stop(&self) -> Result<(), PgServerError> {
        let begun = Instant::now();
        if !self.remembered().exists() {
            return Ok(());
        }
        // Where there is no engine there is nothing to stop, unless DOCKER_HOST or the context has changed; and
        // what else runs this server is still to be stopped.
        let engine = match self.connect().await {
            Ok(engine) => engine,
            Err(reason) => {
                let server = self.request.name();
                tracing::warn!("pgserver `{server}`: could not look up its container: {reason}");
                return Ok(());
            }
        };
        let failed = |error| self.failed("its container did not stop", begun, error);
        for number in self.known_standbys() {
            if self.standby(&engine, number).await?.is_some_and(|container| container.running) {
                Container::stop(&engine, &self.standby_name(number)).await.map_err(failed)?;
            }
        }
        let Some(Container { running: true, port: Some(port), .. }) =
            self.container(&engine).await?
        else {
            return Ok(());
        };
        if !self.has_served() {
            // Stopped while it initialises its volume, it would leave half of its data there.
            let endpoint = self.endpoint(&engine, port, Vec::new(), "");
            let _ = self.ready(&engine, self.request.name(), &endpoint, begun).await;
        }
        Container::stop(&engine, self.request.name()).await.map_err(failed)
    }

    async fn differences(&self) -> Result<Vec<Difference>, PgServerError> {
        if !self.remembered().exists() {
            return Ok(Vec::new());
        }
        let Ok(engine) = self.connect().await else {
            return Ok(Vec::new());
        };
        let Some(mut container) = self.container(&engine).await?.filter(|it| it.running) else {
            return Ok(Vec::new());
        };
        let conf = settings::read(&engine, self.request.name()).await;
        container.settings.extend(conf.map_err(|error| {
            self.failed("could not read its container's settings", Instant::now(), error)
        })?);
        let wanted = self.wanted(&engine, &image::wanted(&self.request).unwrap_or_default());
        if !wanted.contains_key("port") {
            container.settings.remove("port");
        }
        let mut differences = Difference::between(&container.settings, &wanted);
        for number in self.wanted_standbys() {
            if let Some(fixed) = self.request.config.replica.fixed_port(number - 1)
                && let Some(Container { running: true, port: Some(port), .. }) =
                    self.standby(&engine, number).await?
                && port != fixed
            {
                differences.push(Difference {
                    setting: "replica.port".to_owned(),
                    running: Some(port.to_string()),
                    wanted: Some(fixed.to_string()),
                });
            }
        }
        Ok(differences)
    }

    async fn holdings(&self) -> Result<Vec<String>, PgServerError> {
        self.inventory_shown().await
    }

    async fn remove(&self) -> Result<(), PgServerError> {
        self.remove_inventory().await?;
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
        let what = format!("could not run {} in its container", program.name());
        let running = engine.run_tethered(self.request.name(), program, env).await;
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
            None => {
                Err(self.request.invalid("it has no container and therefore no log".to_owned()))
            }
        }
    }
}
