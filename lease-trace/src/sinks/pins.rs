//! What is pinned now: a table, raw columns, or one JSON object.

use std::io::Write;

use serde::Serialize;

use super::{
    WriteError,
    grid::{self, Unknown},
    json, text,
};
use crate::pinned::{Memory, Row};

/// How to lay out a table.
pub type Layout = grid::Layout<Column>;

/// All that is told.
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[derive(Debug, Serialize)]
pub struct Pins {
    #[serde(rename = "pins")]
    pub rows: Vec<Row>,
    /// Pins by the kernel's own count, of anything on this host.
    pub held: i64,
    /// Those of them whose owner was found.
    pub found: u64,
    /// Those whose owner was not: below zero, more were found than the kernel counts, since they came and
    /// went meanwhile.
    pub not_found: i64,
}

/// A column; the order is that of the list which `-o` shows for a wrong name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Column {
    Command,
    Pid,
    Fd,
    Object,
    Address,
    Size,
    Pins,
    Consumer,
    Leased,
    Dev,
    Inode,
    Path,
    Holders,
}

impl grid::Column for Column {
    const PATH: Self = Self::Path;
    const DISPENSABLE: &'static [Self] = &[Self::Address, Self::Leased, Self::Consumer];

    fn name(self) -> &'static str {
        match self {
            Self::Command => "COMMAND",
            Self::Pid => "PID",
            Self::Fd => "FD",
            Self::Object => "OBJECT",
            Self::Address => "ADDRESS",
            Self::Size => "SIZE",
            Self::Pins => "PINS",
            Self::Consumer => "CONSUMER",
            Self::Leased => "LEASED",
            Self::Dev => "DEV",
            Self::Inode => "INODE",
            Self::Path => "PATH",
            Self::Holders => "HOLDERS",
        }
    }

    fn is_figure(self) -> bool {
        matches!(
            self,
            Self::Pid | Self::Fd | Self::Address | Self::Size | Self::Pins | Self::Inode
        )
    }
}

impl Column {
    const ALL: [Self; 13] = [
        Self::Command,
        Self::Pid,
        Self::Fd,
        Self::Object,
        Self::Address,
        Self::Size,
        Self::Pins,
        Self::Consumer,
        Self::Leased,
        Self::Dev,
        Self::Inode,
        Self::Path,
        Self::Holders,
    ];

    /// What is shown without `-o`.
    const USUAL: [Self; 10] = [
        Self::Command,
        Self::Pid,
        Self::Fd,
        Self::Object,
        Self::Address,
        Self::Size,
        Self::Pins,
        Self::Consumer,
        Self::Leased,
        Self::Path,
    ];

    /// Reads `-o`, see [`grid::Column::choose`].
    pub fn choose(typed: &str) -> Result<Vec<Self>, Unknown> {
        <Self as grid::Column>::choose(typed, &Self::USUAL, &Self::ALL)
    }

    /// What stands in this column: `-` where it does not apply, `?` where it is not known.
    fn cell(self, row: &Row, is_raw: bool) -> String {
        let absent = || "-".to_owned();
        let unknown = || "?".to_owned();
        let owner = row.owner.as_ref();
        match self {
            Self::Command => owner.map_or_else(unknown, |owner| match owner.comm.as_str() {
                "" => unknown(),
                comm => text::escape(comm.as_bytes()),
            }),
            Self::Pid => owner.map_or_else(unknown, |owner| owner.pid.to_string()),
            Self::Fd => row.fd.map_or_else(absent, |fd| fd.to_string()),
            Self::Object => row.object.clone(),
            Self::Address => row.address.map_or_else(absent, |at| format!("0x{at:x}")),
            Self::Size => match row.size_bytes {
                None => unknown(),
                Some(bytes) if is_raw => bytes.to_string(),
                Some(bytes) => text::size(bytes),
            },
            Self::Pins if row.shared => format!("({})", row.pins),
            Self::Pins => text::pins(row.pins, row.doubtful),
            Self::Consumer => row.consumer.to_owned(),
            Self::Leased => row.leased.map_or_else(absent, str::to_owned),
            Self::Dev => row.file.dev.map_or_else(absent, |dev| dev.to_string()),
            Self::Inode => row.file.ino.map_or_else(absent, |ino| ino.to_string()),
            Self::Path => path(row),
            Self::Holders => {
                let each = row.holders.iter().map(|holder| {
                    let who = text::escape(holder.person.comm.as_bytes());
                    match holder.fd {
                        Some(fd) => format!("{},{who},{fd}", holder.person.pid),
                        None => format!("{},{who},mem", holder.person.pid),
                    }
                });
                each.collect::<Vec<_>>().join("\n")
            }
        }
    }
}

/// Of memory that is no file, what it is.
fn path(row: &Row) -> String {
    let (path, note) = text::path(row.file.path.as_ref());
    match row.memory {
        Memory::Anonymous => "anon".to_owned(),
        Memory::Detached => "no file any more".to_owned(),
        Memory::Shared => path,
        Memory::File => path + note,
    }
}

impl Pins {
    /// One JSON object, described by docs/ndjson.schema.json.
    pub fn json(&self, out: &mut impl Write) -> Result<(), WriteError> {
        json::page(self, out)?;
        Ok(out.flush()?)
    }

    /// Columns, `layout` as asked for.
    pub fn table(&self, layout: &Layout, out: &mut impl Write) -> Result<(), WriteError> {
        let cell = |column: Column, row: &Row| column.cell(row, layout.raw);
        layout.write(Column::USUAL.to_vec(), &self.rows, cell, out)
    }
}
