//! Rows in columns, all at once: without lines, fit to a terminal, or raw for scripts.

use std::io::Write;

use comfy_table::{Cell, CellAlignment, Table, presets};

use super::{WriteError, terminal::Look, text};

/// What a path should have before columns go.
const GOOD_PATH: usize = 24;
/// What it is never squeezed below.
const LEAST_PATH: usize = 12;

/// The columns of some kind of rows.
pub trait Column: Copy + PartialEq + 'static {
    /// The one that is shortened where there is little room.
    const PATH: Self;
    /// On a terminal too narrow for all the usual columns, these go first, in this order.
    const DISPENSABLE: &'static [Self];

    fn name(self) -> &'static str;

    /// Figures stand to the right.
    fn is_figure(self) -> bool;

    /// Reads `-o`: names with commas between them; with a `+` in front, beside the usual ones. Twice the same
    /// is once.
    fn choose(typed: &str, usual: &[Self], all: &[Self]) -> Result<Vec<Self>, Unknown> {
        let (mut columns, names) = match typed.strip_prefix('+') {
            Some(more) => (usual.to_vec(), more),
            None => (Vec::new(), typed),
        };
        for wanted in names.split(',').map(str::trim) {
            let mut known = all.iter();
            let column = known.find(|column| column.name().eq_ignore_ascii_case(wanted));
            let column = column.ok_or_else(|| {
                let names: Vec<_> = all.iter().map(|column| column.name()).collect();
                Unknown {
                    wrong: wanted.to_owned(),
                    names: names.join(", "),
                }
            })?;
            if !columns.contains(column) {
                columns.push(*column);
            }
        }
        Ok(columns)
    }
}

/// A name that no column has.
#[derive(Debug, thiserror::Error)]
#[error("-o: there is no column {wrong:?}; there are {names}")]
pub struct Unknown {
    wrong: String,
    names: String,
}

/// How to lay out a table.
#[derive(Debug)]
pub struct Layout<C> {
    /// The columns asked for; `None`: the usual ones.
    pub columns: Option<Vec<C>>,
    pub headings: bool,
    pub raw: bool,
    pub look: Look,
}

impl<C: Column> Layout<C> {
    /// Writes the rows, whose cells are what `cell` says of them.
    pub fn write<T>(
        &self,
        usual: Vec<C>,
        rows: &[T],
        cell: impl Fn(C, &T) -> String,
        out: &mut impl Write,
    ) -> Result<(), WriteError> {
        let columns = self.columns.clone().unwrap_or(usual);
        let cells = |row| columns.iter().map(|column| cell(*column, row)).collect();
        let mut rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
        if self.headings {
            let names = columns.iter().map(|column| column.name().to_owned());
            rows.insert(0, names.collect());
        }
        if self.raw {
            for row in rows {
                let words: Vec<_> = row.iter().map(|cell| text::raw_word(cell)).collect();
                writeln!(out, "{}", words.join(" "))?;
            }
            return Ok(out.flush()?);
        }
        let columns = self.fit(columns, &mut rows);
        if !rows.is_empty() {
            writeln!(out, "{}", align(&columns, rows))?;
        }
        Ok(out.flush()?)
    }

    /// Makes the rows fit a terminal: drops what is dispensable (if nobody asked for it by name),
    /// then shortens paths.
    fn fit(&self, mut columns: Vec<C>, rows: &mut [Vec<String>]) -> Vec<C> {
        let Some(limit) = self.look.width else {
            return columns;
        };
        let room = |columns: &[C], rows: &[Vec<String>]| {
            let others = columns
                .iter()
                .enumerate()
                .filter(|(_, column)| **column != C::PATH)
                .map(|(at, _)| widest(rows, at) + 1);
            limit.saturating_sub(others.sum())
        };
        if self.columns.is_none() {
            for dispensable in C::DISPENSABLE {
                let at = columns.iter().position(|column| column == dispensable);
                if let Some(at) = at
                    && room(&columns, rows) < GOOD_PATH
                {
                    columns.remove(at);
                    for row in &mut *rows {
                        row.remove(at);
                    }
                }
            }
        }
        let room = room(&columns, rows).max(LEAST_PATH);
        if let Some(at) = columns.iter().position(|column| *column == C::PATH) {
            for cell in rows.iter_mut().filter_map(|row| row.get_mut(at)) {
                *cell = text::shorten_path(cell, room);
            }
        }
        columns
    }
}

fn widest(rows: &[Vec<String>], at: usize) -> usize {
    let cells = rows.iter().filter_map(|row| row.get(at));
    cells
        .flat_map(|cell| cell.lines().map(text::width))
        .max()
        .unwrap_or(0)
}

fn align<C: Column>(columns: &[C], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    for row in rows {
        table.add_row(row.into_iter().map(Cell::new));
    }
    for (column, name) in table.column_iter_mut().zip(columns) {
        column.set_padding((0, 1));
        if name.is_figure() {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}
