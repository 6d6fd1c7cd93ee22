//! `lease-trace report`: the zombies, leases or stakes there are now.

use std::io::{self, BufRead as _, BufWriter, Write};

use anyhow::{Context as _, bail};
use lease_trace_common::count::Count;

use super::{pins, say};
use crate::{
    breaking,
    cli::ReportFlags,
    clock::Clock,
    enrich::{Names, cgroup::Cgroups, locks},
    entries::{self, Subject},
    exit::Exit,
    pinned,
    record::Entry,
    session::losses,
    sinks::{
        columns::Column,
        report::{Layout, Report},
        terminal::Look,
    },
    tracer::{self, reader::Reader, snapshot::Snapshot, survey},
};

pub fn run(flags: &ReportFlags) -> anyhow::Result<Exit> {
    let layout = layout(flags)?;
    check(flags)?;
    let mut names = Names::new(Cgroups::of_host());
    let mut out = BufWriter::new(io::stdout().lock());
    if flags.follow {
        return follow(flags, &mut names, &mut out);
    }
    let report = report(flags, &Reader::default().snapshot()?, &mut names);
    explain(&report);
    if flags.json {
        report.json(&mut out)?;
    } else {
        report.table(&layout, &mut out)?;
    }
    Ok(exit(&report))
}

/// Squatters are stakes.
fn check(flags: &ReportFlags) -> anyhow::Result<()> {
    if flags.squatters.is_some() && flags.subject != Subject::Stakes {
        bail!("--squatters: they are stakes; write `lease-trace report stakes --squatters`");
    }
    Ok(())
}

/// A report for each line on stdin, so that who asks often need not start a process each time.
fn follow(flags: &ReportFlags, names: &mut Names, out: &mut impl Write) -> anyhow::Result<Exit> {
    let mut reader = Reader::default();
    for line in io::stdin().lock().lines() {
        line.context("cannot read stdin")?;
        report(flags, &reader.snapshot()?, names).json_line(out)?;
    }
    Ok(Exit::Done)
}

fn layout(flags: &ReportFlags) -> anyhow::Result<Layout> {
    let columns = match flags.squatters {
        Some(_) => flags.columns.as_deref().or(Some("+BREAKER")),
        None => flags.columns.as_deref(),
    };
    let look = Look::of_stdout();
    Ok(Layout {
        columns: columns
            .map(|typed| Column::choose(typed, flags.subject))
            .transpose()?,
        headings: !flags.noheadings,
        raw: flags.raw,
        look: if flags.notruncate { Look::PLAIN } else { look },
    })
}

fn report(flags: &ReportFlags, snapshot: &Snapshot, names: &mut Names) -> Report {
    let (clock, subject) = (Clock::sample(), flags.subject);
    // The kernel stops all who lock files while it writes the list: not more often than needed.
    let listed = if subject == Subject::Leases || breaking::needs_list(snapshot) {
        locks::leases().unwrap_or_else(|error| {
            say(&format!(
                "cannot read /proc/locks to check the leases against: {error}"
            ));
            Vec::new()
        })
    } else {
        Vec::new()
    };
    let mut entries = match subject {
        Subject::Zombies => entries::zombies(snapshot, &listed, &clock, names),
        Subject::Stakes => entries::stakes(snapshot, &listed, &clock, names),
        Subject::Leases => entries::leases(snapshot, &listed, &clock, names),
    };
    let is_surveyed = snapshot.source.is_none() && !flags.follow && survey(&mut entries, subject);
    if let Some(squatters) = flags.squatters {
        entries = entries::squatters(entries, squatters);
    }
    Report {
        subject,
        entries,
        source: snapshot.source,
        is_surveyed,
        lost: losses(&snapshot.counts, &[0; Count::LEN]),
    }
}

/// Where nobody watches: enters what is found now. False, and said why, where that cannot be.
fn survey(entries: &mut Vec<Entry>, subject: Subject) -> bool {
    if subject == Subject::Zombies {
        return false;
    }
    match survey::take(None) {
        Ok(found) => {
            let rows = pinned::rows(&found);
            let is_whole = pins::not_found(&found) == 0;
            entries::Surveyed::new(&rows, is_whole).enter(entries, subject);
            true
        }
        Err(error) => {
            say(&format!("cannot look for what is pinned: {error}"));
            false
        }
    }
}

/// What the figures leave out: never let them look complete when they are not.
fn explain(report: &Report) {
    if let Some(directory) = tracer::stale() {
        say(&format!(
            "{directory} was left by a monitor that did not end by itself; it is not read, and the \
             next monitor removes it"
        ));
    }
    if report.source.is_none() {
        say(match report.subject {
            Subject::Zombies => {
                "no monitor is running, so nothing is known of pins, and a zombie cannot be told; \
                 start `lease-trace monitor` and keep it running; `lease-trace pins` finds what is \
                 pinned now"
            }
            Subject::Leases | Subject::Stakes if report.is_surveyed => {
                "no monitor is running: pins are those that are found now, and which of them are \
                 zombies cannot be told"
            }
            Subject::Leases => {
                "no monitor is running, so nothing is known of pins: PINS is ?, with all that the \
                 holders have pinned anywhere (VmPin) in brackets"
            }
            Subject::Stakes => {
                "no monitor is running, so nothing is known of pins: these are the stakes that \
                 have a lease"
            }
        });
    }
    for lost in &report.lost {
        say(&format!("lost {}: {}", lost.count, lost.what));
    }
}

fn exit(report: &Report) -> Exit {
    if report.subject == Subject::Zombies && !report.entries.is_empty() {
        Exit::Zombies
    } else {
        Exit::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{fixtures, tracer::snapshot::Source};

    fn of(subject: Subject, entries: Vec<Entry>) -> Report {
        Report {
            subject,
            entries,
            source: Some(Source::Monitor(1)),
            is_surveyed: false,
            lost: Vec::new(),
        }
    }

    #[test]
    fn only_zombies_change_the_exit_status() {
        let zombie = || vec![fixtures::entry()];
        assert_eq!(exit(&of(Subject::Zombies, zombie())), Exit::Zombies);
        assert_eq!(exit(&of(Subject::Zombies, Vec::new())), Exit::Done);
        assert_eq!(exit(&of(Subject::Stakes, zombie())), Exit::Done);
    }
}
