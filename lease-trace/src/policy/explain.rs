//! A rule in one plain sentence.

use lease_trace_common::{lease::Kind, policy::Action};
use toml::Spanned;

use super::file::{Id, LeaseMode, List, Match, On, Rule};

/// What a rule does, and about what.
pub fn sentence(rule: &Rule, enforce: bool) -> String {
    let matching = &rule.matching;
    let on = rule
        .on
        .as_ref()
        .map_or(&[On::Zombie][..], |on| &on.get_ref().0);
    let (zombies, bare) = (on.contains(&On::Zombie), on.contains(&On::BarePin));
    let file = file(matching);
    let pins = |long: &str| pins(matching, long);
    let breach = match (zombies, bare) {
        (true, false) => format!(
            "{} on {file}{} while it holds {} on it",
            lets_go(matching),
            causes(matching),
            pins("")
        ),
        (false, _) => format!(
            "holds {} on {file} that no lease covers",
            pins("long-term ")
        ),
        (true, true) => format!(
            "{} on {file}{} while it holds {} on it, or holds {} on such a file that no lease covers",
            lets_go(matching),
            causes(matching),
            pins(""),
            pins("long-term "),
        ),
    };
    let mut text = format!(
        "{}: when a process{} {breach}, {}",
        rule.name.get_ref(),
        who(matching),
        clause(*rule.action.get_ref(), enforce)
    );
    if let Some(fallback) = &rule.fallback {
        text.push_str("; where it cannot be, ");
        text.push_str(&clause(*fallback.get_ref(), enforce));
    }
    text + "."
}

fn clause(action: Action, enforce: bool) -> String {
    let (who, done) = match action {
        Action::Report => return "it is reported".to_owned(),
        Action::Deny => ("the release", "denied"),
        Action::Hold => ("the file", "held until the pins are gone"),
        Action::Stop => ("the process", "stopped"),
        Action::Kill => ("the process", "killed"),
    };
    let verb = if enforce { "is" } else { "would be" };
    format!("{who} {verb} {done}")
}

fn who(matching: &Match) -> String {
    let mut parts = Vec::new();
    parts.extend(matching.uid.as_ref().map(|id| of("user", id.get_ref())));
    parts.extend(matching.gid.as_ref().map(|id| of("group", id.get_ref())));
    if let Some(cgroup) = &matching.cgroup {
        parts.push(format!("in cgroup {} or below", cgroup.get_ref()));
    }
    if let Some(comm) = &matching.comm {
        let comm = comm.get_ref();
        parts.push(match comm.strip_suffix('*') {
            Some(stem) if !comm.contains('?') => format!("whose name begins with \"{stem}\""),
            None if !comm.contains('?') => format!("named \"{comm}\""),
            _ => format!("whose name is like \"{comm}\""),
        });
    }
    let mut text = String::new();
    for part in parts {
        text = text + " " + &part;
    }
    text
}

fn of(noun: &str, id: &Id) -> String {
    let range = |text: &str| {
        let (low, high) = text.split_once('-')?;
        let number = |end: &str| end.parse::<u32>().ok();
        Some((number(low)?, number(high)?))
    };
    match id {
        Id::Number(number) => format!("of {noun} {number}"),
        Id::Text(text) => match range(text) {
            Some((low, high)) => format!("of {noun}s {low} to {high}"),
            None => format!("of {noun} {text}"),
        },
    }
}

fn lets_go(matching: &Match) -> String {
    let noun = |kind: &Kind| match kind {
        Kind::Lease => "lease",
        Kind::Deleg => "delegation",
        Kind::Layout => "layout",
    };
    let kinds = matching.kind.as_ref().map_or_else(
        || "lease".to_owned(),
        |kinds| list(kinds.get_ref().0.iter().map(noun)),
    );
    let mode = match matching.lease.as_ref().map(Spanned::get_ref) {
        None => "",
        Some(LeaseMode::Read) => "read ",
        Some(LeaseMode::Write) => "write ",
    };
    format!("releases a {mode}{kinds}")
}

fn file(matching: &Match) -> String {
    matching.path.as_ref().map_or_else(
        || "a file".to_owned(),
        |path| {
            let path = path.get_ref();
            if std::path::Path::new(path).is_file() {
                format!("the file {path}")
            } else {
                format!("a file below {path}")
            }
        },
    )
}

fn causes(matching: &Match) -> String {
    matching.cause.as_ref().map_or_else(String::new, |causes| {
        let names = causes
            .get_ref()
            .0
            .iter()
            .map(|cause| cause.get_ref().name());
        format!(" by {}", list(names))
    })
}

fn pins(matching: &Match, long: &str) -> String {
    let least = matching.min_pins.as_ref().map(|pins| *pins.get_ref());
    let mut text = match least {
        None | Some(0) => format!("{long}pins"),
        Some(1) => format!("at least 1 {long}pin"),
        Some(least) => format!("at least {least} {long}pins"),
    };
    if let Some(consumers) = &matching.consumer {
        let List(names) = consumers.get_ref();
        let names = list(names.iter().map(|name| name.get_ref().as_str()));
        text.push_str(" taken through ");
        text.push_str(&names);
    }
    text
}

/// `a`, `a or b`, `a, b or c`.
fn list<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<_> = words.collect();
    match words.as_slice() {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [rest @ .., last] => format!("{} or {last}", rest.join(", ")),
    }
}
