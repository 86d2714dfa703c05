//! A cluster whose servers Patroni lists. Here its REST interface is a stub that answers as Patroni's does, and the servers are
//! real; in `failover`, Patroni is real, too.

mod failover;
mod nodes;

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
};
use wharf::{Error, Pg};

use crate::{
    cluster::{Cluster, free_port, port},
    support::until,
};

/// `GET /cluster` of Patroni 4.1.
struct Rest {
    port: u16,
    answer: Arc<Mutex<String>>,
    task: JoinHandle<()>,
}

impl Rest {
    async fn start(answer: String) -> Rest {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, answer) = (listener.local_addr().unwrap().port(), Arc::new(Mutex::new(answer)));
        let now = Arc::clone(&answer);
        let task = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let answer = now.lock().unwrap().clone();
                tokio::spawn(async move {
                    let mut request = [0; 1024];
                    let read = client.read(&mut request).await.unwrap();
                    assert!(request[..read].starts_with(b"GET /cluster HTTP/1.1\r\n"));
                    let _ = client.write_all(answer.as_bytes()).await;
                });
            }
        });
        Rest { port, answer, task }
    }

    fn says(&self, answer: String) {
        *self.answer.lock().unwrap() = answer;
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn http(status: &str, body: &str) -> String {
    // As Python's http.server answers.
    format!(
        "HTTP/1.0 {status}\r\nServer: BaseHTTP/0.6 Python/3.11\r\nContent-Type: application/json\r\n\r\n{body}"
    )
}

fn members(cluster: &Cluster, nodes: &[usize]) -> String {
    let member = |node: &usize| {
        let (role, state) =
            if *node == 0 { ("leader", "running") } else { ("replica", "streaming") };
        format!(
            r#"{{"name": "pg{node}", "role": "{role}", "state": "{state}", "api_url": "http://127.0.0.1:8008/patroni", "host": "127.0.0.1", "port": {}, "timeline": 1, "lag": 0}}"#,
            cluster.ports[*node]
        )
    };
    let members: Vec<String> = nodes.iter().map(member).collect();
    // One that has not started has neither host nor port.
    http(
        "200 OK",
        &format!(
            r#"{{"members": [{}, {{"name": "new", "role": "replica", "state": "stopped"}}], "scope": "it"}}"#,
            members.join(", ")
        ),
    )
}

fn entry(ports: &[u16]) -> Pg {
    let addresses: Vec<String> =
        ports.iter().map(|port| format!("\"http://127.0.0.1:{port}\"")).collect();
    Cluster::entry(&[
        format!("patroni: [{}]", addresses.join(", ")),
        "reads: causal".to_owned(),
        "topology: {interval: 100ms, probe_timeout: 10s}".to_owned(),
    ])
}

#[tokio::test]
async fn the_servers_are_those_that_patroni_lists_as_they_come_and_go() {
    let cluster = Cluster::start(2);
    let rest = Rest::start(members(&cluster, &[1, 0])).await;
    // One address of two is enough.
    let pg = entry(&[free_port(), rest.port]);
    assert_eq!(port(&pg).await, cluster.ports[0]);
    cluster.serves(&pg, &[1]).await;
    let held = pg.read().session().await.unwrap();
    rest.says(members(&cluster, &[0, 1, 2]));
    cluster.serves(&pg, &[1, 2]).await;
    rest.says(members(&cluster, &[0, 2]));
    cluster.serves(&pg, &[2]).await;
    // What runs on a server that has left goes on.
    assert_eq!(port(&held).await, cluster.ports[1]);

    // The list that was last known serves while nobody tells another one, through a failover, too.
    rest.says(http("503 Service Unavailable", ""));
    cluster.kill(0);
    cluster.promote(2);
    until("the new primary is found", async || pg.ping().await.is_ok()).await;
    assert_eq!(port(&pg).await, cluster.ports[2]);
}

#[tokio::test]
async fn without_a_list_the_error_says_what_each_address_said() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = free_port();
    let error = entry(&[gone]).ping().await.map_err(Error::from).unwrap_err();
    assert!(matches!(error, Error::Patroni { .. }), "{error}");
    let said = error.to_string();
    for part in [
        "database `cluster`: Patroni did not list",
        &format!("http://127.0.0.1:{gone}: "),
        "refused",
    ] {
        assert!(said.contains(part), "{said}");
    }
    for (answer, expected) in [
        (http("503 Service Unavailable", ""), "GET /cluster returned 503"),
        (http("200 OK", "{\"members\": []}"), "it lists no server"),
        (http("200 OK", "<html>"), "returned what is no list of members"),
        (String::new(), "http://127.0.0.1:"),
    ] {
        let rest = Rest::start(answer).await;
        let error = entry(&[rest.port]).ping().await.map_err(Error::from).unwrap_err();
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
    let silent = silent.local_addr().unwrap().port();
    let pg = Cluster::entry(&[
        format!("patroni: [\"http://127.0.0.1:{silent}\"]"),
        "topology: {probe_timeout: 50ms}".to_owned(),
    ]);
    let error = pg.ping().await.map_err(Error::from).unwrap_err();
    assert!(error.to_string().contains("no answer within 50ms"), "{error}");
}
