//! Rows as a table, or one column per line where a row is wider than the terminal.

use std::borrow::Cow;
use std::io::IsTerminal as _;

use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, Table, presets};
use ratatui::crossterm::terminal;
use ratatui::text::Line;

use crate::cli::args::Expanded;
use crate::cli::failure::Failure;
use crate::cli::out;
use crate::cli::visible::{visible, visible_line};
use crate::pool::Column;

/// Between two columns.
const GAP: usize = 2;

/// Rows that are held until all widths are known.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) columns: Vec<Column>,
    pub(super) rows: Vec<Vec<Option<String>>>,
}

impl Rows {
    pub(super) fn print(&mut self, expanded: Expanded) -> Result<(), Failure> {
        for column in &mut self.columns {
            column.name = visible_line(&column.name).into_owned();
        }
        for value in self.rows.iter_mut().flatten().flatten() {
            if let Cow::Owned(shown) = visible(value) {
                *value = shown;
            }
        }
        let width = width();
        let too_wide = || width.is_some_and(|width| self.width() > width);
        match expanded {
            Expanded::On => self.records(width),
            Expanded::Auto if too_wide() => self.records(width),
            Expanded::Auto | Expanded::Off => self.table(),
        }
    }

    /// How wide the table would be.
    fn width(&self) -> usize {
        let columns = self.columns.iter().enumerate().map(|(at, column)| {
            let values = self.rows.iter().filter_map(|row| row.get(at)?.as_deref());
            let widest = values.flat_map(str::lines).map(cells).max();
            widest.unwrap_or(0).max(cells(&column.name)).max(4)
        });
        columns.map(|width| width + GAP).sum::<usize>().saturating_sub(GAP)
    }

    fn table(&self) -> Result<(), Failure> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        if !out::has_colors() {
            table.force_no_tty();
        }
        let heading = self.columns.iter().map(|column| {
            Cell::new(&column.name).add_attribute(Attribute::Bold).set_alignment(alignment(column))
        });
        table.set_header(heading);
        for row in &self.rows {
            let cells = row.iter().zip(&self.columns);
            table
                .add_row(cells.map(|(value, column)| cell(value).set_alignment(alignment(column))));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, GAP as u16));
        }
        table.lines().try_for_each(|text| out::styled(text.trim_end()))
    }

    /// As psql's `\x`: a line per column, long values on lines of their own width.
    fn records(&self, width: Option<usize>) -> Result<(), Failure> {
        let names = self.columns.iter().map(|column| column.name.chars().count());
        let widest = names.max().unwrap_or(0);
        for (at, row) in self.rows.iter().enumerate() {
            let head = format!("-[ row {} ]", at + 1);
            let line = "-".repeat(width.unwrap_or(40).min(40).saturating_sub(head.chars().count()));
            out::line(format_args!("{head}{line}"))?;
            for (value, column) in row.iter().zip(&self.columns) {
                let room = width.map(|width| width.saturating_sub(widest + GAP).max(10));
                let lines = match value {
                    Some(text) => text.split('\n').flat_map(|it| wrapped(it, room)).collect(),
                    None => vec![out::dim("NULL")],
                };
                let mut name = column.name.as_str();
                for line in lines {
                    out::styled(format!("{name:widest$}{:GAP$}{line}", "").trim_end())?;
                    name = "";
                }
            }
        }
        Ok(())
    }
}

/// How many cells of a terminal a text takes.
fn cells(text: &str) -> usize {
    Line::raw(text).width()
}

fn wrapped(line: &str, room: Option<usize>) -> Vec<String> {
    let Some(room) = room.filter(|room| line.chars().count() > *room) else {
        return vec![line.to_owned()];
    };
    let chars: Vec<char> = line.chars().collect();
    chars.chunks(room).map(|part| part.iter().collect()).collect()
}

fn cell(value: &Option<String>) -> Cell {
    match value {
        Some(text) => Cell::new(text),
        None => Cell::new("NULL").add_attribute(Attribute::Dim),
    }
}

/// Numbers are compared by their last digits.
fn alignment(column: &Column) -> CellAlignment {
    match column.is_number() {
        true => CellAlignment::Right,
        false => CellAlignment::Left,
    }
}

/// The width to lay out for: COLUMNS where it is set, as in psql, else the terminal's.
fn width() -> Option<usize> {
    let said = std::env::var("COLUMNS").ok().and_then(|said| said.parse().ok());
    said.filter(|columns| *columns > 0).or_else(|| {
        let size = std::io::stdout().is_terminal().then(terminal::size)?;
        size.ok().map(|(columns, _)| usize::from(columns))
    })
}
