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
    /// Absent: page frames were asked for, of which the kernel does not count the pins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_found: Option<i64>,
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
            Self::Pins if is_raw && row.shared => "0".to_owned(),
            Self::Pins if is_raw => row.pins.to_string(),
            Self::Pins if row.shared => format!("({})", row.pins),
            Self::Pins => text::pins(row.pins, row.doubtful),
            Self::Consumer => row.consumer.to_owned(),
            Self::Leased => row.leased.map_or_else(absent, str::to_owned),
            Self::Dev => row.file.dev.map_or_else(absent, |dev| dev.to_string()),
            Self::Inode => row.file.ino.map_or_else(absent, |ino| ino.to_string()),
            Self::Path => path(row),
            Self::Holders => {
                let each = row.holders.iter().map(|holder| {
                    let who = text::escape(holder.process.comm.as_bytes());
                    match holder.fd {
                        Some(fd) => format!("{},{who},{fd}", holder.process.pid),
                        None => format!("{},{who},mem", holder.process.pid),
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

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::{fixtures, record::Holder, schema, sinks::terminal::Look};

    fn row(pid: u32, comm: &str, object: &str, consumer: &'static str, path: &str) -> Row {
        let process = fixtures::process(pid, comm);
        Row {
            owner: Some(process.clone()),
            fd: Some(3),
            object: object.to_owned(),
            address: Some(0x7f8e_55cd_9000),
            size_bytes: Some(1 << 20),
            pins: 256,
            shared: false,
            is_joint: false,
            id: 1,
            doubtful: false,
            consumer,
            leased: (comm == "db").then_some("write"),
            memory: Memory::File,
            file: fixtures::file(path),
            holders: vec![Holder {
                process,
                fd: Some(3),
            }],
        }
    }

    fn pins() -> Pins {
        let ring = "ring buffer 0";
        let mut shared = row(135, "clone", ring, "io_uring", "/srv/data/segment.db");
        shared.shared = true;
        let mut anonymous = row(140, "ib_write_bw", "rxe0 mr 7", "rdma_rxe", "/");
        (anonymous.memory, anonymous.doubtful) = (Memory::Anonymous, true);
        (anonymous.owner, anonymous.fd) = (None, None);
        let range = "container iova 0x100000";
        Pins {
            rows: vec![
                row(133, "db", ring, "io_uring", "/srv/data/segment.db"),
                shared,
                row(137, "qemu", range, "vfio", "/srv/data/guest.img"),
                anonymous,
            ],
            held: 768,
            found: 768,
            not_found: Some(0),
        }
    }

    fn shown(width: Option<usize>, raw: bool) -> String {
        let layout = Layout {
            columns: None,
            headings: true,
            raw,
            look: Look {
                width,
                colour: false,
            },
        };
        let mut out = Vec::new();
        pins().table(&layout, &mut out).expect("a Vec takes it");
        String::from_utf8(out).expect("escaped")
    }

    #[test]
    fn all_columns_go_to_a_pipe() {
        assert_snapshot!(shown(None, false), @r"
        COMMAND PID FD OBJECT                         ADDRESS SIZE  PINS CONSUMER LEASED PATH
        db      133  3 ring buffer 0           0x7f8e55cd9000   1M   256 io_uring write  /srv/data/segment.db
        clone   135  3 ring buffer 0           0x7f8e55cd9000   1M (256) io_uring -      /srv/data/segment.db
        qemu    137  3 container iova 0x100000 0x7f8e55cd9000   1M   256 vfio     -      /srv/data/guest.img
        ?         ?  - rxe0 mr 7               0x7f8e55cd9000   1M  ~256 rdma_rxe -      anon
        ");
    }

    #[test]
    fn a_narrow_terminal_gets_what_matters() {
        let shown = shown(Some(80), false);
        assert!(shown.lines().all(|line| text::width(line) <= 80), "{shown}");
        assert_snapshot!(shown, @r"
        COMMAND PID FD OBJECT                  SIZE  PINS PATH
        db      133  3 ring buffer 0             1M   256 /srv/data/segment.db
        clone   135  3 ring buffer 0             1M (256) /srv/data/segment.db
        qemu    137  3 container iova 0x100000   1M   256 /srv/data/guest.img
        ?         ?  - rxe0 mr 7                 1M  ~256 anon
        ");
    }

    #[test]
    fn raw_columns_are_words_and_bytes() {
        assert_snapshot!(shown(None, true), @r"
        COMMAND PID FD OBJECT ADDRESS SIZE PINS CONSUMER LEASED PATH
        db 133 3 ring\x20buffer\x200 0x7f8e55cd9000 1048576 256 io_uring write /srv/data/segment.db
        clone 135 3 ring\x20buffer\x200 0x7f8e55cd9000 1048576 0 io_uring - /srv/data/segment.db
        qemu 137 3 container\x20iova\x200x100000 0x7f8e55cd9000 1048576 256 vfio - /srv/data/guest.img
        ? ? - rxe0\x20mr\x207 0x7f8e55cd9000 1048576 256 rdma_rxe - anon
        ");
    }

    #[test]
    fn json_keeps_to_the_schema() {
        let mut out = Vec::new();
        pins().json(&mut out).expect("a Vec takes it");
        let text = String::from_utf8(out).expect("JSON is UTF-8");
        schema::assert_valid(&schema::validator("pins"), &text);
    }
}
