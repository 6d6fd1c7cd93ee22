//! `lease-trace report`: a snapshot, with a monitor beside it or without one.

use std::fs::File;

use crate::harness::{
    Actor, Leftovers, Monitor, PAGES, Scratch, Subject, Tool, assert_about, expect_zombie,
    expect_zombie_of_older_lease, integer, leases_on, no_monitor, open_lease_and_pin,
};

#[test]
fn beside_a_monitor_it_shows_what_the_monitor_saw() {
    let scratch = Scratch::new();
    let monitor = Monitor::alone();
    Tool::run(&["report"]).exits(0);
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    let covered = Tool::run(&["report", "stakes", "-J"]).exits(0);
    let rows = covered.rows("stakes", actor.pid());
    assert_eq!(rows.len(), 1, "{covered}");
    assert_about(&rows[0], actor.pid(), &file);
    assert_eq!(rows[0]["state"], "covered", "{covered}");
    assert_eq!(rows[0]["leases"], 1, "{covered}");
    assert_eq!(rows[0]["pins"], PAGES, "{covered}");
    assert_eq!(rows[0]["consumer"], "io_uring", "{covered}");

    actor.ok("setlease f u");
    let zombie = expect_zombie(&monitor, actor.pid(), &file, "unlock");
    let report = Tool::run(&["report", "-J"]).exits(1);
    let rows = report.rows("zombies", actor.pid());
    assert_eq!(rows.len(), 1, "{report}");
    for field in [
        "pid", "comm", "uid", "path", "dev", "ino", "cause", "pins", "consumer",
    ] {
        assert_eq!(rows[0][field], zombie[field], "`{field}` in {report}");
    }
    assert_eq!(rows[0]["releaser"], zombie["releaser"], "{report}");
    assert_eq!(rows[0]["lease"]["mode"], "write", "{report}");
    assert!(integer(&rows[0], "age_ms") >= 0, "{report}");
    let same = Tool::run(&["report", "zombies", "-J"]).exits(1);
    assert_eq!(same.rows("zombies", actor.pid()).len(), 1, "{same}");
    // Only the zombies' own report fails for them.
    let stakes = Tool::run(&["report", "stakes", "-J"]).exits(0);
    assert_eq!(
        stakes.rows("stakes", actor.pid())[0]["state"],
        "zombie",
        "{stakes}"
    );

    actor.ok("unregister-buffers ring");
    monitor.expect_of("at-rest", actor.pid());
    Tool::run(&["report"]).exits(0);
}

#[test]
fn without_a_monitor_it_lists_leases_and_leaves_nothing() {
    let leftovers = Leftovers::before();
    let scratch = Scratch::new();
    let actor = Actor::start();
    actor.ok(&format!("open f {} rw,creat", scratch.file("f")));
    actor.ok("setlease f w");
    let file = Subject::at(&scratch.file("f"));
    let report = Tool::run(&["report", "leases", "-J"]).exits(0);
    let rows = report.rows("leases", actor.pid());
    assert_eq!(rows.len(), 1, "{report}");
    assert_about(&rows[0], actor.pid(), &file);
    assert_eq!(rows[0]["lease"]["kind"], "lease", "{report}");
    assert_eq!(rows[0]["lease"]["mode"], "write", "{report}");
    let fd = holder_fds(&rows[0], actor.pid());
    assert_eq!(fd.len(), 1, "{report}");
    let link = std::fs::read_link(format!("/proc/{}/fd/{}", actor.pid(), fd[0]));
    assert_eq!(
        link.expect("an open descriptor").to_str(),
        Some(file.path.as_str()),
        "{report}"
    );
    Tool::run(&["report", "zombies", "-J"]).exits(0);
    leftovers.assert_none();
}

/// Nobody has watched: what is pinned is found, beside the leases. Which of it are zombies is not told.
#[test]
fn without_a_monitor_it_finds_what_is_pinned() {
    no_monitor();
    let scratch = Scratch::new();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    let leases = Tool::run(&["report", "leases", "-J"]).exits(0);
    let rows = leases.rows("leases", actor.pid());
    assert_eq!(rows.len(), 1, "{leases}");
    assert_eq!(rows[0]["pins"], PAGES, "{leases}");
    assert_eq!(rows[0]["consumer"], "io_uring", "{leases}");
    assert_eq!(leases.json()["surveyed"], true, "{leases}");
    let stakes = || Tool::run(&["report", "stakes", "-J"]).exits(0);
    let covered = stakes();
    let rows = covered.rows("stakes", actor.pid());
    assert_eq!(rows.len(), 1, "{covered}");
    assert_eq!(rows[0]["state"], "covered", "{covered}");
    assert_eq!(rows[0]["pins"], PAGES, "{covered}");
    assert!(rows[0]["doubtful"].is_null(), "{covered}");
    actor.ok("setlease f u");
    let pinned = stakes().says(&["no monitor is running", "zombies cannot be told"]);
    let rows = pinned.rows("stakes", actor.pid());
    assert_eq!(rows.len(), 1, "{pinned}");
    assert_about(&rows[0], actor.pid(), &file);
    assert_eq!(rows[0]["state"], "pinned", "{pinned}");
    assert_eq!(rows[0]["pins"], PAGES, "{pinned}");
    actor.all(&["unregister-buffers ring", "setlease f w"]);
    let after = stakes();
    let rows = after.rows("stakes", actor.pid());
    assert_eq!(rows[0]["state"], "leased", "{after}");
    assert_eq!(rows[0]["pins"], 0, "{after}");
}

fn holder_fds(lease: &serde_json::Value, pid: i64) -> Vec<i64> {
    let holders = lease["holders"]
        .as_array()
        .unwrap_or_else(|| panic!("no holders in {lease}"));
    let of_pid = holders.iter().filter(|holder| holder["pid"] == pid);
    of_pid.filter_map(|holder| holder["fd"].as_i64()).collect()
}

/// Everybody who keeps the lease alive is named: its setter need not be one of them.
#[test]
fn every_holder_of_a_lease_is_named() {
    no_monitor();
    let scratch = Scratch::new();
    let parent = Actor::start();
    parent.ok(&format!("open f {} rw,creat", scratch.file("f")));
    parent.all(&["setlease f w", "dup f copy"]);
    let file = Subject::at(&scratch.file("f"));
    let child = parent.fork("child");
    parent.all(&["child: comm keeper", "close f", "close copy"]);
    assert_eq!(leases_on(&file).len(), 1, "the child keeps it");
    for beside_a_monitor in [false, true] {
        let _monitor = beside_a_monitor.then(Monitor::alone);
        let report = Tool::run(&["report", "leases", "-J"]).exits(0);
        let rows = report.json()["leases"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let row = rows
            .iter()
            .find(|row| row["ino"] == file.ino && row["dev"] == file.dev.as_str());
        let row = row.unwrap_or_else(|| panic!("the lease is not listed\n{report}"));
        assert_eq!(holder_fds(row, child).len(), 2, "{report}");
        assert!(holder_fds(row, parent.pid()).is_empty(), "{report}");
        assert!(report.stdout.contains("keeper"), "{report}");
    }
}

/// The maps of a monitor that was killed are the truth of yesterday: a report must not show it.
#[test]
fn after_a_monitors_sudden_death_it_shows_what_is() {
    let leftovers = Leftovers::before();
    let scratch = Scratch::new();
    let monitor = Monitor::alone();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok("setlease f u");
    expect_zombie(&monitor, actor.pid(), &file, "unlock");
    monitor.kill();
    actor.all(&["unregister-buffers ring", "setlease f w"]);

    let report = Tool::run(&["report", "-J"]).exits(0);
    assert!(report.rows("zombies", actor.pid()).is_empty(), "{report}");
    let leases = Tool::run(&["report", "leases", "-J"]).exits(0);
    assert_eq!(leases.rows("leases", actor.pid()).len(), 1, "{leases}");

    // The next monitor takes over as if nothing had been, and clears up behind itself.
    let monitor = Monitor::alone();
    actor.all(&["register-buffers ring m", "setlease f u"]);
    expect_zombie_of_older_lease(&monitor, actor.pid(), &file, "unlock");
    monitor.stop();
    leftovers.assert_none();
}

#[test]
fn columns_headings_and_raw_output_can_be_chosen() {
    let scratch = Scratch::new();
    let actor = Actor::start();
    actor.ok(&format!("open f {} rw,creat", scratch.file("f")));
    actor.ok("setlease f w");
    let path = scratch.file("f");
    let pid = actor.pid().to_string();

    let table = Tool::run(&["report", "leases"]).exits(0);
    let heading = table.stdout.lines().next().unwrap_or_default();
    for word in ["COMMAND", "PID", "KIND", "MODE", "HOLDERS", "PATH"] {
        assert!(heading.contains(word), "no {word} in the heading\n{table}");
    }
    let chosen = Tool::run(&["report", "leases", "-o", "PID,MODE,PATH"]).exits(0);
    let heading: Vec<_> = chosen
        .stdout
        .lines()
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    assert_eq!(heading, ["PID", "MODE", "PATH"], "{chosen}");
    let bare = Tool::run(&["report", "leases", "-n", "-o", "PID,PATH"]).exits(0);
    assert!(!bare.stdout.contains("PATH"), "{bare}");
    let raw = Tool::run(&["report", "leases", "-r", "-n", "-o", "PID,PATH"]).exits(0);
    for ran in [&bare, &raw] {
        let found = ran.stdout.lines().any(|line| {
            line.split_whitespace().collect::<Vec<_>>() == [pid.as_str(), path.as_str()]
        });
        assert!(found, "{ran}");
    }
    Tool::run(&["report", "leases", "-o", "PID,SHOESIZE"])
        .exits(2)
        .says(&["SHOESIZE"]);
}

#[test]
fn a_full_disk_is_an_error_and_a_closed_pipe_is_not() {
    let full = File::options()
        .write(true)
        .open("/dev/full")
        .expect("/dev/full");
    let ran = Tool::new(&["report", "leases"]).stdout(full).finish_as_is();
    ran.exits(2).says(&["no space left"]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    Tool::new(&["report", "leases"])
        .stdout(writer)
        .finish_as_is()
        .exits(0);
}
