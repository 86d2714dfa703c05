//! What it costs to look at statements: with and without, turn by turn in one process, for the difference
//! is less than what the machine does from one second to the next.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::sys::resource::UsageWho;

use crate::{
    measure::cpu,
    peers::Peer,
    work::{self, Work},
};

const TASKS: usize = 8;
const TURNS: usize = 200;
const TURN: Duration = Duration::from_millis(100);

/// Medians over all pairs of turns.
pub struct Monitored {
    /// Rate with, over that without.
    ratio: f64,
    /// CPU µs for one operation without.
    without: f64,
    /// And how many more with.
    more: f64,
}

impl Monitored {
    pub fn row(&self, title: &str, goal: f64) {
        let Monitored { ratio, without, more } = self;
        let reached = |yes| if yes { "yes" } else { "**no**" };
        println!(
            "| {title} | {ratio:.3} | ≥ {goal} | {} | {without:.1} | {more:+.2} |",
            reached(*ratio >= goal)
        );
    }
}

pub async fn beside<P: Peer>(with: P, without: P) -> Result<Monitored> {
    for peer in [&with, &without] {
        turn(peer).await?;
    }
    let (mut ratios, mut less, mut more) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 0..TURNS {
        // Neither is always the first.
        let (looked_at, not) = if pair % 2 == 0 {
            let looked_at = turn(&with).await?;
            (looked_at, turn(&without).await?)
        } else {
            let not = turn(&without).await?;
            (turn(&with).await?, not)
        };
        ratios.push(looked_at.rate / not.rate);
        less.push(not.cpu);
        more.push(looked_at.cpu - not.cpu);
    }
    let (ratio, without, more) = (median(ratios), median(less), median(more));
    Ok(Monitored { ratio, without, more })
}

struct Turn {
    rate: f64,
    /// For one operation, in µs.
    cpu: f64,
}

async fn turn<P: Peer>(peer: &P) -> Result<Turn> {
    let (before, began) = (cpu(UsageWho::RUSAGE_SELF)?, Instant::now());
    let until = began + TURN;
    let task = |peer: P| async move {
        let mut done = 0u32;
        while Instant::now() < until {
            work::once(&peer, Work::Entity).await?;
            done += 1;
        }
        Ok::<_, anyhow::Error>(done)
    };
    let tasks: Vec<_> = (0..TASKS).map(|_| tokio::spawn(task(peer.clone()))).collect();
    let mut done = 0.0;
    for task in tasks {
        done += f64::from(task.await??);
    }
    let rate = done / began.elapsed().as_secs_f64();
    Ok(Turn { rate, cpu: (cpu(UsageWho::RUSAGE_SELF)? - before) / done })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

impl fmt::Display for Monitored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.ratio, self.without, self.more)
    }
}

impl FromStr for Monitored {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Monitored> {
        let figures: Result<Vec<f64>, _> = line.split_whitespace().map(str::parse).collect();
        match figures.with_context(|| format!("not figures: {line}"))?[..] {
            [ratio, without, more] => Ok(Monitored { ratio, without, more }),
            _ => bail!("not three figures: {line}"),
        }
    }
}
