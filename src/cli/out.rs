//! What is printed: the one place that writes to standard output and standard error. Text may come
//! from a database, so it is escaped for the terminal here; JSON, CSV and files are printed as they are.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use comfy_table::{Attribute, Cell, ContentArrangement, Table, presets};
use serde_json::Value;

use super::failure::Failure;
use super::visible::visible;

/// Prints a line. If nobody reads standard output any more (`| head`), the command goes on, and its exit code stays.
pub(super) fn line(text: impl Display) -> Result<(), Failure> {
    styled(visible(&text.to_string()))
}

/// Prints a line that has styles, of parts that are visible.
pub(super) fn styled(line: impl Display) -> Result<(), Failure> {
    exact(format!("{line}\n").as_bytes())
}

/// Prints bytes as they are.
pub(super) fn exact(bytes: &[u8]) -> Result<(), Failure> {
    match stream(bytes) {
        Err(Failure::Code(0)) => Ok(()),
        outcome => outcome,
    }
}

/// Prints output that is itself the command's work, such as a followed log. If nobody reads it any more, the command
/// ends with exit code 0.
pub(super) fn stream(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    written(out.write_all(bytes).and_then(|()| out.flush()))
}

/// Turns a closed pipe into an end with exit code 0.
pub(super) fn written(outcome: io::Result<()>) -> Result<(), Failure> {
    match outcome {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::Code(0)),
        outcome => Ok(outcome?),
    }
}

pub(super) fn json(value: &Value) -> Result<(), Failure> {
    styled(format_args!("{value:#}"))
}

/// A remark on standard error.
pub(super) fn note(text: impl Display) {
    exact_note(visible(&text.to_string()));
}

/// The same, of JSON.
pub(super) fn exact_note(text: impl Display) {
    // Where nobody reads remarks there is nobody to be told.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

pub(super) fn error(text: &str) {
    let word = painted("error:", "1;31", io::stderr().is_terminal());
    exact_note(format_args!("{word} {}", visible(text)));
}

/// A cell of a table.
pub(super) fn cell(text: impl Display) -> Cell {
    Cell::new(visible(&text.to_string()))
}

/// Whether the user wants colors.
pub(super) fn has_colors() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|said| said.is_empty())
}

/// A word on standard output that is no value.
pub(super) fn dim(text: &str) -> String {
    painted(text, "2", io::stdout().is_terminal())
}

/// Coloured if it goes to a terminal whose user has not said NO_COLOR.
fn painted(text: &str, colour: &str, terminal: bool) -> String {
    match terminal && has_colors() {
        true => format!("\u{1b}[{colour}m{text}\u{1b}[0m"),
        false => text.to_owned(),
    }
}

/// A word on standard output that says how something is.
pub(super) fn verdict(text: &str, colour: Colour) -> String {
    painted(text, colour.code(), io::stdout().is_terminal())
}

#[derive(Clone, Copy)]
pub(super) enum Colour {
    Green,
    Yellow,
    Red,
}

impl Colour {
    fn code(self) -> &'static str {
        match self {
            Colour::Green => "32",
            Colour::Yellow => "33",
            Colour::Red => "1;31",
        }
    }
}

/// Rows under a heading, as wide as the terminal allows; nothing is cut off.
pub(super) fn table(heading: &[&str], rows: Vec<Vec<Cell>>) -> Result<(), Failure> {
    let mut table = plain();
    table.set_header(heading.iter().map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
    table.add_rows(rows);
    print(&mut table)
}

/// Names with what they stand for.
pub(super) fn pairs(pairs: Vec<(&str, String)>) -> Result<(), Failure> {
    let mut table = plain();
    for (name, value) in pairs {
        table.add_row(vec![Cell::new(name).add_attribute(Attribute::Bold), cell(value)]);
    }
    print(&mut table)
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if !has_colors() {
        table.force_no_tty();
    }
    table
}

fn print(table: &mut Table) -> Result<(), Failure> {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    // The cells at the end of a row are padded.
    table.lines().try_for_each(|text| styled(text.trim_end()))
}

/// `3 h 4 min`: the two largest units.
pub(super) fn ago(span: Duration) -> String {
    let seconds = span.as_secs();
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut left = seconds;
    let mut shown = Vec::new();
    for (size, name) in units {
        if left >= size {
            shown.push(format!("{} {name}", left / size));
            left %= size;
        } else if !shown.is_empty() {
            break;
        }
    }
    match shown.is_empty() {
        true => format!("{} ms", span.as_millis()),
        false => shown[..shown.len().min(2)].join(" "),
    }
}

/// `1 table`, `2 tables`.
pub(super) fn count(many: usize, what: &str) -> String {
    match many {
        1 => format!("1 {what}"),
        many => format!("{many} {what}s"),
    }
}

/// `8.2 MB`.
pub(super) fn size(bytes: u64) -> String {
    indicatif::DecimalBytes(bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_by_its_two_largest_units() {
        for (seconds, shown) in [
            (0.25, "250 ms"),
            (1.9, "1 s"),
            (61.0, "1 min 1 s"),
            (7_200.0, "2 h"),
            (90_061.0, "1 d 1 h"),
        ] {
            assert_eq!(ago(Duration::from_secs_f64(seconds)), shown);
        }
    }
}
