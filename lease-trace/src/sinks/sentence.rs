//! A record in one sentence, for a reader who has the rest in fields. Pure functions.

use super::text::{self, process as who};
use crate::record::{Corrected, Detail, File, Name, Record, RuleAction, Start, Transition};

pub fn of(record: &Record) -> String {
    match &record.detail {
        Detail::Transition(what) => match &what.rule_action {
            Some(rule_action) if is_rule_action(record.event) => {
                by_rule(record.event, what, rule_action)
            }
            _ => transition(record.event, what),
        },
        Detail::Start(start) => started(start),
        Detail::Corrected(what) => corrected(what),
        Detail::Lost(lost) => format!("lost {}: {}", lost.count, lost.what),
        Detail::End(end) => format!(
            "ended after {}: {}, {} lost, {} left",
            text::age(end.duration_ms),
            text::counted(end.events, "event"),
            end.lost,
            text::counted(end.zombies, "zombie"),
        ),
    }
}

/// Whether a record of this name is about what a rule came to. The end of a zombie may carry a
/// rule, too, and is about the zombie.
const fn is_rule_action(event: Name) -> bool {
    !matches!(
        event,
        Name::Zombie
            | Name::AtRest
            | Name::LeaseSet
            | Name::LeaseEnd
            | Name::BarePin
            | Name::BarePinEnd
            | Name::OrphanedPin
            | Name::OrphanEnd
    )
}

fn by_rule(event: Name, what: &Transition, rule_action: &RuleAction) -> String {
    format!(
        "{}: {} on {}, by rule {} ({} {})",
        event.text(),
        who(&what.owner.process),
        path(what),
        rule_action.rule,
        rule_action.action.name(),
        rule_action.outcome,
    )
}

fn transition(event: Name, what: &Transition) -> String {
    let owner = who(&what.owner.process);
    let path = path(what);
    let pins = text::counted(what.pins.unwrap_or(0), "pin");
    let cause = what
        .cause
        .map_or("?", lease_trace_common::cause::Cause::name);
    let through = what
        .source
        .consumer
        .as_deref()
        .map_or_else(String::new, |name| {
            let context = text::context(&what.source);
            let context = context.map_or_else(String::new, |context| format!(" ({context})"));
            format!(" through {}{context}", text::escape(name.as_bytes()))
        });
    let broken = what
        .breaker
        .as_ref()
        .map_or_else(String::new, |other| format!(", broken by {}", who(other)));
    match event {
        Name::Zombie => {
            let by = match &what.releaser {
                Some(other) if other.pid != what.owner.process.pid => {
                    format!(", released by {}", who(other))
                }
                _ => String::new(),
            };
            format!(
                "zombie: {owner} has {pins} on {path}{through} and no lease any more ({cause}{by}{broken})"
            )
        }
        Name::AtRest => {
            let after = what
                .zombie_ms
                .map_or_else(String::new, |ms| format!(" after {}", text::age(ms)));
            format!("at rest: the last pins of {owner} on {path} are gone{after}")
        }
        Name::BarePin => format!("bare pin: {owner} has {pins} on {path}{through} without a lease"),
        Name::BarePinEnd => {
            let after = what
                .pinned_ms
                .map_or_else(String::new, |ms| format!(" after {}", text::age(ms)));
            let by = match &what.releaser {
                Some(other) if other.pid != what.owner.process.pid => {
                    format!(", the last dropped by {}", who(other))
                }
                _ => String::new(),
            };
            format!("bare pin end: the pins of {owner} on {path} are gone{after}{by}")
        }
        Name::OrphanedPin => {
            let kept = what.orphan.holders.as_deref().map(text::people);
            let kept = kept.unwrap_or_default();
            format!(
                "orphaned pin: {owner} has {pins} on {path}{through} and dropped the leased file, \
                 which {kept} keeps"
            )
        }
        Name::OrphanEnd => {
            let end = what.orphan.end.unwrap_or("?");
            format!("orphan end: the pins of {owner} on {path} are orphaned no longer ({end})")
        }
        Name::LeaseSet => format!("{owner} has a lease on {path}"),
        Name::LeaseEnd => format!("the lease of {owner} on {path} has ended ({cause}{broken})"),
        _ => format!("{}: {owner} on {path}", event.text()),
    }
}

fn started(start: &Start) -> String {
    let policy = match &start.policy {
        Some(policy) => format!(
            "{} in {} mode",
            text::counted(policy.rules.len() as u64, "rule"),
            policy.mode.name()
        ),
        None => "no policy".to_owned(),
    };
    format!(
        "watches leases and pins on kernel {}; {policy}",
        start.kernel
    )
}

/// `corrected: 5 pins were counted on /tmp/f, and there are 0`
pub fn corrected(what: &Corrected) -> String {
    format!(
        "corrected: {} were counted on {}, and there are {}",
        text::counted(what.pins_counted, "pin"),
        path_of(&what.file),
        what.pins_found,
    )
}

fn path(what: &Transition) -> String {
    path_of(&what.file)
}

fn path_of(file: &File) -> String {
    let (path, deleted) = text::path(file.path.as_ref());
    format!("{path}{deleted}")
}

#[cfg(test)]
mod tests {
    use crate::fixtures;

    #[test]
    fn every_record_is_a_sentence() {
        let sentences: Vec<_> = fixtures::records().iter().map(super::of).collect();
        insta::assert_snapshot!(sentences.join("\n"), @r"
        watches leases and pins on kernel 6.12.117+deb13-amd64; 1 rule in enforce mode
        fio[982] has a lease on /tmp/f
        zombie: rdma-client[4711] has 256 pins on /srv/database/segments/000017.hot.db through rdma_rxe (15 uverbs0) and no lease any more (unlock)
        zombie: fio[982] has 4096 pins on /tmp/f through io_uring (15 [io_uring]) and no lease any more (break-timeout, released by fio-child[983], broken by cp[77])
        zombie: ib_write_bw[1048577] has 8 pins on /tmp/a\nb (deleted) through vfio (15 uverbs0) and no lease any more (killed)
        bare pin: xdpsock[5] has 64 pins on …/f without a lease
        bare pin end: the pins of xdpsock[5] on …/f are gone after 1.5s, the last dropped by kworker/u8:1[6]
        orphaned pin: fio[982] has 4096 pins on /tmp/f through io_uring (15 [io_uring]) and dropped the leased file, which fio-child[983] keeps
        orphan end: the pins of fio[982] on /tmp/f are orphaned no longer (pins-gone)
        at rest: the last pins of rdma-client[4711] on /srv/database/segments/000017.hot.db are gone after 12.3s
        the lease of fio[982] on /tmp/f has ended (close)
        denied: rdma-client[4711] on /srv/f, by rule rdma-exports (deny done)
        would-kill: rdma-client[4711] on /srv/f, by rule rdma-exports (kill would)
        spared: rdma-client[4711] on /srv/f, by rule rdma-exports (kill bystander)
        hold-end: rdma-client[4711] on /srv/f, by rule rdma-exports (hold limit)
        corrected: 5 pins were counted on /tmp/f, and there are 0
        lost 3: notifications found no room in the ring buffer
        ended after 20.0s: 5 events, 3 lost, 1 zombie left
        ");
    }
}
