//! `wharf top`: what the servers do now.

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
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use self::keys::press;
use self::sample::Sample;
use self::state::{Question, State};
use super::context::Context;
use super::failure::Failure;
use super::log::Muted;
use crate::config::MonitorConfig;
use crate::{Error, Manager, Pg};

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

/// A server, which has one screen. It is sampled through its first entry.
struct Server {
    pg: Pg,
    /// The entries on it.
    names: Vec<String>,
    target: Option<String>,
    /// A sample of it is being taken.
    is_sampled: bool,
    /// How many samples of it have been taken.
    samples: i64,
}

/// The servers of these databases, in their order. One whose address is not known is one of its own.
async fn servers(databases: Vec<Pg>) -> Vec<Server> {
    let mut servers: Vec<(Option<SocketAddr>, Server)> = Vec::new();
    for pg in databases {
        let to = pg.database().located(false).await.ok();
        // `localhost` and 127.0.0.1 are one server.
        let at = match &to {
            Some(to) => tokio::net::lookup_host((to.host.as_str(), to.port)).await.ok(),
            None => None,
        };
        let at = at.and_then(|all| all.min());
        let name = pg.name().to_owned();
        match servers.iter_mut().find(|(other, _)| at.is_some() && *other == at) {
            Some((_, server)) => server.names.push(name),
            None => {
                let target = to.map(|to| to.target(None));
                servers.push((
                    at,
                    Server { pg, names: vec![name], target, is_sampled: false, samples: 0 },
                ));
            }
        }
    }
    servers.into_iter().map(|(_, server)| server).collect()
}

/// The outcome of one sample.
struct Look {
    target: Option<String>,
    sample: Result<Sample, String>,
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
                server.samples += i64::from(look.sample.is_ok());
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
                let (pg, before) = (server.pg.clone(), server.samples);
                tokio::spawn(async move {
                    let sample = look(&pg, limit, before, is_first).await;
                    let _ = looks.send((at, sample)).await;
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

async fn look(pg: &Pg, limit: Duration, own_commits: i64, with_baseline: bool) -> Look {
    let taking = async {
        let taken = Sample::take(pg, own_commits, with_baseline).await;
        (pg.database().current().await.ok().map(|to| to.target(None)), taken)
    };
    match tokio::time::timeout(limit, taking).await {
        Ok((target, taken)) => {
            let sample = taken.map_err(|error| Error::from(error).to_string());
            Look { target, sample }
        }
        Err(_) => {
            let reason = format!("database `{}` did not answer within {limit:.1?}", pg.name());
            Look { target: None, sample: Err(reason) }
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
