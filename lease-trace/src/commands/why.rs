//! `lease-trace why`: what keeps something pinned, whose it is, and what would free it, in a few sentences. Not more
//! than is known.

use std::{
    collections::HashMap,
    io::{self, BufWriter, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::Path,
};

use anyhow::Context as _;

use super::pins::{IN_CONTAINER, NO_FRAMES, left_file, not_found};
use crate::{
    cli::WhyFlags,
    enrich::{locks, process},
    exit::Exit,
    kernel::{limits, memory},
    pinned::{self, Memory, Row},
    place::Place,
    record::ProcessRef,
    sinks::{WriteError, text},
    tracer::survey::{self, Survey},
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
    let detached = pinned::sum(&rows, |memory| memory == Memory::Detached);
    rows.retain(|row| about.is_of(row));
    let what = text::escape(flags.what.as_os_str().as_bytes());
    let mut said = about.begin(&what, &rows);
    said.extend(objects(&rows, &about));
    said.extend(about.leases());
    said.extend(about.doubts(&survey, &rows, detached));
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
            && limits::sees_all_processes()
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

    /// What another object has, too, is counted once; of one process it is its own all the same.
    const fn counts(&self, row: &Row) -> bool {
        !row.shared || matches!(self, Self::Process(_))
    }

    /// How much is pinned.
    fn begin(&self, what: &str, rows: &[Row]) -> Vec<String> {
        // What several of them have is counted with the first.
        let mut first = HashMap::new();
        let counted = rows.iter().filter(|row| {
            let here = (&row.object, row.fd, &row.holders);
            self.counts(row) && *first.entry(row.id).or_insert(here) == here
        });
        let pins: u64 = counted.map(|row| row.pins).sum();
        let pins = text::counted(pins, "pin");
        vec![match (self, rows.is_empty()) {
            (Self::Process(_), true) => {
                format!("Nothing is found that process {what} has pinned.")
            }
            (Self::Process(_), false) => format!("Process {what} has {pins}."),
            (_, true) => format!("Nothing is found that has {what} pinned."),
            (_, false) => format!("{pins} found on {what}."),
        }]
    }

    /// What is not known.
    fn doubts(&self, survey: &Survey, rows: &[Row], detached: u64) -> Vec<String> {
        let mut said = Vec::new();
        if rows.iter().any(|row| row.doubtful) {
            said.push("Something changed each time it was looked at: ask again.".to_owned());
        }
        if let Self::Files(_) = self
            && detached > 0
        {
            said.push(format!("{}.", left_file(detached)));
        }
        if let Self::Block(_) = self {
            if survey.has_containers() {
                said.push(sentence(NO_FRAMES));
            }
        } else if let more @ 1.. = not_found(survey) {
            said.push(format!(
                "The owner of {} on this host is not found; some of them may be here.",
                text::counted(more as u64, "pin")
            ));
        }
        let unreadable = survey.unreadable.iter();
        said.extend(unreadable.map(|reason| format!("It cannot be read {reason}.")));
        if !limits::sees_all_processes() {
            said.push(sentence(IN_CONTAINER));
        }
        said
    }

    /// Of one file, who holds a lease on it.
    fn leases(&self) -> Vec<String> {
        let Self::Files(Place::File(dev, ino)) = self else {
            return Vec::new();
        };
        let listed = locks::leases().unwrap_or_default().into_iter();
        let here = listed.filter(|lease| (lease.dev, lease.ino) == (*dev, *ino));
        here.map(|lease| {
            let who = ProcessRef {
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
                text::process(&who)
            )
        })
        .collect()
    }
}

/// The largest objects, a sentence or two each.
fn objects(rows: &[Row], about: &About) -> Vec<String> {
    let mut largest: Vec<&Row> = rows.iter().filter(|row| about.counts(row)).collect();
    largest.sort_by_key(|row| std::cmp::Reverse(row.pins));
    let more = largest.len().saturating_sub(NAMED);
    let mut said: Vec<_> = largest
        .iter()
        .take(NAMED)
        .map(|row| of_object(row))
        .collect();
    if more > 0 {
        said.push(format!("And {more} more: `lease-trace pins` lists them."));
    }
    said
}

/// Who has an object, and what would free it.
fn of_object(row: &Row) -> String {
    let owner = row.owner.as_ref();
    let who = owner.map_or_else(|| "a process that is gone".to_owned(), text::process);
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
    let mut others = row.holders.clone();
    others.retain(|holder| owner.is_none_or(|owner| owner.pid != holder.process.pid));
    others.sort_by_key(|holder| holder.process.pid);
    let others = if others.is_empty() {
        String::new()
    } else {
        format!(" It is kept by {}, too.", text::people(&others))
    };
    let joint = if row.shared || row.is_joint {
        " Another object has the same pins: they stay until both drop them."
    } else {
        ""
    };
    format!(
        "{who} has {} {of}, by {}: {}{by}. They go when {}.{others}{joint}",
        row.pins,
        row.consumer,
        row.object,
        freed_by(row.consumer),
    )
}

/// With a capital, and an end.
fn sentence(text: &str) -> String {
    let (first, rest) = text.split_at(1);
    format!("{}{rest}.", first.to_uppercase())
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
    use crate::{
        fixtures,
        record::{Dev, Holder},
    };

    fn row() -> Row {
        let process = fixtures::process(235, "ring-client");
        Row {
            owner: Some(process.clone()),
            fd: Some(3),
            object: "ring buffer 0".to_owned(),
            address: Some(0x7f3c_0000_0000),
            size_bytes: Some(1 << 20),
            pins: 256,
            shared: false,
            is_joint: false,
            id: 1,
            doubtful: false,
            consumer: "io_uring",
            leased: Some("write"),
            memory: Memory::File,
            file: fixtures::file("/srv/data/index.db"),
            holders: vec![Holder {
                process,
                fd: Some(3),
            }],
        }
    }

    const MOUNT: About = About::Files(Place::On(Dev(1)));

    fn said(about: &About, what: &str, rows: &[Row]) -> String {
        let mut said = about.begin(what, rows);
        said.extend(objects(rows, about));
        said.join("\n")
    }

    #[test]
    fn it_says_what_is_known() {
        insta::assert_snapshot!(said(&MOUNT, "/srv", &[row()]), @r"
        256 pins found on /srv.
        ring-client[235] has 256 in /srv/data/index.db, by io_uring: ring buffer 0, descriptor 3. They go when the buffer is unregistered, or the ring is closed wherever it is open or mapped.
        ");
    }

    #[test]
    fn it_says_who_else_keeps_it() {
        let mut inherited = row();
        inherited.fd = None;
        inherited.is_joint = true;
        inherited.holders[0] = Holder {
            process: fixtures::process(236, "child"),
            fd: Some(3),
        };
        insta::assert_snapshot!(said(&MOUNT, "/mnt", &[inherited]), @r"
        256 pins found on /mnt.
        ring-client[235] has 256 in /srv/data/index.db, by io_uring: ring buffer 0. They go when the buffer is unregistered, or the ring is closed wherever it is open or mapped. It is kept by child[236], too. Another object has the same pins: they stay until both drop them.
        ");
    }

    #[test]
    fn what_is_shared_is_a_processs_own_and_counted_once_elsewhere() {
        let mut shared = row();
        shared.shared = true;
        assert!(said(&About::Process(235), "235", &[shared.clone()]).contains("has 256 pins"));
        assert!(said(&MOUNT, "/srv", &[row(), shared]).contains("256 pins found on"));
    }

    #[test]
    fn nothing_is_said_to_be_nothing() {
        let nothing = |about: About, what: &str| said(&about, what, &[]);
        insta::assert_snapshot!(nothing(About::Process(4711), "4711"), @"Nothing is found that process 4711 has pinned.");
        insta::assert_snapshot!(nothing(About::Block(3), "memory3"), @"Nothing is found that has memory3 pinned.");
    }
}
