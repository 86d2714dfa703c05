//! A database for every test, and what tests need around it.

use std::{
    io,
    sync::{Arc, Mutex, Once},
    time::{Duration, Instant},
};

use migration::shop;
use sea_orm::{ConnectionTrait, Database, DatabaseConnection, DbBackend, Statement};
use tokio::sync::OnceCell;
use tracing_subscriber::{filter::LevelFilter, layer::SubscriberExt};
use wharf::{
    Pg,
    config::{Address, Config, PgServerConfig, Runtime},
    pgserver::PgServer,
    testing,
};

#[path = "major.rs"]
mod major;
#[allow(unused_imports)] // Not everybody who has this file needs it.
pub use major::major;

const PASSWORD: &str = "it";

/// A server of this machine's PostgreSQL that ends with this process.
pub fn native_server(name: &str) -> PgServer {
    let mut config = PgServerConfig::new(name);
    config.runtime = Runtime::Native;
    config.pass = Some(PASSWORD.into());
    PgServer::temporary(config, Vec::new())
}

/// wharf's own, with what these tests ask of theirs.
pub struct TestDatabase {
    pub name: String,
    inner: testing::TestDatabase,
}

impl TestDatabase {
    /// An empty one.
    pub async fn new() -> TestDatabase {
        TestDatabase::of(testing::TestDatabase::empty().await)
    }

    /// With the tables of the shop.
    pub async fn shop() -> TestDatabase {
        TestDatabase::of(testing::TestDatabase::new::<shop::Migrator>().await)
    }

    fn of(made: Result<testing::TestDatabase, wharf::Error>) -> TestDatabase {
        let inner = made.unwrap();
        TestDatabase { name: inner.name().to_owned(), inner }
    }

    pub fn url(&self) -> String {
        self.inner.url()
    }

    /// For another login.
    pub fn url_of(&self, user: &str, password: &str) -> String {
        let mut url = url::Url::parse(&self.url()).unwrap();
        url.set_username(user).unwrap();
        url.set_password(Some(password)).unwrap();
        url.into()
    }

    /// A login of this test's own.
    pub async fn role(&self, what: &str, options: &str) -> String {
        let role = format!("{}_{what}", self.name);
        let sql = format!("DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN {options}");
        self.inner.execute_unprepared(&sql).await.unwrap();
        role
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

/// The host and port of the server of this run.
pub async fn server_address() -> (String, u16) {
    static ADDRESS: OnceCell<(String, u16)> = OnceCell::const_new();
    let find = || async {
        let database = testing::TestDatabase::empty().await.unwrap();
        match database.config().address {
            Address::Host { host, port } => (host, port),
            other => panic!("a test server at {other:?}"),
        }
    };
    ADDRESS.get_or_init(find).await.clone()
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

/// Runs `work` until it has waited `times` times, and drops it there.
pub async fn dropped_after<T>(times: u32, work: impl Future<Output = T>) -> Option<T> {
    let mut work = std::pin::pin!(work);
    let mut waited = 0;
    std::future::poll_fn(|context| {
        if waited == times {
            return std::task::Poll::Ready(None);
        }
        waited += 1;
        work.as_mut().poll(context).map(Some)
    })
    .await
}

/// Waits until `done`, and says what for if that takes too long.
pub async fn until(what: &str, done: impl AsyncFnMut() -> bool) {
    until_within(Duration::from_secs(20), what, done).await;
}

/// [`until`], for what takes longer.
pub async fn until_within(limit: Duration, what: &str, mut done: impl AsyncFnMut() -> bool) {
    let started = Instant::now();
    while !done().await {
        assert!(started.elapsed() < limit, "waited in vain until {what}");
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
