//! `lease-trace policy test`: which rule of a policy would have matched each recorded breach.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write as _},
    path::Path,
};

use anyhow::{Context as _, bail};
use comfy_table::{Cell, CellAlignment, Table, presets};
use lease_trace_common::{
    cause::Cause,
    policy::{Action, Mode},
};
use serde::Serialize;

use super::say;
use crate::{
    cli::TestFlags,
    enrich::cgroup::Cgroups,
    exit::Exit,
    kernel::release_paths::ReleasePaths,
    policy::{
        self, Compiled, Effect, Host, Meaning,
        check::Check,
        replay::{self, Breach, Line},
    },
    sinks::{WriteError, json, text},
};

pub fn run(flags: &TestFlags) -> anyhow::Result<Exit> {
    let cgroups = Cgroups::of_host();
    let ways = ReleasePaths::of_kernel().ok();
    let host = Host {
        cgroups: &cgroups,
        ways: ways.as_ref(),
        symbols: None,
    };
    let check = policy::read(&flags.file, &host)?;
    let Some(compiled) = &check.compiled else {
        return check.accept().map(|_| Exit::Done).map_err(Into::into);
    };
    let tried = Tried::of(&check, compiled, ways.as_ref(), open(&flags.events)?)?;
    if tried.lines == 0 {
        bail!(
            "{}: there is no event of a monitor in it; write one with lease-trace record FILE",
            flags.events.display()
        );
    }
    if tried.unreadable > 0 {
        say(&format!(
            "{}: {} passed over, the first is line {}: {}",
            flags.events.display(),
            text::counted(tried.unreadable, "line"),
            tried.first_unreadable.0,
            tried.first_unreadable.1
        ));
    }
    for name in &tried.groups {
        say(&format!(
            "rule {name} matches nothing here: no event has the group of a process"
        ));
    }
    let mut out = BufWriter::new(io::stdout().lock());
    if flags.json {
        json::page(&tried, &mut out).map_err(WriteError)?;
    } else {
        out.write_all(tried.render().as_bytes())
            .map_err(WriteError)?;
    }
    out.flush().map_err(WriteError)?;
    Ok(Exit::Done)
}

fn open(events: &Path) -> anyhow::Result<Box<dyn BufRead>> {
    if events == Path::new("-") {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = File::open(events).with_context(|| {
        format!(
            "cannot read {}; name what lease-trace record has written",
            events.display()
        )
    })?;
    Ok(Box::new(BufReader::new(file)))
}

/// What came of it.
#[derive(Debug, Default, Serialize)]
struct Tried {
    breaches: Vec<Matched>,
    rules: Vec<RuleTried>,
    /// Breaches that no rule matches.
    unmatched: u64,
    /// Lines that are no events.
    unreadable: u64,
    #[serde(skip)]
    first_unreadable: (u64, String),
    /// Lines that are events.
    #[serde(skip)]
    lines: u64,
    /// Rules that ask for a group.
    #[serde(skip)]
    groups: Vec<String>,
}

#[derive(Debug, Serialize)]
struct RuleTried {
    name: String,
    mode: Mode,
    matched: u64,
}

/// A breach, and the rules that are the first of their mode to match it.
#[derive(Debug, Serialize)]
struct Matched {
    time: String,
    event: String,
    pid: u32,
    comm: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<Cause>,
    pins: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    rules: Vec<ByRule>,
}

#[derive(Debug, Serialize)]
struct ByRule {
    name: String,
    mode: Mode,
    /// What it comes to on this kernel.
    effect: Effect,
}

impl Tried {
    /// Holds the breaches among these lines against a policy that is fine, but for this kernel.
    fn of(
        check: &Check,
        compiled: &Compiled,
        ways: Option<&ReleasePaths>,
        mut events: impl BufRead,
    ) -> anyhow::Result<Self> {
        let mut tried = Self::default();
        for (rule, explained) in compiled.rules.iter().zip(&check.rules) {
            let (name, mode) = (explained.name.clone(), explained.mode);
            if replay::asks_for_a_group(rule) {
                tried.groups.push(name.clone());
            }
            let matched = 0;
            tried.rules.push(RuleTried {
                name,
                mode,
                matched,
            });
        }
        let (mut line, mut number) = (Vec::new(), 0);
        while events
            .read_until(b'\n', &mut line)
            .context("cannot read the events")?
            > 0
        {
            number += 1;
            match Line::read(String::from_utf8_lossy(&line).trim_end()) {
                Line::Bad(reason) => {
                    if tried.unreadable == 0 {
                        tried.first_unreadable = (number, reason);
                    }
                    tried.unreadable += 1;
                }
                Line::Other => tried.lines += 1,
                Line::Breach(breach) => {
                    tried.lines += 1;
                    tried.hold(*breach, compiled, &check.meanings, ways);
                }
            }
            line.clear();
        }
        Ok(tried)
    }

    fn hold(
        &mut self,
        breach: Breach,
        compiled: &Compiled,
        meanings: &[Meaning],
        ways: Option<&ReleasePaths>,
    ) {
        let first = |mode| breach.first(mode, &compiled.rules, meanings, &compiled.consumers);
        let places = [Mode::Enforce, Mode::Audit].into_iter().filter_map(first);
        let rules: Vec<ByRule> = places
            .map(|place| {
                let wanted = &meanings[place].wanted;
                let outcome = match breach.cause {
                    Some(cause) if !breach.is_bare() => wanted.at(cause, ways),
                    _ => wanted.at_bare_pin(),
                };
                let RuleTried {
                    name,
                    mode,
                    matched,
                } = &mut self.rules[place];
                *matched += 1;
                ByRule {
                    name: name.clone(),
                    mode: *mode,
                    effect: outcome.effect,
                }
            })
            .collect();
        self.unmatched += u64::from(rules.is_empty());
        let Breach {
            event,
            time,
            pid,
            comm,
            path,
            cause,
            pins,
            ..
        } = breach;
        self.breaches.push(Matched {
            time,
            event,
            pid,
            comm,
            cause,
            pins,
            path,
            rules,
        });
    }

    fn render(&self) -> String {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        let heads = [
            "COMMAND", "PID", "CAUSE", "PINS", "RULE", "COMES TO", "PATH",
        ];
        table.set_header(heads.map(Cell::new));
        for breach in &self.breaches {
            let cause = breach.cause.map_or("-", Cause::name);
            let mut cells = [
                text::escape(breach.comm.as_bytes()),
                breach.pid.to_string(),
                cause.to_owned(),
                breach.pins.to_string(),
                "-".to_owned(),
                "-".to_owned(),
                text::escape(breach.path.as_deref().unwrap_or("?").as_bytes()),
            ];
            if breach.rules.is_empty() {
                table.add_row(cells);
                continue;
            }
            for rule in &breach.rules {
                cells[4].clone_from(&rule.name);
                cells[5] = comes_to(rule);
                table.add_row(cells.clone());
            }
        }
        for figure in [1, 3] {
            if let Some(column) = table.column_mut(figure) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut page = String::new();
        if !self.breaches.is_empty() {
            for line in table.lines() {
                page.push_str(line.trim());
                page.push('\n');
            }
            page.push('\n');
        }
        let all = match self.breaches.len() {
            1 => "1 breach".to_owned(),
            number => format!("{number} breaches"),
        };
        let by_rule = self.rules.iter();
        let by_rule = by_rule.map(|rule| format!("{}: {}", rule.name, rule.matched));
        let rest = format!("no rule: {}", self.unmatched);
        let sums: Vec<_> = [all].into_iter().chain(by_rule).chain([rest]).collect();
        page + &sums.join("; ") + "\n"
    }
}

/// What is done on this kernel, or would be.
fn comes_to(rule: &ByRule) -> String {
    let done = match rule.effect {
        Effect::Denied => Action::Deny.name(),
        Effect::Held => Action::Hold.name(),
        Effect::Stopped => Action::Stop.name(),
        Effect::Killed => Action::Kill.name(),
        Effect::Reported => Action::Report.name(),
        Effect::Impossible => "not possible",
        Effect::Unknown => "unknown",
        Effect::Nothing | Effect::Unmatched => "nothing",
    };
    match (rule.mode, rule.effect) {
        (Mode::Audit, Effect::Denied | Effect::Held | Effect::Stopped | Effect::Killed) => {
            format!("would {done}")
        }
        _ => done.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::diagnostic::Source;

    const POLICY: &str = "mode = \"enforce\"\n\
        [[rule]]\nname = \"rings\"\nmatch = { path = \"/proc\", consumer = \"io_uring\" }\n\
        action = \"deny\"\nfallback = \"kill\"\n\
        [[rule]]\nname = \"trial\"\nmode = \"audit\"\nmatch.uid = 1000\naction = \"stop\"\n\
        [[rule]]\nname = \"bare\"\non = \"bare-pin\"\nmatch.min_pins = 8\naction = \"kill\"\n\
        [[rule]]\nname = \"group\"\nmatch.gid = 7\naction = \"kill\"\n";

    const EVENTS: &str = r#"{"event":"start","time":"2026-11-30T10:00:00Z"}
{"event":"zombie","time":"2026-11-30T10:00:01Z","pid":7,"comm":"db","uid":1000,"path":"/proc/f","lease":{"kind":"lease","mode":"write"},"cause":"unlock","pins":16,"consumer":"io_uring"}
{"event":"at-rest","time":"2026-11-30T10:00:01Z","pid":7,"comm":"db","uid":1000,"path":"/proc/f","cause":"unlock","pins":16}
{"event":"denied","time":"2026-11-30T10:00:02Z","pid":8,"comm":"db","uid":0,"path":"/proc/sub/g","lease":{"kind":"lease","mode":"read"},"cause":"close","pins":1,"consumer":"io_uring","rule":"old"}
{"event":"bare-pin","time":"2026-11-30T10:00:03Z","pid":9,"comm":"ib_write","uid":0,"path":"/srv/h","pins":8}
{"event":"zombie","time":"2026-11-30T10:00:04Z","pid":9,"comm":"ib_write","uid":0,"path":"/srv/h","lease":{"kind":"deleg","mode":"read"},"cause":"exit","pins":2}
{"event":"zombie","pid"#;

    fn tried(policy: &str, events: &str) -> Tried {
        let cgroups = Cgroups::default();
        let ways = ReleasePaths::like_debian_12();
        let host = Host {
            cgroups: &cgroups,
            ways: Some(&ways),
            symbols: None,
        };
        let source = Source {
            name: "policy.toml".to_owned(),
            text: policy.to_owned(),
        };
        let check = policy::check::check(source, &host);
        let compiled = check.compiled.as_ref().expect("a policy that is fine");
        Tried::of(&check, compiled, Some(&ways), events.as_bytes()).expect("it can be read")
    }

    #[test]
    fn each_breach_gets_the_first_rule_of_each_mode() {
        let tried = tried(POLICY, EVENTS);
        insta::assert_snapshot!(tried.render(), @"
        COMMAND   PID  CAUSE   PINS  RULE   COMES TO    PATH
        db          7  unlock    16  rings  deny        /proc/f
        db          7  unlock    16  trial  would stop  /proc/f
        db          8  close      1  rings  kill        /proc/sub/g
        ib_write    9  -          8  bare   kill        /srv/h
        ib_write    9  exit       2  -      -           /srv/h

        4 breaches; rings: 2; trial: 1; bare: 1; group: 0; no rule: 1
        ");
        assert_eq!((tried.lines, tried.unreadable), (6, 1));
        assert_eq!(tried.first_unreadable.0, 7);
        assert_eq!(tried.groups, ["group"]);
    }

    #[test]
    fn without_breaches_there_is_no_table() {
        let tried = tried(POLICY, "{\"event\":\"start\"}\n");
        let nothing = "0 breaches; rings: 0; trial: 0; bare: 0; group: 0; no rule: 0\n";
        assert_eq!(tried.render(), nothing);
    }
}
