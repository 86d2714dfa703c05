//! A server run by this machine's PostgreSQL programs.

mod account;
mod cluster;
mod failover;
mod log;
mod postmaster;
mod process;
mod programs;
mod standby;
mod upstream;

use std::fs;
use std::io::{self, ErrorKind, Read as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;

pub(crate) use self::account::Account;
use self::cluster::Cluster;
use self::postmaster::Postmaster;
use self::programs::Installation;
use self::upstream::Upstream;
use super::difference::Difference;
use super::error::PgServerError;
use super::folder::{Folder, Remembered};
use super::launcher::{Data, Launcher, Offer};
use super::login::{Greeting, LoginError};
use super::password;
use super::program::{Chunk, Program, Running};
use super::request::Request;
use super::server::{Endpoint, blocking};
use super::version::Version;
use crate::config::Runtime;
use crate::files;

/// Sessions of a killed server notice its end within moments; until then it cannot start.
const ORPHANS: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_millis(100);
const LOG_LINES: usize = 12;

/// The way `native`.
#[derive(Clone, Debug)]
pub(crate) struct Native {
    request: Arc<Request>,
    folder: Folder,
    cluster: Cluster,
}

#[cfg(feature = "cli")]
pub(crate) fn installed() -> Vec<String> {
    Installation::all().iter().map(Installation::to_string).collect()
}

#[cfg(feature = "cli")]
pub(crate) fn majors() -> Vec<String> {
    Installation::all().iter().map(|installation| installation.version.major()).collect()
}

/// What a start settled before the login.
struct Started {
    installation: Installation,
    account: Account,
    endpoint: Endpoint,
}

impl Native {
    pub(crate) fn new(request: Arc<Request>, folder: Folder) -> Native {
        let cluster = Cluster::primary(folder.join("native"));
        Native { request, folder, cluster }
    }

    fn endpoint(&self, port: u16, version: &str) -> Endpoint {
        Endpoint {
            host: self.request.connect_host().to_owned(),
            port,
            replica_ports: Vec::new(),
            user: self.request.config.user.clone(),
            password: password::of(&self.request, &self.cluster.password_file()),
            runtime: Runtime::Native,
            version: version.to_owned(),
            single_connection: false,
        }
    }

    fn failed(&self, what: &str, begun: Instant, reason: impl ToString) -> PgServerError {
        self.request.failed(what, begun, reason)
    }

    /// What runs, by its files.
    fn look(&self) -> Option<Endpoint> {
        let port = Postmaster::of(&self.cluster.data())?.port?;
        let remembered = Remembered::read(&self.cluster.remembered());
        let version = remembered.get("version").map(str::to_owned);
        let version = version.or_else(|| self.cluster.data_version());
        let mut endpoint = self.endpoint(port, &version.unwrap_or_default());
        let standbys = self.cluster.standbys(self.request.config.replica.wanted()).into_iter();
        let running = standbys.filter_map(|node| Postmaster::of(&self.cluster.at(node).data()));
        endpoint.replica_ports = running.filter_map(|standby| standby.port).collect();
        Some(endpoint)
    }

    /// The same server, seen from another of its data folders.
    fn at(&self, node: u32) -> Native {
        Native { cluster: self.cluster.at(node), ..self.clone() }
    }

    /// The running server, if there is one and it is this one.
    async fn find(&self, begun: Instant) -> Result<Option<Endpoint>, PgServerError> {
        let this = self.clone();
        let Some(mut endpoint) = blocking(move || Ok(this.look())).await? else {
            return Ok(None);
        };
        let login = endpoint.login();
        match login.until(self.request.deadline).await {
            Ok(greeting) if self.is_ours(&greeting) => endpoint.version = greeting.version,
            // Its process died and both its number and its port went to other servers.
            Ok(_) => return Ok(None),
            Err(LoginError::NotReady(reason)) => {
                return Err(self.failed("it runs, but accepted no login", begun, reason));
            }
            Err(refused) => return Err(login.error(self.request.name(), &refused)),
        }
        if let (Some(have), Some(wanted)) =
            (Version::parse(&endpoint.version), self.request.wanted_version())
            && have.major() != wanted.major()
        {
            return Err(self.other_version(have.major(), format!("the file requests {wanted}")));
        }
        Ok(Some(endpoint))
    }

    fn is_ours(&self, greeting: &Greeting) -> bool {
        let real = |path: PathBuf| fs::canonicalize(&path).unwrap_or(path);
        real(PathBuf::from(&greeting.data_directory)) == real(self.cluster.data())
    }

    /// Everything up to a started postmaster. Blocks.
    fn launch(&self) -> Result<Started, PgServerError> {
        let begun = Instant::now();
        let account = Account::find().map_err(|reason| self.request.invalid(reason))?;
        let installation = self.choose_installation()?;
        let root = self.cluster.root();
        self.cluster.make(account).map_err(self.folder.io("make the folder", root))?;
        let password = self.cluster.password_or_new(account, &self.request);
        let password = password.map_err(self.folder.io("keep a password in", root))?;
        if self.cluster.data_version().is_none() {
            self.cluster
                .initialise(&installation, account, &self.request, password.as_ref())
                .map_err(|error| {
                    let what = format!("initdb ({installation}) failed");
                    self.failed(&what, begun, self.hint(error))
                })?;
        }
        let port = self.start_at_a_port(&installation, account, None, begun)?;
        self.remember(|it| it.set("version", &installation.version))?;
        Ok(Started {
            endpoint: self.endpoint(port, &installation.version.to_string()),
            installation,
            account,
        })
    }

    fn remember(&self, what: impl FnOnce(&mut Remembered)) -> Result<(), PgServerError> {
        let state = self.cluster.remembered();
        let mut remembered = Remembered::read(&state);
        what(&mut remembered);
        remembered.write(&state).map_err(self.folder.io("write", &state))
    }

    /// Starts this node at the port that the file fixes, at that of last time, or at one that is free. Blocks.
    fn start_at_a_port(
        &self,
        installation: &Installation,
        account: Account,
        upstream: Option<&Upstream>,
        begun: Instant,
    ) -> Result<u16, PgServerError> {
        let (key, fixed) = (self.cluster.port_key(), self.cluster.fixed_port(&self.request));
        let remembered = Remembered::read(&self.cluster.remembered());
        let mut last = remembered.get(&key).and_then(|port| port.parse().ok());
        let port = loop {
            let port = self.folder.choose_port(&self.request, fixed, last)?;
            match self.start_postmaster(installation, account, port, upstream, begun) {
                // Somebody took the port between the look and the start.
                Err(PgServerError::PortTaken { .. }) if fixed.is_none() => last = None,
                outcome => break outcome.map(|()| port)?,
            }
        };
        self.remember(|it| it.set(&key, port))?;
        Ok(port)
    }

    fn start_postmaster(
        &self,
        installation: &Installation,
        account: Account,
        port: u16,
        upstream: Option<&Upstream>,
        begun: Instant,
    ) -> Result<(), PgServerError> {
        let data = self.cluster.data();
        let configured = self.cluster.configure(account, &self.request, port, upstream);
        configured.map_err(self.folder.io("write the settings in", &data))?;
        if Postmaster::of(&data).is_none() {
            // PostgreSQL itself would take any process with the killed one's number for it.
            // Sessions that outlive a killed server are still found by their shared memory.
            let swept = self.cluster.sweep_locks();
            swept.map_err(self.folder.io("remove stale locks in", &data))?;
        }
        loop {
            let written = fs::metadata(self.cluster.log()).map_or(0, |log| log.len());
            let mut pg_ctl = account.command(&installation.program("pg_ctl"));
            pg_ctl.args(["start", "-w", "-s", "-D"]).arg(&data).arg("-l").arg(self.cluster.log());
            pg_ctl.args(["-t", &self.request.deadline.as_secs().max(1).to_string()]);
            let Err(error) = pg_ctl.output().and_then(cluster::succeeded) else {
                return Ok(());
            };
            let log = self.log_since(written);
            if log.contains("pre-existing shared memory block") && begun.elapsed() < ORPHANS {
                std::thread::sleep(INTERVAL);
                continue;
            }
            if log.contains("Address already in use") {
                return Err(self.folder.bind_error(
                    &self.request,
                    port,
                    ErrorKind::AddrInUse.into(),
                ));
            }
            let reason = match log.is_empty() {
                true => error.to_string(),
                false => format!("the end of {}:\n{log}", self.cluster.log().display()),
            };
            return Err(self.failed("PostgreSQL did not start", begun, reason));
        }
    }

    /// Stops this node; fine if it is stopped. Blocks.
    fn stop_node(&self) -> Result<(), PgServerError> {
        let begun = Instant::now();
        let data = self.cluster.data();
        let Some(postmaster) = Postmaster::of(&data) else {
            return Ok(());
        };
        if postmaster.stop(&data) {
            return Ok(());
        }
        let reason = format!(
            "process {} still runs; see {}, and end it yourself",
            postmaster.pid,
            self.cluster.log().display()
        );
        Err(self.failed("it did not stop", begun, reason))
    }

    fn other_version(&self, data: String, wanted: String) -> PgServerError {
        PgServerError::DataVersion {
            server: self.request.name().to_owned(),
            data,
            wanted,
            folder: self.cluster.data(),
        }
    }

    /// The newest that fits, of the major version that made the data if there is data.
    fn choose_installation(&self) -> Result<Installation, PgServerError> {
        let data = self.cluster.data_version();
        if let (Some(data), Some(wanted)) = (&data, self.request.wanted_version())
            && wanted.major() != *data
        {
            return Err(self.other_version(data.clone(), format!("the file requests {wanted}")));
        }
        let fitting = Installation::fitting(&self.request);
        let mut fitting = fitting.map_err(|reason| self.request.invalid(reason))?.into_iter();
        let Some(data) = data else {
            return fitting.next().ok_or_else(|| self.request.invalid(String::new()));
        };
        let installed: Vec<String> = fitting.clone().map(|one| one.version.to_string()).collect();
        fitting.find(|one| one.version.major() == data).ok_or_else(|| {
            self.other_version(data, format!("the installed version is {}", installed.join(", ")))
        })
    }

    /// A password that the file changed takes effect with the next start.
    async fn change_password(&self, started: &Started) -> Result<(), PgServerError> {
        let begun = Instant::now();
        let Some(password) = started.endpoint.password.clone() else {
            return Ok(());
        };
        tracing::info!(
            "pgserver `{}`: changing the password of user `{}` to the file's",
            self.request.name(),
            self.request.config.user,
        );
        let this = self.clone();
        blocking(move || this.stop_node()).await?;
        let this = self.clone();
        let (installation, account) = (started.installation.clone(), started.account);
        let port = started.endpoint.port;
        blocking(move || {
            let user = &this.request.config.user;
            this.cluster
                .change_password(&installation, account, user, &password)
                .map_err(|error| this.failed("could not change the password", begun, error))?;
            this.start_postmaster(&installation, account, port, None, begun)
        })
        .await
    }

    fn log_since(&self, written: u64) -> String {
        let mut log = Vec::new();
        if let Ok(mut file) = files::open(&self.cluster.log()) {
            // What was read until then is shown.
            let _ = file.read_to_end(&mut log);
        }
        let new = log.get(usize::try_from(written).unwrap_or(0)..).unwrap_or_default();
        let text = String::from_utf8_lossy(new);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    fn hint(&self, error: io::Error) -> String {
        let said = error.to_string();
        match said.contains("Permission denied") {
            true => format!(
                "{said}; the user that runs PostgreSQL must be able to reach {}",
                self.cluster.root().display()
            ),
            false => said,
        }
    }
}

#[async_trait]
impl Launcher for Native {
    fn runtime(&self) -> Runtime {
        Runtime::Native
    }

    async fn can_serve(&self) -> Result<Offer, String> {
        let (request, made_by) = (self.request.clone(), self.cluster.data_version());
        let looked = tokio::task::spawn_blocking(move || {
            Account::find()?;
            let fitting = Installation::fitting(&request)?;
            // Only the major version that created the data can use it.
            let same = fitting.iter().find(|one| Some(one.version.major()) == made_by);
            let taken = same.or(fitting.first());
            Ok(Offer {
                what: taken.map(Installation::to_string).unwrap_or_default(),
                major: taken.map(|one| one.version.major()),
            })
        });
        looked.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    async fn data(&self) -> Result<Option<Data>, PgServerError> {
        let folder = self.cluster.data();
        let place = format!("folder {}", folder.display());
        let major = self.cluster.data_version();
        Ok(major.map(|major| Data { major: Some(major), place, folder }))
    }

    fn password_file(&self) -> PathBuf {
        self.cluster.password_file()
    }

    async fn running(&self) -> Result<Option<Endpoint>, PgServerError> {
        let this = self.clone();
        blocking(move || Ok(this.look())).await
    }

    async fn start(&self) -> Result<Endpoint, PgServerError> {
        let begun = Instant::now();
        if let Some(endpoint) = self.find(begun).await? {
            return self.with_standbys(endpoint, begun).await;
        }
        let this = self.clone();
        let mut started = blocking(move || this.launch()).await?;
        let mut outcome = started.endpoint.login().until(self.request.deadline).await;
        if outcome.as_ref().is_err_and(LoginError::is_wrong_password) {
            self.change_password(&started).await?;
            outcome = started.endpoint.login().until(self.request.deadline).await;
        }
        match outcome {
            Ok(greeting) => {
                started.endpoint.version = greeting.version;
                self.with_standbys(started.endpoint, begun).await
            }
            Err(LoginError::NotReady(reason)) => {
                let log = self.log_since(0);
                let reason = format!("{reason}; the end of its log:\n{log}");
                Err(self.failed("no login succeeded", begun, reason))
            }
            Err(refused) => {
                let login = started.endpoint.login();
                Err(login.error(self.request.name(), &refused))
            }
        }
    }

    async fn stop(&self) -> Result<(), PgServerError> {
        let this = self.clone();
        blocking(move || {
            let primary = this.cluster.node();
            let standbys = this.cluster.nodes().into_iter().map(|node| node.node());
            standbys
                .filter(|node| *node != primary)
                .try_for_each(|node| this.at(node).stop_node())?;
            this.stop_node()
        })
        .await
    }

    async fn failover(&self, may_lose: bool) -> Result<Option<Endpoint>, PgServerError> {
        self.fail_over(may_lose).await.map(Some)
    }

    async fn differences(&self) -> Result<Vec<Difference>, PgServerError> {
        let this = self.clone();
        blocking(move || {
            let Some(at) = this.look() else { return Ok(Vec::new()) };
            let mut differences = this.cluster.differences(&this.request, at.port);
            differences.extend(this.standby_differences());
            Ok(differences)
        })
        .await
    }

    async fn holdings(&self) -> Result<Vec<String>, PgServerError> {
        let root = self.cluster.root();
        let there = root.exists().then(|| format!("folder {}, with its data", root.display()));
        Ok(there.into_iter().collect())
    }

    async fn remove(&self) -> Result<(), PgServerError> {
        self.stop().await?;
        let this = self.clone();
        blocking(move || {
            let root = this.cluster.root();
            match fs::remove_dir_all(root) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    Err(this.folder.io("remove", root)(error))
                }
                _ => Ok(()),
            }
        })
        .await
    }

    async fn spawn(&self, program: Program) -> Result<Running, PgServerError> {
        let begun = Instant::now();
        let this = self.clone();
        let found = blocking(move || {
            let endpoint = this.look().ok_or_else(|| this.request.not_running())?;
            let installed = Installation::all();
            let major = this.cluster.data_version().unwrap_or_default();
            let fits = installed.into_iter().find(|one| one.version.major() == major);
            Ok((endpoint, fits))
        });
        let (endpoint, installation) = found.await?;
        let name = program.name().to_owned();
        // PostgreSQL's programs are rarely on PATH, and of another version if they are.
        let path = installation.map(|it| it.program(&name)).filter(|path| path.is_file());
        let running = process::run(path, program, &endpoint);
        running.map_err(|error| self.failed(&format!("could not run {name}"), begun, error))
    }

    async fn log(
        &self,
        lines: usize,
        follow: bool,
    ) -> Result<BoxStream<'static, io::Result<Chunk>>, PgServerError> {
        let path = self.cluster.log();
        // Not through a link, which the server's user may have put there for root to read.
        let opened = files::open(&path).map(tokio::fs::File::from_std);
        let file = opened.map_err(self.folder.io("read its log", &path))?;
        Ok(log::read(file, lines, follow).boxed())
    }
}
