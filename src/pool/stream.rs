//! Rows as they come, from a connection that is held meanwhile.

use std::{
    future::poll_fn,
    ops::DerefMut,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{self, Poll},
};

use async_stream::try_stream;
use futures_util::{
    Stream, StreamExt, TryStreamExt,
    stream::{self, BoxStream},
};
use sea_orm::{DbErr, QueryResult, Statement};
use sqlx::Executor;

use super::{
    dates,
    lent::{InFlight, Lent, Wait},
    state::Work,
};
use crate::{
    monitor::Running,
    statement::{Author, Request, Text},
};

/// The rows of a statement as they arrive, from a connection that is held until the stream ends
/// or is dropped.
pub(crate) fn rows<'a, G>(
    mut lent: G,
    statement: Statement,
) -> BoxStream<'a, Result<QueryResult, DbErr>>
where
    G: DerefMut<Target = Lent> + Send + 'a,
{
    let given = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&given);
    let some = try_stream! {
        let mut any = false;
        let text = Text::new(&statement.sql);
        let mut guard = match lent.may_lose(text) {
            true => Some(lent.guard(text).await?),
            false => None,
        };
        loop {
            let request = Request::new(Author::Caller(&statement));
            let hash = request.text().hash;
            let (InFlight { driver, state, heard_at, wait, mut running, watch }, query) =
                lent.send(request)?;
            state.work = Work::Stream;
            if let Some(running) = &mut running {
                running.streams(Arc::clone(&counted));
            }
            let mut rows = driver.fetch(query);
            let end = loop {
                let (some, end) = some(&mut rows, &mut running, wait).await;
                any |= !some.is_empty();
                dates::check(&some)?;
                yield some;
                if let Some(end) = end {
                    break end;
                }
            };
            drop(rows);
            let landed = InFlight { driver, state, heard_at, wait, running, watch }.land(end);
            match landed {
                Err(error) if !any && lent.recover_if_lost(guard.as_mut(), &error).await => continue,
                Err(_) if !any && lent.recover_if_stale(Some(hash)).await => continue,
                Err(error) => Err(lent.explained(error, DbErr::Query).await)?,
                Ok(()) => {}
            }
            if let Some(guard) = &guard {
                lent.release(guard).await?;
            }
            break;
        }
    };
    one_by_one(some, given, QueryResult::from)
}

/// How many rows are handed on at a time, of those that have come already: a stream's turn costs a twentieth
/// of what a narrow row does, and of wide ones there are not to be many.
const AT_ONCE: usize = 8;

/// The next rows, and how it ended, if it did. `running` takes the time. Most rows have come with those before
/// them: for these there is no clock to look at and nothing to wait for.
pub(super) async fn some<T>(
    rows: &mut (impl Stream<Item = Result<T, sqlx::Error>> + Unpin),
    running: &mut Option<Running<'_>>,
    wait: Wait<'_>,
) -> (Vec<T>, Option<Result<(), sqlx::Error>>) {
    let mut some = Vec::with_capacity(AT_ONCE);
    let mut take = |context: &mut task::Context<'_>| loop {
        match rows.poll_next_unpin(context) {
            Poll::Ready(Some(Ok(row))) => {
                some.push(row);
                if some.len() == AT_ONCE {
                    return Poll::Ready(None);
                }
            }
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
            Poll::Ready(None) => return Poll::Ready(Some(Ok(()))),
            Poll::Pending if some.is_empty() => return Poll::Pending,
            Poll::Pending => return Poll::Ready(None),
        }
    };
    let here = poll_fn(|context| Poll::Ready(take(context))).await;
    let end = match here {
        Poll::Ready(end) => end,
        Poll::Pending => {
            if let Some(running) = &mut *running {
                running.waits();
            }
            let came = wait.until(async { Ok(poll_fn(take).await) }).await;
            came.unwrap_or_else(|error| Some(Err(error)))
        }
    };
    if let Some(running) = running {
        running.came();
    }
    (some, end)
}

/// What comes some at a time; `given` counts it.
pub(super) fn one_by_one<'a, T, O>(
    some: impl Stream<Item = Result<Vec<T>, DbErr>> + Send + 'a,
    given: Arc<AtomicU64>,
    each: impl Fn(T) -> O + Copy + Send + 'a,
) -> BoxStream<'a, Result<O, DbErr>>
where
    T: Send + 'a,
    O: Send + 'a,
{
    some.map_ok(move |some| stream::iter(some.into_iter().map(Ok)))
        .try_flatten()
        .map_ok(move |one| {
            // Nobody else writes to it.
            given.store(given.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            each(one)
        })
        .boxed()
}
