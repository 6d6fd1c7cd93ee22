//! `lease-trace why`: what keeps something pinned, whose it is, and what would free it, in a few sentences. Not more
//! than is known.

use std::{
    collections::BTreeSet,
    io::{self, BufWriter, Write as _},
    path::Path,
};

use anyhow::Context as _;

use super::pins::not_found;
use crate::{
    cli::WhyFlags,
    enrich::{locks, process},
    exit::Exit,
    kernel::memory,
    pinned::{self, Memory, Row},
    place::Place,
    record::Person,
    sinks::{WriteError, text},
    tracer::survey,
};

const WIDTH: usize = 80;
/// Of more objects than these it is said how many there are.
const NAMED: usize = 3;

/// What is asked about.
enum About {
    Files(Place),
    Block(u64),
    Process(u32),
}

pub fn run(flags: &WhyFlags) -> anyhow::Result<Exit> {
    let about = About::of(&flags.what)?;
    let frames = match about {
        About::Block(block) => Some(memory::frames_of(block).with_context(|| {
            format!("memory{block}: see /sys/devices/system/memory for the blocks that there are")
        })?),
        _ => None,
    };
    let survey = survey::take(frames.as_ref())?;
    let mut rows = pinned::rows(&survey);
    rows.retain(|row| about.is_of(row));
    let unknown = match about {
        About::Block(_) => 0,
        _ => not_found(&survey).max(0) as u64,
    };
    let mut said = sentences(&flags.what.display().to_string(), &rows, unknown);
    said.extend(about.leases());
    let mut out = BufWriter::new(io::stdout().lock());
    for sentence in said {
        writeln!(out, "{}", text::wrap(&sentence, WIDTH, 2)).map_err(WriteError)?;
    }
    out.flush().map_err(WriteError)?;
    Ok(Exit::Done)
}

impl About {
    /// A path that exists is one, whatever it is called.
    fn of(what: &Path) -> anyhow::Result<Self> {
        let typed = what.to_str().filter(|_| !what.exists());
        if let Some(pid) = typed.and_then(|typed| typed.parse().ok())
            && process::thread_group(pid) == Some(pid)
        {
            return Ok(Self::Process(pid));
        }
        if let Some(typed) = typed
            && typed.starts_with("memory")
            && let Ok(block) = memory::block(typed)
        {
            return Ok(Self::Block(block));
        }
        Place::of(what)
            .map(Self::Files)
            .context("it is no pid of a process, and no block of memory such as memory37")
    }

    fn is_of(&self, row: &Row) -> bool {
        match self {
            Self::Files(place) => place.has(&row.file),
            Self::Block(_) => true,
            Self::Process(pid) => row.owner.as_ref().is_some_and(|owner| owner.pid == *pid),
        }
    }

    /// Of one file, who holds a lease on it.
    fn leases(&self) -> Vec<String> {
        let Self::Files(Place::File(dev, ino)) = self else {
            return Vec::new();
        };
        let listed = locks::leases().unwrap_or_default().into_iter();
        let here = listed.filter(|lease| (lease.dev, lease.ino) == (*dev, *ino));
        here.map(|lease| {
            let who = Person {
                pid: lease.pid,
                comm: process::comm(lease.pid).unwrap_or_default(),
            };
            let kind = if lease.delegation {
                "delegation"
            } else {
                "lease"
            };
            let mode = if lease.write { "write" } else { "read" };
            let waits = if lease.breaking {
                ", and somebody waits for it"
            } else {
                ""
            };
            format!(
                "A {mode} {kind} is on it, held by {}{waits}.",
                text::person(&who)
            )
        })
        .collect()
    }
}

/// What is pinned there.
fn sentences(what: &str, rows: &[Row], unknown: u64) -> Vec<String> {
    let mut said = Vec::new();
    let pins: u64 = rows
        .iter()
        .filter(|row| !row.shared)
        .map(|row| row.pins)
        .sum();
    if rows.is_empty() {
        said.push(format!("Nothing is found that has {what} pinned."));
    } else {
        said.push(format!("{what} has {}.", text::counted(pins, "pin")));
    }
    let mut largest: Vec<&Row> = rows.iter().filter(|row| !row.shared).collect();
    largest.sort_by_key(|row| std::cmp::Reverse(row.pins));
    for row in largest.iter().take(NAMED) {
        said.push(of_object(row));
    }
    if largest.len() > NAMED {
        let more = largest.len() - NAMED;
        said.push(format!("And {more} more: `lease-trace pins` lists them."));
    }
    if unknown > 0 {
        said.push(format!(
            "The owner of {} on this host is not found; some of them may be here.",
            text::counted(unknown, "pin")
        ));
    }
    said
}

/// Who has an object, and what would free it.
fn of_object(row: &Row) -> String {
    let owner = row.owner.as_ref();
    let who = owner.map_or_else(|| "a process that is gone".to_owned(), text::person);
    let by = match row.fd {
        Some(fd) => format!(", descriptor {fd}"),
        None => String::new(),
    };
    let of = match (row.memory, &row.file.path) {
        (Memory::Anonymous, _) => "in anonymous memory".to_owned(),
        (Memory::Detached, _) => "on pages that have left their file".to_owned(),
        (_, Some(path)) => format!("in {}", text::escape(&path.bytes)),
        (_, None) => "in a file of unknown name".to_owned(),
    };
    let others: BTreeSet<_> = row
        .holders
        .iter()
        .map(|holder| &holder.person)
        .filter(|person| owner.is_none_or(|owner| owner.pid != person.pid))
        .map(text::person)
        .collect();
    let others = if others.is_empty() {
        String::new()
    } else {
        let names: Vec<_> = others.into_iter().take(NAMED).collect();
        format!(" It is kept by {}, too.", names.join(", "))
    };
    format!(
        "{who} has {} {of}, by {}: {}{by}. They go when {}.{others}",
        row.pins,
        row.consumer,
        row.object,
        freed_by(row.consumer),
    )
}

/// What the owner would have to do.
fn freed_by(consumer: &str) -> &'static str {
    match consumer {
        "io_uring" => {
            "the buffer is unregistered, or the ring is closed wherever it is open or mapped"
        }
        "xdp" => "the socket is closed wherever it is open",
        "udmabuf" => {
            "the dma-buf is closed and unmapped everywhere, and no device uses it any more"
        }
        "vfio" => {
            "the range is unmapped from the container, or the container is closed wherever it is open"
        }
        _ => "the region is deregistered, or the device file is closed wherever it is open",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixtures, record::Holder};

    fn row() -> Row {
        let person = fixtures::person(235, "ring-client");
        Row {
            owner: Some(person.clone()),
            fd: Some(3),
            object: "ring buffer 0".to_owned(),
            address: Some(0x7f3c_0000_0000),
            size_bytes: Some(1 << 20),
            pins: 256,
            shared: false,
            doubtful: false,
            consumer: "io_uring",
            leased: Some("write"),
            memory: Memory::File,
            file: fixtures::file("/srv/data/index.db"),
            holders: vec![Holder {
                person,
                fd: Some(3),
            }],
        }
    }

    #[test]
    fn it_says_what_is_known() {
        insta::assert_snapshot!(sentences("/srv/data/index.db", &[row()], 0).join("\n"), @r"
        /srv/data/index.db has 256 pins.
        ring-client[235] has 256 in /srv/data/index.db, by io_uring: ring buffer 0, descriptor 3. They go when the buffer is unregistered, or the ring is closed wherever it is open or mapped.
        ");
    }

    #[test]
    fn it_says_who_else_keeps_it_and_what_is_not_found() {
        let mut inherited = row();
        inherited.fd = None;
        inherited.holders[0] = Holder {
            person: fixtures::person(236, "child"),
            fd: Some(3),
        };
        insta::assert_snapshot!(sentences("/mnt", &[inherited], 7).join("\n"), @r"
        /mnt has 256 pins.
        ring-client[235] has 256 in /srv/data/index.db, by io_uring: ring buffer 0. They go when the buffer is unregistered, or the ring is closed wherever it is open or mapped. It is kept by child[236], too.
        The owner of 7 pins on this host is not found; some of them may be here.
        ");
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        insta::assert_snapshot!(sentences("4711", &[], 0).join("\n"), @"Nothing is found that has 4711 pinned.");
    }
}
