//! `lease-trace policy check`: each rule in a sentence, and what it comes to on this kernel.

use std::{
    fmt::Write as _,
    io::{self, BufWriter, Write as _},
    time::Duration,
};

use lease_trace_common::policy::Mode;
use serde::Serialize;

use crate::{
    cli::CheckFlags,
    enrich::{cgroup::Cgroups, symbols::Symbols},
    exit::Exit,
    kernel::{host, release_paths::ReleasePaths},
    policy::{
        Check, Compiled, Effect, Host,
        check::{Explained, WHEN_FULL},
        diagnostic::{Place, Severity},
    },
    sinks::{WriteError, json, text},
};

const WIDTH: usize = 80;
/// Where the release paths begin.
const INDENT: usize = 15;

pub fn run(flags: &CheckFlags) -> anyhow::Result<Exit> {
    let cgroups = Cgroups::of_host();
    let ways = ReleasePaths::of_kernel();
    let symbols = Symbols::load().ok();
    let host = Host {
        cgroups: &cgroups,
        ways: ways.as_ref().ok(),
        symbols: symbols.as_ref(),
    };
    let check = crate::policy::read(&flags.file, &host)?;
    let unknown = ways.as_ref().err().map(ToString::to_string);
    let mut out = BufWriter::new(io::stdout().lock());
    if flags.json {
        let page = Page::of(&check, unknown.as_deref());
        json::page(&page, &mut out).map_err(WriteError)?;
    } else if check.compiled.is_some() {
        let page = render(&check, unknown.as_deref());
        out.write_all(page.as_bytes()).map_err(WriteError)?;
    }
    out.flush().map_err(WriteError)?;
    drop(out);
    let warnings = check.render_said();
    match check.accept() {
        Ok(_) => {
            if !flags.json && !warnings.is_empty() {
                // Nobody is left to tell if stderr is closed, too.
                let _ = writeln!(io::stderr(), "{}", warnings.trim_end());
            }
            Ok(Exit::Done)
        }
        // The page has it all.
        Err(error) if flags.json => Ok(Exit::of(&error.into())),
        Err(error) => Err(error.into()),
    }
}

fn render(check: &Check, unknown: Option<&str>) -> String {
    let mode = match check.mode {
        Mode::Enforce => "enforce",
        Mode::Audit => "audit (nothing is done; this is what enforce would do)",
    };
    let rules = text::counted(check.rules.len() as u64, "rule");
    let name = text::escape(check.source.name.as_bytes());
    let mut page = wrapped(&format!("{name}: {rules}, mode {mode}"), 2);
    for rule in &check.rules {
        page.push('\n');
        page.push_str(&explained(rule));
    }
    page.push('\n');
    page.push_str(&wrapped(&verdict(check), 0));
    if let Some(compiled) = &check.compiled {
        page.extend(notes(check, compiled).iter().map(|note| wrapped(note, 0)));
    }
    if let Some(reason) = unknown {
        let note = format!("What this kernel can deny is unknown: {reason}.");
        page.push_str(&wrapped(&note, 0));
    }
    page + &wrapped(WHEN_FULL, 0)
}

fn wrapped(text: &str, indent: usize) -> String {
    text::wrap(text, WIDTH, indent) + "\n"
}

/// A rule's sentence, and the release paths under what happens there.
fn explained(rule: &Explained) -> String {
    let sentence = text::escape(rule.sentence.as_bytes());
    let mut page = wrapped(&sentence, 2);
    for effect in Effect::ALL {
        let mut reasons: Vec<Option<&str>> = Vec::new();
        let here = || rule.ways.iter().filter(|at| at.effect == effect);
        for at in here() {
            if !reasons.contains(&at.reason.as_deref()) {
                reasons.push(at.reason.as_deref());
            }
        }
        for reason in reasons {
            let ways: Vec<_> = here()
                .filter(|at| at.reason.as_deref() == reason)
                .map(|at| at.way)
                .collect();
            let (label, why) = label(effect);
            let ways = ways.join(", ");
            let line = match reason.or(why) {
                Some(why) => format!("{ways} ({why})"),
                None => ways,
            };
            let mut label = label;
            for line in text::wrap(&line, WIDTH - INDENT, 0).lines() {
                let _ = writeln!(page, "  {label:<width$}{line}", width = INDENT - 2);
                label = "";
            }
        }
    }
    page
}

const fn label(effect: Effect) -> (&'static str, Option<&'static str>) {
    match effect {
        Effect::Denied => ("denied", None),
        Effect::Held => ("held", None),
        Effect::Stopped => ("stopped", None),
        Effect::Killed => ("killed", None),
        Effect::Reported => ("reported", None),
        Effect::Impossible => ("not possible", None),
        Effect::Unknown => ("unknown", Some("this kernel could not be asked")),
        Effect::Nothing => ("nothing", Some("the process is ending")),
        Effect::Unmatched => ("not matched", None),
    }
}

fn verdict(check: &Check) -> String {
    match check.severity() {
        Some(Severity::Error) => "The policy is refused: see the errors.".to_owned(),
        Some(Severity::Kernel) => {
            "The policy is refused: this kernel cannot do all it asks for.".to_owned()
        }
        Some(Severity::Warning) => "The policy can be used, with the warnings below.".to_owned(),
        None => "The policy can be used.".to_owned(),
    }
}

fn notes(check: &Check, compiled: &Compiled) -> Vec<String> {
    let mut notes = Vec::new();
    if compiled.holds {
        let limit = Duration::from_millis(compiled.hold_limit_ms);
        let limit = humantime::format_duration(limit);
        notes.push(format!(
            "A held file is released after {limit} at the latest."
        ));
    }
    if !compiled.consumers.is_empty() {
        let names = compiled.consumers.join(", ");
        notes.push(match check.text_ranges {
            Some(ranges) => format!(
                "Consumers named: {names}; all consumers' code here is in {}.",
                text::counted(ranges as u64, "text range")
            ),
            None => format!(
                "Consumers named: {names}; where their code is cannot be told, since \
                 /proc/kallsyms shows no addresses to this process."
            ),
        });
    }
    notes
}

/// The same as JSON.
#[derive(Serialize)]
struct Page<'a> {
    file: &'a str,
    kernel: String,
    /// Why it is not known what this kernel can deny, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<&'a str>,
    mode: Mode,
    #[serde(skip_serializing_if = "Option::is_none")]
    hold_limit_ms: Option<u64>,
    rules: &'a [Explained],
    consumers: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    text_ranges: Option<usize>,
    when_full: &'static str,
    said: Vec<Said<'a>>,
}

#[derive(Serialize)]
struct Said<'a> {
    severity: Severity,
    line: usize,
    column: usize,
    what: &'a str,
    instead: &'a str,
}

impl<'a> Page<'a> {
    fn of(check: &'a Check, unknown: Option<&'a str>) -> Self {
        let compiled = check.compiled.as_ref();
        let said = check.said.iter().map(|said| {
            let place = Place::find(&check.source.text, &said.span);
            Said {
                severity: said.severity,
                line: place.line,
                column: place.column,
                what: &said.what,
                instead: &said.instead,
            }
        });
        Self {
            file: &check.source.name,
            kernel: host::release(),
            unknown,
            mode: check.mode,
            hold_limit_ms: compiled.map(|compiled| compiled.hold_limit_ms),
            rules: &check.rules,
            consumers: compiled.map_or(&[], |compiled| &compiled.consumers),
            text_ranges: check.text_ranges,
            when_full: WHEN_FULL,
            said: said.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{self, diagnostic::Source};

    const POLICY: &str = "\
mode = \"enforce\"

[[rule]]
name = \"exports\"
match = { path = \"/proc\", lease = \"write\" }
action = \"deny\"
fallback = \"kill\"

[[rule]]
name = \"rings\"
on = [\"zombie\", \"bare-pin\"]
match = { consumer = \"io_uring\", cause = [\"close\", \"unlock\"] }
action = \"hold\"
fallback = \"report\"
";

    fn checked(text: &str, ways: Option<&ReleasePaths>) -> Check {
        let source = Source {
            name: "policy.toml".to_owned(),
            text: text.to_owned(),
        };
        let symbols = Symbols::parse(b"ffffffff812f0b00 T io_pin_pages\n".as_slice(), "")
            .expect("text in memory");
        let host = Host {
            cgroups: &Cgroups::default(),
            ways,
            symbols: Some(&symbols),
        };
        policy::check::check(source, &host)
    }

    #[test]
    fn each_rule_is_explained_within_eighty_columns() {
        let page = render(
            &checked(POLICY, Some(&ReleasePaths::like_debian_12())),
            None,
        );
        assert!(page.lines().all(|line| line.len() <= WIDTH), "{page}");
        insta::assert_snapshot!(page, @r"
        policy.toml: 2 rules, mode enforce

        exports: when a process releases a write lease on a file below /proc while it
          holds pins on it, the release is denied; where it cannot be, the process is
          killed.
          denied       unlock
          killed       close, dup2, close_range, munmap (the system call is not
                       modifiable)
          killed       exec, io_uring, other, thread-exit, orphaned (no kernel lets this
                       be denied)
          nothing      exit, killed (the process is ending)
          not matched  break-timeout

        rings: when a process releases a lease on a file by close or unlock while it
          holds pins taken through io_uring on it, or holds long-term pins taken through
          io_uring on such a file that no lease covers, the file is held until the pins
          are gone; where it cannot be, it is reported.
          denied       unlock
          held         close
          reported     bare-pin (there is no release to deny and no lease to hold)
          not matched  dup2, close_range, munmap, exec, exit, killed, io_uring,
                       break-timeout, other, thread-exit, orphaned

        The policy can be used.
        A held file is released after 5m at the latest.
        Consumers named: io_uring; all consumers' code here is in 1 text range.
        When the kernel's maps are full, a release goes through (fails open), and is
        counted and reported as lost.
        ");
    }

    #[test]
    fn what_is_not_known_is_said() {
        let page = render(&checked(POLICY, None), Some("bpf(2) was refused; be root"));
        assert!(page.contains("unknown      unlock, close, dup2"), "{page}");
        assert!(
            page.contains("unknown: bpf(2) was refused; be root."),
            "{page}"
        );
    }

    #[test]
    fn audit_mode_says_that_nothing_is_done() {
        let policy = POLICY.replace("enforce", "audit");
        let page = render(&checked(&policy, Some(&ReleasePaths::like_linux_7())), None);
        let head = page.lines().next();
        insta::assert_snapshot!(head.unwrap_or_default(), @r"policy.toml: 2 rules, mode audit (nothing is done; this is what enforce would");
    }

    #[test]
    fn json_has_all_of_it() {
        let policy = "[[rule]]\nname = \"r\"\nmatch.cause = \"close\"\naction = \"deny\"\n";
        let check = checked(policy, Some(&ReleasePaths::like_debian_12()));
        let mut page = Page::of(&check, None);
        "6.1.0".clone_into(&mut page.kernel);
        let mut json = serde_json::to_value(&page).expect("plain data");
        let ways = json["rules"][0]["ways"].as_array_mut().expect("a list");
        assert_eq!(ways.len(), 13);
        ways.retain(|way| way["effect"] != "unmatched");
        insta::assert_snapshot!(serde_json::to_string_pretty(&json).expect("plain"), @r#"
        {
          "consumers": [],
          "file": "policy.toml",
          "hold_limit_ms": 300000,
          "kernel": "6.1.0",
          "mode": "monitor",
          "rules": [
            {
              "line": 2,
              "mode": "monitor",
              "name": "r",
              "sentence": "r: when a process releases a lease on a file by close while it holds pins on it, the release would be denied.",
              "ways": [
                {
                  "effect": "impossible",
                  "reason": "the system call is not modifiable",
                  "way": "close"
                }
              ]
            }
          ],
          "said": [
            {
              "column": 10,
              "instead": "write fallback = \"kill\" (or \"stop\" or \"report\"), or name in `cause` only release paths where it can",
              "line": 4,
              "severity": "kernel",
              "what": "rule r: on this kernel, deny cannot be had for close: the system call is not modifiable"
            }
          ],
          "text_ranges": 0,
          "when_full": "When the kernel's maps are full, a release goes through (fails open), and is counted and reported as lost."
        }
        "#);
    }

    #[test]
    fn control_characters_of_a_policy_do_not_reach_the_terminal() {
        let policy = "[[rule]]\nname = \"r\"\nmatch.comm = \"\\u001b2*\"\naction = \"kill\"\n";
        let check = checked(policy, Some(&ReleasePaths::like_linux_7()));
        assert!(!render(&check, None).contains('\u{1b}'));
    }
}
