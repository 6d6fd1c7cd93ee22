//! `lease-trace monitor`: what it is told to show, how it starts and ends, and where it writes.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;
use std::time::Instant;

use crate::harness::{
    Actor, Leftovers, Monitor, Scratch, Tool, eventually, expect_zombie, integer,
    open_lease_and_pin,
};

#[test]
fn the_start_says_what_is_attached_and_the_end_sums_up() {
    let leftovers = Leftovers::before();
    let scratch = Scratch::new();
    let monitor = Monitor::alone();
    assert_eq!(monitor.start["pid"], monitor.pid(), "{}", monitor.start);
    assert!(
        !monitor.start["attach"]
            .as_array()
            .expect("a list")
            .is_empty(),
        "{}",
        monitor.start
    );
    assert!(monitor.start["cannot"].is_array(), "{}", monitor.start);
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok("setlease f u");
    let zombie = expect_zombie(&monitor, actor.pid(), &file, "unlock");
    let time = zombie["time"].as_str().expect("a time");
    assert!(
        time.len() >= "2026-01-01T00:00:00Z".len() && time.contains('T'),
        "RFC 3339: {time}"
    );
    let stopped = monitor.stop();
    assert_eq!(stopped.status.code(), Some(0), "{stopped:?}");
    assert_eq!(stopped.summary["zombies"], 1, "{stopped:?}");
    stopped.assert_nothing_lost();
    assert!(integer(&stopped.summary, "events") >= 2, "{stopped:?}");
    leftovers.assert_none();
}

#[test]
fn sigterm_ends_it_as_sigint_does() {
    let leftovers = Leftovers::before();
    let stopped = Monitor::alone().stop_by(libc::SIGTERM);
    assert_eq!(stopped.status.code(), Some(0), "{stopped:?}");
    leftovers.assert_none();
}

#[test]
fn a_duration_ends_it() {
    let begun = Instant::now();
    let stopped = Monitor::with(&["-d", "2s"]).ended();
    assert_eq!(stopped.status.code(), Some(0), "{stopped:?}");
    assert!(begun.elapsed().as_millis() >= 2000);
}

#[test]
fn leases_themselves_are_told_on_request_only() {
    let scratch = Scratch::new();
    let monitor = Monitor::with(&[]);
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok("setlease f u");
    expect_zombie(&monitor, actor.pid(), &file, "unlock");
    actor.ok("unregister-buffers ring");
    monitor.expect_of("at-rest", actor.pid());
    monitor.none_for(actor.pid(), "lease-set");
    monitor.none_for(actor.pid(), "lease-end");
}

/// One that the filter lets through comes after one that it does not: what is seen of the one
/// proves that nothing was missed of the other.
#[track_caller]
fn one_of_two(filter: &[&str], shown: &Actor, hidden: &Actor, scratch: &Scratch, other: &Scratch) {
    let monitor = Monitor::with(filter);
    open_lease_and_pin(hidden, &other.file("hidden"));
    hidden.ok("setlease f u");
    let file = open_lease_and_pin(shown, &scratch.file("shown"));
    shown.ok("setlease f u");
    expect_zombie(&monitor, shown.pid(), &file, "unlock");
    monitor.none_for(hidden.pid(), "zombie");
    let stopped = monitor.stop();
    assert_eq!(stopped.status.code(), Some(0), "{stopped:?}");
}

#[test]
fn it_can_be_limited_to_a_process() {
    let scratch = Scratch::new();
    let (shown, hidden) = (Actor::start(), Actor::start());
    one_of_two(
        &["-p", &shown.pid().to_string()],
        &shown,
        &hidden,
        &scratch,
        &scratch,
    );
}

#[test]
fn it_can_be_limited_to_a_path() {
    let (scratch, other) = (Scratch::new(), Scratch::new());
    let (shown, hidden) = (Actor::start(), Actor::start());
    let prefix = scratch.directory().to_str().expect("ASCII").to_owned();
    one_of_two(&["--path", &prefix], &shown, &hidden, &scratch, &other);
}

#[test]
fn it_can_be_limited_to_a_cgroup() {
    let scratch = Scratch::new();
    let (shown, hidden) = (Actor::start(), Actor::start());
    let cgroup = format!("/sys/fs/cgroup/lease-trace-{}", std::process::id());
    fs::create_dir(&cgroup).expect("a cgroup v2 directory");
    fs::write(format!("{cgroup}/cgroup.procs"), shown.pid().to_string()).expect("moved");
    one_of_two(&["-c", &cgroup], &shown, &hidden, &scratch, &scratch);
    drop(shown);
    assert!(
        eventually(|| fs::remove_dir(&cgroup).is_ok()),
        "{cgroup} stays"
    );
}

#[test]
fn the_table_has_a_heading_and_a_row_for_each_transition() {
    let scratch = Scratch::new();
    let mut process = Tool::new(&["monitor"])
        .env("COLUMNS", "80")
        .stdout(Stdio::piped())
        .spawn();
    let mut lines = BufReader::new(process.stdout.take().expect("a pipe")).lines();
    // The heading comes at once; what comes before it is what was attached.
    let heading = lines
        .by_ref()
        .map_while(Result::ok)
        .find(|line| line.contains("COMMAND"));
    let heading = heading.expect("a heading");
    for word in ["PID", "CAUSE", "PINS", "CONSUMER", "PATH"] {
        assert!(heading.contains(word), "no {word} in `{heading}`");
    }
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok("setlease f u");
    let row = lines.map_while(Result::ok).next().expect("a row");
    for word in [
        actor.pid().to_string().as_str(),
        "client",
        "unlock",
        "256",
        "io_uring",
    ] {
        assert!(row.contains(word), "no {word} in `{row}`");
    }
    assert!(
        row.contains(&file.path),
        "a pipe gets the whole path: `{row}`"
    );
    // SAFETY: takes numbers; the child was not reaped, so the pid is its own.
    unsafe { libc::kill(process.id().cast_signed(), libc::SIGINT) };
    let status = process.wait().expect("waited for");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_closed_pipe_ends_it_without_a_word() {
    let leftovers = Leftovers::before();
    let scratch = Scratch::new();
    let mut process = Tool::new(&["monitor", "-o", "json"])
        .stdout(Stdio::piped())
        .spawn();
    let mut stdout = BufReader::new(process.stdout.take().expect("a pipe"));
    let mut start = String::new();
    stdout.read_line(&mut start).expect("the start event");
    drop(stdout);
    let actor = Actor::start();
    open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok("setlease f u");
    let mut status = None;
    assert!(eventually(|| {
        status = process.try_wait().expect("a child of ours");
        status.is_some()
    }));
    assert_eq!(status.and_then(|status| status.code()), Some(0));
    let mut talk = String::new();
    process
        .stderr
        .take()
        .expect("a pipe")
        .read_to_string(&mut talk)
        .expect("text");
    assert!(!talk.to_lowercase().contains("error"), "{talk}");
    leftovers.assert_none();
}

#[test]
fn a_full_disk_ends_it_with_an_error() {
    let leftovers = Leftovers::before();
    let full = File::options()
        .write(true)
        .open("/dev/full")
        .expect("/dev/full");
    let ran = Tool::new(&["monitor", "-o", "json"])
        .stdout(full)
        .finish_as_is();
    ran.exits(2).says(&["no space left"]);
    leftovers.assert_none();
}

/// Many at once: nothing is lost, nothing is shown twice.
#[test]
fn many_actors_are_kept_apart() {
    let scratch = Scratch::new();
    let monitor = Monitor::alone();
    let actors: Vec<_> = (0..8).map(|_| Actor::start()).collect();
    let files: Vec<_> = actors
        .iter()
        .map(|actor| open_lease_and_pin(actor, &scratch.file(&actor.pid().to_string())))
        .collect();
    for actor in &actors {
        actor.ok("setlease f u");
    }
    for (actor, file) in actors.iter().zip(&files) {
        expect_zombie(&monitor, actor.pid(), file, "unlock");
    }
    monitor.barrier();
    for actor in &actors {
        assert_eq!(
            monitor.count(actor.pid(), "zombie"),
            1,
            "{}",
            monitor.account()
        );
    }
    assert_eq!(monitor.stop().summary["zombies"], 8);
}
