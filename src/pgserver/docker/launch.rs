//! A container from nothing to the first login.

use std::fs;
use std::future::ready;
use std::io;
use std::net::TcpListener;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use secrecy::ExposeSecret as _;

use super::container::{Container, Recipe, TRUST};
use super::engine::{CallError, Engine};
use super::{Docker, ENGINE, FILE, LABEL, STARTING, env_of, image, log, settings};
use crate::pgserver::error::PgServerError;
use crate::pgserver::folder::Remembered;
use crate::pgserver::login::{Greeting, LoginError};
use crate::pgserver::password;
use crate::pgserver::program::Chunk;
use crate::pgserver::server::Endpoint;

/// Where a container finds the password.
const PASSWORD_FILE: &str = "/run/wharf-password";

/// How often the log says that a start still goes on.
const PROGRESS: Duration = Duration::from_secs(5);
const LOG_LINES: usize = 20;
/// How often a container may end, and be started again by the engine, before it is given up.
const RESTARTS: i64 = 3;

/// The ports that no service has by its number.
const UNASSIGNED: RangeInclusive<u16> = 49152..=65535;

impl Docker {
    /// The image, pulled if it is not there, and its environment.
    pub(super) async fn image(
        &self,
        engine: &Engine,
        begun: Instant,
    ) -> Result<(String, Vec<String>), PgServerError> {
        let image = image::wanted(&self.request).map_err(|reason| self.request.invalid(reason))?;
        let mut env = env_of(engine, &image).await;
        if let Err(CallError::NotFound) = env {
            engine.pull(&image).await.map_err(|reason| {
                let remedy =
                    "check the network and the image's name, or load the image (`docker load`)";
                self.failed(
                    &format!("could not pull {image}"),
                    begun,
                    format!("{reason}; {remedy}"),
                )
            })?;
            env = env_of(engine, &image).await;
        }
        let env =
            env.map_err(|error| self.failed(&format!("could not inspect {image}"), begun, error))?;
        match image::objection(&self.request, &image, &env) {
            Some(reason) => Err(self.request.invalid(reason)),
            None => Ok((image, env)),
        }
    }

    /// Makes a container and starts it; where it is to listen.
    pub(super) async fn launch(
        &self,
        engine: &Engine,
        begun: Instant,
    ) -> Result<u16, PgServerError> {
        let (image, env) = self.image(engine, begun).await?;
        let (name, root) = (self.request.name(), self.root());
        fs::create_dir_all(&root).map_err(self.folder.io("make the folder", &root))?;
        let secret = password::of_or_new(&self.request, &root.join("password"), |_| Ok(()))
            .map_err(self.folder.io("keep a password in", &root))?;
        self.remember(|it| {
            it.set(STARTING, true);
            it.set(ENGINE, engine.url());
        })?;
        let removed = Container::remove(engine, name).await;
        removed.map_err(|error| self.failed("could not remove its old container", begun, error))?;
        self.volume_for(engine, &self.volume(), &env, begun).await?;
        let shm = self.shared_memory(engine, name).await;
        let shm =
            shm.map_err(|error| self.failed("could not create its shared memory", begun, error))?;
        let (volume, file) = (self.volume(), self.file());
        let recipe = Recipe {
            name,
            image: &image,
            entrypoint: None,
            user: None,
            conf: settings::text(&self.settings(), image::data_folder(&env)),
            env: vec![
                format!("POSTGRES_USER={}", self.request.config.user),
                image::initdb_args(&env),
                match secret {
                    Some(_) => format!("POSTGRES_PASSWORD_FILE={PASSWORD_FILE}"),
                    None => TRUST.to_owned(),
                },
            ],
            labels: vec![(LABEL, name), (FILE, &file)],
            volume: (&volume, image::data_mount(&env)),
            shm,
            network: None,
            host: self.listen_host(engine),
            secret: secret.as_ref().map(|it| (PASSWORD_FILE, it.expose_secret().to_owned())),
        };
        self.start_one(engine, &recipe, "port", self.request.fixed_port(), begun).await
    }

    /// Makes a container and starts it: at the port that the file fixes, at the one that is remembered
    /// as `key`, or at one that is free.
    pub(super) async fn start_one(
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
            let port = match self.choose_port(engine, fixed, last) {
                Err(PgServerError::PortTaken { port, by, .. }) => {
                    return Err(self.port_taken(engine, port, by).await);
                }
                chosen => chosen?,
            };
            remembered.set(key, port);
            // Before it is there: whoever looks for it has to ask the engine.
            remembered.write(&state).map_err(self.folder.io("write", &state))?;
            let made = recipe.make(engine, port).await;
            made.map_err(|error| self.failed("could not create its container", begun, error))?;
            let Err(error) = Container::start(engine, name).await else {
                return Ok(port);
            };
            let removed = Container::remove(engine, name).await;
            removed.map_err(|error| self.failed("could not remove its container", begun, error))?;
            let said = error.to_string();
            let taken = ["port is already allocated", "address already in use"];
            if !taken.iter().any(|taken| said.contains(taken)) {
                let remedy = match said.contains("cannot assign requested address") {
                    true => "; set `host` to an address of the engine's machine",
                    false => "",
                };
                let reason = format!("{said}{remedy}");
                return Err(self.failed("its container did not start", begun, reason));
            }
            if fixed.is_some() {
                return Err(self.port_taken(engine, port, None).await);
            }
            last = None;
        }
    }

    /// Returns the port to publish. Whether it is free is seen here only if the engine is of this machine, and `host`
    /// an address of it: behind a forwarded socket the engine is not. Elsewhere the engine says so.
    fn choose_port(
        &self,
        engine: &Engine,
        fixed: Option<u16>,
        last: Option<u16>,
    ) -> Result<u16, PgServerError> {
        let is_here = || match TcpListener::bind((self.listen_host(engine), 0)) {
            Err(error) => error.kind() != io::ErrorKind::AddrNotAvailable,
            Ok(_) => true,
        };
        match engine.remote_host().is_none() && is_here() {
            true => self.folder.choose_port(&self.request, fixed, last),
            false => Ok(fixed.or(last).unwrap_or_else(|| fastrand::u16(UNASSIGNED))),
        }
    }

    async fn port_taken(&self, engine: &Engine, port: u16, by: Option<String>) -> PgServerError {
        // What listens for a container is a program of the engine's, whose name says little.
        let by = Container::publishing(engine, port).await.or(by);
        self.request.port_taken(port, by)
    }

    /// Waits until somebody can log in.
    pub(super) async fn ready(
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
            // One that has crashed may be recovering; one that ends again and again does not come up.
            let alive =
                container.is_some_and(|it| (it.running || it.restarting) && it.restarts < RESTARTS);
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
                        "; the disk is full; free space (`docker system df` shows what uses it)"
                            .to_owned()
                    }
                    false => self.doubt(),
                };
                let reason = format!("{reason}{remedy}; the end of its log:\n{log}");
                return Err(self.failed(&what, begun, reason));
            }
            tracing::info!(
                "pgserver `{}`: container `{name}` has been starting for {:.0?}",
                self.request.name(),
                begun.elapsed()
            );
        }
    }

    /// What may be wrong with data that nobody has logged in to yet, as far as is known here.
    fn doubt(&self) -> String {
        if self.has_served() {
            return String::new();
        }
        let (name, volume) = (self.request.name(), self.volume());
        format!(
            "; the first start may have been interrupted, leaving the volume incomplete; to start over and delete its data, run `docker rm -f {name} && docker volume rm {volume}`"
        )
    }

    pub(super) fn has_served(&self) -> bool {
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
}
