//! A primary with standbys, from this machine's PostgreSQL, each in a folder of its own.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};

use sea_orm::{ConnectionTrait, sea_query::Query};
use tokio::{io::copy_bidirectional, net::TcpListener, task::JoinHandle};
use wharf::{
    Error, Pg,
    config::{Config, DatabaseConfig},
};

use crate::{
    owner::as_owner,
    support::{config, major, number, until},
};

pub use crate::owner::free_port;

/// The table that tests write into.
pub const TABLE: &str = "CREATE TABLE entry (id int8 PRIMARY KEY)";

/// Writes into it by a built statement, as SeaORM makes it.
pub async fn insert(on: &impl ConnectionTrait, id: i64) -> Result<(), Error> {
    let mut insert = Query::insert();
    insert.into_table("entry").columns(["id"]).values_panic([id.into()]);
    on.execute(&insert).await.map(drop).map_err(Error::from)
}

/// The port of the server that answers.
pub async fn port(on: &impl ConnectionTrait) -> u16 {
    u16::try_from(number(on, "SELECT inet_server_port()::int8").await).unwrap()
}

pub struct Cluster {
    folder: tempfile::TempDir,
    /// The first one begins as the primary.
    pub ports: Vec<u16>,
}

impl Cluster {
    pub fn start(standbys: usize) -> Cluster {
        let folder = tempfile::Builder::new().prefix("wharf-cluster-").tempdir().unwrap();
        let ports = (0..=standbys).map(|_| free_port()).collect();
        let cluster = Cluster { folder, ports };
        well(Command::new("chmod").arg("777").arg(cluster.folder.path()));
        let data = cluster.data(0);
        let mut initdb = program("initdb");
        initdb.args([
            "--no-sync",
            "--auth=trust",
            "--username=it",
            "--encoding=UTF8",
            "--locale=C",
            "-D",
        ]);
        well(initdb.arg(&data));
        let conf = "fsync = off\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = ''\n\
                    shared_buffers = 16MB\nmax_connections = 60\nwal_level = replica\n";
        cluster.write("postgresql.auto.conf", conf);
        cluster.up(0);
        for standby in 1..=standbys {
            let mut backup = program("pg_basebackup");
            backup.args(["-h", "127.0.0.1", "-U", "it", "--no-sync", "-c", "fast", "-R", "-p"]);
            backup.arg(cluster.ports[0].to_string()).arg("-D").arg(cluster.data(standby));
            well(backup.args(["-C", "-S", &format!("standby_{standby}")]));
            cluster.up(standby);
        }
        cluster
    }

    fn data(&self, node: usize) -> PathBuf {
        self.folder.path().join(node.to_string())
    }

    /// Into the first one's folder, as its owner.
    fn write(&self, file: &str, text: &str) {
        let mut tee = as_owner("sh");
        tee.args(["-c", "printf %s \"$1\" > \"$2\"", "sh", text]);
        well(tee.arg(self.data(0).join(file)));
    }

    fn control(&self, node: usize, args: &[&str]) -> Output {
        let mut control = program("pg_ctl");
        control.arg("-w").arg("-D").arg(self.data(node)).args(args);
        control.output().unwrap()
    }

    pub fn up(&self, node: usize) {
        let log = self.data(node).join("log");
        let port = format!("-p {}", self.ports[node]);
        let started = self.control(node, &["start", "-l", log.to_str().unwrap(), "-o", &port]);
        assert!(started.status.success(), "{started:?}: {:?}", std::fs::read_to_string(&log));
    }

    /// As a crash does.
    pub fn kill(&self, node: usize) {
        assert!(self.control(node, &["stop", "-m", "immediate"]).status.success());
    }

    /// Has its server say nothing from now on, as a machine without power does, or go on.
    pub fn freeze(&self, node: usize, signal: &str) {
        let mut kill = as_owner("sh");
        kill.args(["-c", "kill -\"$1\" \"$(head -n 1 \"$2\")\"", "sh", signal]);
        let _ = kill.arg(self.data(node).join("postmaster.pid")).output();
    }

    /// Sets one of a server's settings.
    pub async fn set(&self, node: usize, setting: &str, value: &str) {
        let pg = self.node(node);
        pg.execute_unprepared(&format!("ALTER SYSTEM SET {setting} = {value}")).await.unwrap();
        pg.execute_unprepared("SELECT pg_reload_conf()").await.unwrap();
    }

    /// Has a standby follow another primary.
    pub async fn follow(&self, node: usize, primary: usize) {
        self.set(node, "primary_slot_name", "''").await;
        let to = format!("'host=127.0.0.1 port={} user=it'", self.ports[primary]);
        self.set(node, "primary_conninfo", &to).await;
    }

    /// An entry `cluster` by its lines.
    pub fn entry(lines: &[String]) -> Pg {
        let lines: String = lines.iter().map(|line| format!("    {line}\n")).collect();
        let file = format!("databases:\n  cluster:\n    database: postgres\n    user: it\n{lines}");
        wharf::Manager::from_config(config(&file)).db("cluster").unwrap()
    }

    /// Waits until reads run on these nodes, and on no other.
    pub async fn serves(&self, pg: &Pg, nodes: &[usize]) {
        let wanted: BTreeSet<u16> = nodes.iter().map(|node| self.ports[*node]).collect();
        until("the right servers serve reads", async || {
            let mut ports = BTreeSet::new();
            for _ in 0..6 {
                ports.insert(port(&pg.read()).await);
            }
            ports == wanted
        })
        .await;
    }

    pub fn promote(&self, node: usize) {
        let promoted = self.control(node, &["promote"]);
        assert!(promoted.status.success(), "{promoted:?}");
    }

    /// An entry for a node alone.
    pub fn node(&self, node: usize) -> Pg {
        let url = format!("postgres://it@127.0.0.1:{}/postgres", self.ports[node]);
        Pg::from_config(&format!("node_{node}"), DatabaseConfig::from_url(&url).unwrap())
    }

    /// The file of an entry `cluster` that names these nodes in this order.
    pub fn file(&self, nodes: &[usize], lines: &[&str]) -> Config {
        let hosts = nodes.iter().map(|node| format!("127.0.0.1:{}", self.ports[*node]));
        let hosts = hosts.collect::<Vec<_>>().join(", ");
        let lines: String = lines.iter().map(|line| format!("    {line}\n")).collect();
        config(&format!(
            "databases:\n  cluster:\n    hosts: [{hosts}]\n    database: postgres\n    user: it\n{lines}"
        ))
    }

    pub fn pg(&self, nodes: &[usize], lines: &[&str]) -> Pg {
        wharf::Manager::from_config(self.file(nodes, lines)).db("cluster").unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in 0..self.ports.len() {
            self.freeze(node, "CONT");
            let _ = self.control(node, &["stop", "-m", "immediate"]);
        }
    }
}

pub fn program(name: &str) -> Command {
    let mut command = as_owner(&format!("/usr/lib/postgresql/{}/bin/{name}", major()));
    command.current_dir("/");
    command
}

pub fn well(command: &mut Command) {
    let ran = command.output().unwrap();
    assert!(ran.status.success(), "{command:?}: {ran:?}");
}

/// An address that is handed from server to server, as a virtual IP or a proxy has it.
pub struct Vip {
    pub port: u16,
    to: Arc<AtomicU16>,
    task: JoinHandle<()>,
}

impl Vip {
    pub async fn start(to: u16) -> Vip {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, to) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU16::new(to)));
        let now = Arc::clone(&to);
        let task = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let to = now.load(Ordering::SeqCst);
                tokio::spawn(async move {
                    if let Ok(mut server) = tokio::net::TcpStream::connect(("127.0.0.1", to)).await
                    {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Vip { port, to, task }
    }

    /// Connections from now on go there; those that are open stay.
    pub fn move_to(&self, port: u16) {
        self.to.store(port, Ordering::SeqCst);
    }
}

impl Drop for Vip {
    fn drop(&mut self) {
        self.task.abort();
    }
}
