//! Measures what reads on standbys cost, and how many reads wait in vain, on a primary with two standbys.

use std::{
    env,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use sea_orm::{
    ConnectionTrait, DbBackend, Statement,
    sea_query::{Expr, ExprTrait, Query},
};
use wharf::{
    Manager, Pg,
    config::{Config, PgServerConfig, Runtime},
    pgserver::{Endpoint, PgServer},
};

/// How often each cost is measured, in turn with what it is compared with.
const TIMES: usize = 10_000;
/// Commits on a cluster on which nothing else happens.
const COMMITS: usize = 100_000;
/// How far a standby may be behind before a sample is taken.
const REPLAY: Duration = Duration::from_millis(2);

pub async fn run() -> Result<()> {
    let mut config = PgServerConfig::new("benches");
    config.runtime = Runtime::Native;
    config.pass = Some(String::new().into());
    config.replica.enabled = true;
    config.replica.count = 2;
    let server = PgServer::temporary(config, []);
    let at = server.start().await?;
    let ran = on(&at).await;
    server.stop().await?;
    ran
}

async fn on(at: &Endpoint) -> Result<()> {
    let plain = entry(at, "reads: primary")?;
    let eventual = entry(at, "reads: eventual")?;
    // No answer of the topology comes in between, so that every read needs the check.
    let causal = entry(at, "reads: causal\n    topology: {interval: 1h, probe_timeout: 60s}")?;
    plain.execute_unprepared("CREATE TABLE written (id int8 PRIMARY KEY, n int8)").await?;
    plain.execute_unprepared("INSERT INTO written VALUES (0, 0)").await?;
    for pg in [&eventual, &causal] {
        settle(pg).await?;
    }
    println!("PostgreSQL {}, a primary and two standbys; times in µs\n", at.version);
    println!("{:52} {:>8} {:>8} {:>8}", "", "p50", "p99", "more");

    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..TIMES {
        without.push(commit(&plain).await?);
        with.push(commit(&causal).await?);
    }
    row("COMMIT", &mut without, None);
    let base = median(&mut without);
    row("COMMIT that returns its position", &mut with, Some(base));

    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..TIMES / 4 {
        commit(&causal).await?;
        tokio::time::sleep(REPLAY).await;
        without.push(begin(&eventual).await?);
        with.push(begin(&causal).await?);
    }
    row("BEGIN of a session on a standby", &mut without, None);
    let base = median(&mut without);
    row("BEGIN with the check", &mut with, Some(base));

    let standby = standby(at)?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    let read = causal.read();
    for _ in 0..TIMES {
        without.push(select(&standby).await?);
        with.push(select(&read).await?);
    }
    row("SELECT on a standby, by an entry of its own", &mut without, None);
    let base = median(&mut without);
    row("SELECT by Pg::read, which chooses the standby", &mut with, Some(base));

    idle(&entry(at, "reads: causal")?).await
}

/// Every commit is read on a standby at once. None should have to wait until something else is written.
async fn idle(pg: &Pg) -> Result<()> {
    settle(pg).await?;
    let (mut on_primary, mut longest) = (0, Duration::ZERO);
    let began = Instant::now();
    for _ in 0..COMMITS {
        commit(pg).await?;
        let reading = Instant::now();
        let s = pg.read().session().await?;
        longest = longest.max(reading.elapsed());
        on_primary += usize::from(!is_standby(&s).await?);
    }
    println!(
        "\n{COMMITS} commits on an idle cluster, each read at once: {on_primary} on the primary after the wait of 20 ms, \
         the longest begin {longest:.1?} ({:.0?} in all)",
        began.elapsed()
    );
    Ok(())
}

fn entry(at: &Endpoint, lines: &str) -> Result<Pg> {
    let ports = std::iter::once(&at.port).chain(&at.replica_ports);
    let hosts: Vec<String> = ports.map(|port| format!("\"{}:{port}\"", at.host)).collect();
    let hosts = format!("hosts: [{}]", hosts.join(", "));
    open(at, &format!("{hosts}\n    {lines}"))
}

fn standby(at: &Endpoint) -> Result<Pg> {
    let port = at.replica_ports.first().context("there is no standby")?;
    open(at, &format!("host: {}\n    port: {port}\n    readonly: true", at.host))
}

fn open(at: &Endpoint, lines: &str) -> Result<Pg> {
    let yaml = format!(
        "databases:\n  it:\n    database: postgres\n    user: {}\n    password: ''\n    {lines}\n",
        at.user
    );
    let config = Config::loader("benches.yaml").text(yaml).env(env::vars().take(0)).load()?;
    Ok(Manager::from_config(config).db("it")?)
}

/// Waits until its reads run on standbys.
async fn settle(pg: &Pg) -> Result<()> {
    let began = Instant::now();
    while !is_standby(&pg.read()).await? {
        ensure!(began.elapsed() < Duration::from_secs(60), "no standby serves reads");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

async fn is_standby(on: &impl ConnectionTrait) -> Result<bool> {
    let sql = Statement::from_string(DbBackend::Postgres, "SELECT pg_is_in_recovery()");
    let row = on.query_one_raw(sql).await?.context("no row")?;
    Ok(row.try_get_by_index(0)?)
}

/// How long the COMMIT of a small write takes.
async fn commit(pg: &Pg) -> Result<Duration> {
    let s = pg.session().await?;
    let mut update = Query::update();
    update.table("written").value("n", Expr::col("n").add(1)).and_where(Expr::col("id").eq(0));
    s.execute(&update).await?;
    let began = Instant::now();
    s.commit().await?;
    Ok(began.elapsed())
}

async fn begin(pg: &Pg) -> Result<Duration> {
    let read = pg.read();
    let began = Instant::now();
    let s = read.session().await?;
    let took = began.elapsed();
    s.rollback().await?;
    Ok(took)
}

async fn select(pg: &Pg) -> Result<Duration> {
    let mut select = Query::select();
    select.column("n").from("written").and_where(Expr::col("id").eq(0));
    let began = Instant::now();
    pg.query_one(&select).await?;
    Ok(began.elapsed())
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn row(what: &str, times: &mut [Duration], base: Option<Duration>) {
    let p50 = median(times);
    let p99 = times[times.len() * 99 / 100];
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let more = base.map_or_else(String::new, |base| format!("{:+.1}", micros(p50) - micros(base)));
    println!("{what:52} {:>8.1} {:>8.1} {more:>8}", micros(p50), micros(p99));
}
