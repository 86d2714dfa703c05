//! What a measurement gives, and the line in which it tells the process that asked for it.

use std::{fmt, str::FromStr};

use anyhow::{Context, Result, bail};

#[derive(Clone, Copy, Debug)]
pub struct Figures {
    pub ops_per_second: f64,
    /// User and system time of the whole client process, for one operation, in µs.
    pub cpu: f64,
    /// In µs.
    pub p50: f64,
    pub p99: f64,
}

impl Figures {
    /// `latencies` in ns.
    pub fn new(ops_per_second: f64, cpu: f64, mut latencies: Vec<u32>) -> Figures {
        latencies.sort_unstable();
        let percentile = |percent: usize| {
            let last = latencies.len().saturating_sub(1);
            latencies.get(last * percent / 100).map_or(f64::NAN, |ns| f64::from(*ns) / 1e3)
        };
        Figures { ops_per_second, cpu, p50: percentile(50), p99: percentile(99) }
    }

    /// Figure by figure.
    pub fn medians(rounds: &[Figures]) -> Figures {
        let median = |figure: fn(&Figures) -> f64| {
            let mut values: Vec<f64> = rounds.iter().map(figure).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
        };
        Figures {
            ops_per_second: median(|round| round.ops_per_second),
            cpu: median(|round| round.cpu),
            p50: median(|round| round.p50),
            p99: median(|round| round.p99),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { ops_per_second, cpu, p50, p99 } = self;
        write!(f, "{ops_per_second} {cpu} {p50} {p99}")
    }
}

impl FromStr for Figures {
    type Err = anyhow::Error;

    fn from_str(line: &str) -> Result<Figures> {
        let figures: Result<Vec<f64>, _> = line.split_whitespace().map(str::parse).collect();
        match figures.with_context(|| format!("not figures: {line}"))?[..] {
            [ops_per_second, cpu, p50, p99] => Ok(Figures { ops_per_second, cpu, p50, p99 }),
            _ => bail!("not four figures: {line}"),
        }
    }
}
