//! What the tests share: folders that clean up after themselves, child processes, a log.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, Once};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use secrecy::ExposeSecret as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection as _, Row as _};
use wharf::config::{PgServerConfig, Runtime};
use wharf::pgserver::{Endpoint, PgServer};

#[path = "../it/major.rs"]
mod major;
pub use major::major;

/// A folder for servers; what still runs in it ends with it.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new(test: &str) -> Dir {
        let dir = std::env::temp_dir().join(format!("wharf-test-{}-{test}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        Dir(dir)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn native(&self) -> PathBuf {
        self.0.join("wharf/native")
    }

    pub fn postmaster(&self) -> u32 {
        let text = std::fs::read_to_string(self.native().join("data/postmaster.pid")).unwrap();
        text.lines().next().unwrap().parse().unwrap()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let servers = std::fs::read_dir(self.0.join("servers")).into_iter().flatten().flatten();
        let mut natives: Vec<PathBuf> = servers.map(|it| it.path().join("native")).collect();
        natives.push(self.native());
        natives.push(self.0.join("home/wharf/pgserver/wharf/native"));
        // Its standbys' too.
        let nodes = natives.iter().flat_map(std::fs::read_dir).flatten().flatten();
        for node in nodes {
            let pid_file = node.path().join("postmaster.pid");
            let text = std::fs::read_to_string(&pid_file).unwrap_or_default();
            if let Some(pid) = text.lines().next() {
                // After a failed assertion, so without another one.
                let _ = Command::new("kill").args(["-QUIT", pid]).status();
                let begun = Instant::now();
                while pid_file.exists() && begun.elapsed() < Duration::from_secs(5) {
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

pub fn config(runtime: Runtime) -> PgServerConfig {
    let mut config = PgServerConfig::new("wharf");
    config.runtime = runtime;
    config
}

pub fn server(dir: &Dir, config: PgServerConfig) -> PgServer {
    PgServer::new(config, []).data_dir(dir.path())
}

pub async fn connect(endpoint: &Endpoint) -> Result<PgConnection, sqlx::Error> {
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(&endpoint.host)
        .port(endpoint.port)
        .username(&endpoint.user)
        .database("postgres");
    if let Some(password) = &endpoint.password {
        options = options.password(password.expose_secret());
    }
    PgConnection::connect_with(&options).await
}

/// Waits until the server answers `expected`. Until a standby has replayed what its primary
/// committed, it may refuse connections or not know the table: both count as not yet.
pub async fn answers(at: &Endpoint, sql: &'static str, expected: &str) {
    let begun = Instant::now();
    loop {
        let last = try_run(at, sql).await;
        if matches!(&last, Ok(Some(value)) if value == expected) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{sql}: {last:?}, not {expected}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Runs one statement on a connection of its own; the first column of its first row as text.
pub async fn run(endpoint: &Endpoint, sql: &'static str) -> Option<String> {
    try_run(endpoint, sql).await.unwrap()
}

/// The same, for a server that may not be ready for it yet.
pub async fn try_run(
    endpoint: &Endpoint,
    sql: &'static str,
) -> Result<Option<String>, sqlx::Error> {
    let mut connection = connect(endpoint).await?;
    let row = sqlx::raw_sql(sql).fetch_optional(&mut connection).await?;
    connection.close().await?;
    row.map(|row| row.try_get(0)).transpose()
}

pub fn signal(signal: &str, pid: u32) {
    let status = Command::new("kill").args([signal, &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill {signal} {pid}");
}

/// Waits for what only happens a moment later, and says what for if that takes too long.
pub async fn wait_until_async(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !done().await {
        assert!(begun.elapsed() < Duration::from_secs(20), "waited in vain until {what}");
    }
}

pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(20), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// This test binary once more, as another process that plays a part.
pub struct Part {
    child: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Part {
    pub fn play(part: &str, dir: &Path) -> Part {
        Part::play_by(Command::new(std::env::current_exe().unwrap()), part, dir)
    }

    pub fn play_by(mut program: Command, part: &str, dir: &Path) -> Part {
        let mut child = program
            .args(["--exact", "support::part", "--nocapture", "--test-threads=1"])
            .env("WHARF_TEST_PART", part)
            .env("WHARF_TEST_DIR", dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = std::io::BufRead::lines(BufReader::new(child.stdout.take().unwrap()));
        Part { child, lines }
    }

    /// The next thing it says.
    pub fn says(&mut self) -> String {
        for line in &mut self.lines {
            if let Some((_, said)) = line.unwrap().split_once("part says ") {
                return said.to_owned();
            }
        }
        panic!("the other process ended without a word");
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn end(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }
}

fn say(what: &str) {
    let mut out = std::io::stdout();
    out.write_all(format!("\npart says {what}\n").as_bytes()).unwrap();
    out.flush().unwrap();
}

/// Not a test: what the other process does.
#[tokio::test]
async fn part() {
    let Ok(part) = std::env::var("WHARF_TEST_PART") else {
        return;
    };
    let dir = PathBuf::from(std::env::var("WHARF_TEST_DIR").unwrap());
    let runtime = if part.contains("embedded") { Runtime::Embedded } else { Runtime::Native };
    let server = match part.starts_with("temporary") {
        true => PgServer::temporary(config(runtime), []),
        false if part.starts_with("default") => PgServer::new(config(runtime), []),
        false => PgServer::new(config(runtime), []).data_dir(&dir),
    };
    let endpoint = server.start().await.unwrap();
    match part.starts_with("temporary") {
        true => {
            let data = run(&endpoint, "SELECT current_setting('data_directory')").await;
            say(&format!("{} {}", endpoint.port, data.unwrap()));
        }
        false => say(&endpoint.port.to_string()),
    }
    if part == "embedded writes" {
        run(&endpoint, "CREATE TABLE t AS SELECT 'kept' AS v").await;
        let mut connection = connect(&endpoint).await.unwrap();
        for sql in ["BEGIN", "INSERT INTO t SELECT 'lost' FROM generate_series(1, 10000)"] {
            sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        }
        say("written");
        // In the middle of a transaction until it is killed.
        let _ = std::io::stdin().lock().lines().count();
        drop(connection);
    }
    let _ = std::io::stdin().lock().lines().count();
}

/// Every log line of this process with its thread. One for all, as tracing remembers for the whole
/// process whether anybody listens at a place.
static LOG: Mutex<Vec<(ThreadId, String)>> = Mutex::new(Vec::new());

/// The log lines of this thread, or of all of them, from now on.
pub struct Log {
    from: usize,
    thread: Option<ThreadId>,
}

impl Log {
    pub fn listen() -> Log {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| tracing::subscriber::set_global_default(Listener).unwrap());
        let thread = Some(std::thread::current().id());
        Log { from: LOG.lock().unwrap().len(), thread }
    }

    /// For a runtime of several threads.
    pub fn everywhere() -> Log {
        Log { thread: None, ..Log::listen() }
    }

    pub fn lines(&self) -> Vec<String> {
        let log = LOG.lock().unwrap();
        let here = log[self.from..].iter();
        let here = here.filter(|(thread, _)| self.thread.is_none_or(|mine| mine == *thread));
        here.map(|(_, line)| line.clone()).collect()
    }
}

struct Listener;

impl tracing::Subscriber for Listener {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("wharf")
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, _: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push_str(&format!("{value:?}"));
            }
        }
        let mut text = Text(format!("{} ", event.metadata().level()));
        event.record(&mut text);
        LOG.lock().unwrap().push((std::thread::current().id(), text.0));
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}
