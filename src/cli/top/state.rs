//! The state of the screen of `wharf top`.

use std::cmp::Reverse;
use std::time::Instant;

use super::locks::{self, Row};
use super::sample::{Activity, Sample, Slow};
use super::{Look, Server};
use crate::Pg;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum View {
    Statements,
    Locks,
    Slowest,
    Databases,
}

impl View {
    pub(super) const ALL: [View; 4] =
        [View::Statements, View::Locks, View::Slowest, View::Databases];

    pub(super) fn name(self) -> &'static str {
        match self {
            View::Statements => "Statements",
            View::Locks => "Locks",
            View::Slowest => "Slowest",
            View::Databases => "Databases",
        }
    }
}

/// The confirmation before a backend is signaled.
pub(super) struct Question {
    pub(super) pid: i32,
    /// End its connection; else only cancel its statement.
    pub(super) ends: bool,
    who: String,
}

impl Question {
    pub(super) fn text(&self) -> String {
        let what =
            if self.ends { "This ends the connection" } else { "This cancels the statement" };
        format!("{what} of process {} ({}). Continue?", self.pid, self.who)
    }
}

/// By what the rows of a view are sorted; `s` goes to the next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// The longest first: for how long, or in total.
    Time,
    Calls,
    Mean,
    Rows,
}

impl Sort {
    const ALL: [Sort; 4] = [Sort::Time, Sort::Calls, Sort::Mean, Sort::Rows];

    pub(super) fn name(self) -> &'static str {
        match self {
            Sort::Time => "total",
            Sort::Calls => "calls",
            Sort::Mean => "mean",
            Sort::Rows => "rows",
        }
    }

    pub(super) fn next(self) -> Sort {
        let at = Sort::ALL.iter().position(|it| *it == self).unwrap_or(0);
        Sort::ALL[(at + 1) % Sort::ALL.len()]
    }
}

/// What is drawn over the rows.
pub(super) enum Overlay {
    Keys,
    /// A whole statement, from this line on.
    Statement(String, u16),
}

pub(super) struct State {
    pub(super) servers: Vec<Server>,
    pub(super) at: usize,
    /// The first sample of this server, from which rates since the start are computed.
    pub(super) first: Option<Sample>,
    pub(super) before: Option<Sample>,
    pub(super) sample: Option<Sample>,
    /// Why the server is unreachable, and since when.
    pub(super) down: Option<(Instant, String)>,
    /// The outcome of the last action.
    pub(super) said: Option<String>,
    pub(super) question: Option<Question>,
    pub(super) overlay: Option<Overlay>,
    pub(super) view: View,
    pub(super) sort: Sort,
    /// Only rows that contain this.
    pub(super) filter: String,
    /// The filter is being typed.
    pub(super) is_typing: bool,
    pub(super) chosen: usize,
    pub(super) paused: bool,
}

impl State {
    pub(super) fn new(servers: Vec<Server>) -> State {
        State {
            servers,
            at: 0,
            first: None,
            before: None,
            sample: None,
            down: None,
            said: None,
            question: None,
            overlay: None,
            view: View::Statements,
            sort: Sort::Time,
            filter: String::new(),
            is_typing: false,
            chosen: 0,
            paused: false,
        }
    }

    pub(super) fn server(&self) -> &Server {
        &self.servers[self.at]
    }

    pub(super) fn pg(&self) -> &Pg {
        &self.server().pg
    }

    pub(super) fn many(&self) -> bool {
        self.servers.len() > 1
    }

    pub(super) fn next_server(&mut self) {
        self.at = (self.at + 1) % self.servers.len();
        (self.first, self.before, self.sample, self.down) = (None, None, None, None);
        (self.said, self.chosen) = (None, 0);
    }

    /// Takes the outcome of a sample. Of a server that is unreachable no old figures are shown.
    pub(super) fn looked(&mut self, look: Look) {
        let target = look.target;
        if let Some(server) = self.servers.get_mut(self.at) {
            server.target = target.or(server.target.take());
        }
        match look.sample {
            Ok(sample) => {
                if self.first.is_none() {
                    self.first = Some(sample.clone());
                }
                self.before = self.sample.replace(sample);
                self.down = None;
            }
            Err(error) => {
                (self.first, self.before, self.sample) = (None, None, None);
                let since = self.down.take().map_or_else(Instant::now, |(since, _)| since);
                self.down = Some((since, error));
            }
        }
    }

    fn matches(&self, texts: &[&str]) -> bool {
        let filter = self.filter.to_lowercase();
        texts.iter().any(|text| text.to_lowercase().contains(&filter))
    }

    pub(super) fn activity(&self) -> Vec<&Activity> {
        let all = self.sample.iter().flat_map(|sample| &sample.activity);
        all.filter(|it| self.matches(&[&it.query, &it.user, &it.application, &it.database]))
            .collect()
    }

    pub(super) fn locks(&self) -> Vec<Row> {
        let rows =
            self.sample.as_ref().map(|sample| locks::tree(&sample.locks)).unwrap_or_default();
        // A tree with gaps says nothing.
        match rows.iter().any(|row| self.matches(&[&row.query])) {
            true => rows,
            false => Vec::new(),
        }
    }

    pub(super) fn slowest(&self) -> Result<Vec<&Slow>, &str> {
        let Some(sample) = &self.sample else {
            return Ok(Vec::new());
        };
        let all = sample.slowest.as_ref().map_err(String::as_str)?;
        let mut rows: Vec<&Slow> = all.iter().filter(|it| self.matches(&[&it.query])).collect();
        match self.sort {
            Sort::Time => rows.sort_by_key(|it| Reverse(it.total)),
            Sort::Calls => rows.sort_by_key(|it| Reverse(it.calls)),
            Sort::Mean => rows.sort_by_key(|it| Reverse(it.mean)),
            Sort::Rows => rows.sort_by_key(|it| Reverse(it.rows)),
        }
        Ok(rows)
    }

    /// How many rows the view has.
    pub(super) fn count(&self) -> usize {
        match self.view {
            View::Statements => self.activity().len(),
            View::Locks => self.locks().len(),
            View::Slowest => self.slowest().map_or(0, |rows| rows.len()),
            View::Databases => self.sample.as_ref().map_or(0, |sample| sample.databases.len()),
        }
    }

    /// The backend of the selected row, and its statement.
    fn selected(&self) -> Option<(Option<i32>, String)> {
        let at = self.chosen.min(self.count().checked_sub(1)?);
        match self.view {
            View::Statements => self.activity().get(at).map(|it| (Some(it.pid), it.query.clone())),
            View::Locks => self.locks().get(at).map(|it| (Some(it.pid), it.query.clone())),
            View::Slowest => self.slowest().ok()?.get(at).map(|it| (None, it.query.clone())),
            View::Databases => None,
        }
    }

    /// Shows the whole statement of the selected row.
    pub(super) fn open(&mut self) {
        if let Some((_, query)) = self.selected() {
            self.overlay = Some(Overlay::Statement(query, 0));
        }
    }

    /// Asks for confirmation before the selected backend is signaled.
    pub(super) fn ask(&mut self, ends: bool) {
        self.question = match self.selected() {
            Some((Some(pid), query)) => {
                let who = query.chars().take(60).collect();
                Some(Question { pid, ends, who })
            }
            _ => None,
        };
        if self.question.is_none() {
            self.said = Some("select a statement or a lock first".to_owned());
        }
    }
}
