//! `lease-trace enforce`: a policy in force in the kernel, with or without a monitor.

use std::{
    collections::BTreeMap,
    io::{self, Write as _},
    time::{Duration, UNIX_EPOCH},
};

use comfy_table::{Cell, Table, presets};
use lease_trace_common::{
    cause::Cause,
    count::Count,
    policy::{Action, DENIABLE, Header, Mode, cause_bit},
    verdict::applicable,
};
use serde::Serialize;

use super::{consumers, plan, say};
use crate::{
    cli::{EnforceCommand, EnforceFlags, EnforceStartFlags, EnforceStatusFlags},
    exit::Exit,
    rules,
    session::losses,
    sinks::{WriteError, json, text},
    tracer::{
        self,
        enforcement::{self, Status},
        in_force::{InForce, RuleInForce},
    },
};

pub fn run(flags: &EnforceFlags) -> anyhow::Result<Exit> {
    match &flags.what {
        EnforceCommand::Start(flags) => start(flags),
        EnforceCommand::Status(flags) => status(flags),
        EnforceCommand::Stop => stop(),
    }
}

fn start(flags: &EnforceStartFlags) -> anyhow::Result<Exit> {
    let plan = plan::read(&flags.policy)?;
    let options = tracer::Options {
        attach: flags.attach.attach.into(),
        capacity: flags.capacity.capacity,
        pins_all: false,
        cross_check: false,
        all_events: false,
        files: flags.files.proc_mode,
    };
    let started = enforcement::start(options, &plan)?;
    for loss in &started.cannot {
        say(&format!("not seen: {loss}"));
    }
    let InForce {
        header,
        rules: in_force,
    } = &started.in_force;
    let what = if started.fresh {
        "enforcement is in place"
    } else {
        "the policy was replaced"
    };
    say(&format!(
        "{what}: {} from {}, {} mode; it can deny {}",
        text::counted(in_force.len() as u64, "rule"),
        flags.policy.display(),
        header.mode().name(),
        ways(*header),
    ));
    if plan.holds {
        say("files are held only while `lease-trace monitor` runs");
    }
    Ok(Exit::Done)
}

fn stop() -> anyhow::Result<Exit> {
    say(if enforcement::stop()? {
        "everything is removed; nothing is enforced or watched any more"
    } else {
        "nothing was in place"
    });
    Ok(Exit::Done)
}

fn status(flags: &EnforceStatusFlags) -> anyhow::Result<Exit> {
    let Some(status) = enforcement::status()? else {
        return Err(tracer::Error::NotEnforced.into());
    };
    let mut page = Vec::new();
    if flags.json {
        json::page(&InJson::of(&status), &mut page)?;
    } else {
        table(&status, &mut page)?;
    }
    io::stdout().write_all(&page).map_err(WriteError)?;
    Ok(Exit::Done)
}

/// The release paths that can be denied here.
fn ways(header: Header) -> String {
    let names = deniable(header);
    if names.is_empty() {
        "nothing".to_owned()
    } else {
        names.join(", ")
    }
}

fn deniable(header: Header) -> Vec<&'static str> {
    DENIABLE
        .into_iter()
        .filter(|cause| can_deny(header, *cause))
        .map(Cause::name)
        .collect()
}

const fn can_deny(header: Header, cause: Cause) -> bool {
    header.deniable() & cause_bit(cause as u32) != 0
}

/// What a rule comes to for each release path that some kernel lets be denied, and for the others.
fn effects(rule: &RuleInForce, header: Header) -> BTreeMap<&'static str, Action> {
    let action = Action::from_raw(rule.rule.action);
    let fallback = Action::from_raw(rule.rule.fallback);
    let at = |cause| applicable(action, fallback, cause, can_deny(header, cause));
    DENIABLE
        .into_iter()
        .map(|cause| (cause.name(), at(cause)))
        .chain([("any other", at(Cause::Other))])
        .collect()
}

#[derive(Serialize)]
struct InJson<'a> {
    mode: Mode,
    since: u64,
    generation: u32,
    deniable: Vec<&'static str>,
    monitor: Option<u32>,
    hold_limit_ms: u64,
    /// Not there: not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    consumers_moved: Option<bool>,
    rules: Vec<RuleInJson>,
    totals: BTreeMap<&'static str, u64>,
    links: &'a [String],
    lost: Vec<crate::record::Lost>,
}

#[derive(Serialize)]
struct RuleInJson {
    name: String,
    mode: Mode,
    action: Action,
    #[serde(rename = "otherwise")]
    fallback: Action,
    effects: BTreeMap<&'static str, Action>,
    hits: BTreeMap<String, u64>,
}

impl<'a> InJson<'a> {
    fn of(status: &'a Status) -> Self {
        let InForce {
            header,
            rules: in_force,
        } = &status.in_force;
        Self {
            mode: header.mode(),
            since: status.since,
            generation: header.generation(),
            deniable: deniable(*header),
            monitor: status.monitor,
            hold_limit_ms: status.hold_limit_ms,
            consumers_moved: consumers::have_moved(status),
            rules: in_force
                .iter()
                .map(|rule| RuleInJson {
                    name: rules::name(rule),
                    mode: rule.rule.mode(),
                    action: Action::from_raw(rule.rule.action),
                    fallback: Action::from_raw(rule.rule.fallback),
                    effects: effects(rule, *header),
                    hits: rules::hits(rule),
                })
                .collect(),
            totals: totals(&status.counts),
            links: &status.links,
            lost: losses(&status.counts, &[0; Count::LEN]),
        }
    }
}

fn table(status: &Status, out: &mut impl io::Write) -> anyhow::Result<()> {
    let InForce {
        header,
        rules: in_force,
    } = &status.in_force;
    let since = UNIX_EPOCH + Duration::from_secs(status.since);
    let monitor = status.monitor.map_or_else(
        || "no monitor runs: nothing is held".to_owned(),
        |pid| format!("the monitor is pid {pid}"),
    );
    writeln!(
        out,
        "{} mode since {}; {monitor}",
        header.mode().name(),
        humantime::format_rfc3339_seconds(since),
    )?;
    writeln!(out, "can deny: {}", ways(*header))?;
    if consumers::have_moved(status) == Some(true) {
        writeln!(
            out,
            "modules came or went since: rules with `consumer` may miss theirs until a monitor\n\
             runs, or the policy is put in force again"
        )?;
    }
    writeln!(out)?;
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    let ways: Vec<_> = DENIABLE
        .into_iter()
        .map(Cause::name)
        .chain(["any other"])
        .collect();
    // Where all have one, the first line says which.
    let are_mixed = header.enforces() && header.audits();
    let modes = are_mixed.then_some("MODE");
    let heads = ["RULE"].into_iter().chain(modes);
    let heads = heads.chain(ways.iter().copied());
    table.set_header(heads.map(|head| Cell::new(head.to_uppercase())));
    for rule in in_force {
        let effects = effects(rule, *header);
        let cells = ways.iter().map(|way| effects[way].name().to_owned());
        let mode = are_mixed.then(|| rule.rule.mode().name().to_owned());
        table.add_row([rules::name(rule)].into_iter().chain(mode).chain(cells));
    }
    writeln!(out, "{}", trimmed(&table))?;
    writeln!(out)?;
    for rule in in_force {
        let hits = rules::hits_in_words(&rules::hits(rule));
        writeln!(out, "{}: {hits}", rules::name(rule))?;
    }
    let totals = totals(&status.counts).into_iter();
    let totals = totals.map(|(what, count)| (what.to_owned(), count));
    writeln!(
        out,
        "all rules: {}",
        rules::hits_in_words(&totals.collect())
    )?;
    for lost in losses(&status.counts, &[0; Count::LEN]) {
        writeln!(out, "lost {}: {}", lost.count, lost.what)?;
    }
    Ok(())
}

/// What was done on behalf of all rules since enforcement was started, also of those that are gone.
fn totals(counts: &[u64; Count::LEN]) -> BTreeMap<&'static str, u64> {
    const DONE: [(&str, Count); 7] = [
        ("denied", Count::Denied),
        ("stopped", Count::Stopped),
        ("killed", Count::Killed),
        ("left-to-monitor", Count::HandedOver),
        ("spared", Count::Spared),
        ("failed", Count::ActionsFailed),
        ("would", Count::Would),
    ];
    let all = DONE.map(|(what, count)| (what, counts[count as usize]));
    all.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// Without the blanks that pad the last column.
fn trimmed(table: &Table) -> String {
    let lines: Vec<_> = table.lines().map(|line| line.trim().to_owned()).collect();
    lines.join("\n")
}
