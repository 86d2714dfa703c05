//! Notifications: what was committed is heard once, or `Lost` stands in its place.

use std::{sync::Mutex, time::Duration};

use wharf::{Error, Session, listen::Event};

use super::{Hand, Worker};
use crate::soak::{
    history::{Outcome, lock},
    waits::Call,
};

const CHANNEL: &str = "soak";

/// The notifications of a listener, in order. None stands for [`Event::Lost`].
#[derive(Debug, Default)]
pub struct Heard(Mutex<Vec<Option<i64>>>);

impl Heard {
    pub fn events(&self) -> Vec<Option<i64>> {
        lock(&self.0).clone()
    }
}

/// Notifies by number, one after the other, each in a session.
pub async fn notify(mut worker: Worker) {
    while worker.goes_on() {
        let number = worker.world.history.notified.begin();
        let is_kept = worker.rng.u8(..) >= 32;
        let hand = worker.hand.clone();
        let session = worker.world.pg.session();
        let work = session.run(async move |s| say(hand, s, number, is_kept).await);
        let result = worker.timed(Call::Run, work).await;
        let outcome = Outcome::of_session(&result);
        worker.world.history.notified.end(number, outcome);
        match is_kept {
            true => worker.note(outcome, &result),
            // It rolls itself back.
            false => worker.world.history.count(worker.name, Outcome::Failed),
        }
        worker.pause(60).await;
    }
}

async fn say(hand: Hand, s: &Session, number: i64, is_kept: bool) -> Result<(), Error> {
    hand.timed(Call::InSession, s.notify(CHANNEL, number.to_string())).await?;
    match is_kept {
        true => Ok(()),
        false => Err(Error::SessionEnded { database: "rolled back on purpose".to_owned() }),
    }
}

/// Listens until the world is stopped and the last notification that was acknowledged has come, or `Lost` after it.
pub async fn listen(worker: Worker) {
    let mut listener = loop {
        let listen = worker.world.pg.listen([CHANNEL]).ping_every(Duration::from_secs(1));
        match worker.timed(Call::Listen, listen.into_future()).await {
            Ok(listener) => break listener,
            Err(error) => worker.world.history.error(worker.name, &error),
        }
        if !worker.goes_on() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    // A listener that was not there yet misses nothing.
    lock(&worker.world.heard.0).push(None);
    let mut quiet_since = None;
    loop {
        match tokio::time::timeout(Duration::from_millis(100), listener.recv()).await {
            Ok(Ok(event)) => {
                let event = match event {
                    Event::Notification(it) => Some(it.payload.parse().unwrap_or(-1)),
                    Event::Lost { .. } => None,
                };
                lock(&worker.world.heard.0).push(event);
                worker.world.history.count(worker.name, Outcome::Acknowledged);
                quiet_since = None;
            }
            Ok(Err(error)) => {
                worker.world.history.error(worker.name, &error);
                return;
            }
            Err(_) if worker.goes_on() => {}
            // Nobody notifies any more, and the network is whole: what there is comes soon. A connection that was lost is
            // noticed by its ping, within a second and `connect_timeout`.
            Err(_) => {
                let since = *quiet_since.get_or_insert_with(std::time::Instant::now);
                if since.elapsed() > Duration::from_secs(6) {
                    return;
                }
            }
        }
    }
}
