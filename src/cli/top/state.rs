//! The state of the screen of `wharf top`.

use std::sync::Arc;
use std::time::Instant;

use super::rows::{self, Row, View};
use super::sample::Sample;
use super::{Look, Server};
use crate::cli::visible::visible;
use crate::{Pg, ServerStatus};

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
    /// All servers of the cluster that it is in, as they were seen last.
    pub(super) statuses: Vec<ServerStatus>,
    /// Why the server is unreachable, and since when.
    pub(super) down: Option<(Instant, String)>,
    /// The outcome of the last action.
    pub(super) said: Option<String>,
    pub(super) question: Option<Question>,
    pub(super) overlay: Option<Overlay>,
    pub(super) view: View,
    /// Of each view, the column that its rows are sorted by.
    sort: [Option<usize>; View::ALL.len()],
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
            statuses: Vec::new(),
            down: None,
            said: None,
            question: None,
            overlay: None,
            view: View::Statements,
            sort: View::ALL.map(View::first_sort),
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
        let before = self.at;
        self.at = (self.at + 1) % self.servers.len();
        let cluster = |at: usize| self.servers[at].member.as_ref().map(|it| &it.cluster);
        let is_same = cluster(before)
            .zip(cluster(self.at))
            .is_some_and(|(before, now)| Arc::ptr_eq(before, now));
        if !is_same {
            self.statuses.clear();
        }
        (self.first, self.before, self.sample, self.down) = (None, None, None, None);
        (self.said, self.chosen) = (None, 0);
    }

    /// Takes the outcome of a sample. Of a server that is unreachable no old figures are shown.
    pub(super) fn looked(&mut self, look: Look) {
        let target = look.target;
        if let Some(server) = self.servers.get_mut(self.at) {
            server.target = target.or(server.target.take());
        }
        self.statuses = look.statuses;
        match look.sample {
            Ok(sample) => {
                self.before = self.sample.replace(sample);
                self.down = None;
                let (before, now) = (&self.before, &self.sample);
                // After a restart the counters start anew.
                let is_restarted = before
                    .as_ref()
                    .zip(now.as_ref())
                    .is_some_and(|(it, now)| now.uptime < it.uptime);
                if is_restarted {
                    (self.first, self.before) = (None, None);
                } else if self.first.is_none() {
                    self.first.clone_from(&self.sample);
                }
            }
            Err(error) => {
                (self.first, self.before, self.sample) = (None, None, None);
                let since = self.down.take().map_or_else(Instant::now, |(since, _)| since);
                self.down = Some((since, error));
            }
        }
    }

    /// The rows of the view, filtered and sorted; or the reason why there are none.
    pub(super) fn rows(&self) -> Result<Vec<Row>, &str> {
        let Some(sample) = &self.sample else {
            return Ok(Vec::new());
        };
        let mut rows = self.view.rows(self.first.as_ref(), sample)?;
        rows::filter(self.view, &mut rows, &self.filter);
        if let Some(column) = self.sorted() {
            rows::sort(&mut rows, column);
        }
        Ok(rows)
    }

    /// The column that the view's rows are sorted by.
    pub(super) fn sorted(&self) -> Option<usize> {
        self.sort[self.view as usize]
    }

    /// Sorts by the next column.
    pub(super) fn sort_next(&mut self) {
        let columns = self.view.columns().len();
        match &mut self.sort[self.view as usize] {
            Some(column) => *column = (*column + 1) % columns,
            None => {
                self.said = Some("locks are shown as a tree, the longest wait first".to_owned())
            }
        }
    }

    /// How many rows the view has.
    pub(super) fn count(&self) -> usize {
        self.rows().map_or(0, |rows| rows.len())
    }

    fn selected(&self) -> Option<Row> {
        let mut rows = self.rows().ok()?;
        let last = rows.len().checked_sub(1)?;
        Some(rows.swap_remove(self.chosen.min(last)))
    }

    /// Shows the whole statement of the selected row.
    pub(super) fn open(&mut self) {
        if let Some(row) = self.selected().filter(|row| !row.query.is_empty()) {
            self.overlay = Some(Overlay::Statement(visible(&row.query).into_owned(), 0));
        }
    }

    /// Asks for confirmation before the selected backend is signaled.
    pub(super) fn ask(&mut self, ends: bool) {
        self.question = self.selected().and_then(|row| {
            let who = visible(&row.query).chars().take(60).collect();
            Some(Question { pid: row.pid?, ends, who })
        });
        if self.question.is_none() {
            self.said = Some("select a statement or a lock first".to_owned());
        }
    }
}
