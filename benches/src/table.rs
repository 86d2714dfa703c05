//! The figures as Markdown.

use clap::ValueEnum;

use crate::{figures::Figures, run::Measured, work::Work};

pub fn print(measured: &Measured) {
    for work in Work::value_variants().iter().copied() {
        let tasks = measured.tasks(work);
        if tasks.is_empty() {
            continue;
        }
        println!("\n### {}\n", work.title());
        let head = tasks.iter().map(|tasks| match tasks {
            1 => "1 task: op/s | CPU µs/op | p50 µs | p99 µs".to_owned(),
            tasks => format!("{tasks} tasks: op/s | CPU µs/op | p50 µs | p99 µs"),
        });
        row("peer", head);
        println!("|---|{}", "--:|".repeat(4 * tasks.len()));
        for peer in work.peers() {
            let medians = tasks.iter().map(|tasks| measured.medians(work, *peer, *tasks));
            let medians: Vec<_> = medians.collect();
            if medians.iter().any(Option::is_some) {
                row(peer.title(), medians.into_iter().map(cells));
            }
        }
    }
    fairness(measured);
}

fn row(first: &str, rest: impl Iterator<Item = String>) {
    println!("| {first} | {} |", rest.collect::<Vec<_>>().join(" | "));
}

fn cells(medians: Option<Figures>) -> String {
    match medians {
        Some(Figures { ops_per_second, cpu, p50, p99 }) => {
            format!("{ops_per_second:.0} | {cpu:.1} | {p50:.0} | {p99:.0}")
        }
        None => "– | – | – | –".to_owned(),
    }
}

/// How evenly many tasks share few connections.
fn fairness(measured: &Measured) {
    const TASKS: usize = 80;
    let of = |peer| Some((peer, measured.medians(Work::Entity, peer, TASKS)?));
    let peers: Vec<_> = Work::Entity.peers().iter().copied().filter_map(of).collect();
    if peers.is_empty() {
        return;
    }
    println!("\n### fairness: `entity`, {TASKS} tasks on 8 connections\n");
    println!("| peer | p99 / p50 |\n|---|--:|");
    for (peer, Figures { p50, p99, .. }) in peers {
        println!("| {} | {:.1} |", peer.title(), p99 / p50);
    }
}
