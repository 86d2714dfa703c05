//! Every database of one file, by name.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::Path,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{join, join_all},
};
use sea_orm::DatabaseConnection;
use tokio::time::timeout;

use crate::{
    config::{Address, Config, DatabaseConfig, PgServerConfig, Role},
    endpoint,
    error::Error,
    pg::{Healthy, Pg, PgStats},
    pool::{ConnectTo, Locate, SeaOrm, login_of},
};
#[cfg(feature = "pgserver")]
use crate::{
    pgserver::{Endpoint, PgServer, is_same_host},
    provision,
};

/// Every database of one file, by the key that it has there.
///
/// Cheap to clone; clones share their connections. Nothing is opened before its first use, and
/// databases know nothing of each other: one that is down keeps none of the others from working.
///
/// ```no_run
/// # async fn doc() -> Result<(), wharf::Error> {
/// let manager = wharf::Manager::open("etc/infra.yaml").await?;
/// for (name, health) in manager.health().await {
///     match health {
///         Ok(healthy) => println!("{name}: {} in {:?}", healthy.server_version, healthy.latency),
///         Err(error) => println!("{name}: {error}"),
///     }
/// }
/// let pg = manager.db("shop")?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Manager {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    databases: BTreeMap<String, Pg>,
    sea_orm: Mutex<HashMap<String, SeaOrm>>,
    #[cfg_attr(not(feature = "pgserver"), expect(dead_code))]
    pgserver: Option<Server>,
}

/// The server of the file. A build that cannot start it knows what the file says of it.
#[cfg(feature = "pgserver")]
type Server = PgServer;
#[cfg(not(feature = "pgserver"))]
type Server = PgServerConfig;

impl Manager {
    /// Reads the file at `path` with what it includes and the overrides of the environment
    /// (`INFRA_…`). Connects to nothing. See [`Config`] for other ways to read it.
    ///
    /// # Errors
    /// [`Error::Config`]: what is wrong, in which file and line, and what is likely meant.
    pub async fn open(path: impl AsRef<Path>) -> Result<Manager, Error> {
        let path = path.as_ref().to_owned();
        let read = tokio::task::spawn_blocking(move || Config::load(path)).await;
        match read {
            Ok(config) => Ok(Manager::from_config(config?)),
            Err(error) => Err(Error::Internal {
                database: "*".to_owned(),
                reason: format!("reading the file was cut off: {error}"),
            }),
        }
    }

    /// The databases that `config` describes. Connects to nothing.
    pub fn from_config(config: Config) -> Manager {
        #[cfg(feature = "pgserver")]
        let server = config.pgserver.clone().map(|server| {
            let asked_for = config.databases.values().filter(|entry| is_on(entry, &server));
            let extensions: Vec<_> = asked_for.flat_map(|entry| entry.extensions.clone()).collect();
            PgServer::new(server, extensions)
        });
        #[cfg(not(feature = "pgserver"))]
        let server = config.pgserver.clone();
        Manager::new(config, server)
    }

    /// The databases that `config` describes, with `server` in place of the one that its
    /// `pgserver:` describes: a [temporary](PgServer::temporary) one for a test run, say.
    #[cfg(feature = "pgserver")]
    pub fn with_pgserver(config: Config, server: PgServer) -> Manager {
        Manager::new(config, Some(server))
    }

    fn new(config: Config, pgserver: Option<Server>) -> Manager {
        let databases = config
            .databases
            .iter()
            .map(|(name, entry)| {
                let locate = locate(name.clone(), entry.clone(), pgserver.clone());
                let monitor = entry.monitor.clone();
                (name.clone(), Pg::located(name, entry.readonly, monitor, locate))
            })
            .collect();
        let inner = Inner { config, databases, sea_orm: Mutex::default(), pgserver };
        Manager { inner: Arc::new(inner) }
    }

    /// What the file says, checked.
    pub fn config(&self) -> &Config {
        &self.inner.config
    }

    /// The keys of the databases, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.inner.databases.keys().map(String::as_str)
    }

    /// The database `name`. Connects to nothing; every call gives the same connections.
    ///
    /// # Errors
    /// [`Error::UnknownDatabase`].
    pub fn db(&self, name: &str) -> Result<Pg, Error> {
        match self.inner.databases.get(name) {
            Some(pg) => Ok(pg.clone()),
            None => Err(Error::UnknownDatabase {
                name: name.to_owned(),
                known: self.names().map(str::to_owned).collect(),
            }),
        }
    }

    /// SeaORM's own connection to the database `name`, for what names that type: `Migrator::up`,
    /// crates that take a `DatabaseConnection`.
    ///
    /// Made at the first call and opened at its first use; later calls give the same one, or a
    /// new one if that was closed. It has a pool of its own (sqlx's, of `pool_size` connections,
    /// with the same startup parameters) beside the one of [`db`](Manager::db): use `db` where you
    /// can. For a `readonly: true` entry its connections start read-only; raw SQL can undo that
    /// here, unless the login's rights do not allow it.
    ///
    /// `socket_timeout` applies to its statements. To that end its connections go through a Unix socket and a thread of
    /// this process. A statement that gets no answer in time fails because its connection is closed; the log has the
    /// reason. In an encrypted answer, only the wait for its beginning is limited; keepalive notices a network that is
    /// lost later. The limit does not apply on systems other than Unix, nor if the folder for temporary files cannot hold
    /// a socket, which is logged as a warning.
    ///
    /// On the embedded engine, which serves one connection, it keeps that until it is
    /// [closed](DatabaseConnection::close_by_ref).
    ///
    /// The call blocks its thread where the first one has to look something up: the server's address for an entry
    /// that says `pgserver: true` (a few milliseconds), the login for one with a `password_file` or a
    /// [login source](crate::config::DatabaseConfig::set_login_source). Where that takes longer, or needs the
    /// runtime of this thread, use [`open_connection`](Manager::open_connection).
    ///
    /// # Errors
    /// [`Error::UnknownDatabase`], [`Error::SingleConnection`], [`Error::Connect`] if the login was not to be had,
    /// or why the server of the file was not found. [`Error::Internal`] after `pool_timeout`, and outside of a
    /// Tokio runtime.
    pub fn connection(&self, name: &str) -> Result<DatabaseConnection, Error> {
        let pg = self.db(name)?;
        match self.opened(name) {
            Some(open) => Ok(open),
            None => self.open_own(name, now(found(&pg), || self.too_slow(name))?),
        }
    }

    /// The same as [`connection`](Manager::connection), without blocking the thread. Dropping the future opens
    /// nothing.
    ///
    /// ```no_run
    /// # async fn doc(manager: wharf::Manager) -> Result<(), wharf::Error> {
    /// let connection: sea_orm::DatabaseConnection = manager.open_connection("shop").await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As [`connection`](Manager::connection).
    pub async fn open_connection(&self, name: &str) -> Result<DatabaseConnection, Error> {
        let pg = self.db(name)?;
        match self.opened(name) {
            Some(open) => Ok(open),
            None => self.open_own(name, found(&pg).await?),
        }
    }

    fn sea_orm(&self) -> MutexGuard<'_, HashMap<String, SeaOrm>> {
        self.inner.sea_orm.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opened(&self, name: &str) -> Option<DatabaseConnection> {
        self.sea_orm().get(name).filter(|own| !own.is_closed()).map(SeaOrm::connection)
    }

    fn open_own(
        &self,
        name: &str,
        (to, login): (ConnectTo, Role),
    ) -> Result<DatabaseConnection, Error> {
        let mut open = self.sea_orm();
        // Another caller may have opened it meanwhile.
        if let Some(own) = open.get(name).filter(|own| !own.is_closed()) {
            return Ok(own.connection());
        }
        let own = SeaOrm::new(to, &login)?;
        let connection = own.connection();
        open.insert(name.to_owned(), own);
        Ok(connection)
    }

    fn too_slow(&self, name: &str) -> (Duration, Error) {
        let limit =
            self.inner.config.databases.get(name).map_or(Duration::MAX, |it| it.pool_timeout);
        let reason = format!(
            "the login or the server's address was not found within pool_timeout ({limit:?}); where finding it \
             needs this thread's runtime, use `open_connection(\"{name}\").await`"
        );
        (limit, Error::Internal { database: name.to_owned(), reason })
    }

    /// Asks every database for its version, all at once, each within its own `pool_timeout`: what
    /// it answered and how fast, or why it did not. One that cannot be reached is told by its next
    /// failed attempt to connect, without waiting for it to come back: this is for `/readyz`.
    pub async fn health(&self) -> BTreeMap<String, Result<Healthy, Error>> {
        let asked = self.inner.databases.iter().map(async |(name, pg)| {
            let health = pg.healthy().await;
            (name.clone(), health)
        });
        join_all(asked).await.into_iter().collect()
    }

    /// What the connections of every database are doing now. No round trip.
    pub fn stats(&self) -> BTreeMap<String, PgStats> {
        let databases = self.inner.databases.iter();
        databases.map(|(name, pg)| (name.clone(), pg.stats())).collect()
    }

    /// Closes every connection: idle ones now, lent ones when they come back, SeaORM's own when
    /// their work is done, which is waited for. Dropping the future leaves the rest of those to
    /// close by themselves.
    pub async fn close(&self) {
        for pg in self.inner.databases.values() {
            // Gives an error for the sake of SeaORM's signature only.
            let _ = pg.close_by_ref().await;
        }
        self.close_sea_orm().await;
    }

    /// Closes every connection, waits for up to `limit` until those that are lent have come back, and
    /// then cuts off what has not: [`Pg::close_within`], for all databases at once. What SeaORM's
    /// own connections are doing is waited for, and not cut off.
    ///
    /// # Errors
    /// [`Error::CutOff`], of the first database in the alphabet that had to be.
    pub async fn close_within(&self, limit: Duration) -> Result<(), Error> {
        let databases = self.inner.databases.values().map(|pg| pg.close_within(limit));
        let (closed, _) = join(join_all(databases), timeout(limit, self.close_sea_orm())).await;
        closed.into_iter().collect()
    }

    async fn close_sea_orm(&self) {
        let open: Vec<_> = self.sea_orm().drain().map(|(_, own)| own).collect();
        join_all(open.iter().map(SeaOrm::close)).await;
    }
}

impl Pg {
    /// Opens the database `name` of the file at `path`.
    ///
    /// Opens one connection, so that a file, an address or a password that is wrong is told here.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::UnknownDatabase`], [`Error::Connect`].
    pub async fn open(path: impl AsRef<Path>, name: &str) -> Result<Pg, Error> {
        let pg = Manager::open(path).await?.db(name)?;
        pg.ping().await?;
        Ok(pg)
    }
}

/// Where a database is now, and the login to it.
async fn found(pg: &Pg) -> Result<(ConnectTo, Role), Error> {
    let to = pg.database().located(pg.is_read_only()).await?;
    let login = login_of(&to).await?;
    Ok((to, login))
}

/// Gives the outcome of a short look-up to a caller who cannot wait for it: SeaORM's users make
/// their connections in places that are not async.
fn now<T: Send>(
    look_up: impl Future<Output = Result<T, Error>> + Send,
    too_slow: impl FnOnce() -> (Duration, Error),
) -> Result<T, Error> {
    let mut look_up = pin!(look_up);
    if let Some(outcome) = look_up.as_mut().now_or_never() {
        return outcome;
    }
    let (limit, too_slow) = too_slow();
    let failed = |reason: String| Error::Internal { database: "*".to_owned(), reason };
    let elsewhere = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| failed(error.to_string()))?;
        let outcome = runtime.block_on(async { timeout(limit, look_up).await });
        // Not waited for: a blocking task of the login source may run on.
        runtime.shutdown_background();
        outcome.unwrap_or(Err(too_slow))
    };
    std::thread::scope(|scope| scope.spawn(elsewhere).join())
        .unwrap_or_else(|_| Err(failed("looking up the server panicked".to_owned())))
}

/// How the address of an entry is found when its first connection is opened.
fn locate(name: String, entry: DatabaseConfig, server: Option<Server>) -> Arc<Locate> {
    Arc::new(move || {
        let (name, entry, server) = (name.clone(), entry.clone(), server.clone());
        Box::pin(async move {
            if let Address::Host { .. } | Address::Hosts(_) | Address::Patroni(_) = entry.address {
                return Ok(entry);
            }
            match server {
                Some(server) => placed(name, entry, server).await,
                None => Err(Error::PgServerDown {
                    database: name,
                    reason: "the file has no section `pgserver:`".to_owned(),
                }),
            }
        })
    })
}

/// The entry with the address of the server that runs, and with the password that was generated for
/// its superuser, if the entry logs in as that.
#[cfg(feature = "pgserver")]
async fn placed(
    name: String,
    mut entry: DatabaseConfig,
    server: PgServer,
) -> Result<DatabaseConfig, Error> {
    let endpoint = server.running().await?;
    let port = endpoint.as_ref().and_then(|at| match entry.address {
        Address::PgServerReplica => at.replica_ports.first().copied(),
        _ => Some(at.port),
    });
    let (Some(endpoint), Some(port)) = (endpoint, port) else {
        // A runtime that this build lacks may run it.
        return recorded(name, entry, server.config()).await;
    };
    let has_none = entry.password.is_none() && entry.password_file.is_none();
    if has_none && entry.user == endpoint.user {
        entry.password = endpoint.password;
    }
    entry.address = endpoint::address(&entry, endpoint.host, port, &endpoint.replica_ports);
    Ok(entry)
}

/// The entry with the address that the file gives the server, if it fixes its port; else the one that
/// the server's state folder has.
#[cfg(not(feature = "pgserver"))]
async fn placed(
    name: String,
    mut entry: DatabaseConfig,
    server: Server,
) -> Result<DatabaseConfig, Error> {
    let port = match entry.address {
        Address::PgServerReplica => server.replica.port,
        _ => server.port,
    };
    let Some(port) = port.filter(|port| *port != 0) else {
        return recorded(name, entry, &server).await;
    };
    let has_none = entry.password.is_none() && entry.password_file.is_none();
    // A generated password is known to the state folder alone, and so is which of several servers is the primary.
    if (has_none && entry.user == server.user || server.replica.enabled)
        && let Ok(found) = recorded(name, entry.clone(), &server).await
    {
        return Ok(found);
    }
    entry.address = Address::Host { host: server.host, port };
    Ok(entry)
}

/// The entry with the address that the server's state folder has.
async fn recorded(
    name: String,
    entry: DatabaseConfig,
    server: &PgServerConfig,
) -> Result<DatabaseConfig, Error> {
    let lacks = match (cfg!(feature = "pgserver"), cfg!(feature = "docker")) {
        (true, true) => "",
        (true, false) => {
            "; this build lacks the feature `docker`, so it cannot ask a Docker engine"
        }
        (false, _) => {
            "; this build lacks the features `pgserver` and `docker`, so it looks nowhere else"
        }
    };
    let located = match endpoint::servers_folder() {
        Ok(servers) => endpoint::locate(entry, server, &servers).await,
        Err(reason) => Err(reason),
    };
    located.map_err(|reason| Error::PgServerDown {
        database: name,
        reason: format!("{reason}{lacks}"),
    })
}

/// The file's own server, brought to life.
#[cfg(feature = "pgserver")]
impl Manager {
    /// The server of the file, if it has a `pgserver:` section.
    pub fn pgserver(&self) -> Option<&PgServer> {
        self.inner.pgserver.as_ref()
    }

    /// Starts the server of the file, or finds it running, and creates what its entries ask for:
    /// their logins (`user`, `read_role`), the databases of those that say `create_db: true`, and their
    /// `extensions`. A login owns the databases that are created for it; one of a `readonly` entry, and a
    /// `read_role`, may read all tables of the server. Its password is the file's.
    ///
    /// Entries are on it that say `pgserver: true`, or that give its host and its fixed port.
    /// Running it again does no harm. See [`PgServer::start`] for what it costs and what happens
    /// when the future is dropped.
    ///
    /// # Errors
    /// [`Error::NoPgServer`] if the file has no such section; [`Error::PgServer`]; what the server
    /// says to `CREATE DATABASE` or `CREATE EXTENSION`.
    pub async fn start_pgserver(&self) -> Result<Endpoint, Error> {
        let server = self.pgserver().ok_or(Error::NoPgServer)?;
        let endpoint = server.start().await?;
        self.ensure_databases(&endpoint).await?;
        Ok(endpoint)
    }

    /// Makes what the entries on the server at `endpoint` ask for.
    pub(crate) async fn ensure_databases(&self, endpoint: &Endpoint) -> Result<(), Error> {
        let described = self.inner.config.pgserver.as_ref();
        let databases = self.inner.config.databases.iter();
        let on: Vec<_> = databases
            .filter(|(_, entry)| described.is_some_and(|server| is_on(entry, server)))
            .collect();
        for (name, entry) in &on {
            provision::database(&self.db(name)?, entry, endpoint).await?;
        }
        // Several entries may have one database, which one of them has created.
        for (name, entry) in &on {
            provision::within_database(&self.db(name)?, entry, endpoint).await?;
        }
        Ok(())
    }
}

#[cfg(feature = "pgserver")]
fn is_on(entry: &DatabaseConfig, server: &crate::config::PgServerConfig) -> bool {
    match &entry.address {
        Address::PgServer => true,
        // What is made on the primary comes to its standby by itself.
        Address::PgServerReplica | Address::Hosts(_) | Address::Patroni(_) => false,
        Address::Host { host, port } => {
            Some(*port) == server.port && is_same_host(host, &server.host)
        }
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").field("databases", &self.inner.databases).finish()
    }
}
