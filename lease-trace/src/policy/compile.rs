//! From the file to the kernel side's records. Everything that can be wrong with a single rule on
//! any kernel is found here, all of it in one go.

use std::{ops::Range, path::Path};

use lease_trace_common::{
    cause::Cause,
    lease::{F_RDLCK, F_WRLCK},
    policy::{
        self, Action, CONSUMER_LEN, Mode, NAME_LEN, RULES, cause_bit, kind_bit, mode_bit, on,
    },
};
use toml::Spanned;

use super::{
    comm, consumers,
    diagnostic::Diagnostic,
    effect::Wanted,
    file::{self, File, LeaseMode, List, Match, On},
    ids::{self, Whose},
    resolve::{self, Place},
};
use crate::enrich::{
    cgroup::{Cgroups, Located},
    consumer,
};

/// How long a held file is kept after its process let it go, unless the policy says otherwise.
pub const HOLD_LIMIT_MS: u64 = 5 * 60 * 1000;
/// How long the pins of an ending process may last before they count.
pub const GRACE_MS: u64 = 2000;

/// A policy for the kernel side, but for the text ranges of its consumers, which change with the modules
/// that are loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    pub hold_limit_ms: u64,
    pub rules: Vec<policy::Rule>,
    /// Consumer number 1 first.
    pub consumers: Vec<String>,
    /// Some rule holds.
    pub holds: bool,
    /// Some rule watches bare pins.
    pub bare_pins: bool,
}

/// What is known of a rule beside its record.
#[derive(Debug)]
pub struct Meaning {
    pub path: Option<Place>,
    pub cgroup: Option<Located>,
    pub wanted: Wanted,
}

/// Compiles what has the right form. Diagnostics are added to `said`; with an error among them the
/// result is of no use.
pub fn compile(
    file: &File,
    cgroups: &Cgroups,
    said: &mut Vec<Diagnostic>,
) -> (Compiled, Vec<Meaning>) {
    let mut work = Compiler {
        cgroups,
        said,
        consumers: Vec::new(),
    };
    work.names(&file.rule);
    let rules = file.rule.iter();
    let (rules, meanings): (Vec<_>, Vec<_>) =
        rules.map(|rule| work.rule(rule, file.mode())).unzip();
    let hold_limit_ms = file.hold_limit_ms.as_ref().map_or(HOLD_LIMIT_MS, |limit| {
        if *limit.get_ref() == 0 {
            work.error(
                limit.span(),
                "a hold of 0 ms is none",
                "write the milliseconds a file may be held, or leave `hold_limit_ms` out",
            );
        }
        *limit.get_ref()
    });
    let consumers = work.consumers;
    let any = |test: fn(&policy::Rule) -> bool| rules.iter().any(test);
    let compiled = Compiled {
        hold_limit_ms,
        holds: any(|rule| [rule.action, rule.fallback].contains(&(Action::Hold as u32))),
        bare_pins: any(|rule| rule.on & on::BARE_PIN != 0),
        rules,
        consumers,
    };
    (compiled, meanings)
}

struct Compiler<'a> {
    cgroups: &'a Cgroups,
    said: &'a mut Vec<Diagnostic>,
    consumers: Vec<String>,
}

impl Compiler<'_> {
    fn error(&mut self, span: Range<usize>, what: impl Into<String>, instead: impl Into<String>) {
        self.said.push(Diagnostic::error(span, what, instead));
    }

    fn warning(&mut self, span: Range<usize>, what: impl Into<String>, instead: impl Into<String>) {
        self.said.push(Diagnostic::warning(span, what, instead));
    }

    /// Names are few enough, fit, and are not given twice.
    fn names(&mut self, rules: &[file::Rule]) {
        if let Some(rule) = rules.get(RULES as usize) {
            self.error(
                rule.name.span(),
                format!("this is rule {} of at most {RULES}", RULES + 1),
                "write one rule for what several do",
            );
        }
        for (i, rule) in rules.iter().enumerate() {
            let name = rule.name.get_ref();
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
            if name.is_empty() || name.len() >= NAME_LEN || !name.bytes().all(plain) {
                self.error(
                    rule.name.span(),
                    format!("`{name}` is no name for a rule"),
                    format!("write 1 to {} of A-Z a-z 0-9 . _ -", NAME_LEN - 1),
                );
            } else if rules[..i].iter().any(|other| other.name.get_ref() == name) {
                self.error(
                    rule.name.span(),
                    format!("a rule before has the name {name}, too"),
                    "give each rule a name of its own",
                );
            }
        }
    }

    fn rule(&mut self, rule: &file::Rule, of_policy: Mode) -> (policy::Rule, Meaning) {
        let on = self.on(rule);
        let matching = &rule.matching;
        let (path, cgroup) = (self.path(matching), self.cgroup(matching));
        let comm = self.comm(matching);
        let causes = self.causes(matching);
        self.actions(rule);
        if on == on::BARE_PIN {
            self.of_a_lease(matching);
        }
        let action = *rule.action.get_ref();
        let fallback = rule.fallback.as_ref().map(|action| *action.get_ref());
        let mut name = [0; NAME_LEN];
        for (to, from) in name[..NAME_LEN - 1]
            .iter_mut()
            .zip(rule.name.get_ref().bytes())
        {
            *to = from;
        }
        let record = policy::Rule {
            name,
            grace_ms: rule.grace_ms.as_ref().map_or(GRACE_MS, |ms| *ms.get_ref()),
            min_pins: self.min_pins(matching),
            comm_mask: comm.mask,
            comm_bits: comm.bits,
            cgroup: cgroup.as_ref().map_or(0, |cgroup| cgroup.id),
            cgroup_level: cgroup.as_ref().map_or(0, |cgroup| cgroup.level),
            path_ino: path.as_ref().map_or(0, |path| path.ino),
            path_dev: path.as_ref().map_or(0, |path| path.dev),
            consumers: self.consumers(matching),
            uid: self.ids(matching.uid.as_ref(), Whose::User),
            gid: self.ids(matching.gid.as_ref(), Whose::Group),
            action: action as u32,
            fallback: fallback.unwrap_or_default() as u32,
            on,
            kinds: self.kinds(matching),
            modes: matching.lease.as_ref().map_or(u32::MAX, |mode| {
                mode_bit(match mode.get_ref() {
                    LeaseMode::Read => F_RDLCK,
                    LeaseMode::Write => F_WRLCK,
                })
            }),
            causes,
            // Known when it is put in force.
            row: 0,
            audits: u32::from(rule.mode(of_policy) == Mode::Audit),
        };
        let meaning = Meaning {
            path,
            cgroup,
            wanted: Wanted {
                action,
                fallback,
                causes,
            },
        };
        (record, meaning)
    }

    fn on(&mut self, rule: &file::Rule) -> u32 {
        let Some(list) = &rule.on else {
            return on::ZOMBIE;
        };
        self.not_empty(list);
        list.get_ref().0.iter().fold(0, |set, on| {
            set | match on {
                On::Zombie => on::ZOMBIE,
                On::BarePin => on::BARE_PIN,
            }
        })
    }

    fn not_empty<T>(&mut self, list: &Spanned<List<T>>) {
        if list.get_ref().0.is_empty() {
            self.error(
                list.span(),
                "an empty list",
                "name at least one, or leave the key out",
            );
        }
    }

    fn path(&mut self, matching: &Match) -> Option<Place> {
        let path = matching.path.as_ref()?;
        match resolve::place(Path::new(path.get_ref())) {
            Ok(place) => {
                let why = match place.fs.as_str() {
                    "overlay" => "overlayfs shows other inode numbers than it has inside",
                    "btrfs" => "btrfs gives the same inode numbers in each subvolume",
                    _ => return Some(place),
                };
                self.warning(
                    path.span(),
                    format!("{why}, so the rule may match too little or too much here"),
                    "try it in audit mode first",
                );
                Some(place)
            }
            Err(error) => {
                self.error(path.span(), error.to_string(), error.instead());
                None
            }
        }
    }

    fn cgroup(&mut self, matching: &Match) -> Option<Located> {
        let cgroup = matching.cgroup.as_ref()?;
        match self.cgroups.locate(Path::new(cgroup.get_ref())) {
            Ok(found) => Some(found),
            Err(error) => {
                let text = error.to_string();
                let (what, instead) = text.split_once("; ").unwrap_or((&text, ""));
                self.error(cgroup.span(), what, instead);
                None
            }
        }
    }

    fn comm(&mut self, matching: &Match) -> comm::Pattern {
        let Some(pattern) = &matching.comm else {
            return comm::Pattern::default();
        };
        comm::compile(pattern.get_ref()).unwrap_or_else(|error| {
            self.error(pattern.span(), error.to_string(), error.instead());
            comm::Pattern::default()
        })
    }

    fn ids(&mut self, id: Option<&Spanned<file::Id>>, whose: Whose) -> [u32; 2] {
        const ANY: [u32; 2] = [0, u32::MAX];
        let Some(id) = id else {
            return ANY;
        };
        ids::range(id.get_ref(), whose).unwrap_or_else(|(what, instead)| {
            self.error(id.span(), what, instead);
            ANY
        })
    }

    fn kinds(&mut self, matching: &Match) -> u32 {
        let Some(kinds) = &matching.kind else {
            return u32::MAX;
        };
        self.not_empty(kinds);
        let kinds = kinds.get_ref().0.iter();
        kinds.fold(0, |set, kind| set | kind_bit(*kind))
    }

    fn causes(&mut self, matching: &Match) -> u32 {
        let Some(causes) = &matching.cause else {
            return policy::USUAL_CAUSES;
        };
        self.not_empty(causes);
        let mut set = 0;
        for cause in &causes.get_ref().0 {
            if *cause.get_ref() == Cause::Kernel {
                self.error(
                    place(cause, causes),
                    "a lease of the kernel's own (nfsd) is never touched",
                    "leave `kernel` out",
                );
            }
            set |= cause_bit(*cause.get_ref() as u32);
        }
        set
    }

    fn min_pins(&mut self, matching: &Match) -> u64 {
        let Some(pins) = &matching.min_pins else {
            return 0;
        };
        if *pins.get_ref() == 0 {
            self.error(
                pins.span(),
                "there is no breach without a pin",
                "write 1 or more, or leave `min_pins` out",
            );
        }
        *pins.get_ref()
    }

    /// Numbers the consumers in the order in which the policy names them.
    fn consumers(&mut self, matching: &Match) -> u64 {
        let Some(names) = &matching.consumer else {
            return 0;
        };
        self.not_empty(names);
        let mut set = 0;
        for name in &names.get_ref().0 {
            let (span, name) = (place(name, names), name.get_ref());
            if !self.is_consumer(&span, name) {
                continue;
            }
            let known = self.consumers.iter().position(|known| known == name);
            let index = known.unwrap_or_else(|| {
                self.consumers.push(name.clone());
                self.consumers.len() - 1
            });
            if index == consumers::MOST {
                self.error(
                    span,
                    format!("a policy names {} consumers at most", consumers::MOST),
                    "leave this one out",
                );
            }
            set |= 1_u64.checked_shl(index as u32 + 1).unwrap_or_default();
        }
        set
    }

    fn is_consumer(&mut self, span: &Range<usize>, name: &str) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
        if name.is_empty() || name.len() > CONSUMER_LEN || !name.bytes().all(plain) {
            self.error(
                span.clone(),
                format!("`{name}` is no name of a consumer"),
                "write it as CONSUMER in `lease-trace report` shows it",
            );
            return false;
        }
        let known = consumer::known();
        if known.contains(&name) {
            return true;
        }
        // Frames of modules have their names with underscores.
        let module = name.replace('-', "_");
        let called = lease_trace_common::consumer::name_of(&module);
        if called != name {
            self.error(
                span.clone(),
                format!("no consumer is called {name}"),
                format!("write \"{called}\""),
            );
            return false;
        }
        if !Path::new("/sys/module").join(name).exists() {
            self.warning(
                span.clone(),
                format!("no consumer and no loaded module is called {name}"),
                format!("write the name of a module, or one of {}", known.join(", ")),
            );
        }
        true
    }

    fn actions(&mut self, rule: &file::Rule) {
        let action = *rule.action.get_ref();
        let Some(fallback) = &rule.fallback else {
            return;
        };
        let name = fallback.get_ref().name();
        if matches!(action, Action::Report | Action::Stop | Action::Kill) {
            self.error(
                fallback.span(),
                format!(
                    "`fallback` is for deny and hold; {} can always be had",
                    action.name()
                ),
                "leave it out",
            );
        } else if *fallback.get_ref() == action {
            self.error(
                fallback.span(),
                format!("`{name}` is the action itself"),
                "write \"kill\", \"stop\" or \"report\"",
            );
        } else if *fallback.get_ref() == Action::Deny {
            self.error(
                fallback.span(),
                "what cannot be held cannot be denied, either",
                "write \"kill\", \"stop\" or \"report\"",
            );
        }
    }

    /// What a rule for bare pins alone cannot ask for.
    fn of_a_lease(&mut self, matching: &Match) {
        let spans = [
            ("lease", matching.lease.as_ref().map(Spanned::span)),
            ("kind", matching.kind.as_ref().map(Spanned::span)),
            ("cause", matching.cause.as_ref().map(Spanned::span)),
        ];
        for (key, span) in spans {
            if let Some(span) = span {
                self.error(
                    span,
                    format!("a bare pin has no lease, so `{key}` says nothing about it"),
                    "leave it out, or add \"zombie\" to `on`",
                );
            }
        }
    }
}

/// Where an item of a list is; the only word of one that is not in brackets is all of it.
fn place<T>(item: &Spanned<T>, list: &Spanned<List<Spanned<T>>>) -> Range<usize> {
    let span = item.span();
    if span.is_empty() { list.span() } else { span }
}
