//! Transfers, each in a session: through `run`, by `commit`, and with `retry`.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use sea_orm::IsolationLevel;
use wharf::Error;

use super::Worker;
use crate::soak::{history::Outcome, waits::Call};

pub async fn run(mut worker: Worker) {
    while worker.goes_on() {
        let id = worker.world.history.ledger.begin();
        let result = if worker.rng.bool() {
            let hand = worker.hand.clone();
            let session = worker.world.pg.session();
            let work = session.run(async move |s| hand.transfer(s, id, None).await);
            worker.timed(Call::Run, work).await
        } else {
            by_hand(&worker, id).await
        };
        let outcome = Outcome::of_session(&result);
        worker.world.history.ledger.end(id, outcome);
        worker.note(outcome, &result);
        worker.pause(20).await;
    }
}

async fn by_hand(worker: &Worker, id: i64) -> Result<(), Error> {
    let s = worker.timed(Call::Begin, worker.world.pg.session().into_future()).await?;
    if let Err(error) = worker.hand.clone().transfer(&s, id, None).await {
        // Its own error says nothing new: the server rolls back by itself.
        let _ = worker.timed(Call::Rollback, s.rollback()).await;
        return Err(error);
    }
    let is_called = Arc::new(AtomicBool::new(false));
    let hook = Arc::clone(&is_called);
    s.after_commit(move || hook.store(true, Ordering::SeqCst));
    let committed = worker.timed(Call::Commit, s.commit()).await;
    if is_called.load(Ordering::SeqCst) != committed.is_ok() {
        let what =
            format!("the hook of transfer {id} was called: {is_called:?}, after {committed:?}");
        worker.violation("nothing is lost or doubled", what);
    }
    Ok(committed?)
}

/// A doubled row in the ledger would tell of a session that was run again after its COMMIT.
pub async fn retry(mut worker: Worker) {
    while worker.goes_on() {
        let id = worker.world.history.ledger.begin();
        let mut session = worker.world.pg.session();
        if worker.rng.bool() {
            session = session.isolation(IsolationLevel::Serializable);
        }
        let hand = worker.hand.clone();
        let work = session.retry(3).run(async move |s| hand.clone().transfer(s, id, None).await);
        let result = worker.timed(Call::Retry, work).await;
        let outcome = Outcome::of_session(&result);
        worker.world.history.ledger.end(id, outcome);
        worker.note(outcome, &result);
        worker.pause(20).await;
    }
}
