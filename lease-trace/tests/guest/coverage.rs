//! Whose pins a lease covers: everybody's who holds a reference to the leased open file description,
//! however it came to hold it. Each of them is judged when the lease ends.

use std::{fs::File, time::Duration};

use crate::harness::{
    Actor, Enforcement, Monitor, Scratch, Subject, Tool, assert_released_by, expect_zombie,
    open_lease_and_pin, pin_without_lease,
};

/// For what takes long in an emulated guest.
const PATIENCE: Duration = Duration::from_mins(3);

#[track_caller]
fn assert_state(pid: i64, state: &str) {
    let report = Tool::run(&["report", "stakes", "-J"]).exits(0);
    let rows = report.rows("stakes", pid);
    assert_eq!(rows.len(), 1, "{report}");
    assert_eq!(rows[0]["state"], state, "{report}");
}

/// What an actor does to have pins in a file, and nothing of its own open of it any more.
fn pins_through_an_own_open(path: &str) -> [String; 6] {
    [
        "uring own".to_owned(),
        format!("open g {path} rw"),
        "mmap m g 1M shared rw".to_owned(),
        "register-buffers own m".to_owned(),
        "munmap m".to_owned(),
        "close g".to_owned(),
    ]
}

#[test]
fn every_one_of_many_heirs_is_judged() {
    const HEIRS: usize = 50;
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let parent = Actor::start();
    let file = open_lease_and_pin(&parent, &scratch.file("f"));
    let heirs: Vec<i64> = (0..HEIRS)
        .map(|number| {
            let pid = parent.fork(&format!("c{number}"));
            parent.ok(&format!("c{number}: uring own"));
            parent.ok(&format!("c{number}: register-buffers own m 0 4K"));
            pid
        })
        .collect();
    parent.ok("setlease f u");
    expect_zombie(&monitor, parent.pid(), &file, "unlock");
    for pid in &heirs {
        let zombie = monitor.expect_of("zombie", *pid);
        assert_eq!(zombie["pins"], 1, "{zombie}");
        assert_released_by(&zombie, parent.pid());
    }
    monitor.barrier();
    for (number, pid) in heirs.iter().enumerate() {
        assert_eq!(monitor.count(*pid, "zombie"), 1);
        monitor.none_for(*pid, "bare-pin");
        parent.ok(&format!("c{number}: unregister-buffers own"));
        monitor.expect_of("at-rest", *pid);
    }
}

/// A receiver pins through a mapping of its own.
#[test]
fn a_descriptor_in_a_message_covers_its_receiver() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let parent = Actor::start();
    let child = parent.fork("child");
    let file = open_lease_and_pin(&parent, &scratch.file("f"));
    parent.all(&[
        "send-fd f child",
        "child: recv-fd g parent",
        "child: mmap m g 1M shared rw",
        "child: uring own",
        "child: register-buffers own m",
    ]);
    assert_state(child, "covered");
    monitor.none_for(child, "bare-pin");
    // The receiver ends the lease, of which both were covered.
    parent.ok("child: setlease g u");
    for pid in [child, parent.pid()] {
        let zombie = expect_zombie(&monitor, pid, &file, "unlock");
        assert_released_by(&zombie, child);
    }
}

/// Pins that are older than the lease are covered from the day on which their owner holds it.
#[test]
fn pins_through_another_open_are_covered_by_the_reference() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let parent = Actor::start();
    let path = scratch.file("f");
    parent.ok(&format!("open f {path} rw,creat,cloexec"));
    parent.ok("write-all f 1M");
    let file = Subject::at(&path);
    // The heir has inherited the file, and pins through an open of its own.
    let heir = parent.fork("heir");
    let stranger = Actor::start();
    for command in pins_through_an_own_open(&path) {
        parent.ok(&format!("heir: {command}"));
        stranger.ok(&command);
    }
    for pid in [heir, stranger.pid()] {
        monitor.expect_of("bare-pin", pid);
    }
    parent.ok("setlease f w");
    assert_state(heir, "covered");
    assert_state(stranger.pid(), "bare-pin");
    // More pins of the heir are covered as well, through whatever they are taken.
    parent.ok("setlease f u");
    let zombie = expect_zombie(&monitor, heir, &file, "unlock");
    assert_released_by(&zombie, parent.pid());
    monitor.barrier();
    monitor.none_for(stranger.pid(), "zombie");
    monitor.none_for(parent.pid(), "zombie");
}

/// A process whose first thread has ended has its descriptors all the same.
#[test]
fn a_process_without_its_first_thread_is_covered() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let parent = Actor::start();
    let path = scratch.file("f");
    parent.ok(&format!("open f {path} rw,creat,cloexec"));
    parent.ok("write-all f 1M");
    let heir = parent.fork("heir");
    for command in pins_through_an_own_open(&path) {
        parent.ok(&format!("heir: {command}"));
    }
    parent.all(&["heir: end-first-thread", "heir: pid"]);
    monitor.expect_of("bare-pin", heir);
    parent.all(&["setlease f w", "setlease f u"]);
    let zombie = expect_zombie(&monitor, heir, &Subject::at(&path), "unlock");
    assert_released_by(&zombie, parent.pid());
}

/// What the receiver of a descriptor has pinned before is covered from then on.
#[test]
fn a_reference_that_comes_late_covers_what_was_bare() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let parent = Actor::start();
    let child = parent.fork("child");
    let path = scratch.file("f");
    parent.ok(&format!("open f {path} rw,creat,cloexec"));
    parent.ok("write-all f 1M");
    for command in pins_through_an_own_open(&path) {
        parent.ok(&format!("child: {command}"));
    }
    monitor.expect_of("bare-pin", child);
    parent.ok("setlease f w");
    assert_state(child, "bare-pin");
    parent.all(&["send-fd f child", "child: recv-fd g parent"]);
    assert_state(child, "covered");
    parent.ok("setlease f u");
    expect_zombie(&monitor, child, &Subject::at(&path), "unlock");
}

/// Only the last of several leases on a file matters, and each process has its own last one.
#[test]
fn of_several_leases_the_last_one_counts() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let parent = Actor::start();
    let child = parent.fork("child");
    let path = scratch.file("f");
    let file = pin_without_lease(&parent, &path);
    for command in pins_through_an_own_open(&path) {
        parent.ok(&format!("child: {command}"));
    }
    let other = Actor::start();
    other.ok(&format!("open f {path} ro"));
    other.ok("setlease f r");
    for slot in ["one", "two"] {
        parent.ok(&format!("open {slot} {path} ro"));
        parent.ok(&format!("setlease {slot} r"));
        parent.ok(&format!("send-fd {slot} child"));
        parent.ok(&format!("child: recv-fd {slot} parent"));
    }
    parent.ok("setlease one u");
    monitor.barrier();
    for pid in [parent.pid(), child] {
        monitor.none_for(pid, "zombie");
    }
    assert_state(child, "covered");
    parent.ok("setlease two u");
    for pid in [parent.pid(), child] {
        let zombie = monitor.expect_of("zombie", pid);
        assert_eq!(zombie["lease"]["mode"], "read", "{zombie}");
        assert_eq!(zombie["ino"], file.ino, "{zombie}");
        assert_eq!(monitor.count(pid, "zombie"), 1);
    }
    // Somebody else's lease on the same file covers nobody but its holder.
    other.ok("setlease f u");
    monitor.barrier();
    monitor.none_for(other.pid(), "zombie");
}

/// What others have set covers pins, and nothing else: with its last pin an heir's stake is gone, and
/// pins that it takes anew are covered anew.
#[test]
fn an_heirs_stake_ends_with_its_last_pin() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let parent = Actor::start();
    let file = open_lease_and_pin(&parent, &scratch.file("f"));
    let heir = parent.fork("heir");
    parent.ok("heir: uring own");
    for _ in 0..2 {
        parent.ok("heir: register-buffers own m");
        assert_state(heir, "covered");
        parent.ok("heir: unregister-buffers own");
        let report = Tool::run(&["report", "stakes", "-J"]).exits(0);
        assert!(report.rows("stakes", heir).is_empty(), "{report}");
    }
    assert_state(parent.pid(), "covered");
    parent.ok("setlease f u");
    expect_zombie(&monitor, parent.pid(), &file, "unlock");
    monitor.barrier();
    for event in ["bare-pin", "zombie", "at-rest"] {
        monitor.none_for(heir, event);
    }
}

/// When a lease ends the kernel holds a spinlock, and it is looked among the descriptors of its holder for other leases
/// of the file: however many there are of both, that is over soon.
#[test]
fn a_leases_end_does_not_look_at_each_lease_for_each_descriptor() {
    const MANY: u32 = 2500;
    let scratch = Scratch::new();
    let monitor = Monitor::that_logs(&["--all-events"]);
    let path = scratch.file("f");
    let actor = Actor::start();
    pin_without_lease(&actor, &path);
    let other = Actor::start();
    for actor in [&actor, &other] {
        actor.ok(&format!("open-files {}", MANY + 100));
    }
    actor.all(&[
        &format!("open plain {path} ro"),
        &format!("open f {path} ro"),
        "setlease f r",
    ]);
    other.ok_within(PATIENCE, &format!("lease-often {MANY} {path}"));
    actor.ok(&format!("dup-many plain {MANY}"));
    let took: u64 = actor
        .ok_within(PATIENCE, "time 1 setlease f u")
        .parse()
        .expect("nanoseconds");
    eprintln!("{took} ns");
    assert!(took < 500_000_000, "{took} ns");
    monitor.barrier();
    // What was not looked at is told.
    monitor.expect_logged("COVERS");
    monitor.stop();
}

/// Nor is it looked through all leases for each descriptor that close_range(2) closes.
#[test]
fn a_close_range_does_not_look_at_each_lease_for_each_descriptor() {
    const MANY: u32 = 2500;
    let scratch = Scratch::new();
    let path = scratch.file("f");
    let enforcement = Enforcement::start(
        "mode = \"enforce\"\n[[rule]]\nname = \"r\"\naction = \"deny\"\nfallback = \"kill\"\n",
    );
    let monitor = enforcement.monitor();
    let (parent, other) = (Actor::start(), Actor::start());
    for actor in [&parent, &other] {
        actor.ok(&format!("open-files {}", MANY + 100));
    }
    File::create(&path)
        .and_then(|file| file.set_len(1 << 20))
        .expect("a file in the scratch directory");
    parent.ok(&format!("open f {path} ro"));
    let child = parent.fork("c");
    for command in pins_through_an_own_open(&path) {
        parent.ok(&format!("c: {command}"));
    }
    // It covers the child, who has no lease of its own.
    parent.ok("setlease f r");
    assert_state(child, "covered");
    other.ok_within(PATIENCE, &format!("lease-often {MANY} {path}"));
    parent.ok(&format!("c: open first {path} ro"));
    parent.ok_within(PATIENCE, &format!("c: open-many {MANY} {path}"));
    parent.ok(&format!("c: open last {path} ro"));
    let took: u64 = parent
        .ok_within(PATIENCE, "c: time 1 close_range first last")
        .parse()
        .expect("nanoseconds");
    eprintln!("{took} ns");
    assert!(took < 500_000_000, "{took} ns");
    monitor.none_for(child, "zombie");
    monitor.stop();
}
