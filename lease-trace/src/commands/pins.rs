//! `lease-trace pins`: what is pinned now and by whom, without having watched.

use std::{
    io::{self, BufWriter, Write as _},
    ops::Range,
};

use anyhow::{Context as _, bail};

use super::say;
use crate::{
    cli::PinsFlags,
    enrich::cgroup::Cgroups,
    exit::Exit,
    filter::{Asked, Filter},
    kernel::{limits, memory},
    pinned::{self, Memory, Row},
    place::Place,
    sinks::{
        WriteError,
        pins::{Column, Layout, Pins},
        terminal::Look,
        text,
    },
    tracer::survey::{self, Survey},
};

pub fn run(flags: &PinsFlags) -> anyhow::Result<Exit> {
    let layout = layout(flags)?;
    let wanted = Wanted::of(flags)?;
    let frames = frames(flags)?;
    let survey = survey::take(frames.as_ref())?;
    let mut rows = pinned::rows(&survey);
    let detached = pinned::sum(&rows, |memory| memory == Memory::Detached);
    rows.retain(|row| wanted.admits(row));
    if !flags.paths.is_empty() && detached > 0 {
        say(&left_file(detached));
    }
    // Who asks for frames asks for whatever is there.
    let is_whole = flags.all_memory || frames.is_some();
    let memory = if is_whole || flags.check {
        0
    } else {
        pinned::sum(&rows, |memory| memory != Memory::File)
    };
    rows.retain(|row| is_whole || row.memory == Memory::File);
    let pins = Pins {
        rows,
        held: survey.held[1],
        found: survey.found(),
        not_found: frames.is_none().then(|| not_found(&survey)),
    };
    explain(&survey, &pins, memory);
    if frames.is_some() && survey.has_containers() {
        say(NO_FRAMES);
    }
    let mut out = BufWriter::new(io::stdout().lock());
    if flags.check {
        writeln!(out, "{}", verdict(&pins)).map_err(WriteError)?;
        out.flush().map_err(WriteError)?;
    } else if flags.json {
        pins.json(&mut out)?;
    } else {
        pins.table(&layout, &mut out)?;
    }
    Ok(if flags.check && pins.not_found != Some(0) {
        Exit::Wrong
    } else {
        Exit::Done
    })
}

/// The page frames that are asked for, if not all.
fn frames(flags: &PinsFlags) -> anyhow::Result<Option<Range<u64>>> {
    if let Some(frame) = flags.pfn {
        let end = frame.checked_add(1);
        let end = end.with_context(|| format!("--pfn {frame}: there is no such page frame"))?;
        return Ok(Some(frame..end));
    }
    let Some(block) = flags.memory_block else {
        return Ok(None);
    };
    let frames = memory::frames_of(block).with_context(|| {
        format!("--memory-block {block}: see /sys/devices/system/memory for those that there are")
    })?;
    Ok(Some(frames))
}

/// Pins that nobody was found for. What came or went meanwhile makes it uncertain: then the least.
pub fn not_found(survey: &Survey) -> i64 {
    let found = survey.found() as i64;
    let [first, last] = survey.held.map(|held| held - found);
    if first.signum() != last.signum() {
        return 0;
    }
    if first.abs() < last.abs() {
        first
    } else {
        last
    }
}

fn layout(flags: &PinsFlags) -> anyhow::Result<Layout> {
    Ok(Layout {
        columns: flags.columns.as_deref().map(Column::choose).transpose()?,
        headings: !flags.noheadings,
        raw: flags.raw,
        look: if flags.notruncate {
            Look::PLAIN
        } else {
            Look::of_stdout()
        },
    })
}

fn verdict(pins: &Pins) -> String {
    let Pins {
        held,
        found,
        not_found,
        ..
    } = pins;
    match not_found.unwrap_or(0) {
        0 => format!("{held} pins, all of them found"),
        more @ 1.. => format!("{held} pins, {found} of them found; the owner of {more} is not"),
        _ => format!("{held} pins, and {found} found: more than there are"),
    }
}

/// What the figures leave out.
fn explain(survey: &Survey, pins: &Pins, memory: u64) {
    if !limits::sees_all_processes() {
        say(IN_CONTAINER);
    }
    for reason in &survey.unreadable {
        say(&format!("cannot read {reason}"));
    }
    if memory > 0 {
        let counted = text::counted(memory, "pin");
        say(&format!(
            "{counted} in memory that is no file: --all-memory shows them"
        ));
    }
    if let Some(more @ 1..) = pins.not_found {
        let counted = text::counted(more as u64, "pin");
        say(&format!(
            "{counted} by the kernel's own count, of which the owner is not found: requests under way \
             (O_DIRECT), iommufd, mediated devices, queues of RDMA devices, and rings that only a \
             message or a registered descriptor keeps are not looked into"
        ));
    }
}

/// What is said where somebody asks for files: these are of none any more.
pub fn left_file(pins: u64) -> String {
    format!(
        "{} on pages that have left their file, whichever it was: `lease-trace pins --all-memory` without a \
         path shows them",
        text::counted(pins, "pin")
    )
}

/// What is said where somebody asks for frames and there are containers of vfio.
pub const NO_FRAMES: &str =
    "which page frames vfio has pinned only the IOMMU knows: some of its pins may be there";

/// What is said in another pid namespace than the first.
pub const IN_CONTAINER: &str = "lease-trace runs in a pid namespace of a container: only what its processes have is found, and \
     pids are those of the host";

/// What was asked for.
struct Wanted<'a> {
    places: Vec<Place>,
    owners: Filter,
    consumer: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    fn of(flags: &'a PinsFlags) -> anyhow::Result<Self> {
        if !flags.pids.is_empty() && !limits::sees_all_processes() {
            bail!(
                "-p: in a container's pid namespace pids are not those of the kernel; leave -p out"
            );
        }
        let asked = Asked {
            pids: flags.pids.clone(),
            cgroup: flags.cgroup.clone(),
            path: None,
        };
        Ok(Self {
            places: flags
                .paths
                .iter()
                .map(|path| Place::of(path))
                .collect::<Result<_, _>>()?,
            owners: Filter::resolve(&asked, &Cgroups::of_host())?,
            consumer: flags.consumer.as_deref(),
        })
    }

    fn admits(&self, row: &Row) -> bool {
        (self.places.is_empty() || self.places.iter().any(|place| place.has(&row.file)))
            && self.consumer.is_none_or(|name| name == row.consumer)
            && self
                .owners
                .admits_process(row.owner.as_ref().map(|owner| owner.pid))
    }
}
