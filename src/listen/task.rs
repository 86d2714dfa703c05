//! Who has the listening connection, from when it is opened until nobody listens.

use std::{collections::BTreeSet, pin::pin, sync::Arc, time::Duration};

use futures_util::future::{Either, pending, select};
use sea_orm::{DbErr, RuntimeErr};
use tokio::sync::{mpsc, oneshot};

use super::Event;
use crate::{
    error::Error,
    pg::Pg,
    pool::{self, Listening, ListensTo},
};

/// The longest distance between two attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

pub(super) type Told = oneshot::Sender<Result<(), Error>>;

/// What a listener asks for.
pub(super) enum Request {
    Listen(String, Told),
    Unlisten(String, Told),
}

pub(super) struct Task {
    pg: Pg,
    /// What is listened to, on whichever connection there is.
    channels: BTreeSet<String>,
    ping_every: Duration,
    tell: mpsc::Sender<Event>,
    requests: mpsc::Receiver<Request>,
    /// Who asked for something when the connection was lost.
    untold: Option<Told>,
}

impl Task {
    pub(super) fn new(
        pg: Pg,
        channels: BTreeSet<String>,
        ping_every: Duration,
        tell: mpsc::Sender<Event>,
        requests: mpsc::Receiver<Request>,
    ) -> Task {
        Task { pg, channels, ping_every, tell, requests, untold: None }
    }

    /// Until the listener is dropped, or the database closed.
    pub(super) async fn run(mut self, opened: Told) {
        let (pg, tell) = (self.pg.clone(), self.tell.clone());
        let (closing, unread) = (pin!(pg.database().closing()), pin!(tell.closed()));
        select(select(closing, unread), pin!(self.listen(opened))).await;
    }

    async fn listen(&mut self, opened: Told) {
        let mut listening = match self.open().await {
            Ok(listening) => listening,
            Err(error) => {
                let _ = opened.send(Err(error));
                return;
            }
        };
        let _ = opened.send(Ok(()));
        loop {
            let error = self.until_lost(&mut listening).await;
            let heard_at = listening.heard_at;
            drop(listening);
            let database = self.pg.name();
            tracing::warn!(database, %error, "lost the listening connection; reconnecting");
            listening = self.reopen().await;
            let gap = heard_at.elapsed();
            tracing::info!(database = self.pg.name(), ?gap, "listening again");
            if let Some(told) = self.untold.take() {
                let _ = told.send(Ok(()));
            }
            let _ = self.tell.send(Event::Lost { gap }).await;
        }
    }

    async fn open(&self) -> Result<Listening, Error> {
        let to = self.pg.database().connect_to(self.pg.is_read_only()).await?;
        ListensTo::new(to.direct("listening")?)?
            .open(self.channels.iter().map(String::as_str))
            .await
    }

    async fn reopen(&self) -> Listening {
        let mut attempts = 0;
        loop {
            match self.open().await {
                Ok(listening) => return listening,
                Err(error) if attempts == 0 => {
                    tracing::warn!(%error, "could not connect; retrying until it succeeds");
                }
                Err(error) => tracing::debug!(%error, attempts, "tried again"),
            }
            attempts += 1;
            tokio::time::sleep(pool::pause(attempts, LONGEST_PAUSE)).await;
        }
    }

    /// Passes on what is heard, and does what is asked for. Gives how the connection was lost.
    async fn until_lost(&mut self, listening: &mut Listening) -> Arc<sqlx::Error> {
        loop {
            let asked = self.requests.recv();
            let heard = hear(&self.tell, listening, self.ping_every);
            let done = match select(pin!(asked), pin!(heard)).await {
                Either::Left((request, _)) => request,
                Either::Right((Ok(()), _)) => continue,
                Either::Right((Err(error), _)) => return Arc::new(error),
            };
            let Some(request) = done else { return pending().await };
            if let Err(error) = self.answer(request, listening).await {
                return error;
            }
        }
    }

    /// Gives how the connection was lost, if it was. The next one does what was asked for, then.
    async fn answer(
        &mut self,
        request: Request,
        listening: &mut Listening,
    ) -> Result<(), Arc<sqlx::Error>> {
        let before = self.channels.clone();
        let (done, told) = match request {
            Request::Listen(channel, told) => {
                let done = listening.listen(&channel).await;
                self.channels.insert(channel);
                (done, told)
            }
            Request::Unlisten(channel, told) => {
                let done = listening.unlisten(&channel).await;
                self.channels.remove(&channel);
                (done, told)
            }
        };
        match done.map_err(Arc::new) {
            Ok(()) => drop(told.send(Ok(()))),
            Err(error) if pool::is_fatal(&error) => {
                self.untold = Some(told);
                return Err(error);
            }
            Err(error) => {
                self.channels = before;
                let error = DbErr::Exec(RuntimeErr::SqlxError(error));
                drop(told.send(Err(Error::Db(error))));
            }
        }
        Ok(())
    }
}

/// Passes one notification on. Dropping the future loses none.
async fn hear(
    tell: &mpsc::Sender<Event>,
    listening: &mut Listening,
    ping_every: Duration,
) -> Result<(), sqlx::Error> {
    // What there is no room for is left to the server.
    let Ok(room) = tell.reserve().await else { return pending().await };
    loop {
        let silence = listening.heard_at.elapsed();
        let left = ping_every.saturating_sub(silence);
        match tokio::time::timeout(left, listening.next()).await {
            Ok(said) => {
                room.send(Event::Notification(said?.into()));
                return Ok(());
            }
            Err(_) => listening.ping().await?,
        }
    }
}
