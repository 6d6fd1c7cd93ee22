//! The units in dist/systemd, as they are, under a real systemd: what a restart, a crash, a stuck
//! monitor and a stop do to files that are held.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::{
    Actor, Scratch, Subject, eventually, leases_on, no_monitor, open_lease_and_pin,
};

const UNITS: [(&str, &str); 2] = [
    (
        "lease-trace.service",
        include_str!("../../../dist/systemd/lease-trace.service"),
    ),
    (
        "lease-trace-enforce.service",
        include_str!("../../../dist/systemd/lease-trace-enforce.service"),
    ),
];
const MONITOR: &str = "lease-trace";
const ENFORCEMENT: &str = "lease-trace-enforce";

const POLICY: &str = r#"
mode = "enforce"

[[rule]]
name = "keep"
action = "hold"
fallback = "report"
"#;

/// Both units, installed and started; stopped when dropped.
struct Service;

impl Service {
    /// `watchdog`: of the monitor, in place of its own.
    fn start(watchdog: Option<u32>) -> Self {
        no_monitor();
        let directory = Path::new("/run/systemd/system");
        for (name, unit) in UNITS {
            // A guest has its programs in another directory, and a run its way to attach.
            let mut unit = unit.replace("/usr/bin/lease-trace", "/usr/local/bin/lease-trace");
            if let Ok(attach) = std::env::var("LEASE_TRACE_ATTACH") {
                unit = unit.replace(
                    " enforce start",
                    &format!(" enforce start --attach {attach}"),
                );
            }
            fs::write(directory.join(name), unit).expect("a unit");
        }
        let more = directory.join("lease-trace.service.d");
        let _ = fs::remove_dir_all(&more);
        if let Some(seconds) = watchdog {
            fs::create_dir(&more).expect("a directory for the unit");
            let shorter = format!("[Service]\nWatchdogSec={seconds}s\n");
            fs::write(more.join("watchdog.conf"), shorter).expect("a part of the unit");
        }
        fs::create_dir_all("/etc/lease-trace").expect("a directory");
        fs::write("/etc/lease-trace/policy.toml", POLICY).expect("a policy");
        systemctl(&["daemon-reload"]);
        systemctl(&["start", MONITOR]);
        assert_eq!(show(ENFORCEMENT, "ActiveState"), "active");
        Self
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // The monitor goes with the enforcement.
        let _ = Command::new("systemctl")
            .args(["stop", ENFORCEMENT])
            .status();
    }
}

#[track_caller]
fn systemctl(arguments: &[&str]) {
    let ran = Command::new("systemctl").args(arguments).output();
    let ran = ran.expect("systemctl runs");
    assert!(
        ran.status.success(),
        "systemctl {arguments:?}: {}\n{}",
        String::from_utf8_lossy(&ran.stderr),
        journal(&[])
    );
}

fn show(unit: &str, property: &str) -> String {
    let ran = Command::new("systemctl")
        .args(["show", "--value", "--property", property, unit])
        .output()
        .expect("systemctl runs");
    String::from_utf8_lossy(&ran.stdout).trim().to_owned()
}

/// What the journal has of the monitor, as text; with matches on fields.
fn journal(matches: &[&str]) -> String {
    let _ = Command::new("journalctl").arg("--sync").status();
    let ran = Command::new("journalctl")
        .args(["--quiet", "--no-pager", "--output", "json"])
        .args(["_SYSTEMD_UNIT=lease-trace.service"])
        .args(matches)
        .output()
        .expect("journalctl runs");
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

/// Waits for a record about this process, by its fields in the journal.
#[track_caller]
fn expect_in_journal(event: &str, outcome: &str, pid: i64) -> Value {
    let matches = [
        format!("LEASE_TRACE_EVENT={event}"),
        format!("LEASE_TRACE_OUTCOME={outcome}"),
        format!("LEASE_TRACE_PID={pid}"),
    ];
    let matches: Vec<&str> = matches.iter().map(String::as_str).collect();
    let mut found = String::new();
    let there = eventually(|| {
        found = journal(&matches);
        !found.is_empty()
    });
    assert!(there, "no {event} ({outcome}) of {pid}:\n{}", journal(&[]));
    let line = found.lines().next_back().expect("a line");
    serde_json::from_str(line).expect("JSON")
}

#[track_caller]
fn expect_kept(files: usize) {
    let kept = eventually(|| show(MONITOR, "NFileDescriptorStore") == files.to_string());
    assert!(kept, "not {files} kept:\n{}", journal(&[]));
}

/// The monitor runs, as another process than the one named.
#[track_caller]
fn expect_successor_of(pid: &str) {
    let running = eventually(|| {
        let now = show(MONITOR, "MainPID");
        now != pid && now != "0" && show(MONITOR, "ActiveState") == "active"
    });
    assert!(running, "it does not run again:\n{}", journal(&[]));
}

/// An actor that let go of a file's last descriptor and mapping while its ring has pins on it: the
/// lease is there because the monitor holds it.
fn held(scratch: &Scratch) -> (Actor, Subject) {
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    let record = expect_in_journal("held", "done", actor.pid());
    assert_eq!(record["LEASE_TRACE_RULE"], "keep", "{record}");
    assert_eq!(record["LEASE_TRACE_PATH"], file.path.as_str(), "{record}");
    expect_kept(1);
    actor.all(&["close f", "munmap m"]);
    assert_eq!(leases_on(&file).len(), 1, "it is held");
    (actor, file)
}

#[track_caller]
fn expect_let_go(actor: &Actor, file: &Subject) {
    actor.ok("unregister-buffers ring");
    assert!(
        eventually(|| leases_on(file).is_empty()),
        "it is not let go"
    );
    expect_kept(0);
}

#[test]
fn a_hold_survives_a_restart_and_a_crash_of_the_monitor() {
    let _service = Service::start(None);
    let scratch = Scratch::new();
    let (actor, file) = held(&scratch);

    systemctl(&["restart", MONITOR]);
    assert_eq!(leases_on(&file).len(), 1, "lost by a restart");
    expect_in_journal("held", "taken-back", actor.pid());
    assert_eq!(
        show(MONITOR, "StatusText"),
        "1 rule, 1 file held, 0 zombies"
    );

    let pid = show(MONITOR, "MainPID");
    systemctl(&["kill", "--signal=KILL", MONITOR]);
    expect_successor_of(&pid);
    assert_eq!(leases_on(&file).len(), 1, "lost by a crash");
    expect_kept(1);
    expect_let_go(&actor, &file);
    expect_in_journal("hold-end", "pins-gone", actor.pid());
}

/// Neither takes part in what the monitor would have been told: the stakes tell it.
#[test]
fn what_happens_while_no_monitor_runs_is_made_up_for() {
    let _service = Service::start(None);
    let scratch = Scratch::new();
    let (gone, file) = held(&scratch);
    systemctl(&["kill", "--signal=STOP", MONITOR]);
    gone.ok("unregister-buffers ring");
    let came = Actor::start();
    let other = open_lease_and_pin(&came, &scratch.file("g"));
    let pid = show(MONITOR, "MainPID");
    systemctl(&["kill", "--signal=KILL", MONITOR]);
    expect_successor_of(&pid);

    assert!(
        eventually(|| leases_on(&file).is_empty()),
        "it is held still"
    );
    expect_in_journal("hold-end", "pins-gone", gone.pid());
    expect_in_journal("held", "done", came.pid());
    came.all(&["close f", "munmap m"]);
    assert_eq!(leases_on(&other).len(), 1, "it is not held");
    expect_let_go(&came, &other);
}

#[test]
fn a_stuck_monitor_is_started_again_and_a_busy_one_is_not() {
    const WATCHDOG: u32 = 10;
    let _service = Service::start(Some(WATCHDOG));
    let scratch = Scratch::new();
    let (actor, file) = held(&scratch);
    let pid = show(MONITOR, "MainPID");
    std::thread::sleep(std::time::Duration::from_secs(2 * u64::from(WATCHDOG)));
    assert_eq!(show(MONITOR, "MainPID"), pid, "{}", journal(&[]));

    systemctl(&["kill", "--signal=STOP", MONITOR]);
    expect_successor_of(&pid);
    assert_eq!(leases_on(&file).len(), 1, "lost with the stuck monitor");
    expect_kept(1);
    expect_let_go(&actor, &file);
}

#[test]
fn a_stop_lets_go_and_the_next_start_says_so() {
    let _service = Service::start(None);
    let scratch = Scratch::new();
    let (actor, file) = held(&scratch);
    systemctl(&["stop", MONITOR]);
    assert!(
        eventually(|| leases_on(&file).is_empty()),
        "it is held still"
    );
    assert_eq!(show(ENFORCEMENT, "ActiveState"), "active");

    systemctl(&["start", MONITOR]);
    let record = expect_in_journal("failed", "too-late", actor.pid());
    assert_eq!(record["PRIORITY"], "3", "{record}");
    systemctl(&["stop", ENFORCEMENT]);
    assert_eq!(show(MONITOR, "ActiveState"), "inactive");
    assert!(!Path::new("/sys/fs/bpf/lease-trace").exists());
}
