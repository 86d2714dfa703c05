//! Nested sessions: an inner transfer is there only if it was kept, and the outer one was.

use std::sync::Arc;

use wharf::{Error, Session};

use super::{Hand, Worker};
use crate::soak::{history::Outcome, waits::Call};

pub async fn run(mut worker: Worker) {
    while worker.goes_on() {
        let world = Arc::clone(&worker.world);
        let ledger = &world.history.ledger;
        let (outer, inner) = (ledger.begin(), ledger.begin());
        let is_kept = worker.rng.bool();
        let hand = worker.hand.clone();
        let work = world.pg.session().run(async move |s| {
            hand.clone().transfer(s, outer, None).await?;
            inside(hand, s, inner, outer, is_kept).await
        });
        let result = work.await;
        let outcome = Outcome::of_session(&result);
        ledger.end(outer, outcome);
        ledger.end(inner, if is_kept { outcome } else { Outcome::Failed });
        worker.note(outcome, &result);
        worker.pause(30).await;
    }
}

async fn inside(
    hand: Hand,
    s: &Session,
    inner: i64,
    outer: i64,
    is_kept: bool,
) -> Result<(), Error> {
    let nested = hand.timed(Call::Savepoint, s.begin()).await?;
    hand.clone().transfer(&nested, inner, Some(outer)).await?;
    let end = async { if is_kept { nested.commit().await } else { nested.rollback().await } };
    Ok(hand.timed(Call::Savepoint, end).await?)
}
