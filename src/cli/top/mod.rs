//! `wharf top`: what the servers do now.

mod cluster;
mod columns;
mod keys;
mod locks;
mod once;
mod rates;
mod rows;
mod sample;
mod screen;
mod state;

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use self::cluster::{Cluster, Member, alone};
use self::keys::press;
use self::sample::Sample;
use self::state::{Question, State};
use super::context::Context;
use super::failure::Failure;
use super::log::Muted;
use crate::config::{HostPort, MonitorConfig, Reads};
use crate::{Error, Manager, Pg, ServerStatus};

/// How long a sample may take is the interval, within these bounds: a server that does not answer is
/// soon shown as unreachable.
const SAMPLE_AT_LEAST: Duration = Duration::from_secs(1);
const SAMPLE_AT_MOST: Duration = Duration::from_secs(5);

/// By this name the samples leave out this program's own connections.
const APPLICATION: &str = "wharf top";

pub(super) async fn run(
    context: &Context,
    names: Vec<String>,
    interval: Duration,
    once: bool,
    json: bool,
) -> Result<(), Failure> {
    if once || json {
        let databases = watched(context, names, SAMPLE_AT_MOST)?;
        return once::run(servers(databases).await, json).await;
    }
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Failure::Failed(
            "standard input or output is not a terminal; pass --once or --json to print one snapshot"
                .to_owned(),
        ));
    }
    let limit = interval.clamp(SAMPLE_AT_LEAST, SAMPLE_AT_MOST);
    let watched = servers(watched(context, names, limit)?).await;
    // Warnings would be drawn over the screen.
    let _muted = Muted::begin();
    // A panic restores the terminal, too: `try_init` sets a hook for that.
    let watched = match ratatui::try_init() {
        Ok(mut terminal) => watch(&mut terminal, watched, interval, limit).await,
        Err(error) => Err(error.into()),
    };
    ratatui::restore();
    watched
}

/// The databases that are meant, each over one connection of its own.
fn watched(context: &Context, names: Vec<String>, limit: Duration) -> Result<Vec<Pg>, Failure> {
    let mut config = context.config()?;
    let manager = Manager::from_config(config.clone());
    for name in &names {
        // The manager's own error names the others.
        manager.db(name)?;
    }
    if config.databases.is_empty() {
        return Err(Failure::File(
            "the file names no database; add one below `databases:`".to_owned(),
        ));
    }
    for entry in config.databases.values_mut() {
        entry.past_pooler();
        (entry.pool_size, entry.max_overflow, entry.min_connections) = (1, 0, 0);
        entry.application_name = APPLICATION.to_owned();
        entry.statement_timeout = Some(limit);
        // Before the sample as a whole is given up, so that the reason is the connection's.
        let connecting = limit.mul_f64(0.8);
        (entry.pool_timeout, entry.connect_timeout) = (connecting, connecting);
        // A silent server delays the sample of another one no longer than that.
        entry.topology.probe_timeout = entry.topology.probe_timeout.min(connecting);
        // With `primary`, the standbys of the file's server would not be listed, and no lag be known.
        entry.reads = Reads::Eventual;
        entry.monitor = MonitorConfig { enabled: false, ..entry.monitor.clone() };
        // What cancels a statement is a SELECT, and a sealed transaction costs round trips.
        entry.readonly = false;
    }
    let manager = Manager::from_config(config);
    let names = match names.is_empty() {
        true => manager.names().map(str::to_owned).collect(),
        false => names,
    };
    let watched: Result<Vec<Pg>, Error> = names.iter().map(|name| manager.db(name)).collect();
    Ok(watched?)
}

/// A server, which has one screen. It is sampled through its first entry, or through the first one that has several
/// servers.
struct Server {
    pg: Pg,
    /// The entries on it.
    names: Vec<String>,
    /// None if its address is not known.
    at: Option<HostPort>,
    target: Option<String>,
    /// Its place among the servers of an entry that has several.
    member: Option<Member>,
    /// A sample of it is being taken.
    is_sampled: bool,
    /// How many transactions of wharf top it has committed.
    own_commits: i64,
}

impl Server {
    fn new(pg: Pg, at: Option<HostPort>, target: Option<String>, member: Option<Member>) -> Server {
        let names = vec![pg.name().to_owned()];
        Server { pg, names, at, target, member, is_sampled: false, own_commits: 0 }
    }

    /// Adds what another entry knows of the same server.
    fn merge(&mut self, other: Server) {
        self.names.extend(other.names);
        if self.member.is_none() && other.member.is_some() {
            (self.pg, self.target, self.member) = (other.pg, other.target, other.member);
        }
    }

    /// Looks up its address, by which two entries are seen to be on one server.
    async fn address(&self) -> Option<SocketAddr> {
        let at = self.at.as_ref()?;
        // `localhost` and 127.0.0.1 are one server.
        tokio::net::lookup_host((at.host.as_str(), at.port)).await.ok()?.min()
    }
}

/// The servers of these databases, in their order. One whose address is not known is one of its own.
async fn servers(databases: Vec<Pg>) -> Vec<Server> {
    let mut servers: Vec<(Option<SocketAddr>, Server)> = Vec::new();
    for pg in databases {
        for server in servers_of(pg).await {
            let at = server.address().await;
            match servers.iter_mut().find(|(other, _)| at.is_some() && *other == at) {
                Some((_, known)) => known.merge(server),
                None => servers.push((at, server)),
            }
        }
    }
    servers.into_iter().map(|(_, server)| server).collect()
}

/// Returns the servers of one entry. If there are several, each has a `Pg` that connects to it only.
async fn servers_of(pg: Pg) -> Vec<Server> {
    let located = async {
        let topology = pg.database().topology().await?;
        Ok::<_, Error>((topology, pg.database().current().await?))
    };
    let (topology, to) = match located.await {
        Ok((Some(topology), to)) => (topology, to),
        Ok((None, to)) => return vec![Server::new(pg, Some(to.at()), Some(to.target(None)), None)],
        Err(_) => return vec![Server::new(pg, None, None, None)],
    };
    let cluster = Arc::new(Cluster::new(topology));
    let places = cluster.servers().into_iter().enumerate();
    let server = |(place, at): (usize, HostPort)| {
        let target = to.on(&at).target(None);
        let member = Member { cluster: Arc::clone(&cluster), place };
        Server::new(alone(&to, at.clone()), Some(at), Some(target), Some(member))
    };
    places.map(server).collect()
}

/// The outcome of one sample.
struct Look {
    target: Option<String>,
    sample: Result<Sample, String>,
    /// All servers of the cluster that it is in.
    statuses: Vec<ServerStatus>,
}

enum Step {
    Draw,
    LookNow,
    Signal(Question),
    Quit,
}

async fn watch(
    terminal: &mut DefaultTerminal,
    watched: Vec<Server>,
    interval: Duration,
    limit: Duration,
) -> Result<(), Failure> {
    let mut state = State::new(watched);
    let mut events = events();
    let (looks, mut looked) = mpsc::channel::<(usize, Look)>(1);
    let (answers, mut answered) = mpsc::channel(1);
    let mut next = Instant::now();
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    loop {
        terminal.draw(|frame| screen::draw(frame, &state))?;
        // One sample of a server at a time; keys are handled meanwhile.
        let due = !state.server().is_sampled && !state.paused;
        let step = tokio::select! {
            event = events.recv() => match event {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => press(&mut state, key),
                Some(_) => Step::Draw,
                None => Step::Quit,
            },
            Some((at, look)) = looked.recv() => {
                let server = &mut state.servers[at];
                server.is_sampled = false;
                // A sample is one commit, and so is the question of the cluster.
                let commits = if server.member.is_some() { 2 } else { 1 };
                server.own_commits += if look.sample.is_ok() { commits } else { 0 };
                if at == state.at {
                    state.looked(look);
                }
                Step::Draw
            }
            Some(said) = answered.recv() => {
                state.said = Some(said);
                Step::LookNow
            }
            _ = sleep_until(next), if due => {
                next = Instant::now() + interval;
                let (at, is_first, looks) = (state.at, state.first.is_none(), looks.clone());
                let server = &mut state.servers[at];
                server.is_sampled = true;
                let (pg, member) = (server.pg.clone(), server.member.clone());
                let own_commits = server.own_commits;
                tokio::spawn(async move {
                    let look = look(&pg, member.as_ref(), limit, own_commits, is_first).await;
                    let _ = looks.send((at, look)).await;
                });
                Step::Draw
            }
            _ = terminate.recv() => Step::Quit,
        };
        match step {
            Step::Draw => {}
            Step::LookNow => next = Instant::now(),
            Step::Quit => return Ok(()),
            Step::Signal(question) => {
                let (pg, answers) = (state.pg().clone(), answers.clone());
                tokio::spawn(async move {
                    let _ = answers.send(signal(&pg, &question).await).await;
                });
            }
        }
    }
}

/// Takes a sample of a server, and asks all servers of its cluster meanwhile.
async fn look(
    pg: &Pg,
    member: Option<&Member>,
    limit: Duration,
    own_commits: i64,
    with_baseline: bool,
) -> Look {
    let taking = async {
        let taken = Sample::take(pg, own_commits, with_baseline).await;
        (pg.database().current().await.ok().map(|to| to.target(None)), taken)
    };
    let asking = async {
        match member {
            Some(member) => member.cluster.ask().await,
            None => Vec::new(),
        }
    };
    let (taken, statuses) = tokio::join!(tokio::time::timeout(limit, taking), asking);
    match taken {
        Ok((target, taken)) => {
            let sample = taken.map_err(|error| Error::from(error).to_string());
            Look { target, sample, statuses }
        }
        Err(_) => {
            let reason = format!("database `{}` did not answer within {limit:.1?}", pg.name());
            Look { target: None, sample: Err(reason), statuses }
        }
    }
}

/// Signals a backend; the outcome in a sentence.
async fn signal(pg: &Pg, question: &Question) -> String {
    let (function, done) = match question.ends {
        true => ("pg_terminate_backend", "was asked to end"),
        false => ("pg_cancel_backend", "was asked to cancel its statement"),
    };
    let sql = format!("SELECT {function}($1)");
    let values = [question.pid.into()];
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
    let signalled = pg.query_one_raw(statement).await;
    let signalled = signalled.and_then(|row| row.map(|row| row.try_get_by(0)).transpose());
    match signalled {
        Ok(Some(true)) => format!("process {} {done}", question.pid),
        Ok(_) => format!("process {} has ended already", question.pid),
        Err(error) => Error::from(error).to_string(),
    }
}

/// The keys, read by a thread of its own.
fn events() -> mpsc::Receiver<Event> {
    let (sender, receiver) = mpsc::channel(16);
    std::thread::spawn(move || {
        while let Ok(event) = event::read() {
            if sender.blocking_send(event).is_err() {
                return;
            }
        }
    });
    receiver
}
