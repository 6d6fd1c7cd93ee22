//! One call over several mappings: each file gets its own pins.

use crate::harness::{
    Actor, Monitor, Pinned, Scratch, Subject, Tool, assert_about, expect_zombie_with,
};

/// Files of sixteen pages, leased, side by side in the mapping `area`, which ends with anonymous
/// memory.
fn side_by_side(actor: &Actor, scratch: &Scratch, files: usize) -> Vec<Subject> {
    actor.ok(&format!("mmap-anon area {}K private", 64 * (files + 1)));
    let place = |number: usize| {
        let path = scratch.file(&format!("f{number}"));
        actor.ok(&format!("open f{number} {path} rw,creat,cloexec"));
        actor.ok(&format!("write-all f{number} 64K"));
        actor.ok(&format!("setlease f{number} w"));
        actor.ok(&format!(
            "mmap-over area {}K f{number} 64K shared rw",
            64 * number
        ));
        Subject::at(&path)
    };
    (0..files).map(place).collect()
}

/// Several files of a process come to rest in any order.
#[track_caller]
fn expect_rest_of(monitor: &Monitor, actor: &Actor, file: &Subject) {
    let rest = monitor.expect("at-rest", |event| {
        event["pid"] == actor.pid() && event["ino"] == file.ino
    });
    assert_about(&rest, actor.pid(), file);
}

#[test]
fn each_file_gets_its_own_pins() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let files = side_by_side(&actor, &scratch, 3);
    // The first file a second time, in place of the anonymous memory.
    actor.ok("mmap-over area 192K f0 64K shared rw");
    actor.all(&["xdp-socket x", "xdp-umem x area"]);
    assert_eq!(pinned.since(), 64);
    for (number, file) in files.iter().enumerate() {
        actor.ok(&format!("setlease f{number} u"));
        let pins = if number == 0 { 32 } else { 16 };
        expect_zombie_with(&monitor, actor.pid(), file, "unlock", pins, "xdp");
    }
    actor.ok("close x");
    for file in &files {
        expect_rest_of(&monitor, &actor, file);
    }
    pinned.assert_balanced();
}

/// However many files a call is over, each is known, its pins are dropped again, and nothing is lost.
#[test]
fn any_number_of_files_is_known() {
    const FILES: usize = 12;
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let files = side_by_side(&actor, &scratch, FILES);
    actor.all(&["xdp-socket x", "xdp-umem x area"]);
    assert_eq!(pinned.since(), (FILES as i64 + 1) * 16);
    for (number, file) in files.iter().enumerate() {
        actor.ok(&format!("setlease f{number} u"));
        expect_zombie_with(&monitor, actor.pid(), file, "unlock", 16, "xdp");
    }
    actor.ok("close x");
    for file in &files {
        expect_rest_of(&monitor, &actor, file);
    }
    pinned.assert_balanced();
    monitor.barrier();
    assert_eq!(
        monitor.count(actor.pid(), "zombie"),
        FILES,
        "{}",
        monitor.account()
    );
    assert_eq!(monitor.all("lost").len(), 0, "{}", monitor.account());
    let report = Tool::run(&["report", "stakes", "-J"]).exits(0);
    assert!(report.rows("stakes", actor.pid()).is_empty(), "{report}");
}
