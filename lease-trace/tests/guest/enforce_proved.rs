//! Nobody is touched for a count that the kernel does not confirm, whichever way the lease goes, and with no
//! monitor there.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{
    Actor, Fate, Holder, Monitor, Pinned, ReleasePath, Scratch, Setting, Tool, eventually,
    leases_on, no_monitor, open_lease_and_pin, release_paths,
};

/// Enforcement of the scenario's own, whose hooks can be kept from running.
struct ByKprobes {
    _policy: Scratch,
}

impl ByKprobes {
    fn start() -> Self {
        no_monitor();
        let policy = Scratch::new();
        let path = policy.file("policy.toml");
        let rule = "mode = \"enforce\"\n[[rule]]\nname = \"r\"\naction = \"kill\"\n\
                    [[rule]]\nname = \"late\"\nmatch.cause = \"break-timeout\"\naction = \"kill\"\n";
        std::fs::write(&path, rule).expect("writes the policy");
        let start = ["enforce", "start", "--attach", "kprobe", "--policy", &path];
        Tool::run(&start).exits(0);
        Self { _policy: policy }
    }

    /// What both rules came to.
    fn hits() -> [Value; 2] {
        let status = Tool::run(&["enforce", "status", "-J"]).exits(0).json();
        [0, 1].map(|rule| status["rules"][rule]["hits"].clone())
    }
}

impl Drop for ByKprobes {
    fn drop(&mut self) {
        Tool::run(&["enforce", "stop"]);
    }
}

/// The hooks are kept from running, and nothing counts that.
fn unseen(actor: &Actor, command: &str) {
    let _off = Setting::of_sysfs("kernel/debug/kprobes/enabled", "0");
    actor.ok(command);
}

/// The drop of the pins was missed: whoever then lets the lease go has done everything right.
#[test]
fn nobody_is_killed_for_pins_that_are_gone() {
    let scratch = Scratch::new();
    let _in_force = ByKprobes::start();
    for (number, way) in release_paths().iter().enumerate() {
        if !way.ends() {
            is_left_alone(way, &scratch.file(&number.to_string()));
        }
    }
    assert_eq!(ByKprobes::hits(), [json!({}), json!({})]);
    let status = Tool::run(&["enforce", "status", "-J"]).exits(0).json();
    let lost = status["lost"].to_string();
    assert!(lost.contains("were gone, and taken out"), "{lost}");
    let mut actor = Actor::start();
    open_lease_and_pin(&actor, &scratch.file("in-force"));
    assert_eq!(actor.fate("setlease f u"), Fate::Killed(libc::SIGKILL));
}

fn is_left_alone(way: &ReleasePath, path: &str) {
    let pinned = Pinned::now();
    let mut actor = Actor::start();
    let file = open_lease_and_pin(&actor, path);
    way.prepare(&actor, Holder::Ring);
    unseen(&actor, "unregister-buffers ring");
    assert_eq!(way.take(&mut actor, &file), Fate::Ok, "{}", way.name);
    assert!(eventually(|| leases_on(&file).is_empty()), "{}", way.name);
    actor.ok("pid");
    assert_eq!(pinned.since(), 0, "{}", way.name);
}

/// A process with a lease, and a child that has pins in the same file, `pages` long.
fn two_owners(scratch: &Scratch, pages: &str) -> Actor {
    let actor = Actor::start();
    open_lease_and_pin(&actor, &scratch.file("f"));
    actor.fork("child");
    actor.all(&[
        &format!("child: mmap n f {pages} shared rw"),
        "child: uring own",
        "child: register-buffers own n",
    ]);
    actor
}

/// Two have pins in one file, and fewer are pinned than both were counted: who lets go of the lease may be the
/// one who has none left.
#[test]
fn nobody_is_killed_for_what_may_be_another_s() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let _in_force = ByKprobes::start();
    let actor = two_owners(&scratch, "1M");
    unseen(&actor, "unregister-buffers ring");
    actor.ok("setlease f u");
    assert_eq!(actor.ok("pid"), actor.pid().to_string());
    // The child has no part in it.
    let expected = json!({ "killed-by-monitor": 1, "bystander": 1 });
    assert_eq!(ByKprobes::hits(), [expected, json!({})]);
    actor.ok("child: unregister-buffers own");
    pinned.assert_balanced();
}

/// Fewer are missing than he has: some are his, whoever misses the others.
#[test]
fn a_helper_whose_pins_are_missing_spares_nobody() {
    let scratch = Scratch::new();
    let _in_force = ByKprobes::start();
    let mut actor = two_owners(&scratch, "64K");
    unseen(&actor, "child: unregister-buffers own");
    assert_eq!(actor.fate("setlease f u"), Fate::Killed(libc::SIGKILL));
}

/// What passed on doubt is judged once it is known, from what keeps the pins, whose they are.
#[test]
fn who_passed_on_doubt_is_killed_when_the_pins_are_found_to_be_his() {
    let scratch = Scratch::new();
    let _in_force = ByKprobes::start();
    let monitor = Monitor::of_enforcement();
    for is_guilty in [false, true] {
        let actor = two_owners(&scratch, "1M");
        unseen(
            &actor,
            if is_guilty {
                "child: unregister-buffers own"
            } else {
                "unregister-buffers ring"
            },
        );
        actor.ok("setlease f u");
        let zombie = monitor.expect_of("zombie", actor.pid());
        if is_guilty {
            assert!(actor.comes_to(Fate::Killed(libc::SIGKILL)), "{zombie}");
            let killed = monitor.expect_of("killed", actor.pid());
            assert_eq!(
                (&killed["cause"], &killed["rule"]),
                (&"unlock".into(), &"r".into()),
                "{killed}"
            );
        } else {
            std::thread::sleep(LONG);
            assert_eq!(actor.ok("pid"), actor.pid().to_string());
            monitor.none_for(actor.pid(), "killed");
        }
    }
}

/// Longer than it takes to put the books right and to ask what keeps the pins.
const LONG: Duration = Duration::from_secs(6);
