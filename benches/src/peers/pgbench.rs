//! PostgreSQL's own pgbench, in C and without a pool: about what the server can give.

use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::UsageWho;

use crate::{
    figures::Figures,
    measure,
    server::{ACCOUNTS, BRANCH, PGBENCH, SCALE},
    work::Work,
};

/// Of the transactions, so many have their latency written down: each costs pgbench time.
const SAMPLED: f64 = 0.1;

pub fn measure(work: Work, tasks: usize, seconds: u64) -> Result<Figures> {
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("script.sql");
    fs::write(&script, script_of(work)?)?;
    let threads = thread::available_parallelism()?.get().min(tasks);
    // Where the server is, the environment says.
    let output = Command::new(env::var(PGBENCH)?)
        .args(["--no-vacuum", "--protocol=prepared", "--log"])
        .arg(format!("--sampling-rate={SAMPLED}"))
        .arg(format!("--log-prefix={}", folder.path().join("log").display()))
        .arg(format!("--file={}", script.display()))
        .arg(format!("--client={tasks}"))
        .arg(format!("--jobs={threads}"))
        .arg(format!("--time={seconds}"))
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "pgbench: {}", output.status);
    let said = String::from_utf8(output.stdout)?;
    let figure = |before: &str| -> Result<f64> {
        let line = said.lines().find_map(|line| line.strip_prefix(before));
        let first = line.and_then(|line| line.split([' ', '/']).next());
        Ok(first.with_context(|| format!("pgbench does not say `{before}`"))?.parse()?)
    };
    let ops = figure("number of transactions actually processed: ")?;
    let cpu = measure::cpu(UsageWho::RUSAGE_CHILDREN)? / ops;
    Ok(Figures::new(figure("tps = ")?, cpu, latencies(folder.path())?))
}

fn script_of(work: Work) -> Result<String> {
    let aid = format!("\\set aid random(1, {ACCOUNTS})\n");
    let look_up = "SELECT aid, bid, abalance, filler FROM pgbench_accounts WHERE aid = :aid;\n";
    match work {
        Work::Entity => Ok(format!("{aid}{look_up}")),
        Work::ReadOnly => Ok(format!("{aid}BEGIN READ ONLY;\n{look_up}COMMIT;\n")),
        Work::Write => Ok(format!(
            "{aid}\\set bid (:aid - 1) / {BRANCH} + 1\n\
             \\set tid random(1, 10 * {SCALE})\n\
             \\set delta random(-5000, 5000)\n\
             BEGIN;\n\
             UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;\n\
             INSERT INTO pgbench_history (tid, bid, aid, delta) \
             VALUES (:tid, :bid, :aid, :delta);\n\
             COMMIT;\n"
        )),
        other => bail!("pgbench does not do {other:?}"),
    }
}

/// From the logs that its threads wrote, in ns.
fn latencies(folder: &Path) -> Result<Vec<u32>> {
    let mut latencies = Vec::new();
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("log.")) {
            continue;
        }
        for line in fs::read_to_string(path)?.lines() {
            // client, number, µs, script, when
            let micros = line.split(' ').nth(2).context("a line of pgbench's log")?;
            latencies.push(micros.parse::<u32>()?.saturating_mul(1_000));
        }
    }
    Ok(latencies)
}
