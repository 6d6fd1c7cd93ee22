//! A row of the live table: its columns, and how cells are made to fit them.

use crate::sinks::{terminal::Look, text};

/// Below this a terminal gets [`NARROW`].
const WIDE_ENOUGH: usize = 110;
/// The path's column is never squeezed below this, so a very narrow terminal wraps.
const LEAST_PATH: usize = 12;
/// Where a note begins that has no room behind its path: under EVENT.
const NOTE_INDENT: usize = 9;

/// Widths of the columns before PATH.
struct Widths {
    event: usize,
    command: usize,
    pid: usize,
    cause: usize,
    age: usize,
    pins: usize,
    consumer: usize,
}

const NARROW: Widths = Widths {
    event: 10,
    command: 9,
    pid: 7,
    cause: 8,
    age: 5,
    pins: 5,
    consumer: 8,
};

const WIDE: Widths = Widths {
    event: 12,
    command: 15,
    pid: 7,
    cause: 13,
    age: 5,
    pins: 7,
    consumer: 12,
};

/// The cells of one row.
pub struct Cells<'a> {
    pub time: &'a str,
    pub event: &'a str,
    pub command: &'a str,
    pub pid: &'a str,
    pub cause: &'a str,
    pub age: &'a str,
    pub pins: &'a str,
    pub consumer: &'a str,
    pub path: &'a str,
    /// What follows the path and is not shortened with it.
    pub note: &'a str,
}

pub const HEADER: Cells<'static> = Cells {
    time: "TIME",
    event: "EVENT",
    command: "COMMAND",
    pid: "PID",
    cause: "CAUSE",
    age: "AGE",
    pins: "PINS",
    consumer: "CONSUMER",
    path: "PATH",
    note: "",
};

/// The row as it is written, without the end of the line.
pub fn line(look: Look, cells: &Cells<'_>) -> String {
    let widths = match look.width {
        Some(width) if width < WIDE_ENOUGH => &NARROW,
        _ => &WIDE,
    };
    let Widths {
        event,
        command,
        pid,
        cause,
        age,
        pins,
        consumer,
    } = *widths;
    // Words are shortened to keep a terminal's columns; figures push the rest aside.
    let word = |cell: &str, width| match look.width {
        Some(_) => left(&text::shorten_end(cell, width), width),
        None => left(cell, width),
    };
    let mut line = [
        left(cells.time, 8),
        word(cells.event, event),
        word(cells.command, command),
        right(cells.pid, pid),
        word(cells.cause, cause),
        right(cells.age, age),
        right(cells.pins, pins),
        word(cells.consumer, consumer),
    ]
    .join(" ");
    line.push(' ');
    let path = match look.width {
        Some(width) => {
            let room = width.saturating_sub(text::width(&line)).max(LEAST_PATH);
            let note = text::width(cells.note);
            if text::width(cells.path).min(LEAST_PATH) + note <= room {
                text::shorten_path(cells.path, room - note) + cells.note
            } else {
                // It says what matters, so it gets a line of its own rather than being cut.
                let path = text::shorten_path(cells.path, room);
                format!("{path}\n{:NOTE_INDENT$}{}", "", cells.note.trim_start())
            }
        }
        None => format!("{}{}", cells.path, cells.note),
    };
    line + &path
}

fn left(cell: &str, width: usize) -> String {
    let blanks = width.saturating_sub(text::width(cell));
    format!("{cell}{:blanks$}", "")
}

fn right(cell: &str, width: usize) -> String {
    let blanks = width.saturating_sub(text::width(cell));
    format!("{:blanks$}{cell}", "")
}
