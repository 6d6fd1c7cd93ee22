//! `lease-trace doctor`: what this kernel offers and lacks.

use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{
    Actor, Leftovers, Monitor, PAGES, Pinned, Scratch, Setting, Tool, eventually, expect_zombie,
    open_lease_and_pin,
};
use crate::preemption;

#[test]
fn this_kernel_is_fit_and_the_probe_points_are_named() {
    let leftovers = Leftovers::before();
    let ran = Tool::run(&["doctor"]).exits(0);
    for word in ["lease_modify", "pin_user_pages"] {
        assert!(ran.stdout.contains(word), "no {word}\n{ran}");
    }
    leftovers.assert_none();
}

#[test]
fn the_same_comes_as_json() {
    let ran = Tool::run(&["doctor", "-J"]).exits(0);
    assert!(ran.json().is_object(), "{ran}");
    for word in ["lease_modify", "pin_user_pages"] {
        assert!(ran.stdout.contains(word), "no {word}\n{ran}");
    }
}

/// It works beside a monitor, and does not disturb it.
#[test]
fn it_may_be_asked_while_a_monitor_runs() {
    let monitor = crate::harness::Monitor::alone();
    Tool::run(&["doctor"]).exits(0);
    monitor.barrier();
    let stopped = monitor.stop();
    assert_eq!(stopped.status.code(), Some(0), "{stopped:?}");
}

/// Without privileges it cannot try what would attach, and says that rather than "no".
#[test]
fn without_privileges_it_says_what_it_could_not_tell() {
    let ran = Tool::new(&["doctor"]).user(65534).finish();
    assert_ne!(ran.code, None, "{ran}");
    let said = format!("{}{}", ran.stdout, ran.stderr).to_lowercase();
    assert!(said.contains("root") || said.contains("cap_"), "{ran}");
}

/// Pins of every kind come and go, and none of them passes the hooks unseen: neither a monitor's nor
/// those of a `doctor` beside it.
#[test]
fn nothing_escapes_a_cross_check() {
    let pinned = Pinned::now();
    let monitor = Monitor::with(&["--cross-check"]);
    let actor = Actor::start();
    actor.all(&["uring ring", "mmap-anon m 1M private", "touch m"]);
    let tool = Tool::beside(&["doctor", "--cross-check", "-d", "2s", "-J"]);
    let mut cross_check = tool.stdout(Stdio::piped()).spawn();
    let mut turns = 0;
    while cross_check.try_wait().expect("a child of ours").is_none() {
        actor.all(&[
            "register-buffers ring m",
            "unregister-buffers ring",
            "vm-read m",
        ]);
        turns += 1;
        sleep(Duration::from_millis(30));
    }
    let ran = cross_check.wait_with_output().expect("it has ended");
    assert_eq!(ran.status.code(), Some(0), "{ran:?}");
    let found: Value = serde_json::from_slice(&ran.stdout).expect("JSON");
    assert_eq!(found["escaped"], 0, "{found}");
    assert!(found["taken"].as_i64() > Some(2 * PAGES), "{found}");

    // What is still there at the end is in both counts.
    actor.ok("register-buffers ring m");
    assert_eq!(pinned.since(), PAGES);
    let stopped = monitor.stop();
    let of_monitor = &stopped.summary["cross_check"];
    assert_eq!(of_monitor["escaped"], 0, "{stopped:?}");
    assert!(
        of_monitor["taken"].as_i64() > Some(turns * PAGES),
        "{stopped:?}"
    );
    assert!(stopped.lost.is_empty(), "{stopped:?}");
}

/// Whether tasks are preempted inside fentry is said as the kernel has it.
#[test]
fn it_says_what_the_kernel_preempts() {
    let said = preemption::said();
    if preemption::is_real_time() {
        assert_eq!(said, "tasks in the kernel (PREEMPT_RT)");
        return;
    }
    let mode = preemption::mode();
    let is_none = ["none", "voluntary"].contains(&mode.as_str());
    assert!(
        said.starts_with(if is_none { "none" } else { "tasks" }),
        "{mode}: {said}"
    );
}

/// Probes that are switched off run for nobody: whoever would need them is told.
#[test]
fn kprobes_that_are_switched_off_are_said() {
    const FILE: &str = "/sys/kernel/debug/kprobes/enabled";
    const MISSED: &str = "new leases are not seen: a test of lease-trace's own was missed by the \
                          hooks on lease_setup and generic_setlease";
    let with_kprobes = ["monitor", "-o", "json", "-d", "1s", "--attach", "kprobe"];
    let ran = Tool::run(&with_kprobes).exits(0);
    assert!(!ran.stdout.contains(FILE), "{ran}");
    assert!(!ran.stdout.contains("was missed"), "{ran}");
    let _off = Setting::of_sysfs("kernel/debug/kprobes/enabled", "0");
    let ran = Tool::run(&["doctor"]).exits(0);
    assert!(ran.stdout.contains(FILE), "{ran}");
    let ran = Tool::run(&with_kprobes).exits(0);
    let start: Value = serde_json::from_str(ran.stdout.lines().next().unwrap_or_default())
        .unwrap_or_else(|error| panic!("{error}\n{ran}"));
    let cannot = start["cannot"].to_string();
    assert!(cannot.contains(FILE), "{start}");
    // The test at the start finds it out by itself.
    assert!(cannot.contains(MISSED), "{start}");
    // Who needs none is not troubled.
    let ran = Tool::run(&["monitor", "-o", "json", "-d", "1s", "--attach", "fentry"]).exits(0);
    assert!(!ran.stdout.contains(FILE), "{ran}");
    assert!(!ran.stdout.contains("was missed"), "{ran}");
}

/// And by a monitor that runs already, when they are switched off and on again.
#[test]
fn kprobes_that_are_switched_off_later_are_said() {
    let monitor = Monitor::with(&["--attach", "kprobe"]);
    let said = |what: &str| {
        assert!(
            eventually(|| monitor.talk().contains(what)),
            "{what}\n{}",
            monitor.talk()
        );
    };
    let off = Setting::of_sysfs("kernel/debug/kprobes/enabled", "0");
    said("kprobes are switched off in /sys/kernel/debug/kprobes/enabled");
    drop(off);
    said("this is over: kprobes are switched off");
}

/// The books of a running monitor are right, with a zombie in them, too; without one there are none.
#[test]
fn the_books_can_be_checked() {
    let ran = Tool::run(&["doctor", "--check"]).exits(2);
    assert!(ran.stderr.contains("no monitor runs"), "{ran}");
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    let check = || Tool::run(&["doctor", "--check", "-J"]).exits(0).json();
    let found = check();
    assert_eq!(
        (&found["inodes"], &found["stakes"], &found["leases"]),
        (&json!(1), &json!(1), &json!(1)),
        "{found}"
    );
    actor.ok("setlease f u");
    expect_zombie(&monitor, actor.pid(), &file, "unlock");
    assert_eq!(check()["leases"], 0);
    let ran = Tool::run(&["doctor", "--check"]).exits(0);
    assert!(ran.stdout.ends_with("the books are right\n"), "{ran}");
}
