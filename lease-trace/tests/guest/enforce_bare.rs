//! Rules about pins that no lease ever covered: judged when the call has returned that took them.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use serde_json::json;

use crate::harness::{
    Actor, Enforcement, Fate, Monitor, Pinned, Scratch, no_monitor, retire_enforcement, text,
};

const USER: u32 = 1000;
/// More than the locked memory that an actor here may have.
const TOO_MUCH: &str = "1M";
const LOCKED_KIB: u32 = 512;
const KILLED: Fate = Fate::Killed(libc::SIGKILL);

/// A rule about bare pins of files below this directory.
fn rule(mode: &str, directory: &str, action: &str) -> String {
    format!(
        "mode = \"{mode}\"\n[[rule]]\nname = \"bare\"\non = [\"bare-pin\"]\n\
         match.path = \"{directory}\"\naction = \"{action}\"\n"
    )
}

/// Started anew: the hooks are those that the first policy asks for.
fn enforcement(policy: &str) -> Enforcement {
    retire_enforcement();
    Enforcement::start(policy)
}

/// A directory for anybody.
fn directory(scratch: &Scratch, name: &str) -> String {
    let directory = scratch.file(name);
    fs::create_dir(&directory).expect("a directory");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    fs::set_permissions(&directory, mode).expect("its mode");
    directory
}

/// Somebody with a ring and a file of this length in a directory, mapped.
fn somebody(directory: &str, length: &str) -> Actor {
    let actor = Actor::start();
    actor.ok(&format!("lock-memory {LOCKED_KIB}"));
    actor.all(&[&format!("setuid {USER}"), "uring r"]);
    actor.ok(&format!("open f {directory}/{length} rw,creat"));
    actor.all(&[
        &format!("truncate f {length}"),
        &format!("mmap m f {length} shared rw"),
    ]);
    actor
}

/// The kernel pins first and counts then: what it gives back before the call returns is nobody's breach.
fn is_not_judged_by_what_is_refused(directory: &str) {
    let pinned = Pinned::now();
    let actor = somebody(directory, TOO_MUCH);
    actor.err("register-buffers r m", libc::ENOMEM);
    actor.ok("pid");
    pinned.assert_balanced();
}

/// One call pins through one range pages of two files, the first of them no rule's: leased, or somewhere else. A kernel
/// that registers no buffer of two files (6.1) does not do it where no rule is, either.
fn one_call_over_two_files(watched: &str, other: &str, is_leased: bool) {
    let of_two_files = |directory: &str| {
        let actor = somebody(other, "8K");
        actor.ok(&format!("open g {directory}/second rw,creat"));
        actor.all(&["truncate g 4K", "mmap-over m 4K g 4K shared rw"]);
        if is_leased {
            actor.ok("setlease f w");
        }
        actor
    };
    let fate = match of_two_files(other).attempt("register-buffers r m") {
        Ok(_) => KILLED,
        Err(refusal) => Fate::Refused(refusal.errno),
    };
    assert!(
        [KILLED, Fate::Refused(libc::EINVAL)].contains(&fate),
        "{fate:?}"
    );
    assert_eq!(of_two_files(watched).fate("register-buffers r m"), fate);
}

fn kills(enforcement: &Enforcement, scratch: &Scratch) {
    let (watched, other) = (directory(scratch, "watched"), directory(scratch, "other"));
    enforcement.replace(&rule("enforce", &watched, "kill"));
    is_not_judged_by_what_is_refused(&watched);
    assert_eq!(enforcement.hits("bare"), json!({}));
    let mut actor = somebody(&watched, "64K");
    assert_eq!(actor.fate("register-buffers r m"), KILLED);
    assert_eq!(enforcement.hits("bare"), json!({"killed": 1}));
    let actor = somebody(&other, "64K");
    actor.ok("register-buffers r m");
    // A lease that is there when the call has returned covers them.
    let actor = somebody(&watched, "128K");
    actor.all(&["setlease f w", "register-buffers r m"]);
    one_call_over_two_files(&watched, &other, false);
    one_call_over_two_files(&watched, &other, true);
    // One call pins pages of more files than there is room for notes of a thread.
    let many = directory(scratch, "watched/many");
    let mut actor = Actor::start();
    actor.all(&[&format!("setuid {USER}"), "uring r"]);
    let call = format!("register-files-pages r 20 {many}");
    assert_eq!(actor.fate(&call), KILLED);
}

#[test]
fn it_is_killed_when_the_call_has_returned() {
    no_monitor();
    let scratch = Scratch::new();
    let enforcement = enforcement(&rule("audit", &directory(&scratch, "none"), "kill"));
    kills(&enforcement, &scratch);
}

#[test]
fn nor_does_a_monitor_kill_for_what_is_refused() {
    let scratch = Scratch::new();
    let enforcement = enforcement(&rule("audit", &directory(&scratch, "none"), "kill"));
    let monitor = enforcement.monitor();
    kills(&enforcement, &scratch);
    monitor.barrier();
    let killed = monitor.all("killed");
    let here = scratch.directory().display().to_string();
    let of_these = killed
        .iter()
        .filter(|event| text(event, "path").starts_with(&here));
    let pids: BTreeSet<i64> = of_these.filter_map(|event| event["pid"].as_i64()).collect();
    assert!([2, 4].contains(&pids.len()), "{killed:#?}");
}

#[test]
fn stop_and_audit() {
    let scratch = Scratch::new();
    let watched = directory(&scratch, "watched");
    let enforcement = enforcement(&rule("enforce", &watched, "stop"));
    is_not_judged_by_what_is_refused(&watched);
    let mut actor = somebody(&watched, "64K");
    assert_eq!(actor.fate("register-buffers r m"), Fate::Stopped);
    actor.go_on(true);
    actor.ok("pid");
    assert_eq!(enforcement.hits("bare"), json!({"stopped": 1}));
    enforcement.replace(&rule("audit", &watched, "kill"));
    is_not_judged_by_what_is_refused(&watched);
    let actor = somebody(&watched, "128K");
    actor.ok("register-buffers r m");
    assert_eq!(enforcement.hits("bare")["would-kill"], 1);
}

/// A lease that found no room covers all the same.
#[test]
fn a_lease_that_is_not_in_the_books_is_one() {
    no_monitor();
    let scratch = Scratch::new();
    let watched = directory(&scratch, "watched");
    let policy = scratch.file("policy.toml");
    fs::write(&policy, rule("enforce", &watched, "kill")).expect("a policy");
    let monitor = Monitor::with(&["--capacity", "1024", "--policy", &policy]);
    let hoarder = Actor::start();
    hoarder.ok(&format!("setuid {USER}"));
    hoarder.ok(&format!(
        "hoard-leases 600 {}",
        directory(&scratch, "hoard")
    ));
    let actor = somebody(&watched, "64K");
    actor.all(&["setlease f w", "register-buffers r m"]);
    std::thread::sleep(Duration::from_secs(3));
    actor.ok("pid");
    monitor.none_for(actor.pid(), "killed");
    monitor.stop();
}
