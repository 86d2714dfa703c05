//! `wharf top`: what the servers are doing, now.

mod once;
mod sample;
mod screen;

use std::io::IsTerminal as _;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use self::sample::Sample;
use super::context::Context;
use super::failure::Failure;
use super::log::Muted;
use crate::config::MonitorConfig;
use crate::{Error, Manager, Pg};

/// A look that takes longer is given up: the screen is to live, whatever the server does.
const LOOK: Duration = Duration::from_secs(5);

pub(super) async fn run(
    context: &Context,
    names: Vec<String>,
    interval: Duration,
    once: bool,
    json: bool,
) -> Result<(), Failure> {
    let watched = watched(context, names)?;
    if once || json {
        return once::run(&watched, json).await;
    }
    if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
        return Err(Failure::Failed(
            "top draws on a terminal, and this is none; --once prints one look, --json as JSON"
                .to_owned(),
        ));
    }
    // What it would say is on the screen.
    let _muted = Muted::begin();
    let mut terminal = ratatui::try_init()?;
    let watched = watch(&mut terminal, watched, interval).await;
    ratatui::restore();
    watched
}

/// The databases that are meant, each over one connection of its own that looks and does not linger.
fn watched(context: &Context, names: Vec<String>) -> Result<Vec<Pg>, Failure> {
    let mut config = context.config()?;
    let manager = Manager::from_config(config.clone());
    for name in &names {
        // The manager's own error names the others.
        manager.db(name)?;
    }
    if config.databases.is_empty() {
        return Err(Failure::File("the file names no database".to_owned()));
    }
    for entry in config.databases.values_mut() {
        (entry.pool_size, entry.max_overflow, entry.min_connections) = (1, 0, 0);
        entry.application_name = "wharf top".to_owned();
        entry.statement_timeout = Some(LOOK);
        entry.pool_timeout = LOOK;
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum View {
    Statements,
    Locks,
    Slowest,
    Databases,
}

impl View {
    const ALL: [View; 4] = [View::Statements, View::Locks, View::Slowest, View::Databases];

    fn name(self) -> &'static str {
        match self {
            View::Statements => "Statements",
            View::Locks => "Locks",
            View::Slowest => "Slowest",
            View::Databases => "Databases",
        }
    }
}

/// What is asked before a backend is signalled.
struct Question {
    pid: i32,
    /// End its connection; else only cancel its statement.
    ends: bool,
    who: String,
}

impl Question {
    fn text(&self) -> String {
        let what = if self.ends { "End the connection" } else { "Cancel the statement" };
        format!("{what} of process {} ({})?", self.pid, self.who)
    }
}

/// What is on the screen.
struct State {
    watched: Vec<Pg>,
    at: usize,
    target: Option<String>,
    before: Option<Sample>,
    sample: Option<Sample>,
    /// Why the last look failed.
    error: Option<String>,
    /// What came of the last thing that was done.
    said: Option<String>,
    question: Option<Question>,
    view: View,
    chosen: usize,
    paused: bool,
}

impl State {
    fn new(watched: Vec<Pg>) -> State {
        State {
            watched,
            at: 0,
            target: None,
            before: None,
            sample: None,
            error: None,
            said: None,
            question: None,
            view: View::Statements,
            chosen: 0,
            paused: false,
        }
    }

    fn pg(&self) -> &Pg {
        &self.watched[self.at]
    }

    fn name(&self) -> &str {
        self.pg().name()
    }

    fn many(&self) -> bool {
        self.watched.len() > 1
    }

    fn next_database(&mut self) {
        self.at = (self.at + 1) % self.watched.len();
        (self.before, self.sample, self.error, self.target) = (None, None, None, None);
        (self.said, self.chosen) = (None, 0);
    }

    fn looked(&mut self, look: Look) {
        self.target = look.target.or(self.target.take());
        match look.sample {
            Ok(sample) => {
                self.before = self.sample.replace(sample);
                self.error = None;
            }
            Err(error) => self.error = Some(error),
        }
    }

    /// Asks about the backend that is chosen: of locks, the one that holds.
    fn ask(&mut self, ends: bool) {
        let Some(sample) = &self.sample else {
            return;
        };
        let who = |pid: i32, query: &str| {
            let shown: String = query.chars().take(60).collect();
            Question { pid, ends, who: shown }
        };
        self.question = match self.view {
            View::Statements => {
                let last = sample.activity.len().saturating_sub(1);
                sample.activity.get(self.chosen.min(last)).map(|it| who(it.pid, &it.query))
            }
            View::Locks => {
                let last = sample.locks.len().saturating_sub(1);
                sample
                    .locks
                    .get(self.chosen.min(last))
                    .map(|it| who(it.blocking, &it.blocking_query))
            }
            View::Slowest | View::Databases => None,
        };
        if self.question.is_none() {
            self.said = Some("choose a statement or a lock first".to_owned());
        }
    }
}

/// What came of one look.
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
    watched: Vec<Pg>,
    interval: Duration,
) -> Result<(), Failure> {
    let mut state = State::new(watched);
    let mut events = events();
    let (looks, mut looked) = mpsc::channel(1);
    let (answers, mut answered) = mpsc::channel(1);
    let mut next = Instant::now();
    // One look at a time; the keys are heard meanwhile.
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
                    let _ = looks.send(look(&pg, database).await).await;
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

fn press(state: &mut State, key: KeyEvent) -> Step {
    if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
        return Step::Quit;
    }
    if let Some(question) = state.question.take() {
        if let KeyCode::Char('y' | 'Y') = key.code {
            return Step::Signal(question);
        }
        state.said = Some("nothing was done".to_owned());
        return Step::Draw;
    }
    state.said = None;
    match key.code {
        KeyCode::Char('q') | KeyCode::Esc => return Step::Quit,
        KeyCode::Char('c') => state.ask(false),
        KeyCode::Char('t') => state.ask(true),
        KeyCode::Char('p' | ' ') => {
            state.paused = !state.paused;
            return Step::LookNow;
        }
        KeyCode::Char('r') => return Step::LookNow,
        KeyCode::Char(digit @ '1'..='4') => {
            state.view = View::ALL[digit as usize - '1' as usize];
            state.chosen = 0;
        }
        KeyCode::Tab if state.many() => {
            state.next_database();
            return Step::LookNow;
        }
        KeyCode::Up | KeyCode::Char('k') => state.chosen = state.chosen.saturating_sub(1),
        KeyCode::Down | KeyCode::Char('j') => {
            let rows = state.sample.as_ref().map_or(0, |sample| match state.view {
                View::Statements => sample.activity.len(),
                View::Locks => sample.locks.len(),
                View::Slowest => sample.slowest.as_ref().map_or(0, Vec::len),
                View::Databases => sample.databases.len(),
            });
            state.chosen = (state.chosen + 1).min(rows.saturating_sub(1));
        }
        _ => {}
    }
    Step::Draw
}

async fn look(pg: &Pg, database: usize) -> Look {
    let target = pg.connect_to(false).await.ok().map(|to| to.target(None));
    let sample = match tokio::time::timeout(LOOK, Sample::take(pg)).await {
        Ok(taken) => taken.map_err(|error| Error::from(error).to_string()),
        Err(_) => Err(format!("database `{}` did not answer within {LOOK:?}", pg.name())),
    };
    Look { database, target, sample }
}

/// Signals a backend, and says what came of it.
async fn signal(pg: &Pg, question: &Question) -> String {
    let (function, done) = match question.ends {
        true => ("pg_terminate_backend", "was told to end"),
        false => ("pg_cancel_backend", "was told to give up its statement"),
    };
    let sql = format!("SELECT {function}($1)");
    let values = [question.pid.into()];
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
    let signalled = pg.query_one_raw(statement).await;
    let signalled = signalled.and_then(|row| row.map(|row| row.try_get_by(0)).transpose());
    match signalled {
        Ok(Some(true)) => format!("process {} {done}", question.pid),
        Ok(_) => format!("process {} is not there any more", question.pid),
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
