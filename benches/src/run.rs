//! The whole run: rounds, and in each every peer in its turn.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    process::{Command, Stdio},
};

use anyhow::{Result, ensure};
use clap::ValueEnum;

use crate::{
    Args,
    databases::{self, Databases},
    figures::Figures,
    machine,
    memory::Resident,
    monitored::Monitored,
    peers::Name,
    ratios,
    server::Server,
    table,
    work::Work,
};

/// What was measured: rounds of each work of each peer, by the number of tasks.
#[derive(Default)]
pub struct Measured {
    rounds: BTreeMap<(Work, Name, usize), Vec<Figures>>,
    resident: Option<Resident>,
    monitored: Vec<(Name, Monitored)>,
    databases: Option<Databases>,
}

impl Measured {
    pub fn rounds(&self, work: Work, peer: Name, tasks: usize) -> Option<&[Figures]> {
        Some(self.rounds.get(&(work, peer, tasks))?)
    }

    pub fn medians(&self, work: Work, peer: Name, tasks: usize) -> Option<Figures> {
        self.rounds(work, peer, tasks).map(Figures::medians)
    }

    pub fn tasks(&self, work: Work) -> BTreeSet<usize> {
        self.rounds.keys().filter(|key| key.0 == work).map(|key| key.2).collect()
    }
}

pub async fn all(args: Args) -> Result<()> {
    let server = Server::start(args.pgbouncer.as_deref()).await?;
    let result = measured(&args, &server).await;
    let version = server.version().to_owned();
    server.stop().await?;
    let measured = result?;
    println!("{}\n", machine::line(&version));
    println!(
        "Medians of {} rounds, {} s each measurement. pgbench's p50 and p99 are those of a tenth \
         of its transactions.",
        args.rounds, args.seconds
    );
    table::print(&measured);
    ratios::print(&measured);
    if !measured.monitored.is_empty() {
        println!("\n### {}, beside `enabled: false`\n", Work::Monitored.title());
        println!(
            "| looked at | op/s, of those without | goal | reached | CPU µs/op without | more |"
        );
        println!("|---|--:|--:|---|--:|--:|");
    }
    for (peer, monitored) in &measured.monitored {
        let goal = if *peer == Name::WharfPrometheus { 0.93 } else { 0.97 };
        monitored.row(peer.title(), goal);
    }
    if let Some(databases) = measured.databases {
        println!("\n### {}\n", Work::Databases.title());
        databases.print();
    }
    if let Some(resident) = measured.resident {
        println!("\n### {}\n\n{}", Work::Memory.title(), resident.told());
    }
    Ok(())
}

async fn measured(args: &Args, server: &Server) -> Result<Measured> {
    let works: Vec<_> = Work::value_variants()
        .iter()
        .copied()
        .filter(|work| args.work.is_empty() || args.work.contains(work))
        .collect();
    let mut measured = Measured::default();
    for round in 0..args.rounds {
        eprintln!("round {} of {}", round + 1, args.rounds);
        for work in works.iter().copied().filter(|work| !work.is_apart()) {
            for tasks in args.tasks.iter().copied() {
                for peer in turns(args, work, round) {
                    if peer.takes(tasks) {
                        let line = child(server, peer, work, tasks, args.seconds)?;
                        let rounds = measured.rounds.entry((work, peer, tasks));
                        rounds.or_default().push(line.parse()?);
                    }
                }
            }
        }
        server.tidy().await?;
    }
    if works.contains(&Work::Monitored) {
        for peer in turns(args, Work::Monitored, 0) {
            let line = child(server, peer, Work::Monitored, 8, 0)?;
            measured.monitored.push((peer, line.parse()?));
        }
    }
    if works.contains(&Work::Databases) {
        measured.databases = Some(tokio::task::spawn_blocking(databases::measured).await??);
    }
    if works.contains(&Work::Memory) {
        let line = child(server, Name::Wharf, Work::Memory, 8, 0)?;
        measured.resident = Some(line.parse()?);
    }
    Ok(measured)
}

/// Who takes part, each first in some round.
fn turns(args: &Args, work: Work, round: usize) -> Vec<Name> {
    let takes_part = |peer: &Name| args.peer.is_empty() || args.peer.contains(peer);
    let mut peers: Vec<_> = work.peers().iter().copied().filter(takes_part).collect();
    let first = round % peers.len().max(1);
    peers.rotate_left(first);
    peers
}

/// Measures in a process of its own. Blocks: nothing else is to run.
fn child(server: &Server, peer: Name, work: Work, tasks: usize, seconds: u64) -> Result<String> {
    let mut command = server.environment(Command::new(env::current_exe()?));
    command.args(["measure".to_owned(), peer.name(), work.name()]);
    command.args([tasks.to_string(), seconds.to_string()]).stderr(Stdio::inherit());
    let output = command.output()?;
    ensure!(output.status.success(), "{peer:?}, {work:?}, {tasks} tasks: {}", output.status);
    Ok(String::from_utf8(output.stdout)?)
}
