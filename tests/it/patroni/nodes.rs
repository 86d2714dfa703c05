//! Three nodes that Patroni runs, from this machine's PostgreSQL, and one etcd. They are at an address of their own, 127.x.y.1,
//! where nobody else takes their ports.

use std::{
    collections::BTreeSet,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use sea_orm::{ConnectionTrait, JsonValue};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use wharf::Pg;

use crate::{
    cluster::{Cluster, port, program, well},
    owner::as_owner,
    support::{major, say, until_within},
};

/// What .ci/patroni makes, and the file in it that says that all is there.
const PROGRAMS: &str = "/opt/wharf-patroni/bin";
const IS_INSTALLED: &str = "/opt/wharf-patroni/packages";

/// For what Patroni and PostgreSQL do in seconds, on a machine that has other work.
pub const PATIENCE: Duration = Duration::from_secs(180);

pub struct Nodes {
    folder: tempfile::TempDir,
    host: String,
    ports: Vec<Ports>,
    etcd: Child,
    patroni: Vec<Child>,
}

struct Ports {
    postgres: u16,
    rest: u16,
}

impl Nodes {
    /// Starts them, with more of Patroni's dynamic settings, and waits until there are a leader and two replicas. Returns None,
    /// and says so, if this machine has no Patroni.
    pub async fn start(settings: &str) -> Option<Nodes> {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        if !Path::new(IS_INSTALLED).exists() {
            let required = std::env::var("WHARF_TEST_PATRONI").is_ok_and(|it| it == "require");
            assert!(!required, "WHARF_TEST_PATRONI=require, and .ci/patroni did not install it");
            say("NOT RUN: this machine has no Patroni; .ci/patroni installs it");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("wharf-patroni-").tempdir().unwrap();
        well(Command::new("chmod").arg("777").arg(folder.path()));
        let process = 1 + std::process::id() % 250;
        let host = format!("127.{process}.{}.1", NEXT.fetch_add(1, Ordering::Relaxed));
        let free = free_ports::<8>(&host);
        let ports = free[2..].chunks(2).map(|two| Ports { postgres: two[0], rest: two[1] });
        let ports = ports.collect();
        let (for_clients, for_peers) =
            (format!("http://{host}:{}", free[0]), format!("http://{host}:{}", free[1]));
        let mut etcd = as_owner(&format!("{PROGRAMS}/etcd"));
        etcd.args(["--name", "it", "--data-dir"]).arg(folder.path().join("etcd"));
        etcd.args(["--listen-client-urls", &for_clients, "--advertise-client-urls", &for_clients]);
        etcd.args(["--listen-peer-urls", &for_peers, "--initial-advertise-peer-urls", &for_peers]);
        etcd.args(["--initial-cluster", &format!("it={for_peers}")]);
        let etcd = spawn(etcd, &folder.path().join("etcd.log"));
        let mut nodes = Nodes { folder, host, ports, etcd, patroni: Vec::new() };
        for node in 0..3 {
            let file = nodes.file(node, "yml");
            std::fs::write(&file, nodes.config(node, &for_clients, settings)).unwrap();
            let mut patroni = as_owner(&format!("{PROGRAMS}/python"));
            patroni.args(["-m", "patroni"]).arg(file).current_dir("/");
            nodes.patroni.push(spawn(patroni, &nodes.file(node, "log")));
        }
        nodes
            .until("there are a leader and two replicas that follow", async |nodes| {
                nodes.leader().await.is_some()
                    && nodes.members("state", "streaming").await.len() == 2
            })
            .await;
        Some(nodes)
    }

    fn config(&self, node: usize, etcd: &str, settings: &str) -> String {
        let (host, folder) = (&self.host, self.folder.path().display());
        let Ports { postgres, rest } = &self.ports[node];
        // The least ttl that Patroni takes. retry_timeout is as long as that allows, because a node that gets no answer from etcd
        // for this long gives up leading, and this machine may be busy.
        format!(
            r#"scope: it
name: node{node}
restapi: {{listen: "{host}:{rest}", connect_address: "{host}:{rest}"}}
etcd3: {{url: "{etcd}"}}
bootstrap:
  dcs:
    ttl: 20
    loop_wait: 1
    retry_timeout: 9
    postgresql:
      use_pg_rewind: true
      parameters: {{fsync: "off", max_connections: 60}}
{settings}
  initdb: [{{encoding: UTF8}}, {{locale: C}}, {{auth: trust}}, no-sync]
postgresql:
  listen: "{host}:{postgres}"
  connect_address: "{host}:{postgres}"
  bin_dir: /usr/lib/postgresql/{major}/bin
  data_dir: {folder}/{node}
  pgpass: {folder}/pgpass{node}
  pg_hba: [host all all 127.0.0.0/8 trust, host replication all 127.0.0.0/8 trust]
  parameters: {{unix_socket_directories: "", shared_buffers: 16MB, dynamic_shared_memory_type: mmap}}
  authentication: {{superuser: {{username: it}}, replication: {{username: follower}}, rewind: {{username: it}}}}
  basebackup: [{{checkpoint: fast}}, no-sync]
"#,
            major = major(),
        )
    }

    fn file(&self, node: usize, ending: &str) -> PathBuf {
        self.folder.path().join(format!("{node}.{ending}"))
    }

    /// Waits until `done`.
    pub async fn until(&self, what: &str, mut done: impl AsyncFnMut(&Nodes) -> bool) {
        until_within(PATIENCE, what, async || {
            // Patroni needs the processor, too.
            tokio::time::sleep(Duration::from_millis(50)).await;
            done(self).await
        })
        .await;
    }

    /// An entry with the addresses of these nodes' REST interfaces.
    pub fn entry(&self, nodes: &[usize], lines: &[&str]) -> Pg {
        let at = |node: &usize| format!("\"http://{}:{}\"", self.host, self.ports[*node].rest);
        let addresses: Vec<String> = nodes.iter().map(at).collect();
        let mut entry = vec![format!("patroni: [{}]", addresses.join(", "))];
        entry.extend(lines.iter().map(|line| (*line).to_owned()));
        Cluster::entry(&entry)
    }

    /// The node that answers.
    pub async fn of(&self, on: &impl ConnectionTrait) -> usize {
        let port = port(on).await;
        self.ports.iter().position(|ports| ports.postgres == port).unwrap()
    }

    /// The node that Patroni says is the leader, if it runs.
    pub async fn leader(&self) -> Option<usize> {
        let leaders = self.members("role", "leader").await;
        let running = self.members("state", "running").await;
        leaders.intersection(&running).next().copied()
    }

    /// The nodes of which `GET /cluster` says that `key` is `value`. None of them if no node answers.
    pub async fn members(&self, key: &str, value: &str) -> BTreeSet<usize> {
        for node in 0..3 {
            let Some(answer) = self.ask(node, "GET /cluster", "").await else { continue };
            let cluster: JsonValue = answer.parse().unwrap();
            let members = cluster["members"].as_array().unwrap().iter();
            let those = members.filter(|member| member[key] == value);
            let number = |member: &JsonValue| {
                member["name"].as_str().unwrap().strip_prefix("node").unwrap().parse().unwrap()
            };
            return those.map(number).collect();
        }
        BTreeSet::new()
    }

    /// What a node's REST interface answers, if that is 200.
    async fn ask(&self, node: usize, what: &str, body: &str) -> Option<String> {
        let exchange = async {
            let at = (self.host.as_str(), self.ports[node].rest);
            let mut stream = TcpStream::connect(at).await.ok()?;
            let length = body.len();
            let request = format!("{what} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}");
            stream.write_all(request.as_bytes()).await.ok()?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.ok()?;
            let (head, body) = answer.split_once("\r\n\r\n")?;
            head.starts_with("HTTP/1.0 200 ").then(|| body.to_owned())
        };
        timeout(PATIENCE, exchange).await.ok()?
    }

    /// Has another node lead, and waits until it does.
    pub async fn switch_over(&self, from: usize, to: usize) {
        let body = format!(r#"{{"leader": "node{from}", "candidate": "node{to}"}}"#);
        let said = self.ask(from, "POST /switchover", &body).await;
        assert!(said.is_some(), "no switchover from node {from} to {to}");
    }

    /// Ends a node's PostgreSQL and its Patroni as a crash of the machine does.
    pub fn crash(&mut self, node: usize) {
        // Nobody else would remove its segment of shared memory, which line 7 names.
        let crash =
            "set -- \"$1\" $(sed -n '1p; 7p' \"$2\"); kill -9 \"$1\" \"$2\" && ipcrm -m \"$4\"";
        let mut kill = as_owner("sh");
        kill.args(["-euc", crash, "sh", &self.patroni[node].id().to_string()]);
        well(kill.arg(self.folder.path().join(format!("{node}/postmaster.pid"))));
        self.patroni[node].wait().unwrap();
    }

    /// What Patroni has logged last on each node.
    fn logged(&self) -> String {
        let last = |node: usize| {
            let log = std::fs::read_to_string(self.file(node, "log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            format!("node {node}:\n{}\n", lines[lines.len().saturating_sub(25)..].join("\n"))
        };
        (0..3).map(last).collect()
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say(&self.logged());
        }
        for child in self.patroni.iter_mut().chain([&mut self.etcd]) {
            // With what it has started, except for PostgreSQL, which has a group of its own.
            let group = format!("-{}", child.id());
            let _ = as_owner("kill").args(["-9", "--", &group]).output();
            let _ = child.wait();
        }
        for node in 0..self.patroni.len() {
            let mut stop = program("pg_ctl");
            stop.args(["stop", "-m", "immediate", "-D"]);
            let _ = stop.arg(self.folder.path().join(node.to_string())).output();
        }
    }
}

/// Starts a program in a group of its own.
fn spawn(mut program: Command, log: &Path) -> Child {
    let log = std::fs::File::create(log).unwrap();
    program.process_group(0).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    program.spawn().unwrap()
}

/// Ports of an address that nobody listens on, each another one.
fn free_ports<const COUNT: usize>(host: &str) -> [u16; COUNT] {
    let listen = |_| std::net::TcpListener::bind((host, 0)).unwrap();
    let listeners: [std::net::TcpListener; COUNT] = std::array::from_fn(listen);
    listeners.map(|listener| listener.local_addr().unwrap().port())
}
