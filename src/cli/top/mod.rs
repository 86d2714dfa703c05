//! `wharf top`: what the servers are doing, now.

mod columns;
mod keys;
mod locks;
mod once;
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

/// How long a sample may take: a server that does not answer is shown as unreachable soon.
const SAMPLE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

/// By which this program's own connections are left out.
const APPLICATION: &str = "wharf top";

pub(super) async fn run(
    context: &Context,
    names: Vec<String>,
    interval: Duration,
    once: bool,
    json: bool,
) -> Result<(), Failure> {
    let limit = interval.clamp(SAMPLE[0], SAMPLE[1]);
    if once || json {
        return once::run(&watched(context, names, SAMPLE[1])?, json).await;
    }
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Failure::Failed(
            "standard input or output is not a terminal; pass --once or --json to print one snapshot"
                .to_owned(),
        ));
    }
    let watched = servers(watched(context, names, limit)?).await;
    // Warnings would be drawn over the screen.
    let _muted = Muted::begin();
    let mut terminal = ratatui::try_init()?;
    let watched = watch(&mut terminal, watched, interval, limit).await;
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
}

/// The servers of these databases, in their order. One whose address is not known is one of its own.
async fn servers(databases: Vec<Pg>) -> Vec<Server> {
    let mut servers: Vec<(Option<SocketAddr>, Server)> = Vec::new();
    for pg in databases {
        let to = pg.connect_to(false).await.ok();
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
                servers.push((at, Server { pg, names: vec![name], target }));
            }
        }
    }
    servers.into_iter().map(|(_, server)| server).collect()
}

/// The outcome of one sample.
struct Look {
    database: usize,
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
    let (looks, mut looked) = mpsc::channel(1);
    let (answers, mut answered) = mpsc::channel(1);
    let mut next = Instant::now();
    // One sample at a time; keys are handled meanwhile.
    let mut looking = false;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    loop {
        terminal.draw(|frame| screen::draw(frame, &state))?;
        let due = !looking && !state.paused;
        let step = tokio::select! {
            event = events.recv() => match event {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => press(&mut state, key),
                Some(_) => Step::Draw,
                None => Step::Quit,
            },
            Some(look) = looked.recv() => {
                let look: Look = look;
                looking = false;
                if look.database == state.at {
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
                looking = true;
                let (pg, database, looks) = (state.pg().clone(), state.at, looks.clone());
                tokio::spawn(async move {
                    let _ = looks.send(look(&pg, database, limit).await).await;
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

async fn look(pg: &Pg, database: usize, limit: Duration) -> Look {
    let taking = async {
        let target = pg.connect_to(false).await.ok().map(|to| to.target(None));
        (target, Sample::take(pg).await)
    };
    match tokio::time::timeout(limit, taking).await {
        Ok((target, taken)) => {
            let sample = taken.map_err(|error| Error::from(error).to_string());
            Look { database, target, sample }
        }
        Err(_) => {
            let reason = format!("database `{}` did not answer within {limit:.1?}", pg.name());
            Look { database, target: None, sample: Err(reason) }
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
