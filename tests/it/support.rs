//! A server for the run, and a database for every test.

use std::{
    io,
    sync::{
        Arc, LazyLock, Mutex, Once,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
};

use migration::shop;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement};
use sea_orm_migration::MigratorTrait;
use tracing_subscriber::{filter::LevelFilter, layer::SubscriberExt};
use wharf::{
    Pg,
    config::{Config, PgServerConfig, Runtime},
    pgserver::{Endpoint, PgServer, PgServerError},
};

/// URL of a database on the server of this run, up to its last slash.
static SERVER: LazyLock<String> = LazyLock::new(|| {
    if let Ok(url) = std::env::var("TEST_DATABASE_URL") {
        let (server, _) = url.rsplit_once('/').expect("TEST_DATABASE_URL ends in /database");
        let server = server.to_owned();
        on_a_thread(sweep(server.clone()));
        return server;
    }
    let start = on_a_thread(async {
        let server = native_server("wharf-it");
        let endpoint = server.start().await?;
        // The server lives as long as this process: statics are not dropped.
        std::mem::forget(server);
        Ok::<_, PgServerError>(endpoint)
    });
    match start {
        Ok(Endpoint { host, port, user, .. }) => {
            format!("postgres://{user}:{PASSWORD}@{host}:{port}")
        }
        Err(error) => panic!(
            "no PostgreSQL to test against: {error}\nSet TEST_DATABASE_URL to a database of a \
             server that may be written to, or install PostgreSQL (Debian: apt-get install \
             postgresql)."
        ),
    }
});

const PASSWORD: &str = "it";

/// A server of this machine's PostgreSQL that ends with this process.
pub fn native_server(name: &str) -> PgServer {
    let mut config = PgServerConfig::new(name);
    config.runtime = Runtime::Native;
    config.pass = Some(PASSWORD.into());
    PgServer::temporary(config, Vec::new())
}

/// Blocks on a runtime of its own, whatever runtime the caller is on.
fn on_a_thread<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::spawn(move || runtime().block_on(work)).join().unwrap()
}

/// Drops the databases of runs that are over.
async fn sweep(server: String) {
    let admin = admin(&server).await;
    let names = "SELECT datname::text FROM pg_database WHERE datname LIKE 'wharf_it_%'";
    let names = Statement::from_string(DbBackend::Postgres, names);
    for row in admin.query_all_raw(names).await.unwrap() {
        let name: String = row.try_get_by_index(0).unwrap();
        let run = name.split('_').nth(2).unwrap_or_default();
        if !std::path::Path::new("/proc").join(run).exists() {
            let _ = admin.execute_unprepared(&drop_database(&name)).await;
        }
    }
}

fn drop_database(name: &str) -> String {
    format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")
}

/// Drops databases off the tests' own threads: a server drops none while a connection is half
/// open, and those that a test leaves so are let go of when its runtime has ended.
static JANITOR: LazyLock<mpsc::Sender<String>> = LazyLock::new(|| {
    let (names, dropped) = mpsc::channel::<String>();
    std::thread::spawn(move || {
        for name in dropped {
            let sql = drop_database(&name);
            on_a_thread(
                async move { admin(&SERVER).await.execute_unprepared(&sql).await.unwrap() },
            );
        }
    });
    names
});

/// An empty database, dropped some time after this value.
pub struct TestDatabase {
    pub name: String,
}

impl TestDatabase {
    pub async fn new() -> TestDatabase {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("wharf_it_{}_{next}", std::process::id());
        let sql = format!("CREATE DATABASE {name}");
        admin(&SERVER).await.execute_unprepared(&sql).await.unwrap();
        TestDatabase { name }
    }

    /// With the tables of the shop.
    pub async fn shop() -> TestDatabase {
        let database = TestDatabase::new().await;
        let sea_orm = database.sea_orm().await;
        shop::Migrator::up(&sea_orm, None).await.unwrap();
        sea_orm.close().await.unwrap();
        database
    }

    pub fn url(&self) -> String {
        format!("{}/{}", *SERVER, self.name)
    }

    pub async fn sea_orm(&self) -> DatabaseConnection {
        Database::connect(self.url()).await.unwrap()
    }

    pub async fn pg(&self) -> Pg {
        Pg::from_url(&self.url()).await.unwrap()
    }

    /// A file with one entry, `it`, on this database; `more` are further lines of the entry.
    pub fn config(&self, more: &[&str]) -> Config {
        config(&format!("databases:\n{}", self.entry("it", more)))
    }

    pub fn entry(&self, name: &str, more: &[&str]) -> String {
        let mut entry = format!("  {name}:\n    url: \"{}\"\n", self.url());
        for line in more {
            entry.push_str(&format!("    {line}\n"));
        }
        entry
    }

    /// The entry `it` of [`config`](Self::config).
    pub fn pg_with(&self, more: &[&str]) -> Pg {
        wharf::Manager::from_config(self.config(more)).db("it").unwrap()
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        JANITOR.send(self.name.clone()).unwrap();
    }
}

async fn admin(server: &str) -> DatabaseConnection {
    let mut options = sea_orm::ConnectOptions::new(format!("{server}/postgres"));
    options.max_connections(1).sqlx_logging(false);
    Database::connect(options).await.unwrap()
}

/// The host and port of the server of this run.
pub fn server_address() -> (String, u16) {
    let url = url::Url::parse(&SERVER).unwrap();
    (url.host_str().unwrap_or("localhost").to_owned(), url.port().unwrap_or(5432))
}

pub fn config(yaml: &str) -> Config {
    Config::loader("it.yaml").text(yaml).env([]).load().unwrap()
}

/// Past the harness, which keeps what a test prints to itself.
pub fn say(what: &str) {
    use std::io::Write as _;
    let mut stderr = std::io::stderr();
    writeln!(stderr, "{what}").unwrap();
}

/// The one number that a query gives.
pub async fn number(db: &impl ConnectionTrait, sql: &str) -> i64 {
    let statement = Statement::from_string(DbBackend::Postgres, sql);
    db.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
}

/// Has the server end the connection of whoever changes `table`, in the middle of the COMMIT.
pub async fn cut_at_commit(pg: &Pg, table: &str) {
    pg.execute_unprepared(&format!(
        "CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER cut AFTER INSERT OR UPDATE ON {table}
         DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION cut()"
    ))
    .await
    .unwrap();
}

/// Waits until `done`, and says what for if that takes too long.
pub async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let started = std::time::Instant::now();
    while !done().await {
        assert!(
            started.elapsed() < std::time::Duration::from_secs(20),
            "waited in vain until {what}"
        );
        tokio::task::yield_now().await;
    }
}

/// What is logged on this thread, while its guard is there.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub fn of_this_thread() -> (Log, tracing::subscriber::DefaultGuard) {
        // One that is there for all threads: where none is, what is logged for the first time while
        // another thread's goes is taken to interest nobody.
        static FOR_ALL: Once = Once::new();
        FOR_ALL.call_once(|| {
            let all = tracing_subscriber::registry().with(LevelFilter::INFO);
            tracing::subscriber::set_global_default(all).unwrap();
        });
        let log = Log::default();
        let writer = log.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }

    pub fn times(&self, text: &str) -> usize {
        self.text().matches(text).count()
    }

    /// The lines that have `text` in them.
    pub fn lines(&self, text: &str) -> Vec<String> {
        self.text().lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
