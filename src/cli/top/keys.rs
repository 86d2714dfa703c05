//! The keys of `wharf top`.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::Step;
use super::rows::View;
use super::state::{Overlay, State};

/// Keys and what they do, for the help on the screen.
pub(super) const KEYS: [(&str, &str); 12] = [
    ("1-4", "show statements, locks, the slowest statements, databases"),
    ("up/down", "select a row"),
    ("Enter", "show the whole statement of the row"),
    ("/", "show only rows that contain a text; Esc ends that"),
    ("s", "sort the rows by the next column"),
    ("c", "cancel the statement of the row"),
    ("t", "end the connection of the row"),
    ("p", "pause, and go on"),
    ("r", "refresh now"),
    ("Tab", "show the next server"),
    ("?", "show or hide this help"),
    ("q", "quit"),
];

pub(super) fn press(state: &mut State, key: KeyEvent) -> Step {
    if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
        return Step::Quit;
    }
    if state.is_typing {
        typed(state, key.code);
        return Step::Draw;
    }
    if let Some(question) = state.question.take() {
        if let KeyCode::Char('y' | 'Y') = key.code {
            return Step::Signal(question);
        }
        state.said = Some("declined; nothing was changed".to_owned());
        return Step::Draw;
    }
    if let Some(overlay) = state.overlay.take() {
        state.overlay = scrolled(overlay, key.code);
        return Step::Draw;
    }
    state.said = None;
    match key.code {
        KeyCode::Esc if !state.filter.is_empty() => state.filter.clear(),
        KeyCode::Char('q') | KeyCode::Esc => return Step::Quit,
        KeyCode::Char('?') => state.overlay = Some(Overlay::Keys),
        KeyCode::Char('/') => state.is_typing = true,
        KeyCode::Enter => state.open(),
        KeyCode::Char('s') => state.sort_next(),
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
            state.next_server();
            return Step::LookNow;
        }
        KeyCode::Up | KeyCode::Char('k') => state.chosen = state.chosen.saturating_sub(1),
        KeyCode::Down | KeyCode::Char('j') => {
            state.chosen = (state.chosen + 1).min(state.count().saturating_sub(1));
        }
        _ => {}
    }
    Step::Draw
}

fn typed(state: &mut State, key: KeyCode) {
    match key {
        KeyCode::Enter => state.is_typing = false,
        KeyCode::Esc => {
            state.is_typing = false;
            state.filter.clear();
        }
        KeyCode::Backspace => {
            state.filter.pop();
        }
        KeyCode::Char(c) => state.filter.push(c),
        _ => {}
    }
    state.chosen = 0;
}

/// Scrolls an overlay, or closes it.
fn scrolled(overlay: Overlay, key: KeyCode) -> Option<Overlay> {
    match (overlay, key) {
        (Overlay::Statement(text, line), KeyCode::Down | KeyCode::Char('j')) => {
            Some(Overlay::Statement(text, line.saturating_add(1)))
        }
        (Overlay::Statement(text, line), KeyCode::Up | KeyCode::Char('k')) => {
            Some(Overlay::Statement(text, line.saturating_sub(1)))
        }
        _ => None,
    }
}
