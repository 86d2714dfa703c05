//! How a look is drawn.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph, Row, Table, TableState, Wrap};

use super::sample::{Sample, rate};
use super::{Question, State, View};
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
    match (&state.sample, &state.error) {
        (Some(sample), _) => {
            frame.render_widget(load(state, sample), connections);
            table(frame, body, state, sample);
        }
        (None, Some(error)) => {
            frame.render_widget(Paragraph::new(error.as_str()).wrap(Wrap { trim: true }), body);
        }
        (None, None) => frame.render_widget(Paragraph::new("connecting …"), body),
    }
    if let Some(question) = &state.question {
        ask(frame, question);
    }
}

fn header(state: &State) -> Line<'_> {
    let mut spans = vec![Span::styled(format!("wharf top  {}", state.name()), BOLD)];
    if let Some(target) = &state.target {
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

/// What is wrong, if something is; then the keys.
fn footer(state: &State) -> Paragraph<'_> {
    let alarm = Style::new().fg(Color::Red);
    let told =
        match (&state.error, &state.said, state.sample.as_ref().and_then(|it| it.blind.as_ref())) {
            (Some(error), _, _) if state.sample.is_some() => {
                Line::styled(format!("this is old: {error}"), alarm)
            }
            (_, Some(said), _) => Line::raw(said.as_str()),
            (_, _, Some(blind)) => Line::styled(blind.as_str(), Style::new().fg(Color::Yellow)),
            _ => Line::raw(""),
        };
    let mut keys =
        "q quit  1-4 view  ↑↓ choose  c cancel statement  t end connection  p pause".to_owned();
    if state.many() {
        keys.push_str("  Tab next database");
    }
    Paragraph::new(vec![told, Line::styled(keys, DIM)])
}

fn table(frame: &mut Frame<'_>, area: Rect, state: &State, sample: &Sample) {
    let (heading, widths, rows): (&[&str], Vec<Constraint>, Vec<Row<'_>>) = match state.view {
        View::Statements => (
            &["pid", "database", "user", "application", "state", "for", "waits for", "statement"],
            widths(&[7, 10, 10, 12, 11, 8, 20]),
            sample.activity.iter().map(activity).collect(),
        ),
        View::Locks => (
            &["waits", "held by", "who is", "mode", "on", "for", "statement that waits"],
            widths(&[7, 8, 19, 20, 16, 8]),
            sample.locks.iter().map(lock).collect(),
        ),
        View::Slowest => {
            let rows = match &sample.slowest {
                Ok(slowest) => slowest.iter().map(slow).collect(),
                Err(reason) => {
                    let text = Paragraph::new(reason.as_str()).wrap(Wrap { trim: true });
                    return frame.render_widget(text, area);
                }
            };
            (&["total", "calls", "mean", "rows", "statement"], widths(&[9, 9, 9, 10]), rows)
        }
        View::Databases => (
            &[
                "database",
                "size",
                "connections",
                "commits",
                "rollbacks",
                "from cache",
                "deadlocks",
                "spilled",
            ],
            widths(&[16, 10, 11, 12, 10, 10, 9]),
            sample.databases.iter().map(database).collect(),
        ),
    };
    if rows.is_empty() {
        let none = match state.view {
            View::Statements => "nobody runs anything",
            View::Locks => "nobody waits for a lock",
            View::Slowest | View::Databases => "nothing",
        };
        return frame.render_widget(Paragraph::new(none), area);
    }
    let chosen = state.chosen.min(rows.len() - 1);
    let table = Table::new(rows, widths)
        .header(Row::new(heading.iter().copied()).style(BOLD))
        .row_highlight_style(CHOSEN);
    let mut at = TableState::default().with_selected(Some(chosen));
    frame.render_stateful_widget(table, area, &mut at);
}

/// So many columns of these widths, and a last one that has the rest.
fn widths(fixed: &[u16]) -> Vec<Constraint> {
    let fixed = fixed.iter().map(|width| Constraint::Length(*width));
    fixed.chain([Constraint::Fill(1)]).collect()
}

fn activity(it: &super::sample::Activity) -> Row<'_> {
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
    Row::new([
        it.pid.to_string(),
        it.database.clone(),
        it.user.clone(),
        it.application.clone(),
        state.to_owned(),
        age(it.age),
        waits,
        it.query.clone(),
    ])
    .style(style)
}

fn lock(it: &super::sample::Lock) -> Row<'_> {
    Row::new([
        it.waiting.to_string(),
        it.blocking.to_string(),
        it.blocking_state.clone(),
        it.mode.clone(),
        it.on.clone(),
        age(it.age),
        format!("{}   [held by: {}]", it.waiting_query, it.blocking_query),
    ])
}

fn slow(it: &super::sample::Slow) -> Row<'_> {
    Row::new([
        age(it.total),
        it.calls.to_string(),
        age(it.mean),
        it.rows.to_string(),
        it.query.clone(),
    ])
}

fn database(it: &super::sample::Database) -> Row<'_> {
    let bytes = |bytes: i64| size(u64::try_from(bytes).unwrap_or(0));
    Row::new([
        it.name.clone(),
        it.size.map_or_else(|| "-".to_owned(), bytes),
        it.connections.to_string(),
        it.commits.to_string(),
        it.rollbacks.to_string(),
        it.cache().map_or_else(|| "-".to_owned(), |share| format!("{share:.1} %")),
        it.deadlocks.to_string(),
        bytes(it.temporary),
    ])
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
