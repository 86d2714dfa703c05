//! COPY: rows in and out as bytes.

use std::ops::DerefMut;

use async_stream::try_stream;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};
use sea_orm::DbErr;
use sqlx::PgConnection;

use super::lent::{InFlight, Lent, Wait, runtime};
use crate::{
    error::Error,
    monitor::{Ended, Rows, Running},
};

/// What a COPY … FROM STDIN is fed with.
pub(crate) trait Source: Send {
    /// Appends the next bytes, so many as are worth a message; whether more are to come.
    fn fill(&mut self, piece: &mut Vec<u8>) -> impl Future<Output = Result<bool, Error>> + Send;
}

/// Why a COPY … FROM STDIN came to nothing.
pub(crate) enum Stopped {
    /// The server says so, or is gone.
    Server(DbErr),
    /// Its source could not go on.
    Source(Error),
}

impl Lent {
    /// Runs a COPY … FROM STDIN with what `source` gives, and says how many rows it was. Two round
    /// trips.
    pub(crate) async fn copy_in(
        &mut self,
        sql: &str,
        source: &mut impl Source,
    ) -> Result<u64, Stopped> {
        let flight = self.statement(sql, None).map_err(Stopped::Server)?;
        let InFlight { driver, state, wait, mut running, watch } = flight;
        if let Some(running) = &mut running {
            running.streams();
        }
        // The driver cannot find back from the middle of a COPY.
        state.copies = true;
        let fed = feed(driver, sql, wait, &mut running, source).await;
        state.copies = !fed.in_step;
        let landed = InFlight { driver, state, wait, running, watch }.land(fed.result);
        match (landed, fed.refused) {
            (_, Some(error)) => Err(Stopped::Source(error)),
            (Err(error), None) => Err(Stopped::Server(DbErr::Exec(runtime(error)))),
            (Ok(Copied(rows)), None) => Ok(rows),
        }
    }
}

/// The rows of a COPY that went well.
struct Copied(u64);

impl Ended for Copied {
    fn rows(&self) -> Option<Rows> {
        Some(Rows::Affected(self.0))
    }
}

struct Fed {
    result: Result<Copied, sqlx::Error>,
    /// The source's error, which is the one to tell.
    refused: Option<Error>,
    /// Driver and server agree on where they are.
    in_step: bool,
}

async fn feed(
    driver: &mut PgConnection,
    sql: &str,
    wait: Wait<'_>,
    running: &mut Option<Running<'_>>,
    source: &mut impl Source,
) -> Fed {
    let mut copy = match wait.until(driver.copy_in_raw(sql)).await {
        Ok(copy) => copy,
        Err(error) => return Fed { result: Err(error), refused: None, in_step: true },
    };
    let mut piece = Vec::new();
    loop {
        piece.clear();
        if let Some(running) = running {
            running.came(false);
        }
        let filled = source.fill(&mut piece).await;
        if let Some(running) = running {
            running.waits();
        }
        let more = match filled {
            Ok(more) => more,
            Err(error) => {
                // Where the server had an error of its own to tell, the driver leaves the end of it
                // unread.
                let aborted = wait.until(copy.abort("the source of the rows failed")).await;
                let result = Err(sqlx::Error::Encode(error.to_string().into()));
                return Fed { result, refused: Some(error), in_step: aborted.is_ok() };
            }
        };
        if !piece.is_empty()
            && let Err(error) = wait.until(copy.send(piece.as_slice())).await
        {
            return Fed { result: Err(error), refused: None, in_step: false };
        }
        if !more {
            let result = wait.until(copy.finish()).await.map(Copied);
            return Fed { result, refused: None, in_step: true };
        }
    }
}

/// The bytes of a COPY … TO STDOUT as they come, a row each, from a connection that is held until they
/// end. Dropped before that, it is closed.
pub(crate) fn copied<'a, G>(mut lent: G, sql: String) -> BoxStream<'a, Result<Bytes, DbErr>>
where
    G: DerefMut<Target = Lent> + Send + 'a,
{
    let failed = |error| DbErr::Query(runtime(error));
    let stream = try_stream! {
        let flight = lent.statement(&sql, None)?;
        let InFlight { driver, state, wait, mut running, watch } = flight;
        if let Some(running) = &mut running {
            running.streams();
        }
        // What the server still has to say, however much it is, would have to be read first.
        state.copies = true;
        let mut in_step = true;
        let end = match wait.until(driver.copy_out_raw(&sql)).await {
            Err(error) => {
                // The driver leaves the rest of this error unread.
                in_step = false;
                Err(error)
            }
            Ok(mut pieces) => loop {
                let next = super::lent::next(&mut pieces, &mut running, wait).await;
                if let Ok(Some(piece)) = next {
                    yield piece;
                } else {
                    break next.map(|_| ());
                }
            },
        };
        state.copies = !in_step;
        let landed = InFlight { driver, state, wait, running, watch }.land(end);
        landed.map_err(failed)?;
    };
    stream.boxed()
}
