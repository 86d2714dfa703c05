//! Work of all kinds while faults of all kinds happen, and a check that wharf kept its promises.
//!
//! `cargo run -p benches -- soak --minutes 2 [--cluster] [--seed 7]`. The seed decides which faults come in which order, and
//! what each worker does next; how they meet is up to the machine.

mod check;
mod cluster;
mod history;
mod nemesis;
mod network;
mod tables;
mod waits;
mod workers;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use wharf::{Manager, config::Config};

use self::{
    cluster::{Cluster, DATABASE, USER},
    history::History,
    nemesis::Nemesis,
    network::{Mode, Network},
    waits::{P, S, SLACK, Waits},
    workers::World,
};
use crate::memory;

#[derive(Args)]
pub struct Soak {
    /// How long it runs.
    #[arg(long, default_value_t = 2)]
    minutes: u64,
    /// How long it runs, in place of --minutes.
    #[arg(long)]
    seconds: Option<u64>,
    /// Seed of the faults and of the work. Default: another one each time.
    #[arg(long)]
    seed: Option<u64>,
    /// A primary with two standbys in place of one server.
    #[arg(long)]
    cluster: bool,
    /// Show what wharf logs, from this level on (error, warn, info, debug).
    #[arg(long)]
    log: Option<tracing_subscriber::filter::LevelFilter>,
}

/// A run of this length and more has to end with the memory that it had at its first quarter.
const LONG: Duration = Duration::from_secs(300);

/// Runs it and prints its report. Returns whether all promises were kept. Stops its servers when it is interrupted.
pub async fn run(soak: Soak) -> Result<bool> {
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        kept = run_to_its_end(soak) => kept,
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = terminated.recv() => bail!("terminated"),
    }
}

async fn run_to_its_end(soak: Soak) -> Result<bool> {
    if let Some(level) = soak.log {
        tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).init();
    }
    let seed = soak.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let length = Duration::from_secs(soak.seconds.unwrap_or(soak.minutes * 60));
    let standbys = if soak.cluster { 2 } else { 0 };
    println!("seed {seed}, {length:?}, {} server(s)", standbys + 1);
    let cluster = Cluster::start(standbys).await?;
    cluster.write_password(cluster::PASSWORD)?;
    tables::create(&cluster).await?;
    let mut networks = Vec::new();
    for port in &cluster.ports {
        networks.push(Network::start(*port).await?);
    }
    let file = file(&cluster, &networks);
    let open = || -> Result<_> {
        let config = Config::loader("soak.yaml").text(&file).env([]).load()?;
        Ok(Manager::from_config(config).db("soak")?)
    };
    let world = Arc::new(World {
        pg: open()?,
        other: open()?,
        history: History::new(),
        waits: Waits::default(),
        seed,
        is_cluster: soak.cluster,
        is_stopped: AtomicBool::new(false),
        heard: workers::Heard::default(),
    });
    world.pg.ping().await?;
    let watch = tokio::spawn(watch(Arc::clone(&world), length));
    let tasks = workers::start(&world);
    let began = Instant::now();
    let mut nemesis = Nemesis::new(&cluster, &networks, seed);
    let struck = nemesis.run(began + length).await;
    networks.iter().for_each(|network| network.set(Mode::Whole));
    struck?;
    println!("{:7.1} s  all is healed; the workers end", began.elapsed().as_secs_f64());
    world.is_stopped.store(true, Ordering::Relaxed);
    // A worker may have a call under way, which is not to be waited for longer than the longest bound.
    let patience = Instant::now() + Duration::from_secs(240);
    for (name, task) in tasks {
        let left = patience.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => bail!("the worker `{name}` ended early: {error}"),
            Err(_) => {
                let what = format!("the worker `{name}` does not end");
                world.history.violation(check::VERDICTS[8], what);
            }
        }
    }
    println!("{:7.1} s  the workers have ended", began.elapsed().as_secs_f64());
    let memory = watch.await??;
    let primary = nemesis.primary();
    if cluster.primary().await != Some(primary) {
        bail!("the primary is not server {primary} alone");
    }
    check::pools(&world, &cluster, primary).await;
    for pg in [&world.pg, &world.other] {
        pg.close_by_ref().await?;
    }
    let backends = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{USER}'");
    let gone = cluster::until("wharf's connections are closed", async || {
        cluster.number(primary, &backends).await.is_ok_and(|count| count == 0)
    });
    if let Err(error) = gone.await {
        world.history.violation(check::VERDICTS[7], error.to_string());
    }
    println!("{:7.1} s  all connections are closed", began.elapsed().as_secs_f64());
    check::tables(&world, &cluster, primary).await?;
    check::notifications(&world);
    report(&world, &nemesis.counts, &memory, length)
}

fn file(cluster: &Cluster, networks: &[Network]) -> String {
    let hosts: Vec<String> =
        networks.iter().map(|network| format!("\"127.0.0.1:{}\"", network.port)).collect();
    let reads = match networks.len() {
        1 => "",
        _ => "    reads: causal\n    topology: {interval: 200ms, probe_timeout: 1s}\n",
    };
    format!(
        "databases:
  soak:
    hosts: [{}]
    database: {DATABASE}
    user: {USER}
    password_file: {}
    ssl_mode: disable
    pool_size: 12
    max_overflow: 6
    pool_timeout: {}s
    connect_timeout: 3s
    socket_timeout: {}s
    statement_timeout: 3s
    idle_in_transaction_timeout: 5s
{reads}",
        hosts.join(", "),
        cluster.password_file().display(),
        P.as_secs(),
        S.as_secs(),
    )
}

/// Resident memory in KiB.
struct Memory {
    at_a_quarter: u64,
    at_the_end: u64,
}

impl Memory {
    fn is_flat(&self) -> bool {
        self.at_the_end <= self.at_a_quarter * 13 / 10 + 20 * 1024
    }
}

/// Looks at what runs for too long, at the pools' figures and at the memory, until the world is stopped.
async fn watch(world: Arc<World>, length: Duration) -> Result<Memory> {
    const PAUSE: Duration = Duration::from_millis(100);
    let began = Instant::now();
    let mut at_a_quarter = None;
    while !world.is_stopped.load(Ordering::Relaxed) {
        let slept = Instant::now();
        tokio::time::sleep(PAUSE).await;
        world.waits.note_stall(slept.elapsed().saturating_sub(PAUSE));
        for overdue in world.waits.overdue() {
            world.tell_overdue(&overdue);
        }
        check::figures(&world);
        if at_a_quarter.is_none() && began.elapsed() >= length / 4 {
            at_a_quarter = Some(memory::now()?);
        }
    }
    let at_the_end = memory::now()?;
    Ok(Memory { at_a_quarter: at_a_quarter.unwrap_or(at_the_end), at_the_end })
}

fn report(
    world: &World,
    faults: &BTreeMap<String, u32>,
    memory: &Memory,
    length: Duration,
) -> Result<bool> {
    println!("\n| worker | attempts | acknowledged | failed | unknown |\n|---|--:|--:|--:|--:|");
    for (name, it) in world.history.counts() {
        let attempts = it.acknowledged + it.failed + it.unknown;
        println!("| {name} | {attempts} | {} | {} | {} |", it.acknowledged, it.failed, it.unknown);
    }
    println!("\n| fault | times |\n|---|--:|");
    for (kind, times) in faults {
        println!("| {kind} | {times} |");
    }
    println!("\n| error | times |\n|---|--:|");
    for (kind, times) in world.history.errors() {
        println!("| {kind} | {times} |");
    }
    let stall = world.waits.stall();
    println!("\n| call | times | mean | longest | bound (slack: {SLACK:?} and {stall:.1?}) |");
    println!("|---|--:|--:|--:|--:|");
    for (call, it) in world.waits.taken() {
        let bound = call.bound().map_or_else(|| "–".to_owned(), |it| format!("{it:.2?}"));
        let (mean, longest) = (it.sum / it.times.max(1), it.longest);
        println!("| {} | {} | {mean:.1?} | {longest:.2?} | {bound} |", call.name(), it.times);
    }
    let Memory { at_a_quarter, at_the_end } = memory;
    println!("\nresident memory: {at_a_quarter} KiB at a quarter, {at_the_end} KiB at the end\n");
    if length >= LONG && !memory.is_flat() {
        let what = format!("it grew from {at_a_quarter} KiB to {at_the_end} KiB");
        world.history.violation(check::MEMORY, what);
    }
    let violations = world.history.violations();
    let mut verdicts = check::VERDICTS.to_vec();
    if length >= LONG {
        verdicts.push(check::MEMORY);
    }
    for verdict in verdicts {
        let broken: Vec<&String> =
            violations.iter().filter(|(of, _)| *of == verdict).map(|(_, what)| what).collect();
        println!("{}: {verdict}", if broken.is_empty() { "ok" } else { "BROKEN" });
        broken.iter().take(history::SHOWN).for_each(|what| println!("    {what}"));
        if broken.len() > history::SHOWN {
            println!("    and {} more", broken.len() - history::SHOWN);
        }
    }
    println!("seed {}: {} violations", world.seed, violations.len());
    Ok(violations.is_empty())
}
