//! What comes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::chown;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::call::{Call, Calls, FILES};
use crate::harness::{
    Actor, Enforcement, Follower, Monitor, Pinned, Scratch, Sentinel, Setting, eventually,
    leases_in, open_lease_and_pin, state_of,
};

const USER: u32 = 1000;
/// Others.
const INNOCENT: u32 = 2000;
const VICTIM: u32 = 3000;
/// How long a call may take, on a processor that is emulated and shared.
const LONG: Duration = Duration::from_secs(10);
/// What comes of a call may take so long: a kworker takes rings down, a monitor signals.
const SETTLED: Duration = Duration::from_secs(8);
const RULE: &str =
    "mode = \"enforce\"\n[[rule]]\nname = \"r\"\naction = \"deny\"\nfallback = \"kill\"\n";
/// What a rule may come to for pins that were left.
const ACTED: [&str; 5] = ["killed", "stopped", "spared", "failed", "reported"];

type Stake = (i64, i64);

/// Everything at one moment.
struct Look {
    /// State and pins, by pid and inode number.
    stakes: BTreeMap<Stake, (String, i64)>,
    pinned: i64,
    leased: BTreeSet<i64>,
}

pub struct Watch {
    scratch: Scratch,
    directory: String,
    dev: String,
    pinned: Pinned,
    _enforcement: Enforcement,
    monitor: Monitor,
    follower: Follower,
    /// Speaks to his processes, and closes what they send it.
    root: Actor,
    innocent: Actor,
    first: i64,
    sentinel: Sentinel,
    /// Of this round.
    told: Vec<Value>,
    before: BTreeMap<Stake, (String, i64)>,
    victims: u32,
    /// How often which came up.
    pub seen: BTreeMap<String, u32>,
    _settings: [Setting; 2],
}

fn field(value: &Value, name: &str) -> i64 {
    value[name].as_i64().unwrap_or_default()
}

impl Watch {
    pub fn new() -> Self {
        let scratch = Scratch::new();
        let directory = scratch.file("his");
        fs::create_dir(&directory).expect("a directory");
        chown(&directory, Some(USER), Some(USER)).expect("its owner");
        let enforcement = Enforcement::start(RULE);
        let monitor = enforcement.monitor();
        monitor.forget();
        let sentinel = Sentinel::new(&scratch);
        let theirs = scratch.file("theirs");
        fs::create_dir(&theirs).expect("a directory");
        chown(&theirs, Some(INNOCENT), None).expect("its owner");
        let innocent = Actor::start();
        innocent.all(&[&format!("setuid {INNOCENT}"), "uring r"]);
        innocent.ok(&format!("open f {theirs}/f rw,creat"));
        innocent.all(&["write-all f 64K", "mmap m f 64K shared rw"]);
        Self {
            directory,
            dev: sentinel.dev.clone(),
            pinned: Pinned::now(),
            _enforcement: enforcement,
            monitor,
            follower: Follower::of("stakes"),
            root: Actor::start(),
            innocent,
            first: 0,
            sentinel,
            told: Vec::new(),
            before: BTreeMap::new(),
            victims: 0,
            seen: BTreeMap::new(),
            _settings: [
                Setting::set("fs/lease-break-time", "1"),
                // /proc/locks is not written before all CPUs have been waited for.
                Setting::of_sysfs("kernel/rcu_expedited", "1"),
            ],
            scratch,
        }
    }

    /// New processes of his.
    pub fn begin(&mut self) {
        self.first = self.root.fork("a");
        let of = |name| format!("{}/{name}", self.directory);
        for command in [
            &format!("setuid {USER}"),
            "signals ignore IO",
            &format!("open f {} rw,creat", of("one")),
            "write-all f 64K",
            "mmap m f 64K shared rw",
            &format!("open g {} rw,creat", of("two")),
            "write-all g 64K",
            "mmap n g 64K shared rw",
            "uring r",
            "uring s",
        ] {
            self.root.ok(&format!("a: {command}"));
        }
        self.told.clear();
        self.before.clear();
    }

    /// Whether his first process is gone: a rule has ended it.
    pub fn is_over(&self) -> bool {
        matches!(state_of(self.first), None | Some('Z'))
    }

    /// Makes a call, and looks what came of it.
    pub fn step(&mut self, call: &Call, calls: &mut Calls) -> Result<(), String> {
        let begun = Instant::now();
        match call {
            Call::Client(command) => self.client(command, calls),
            Call::Rename(from, to) => {
                let path = |name| format!("{}/{name}", self.directory);
                _ = fs::rename(path(from), path(to));
            }
            Call::Link(from, to) => {
                let path = |name| format!("{}/{name}", self.directory);
                _ = fs::hard_link(path(from), path(to));
            }
            Call::Send(command) => self.send(command)?,
            Call::Innocent => self.keep_rules()?,
        }
        if begun.elapsed() > LONG {
            return Err(format!("it took {:?}", begun.elapsed()));
        }
        self.compare()
    }

    fn client(&mut self, command: &str, calls: &mut Calls) {
        let mut told = command.to_owned();
        for file in FILES {
            told = told.replace("FILE", &format!("{}/{file}", self.directory));
        }
        let went_well = self.root.try_usage(&format!("a: {told}"));
        if went_well {
            self.count(command.split(' ').next().unwrap_or_default());
        }
        calls.heed(command, went_well);
        if matches!(command, "kill c KILL" | "c: exit 0") {
            _ = self.root.try_usage("a: wait c");
            calls.heed("wait c", true);
        }
    }

    /// A process that only received a descriptor is refused nothing.
    fn send(&mut self, command: &str) -> Result<(), String> {
        if !self.root.try_usage(&format!("a: {command}")) {
            return Ok(());
        }
        self.count("sent");
        self.root.ok("recv-fd d a");
        self.root
            .attempt("close d")
            .map(drop)
            .map_err(|refusal| format!("who received a descriptor cannot close it: {refusal}"))
    }

    fn keep_rules(&mut self) -> Result<(), String> {
        for command in [
            "setlease f w",
            "register-buffers r m",
            "unregister-buffers r",
            "setlease f u",
        ] {
            self.innocent
                .attempt(command)
                .map_err(|refusal| format!("who keeps the rules, `{command}`: {refusal}"))?;
        }
        self.count("innocent");
        Ok(())
    }

    fn count(&mut self, what: &str) {
        *self.seen.entry(what.to_owned()).or_default() += 1;
    }

    /// What was told until now.
    fn hear(&mut self) {
        let event = self.sentinel.step();
        let taken = self.sentinel.told_until(&self.monitor, event);
        self.told.extend(taken);
    }

    fn look(&mut self) -> Look {
        self.hear();
        self.follower.begin();
        let pinned = self.pinned.since();
        let leased = leases_in(&self.dev).into_iter().map(|lease| lease.ino);
        let leased = leased.collect();
        let report = self.follower.answer();
        let rows = report["stakes"].as_array().expect("a list").iter();
        let stakes = rows
            .filter(|row| field(row, "pins") > 0)
            .map(|row| {
                let state = row["state"].as_str().unwrap_or_default().to_owned();
                let key = (field(row, "pid"), field(row, "ino"));
                (key, (state, field(row, "pins")))
            })
            .collect();
        Look {
            stakes,
            pinned,
            leased,
        }
    }

    /// Until all is as it must be, or has not come to that in time.
    fn compare(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + SETTLED;
        loop {
            let look = self.look();
            let Some(wrong) = self.wrong(&look) else {
                for (state, _) in look.stakes.values() {
                    *self.seen.entry(state.clone()).or_default() += 1;
                }
                // What was told of what is over says nothing of what comes after.
                self.told.retain(|event| {
                    look.stakes
                        .contains_key(&(field(event, "pid"), field(event, "ino")))
                });
                self.before = look.stakes;
                return Ok(());
            };
            if Instant::now() > deadline {
                let about: Vec<_> = self.told.iter().map(Value::to_string).collect();
                return Err(format!("{wrong}\ntold: {}", about.join("\n")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn was_told(&self, stake: Stake, events: &[&str]) -> bool {
        self.told.iter().any(|event| {
            (field(event, "pid"), field(event, "ino")) == stake
                && event["event"]
                    .as_str()
                    .is_some_and(|name| events.contains(&name))
        })
    }

    /// A lease that somebody else wanted broken: no rule names that.
    fn timed_out(&self, stake: Stake) -> bool {
        self.told.iter().any(|event| {
            (field(event, "pid"), field(event, "ino")) == stake
                && event["event"] == "zombie"
                && event["cause"] == "break-timeout"
        })
    }

    fn wrong(&self, look: &Look) -> Option<String> {
        let counted: i64 = look.stakes.values().map(|(_, pins)| pins).sum();
        if counted != look.pinned {
            return Some(format!(
                "the kernel has {} pins, and {counted} are counted: {:?}",
                look.pinned, look.stakes
            ));
        }
        look.stakes.iter().find_map(|(stake, (state, pins))| {
            let about = format!("{pins} pins of process {} in inode {}", stake.0, stake.1);
            match state.as_str() {
                "covered" if !look.leased.contains(&stake.1) => {
                    Some(format!("{about} are covered by no lease"))
                }
                "bare-pin"
                    if self
                        .before
                        .get(stake)
                        .is_some_and(|(was, _)| was == "covered") =>
                {
                    Some(format!("{about} were covered, and are bare"))
                }
                "bare-pin" if !self.was_told(*stake, &["bare-pin"]) => {
                    Some(format!("nothing was told of {about}, which are bare"))
                }
                "zombie" if !self.was_told(*stake, &["zombie"]) => {
                    Some(format!("nothing was told of {about}, a zombie"))
                }
                "zombie" if !self.was_told(*stake, &ACTED) && !self.timed_out(*stake) => {
                    Some(format!("no rule came to anything for {about}, a zombie"))
                }
                _ => None,
            }
        })
    }

    /// His processes end, and nothing is left of them.
    pub fn end(&mut self) -> Result<(), String> {
        if !self.is_over() {
            _ = self.root.try_usage("kill a KILL");
        }
        _ = self.root.try_usage("wait a");
        for file in FILES {
            _ = fs::remove_file(format!("{}/{file}", self.directory));
        }
        let deadline = Instant::now() + SETTLED;
        loop {
            let look = self.look();
            let own: i64 = i64::from(self.sentinel.is_leased());
            let leases = look.leased.len() as i64 - own;
            if look.stakes.is_empty() && look.pinned == 0 && leases == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "left when all have ended: {:?}, {} pins, {leases} leases",
                    look.stakes, look.pinned
                ));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Whatever he did, rules apply to others.
    pub fn others_are_judged(&mut self) {
        self.victims += 1;
        let directory = self.scratch.file(&format!("victim-{}", self.victims));
        fs::create_dir(&directory).expect("a directory");
        chown(&directory, Some(VICTIM), None).expect("its owner");
        let victim = Actor::start();
        victim.ok(&format!("setuid {VICTIM}"));
        open_lease_and_pin(&victim, &format!("{directory}/f"));
        victim.err("setlease f u", libc::EBUSY);
        victim.all(&["unregister-buffers ring", "setlease f u"]);
        drop(victim);
        assert!(eventually(|| self.pinned.since() == 0));
    }
}
