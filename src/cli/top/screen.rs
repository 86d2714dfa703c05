//! How a sample is drawn.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{
    Block, Borders, Clear, Paragraph, Row as TableRow, Table, TableState, Wrap,
};

use super::cluster;
use super::columns::{self, Kind};
use super::keys::KEYS;
use super::rates::Rates;
use super::rows::{Row, Tone, View, rate};
use super::sample::{MOST, Sample};
use super::state::{Overlay, Question, State};
use crate::ServerRole;
use crate::cli::out;
use crate::cli::visible::visible;
use crate::config::HostPort;

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const CHOSEN: Style = Style::new().add_modifier(Modifier::REVERSED);

/// The color, or none where the user wants none.
fn colored(color: Color) -> Style {
    if out::has_colors() { Style::new().fg(color) } else { Style::new() }
}

/// Parts side by side, as many as are whole on a line of this width.
fn fit(parts: Vec<(String, Style)>, width: u16) -> Line<'static> {
    const GAP: &str = "  ";
    let mut line = Line::default();
    for (text, style) in parts {
        let gap = if line.spans.is_empty() { "" } else { GAP };
        let span = Span::styled(visible(&text).into_owned(), style);
        if line.width() + gap.len() + span.width() > usize::from(width) && !line.spans.is_empty() {
            break;
        }
        line.push_span(Span::raw(gap));
        line.push_span(span);
    }
    line
}

pub(super) fn draw(frame: &mut Frame<'_>, state: &State) {
    let [head, cluster, connections, rates, tabs, body, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(u16::from(state.server().member.is_some())),
        Constraint::Length(1),
        Constraint::Length(2),
        Constraint::Length(1),
        Constraint::Min(3),
        Constraint::Length(2),
    ])
    .areas(frame.area());
    frame.render_widget(header(state, head.width), head);
    frame.render_widget(members(state, cluster.width), cluster);
    frame.render_widget(views(state, tabs.width), tabs);
    frame.render_widget(footer(state, foot.width), foot);
    match (&state.sample, &state.down) {
        (Some(sample), _) => {
            frame.render_widget(load(sample, connections.width), connections);
            frame.render_widget(activity(state, sample, rates.width), rates);
            table(frame, body, state);
        }
        (None, Some((since, error))) => {
            let since = out::ago(since.elapsed());
            let text = format!("unreachable for {since}: {error}");
            let text = Paragraph::new(visible(&text).into_owned()).style(colored(Color::Red));
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

fn header(state: &State, width: u16) -> Line<'static> {
    let plain = Style::new();
    let names = state.server().names.join(", ");
    let mut parts = vec![(format!("wharf top  {names}"), BOLD)];
    if state.paused {
        parts.push(("paused".to_owned(), colored(Color::Yellow)));
    }
    if let Some(target) = &state.server().target {
        parts.push((target.clone(), plain));
    }
    if let Some(sample) = &state.sample {
        let role = if sample.is_standby { "standby" } else { "primary" };
        let version = sample.version.split(' ').next().unwrap_or_default();
        let up = out::ago(sample.uptime);
        parts.push((format!("PostgreSQL {version}, {role}, up {up}"), plain));
    }
    fit(parts, width)
}

/// The servers of the cluster, each with its role and lag. A narrow screen begins with the one that is shown.
fn members(state: &State, width: u16) -> Line<'static> {
    let shown = state.server().member.as_ref().map_or(0, |member| member.place);
    let line = |from: usize| {
        let members = state.statuses.iter().enumerate().skip(from);
        let parts = members.map(|(place, it)| {
            let at = HostPort { host: it.host.clone(), port: it.port };
            let style = match it.role {
                _ if place == shown => CHOSEN,
                ServerRole::Unknown => colored(Color::Red),
                _ if it.problem.is_some() => colored(Color::Yellow),
                _ => Style::new(),
            };
            (format!(" {at} {} ", cluster::role_and_lag(it.role, it.lag_bytes)), style)
        });
        fit(parts.collect(), width)
    };
    let all = line(0);
    if all.spans.len() == 2 * state.statuses.len() { all } else { line(shown) }
}

fn load(sample: &Sample, width: u16) -> Line<'static> {
    let (used, most) = (sample.connections(), sample.max_connections);
    let full = if used * 10 >= most * 9 { colored(Color::Red) } else { Style::new() };
    let mut parts = vec![(format!("connections {used} of {most}"), full)];
    for (name, count) in &sample.states {
        let style = match name.as_str() {
            "active" => colored(Color::Green),
            name if name.starts_with("idle in transaction") => colored(Color::Yellow),
            _ => Style::new(),
        };
        parts.push((format!("{name} {count}"), style));
    }
    fit(parts, width)
}

/// Growth per second since the sample before, and since the first one.
fn activity(state: &State, sample: &Sample, width: u16) -> Text<'static> {
    let line = |name: &str, before: &Option<Sample>, style| {
        let rates = before.as_ref().and_then(|before| Rates::between(before, sample))?;
        let parts = [
            ("commits", rates.commits),
            ("rows read", rates.rows_read),
            ("rows written", rates.rows_written),
            ("rollbacks", rates.rollbacks),
        ];
        let parts = parts.map(|(what, figure)| (format!("{what} {}/s", rate(figure)), style));
        let name = (format!("{name:<11}"), style);
        Some(fit([name].into_iter().chain(parts).collect(), width))
    };
    let now = line("now", &state.before, Style::new());
    Text::from_iter(now.into_iter().chain(line("since start", &state.first, DIM)))
}

/// The views, each by its number; on a narrow screen, only the one that is shown by its name.
fn views(state: &State, width: u16) -> Line<'static> {
    let line = |has_all_names: bool| {
        let parts = View::ALL.into_iter().enumerate().map(|(at, view)| {
            let style = if view == state.view { CHOSEN } else { Style::new() };
            match has_all_names || view == state.view {
                true => (format!(" {} {} ", at + 1, view.name()), style),
                false => (format!(" {} ", at + 1), style),
            }
        });
        fit(parts.collect(), width)
    };
    let all = line(true);
    if all.spans.len() == 2 * View::ALL.len() { all } else { line(false) }
}

/// A message, if there is one; then the keys.
fn footer(state: &State, width: u16) -> Paragraph<'_> {
    let blind = state.sample.as_ref().and_then(|it| it.blind.as_ref());
    let message = match (&state.said, blind) {
        _ if state.is_typing => Line::raw(format!("filter: {}_", state.filter)),
        (Some(said), _) => Line::raw(visible(said)),
        _ if !state.filter.is_empty() => {
            Line::raw(format!("filter: {} (Esc ends it)", state.filter))
        }
        (_, Some(blind)) => Line::styled(visible(blind), colored(Color::Yellow)),
        _ => Line::styled(remark(state), DIM),
    };
    let mut keys = vec!["? keys", "q quit", "1-4 view"];
    if state.many() {
        keys.push("Tab server");
    }
    keys.extend(["/ filter", "s sort", "Enter statement"]);
    let keys = keys.into_iter().map(|key| (key.to_owned(), DIM)).collect();
    Paragraph::new(vec![message, fit(keys, width)])
}

/// Says from which moment on the view's figures count.
fn remark(state: &State) -> String {
    if state.rows().is_ok_and(|rows| rows.len() >= MOST) {
        return format!("only the first {MOST} rows are shown");
    }
    let counted = match state.view {
        View::Statements | View::Locks => return String::new(),
        View::Slowest => "load and calls/s",
        View::Databases => "per second",
    };
    format!("{counted}: since wharf top started; the rest: since the last reset")
}

fn table(frame: &mut Frame<'_>, area: Rect, state: &State) {
    let rows = match state.rows() {
        Ok(rows) => rows,
        Err(reason) => {
            let text = Paragraph::new(visible(reason)).wrap(Wrap { trim: true });
            return frame.render_widget(text, area);
        }
    };
    let Some(last) = rows.len().checked_sub(1) else {
        let none = match state.view {
            _ if !state.filter.is_empty() => "no row contains the filter's text",
            View::Statements => "no statement is running",
            View::Locks => "no backend waits for a lock",
            View::Slowest => "no statement has been counted yet",
            View::Databases => "no database is visible",
        };
        return frame.render_widget(Paragraph::new(none), area);
    };
    let columns = state.view.columns();
    let shown = columns::fitting(columns, &rows, state.sorted(), usize::from(area.width));
    let aligned = |at: usize, text: String| match columns[at].kind {
        Kind::Figure(_) => Text::raw(text).right_aligned(),
        Kind::Text(_) | Kind::Rest => Text::raw(text),
    };
    let heading = shown.iter().map(|&(at, _)| {
        let mark = if state.sorted() == Some(at) { " v" } else { "" };
        aligned(at, format!("{}{mark}", columns[at].name))
    });
    let heading = TableRow::new(heading.collect::<Vec<_>>()).style(BOLD);
    let drawn = rows.iter().map(|row| {
        let cells = shown
            .iter()
            .filter_map(|&(at, width)| Some(aligned(at, cut(&row.cells.get(at)?.text, width))));
        TableRow::new(cells.collect::<Vec<_>>()).style(style(row))
    });
    let widths = shown.iter().map(|&(_, width)| Constraint::Length(width as u16));
    let table = Table::new(drawn.collect::<Vec<_>>(), widths)
        .column_spacing(columns::GAP as u16)
        .header(heading)
        .row_highlight_style(CHOSEN);
    let mut at = TableState::default().with_selected(Some(state.chosen.min(last)));
    frame.render_stateful_widget(table, area, &mut at);
}

fn style(row: &Row) -> Style {
    match row.tone {
        Tone::Plain => Style::new(),
        Tone::Root => BOLD,
        Tone::Warning => colored(Color::Yellow),
        Tone::Alarm => colored(Color::Red),
    }
}

/// With `…` where it does not fit.
fn cut(text: &str, room: usize) -> String {
    match text.chars().count() > room {
        true => text.chars().take(room.saturating_sub(1)).chain(['…']).collect(),
        false => text.to_owned(),
    }
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
    let border = Block::new().borders(Borders::ALL).style(colored(Color::Yellow));
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: true }).block(border), place);
}
