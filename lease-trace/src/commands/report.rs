//! `lease-trace report`: the zombies, leases or stakes there are now.

use std::io::{self, BufWriter};

use anyhow::bail;
use lease_trace_common::count::Count;

use super::say;
use crate::{
    cli::{ReportFlags, Subject},
    clock::Clock,
    enrich::{Names, cgroup::Cgroups, locks},
    entries,
    exit::Exit,
    session::losses,
    sinks::{
        columns::Column,
        report::{Layout, Report},
        terminal::Look,
    },
    tracer::{self, snapshot::Snapshot},
};

pub fn run(flags: &ReportFlags) -> anyhow::Result<Exit> {
    let layout = layout(flags)?;
    check(flags)?;
    let snapshot = tracer::snapshot()?;
    let mut report = report(flags.subject, &snapshot);
    if let Some(squatters) = flags.squatters {
        report.entries = entries::squatters(report.entries, squatters);
    }
    explain(&report);
    let mut out = BufWriter::new(io::stdout().lock());
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

fn report(subject: Subject, snapshot: &Snapshot) -> Report {
    let clock = Clock::sample();
    let mut names = Names::new(Cgroups::of_host());
    let entries = match subject {
        Subject::Zombies => entries::zombies(snapshot, &clock, &mut names),
        Subject::Stakes => entries::stakes(snapshot, &clock, &mut names),
        Subject::Leases => {
            let listed = locks::leases().unwrap_or_else(|error| {
                say(&format!(
                    "cannot read /proc/locks to check the leases against: {error}"
                ));
                Vec::new()
            });
            entries::leases(snapshot, &listed, &clock, &mut names)
        }
    };
    Report {
        subject,
        entries,
        source: snapshot.source,
        lost: losses(&snapshot.counts, &[0; Count::LEN]),
    }
}

/// What the figures leave out: never let them look complete when they are not.
fn explain(report: &Report) {
    if let Some(folder) = tracer::stale() {
        say(&format!(
            "{folder} was left by a monitor that did not end by itself; it is not read, and the \
             next monitor removes it"
        ));
    }
    if report.source.is_none() {
        say(match report.subject {
            Subject::Zombies => {
                "no monitor is running, so nothing is known of pins, and a zombie cannot be told; \
                 start `lease-trace monitor` and keep it running"
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
    use crate::{fixtures, record::Entry, tracer::snapshot::Source};

    fn of(subject: Subject, entries: Vec<Entry>) -> Report {
        Report {
            subject,
            entries,
            source: Some(Source::Monitor(1)),
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
