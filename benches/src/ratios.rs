//! What wharf is to reach beside its peers.

use crate::{
    figures::Figures,
    peers::Name::{
        self, Pgbench, SeaOrm, SeaOrmTuned, TokioPostgres, Wharf, WharfReadOnly, WharfScoped,
    },
    run::Measured,
    work::Work::{self, Entity, ReadOnly, ReadOnlyStatement, Rows, Scoped, Write},
};

const TASKS: usize = 8;

/// Whose rate, over whose, and at least how much; or `None`, to be known only.
const RATIOS: [(Work, Name, Name, Option<f64>); 12] = [
    (Entity, Wharf, SeaOrm, Some(2.0)),
    (Entity, Wharf, SeaOrmTuned, Some(1.6)),
    (Entity, Wharf, TokioPostgres, Some(1.0)),
    (Entity, Wharf, Pgbench, Some(0.7)),
    (ReadOnly, Wharf, SeaOrm, Some(1.3)),
    (ReadOnly, Wharf, TokioPostgres, Some(0.95)),
    (ReadOnlyStatement, WharfReadOnly, Wharf, Some(0.98)),
    // A scoped session takes at most 1.15 of a plain one's time.
    (Scoped, WharfScoped, Wharf, Some(0.87)),
    (Write, Wharf, SeaOrm, Some(1.4)),
    (Write, Wharf, TokioPostgres, Some(1.0)),
    (Rows, Wharf, SeaOrm, Some(1.05)),
    (Rows, Wharf, TokioPostgres, None),
];

pub fn print(measured: &Measured) {
    println!("\n### ratios of op/s, {TASKS} tasks\n");
    println!("| work | rate | of medians | least and most of the rounds | goal | reached |");
    println!("|---|---|--:|--:|--:|---|");
    for (work, ours, theirs, goal) in RATIOS {
        let rounds = |peer| measured.rounds(work, peer, TASKS);
        let (Some(rounds), Some(of)) = (rounds(ours), rounds(theirs)) else { continue };
        let rate = |figures: &Figures| figures.ops_per_second;
        let ratio = rate(&Figures::medians(rounds)) / rate(&Figures::medians(of));
        let each = || rounds.iter().zip(of).map(|(ours, theirs)| rate(ours) / rate(theirs));
        let (least, most) = (each().fold(f64::MAX, f64::min), each().fold(0.0, f64::max));
        let (goal, reached) = match goal {
            Some(goal) if ratio >= goal => (format!("≥ {goal}"), "yes"),
            Some(goal) => (format!("≥ {goal}"), "**no**"),
            None => ("–".to_owned(), "–"),
        };
        let (work, ours, theirs) = (work.name(), ours.title(), theirs.title());
        println!(
            "| {work} | {ours} / {theirs} | {ratio:.2} | {least:.2} – {most:.2} | {goal} | {reached} |"
        );
    }
}
