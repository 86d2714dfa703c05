//! The servers of a cluster, as Patroni's REST interface lists them.
//! <https://patroni.readthedocs.io/en/latest/rest_api.html>

use std::{collections::BTreeSet, pin::pin, time::Duration};

use futures_util::{
    StreamExt as _,
    future::{Either, select},
    stream::FuturesUnordered,
};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::{Request, body::Bytes, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::{net::TcpStream, time::timeout};

use crate::config::HostPort;

/// The longest answer in bytes; one member takes some 200.
const LONGEST: usize = 1 << 20;

#[derive(Deserialize)]
struct Cluster {
    members: Vec<Member>,
}

/// One that has not started yet has neither.
#[derive(Deserialize)]
struct Member {
    host: Option<String>,
    port: Option<u16>,
}

/// Asks all at the same time for the servers of their cluster, each for as long as `limit`, and returns the first answer.
///
/// # Errors
/// Why none answered, by address.
pub(crate) async fn servers(of: &[HostPort], limit: Duration) -> Result<Vec<HostPort>, String> {
    let ask = async |at| (at, timeout(limit, ask(at)).await);
    let mut asked: FuturesUnordered<_> = of.iter().map(ask).collect();
    let mut failures = Vec::new();
    while let Some((at, answered)) = asked.next().await {
        let reason = match answered {
            Ok(Ok(servers)) if servers.is_empty() => "it lists no server".to_owned(),
            Ok(Ok(servers)) => return Ok(servers),
            Ok(Err(reason)) => reason,
            Err(_) => format!("no answer within {limit:?}"),
        };
        failures.push(format!("http://{at}: {reason}"));
    }
    failures.sort();
    Err(failures.join("; "))
}

async fn ask(at: &HostPort) -> Result<Vec<HostPort>, String> {
    let stream = TcpStream::connect((at.host.as_str(), at.port)).await;
    let stream = TokioIo::new(stream.map_err(|error| error.to_string())?);
    let (mut sender, connection) =
        http1::handshake(stream).await.map_err(|error| error.to_string())?;
    let request = Request::get("/cluster").header(HOST, at.to_string());
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("GET /cluster returned {status}"));
        }
        let body = Limited::new(response.into_body(), LONGEST).collect().await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        let cluster: Cluster = serde_json::from_slice(&body).map_err(|error| {
            format!("GET /cluster returned what is no list of members: {error}")
        })?;
        let members = cluster.members.into_iter();
        let servers = members.filter_map(|it| Some(HostPort { host: it.host?, port: it.port? }));
        // In an order of its own, so that the same servers are the same list.
        Ok(servers.collect::<BTreeSet<_>>().into_iter().collect())
    };
    match select(pin!(answer), pin!(connection)).await {
        Either::Left((answer, _)) => answer,
        // It may end with the last byte of the answer.
        Either::Right((Ok(()), answer)) => answer.await,
        Either::Right((Err(error), _)) => Err(error.to_string()),
    }
}
