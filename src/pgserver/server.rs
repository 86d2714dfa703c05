//! The server for development, whatever runs it.

use std::hash::{BuildHasher as _, Hasher as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::BoxStream;
use secrecy::SecretString;

use super::choice::For;
use super::collation;
use super::difference::Difference;
use super::error::PgServerError;
use super::folder::{Folder, Lock};
use super::launcher::Launcher;
use super::login::{Login, LoginError};
use super::logs;
use super::owner;
use super::program::{Program, Running};
use super::request::Request;
use super::temporary::Temporary;
use crate::config::{PgServerConfig, Runtime};
use crate::endpoint::{self, EndpointFile};

/// How long a server that runs may take to answer when only asked for its status.
const STATUS_DEADLINE: Duration = Duration::from_secs(5);

/// A server for development, as the file describes it. Cheap to clone; all clones are one server,
/// and so are all values with the same name and data folder, in any process of this user.
///
/// Making one costs nothing and starts nothing. The server outlives the process that started it
/// until [`stop`](PgServer::stop) — but for the embedded engine, which ends with its process, and
/// for [`temporary`](PgServer::temporary) ones.
#[derive(Clone, Debug)]
pub struct PgServer {
    pub(super) request: Arc<Request>,
    temporary: Option<Arc<Temporary>>,
}

/// Where a server listens, and how to log in as its superuser.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Endpoint {
    /// Host to connect to.
    pub host: String,
    /// Port to connect to.
    pub port: u16,
    /// Ports of its standbys that run, at the same host.
    pub replica_ports: Vec<u16>,
    /// The superuser.
    pub user: String,
    /// Its password; `None` where the server asks for none.
    pub password: Option<SecretString>,
    /// What runs the server; never `Auto`.
    pub runtime: Runtime,
    /// PostgreSQL's version in full, `17.5`.
    pub version: String,
    /// Whether it serves one connection in all, as the embedded engine does.
    pub single_connection: bool,
}

/// What a server is doing.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Status {
    /// It serves there.
    Running(Endpoint),
    /// It runs, and nobody can log in yet, or any more: it starts, recovers, or shuts down.
    Starting {
        /// Where it will serve.
        at: Endpoint,
        /// What it said, or what the connection met.
        reason: String,
    },
    /// It does not run.
    Stopped,
}

impl PgServer {
    /// The server that the file describes. `extensions` are those that the file's databases ask
    /// for: what runs the server must have them.
    pub fn new(config: PgServerConfig, extensions: impl IntoIterator<Item = String>) -> PgServer {
        PgServer { request: Arc::new(Request::new(config, extensions)), temporary: None }
    }

    /// A server for a test run: new data in the system's folder for temporary files, nothing
    /// waits for the disk (`fsync`, `full_page_writes` and `synchronous_commit` are off unless
    /// `config` sets them), and it belongs to this process. It stops and its folder is removed on
    /// [`stop`](PgServer::stop), when the last clone is dropped, or when the process ends in any
    /// way, SIGKILL included.
    ///
    /// A start costs what a first start costs: 1–2 s native, 0.5 s embedded.
    pub fn temporary(
        config: PgServerConfig,
        extensions: impl IntoIterator<Item = String>,
    ) -> PgServer {
        let random = std::hash::RandomState::new().build_hasher().finish();
        let folder = format!("wharf-pgserver-{}-{random:016x}", std::process::id());
        let base = std::env::temp_dir().join(folder);
        let mut request = Request::new(config, extensions);
        request.base = Some(base.clone());
        request.temporary = true;
        PgServer { temporary: Some(Arc::new(Temporary::new(base))), request: Arc::new(request) }
    }

    /// Keeps the data below `dir` instead of the user's data folder (`<dir>/<name>`). Without
    /// effect on a temporary server.
    pub fn data_dir(mut self, dir: impl Into<PathBuf>) -> PgServer {
        if self.temporary.is_none() {
            Arc::make_mut(&mut self.request).base = Some(dir.into());
        }
        self
    }

    /// How long [`start`](PgServer::start) tries to log in to the server. Default 60 s.
    pub fn deadline(mut self, deadline: Duration) -> PgServer {
        Arc::make_mut(&mut self.request).deadline = deadline;
        self
    }

    /// Finds the running server, or starts it; it is there when a login as its superuser has
    /// succeeded. Of two starts at once, in this process or two, one starts and the other finds.
    ///
    /// A running server is left as it is, also where the file asks for other settings now: a line
    /// in the log names the difference.
    ///
    /// Costs two logins (the second reads the identity for the state folder) for a running server, 0.2 s for a stopped one, 1–2 s the
    /// first time; in Docker 1 s and 3 s, and the time of a pull. Errors name the server, what failed and what to do; see [`PgServerError`].
    /// A dropped future does not end the start: it goes on in the background of the runtime.
    pub async fn start(&self) -> Result<Endpoint, PgServerError> {
        self.request.check()?;
        let server = self.clone();
        self.detached(async move { server.start_locked().await }).await
    }

    /// Stops the server, whatever runs it; fine if it is stopped. Sessions are ended, what they
    /// had committed is kept. Of a temporary server nothing is left.
    ///
    /// Waits until it has ended: some 0.1 s, up to a minute for a server that cannot finish. A
    /// dropped future does not end the stop.
    pub async fn stop(&self) -> Result<(), PgServerError> {
        self.request.check()?;
        let server = self.clone();
        self.detached(async move { server.stop_locked().await }).await
    }

    /// Stops it and starts it again, as the file describes it now; no other start or stop comes
    /// between. Costs and errors are those of the two.
    pub async fn restart(&self) -> Result<Endpoint, PgServerError> {
        self.request.check()?;
        let server = self.clone();
        self.detached(async move {
            server.watch().await?;
            let _lock = server.lock().await?;
            let chosen = server.choose(For::Restart).await?;
            for launcher in server.launchers()? {
                launcher.stop().await?;
            }
            server.start_checked(&*chosen, false).await
        })
        .await
    }

    /// Has a standby take the place of the primary: stops the primary, promotes the standby that has received most, and
    /// has the old primary and the other standbys follow it. Each keeps its port, so the primary is at another one
    /// afterwards; entries with `pgserver: true` find it there. Connections to the old primary end, those to the new one
    /// do not.
    ///
    /// Some 3 s with two standbys. A dropped future does not end it; if the process ends meanwhile, the next [`start`](PgServer::start)
    /// completes it.
    ///
    /// # Errors
    /// [`PgServerError::WouldLose`] if no standby has received all changes and `may_lose` is false; the old primary is
    /// the primary then. [`PgServerError::Invalid`] if nothing runs, if no standby runs, or if the server runs in Docker.
    pub async fn failover(&self, may_lose: bool) -> Result<Endpoint, PgServerError> {
        self.request.check()?;
        let server = self.clone();
        self.detached(async move {
            let _lock = server.lock().await?;
            let Some((launcher, _)) = server.in_use().await? else {
                return Err(server.request.not_running());
            };
            match launcher.failover(may_lose).await {
                Ok(Some(endpoint)) => {
                    server.record(&*launcher, &endpoint).await?;
                    Ok(endpoint)
                }
                Err(error) => {
                    // A standby that is not in order does not hide where the primary is.
                    if let Ok(Some((launcher, endpoint))) = server.in_use().await {
                        let _ = server.record(&*launcher, &endpoint).await;
                    }
                    Err(error)
                }
                Ok(None) => Err(server.request.invalid(format!(
                    "a failover is not supported by runtime {}; set `runtime: native`",
                    launcher.runtime().as_str()
                ))),
            }
        })
        .await
    }

    /// How the server that runs differs from what the file asks for now, which takes effect when it
    /// is started [anew](PgServer::restart); nothing if nothing runs. Costs as much as
    /// [`running`](PgServer::running).
    pub async fn differences(&self) -> Result<Vec<Difference>, PgServerError> {
        self.request.check()?;
        match self.in_use().await? {
            Some((launcher, _)) => launcher.differences().await,
            None => Ok(Vec::new()),
        }
    }

    /// What there is of the server, running or not, data included: `container wharf`, `volume
    /// wharf-data, with its data`, `folder /…, with its data`.
    ///
    /// # Errors
    /// [`PgServerError::Failed`] if a Docker engine that has run it does not tell.
    pub async fn holdings(&self) -> Result<Vec<String>, PgServerError> {
        self.request.check()?;
        owner::check(&Folder::of(&self.request)?, &self.request)?;
        let mut holdings = Vec::new();
        for launcher in self.launchers()? {
            holdings.extend(launcher.holdings().await?);
        }
        Ok(holdings)
    }

    /// Stops the server and removes all of it, **its data included**, whatever ran it. What others
    /// made under its names stays. Of a server that is not there nothing is removed.
    ///
    /// # Errors
    /// As [`stop`](PgServer::stop), and [`PgServerError::Io`] where a file cannot be removed. What was
    /// removed before stays removed; to be called again. A dropped future does not end it.
    pub async fn remove(&self) -> Result<(), PgServerError> {
        if self.temporary.is_some() {
            return self.stop().await;
        }
        self.request.check()?;
        let server = self.clone();
        self.detached(async move {
            let _lock = server.lock().await?;
            server.remove_all().await?;
            owner::release(&Folder::of(&server.request)?);
            Ok(())
        })
        .await
    }

    async fn remove_all(&self) -> Result<(), PgServerError> {
        self.unrecord().await?;
        for launcher in self.launchers()? {
            launcher.remove().await?;
        }
        Ok(())
    }

    /// The server's log: from so many lines before its end on, and, where asked to follow, what is
    /// added to it for as long as it runs, from the moment on at which the stream is first polled.
    /// Dropping the stream ends it.
    ///
    /// # Errors
    /// [`PgServerError::Invalid`] if there is none: nothing was started, or the embedded engine, which
    /// keeps none. An error in the stream is its end.
    pub async fn logs(
        &self,
        lines: usize,
        follow: bool,
    ) -> Result<BoxStream<'static, std::io::Result<String>>, PgServerError> {
        self.request.check()?;
        let launcher = match self.in_use().await? {
            Some((launcher, _)) => launcher,
            // One that has stopped, by what the file would take.
            None => self.choose(For::Log).await?,
        };
        Ok(Box::pin(logs::lines(launcher.log(lines, follow).await?)))
    }

    /// Runs a program beside the server that runs.
    pub(crate) async fn spawn(&self, program: Program) -> Result<Running, PgServerError> {
        match self.in_use().await? {
            Some((launcher, _)) => launcher.spawn(program).await,
            None => Err(self.request.not_running()),
        }
    }

    /// What the file says of it.
    #[must_use]
    pub fn config(&self) -> &PgServerConfig {
        &self.request.config
    }

    /// Whether it runs, proven by a login (but for an embedded engine, whose one connection is
    /// not taken for this).
    ///
    /// # Errors
    /// [`PgServerError::Login`] if it answers and does not let the superuser in,
    /// [`PgServerError::InUse`] if it is an embedded engine of another process.
    pub async fn status(&self) -> Result<Status, PgServerError> {
        let Some(endpoint) = self.running().await? else {
            return Ok(Status::Stopped);
        };
        if endpoint.single_connection {
            return Ok(Status::Running(endpoint));
        }
        let login = endpoint.login();
        match tokio::time::timeout(STATUS_DEADLINE, login.once()).await {
            Ok(Ok(_)) => Ok(Status::Running(endpoint)),
            Ok(Err(LoginError::NotReady(reason))) => Ok(Status::Starting { at: endpoint, reason }),
            Err(_) => {
                let reason = format!("it did not answer within {STATUS_DEADLINE:?}");
                Ok(Status::Starting { at: endpoint, reason })
            }
            Ok(Err(refused)) => Err(login.error(self.request.name(), &refused)),
        }
    }

    /// Where the server listens, from what it left in its folder and the process table: a few
    /// small files and no round trip, for looking up what a database entry points at. For one that was
    /// started in Docker, the engine is asked, twice or three times. One that is starting, or died a
    /// moment ago, may still be named.
    ///
    /// # Errors
    /// As [`status`](PgServer::status), but for the login.
    pub async fn running(&self) -> Result<Option<Endpoint>, PgServerError> {
        self.request.check()?;
        Ok(self.in_use().await?.map(|(_, endpoint)| endpoint))
    }

    /// The way by which it runs, and where.
    async fn in_use(&self) -> Result<Option<(Box<dyn Launcher>, Endpoint)>, PgServerError> {
        owner::check(&Folder::of(&self.request)?, &self.request)?;
        for launcher in self.launchers()? {
            if self.may_use(launcher.runtime())
                && let Some(endpoint) = launcher.running().await?
            {
                return Ok(Some((launcher, endpoint)));
            }
        }
        Ok(None)
    }

    async fn start_locked(&self) -> Result<Endpoint, PgServerError> {
        self.watch().await?;
        let (folder, request) = (Folder::of(&self.request)?, Arc::clone(&self.request));
        let earlier = blocking(move || Ok(owner::earlier(&folder, &request))).await?;
        let _lock = self.lock().await?;
        if let Some((name, file)) = earlier {
            tracing::warn!(
                "pgserver `{}`: this creates a new server; if the project was moved from {}, its data is in pgserver \
                 `{name}`: write `name: {name}` to keep it",
                self.request.name(),
                file.display()
            );
        }
        self.start_chosen().await
    }

    /// Starts a server whose data is disposable, as [`start`](PgServer::start) does. If another major version created the
    /// data, it is **removed**, and the server is created anew.
    #[cfg(feature = "testing")]
    pub(crate) async fn start_or_renew(&self) -> Result<Endpoint, PgServerError> {
        self.request.check()?;
        let server = self.clone();
        self.detached(async move {
            let _lock = server.lock().await?;
            match server.start_chosen().await {
                Err(PgServerError::DataVersion { .. }) => {
                    server.remove_all().await?;
                    server.start_chosen().await
                }
                started => started,
            }
        })
        .await
    }

    async fn start_chosen(&self) -> Result<Endpoint, PgServerError> {
        let launcher = self.choose(For::Start).await?;
        let was_running = matches!(launcher.running().await, Ok(Some(_)));
        let endpoint = self.start_checked(&*launcher, was_running).await?;
        let differences = launcher.differences().await?;
        if !differences.is_empty() {
            // By their names: a log is read by more people than a file with secrets.
            let differences: Vec<&str> =
                differences.iter().map(|difference| difference.setting.as_str()).collect();
            tracing::warn!(
                "pgserver `{}`: the server runs with other settings than the file's; restart it to apply: {}",
                self.request.name(),
                differences.join(", "),
            );
        }
        Ok(endpoint)
    }

    /// Starts it, has its data checked, and notes where it is. One that cannot be used with its data is stopped, unless it
    /// was running before.
    async fn start_checked(
        &self,
        launcher: &dyn Launcher,
        was_running: bool,
    ) -> Result<Endpoint, PgServerError> {
        let endpoint = launcher.start().await?;
        if !endpoint.single_connection
            && let Err(refused) = collation::check(&endpoint, &self.request).await
        {
            if !was_running {
                launcher.stop().await?;
                return Err(refused);
            }
            tracing::warn!("{refused}");
        }
        self.record(launcher, &endpoint).await?;
        Ok(endpoint)
    }

    async fn stop_locked(&self) -> Result<(), PgServerError> {
        if !Folder::of(&self.request)?.path().exists() {
            return Ok(());
        }
        {
            let _lock = self.lock().await?;
            self.unrecord().await?;
            // Also what the file's `runtime` no longer names: it may have been started by it.
            for launcher in self.launchers()? {
                // The switch ends a temporary native server, and faster.
                if self.temporary.is_none() || launcher.runtime() == Runtime::Embedded {
                    launcher.stop().await?;
                }
            }
        }
        let Some(temporary) = self.temporary.clone() else {
            return Ok(());
        };
        let io = Folder::of(&self.request)?;
        blocking(move || temporary.end().map_err(io.io("remove", io.path()))).await
    }

    /// Writes where the server listens into its folder, for builds that cannot ask its runtime.
    async fn record(&self, launcher: &dyn Launcher, at: &Endpoint) -> Result<(), PgServerError> {
        // These end with this process.
        if at.single_connection || self.temporary.is_some() {
            return Ok(());
        }
        let asked = endpoint::system_identifier(&at.host, at.port, &at.user, at.password.as_ref());
        let system_identifier = asked.await.map_err(|error| {
            self.request.failed("could not read its identity", Instant::now(), error)
        })?;
        let recorded = EndpointFile {
            host: at.host.clone(),
            port: at.port,
            replica_ports: at.replica_ports.clone(),
            user: at.user.clone(),
            password_file: launcher.password_file(),
            system_identifier,
        };
        let folder = Folder::of(&self.request)?;
        blocking(move || {
            recorded
                .write(folder.path())
                .map_err(folder.io("write its endpoint into", folder.path()))
        })
        .await
    }

    /// Removes that again.
    async fn unrecord(&self) -> Result<(), PgServerError> {
        let folder = Folder::of(&self.request)?;
        blocking(move || {
            let removed = EndpointFile::remove(folder.path());
            removed.map_err(folder.io("remove its endpoint from", folder.path()))
        })
        .await
    }

    async fn lock(&self) -> Result<Lock, PgServerError> {
        let folder = Folder::of(&self.request)?;
        let request = Arc::clone(&self.request);
        blocking(move || {
            owner::check(&folder, &request)?;
            let lock = folder.lock()?;
            owner::take(&folder, &request)?;
            Ok(lock)
        })
        .await
    }

    /// Arms the switch of a temporary server before there is anything to orphan.
    async fn watch(&self) -> Result<(), PgServerError> {
        let Some(temporary) = self.temporary.clone() else {
            return Ok(());
        };
        let folder = Folder::of(&self.request)?;
        blocking(move || {
            let made = temporary.make(&folder);
            made.map_err(folder.io("make the temporary folder", temporary.base()))
        })
        .await
    }

    /// Runs it to its end even if the caller goes away: half a start helps nobody.
    async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, PgServerError>> + Send + 'static,
    ) -> Result<T, PgServerError> {
        tokio::spawn(work).await.unwrap_or_else(|error| {
            Err(PgServerError::Failed {
                server: self.request.name().to_owned(),
                what: "the task that worked on it ended".to_owned(),
                after: Duration::ZERO,
                reason: error.to_string(),
            })
        })
    }
}

impl Endpoint {
    pub(crate) fn login(&self) -> Login<'_> {
        Login {
            host: &self.host,
            port: self.port,
            user: &self.user,
            password: self.password.as_ref(),
        }
    }
}

impl Login<'_> {
    pub(crate) fn error(&self, server: &str, error: &LoginError) -> PgServerError {
        PgServerError::Login {
            server: server.to_owned(),
            host: self.host.to_owned(),
            port: self.port,
            user: self.user.to_owned(),
            reason: error.to_string(),
        }
    }
}

/// Does what blocks away from the threads that run futures.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PgServerError> + Send + 'static,
) -> Result<T, PgServerError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(outcome) => outcome,
        Err(error) => Err(PgServerError::Failed {
            server: String::new(),
            what: "the task that worked on it ended".to_owned(),
            after: Duration::ZERO,
            reason: error.to_string(),
        }),
    }
}
