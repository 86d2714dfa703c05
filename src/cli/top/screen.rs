//! How a sample is drawn.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Borders, Clear, Paragraph, Row, Table, TableState, Wrap};

use super::columns::{self, Column};
use super::keys::KEYS;
use super::sample::{Sample, rate};
use super::state::{Overlay, Question, State, View};
use crate::cli::out::size;

/// A statement that runs for longer is shown in yellow, then in red.
const LONG: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(60)];

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const CHOSEN: Style = Style::new().add_modifier(Modifier::REVERSED);

pub(super) fn draw(frame: &mut Frame<'_>, state: &State) {
    let [head, connections, tabs, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(2),
    ])
    .areas(frame.area());
    frame.render_widget(header(state), head);
    frame.render_widget(views(state), tabs);
    frame.render_widget(footer(state), foot);
    match (&state.sample, &state.down) {
        (Some(sample), _) => {
            frame.render_widget(load(state, sample), connections);
            table(frame, body, state, sample);
        }
        (None, Some((since, error))) => {
            let since = crate::cli::out::ago(since.elapsed());
            let text = format!("unreachable for {since}: {error}");
            let text = Paragraph::new(text).style(Style::new().fg(Color::Red));
            frame.render_widget(text.wrap(Wrap { trim: true }), body);
        }
        (None, None) => frame.render_widget(Paragraph::new("connecting …"), body),
    }
    if let Some(shown) = &state.overlay {
        overlay(frame, body, shown);
    }
    if let Some(question) = &state.question {
        ask(frame, question);
    }
}

fn header(state: &State) -> Line<'_> {
    let names = state.server().names.join(", ");
    let mut spans = vec![Span::styled(format!("wharf top  {names}"), BOLD)];
    if let Some(target) = &state.server().target {
        spans.push(Span::raw(format!("  {target}")));
    }
    if let Some(sample) = &state.sample {
        let role = if sample.standby { "standby" } else { "primary" };
        let version = sample.version.split(' ').next().unwrap_or_default();
        let up = crate::cli::out::ago(sample.uptime);
        spans.push(Span::raw(format!("  PostgreSQL {version}, {role}, up {up}")));
    }
    if state.paused {
        spans.push(Span::styled("  paused", Style::new().fg(Color::Yellow)));
    }
    Line::from(spans)
}

fn load<'a>(state: &State, sample: &'a Sample) -> Line<'a> {
    let (used, most) = (sample.connections(), sample.max_connections);
    let full = if used * 10 >= most * 9 { Style::new().fg(Color::Red) } else { Style::new() };
    let mut spans = vec![Span::styled(format!("connections {used} of {most}"), full)];
    for (name, count) in &sample.states {
        let style = match name.as_str() {
            "active" => Style::new().fg(Color::Green),
            name if name.starts_with("idle in transaction") => Style::new().fg(Color::Yellow),
            _ => Style::new(),
        };
        spans.push(Span::styled(format!("  {name} {count}"), style));
    }
    let before = state.before.as_ref();
    if let Some(commits) = rate(before, sample, |it| it.commits) {
        spans.push(Span::raw(format!("  commits {commits:.0}/s")));
        let all = rate(state.first.as_ref(), sample, |it| it.commits).unwrap_or(commits);
        spans.push(Span::styled(format!(" ({all:.1}/s since start)"), DIM));
    }
    if let Some(rollbacks) = rate(before, sample, |it| it.rollbacks).filter(|rate| *rate > 0.0) {
        spans.push(Span::raw(format!("  rollbacks {rollbacks:.0}/s")));
    }
    Line::from(spans)
}

fn views(state: &State) -> Line<'static> {
    let mut spans = Vec::new();
    for (at, view) in View::ALL.into_iter().enumerate() {
        let style = if view == state.view { CHOSEN } else { Style::new() };
        spans.push(Span::styled(format!(" {} {} ", at + 1, view.name()), style));
        spans.push(Span::raw(" "));
    }
    Line::from(spans)
}

/// A message, if there is one; then the keys.
fn footer(state: &State) -> Paragraph<'_> {
    let blind = state.sample.as_ref().and_then(|it| it.blind.as_ref());
    let message = match (&state.said, blind) {
        _ if state.is_typing => Line::raw(format!("filter: {}_", state.filter)),
        (Some(said), _) => Line::raw(said.as_str()),
        _ if !state.filter.is_empty() => {
            Line::raw(format!("filter: {} (Esc ends it)", state.filter))
        }
        (_, Some(blind)) => Line::styled(blind.as_str(), Style::new().fg(Color::Yellow)),
        _ => Line::raw(""),
    };
    let mut keys = "? keys  q quit  1-4 view  Enter statement  / filter".to_owned();
    if state.view == View::Slowest {
        keys.push_str("  s sort");
    }
    if state.many() {
        keys.push_str("  Tab server");
    }
    Paragraph::new(vec![message, Line::styled(keys, DIM)])
}

fn table(frame: &mut Frame<'_>, area: Rect, state: &State, sample: &Sample) {
    let (columns, rows): (&[Column], Vec<Cells>) = match state.view {
        View::Statements => {
            (columns::STATEMENTS, state.activity().into_iter().map(activity).collect())
        }
        View::Locks => (columns::LOCKS, state.locks().iter().map(lock).collect()),
        View::Slowest => match state.slowest() {
            Ok(slowest) => (columns::SLOWEST, slowest.into_iter().map(slow).collect()),
            Err(reason) => {
                let text = Paragraph::new(reason).wrap(Wrap { trim: true });
                return frame.render_widget(text, area);
            }
        },
        View::Databases => (columns::DATABASES, sample.databases.iter().map(database).collect()),
    };
    if rows.is_empty() {
        let none = match state.view {
            _ if !state.filter.is_empty() => "no row contains the filter's text",
            View::Statements => "no statement is running",
            View::Locks => "no backend waits for a lock",
            View::Slowest | View::Databases => "nothing",
        };
        return frame.render_widget(Paragraph::new(none), area);
    }
    let shown = columns::fitting(columns, area.width);
    let heading = shown.iter().map(|at| {
        let name = columns[*at].0;
        match state.view == View::Slowest && name == state.sort.name() {
            true => format!("{name} v"),
            false => name.to_owned(),
        }
    });
    let chosen = state.chosen.min(rows.len() - 1);
    let heading = Row::new(heading.collect::<Vec<_>>()).style(BOLD);
    let widths = columns::widths(columns, &shown);
    let rest = area.width.saturating_sub(shown.iter().map(|at| columns[*at].1 + 1).sum());
    let rows = rows.into_iter().map(|(cells, style)| {
        let cells = shown.iter().filter_map(|at| {
            let room = if columns[*at].1 == 0 { rest } else { columns[*at].1 };
            Some(cut(cells.get(*at)?, usize::from(room)))
        });
        Row::new(cells.collect::<Vec<_>>()).style(style)
    });
    let table = Table::new(rows, widths).header(heading).row_highlight_style(CHOSEN);
    let mut at = TableState::default().with_selected(Some(chosen));
    frame.render_stateful_widget(table, area, &mut at);
}

/// The texts of a row, for all columns of its view.
type Cells = (Vec<String>, Style);

/// On one line, and with `…` where it does not fit.
fn cut(text: &str, room: usize) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.chars().count() > room {
        true => line.chars().take(room.saturating_sub(1)).chain(['…']).collect(),
        false => line,
    }
}

fn activity(it: &super::sample::Activity) -> Cells {
    let waits = match it.blocked_by.as_slice() {
        [] => it.wait.clone().unwrap_or_default(),
        blockers => {
            let pids: Vec<String> = blockers.iter().map(i32::to_string).collect();
            format!("lock of {}", pids.join(", "))
        }
    };
    let style = match it.age {
        _ if !it.blocked_by.is_empty() => Style::new().fg(Color::Red),
        age if age > LONG[1] => Style::new().fg(Color::Red),
        age if age > LONG[0] => Style::new().fg(Color::Yellow),
        _ => Style::new(),
    };
    let state = match it.state.as_str() {
        "idle in transaction" => "idle in tx",
        "idle in transaction (aborted)" => "failed tx",
        state => state,
    };
    let cells = vec![
        it.pid.to_string(),
        it.database.clone(),
        it.user.clone(),
        it.application.clone(),
        state.to_owned(),
        age(it.age),
        waits,
        it.query.clone(),
    ];
    (cells, style)
}

fn lock(it: &super::locks::Row) -> Cells {
    let pid = match it.depth {
        0 => it.pid.to_string(),
        depth => format!("{}└ {}", "  ".repeat(depth - 1), it.pid),
    };
    let cells = vec![pid, it.state.clone(), it.age.map(age).unwrap_or_default(), it.query.clone()];
    (cells, if it.depth == 0 { BOLD } else { Style::new() })
}

fn slow(it: &super::sample::Slow) -> Cells {
    let cells = vec![
        age(it.total),
        it.calls.to_string(),
        age(it.mean),
        it.rows.to_string(),
        it.query.clone(),
    ];
    (cells, Style::new())
}

fn database(it: &super::sample::Database) -> Cells {
    let bytes = |bytes: i64| size(u64::try_from(bytes).unwrap_or(0));
    let cells = vec![
        it.size.map_or_else(|| "-".to_owned(), bytes),
        it.connections.to_string(),
        it.commits.to_string(),
        it.rollbacks.to_string(),
        it.cache().map_or_else(|| "-".to_owned(), |share| format!("{share:.1} %")),
        it.deadlocks.to_string(),
        bytes(it.temporary),
        it.name.clone(),
    ];
    (cells, Style::new())
}

/// The keys, or a whole statement, over the rows.
fn overlay(frame: &mut Frame<'_>, body: Rect, overlay: &Overlay) {
    let border = Block::new().borders(Borders::ALL);
    frame.render_widget(Clear, body);
    let (text, line) = match overlay {
        Overlay::Keys => {
            let lines = KEYS.iter().map(|(key, what)| Line::raw(format!("{key:<8} {what}")));
            (Text::from_iter(lines), 0)
        }
        Overlay::Statement(text, line) => (Text::raw(text.as_str()), *line),
    };
    let shown = Paragraph::new(text).wrap(Wrap { trim: false }).scroll((line, 0)).block(border);
    frame.render_widget(shown, body);
}

fn ask(frame: &mut Frame<'_>, question: &Question) {
    let text = format!("{} [y/N]", question.text());
    let area = frame.area();
    let width = u16::try_from(text.chars().count() + 4).unwrap_or(u16::MAX).min(area.width);
    let lines = u16::try_from(text.chars().count()).unwrap_or(0) / width.saturating_sub(4).max(1);
    let height = (lines + 3).min(area.height);
    let place = Rect { x: (area.width - width) / 2, y: (area.height - height) / 2, width, height };
    let border = Block::new().borders(Borders::ALL).style(Style::new().fg(Color::Yellow));
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }).block(border), place);
}

/// `4.2 s`, `1 min 5 s`.
pub(super) fn age(span: Duration) -> String {
    match span {
        span if span < Duration::from_secs(1) => format!("{:.1} ms", span.as_secs_f64() * 1e3),
        span if span < Duration::from_secs(60) => format!("{:.1} s", span.as_secs_f64()),
        span => crate::cli::out::ago(span),
    }
}
