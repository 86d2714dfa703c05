//! Whether the server still answers while migrations run.

use std::{pin::pin, time::Duration};

use futures_util::future::{Either, select};
use tokio::time::timeout;

use crate::{
    error::{ConnectErrorKind, Error},
    pg::Pg,
};

/// Runs `work` for as long as the server answers; returns `None` once it does not.
///
/// The migrations' own connection has no time limit, because an index may take hours to build. So another connection
/// pings the server every `socket_timeout`. The ping has the limits of every other one: `pool_timeout` for a
/// connection and `socket_timeout` for the answer.
///
/// Dropping the future drops `work`.
pub(super) async fn while_it_answers<T>(
    pg: &Pg,
    socket_timeout: Option<Duration>,
    work: impl Future<Output = T>,
) -> Option<T> {
    let Some(limit) = socket_timeout else { return Some(work.await) };
    let mut work = pin!(work);
    loop {
        if let Ok(done) = timeout(limit, &mut work).await {
            return Some(done);
        }
        match select(&mut work, pin!(pg.ping())).await {
            Either::Left((done, _)) => return Some(done),
            // A server that is down has told the migrations' connection so, and a pool that is used up tells nothing.
            Either::Right((Err(error), _)) if Error::of(&error).is_some_and(is_silence) => {
                return None;
            }
            Either::Right(_) => {}
        }
    }
}

fn is_silence(error: &Error) -> bool {
    match error {
        Error::NoAnswer { .. } => true,
        Error::Connect(error) => error.kind == ConnectErrorKind::Timeout,
        _ => false,
    }
}
