//! Whether memory grows with what a peer has done.

use std::{fmt, fs, str::FromStr};

use anyhow::{Context, Result};

use crate::{
    peers::Peer,
    work::{self, Work},
};

const TASKS: usize = 8;
const WARM_UP: usize = 20_000;
const LOOK_UPS: usize = 100_000;

/// Resident memory in KiB.
pub struct Resident {
    before: u64,
    after: u64,
}

pub async fn resident<P: Peer>(peer: P) -> Result<Resident> {
    look_ups(&peer, WARM_UP).await?;
    let before = now()?;
    look_ups(&peer, LOOK_UPS).await?;
    Ok(Resident { before, after: now()? })
}

async fn look_ups<P: Peer>(peer: &P, number: usize) -> Result<()> {
    let task = |peer: P| async move {
        for _ in 0..number / TASKS {
            work::once(&peer, Work::Entity).await?;
        }
        Ok::<_, anyhow::Error>(())
    };
    let tasks: Vec<_> = (0..TASKS).map(|_| tokio::spawn(task(peer.clone()))).collect();
    for task in tasks {
        task.await??;
    }
    Ok(())
}

/// The resident memory of this process, in KiB.
pub fn now() -> Result<u64> {
    status("VmRSS:")
}

/// The most resident memory that this process has had, in KiB.
pub fn peak() -> Result<u64> {
    status("VmHWM:")
}

fn status(field: &'static str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status").context("resident memory needs Linux")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next()).context(field)?;
    Ok(number.parse()?)
}

impl Resident {
    pub fn told(&self) -> String {
        let Resident { before, after } = self;
        format!("{TASKS} tasks: {before} KiB resident before, {after} KiB after")
    }
}

impl fmt::Display for Resident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.before, self.after)
    }
}

impl FromStr for Resident {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Resident> {
        let (before, after) = line.trim().split_once(' ').context("not two numbers")?;
        Ok(Resident { before: before.parse()?, after: after.parse()? })
    }
}
