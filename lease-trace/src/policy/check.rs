//! A whole policy held against this host and this kernel.

use std::{
    io,
    path::{Path, PathBuf},
};

use lease_trace_common::{
    cause::Cause,
    policy::{Action, Mode, on},
};
use serde::Serialize;

use super::{
    compile::{self, Compiled, Meaning},
    consumers,
    diagnostic::{Diagnostic, Place, Severity, Source},
    effect::{Effect, Outcome},
    explain,
    file::{self, File},
    shadow,
};
use crate::{
    enrich::{cgroup::Cgroups, symbols::Symbols},
    kernel::release_paths::{RELEASE_PATHS, ReleasePaths},
};

/// A policy that is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot read {path}: {reason}; write a policy there, or name another file")]
    Read { path: PathBuf, reason: io::Error },
    /// All that is wrong, each with its place.
    #[error("the policy is refused:\n{text}")]
    Refused { text: String, kernel: bool },
}

impl Error {
    /// This kernel cannot do what the policy asks for (exit status 3).
    pub const fn is_unsupported(&self) -> bool {
        matches!(self, Self::Refused { kernel: true, .. })
    }
}

/// What happens when the maps are full: said with every policy.
pub const WHEN_FULL: &str = "When the kernel's maps are full, a release goes through (fails open), \
     and is counted and reported as lost.";

/// What the host knows that a policy is checked against.
pub struct Host<'a> {
    pub cgroups: &'a Cgroups,
    /// `None`: the kernel could not be asked.
    pub ways: Option<&'a ReleasePaths>,
    /// `None`: kallsyms could not be read.
    pub symbols: Option<&'a Symbols>,
}

/// A policy, checked.
#[derive(Debug)]
pub struct Check {
    pub source: Source,
    pub mode: Mode,
    pub rules: Vec<Explained>,
    pub said: Vec<Diagnostic>,
    /// Absent if there is an error in the file.
    pub compiled: Option<Compiled>,
    /// Of its rules.
    pub meanings: Vec<Meaning>,
    /// Pieces of code that belong to consumers; `None`: not known.
    pub text_ranges: Option<usize>,
}

/// A rule as people read it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explained {
    pub name: String,
    pub mode: Mode,
    pub line: usize,
    pub sentence: String,
    pub ways: Vec<AtWay>,
}

/// What a rule comes to for one release path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AtWay {
    /// A cause, or `bare-pin`.
    pub way: &'static str,
    pub effect: Effect,
    /// Why it is not what the rule wants first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The name of pins without a lease among the release paths.
const BARE_PIN: &str = "bare-pin";

impl Check {
    /// All that is said, as text.
    pub fn render_said(&self) -> String {
        let said: Vec<_> = self
            .said
            .iter()
            .map(|said| said.render(&self.source))
            .collect();
        said.join("\n")
    }

    /// The policy, unless it is refused.
    pub fn accept(self) -> Result<Compiled, Error> {
        let kernel = self.severity() == Some(Severity::Kernel);
        let text = self.render_said();
        match self.compiled {
            Some(compiled) if self.said.iter().all(Diagnostic::is_warning) => Ok(compiled),
            _ => Err(Error::Refused { text, kernel }),
        }
    }

    /// How the policy is to be taken.
    pub fn severity(&self) -> Option<Severity> {
        let worst = |severity| self.said.iter().any(|said| said.severity == severity);
        [Severity::Error, Severity::Kernel, Severity::Warning]
            .into_iter()
            .find(|severity| worst(*severity))
    }
}

/// Reads a policy file and checks it.
pub fn read(path: &Path, host: &Host<'_>) -> Result<Check, Error> {
    let source = file::read(path).map_err(|reason| Error::Read {
        path: path.to_owned(),
        reason,
    })?;
    Ok(check(source, host))
}

/// Checks a policy. It is refused if anything but a warning is said.
pub fn check(source: Source, host: &Host<'_>) -> Check {
    let mut check = Check {
        source,
        mode: Mode::default(),
        rules: Vec::new(),
        said: Vec::new(),
        compiled: None,
        meanings: Vec::new(),
        text_ranges: None,
    };
    let file = match file::parse(&check.source.text) {
        Ok(file) => file,
        Err(error) => {
            check.said.push(error);
            return check;
        }
    };
    check.mode = file.mode();
    check.said.extend(file.old_forms(&check.source.text));
    let (compiled, meanings) = compile::compile(&file, host.cgroups, &mut check.said);
    if check.said.iter().all(Diagnostic::is_warning) {
        check.judge(&file, &compiled, &meanings, host);
        check.compiled = Some(compiled);
        check.meanings = meanings;
    }
    check.said.sort_by_key(|said| said.span.start);
    check
}

impl Check {
    fn judge(&mut self, file: &File, compiled: &Compiled, meanings: &[Meaning], host: &Host<'_>) {
        if file.rule.is_empty() {
            self.said.push(Diagnostic::warning(
                0..0,
                "there is no rule, so nothing is ever done",
                "write a [[rule]]",
            ));
        }
        let known: Vec<_> = compiled.rules.iter().zip(meanings).collect();
        for (i, (rule, meaning)) in known.iter().enumerate() {
            let written = &file.rule[i];
            let at = outcomes(rule.on, meaning, host.ways);
            self.said.extend(refusals(written, meaning, &at));
            if let Some(earlier) = (0..i).find(|j| shadow::covers(known[*j], known[i])) {
                self.said.push(Diagnostic::warning(
                    written.name.span(),
                    format!(
                        "rule {} never matches, because rule {} before it matches everything it \
                         does",
                        written.name.get_ref(),
                        file.rule[earlier].name.get_ref()
                    ),
                    "put it first, or make the other one narrower",
                ));
            }
            self.rules.push(Explained {
                name: written.name.get_ref().clone(),
                mode: rule.mode(),
                line: Place::find(&self.source.text, &written.name.span()).line,
                sentence: explain::sentence(written, rule.mode() == Mode::Enforce),
                ways: at
                    .into_iter()
                    .map(|(way, outcome)| AtWay {
                        way: way.map_or(BARE_PIN, Cause::name),
                        effect: outcome.effect,
                        reason: outcome.reason,
                    })
                    .collect(),
            });
        }
        match host
            .symbols
            .map(|symbols| consumers::text_ranges(symbols, &compiled.consumers))
        {
            Some(Ok(text_ranges)) => self.text_ranges = Some(text_ranges.len()),
            Some(Err(error)) => {
                let text = error.to_string();
                let (what, instead) = text.split_once("; ").unwrap_or((&text, ""));
                self.said.push(Diagnostic::kernel(0..0, what, instead));
            }
            None if compiled.consumers.is_empty() => self.text_ranges = Some(0),
            None => {}
        }
    }
}

type At = (Option<Cause>, Outcome);

/// What happens at each release path, and to bare pins (`None`).
fn outcomes(on: u32, meaning: &Meaning, ways: Option<&ReleasePaths>) -> Vec<At> {
    let wanted = &meaning.wanted;
    let mut outcomes = Vec::new();
    if on & on::ZOMBIE != 0 {
        outcomes.extend(RELEASE_PATHS.map(|cause| (Some(cause), wanted.at(cause, ways))));
    }
    if on & on::BARE_PIN != 0 {
        outcomes.push((None, wanted.at_bare_pin()));
    }
    outcomes
}

/// Refuses a rule for the release paths where nothing of what it says can be had: first those where no
/// kernel can, then those where another kernel could.
fn refusals(written: &file::Rule, meaning: &Meaning, at: &[At]) -> Vec<Diagnostic> {
    let mut said = Vec::new();
    for here in [false, true] {
        let lost = at
            .iter()
            .filter(|(_, outcome)| outcome.effect == Effect::Impossible && outcome.here == here);
        let lost: Vec<_> = lost.collect();
        if lost.is_empty() {
            continue;
        }
        let names: Vec<_> = lost
            .iter()
            .map(|(way, _)| way.map_or(BARE_PIN, Cause::name))
            .collect();
        let mut reasons: Vec<&str> = Vec::new();
        for (_, outcome) in &lost {
            let reason = outcome.reason.as_deref().unwrap_or_default();
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
        let span = match &written.fallback {
            Some(fallback) => fallback.span(),
            None => written.action.span(),
        };
        let action = meaning.wanted.action.name();
        let either = match meaning.wanted.fallback {
            Some(fallback) => format!("neither {action} nor {} can", fallback.name()),
            None => format!("{action} cannot"),
        };
        let place = if here { "on this kernel, " } else { "" };
        let what = format!(
            "rule {}: {place}{either} be had for {}: {}",
            written.name.get_ref(),
            names.join(", "),
            reasons.join("; ")
        );
        let instead = remedy(meaning.wanted.fallback, &lost);
        said.push(if here {
            Diagnostic::kernel(span, what, instead)
        } else {
            Diagnostic::error(span, what, instead)
        });
    }
    said
}

fn remedy(fallback: Option<Action>, lost: &[&At]) -> String {
    let bare = lost.iter().any(|(way, _)| way.is_none());
    let ways = lost.iter().any(|(way, _)| way.is_some());
    let leave_out = match (ways, bare) {
        (true, false) => "name in `cause` only release paths where it can",
        (false, _) => "leave \"bare-pin\" out of `on`",
        (true, true) => {
            "name in `cause` only release paths where it can and leave \"bare-pin\" out of `on`"
        }
    };
    match fallback {
        // A signal is no help where a hold is an unlock that cannot be denied.
        Some(Action::Stop | Action::Kill) => leave_out.to_owned(),
        _ => format!("write fallback = \"kill\" (or \"stop\" or \"report\"), or {leave_out}"),
    }
}
