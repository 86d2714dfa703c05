//! A server inside this process.

mod engine;
mod relay;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use sqlx::Row as _;

use self::engine::{Engine, VERSION};
use self::relay::Relay;
use super::difference::Difference;
use super::error::PgServerError;
use super::folder::{Folder, Remembered};
use super::launcher::{Data, Launcher, Offer};
use super::login::Login;
use super::program::{Chunk, Program, Running as Spawned};
use super::request::{Request, is_loopback};
use super::server::{Endpoint, blocking};
use super::version::Version;
use crate::config::Runtime;
use crate::files;

/// The superuser that the engine's data comes with.
const SUPERUSER: &str = "postgres";
/// How long a statement that is under way may hold up a stop.
const STOP: Duration = Duration::from_secs(10);
/// Somebody who only looks whether the data is in use holds its lock for a moment.
const LOOKS: Duration = Duration::from_millis(200);
const INTERVAL: Duration = Duration::from_millis(20);

/// The engines of this process by the folder of their server.
static RUNNING: LazyLock<Mutex<HashMap<PathBuf, Arc<Running>>>> = LazyLock::new(Mutex::default);

/// An engine of this process.
#[derive(Debug)]
struct Running {
    endpoint: Endpoint,
    extensions: BTreeSet<String>,
    postgres_conf: BTreeMap<String, String>,
    relay: Relay,
    /// Tells other processes that the data is in use, and by whom.
    _lock: File,
}

/// The way `embedded`.
#[derive(Clone, Debug)]
pub(crate) struct Embedded {
    request: Arc<Request>,
    folder: Folder,
}

/// Whether an address is one of this process' engines.
pub(crate) fn serves(host: &str, port: u16) -> bool {
    let here = |host: &str| matches!(host, "localhost" | "127.0.0.1" | "::1");
    registry().values().any(|running| {
        let own = &running.endpoint;
        own.port == port && (own.host == host || here(&own.host) && here(host))
    })
}

/// Ends the engines of the servers below a folder that goes away. Blocks.
pub(crate) fn abandon(base: &Path) {
    let base = fs::canonicalize(base).unwrap_or_else(|_| base.to_owned());
    let below = |folder: &PathBuf| folder.starts_with(&base);
    let ended: Vec<_> = registry().extract_if(|folder, _| below(folder)).collect();
    // Not with the registry locked: an engine may be at a statement.
    drop(ended);
}

/// Makes a folder that is closed to other users, as PostgreSQL's own is.
fn make_private(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(path)
}

fn registry() -> MutexGuard<'static, HashMap<PathBuf, Arc<Running>>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Drop for Running {
    fn drop(&mut self) {
        // Without an end of its own it would go on serving data that nobody knows of.
        let _ = self.relay.stop(STOP);
    }
}

impl Embedded {
    pub(crate) fn new(request: Arc<Request>, folder: Folder) -> Embedded {
        Embedded { request, folder }
    }

    fn key(&self) -> PathBuf {
        let path = self.folder.path();
        fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
    }

    fn look(&self) -> Option<Arc<Running>> {
        registry().get(&self.key()).cloned()
    }

    fn failed(&self, what: &str, begun: Instant, reason: impl ToString) -> PgServerError {
        self.request.failed(what, begun, reason)
    }

    /// Marks the data as in use by this process.
    fn claim(&self) -> Result<File, PgServerError> {
        let path = self.folder.join("embedded.lock");
        let mut file = files::open_lock(&path).map_err(self.folder.io("open", &path))?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if begun.elapsed() < LOOKS => {
                    std::thread::sleep(INTERVAL);
                }
                Err(TryLockError::WouldBlock) => return Err(self.in_use(&path)),
                Err(TryLockError::Error(error)) => {
                    return Err(self.folder.io("lock", &path)(error));
                }
            }
        }
        let written = file.set_len(0).and_then(|()| write!(file, "{}", std::process::id()));
        written.map_err(self.folder.io("write", &path))?;
        Ok(file)
    }

    fn in_use(&self, lock: &Path) -> PgServerError {
        let holder = files::read(lock).unwrap_or_default();
        PgServerError::InUse {
            server: self.request.name().to_owned(),
            pid: holder.trim().parse().ok(),
        }
    }

    /// An error if another process holds the data.
    fn check_others(&self) -> Result<(), PgServerError> {
        let path = self.folder.join("embedded.lock");
        let Ok(file) = files::open(&path) else {
            return Ok(());
        };
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(self.in_use(&path)),
            _ => Ok(()),
        }
    }

    /// Everything up to an engine that listens. Blocks.
    fn launch(&self) -> Result<Running, PgServerError> {
        let begun = Instant::now();
        let lock = self.claim()?;
        let state = self.folder.join("embedded.state");
        let mut remembered = Remembered::read(&state);
        let (listener, port) = self.listen(remembered.port())?;
        let data = self.folder.join("embedded");
        make_private(&data).map_err(self.folder.io("make the folder", &data))?;
        let engine = Engine::start(&self.request, &data);
        let engine =
            engine.map_err(|e| self.failed("the embedded engine did not start", begun, e))?;
        let relay = Relay::open(listener, engine);
        let relay =
            relay.map_err(|e| self.failed("the embedded engine cannot listen", begun, e))?;
        remembered.set("port", port);
        remembered.write(&state).map_err(self.folder.io("write", &state))?;
        Ok(Running {
            endpoint: Endpoint {
                host: self.request.connect_host().to_owned(),
                port,
                replica_ports: Vec::new(),
                user: self.request.config.user.clone(),
                password: None,
                runtime: Runtime::Embedded,
                version: VERSION.to_owned(),
                single_connection: true,
            },
            extensions: self.request.extensions.clone(),
            postgres_conf: self.request.config.postgres_conf.clone(),
            relay,
            _lock: lock,
        })
    }

    fn listen(&self, mut last: Option<u16>) -> Result<(TcpListener, u16), PgServerError> {
        loop {
            let fixed = self.request.fixed_port();
            let port = self.folder.choose_port(&self.request, fixed, last)?;
            match TcpListener::bind((self.request.bind_host(), port)) {
                Ok(listener) => return Ok((listener, port)),
                // Somebody took it between the look and now.
                Err(error)
                    if error.kind() == io::ErrorKind::AddrInUse
                        && self.request.fixed_port().is_none() =>
                {
                    last = None;
                }
                Err(error) => return Err(self.folder.bind_error(&self.request, port, error)),
            }
        }
    }

    /// Proves that it serves, and makes the role that the file names: the engine knows only
    /// `postgres` at first and turns others away.
    async fn log_in(&self, endpoint: &Endpoint) -> Result<(), String> {
        if endpoint.user != SUPERUSER {
            let superuser = Login { user: SUPERUSER, ..endpoint.login() };
            let mut connection = superuser.connect().await.map_err(|e| e.to_string())?;
            // The server quotes the name: it knows how.
            let create = sqlx::query(
                "SELECT format('CREATE ROLE %I SUPERUSER LOGIN', $1::text) \
                 WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)",
            );
            let create = create.bind(&endpoint.user).fetch_optional(&mut connection).await;
            if let Some(row) = create.map_err(|e| e.to_string())? {
                let sql: String = row.try_get(0).map_err(|e| e.to_string())?;
                let done = sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection);
                done.await.map_err(|e| e.to_string())?;
            }
            let _ = sqlx::Connection::close(connection).await;
        }
        let login = endpoint.login();
        let greeting = login.until(self.request.deadline).await;
        greeting.map(drop).map_err(|e| e.to_string())
    }
}

#[async_trait]
impl Launcher for Embedded {
    fn runtime(&self) -> Runtime {
        Runtime::Embedded
    }

    async fn can_serve(&self) -> Result<Offer, String> {
        if let Some(version) = Version::parse(VERSION)
            && let Some(reason) = self.request.version_reason(&version)
        {
            return Err(format!("{reason}; change `pgserver.version` or install that version"));
        }
        if let Some(reason) = self.request.standby_reason() {
            return Err(reason);
        }
        let missing = Engine::lacks(&self.request.extensions);
        if !missing.is_empty() {
            return Err(format!("it does not include extension {}", missing.join(", ")));
        }
        if !is_loopback(&self.request.config.host) {
            return Err(format!(
                "it does not check passwords, and `host: {}` is reachable from other machines; listen at 127.0.0.1",
                self.request.config.host
            ));
        }
        let what = format!("PostgreSQL {VERSION} in this process, for one connection in all");
        let major = Version::parse(VERSION).map(|version| version.major());
        Ok(Offer { what, major })
    }

    async fn data(&self) -> Result<Option<Data>, PgServerError> {
        let folder = self.folder.join("embedded");
        let is_there = fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some());
        let major = Version::parse(VERSION).map(|version| version.major());
        let place = format!("folder {}", folder.display());
        Ok(is_there.then_some(Data { major, place, folder }))
    }

    fn password_file(&self) -> PathBuf {
        // It has none.
        PathBuf::new()
    }

    async fn running(&self) -> Result<Option<Endpoint>, PgServerError> {
        if let Some(running) = self.look() {
            return Ok(Some(running.endpoint.clone()));
        }
        let this = self.clone();
        blocking(move || this.check_others().map(|()| None)).await
    }

    async fn start(&self) -> Result<Endpoint, PgServerError> {
        if let Some(running) = self.look()
            && running.relay.is_stopping()
        {
            self.stop().await?;
        }
        if let Some(running) = self.look() {
            let missing = self.request.extensions.difference(&running.extensions);
            let missing: Vec<String> = missing.cloned().collect();
            if !missing.is_empty() {
                return Err(PgServerError::Elsewhere {
                    server: self.request.name().to_owned(),
                    reason: format!(
                        "it runs in this process without extension {}; restart it",
                        missing.join(", ")
                    ),
                });
            }
            return Ok(running.endpoint.clone());
        }
        let begun = Instant::now();
        let this = self.clone();
        let running = blocking(move || this.launch()).await?;
        if let Err(reason) = self.log_in(&running.endpoint).await {
            let ended = blocking(move || {
                drop(running);
                Ok(())
            });
            ended.await?;
            return Err(self.failed("the embedded engine accepted no login", begun, reason));
        }
        let endpoint = running.endpoint.clone();
        registry().insert(self.key(), Arc::new(running));
        Ok(endpoint)
    }

    async fn stop(&self) -> Result<(), PgServerError> {
        let begun = Instant::now();
        let Some(running) = self.look() else {
            let this = self.clone();
            return blocking(move || this.check_others()).await;
        };
        let this = self.clone();
        blocking(move || {
            let what = "the embedded engine did not stop";
            match running.relay.stop(STOP) {
                Ok(true) => {
                    registry().remove(&this.key());
                    Ok(())
                }
                Ok(false) => Err(this.failed(
                    what,
                    begun,
                    "it runs a long statement, which cannot be canceled; try again later, or end this process",
                )),
                Err(reason) => Err(this.failed(what, begun, reason)),
            }
        })
        .await
    }

    async fn differences(&self) -> Result<Vec<Difference>, PgServerError> {
        let Some(running) = self.look() else {
            return Ok(Vec::new());
        };
        let of = |conf: &BTreeMap<String, String>, port: u16, user: &str| {
            let mut settings = conf.clone();
            settings.insert("port".to_owned(), port.to_string());
            settings.insert("user".to_owned(), user.to_owned());
            settings
        };
        let (at, asked_for) = (&running.endpoint, &self.request.config);
        let port = self.request.fixed_port().unwrap_or(at.port);
        let wanted = of(&asked_for.postgres_conf, port, &asked_for.user);
        Ok(Difference::between(&of(&running.postgres_conf, at.port, &at.user), &wanted))
    }

    async fn holdings(&self) -> Result<Vec<String>, PgServerError> {
        let data = self.folder.join("embedded");
        let there = data.exists().then(|| format!("folder {}, with its data", data.display()));
        Ok(there.into_iter().collect())
    }

    async fn remove(&self) -> Result<(), PgServerError> {
        self.stop().await?;
        let this = self.clone();
        blocking(move || {
            for part in ["embedded", "embedded.state", "embedded.lock"] {
                let path = this.folder.join(part);
                let removed = match path.is_dir() {
                    true => fs::remove_dir_all(&path),
                    false => fs::remove_file(&path),
                };
                match removed {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(this.folder.io("remove", &path)(error));
                    }
                    _ => {}
                }
            }
            Ok(())
        })
        .await
    }

    async fn spawn(&self, program: Program) -> Result<Spawned, PgServerError> {
        Err(self.request.invalid(format!(
            "the embedded engine has no programs, so {} cannot run; use `runtime: native` or `docker`",
            program.name()
        )))
    }

    async fn log(
        &self,
        _: usize,
        _: bool,
    ) -> Result<BoxStream<'static, io::Result<Chunk>>, PgServerError> {
        let reason = "the embedded engine keeps no log; use `runtime: native` or `docker`";
        Err(self.request.invalid(reason.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{PgServerConfig, Runtime};
    use crate::pgserver::{PgServer, is_single_connection};

    #[tokio::test]
    async fn the_address_of_an_engine_is_known_for_as_long_as_it_runs() {
        let mut config = PgServerConfig::new("wharf");
        config.runtime = Runtime::Embedded;
        let server = PgServer::temporary(config, []);
        let port = server.start().await.unwrap().port;
        for host in ["127.0.0.1", "localhost"] {
            assert!(is_single_connection(host, port), "{host}");
        }
        assert!(!is_single_connection("127.0.0.1", port.wrapping_add(1)));
        assert!(!is_single_connection("db.example.org", port));
        server.stop().await.unwrap();
        assert!(!is_single_connection("127.0.0.1", port));
    }
}
