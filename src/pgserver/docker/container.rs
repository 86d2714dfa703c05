//! One container: how it is made, and what one that is there was made from.

use std::collections::{BTreeMap, HashMap};

use docker_api::models::ContainerInspect200Response as Inspected;
use docker_api::opts::{
    ContainerCreateOpts, ContainerRemoveOpts, ContainerStopOpts, HostPort, PublishPort,
};

use super::engine::{CallError, Engine};
use super::volume::SharedMemory;
use super::{LABEL, SHM, STOP, files, settings};

/// The port that PostgreSQL listens on inside.
const INSIDE: u32 = 5432;

/// The environment of a container whose server asks for no password.
pub(super) const TRUST: &str = "POSTGRES_HOST_AUTH_METHOD=trust";
/// What of `pass` is compared, which is not the password.
pub(super) const PASS: &str = "a password";
pub(super) const NO_PASS: &str = "none";

/// A container as the engine knows it.
pub(super) struct Container {
    pub(super) running: bool,
    /// It has ended, and the engine is about to start it again.
    pub(super) restarting: bool,
    /// How often it has ended and the engine has started it again.
    pub(super) restarts: i64,
    /// Where it can be reached on this machine.
    pub(super) port: Option<u16>,
    pub(super) settings: BTreeMap<String, String>,
    pub(super) labels: HashMap<String, String>,
}

/// What a container is made from.
pub(super) struct Recipe<'a> {
    pub(super) name: &'a str,
    pub(super) image: &'a str,
    /// In place of the image's own.
    pub(super) entrypoint: Option<Vec<String>>,
    /// In place of the image's own.
    pub(super) user: Option<&'a str>,
    /// The text of PostgreSQL's settings.
    pub(super) conf: String,
    pub(super) env: Vec<String>,
    pub(super) labels: Vec<(&'a str, &'a str)>,
    /// A volume, and where it is put.
    pub(super) volume: (&'a str, &'a str),
    pub(super) shm: Option<SharedMemory>,
    pub(super) network: Option<&'a str>,
    /// The address of this machine at which it is published.
    pub(super) host: &'a str,
    /// A file that is put into it, because its environment is there for everybody to see.
    pub(super) secret: Option<(&'a str, String)>,
}

impl Container {
    /// The one of this name, if it is there.
    pub(super) async fn of(engine: &Engine, name: &str) -> Result<Option<Container>, CallError> {
        let container = engine.docker().containers().get(name);
        match engine.ask(container.inspect()).await {
            Ok(inspected) => Ok(Some(Container::read(&inspected))),
            Err(CallError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn read(inspected: &Inspected) -> Container {
        let state = inspected.state.as_ref();
        let config = inspected.config.as_ref();
        Container {
            running: state.and_then(|state| state.running).unwrap_or(false),
            restarting: state.and_then(|state| state.restarting).unwrap_or(false),
            restarts: inspected.restart_count.unwrap_or(0) as i64,
            port: published(inspected),
            settings: settings(inspected),
            labels: config.and_then(|config| config.labels.clone()).unwrap_or_default(),
        }
    }

    pub(super) fn is_of(&self, server: &str) -> bool {
        self.labels.get(LABEL).is_some_and(|label| label == server)
    }

    pub(super) async fn start(engine: &Engine, name: &str) -> Result<(), CallError> {
        let container = engine.docker().containers().get(name);
        engine.make_so(container.start()).await
    }

    /// Has PostgreSQL end its sessions and write everything, for which it has [`STOP`].
    pub(super) async fn stop(engine: &Engine, name: &str) -> Result<(), CallError> {
        let container = engine.docker().containers().get(name);
        let opts = ContainerStopOpts::builder().wait(STOP).build();
        engine.make_so(container.stop(&opts)).await
    }

    pub(super) async fn remove(engine: &Engine, name: &str) -> Result<(), CallError> {
        let container = engine.docker().containers().get(name);
        let opts = ContainerRemoveOpts::builder().force(true).build();
        match engine.ask(container.remove(&opts)).await {
            Ok(_) | Err(CallError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What publishes a port of this machine, if a container does.
    pub(super) async fn publishing(engine: &Engine, port: u16) -> Option<String> {
        let containers = engine.docker().containers();
        let running = engine.ask(containers.list(&Default::default())).await.ok()?;
        let publishes = running.into_iter().find(|container| {
            let mut ports = container.ports.iter().flatten();
            ports.any(|published| published.public_port == Some(port))
        })?;
        let name = publishes.names?.into_iter().next()?;
        Some(format!("container `{}`", name.trim_start_matches('/')))
    }
}

impl Recipe<'_> {
    /// Makes a container, to be reached at a port, that is not started yet.
    pub(super) async fn make(&self, engine: &Engine, port: u16) -> Result<(), CallError> {
        let config_file = format!("config_file={}", settings::PATH);
        let command = ["postgres", "-c", &config_file];
        let (volume, mount) = self.volume;
        let mut volumes = vec![format!("{volume}:{mount}")];
        let mut labels = self.labels.clone();
        if let Some(shm) = &self.shm {
            volumes.push(format!("{}:/dev/shm", shm.volume));
            labels.push((SHM, &shm.size));
        }
        let mut opts = ContainerCreateOpts::builder()
            .name(self.name)
            .image(self.image)
            .command(command)
            .env(&self.env)
            .labels(labels)
            .volumes(volumes)
            .expose(
                PublishPort::tcp(INSIDE),
                HostPort::with_ip(u32::from(port), self.host.to_owned()),
            )
            .restart_policy("unless-stopped", 0);
        if let Some(entrypoint) = &self.entrypoint {
            opts = opts.entrypoint(entrypoint);
        }
        if let Some(user) = self.user {
            opts = opts.user(user);
        }
        if let Some(network) = self.network {
            opts = opts.network_mode(network);
        }
        let made = engine.docker().containers();
        engine.ask(made.create(&opts.build())).await?;
        let mut given = vec![(settings::PATH, self.conf.clone())];
        given.extend(self.secret.clone());
        files::put(engine, self.name, &given).await
    }
}

fn published(inspected: &Inspected) -> Option<u16> {
    let ports = inspected.network_settings.as_ref()?.ports.as_ref()?;
    let binding = ports.get(&format!("{INSIDE}/tcp"))?.as_ref()?.first()?;
    binding.host_port.as_ref()?.parse().ok()
}

/// What it was made from, by the names of the file.
fn settings(inspected: &Inspected) -> BTreeMap<String, String> {
    let mut settings = BTreeMap::new();
    let mut set = |name: &str, value: Option<&str>| {
        let value = value.unwrap_or_default().to_owned();
        settings.insert(name.to_owned(), value);
    };
    if let Some(config) = &inspected.config {
        set("image", config.image.as_deref());
        let user = config.env.iter().flatten().find_map(|line| line.strip_prefix("POSTGRES_USER="));
        set("user", user);
        let trusts = |env: &[String]| env.iter().any(|it| it == TRUST);
        let pass = if config.env.as_deref().is_some_and(trusts) { NO_PASS } else { PASS };
        set("pass", Some(pass));
        let command = config.cmd.as_deref().unwrap_or_default();
        if let Some(size) = config.labels.as_ref().and_then(|labels| labels.get(SHM)) {
            set("shm_size", Some(size));
        }
        // One of an earlier version of wharf has its settings here.
        for pair in command.windows(2).filter(|pair| pair[0] == "-c") {
            if let Some((name, value)) = pair[1].split_once('=')
                && name != "config_file"
            {
                set(name, Some(value));
            }
        }
    }
    let host = inspected.host_config.as_ref();
    let binding =
        host.and_then(|host| host.get("PortBindings")?.get(format!("{INSIDE}/tcp"))?.get(0));
    if let Some(binding) = binding {
        set("host", binding.get("HostIp").and_then(|host| host.as_str()));
        set("port", binding.get("HostPort").and_then(|port| port.as_str()));
    }
    settings
}
