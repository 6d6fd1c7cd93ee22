//! What a rule comes to at one release path: what the process sees, what /proc/locks shows, what is
//! told, and that lease and pins are gone in the end.

use std::collections::BTreeMap;

use super::actor::Fate;
use super::{Actor, Holder, Monitor, PAGES, Pinned, ReleasePath, Subject, eventually, leases_on};

/// What a rule that says `action` comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// EBUSY and the lease is still there.
    Denied,
    /// The lease outlives the release until the pins are gone.
    Held,
    /// SIGSTOP, and the lease is gone.
    Stopped,
    /// SIGKILL, and lease and pins are gone.
    Killed,
    /// The lease is gone, and this event says so.
    Told(&'static str),
    /// The process goes, its lease and pins with it; nothing is done.
    Ending,
}

impl Outcome {
    /// Of `action` with `fallback` at this release path, in enforce mode.
    pub fn of(action: &str, fallback: &str, way: &ReleasePath, deniable: &[String]) -> Self {
        let deniable = !way.passes_by() && deniable.iter().any(|cause| cause == way.cause);
        let applies = match action {
            "deny" if !deniable => fallback,
            "hold" if way.cause == "unlock" => "deny",
            "hold" if way.cause == "break-timeout" => fallback,
            other => other,
        };
        match applies {
            _ if way.ends() => Self::Ending,
            "report" => Self::Told("reported"),
            // Who has no pins of his own is refused nothing.
            "deny" if way.is_bystanders() => Self::Told("spared"),
            "deny" => Self::Denied,
            "hold" => Self::Held,
            // Nobody is stopped or killed for what another process did.
            _ if way.is_bystanders() => Self::Told("spared"),
            "stop" => Self::Stopped,
            _ => Self::Killed,
        }
    }

    /// The same in audit mode.
    pub const fn would(self) -> Self {
        match self {
            Self::Denied => Self::Told("would-deny"),
            Self::Held => Self::Told("would-hold"),
            Self::Stopped => Self::Told("would-stop"),
            Self::Killed => Self::Told("would-kill"),
            other => other,
        }
    }

    /// The word under which `enforce status` counts it; nothing if it is no hit.
    fn hit(self, way: &ReleasePath, holds: bool) -> Option<&'static str> {
        match self {
            // Somebody else is current than the one meant.
            Self::Stopped if way.is_kernels() => Some("stopped-by-monitor"),
            Self::Killed if way.is_kernels() => Some("killed-by-monitor"),
            // The lease outlives the process, so there is no zombie.
            Self::Ending if holds => None,
            Self::Denied => Some("denied"),
            Self::Held => None,
            Self::Stopped => Some("stopped"),
            Self::Killed => Some("killed"),
            Self::Told("spared") => Some("bystander"),
            Self::Told(event) => Some(event),
            Self::Ending => Some("ending"),
        }
    }
}

/// A trial of one rule.
pub struct Trial<'a> {
    pub monitor: &'a Monitor,
    pub rule: &'static str,
    pub holder: Holder,
    /// The rule holds: the monitor takes a duplicate of each file.
    pub holds: bool,
    /// What was counted, as `enforce status` has it.
    pub hits: BTreeMap<&'static str, usize>,
}

impl Trial<'_> {
    /// Takes one release path and sees what comes of it.
    pub fn run(&mut self, way: &ReleasePath, path: &str, expected: Outcome) {
        eprintln!("{}: {} -> {expected:?}", self.rule, way.name);
        let Self {
            monitor, holder, ..
        } = *self;
        let pinned = Pinned::now();
        let mut actor = Actor::start();
        let pid = actor.pid();
        let file = holder.open(&actor, path);
        if self.holds {
            monitor.expect_of("held", pid);
        }
        if way.prepare(&actor, holder) && self.holds {
            monitor.expect_of("hold-end", pid);
            monitor.expect_of("held", pid);
        }
        assert_eq!(leases_on(&file).len(), 1, "{way:?}");
        let fate = way.take(&mut actor, &file);
        self.check(way, &actor, &file, fate, expected);
        let gone = matches!(expected, Outcome::Killed | Outcome::Ending);
        if expected == Outcome::Stopped {
            actor.go_on(fate == Fate::Stopped);
        }
        if !gone {
            assert_eq!(pinned.since(), PAGES, "{way:?}");
            actor.ok(way.unpin(holder));
        }
        if self.holds && way.cause != "break-timeout" {
            let end = monitor.expect_of("hold-end", pid);
            assert_eq!(end["outcome"], "pins-gone", "{end}");
        }
        if expected == Outcome::Denied {
            assert_eq!(leases_on(&file).len(), 1, "{way:?}");
            assert_eq!(
                way.take(&mut actor, &file),
                Fate::Ok,
                "without pins: {way:?}"
            );
        }
        let leases = || leases_on(&file).is_empty();
        assert!(eventually(leases), "{way:?}: {:?}", leases_on(&file));
        drop(actor);
        pinned.assert_balanced();
        if let Some(hit) = expected.hit(way, self.holds) {
            // Of a process that ends, a kworker may take the ring down before the file is closed:
            // then there is no zombie, and nothing to count.
            let hits = if expected == Outcome::Ending {
                monitor.barrier();
                monitor.count(pid, "zombie")
            } else {
                1
            };
            if hits > 0 {
                *self.hits.entry(hit).or_default() += hits;
            }
        }
    }

    fn check(
        &self,
        way: &ReleasePath,
        actor: &Actor,
        file: &Subject,
        fate: Fate,
        expected: Outcome,
    ) {
        let monitor = self.monitor;
        let pid = actor.pid();
        let leases = || leases_on(file).len();
        let at_once = leases();
        let (seen, remain, event, outcome) = match expected {
            Outcome::Denied => (Fate::Refused(libc::EBUSY), 1, "denied", "done"),
            Outcome::Held => (Fate::Ok, 1, "", ""),
            Outcome::Stopped => (Fate::Stopped, 0, "stopped", "done"),
            Outcome::Killed => (Fate::Killed(libc::SIGKILL), 0, "killed", "done"),
            Outcome::Told(event @ "spared") => (Fate::Ok, 0, event, "bystander"),
            Outcome::Told(event @ "reported") => (Fate::Ok, 0, event, "done"),
            Outcome::Told(event) => (Fate::Ok, 0, event, "would"),
            Outcome::Ending if way.cause == "exit" => (Fate::Exited(3), 0, "", ""),
            Outcome::Ending => (Fate::Killed(libc::SIGKILL), 0, "", ""),
        };
        // The command is done, whoever gave it; the signal is for the holder, and comes later.
        if way.is_kernels() || way.is_beside() && fate == Fate::Ok {
            assert_eq!(fate, Fate::Ok, "{way:?}");
            assert!(actor.comes_to(seen), "{way:?}: no {seen:?}");
        } else {
            assert_eq!(fate, seen, "{way:?}\n{}", monitor.account());
        }
        // A process that ends may have its file closed by a kworker.
        if !matches!(expected, Outcome::Ending | Outcome::Killed) {
            if way.is_late() {
                assert!(eventually(|| leases() == remain), "{way:?}");
            } else {
                assert_eq!(at_once, remain, "{way:?}");
            }
        }
        if !event.is_empty() {
            let told = monitor.expect_of(event, pid);
            assert_eq!(told["rule"], self.rule, "{told}");
            assert_eq!(told["outcome"], outcome, "{told}");
            assert_eq!(told["path"], file.path.as_str(), "{told}");
            assert_eq!(told["cause"], way.cause, "{told}");
            assert_eq!(told["pins"], PAGES, "{told}");
        }
        if expected == Outcome::Killed {
            let rest = monitor.expect_of("at-rest", pid);
            assert_eq!(rest["outcome"], "verified", "{rest}");
            assert_eq!(rest["rule"], self.rule, "{rest}");
        }
    }
}
