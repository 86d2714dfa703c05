//! Copies: all rows, or none. A row that is wrong, or a dropped future, is none.

use std::time::Duration;

use super::Worker;
use crate::soak::{history::Outcome, tables, waits::Call};

pub async fn run(mut worker: Worker) {
    while worker.goes_on() {
        let batch = worker.world.history.copies.begin();
        let rows = tables::batch_rows(worker.world.seed, batch);
        // A duplicate key, which the server finds at the end.
        let is_wrong = worker.rng.u8(..) < 32;
        let limit =
            (worker.rng.u8(..) < 64).then(|| Duration::from_micros(worker.rng.u64(100..100_000)));
        let pg = worker.world.pg.clone();
        let numbers = (0..rows).map(move |n| if is_wrong && n == rows - 1 { 0 } else { n });
        let copy = pg.copy_in_named("batch", ["batch", "number"]);
        let work = copy.rows(numbers.map(move |number| (batch, number)));
        let work = worker.timed(Call::Copy, work);
        let result = match limit {
            None => work.await,
            Some(limit) => match tokio::time::timeout(limit, work).await {
                Ok(result) => result,
                // It commits by itself, so that may have happened.
                Err(_) => {
                    let outcome = if is_wrong { Outcome::Failed } else { Outcome::Unknown };
                    worker.world.history.copies.end(batch, outcome);
                    worker.world.history.count(worker.name, outcome);
                    continue;
                }
            },
        };
        let outcome = Outcome::of_session(&result);
        worker.world.history.copies.end(batch, outcome);
        match &result {
            Ok(_) if is_wrong => {
                worker.violation(
                    "copies are whole",
                    format!("batch {batch} has a key twice, and no error"),
                );
            }
            Err(error) if is_wrong && error.is_unique_violation() => {
                worker.world.history.count(worker.name, outcome);
            }
            _ => worker.note(outcome, &result),
        }
        worker.pause(200).await;
    }
}
