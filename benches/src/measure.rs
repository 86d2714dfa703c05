//! One work of one peer, by a number of tasks, in this process.

use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::{
    resource::{UsageWho, getrusage},
    time::TimeVal,
};

use crate::{
    figures::Figures,
    peers::Peer,
    work::{self, Work},
};

/// Opens the connections and has each prepare its statements: all tasks ask at once, and
/// connecting takes longer than an operation.
const WARM_UP: Duration = Duration::from_millis(300);

pub async fn tasks<P: Peer>(peer: P, work: Work, tasks: usize, seconds: u64) -> Result<Figures> {
    let from = Instant::now() + WARM_UP;
    let until = from + Duration::from_secs(seconds);
    let tasks: Vec<_> =
        (0..tasks).map(|_| tokio::spawn(task(peer.clone(), work, from, until))).collect();
    tokio::time::sleep_until(from.into()).await;
    let before = cpu(UsageWho::RUSAGE_SELF)?;
    tokio::time::sleep_until(until.into()).await;
    let after = cpu(UsageWho::RUSAGE_SELF)?;
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await??);
    }
    let ops = latencies.len() as f64;
    Ok(Figures::new(ops / seconds as f64, (after - before) / ops, latencies))
}

/// How long each operation took, in ns, of those that ended between `from` and `until`.
async fn task<P: Peer>(peer: P, work: Work, from: Instant, until: Instant) -> Result<Vec<u32>> {
    let mut latencies = Vec::with_capacity(1 << 16);
    let mut began = Instant::now();
    loop {
        work::once(&peer, work).await?;
        let ended = Instant::now();
        if ended >= until {
            return Ok(latencies);
        }
        if ended >= from {
            latencies.push(u32::try_from((ended - began).as_nanos()).unwrap_or(u32::MAX));
        }
        began = ended;
    }
}

/// User and system time in µs.
pub fn cpu(who: UsageWho) -> Result<f64> {
    let usage = getrusage(who)?;
    let micros = |time: TimeVal| time.tv_sec() as f64 * 1e6 + time.tv_usec() as f64;
    Ok(micros(usage.user_time()) + micros(usage.system_time()))
}
