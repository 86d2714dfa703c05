//! A name with several addresses, of which the first may lead nowhere.

use std::{net::SocketAddr, pin::pin, time::Duration};

use futures_util::{
    TryFutureExt as _,
    future::{Either, join, select, select_ok},
};
use sqlx::{
    ConnectOptions as _, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};
use tokio::{
    net::{TcpStream, lookup_host},
    time::timeout,
};

/// How long the first address may take until the others are tried; at most a quarter of `connect_timeout`.
const PATIENCE: Duration = Duration::from_secs(1);

/// Opens a connection. The driver tries the addresses of a name one after another, so that one which swallows what is sent takes
/// all the time. If it is not connected after a while, and the first address accepts no connection where another one does, it
/// connects to that. Not with `verify-full`, which checks the name that the driver connects to.
pub(super) async fn connect(
    options: &PgConnectOptions,
    limit: Duration,
) -> Result<PgConnection, sqlx::Error> {
    let is_fixed = options.get_host().starts_with('/')
        || matches!(options.get_ssl_mode(), PgSslMode::VerifyFull);
    if is_fixed {
        return options.connect().await;
    }
    let patience = PATIENCE.min(limit / 4);
    let mut connecting = Box::pin(options.connect());
    if let Ok(connected) = timeout(patience, &mut connecting).await {
        return connected;
    }
    let other = pin!(other_than_first(options, patience));
    match select(connecting, other).await {
        Either::Left((connected, _)) => connected,
        Either::Right((None, connecting)) => connecting.await,
        Either::Right((Some(at), connecting)) => {
            tracing::debug!(host = %options.get_host(), %at, "its first address does not answer");
            drop(connecting);
            options.clone().host(&at.ip().to_string()).connect().await
        }
    }
}

/// The first address but one that accepts connections, if the first one does not.
async fn other_than_first(options: &PgConnectOptions, limit: Duration) -> Option<SocketAddr> {
    let found = lookup_host((options.get_host(), options.get_port())).await.ok()?;
    let mut addresses: Vec<SocketAddr> = found.collect();
    addresses.dedup();
    let (first, others) = addresses.split_first().filter(|(_, others)| !others.is_empty())?;
    let others = others.iter().copied();
    let others = others.map(|at| Box::pin(TcpStream::connect(at).map_ok(move |_| at)));
    let (first, other) =
        join(timeout(limit, TcpStream::connect(first)), timeout(limit, select_ok(others))).await;
    match first {
        // The server itself takes its time.
        Ok(Ok(_)) => None,
        _ => other.ok()?.ok().map(|(at, _)| at),
    }
}
