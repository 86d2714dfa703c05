//! The server that test databases are on.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};
use secrecy::ExposeSecret as _;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};

use super::{POOL, admin::Admin, file, leftovers};
use crate::{
    config::{Address, ConfigError, DatabaseConfig, PgServerConfig, Runtime},
    error::Error,
    pg::Pg,
    pgserver::{self, Endpoint, PgServer, PgServerError},
    sql,
};

const NAME: &str = "wharf-testing";
/// What a machine without PostgreSQL gets, in Docker.
const VERSION: &str = "17";
/// What the server keeps for others.
const SPARE: i64 = 20;

/// One server for the process.
static SERVER: OnceCell<Arc<Server>> = OnceCell::const_new();

#[derive(Debug)]
pub(super) struct Server {
    pub(super) admin: Admin,
    entry: DatabaseConfig,
    /// Copies files, which is faster than writing them to the log where nothing waits for a disk.
    copies_files: bool,
    room: Arc<Semaphore>,
    /// It serves one connection in all, and nobody but this process.
    pub(super) is_single: bool,
    /// Taken by who makes a template.
    pub(super) making: tokio::sync::Mutex<()>,
    /// Those that this process has seen whole.
    templates: Mutex<HashSet<String>>,
}

pub(super) async fn of_this_run() -> Result<Arc<Server>, Error> {
    SERVER.get_or_try_init(find).await.cloned()
}

/// The server at `at`: the same one for all tests of the process.
pub(super) async fn at(at: Endpoint) -> Result<Arc<Server>, Error> {
    static FOUND: tokio::sync::Mutex<BTreeMap<(String, u16), Arc<Server>>> =
        tokio::sync::Mutex::const_new(BTreeMap::new());
    let mut found = FOUND.lock().await;
    let address = (at.host.clone(), at.port);
    match found.get(&address) {
        Some(server) => Ok(Arc::clone(server)),
        None => {
            let server = Server::of(entry(at)?).await?;
            found.insert(address, Arc::clone(&server));
            Ok(server)
        }
    }
}

/// The server that is started where none is named.
pub(super) fn own(runtime: Runtime) -> PgServer {
    let mut config = PgServerConfig::new(NAME);
    config.runtime = runtime;
    if runtime == Runtime::Docker {
        config.version = Some(VERSION.to_owned());
    }
    // Nothing here outlives a crash, and nothing has to.
    for (setting, value) in [
        ("fsync", "off"),
        ("full_page_writes", "off"),
        ("synchronous_commit", "off"),
        ("max_connections", "300"),
    ] {
        config.postgres_conf.insert(setting.to_owned(), value.to_owned());
    }
    let server = PgServer::new(config, []);
    match in_memory() {
        Some(folder) => server.data_dir(folder),
        None => server,
    }
}

/// A folder in memory, where the system has one: making a database means making some 300 files, which
/// takes 20 ms there and has taken 350 ms on a disk.
fn in_memory() -> Option<PathBuf> {
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
    let user = nix::unistd::geteuid().as_raw();
    let folder = Path::new("/dev/shm").join(format!("wharf-{user}"));
    // Whoever runs the server has to get through it.
    let made = std::fs::DirBuilder::new().mode(0o755).create(&folder);
    if made.is_err_and(|error| error.kind() != std::io::ErrorKind::AlreadyExists) {
        return None;
    }
    // Somebody else might have made it first.
    let found = std::fs::symlink_metadata(&folder).ok()?;
    (found.is_dir() && found.uid() == user).then_some(folder)
}

async fn find() -> Result<Arc<Server>, Error> {
    if let Ok(url) = std::env::var("TEST_DATABASE_URL") {
        let entry = DatabaseConfig::from_url(&url)?;
        tell("the server of TEST_DATABASE_URL", &entry);
        return Server::of(entry).await;
    }
    if std::env::var_os("WHARF_TEST_RUNTIME").is_none()
        && let Some((file, server)) = file::server()
    {
        let started = server.start().await.map_err(|error| Error::Internal {
            database: "testing".to_owned(),
            reason: format!(
                "tests run on the server of {}: {error}; to run them on another one, set TEST_DATABASE_URL, or WHARF_TEST_RUNTIME to native, docker or embedded",
                file.display()
            ),
        });
        let at = started?;
        let what = format!(
            "PostgreSQL {} of pgserver `{}` in {}",
            at.version,
            server.config().name,
            file.display()
        );
        let entry = entry(at)?;
        tell(&what, &entry);
        return Server::of(entry).await;
    }
    let (at, entry) = started().await?;
    tell(
        &format!("PostgreSQL {} ({}), started for tests", at.version, at.runtime.as_str()),
        &entry,
    );
    Server::of(entry).await
}

fn tell(what: &str, entry: &DatabaseConfig) {
    if let Some(servers) = entry.address.servers() {
        leftovers::tell(&format!("tests run on {what}, at {servers}"));
    }
}

/// By the way that `WHARF_TEST_RUNTIME` says, or by the first that can.
async fn started() -> Result<(Endpoint, DatabaseConfig), Error> {
    let ways = [Runtime::Native, Runtime::Docker, Runtime::Embedded];
    let asked = std::env::var("WHARF_TEST_RUNTIME").ok();
    let is_asked = |way: &Runtime| asked.as_deref().is_none_or(|asked| asked == way.as_str());
    let mut why = None;
    for runtime in ways.into_iter().filter(is_asked) {
        let started = match runtime {
            Runtime::Embedded => in_this_process().await,
            runtime => own(runtime).start_or_renew().await,
        };
        match started {
            Ok(at) => return Ok((at.clone(), entry(at)?)),
            // What is told is why the first way was not.
            Err(error) => why = why.or(Some(error)),
        }
    }
    Err(why.map_or_else(
        || {
            let asked = asked.unwrap_or_default();
            let text = format!("WHARF_TEST_RUNTIME={asked} must be native, docker or embedded");
            Error::from(DbErr::Custom(text))
        },
        Error::from,
    ))
}

/// Ends with the process.
async fn in_this_process() -> Result<Endpoint, PgServerError> {
    let mut config = PgServerConfig::new(NAME);
    config.runtime = Runtime::Embedded;
    let server = PgServer::temporary(config, []);
    let at = server.start().await?;
    std::mem::forget(server);
    Ok(at)
}

fn entry(at: Endpoint) -> Result<DatabaseConfig, ConfigError> {
    let mut entry = DatabaseConfig::from_url("postgres://postgres@localhost/postgres")?;
    entry.address = Address::Host { host: at.host, port: at.port };
    (entry.user, entry.password) = (at.user, at.password);
    Ok(entry)
}

/// The database that every server has.
fn maintenance(entry: &DatabaseConfig) -> Pg {
    let mut entry = entry.clone();
    entry.database = "postgres".to_owned();
    Pg::from_config("testing", entry)
}

impl Server {
    /// The server of an entry, whose login may make databases.
    pub(super) async fn of(entry: DatabaseConfig) -> Result<Arc<Server>, Error> {
        let maintenance = maintenance(&entry);
        let sql = "SELECT current_setting('server_version_num')::int4 >= 150000 AND current_setting('fsync') = 'off',
                          current_setting('max_connections')::int8";
        let row =
            maintenance.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await?;
        let (copies_files, connections) = match row {
            Some(row) => (row.try_get_by_index(0)?, row.try_get_by_index(1)?),
            None => (false, 0_i64),
        };
        leftovers::sweep(&maintenance).await?;
        maintenance.close().await?;
        let is_single = matches!(&entry.address, Address::Host { host, port }
            if pgserver::is_single_connection(host, *port));
        let room = if is_single { 1 } else { (connections - SPARE) / i64::from(POOL) };
        let admin = Admin::start(entry.clone()).map_err(|error| Error::Internal {
            database: "testing".to_owned(),
            reason: format!("a thread could not be started: {error}"),
        })?;
        Ok(Arc::new(Server {
            entry,
            admin,
            copies_files,
            room: Arc::new(Semaphore::new(usize::try_from(room.max(1)).unwrap_or(1))),
            is_single,
            making: tokio::sync::Mutex::default(),
            templates: Mutex::default(),
        }))
    }

    pub(super) fn maintenance(&self) -> Pg {
        maintenance(&self.entry)
    }

    /// The entry of one of its databases.
    pub(super) fn entry(&self, database: &str) -> DatabaseConfig {
        DatabaseConfig { database: database.to_owned(), ..self.entry.clone() }
    }

    pub(super) fn url(&self, database: &str) -> String {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let Some(servers) = self.entry.address.servers() else { return String::new() };
        let password = self.entry.password.as_ref();
        let password =
            password.map_or_else(String::new, |it| format!(":{}", encoded(it.expose_secret())));
        let user = encoded(&self.entry.user);
        format!("postgres://{user}{password}@{servers}/{database}")
    }

    pub(super) fn has_template(&self, name: &str) -> bool {
        self.templates.lock().unwrap_or_else(PoisonError::into_inner).contains(name)
    }

    pub(super) fn forget_template(&self, name: &str) {
        self.templates.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    pub(super) fn add_template(&self, name: &str) {
        self.templates.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
    }

    pub(super) async fn room(&self) -> Result<OwnedSemaphorePermit, Error> {
        Arc::clone(&self.room).acquire_owned().await.map_err(|error| Error::Internal {
            database: "testing".to_owned(),
            reason: error.to_string(),
        })
    }

    /// Makes a database from a template, once nobody is connected to that.
    pub(super) async fn create(&self, name: &str, template: &str) -> Result<(), Error> {
        let strategy = if self.copies_files { " STRATEGY file_copy" } else { "" };
        let create = format!(
            "CREATE DATABASE {} TEMPLATE {}{strategy}",
            sql::quote_ident(name),
            sql::quote_ident(template)
        );
        self.admin.run(create).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_server_for_tests_survives_a_new_major_version_of_the_machines() {
        let folder = tempfile::tempdir().unwrap();
        let server = own(Runtime::Native).data_dir(folder.path());
        let data = folder.path().join(NAME).join("native/data");
        std::fs::create_dir_all(&data).unwrap();
        std::fs::write(data.join("PG_VERSION"), "9.6\n").unwrap();
        let refused = server.start().await.unwrap_err();
        assert!(matches!(refused, PgServerError::DataVersion { .. }), "{refused}");

        let at = server.start_or_renew().await.unwrap();
        // Data of the right version is kept.
        std::fs::write(data.join("kept"), "").unwrap();
        assert_eq!(server.start_or_renew().await.unwrap().port, at.port);
        assert!(data.join("kept").exists());
        server.remove().await.unwrap();
    }
}
