//! Nobody is touched for a count that the kernel does not confirm, whichever way the lease goes, and with no
//! monitor there.

use serde_json::json;

use crate::harness::{
    Actor, Fate, Holder, Pinned, ReleasePath, Scratch, Setting, Tool, eventually, leases_on,
    no_monitor, open_lease_and_pin, release_paths,
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

    fn hits() -> serde_json::Value {
        let status = Tool::run(&["enforce", "status", "-J"]).exits(0).json();
        status["rules"][0]["hits"].clone()
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

/// Two have pins in one file, and fewer are pinned than both were counted: who lets go of the lease may be the
/// one who has none left.
#[test]
fn nobody_is_killed_for_what_may_be_another_s() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let _in_force = ByKprobes::start();
    let actor = Actor::start();
    open_lease_and_pin(&actor, &scratch.file("f"));
    actor.fork("child");
    actor.all(&["child: uring own", "child: register-buffers own m"]);
    unseen(&actor, "unregister-buffers ring");
    actor.ok("setlease f u");
    assert_eq!(actor.ok("pid"), actor.pid().to_string());
    // The child has no part in it.
    assert_eq!(
        ByKprobes::hits(),
        json!({ "killed-by-monitor": 1, "bystander": 1 })
    );
    actor.ok("child: unregister-buffers own");
    pinned.assert_balanced();
}
