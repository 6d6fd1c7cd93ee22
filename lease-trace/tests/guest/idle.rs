//! Leases without pins: each takes one entry, and is told of like any other.

use std::fs;

use crate::harness::{
    Actor, Metrics, Monitor, Pinned, Scratch, Subject, Tool, expect_rest, expect_zombie, integer,
};

const MANY: u32 = 100;

fn check() {
    Tool::run(&["doctor", "--check"]).exits(0);
}

/// No stake, no record of the file, no path.
#[test]
fn each_takes_an_entry_and_nothing_else() {
    let scratch = Scratch::new();
    let monitor = Monitor::with(&["--metrics", "0"]);
    let metrics = Metrics::of(&monitor);
    let entries =
        |map: &str| metrics.value(&format!("lease_trace_map_entries{{map=\"{map}\"}}")) as u32;
    let others = ["STAKES", "INODES", "PATHS"];
    let before = others.map(entries);
    let idle = entries("LEASES");
    let without_pins = metrics.value("lease_trace_stakes{state=\"leased\"}");
    let directory = scratch.file("many");
    fs::create_dir(&directory).expect("a directory");
    let actor = Actor::start();
    actor.ok(&format!("lease-each {MANY} {directory}"));
    metrics.expect(&format!(
        "lease_trace_map_entries{{map=\"LEASES\"}} {}",
        idle + MANY
    ));
    metrics.expect(&format!(
        "lease_trace_stakes{{state=\"leased\"}} {}",
        without_pins + f64::from(MANY)
    ));
    assert_eq!(others.map(entries), before);
    check();
    for (subject, name) in [("leases", "leases"), ("stakes", "stakes")] {
        let report = Tool::run(&["report", subject, "-J"]).exits(0);
        let rows = report.rows(name, actor.pid());
        assert_eq!(rows.len(), MANY as usize, "{report}");
        for row in &rows {
            let path = row["path"].as_str().expect("a path");
            assert!(path.starts_with(&directory), "{path}");
            assert_eq!(row["pins"], 0, "{row}");
            assert!(integer(row, "age_ms") >= 0, "{row}");
            assert_eq!(row["lease"]["mode"], "write", "{row}");
        }
    }
    drop(actor);
    metrics.expect(&format!("lease_trace_map_entries{{map=\"LEASES\"}} {idle}"));
    check();
}

/// Its file is looked for when somebody asks, and with the first pin its name is kept.
#[test]
fn its_name_is_that_of_now_until_there_are_pins() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let [set, first, later] = ["set", "first", "later"].map(|name| scratch.file(name));
    actor.ok(&format!("open f {set} rw,creat"));
    actor.all(&["write-all f 1M", "setlease f w"]);
    fs::rename(&set, &first).expect("renames");
    let named = |path: &str| {
        for subject in ["leases", "stakes"] {
            let report = Tool::run(&["report", subject, "-J"]).exits(0);
            let rows = report.rows(subject, actor.pid());
            assert_eq!(rows.len(), 1, "{report}");
            assert_eq!(rows[0]["path"], path, "{report}");
        }
    };
    named(&first);
    let file = Subject::at(&first);
    actor.all(&[
        "mmap m f 1M shared rw",
        "uring ring",
        "register-buffers ring m",
    ]);
    fs::rename(&first, &later).expect("renames");
    named(&first);
    check();
    actor.ok("setlease f u");
    expect_zombie(&monitor, actor.pid(), &file, "unlock");
    actor.ok("unregister-buffers ring");
    expect_rest(&monitor, actor.pid(), &file);
    check();
    pinned.assert_balanced();
}

/// Of several leases of one process on one file each but the first is counted at once, with its stake; they go in
/// any order.
#[test]
fn several_on_one_file_leave_nothing() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let path = scratch.file("f");
    fs::write(&path, [7; 4096]).expect("writes");
    let slots = ["f", "g", "h"];
    for last in slots {
        let actor = Actor::start();
        for slot in slots {
            actor.ok(&format!("open {slot} {path} ro"));
            actor.ok(&format!("setlease {slot} r"));
        }
        let stakes = Tool::run(&["report", "stakes", "-J"]).exits(0);
        let rows = stakes.rows("stakes", actor.pid());
        assert_eq!(rows.len(), 1, "{stakes}");
        assert_eq!(rows[0]["leases"], 3, "{stakes}");
        let leases = Tool::run(&["report", "leases", "-J"]).exits(0);
        let rows = leases.rows("leases", actor.pid());
        assert_eq!(rows.len(), 3, "{leases}");
        assert!(rows.iter().all(|row| row["path"] == path), "{leases}");
        for slot in slots.iter().filter(|slot| **slot != last) {
            actor.ok(&format!("setlease {slot} u"));
        }
        actor.ok(&format!("setlease {last} u"));
        let stakes = Tool::run(&["report", "stakes", "-J"]).exits(0);
        assert!(stakes.rows("stakes", actor.pid()).is_empty(), "{stakes}");
        monitor.none_for(actor.pid(), "zombie");
    }
    check();
}

/// Whoever opens a leased file makes no record of it, whether he breaks the lease or not, and is named where he does.
#[test]
fn a_break_makes_no_record() {
    let scratch = Scratch::new();
    let _monitor = Monitor::alone();
    let tracked = || {
        let check = Tool::run(&["doctor", "--check", "-J"]).exits(0);
        check.json()["inodes"].as_u64().expect("a number")
    };
    let before = tracked();
    let (holder, breaker) = (Actor::start(), Actor::start());
    let path = scratch.file("f");
    holder.ok(&format!("open f {path} rw,creat"));
    holder.ok("setlease f w");
    breaker.err(&format!("open g {path} rw,nonblock"), libc::EWOULDBLOCK);
    let report = Tool::run(&["report", "leases", "-J"]).exits(0);
    let rows = report.rows("leases", holder.pid());
    assert_eq!(rows.len(), 1, "{report}");
    assert_eq!(rows[0]["breaker"]["pid"], breaker.pid(), "{report}");
    let read = scratch.file("read");
    fs::write(&read, "x").expect("writes");
    holder.ok(&format!("open r {read} ro"));
    holder.ok("setlease r r");
    breaker.ok(&format!("open r {read} ro"));
    assert_eq!(tracked(), before);
}

/// A second lease of a process outlives its first, and is then changed: it still is the one that was entered.
#[test]
fn a_second_lease_that_is_set_again_is_one() {
    let scratch = Scratch::new();
    let monitor = Monitor::with(&["--all-events"]);
    let actor = Actor::start();
    let path = scratch.file("f");
    actor.all(&[
        &format!("open f {path} rw,creat"),
        "close f",
        &format!("open f {path} ro"),
        "setlease f r",
        &format!("open g {path} ro"),
        "setlease g r",
        "setlease f u",
        "setlease g r",
    ]);
    check();
    let report = Tool::run(&["report", "leases", "-J"]).exits(0);
    assert_eq!(report.rows("leases", actor.pid()).len(), 1, "{report}");
    actor.ok("close g");
    monitor.barrier();
    for event in ["lease-set", "lease-end"] {
        let told = monitor.all(event);
        let of_actor = told.iter().filter(|event| event["pid"] == actor.pid());
        assert_eq!(of_actor.count(), 2, "{event}: {told:?}");
    }
    check();
}
