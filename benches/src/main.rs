//! wharf beside its peers: the same work on the same PostgreSQL, turn by turn in one run.
//!
//! `cargo run --release -p benches`; `--help` narrows it. Read the ratios: the figures themselves
//! are the machine's. Each measurement is a process of its own, so that no peer runs among what
//! another has left, and so that the CPU time that the process took is the peer's.

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod account;
mod copies;
mod databases;
mod figures;
mod history;
mod machine;
mod measure;
mod memory;
mod monitored;
mod peers;
mod pgbouncer;
mod ratios;
mod run;
mod server;
mod soak;
mod standbys;
mod streams;
mod table;
mod vectors;
mod work;

use std::{env, path::PathBuf};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

use peers::Name;
use streams::Reader;
use work::Work;

/// wharf beside its peers, on a PostgreSQL of its own.
#[derive(Parser)]
struct Args {
    /// How often everything is measured; the median counts.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each measurement takes, without its warm-up.
    #[arg(long, default_value_t = 1)]
    seconds: u64,
    /// Only this work (again for another).
    #[arg(long)]
    work: Vec<Work>,
    /// Only this many tasks on the 8 connections (again for another).
    #[arg(long, default_values_t = [1, 8, 80])]
    tasks: Vec<usize>,
    /// Only this peer (again for another).
    #[arg(long)]
    peer: Vec<Name>,
    /// Go through this PgBouncer, 1.21 or later.
    #[arg(long, value_name = "PROGRAM")]
    pgbouncer: Option<PathBuf>,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Subcommand)]
enum Part {
    /// Rows by the million into a table, in place of everything else.
    Copies {
        /// Only this table (again for another).
        table: Vec<copies::Table>,
    },
    /// One way of them, on the server that the environment names.
    #[command(hide = true)]
    Copy { writer: copies::Writer, table: copies::Table },
    /// The nearest of 100,000 vectors, on a server in Docker.
    Vectors(vectors::Vectors),
    /// One measurement, on the server that the environment names.
    #[command(hide = true)]
    Measure { peer: Name, work: Work, tasks: usize, seconds: u64 },
    /// Faults of all kinds while wharf is at work, and a check of what it promised.
    Soak(soak::Soak),
    /// Measure what reads on standbys cost, and nothing else.
    Standbys,
    /// A million rows as they come, in place of everything else.
    Streams,
    /// One reading of them, on the server that the environment names.
    #[command(hide = true)]
    Stream { reader: Reader },
}

fn main() -> Result<()> {
    let args = Args::parse();
    let runtime = tokio::runtime::Runtime::new()?;
    match args.part {
        None => runtime.block_on(run::all(args)),
        Some(Part::Copies { table }) => runtime.block_on(copies::all(args.rounds, table)),
        Some(Part::Copy { writer, table }) => {
            println!("{}", runtime.block_on(copies::one(writer, table, &url()?))?);
            Ok(())
        }
        Some(Part::Standbys) => runtime.block_on(standbys::run()),
        Some(Part::Streams) => runtime.block_on(streams::all(args.rounds)),
        Some(Part::Stream { reader }) => {
            println!("{}", runtime.block_on(streams::read(reader, &url()?))?);
            Ok(())
        }
        Some(Part::Soak(told)) => match runtime.block_on(soak::run(told))? {
            true => Ok(()),
            false => std::process::exit(1),
        },
        Some(Part::Vectors(told)) => runtime.block_on(vectors::run(told)),
        Some(Part::Measure { peer, work, tasks, seconds }) => {
            let url = url()?;
            let line = runtime.block_on(peers::measure(peer, &url, work, tasks, seconds))?;
            println!("{line}");
            Ok(())
        }
    }
}

/// That of the server that is measured on.
fn url() -> Result<String> {
    env::var(server::URL).context("a part of `benches` is not run by hand")
}
