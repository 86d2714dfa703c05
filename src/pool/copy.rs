//! COPY: rows in and out as bytes.

use std::{
    ops::DerefMut,
    sync::{Arc, atomic::AtomicU64},
};

use async_stream::try_stream;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use sea_orm::DbErr;
use sqlx::PgConnection;

use super::{
    lent::{InFlight, Lent, Wait, runtime},
    outcome::Ended,
    state::Work,
    stream,
};
use crate::{
    error::Error,
    monitor::{Rows, Running},
    statement::Text,
};

/// What a COPY … FROM STDIN is fed with.
pub(crate) trait Source: Send {
    /// What it has given makes a whole COPY even where it could not go on. An error of the server's is then
    /// about what came before that.
    const ENDS_WHOLE: bool;

    /// Appends the next bytes, so many as are worth a message; whether more are to come. With an error, the
    /// last.
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
    /// trips. After an error its transaction has to be rolled back.
    pub(crate) async fn copy_in(
        &mut self,
        sql: &str,
        source: &mut impl Source,
    ) -> Result<u64, Stopped> {
        let flight = self.statement(Text::new(sql), None).map_err(Stopped::Server)?;
        let InFlight { driver, state, heard_at, wait, mut running, watch } = flight;
        if let Some(running) = &mut running {
            running.waits_for_others();
        }
        // The driver cannot find back from the middle of a COPY.
        state.work = Work::Copy;
        let (result, refused) = feed(driver, sql, wait, &mut running, source).await;
        let landed = InFlight { driver, state, heard_at, wait, running, watch }.land(result);
        match (landed, refused) {
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

/// With what the source could not go on because of, if it was that.
///
/// The COPY is brought to its end in that case too, and what was loaded until then is for the transaction to
/// undo: where the server had an error of its own to tell, the driver leaves the end of an abort unread.
async fn feed<S: Source>(
    driver: &mut PgConnection,
    sql: &str,
    wait: Wait<'_>,
    running: &mut Option<Running<'_>>,
    source: &mut S,
) -> (Result<Copied, sqlx::Error>, Option<Error>) {
    let mut copy = match wait.until(driver.copy_in_raw(sql)).await {
        Ok(copy) => copy,
        Err(error) => return (Err(error), None),
    };
    let mut piece = Vec::new();
    let refused = loop {
        piece.clear();
        if let Some(running) = running {
            running.came();
        }
        let filled = source.fill(&mut piece).await;
        if let Some(running) = running {
            running.waits();
        }
        if !piece.is_empty()
            && let Err(error) = wait.until(copy.send(piece.as_slice())).await
        {
            return (Err(error), None);
        }
        match filled {
            Ok(true) => {}
            Ok(false) => break None,
            Err(error) => break Some(error),
        }
    };
    match (wait.until(copy.finish()).await, refused) {
        (Err(error), Some(refused)) if !S::ENDS_WHOLE => (Err(error), Some(refused)),
        (Err(error), _) => (Err(error), None),
        (Ok(_), Some(error)) => (Err(sqlx::Error::Encode(error.to_string().into())), Some(error)),
        (Ok(rows), None) => (Ok(Copied(rows)), None),
    }
}

/// The bytes of a COPY … TO STDOUT as they come, a row each, from a connection that is held until they
/// end. Dropped before that, it is closed.
pub(crate) fn copied<'a, G>(mut lent: G, sql: String) -> BoxStream<'a, Result<Bytes, DbErr>>
where
    G: DerefMut<Target = Lent> + Send + 'a,
{
    let failed = |error| DbErr::Query(runtime(error));
    let given = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&given);
    let some = try_stream! {
        let InFlight { driver, state, heard_at, wait, mut running, watch } =
            lent.statement(Text::new(&sql), None)?;
        if let Some(running) = &mut running {
            running.streams(Arc::clone(&counted));
        }
        // What the server still has to say, however much it is, would have to be read first.
        state.work = Work::Copy;
        let mut in_step = true;
        let end = match wait.until(driver.copy_out_raw(&sql)).await {
            Err(error) => {
                // The driver leaves the rest of this error unread.
                in_step = false;
                Err(error)
            }
            Ok(mut pieces) => loop {
                let (some, end) = stream::some(&mut pieces, &mut running, wait).await;
                yield some;
                if let Some(end) = end {
                    break end;
                }
            },
        };
        let landed = InFlight { driver, state, heard_at, wait, running, watch }.land(end);
        if !in_step && !lent.is_broken() {
            lent.state.work = Work::OutOfStep;
        }
        landed.map_err(failed)?;
    };
    stream::one_by_one(some, given, |piece| piece)
}
