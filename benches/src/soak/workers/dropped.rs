//! Transfers whose future is dropped at a random moment. Where COMMIT was not called before, nothing may be kept.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use wharf::Error;

use super::Worker;
use crate::soak::{history::Outcome, waits::Call};

pub async fn run(mut worker: Worker) {
    while worker.goes_on() {
        let id = worker.world.history.ledger.begin();
        let may_have_committed = AtomicBool::new(false);
        let limit = Duration::from_micros(worker.rng.u64(100..150_000));
        let work = async {
            let s = worker.timed(Call::Begin, worker.world.pg.session().into_future()).await?;
            worker.hand.clone().transfer(&s, id, None).await?;
            may_have_committed.store(true, Ordering::SeqCst);
            Ok::<_, Error>(worker.timed(Call::Commit, s.commit()).await?)
        };
        let outcome = match tokio::time::timeout(limit, work).await {
            Ok(result) => {
                let outcome = Outcome::of_session(&result);
                worker.note(outcome, &result);
                outcome
            }
            Err(_) => {
                let outcome = match may_have_committed.load(Ordering::SeqCst) {
                    true => Outcome::Unknown,
                    false => Outcome::Failed,
                };
                worker.world.history.count(worker.name, outcome);
                outcome
            }
        };
        worker.world.history.ledger.end(id, outcome);
        worker.pause(100).await;
    }
}
