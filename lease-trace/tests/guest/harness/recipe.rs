//! The steps that most scenarios begin with, and the check that a record is about the right actor
//! and file.

use std::fs::File;

use serde_json::Value;

use super::actor::{comm_of, state_of};
use super::{Actor, Monitor, Subject, assert_file_agrees, integer, text};

/// The size of a scenario's file.
const MIB: u64 = 1 << 20;
/// The pages in it.
pub const PAGES: i64 = 256;

/// A write lease on the new file and its pages in a ring: slots `f`, `m` and `ring`.
///
/// The ring comes first so that it has the lower number: when a process ends, what it closed last
/// is released first, hence the lease before the ring.
#[track_caller]
pub fn open_lease_and_pin(actor: &Actor, path: &str) -> Subject {
    actor.ok("uring ring");
    actor.ok(&format!("open f {path} rw,creat,cloexec"));
    actor.ok("write-all f 1M");
    actor.all(&[
        "setlease f w",
        "mmap m f 1M shared rw",
        "register-buffers ring m",
    ]);
    Subject::at(path)
}

/// Pins that no lease covers and no mapping or descriptor stands behind any more: they live in the
/// ring alone. Whoever opens the file afterwards finds no writer there.
#[track_caller]
pub fn pin_without_lease(actor: &Actor, path: &str) -> Subject {
    File::create(path)
        .and_then(|file| file.set_len(MIB))
        .expect("a file in the scratch directory");
    actor.ok("uring ring");
    actor.ok(&format!("open rw {path} rw"));
    actor.all(&[
        "mmap m rw 1M shared rw",
        "register-buffers ring m",
        "munmap m",
        "close rw",
    ]);
    Subject::at(path)
}

/// Asserts whom and what a record is about.
#[track_caller]
pub fn assert_about(record: &Value, pid: i64, file: &Subject) {
    assert_eq!(record["pid"], pid, "{record}");
    if !ended(pid) {
        assert_eq!(record["comm"], comm_of(pid), "{record}");
    }
    let Subject { path, dev, ino } = file;
    assert_eq!(record["path"], path.as_str(), "{record}");
    assert_eq!(record["dev"], dev.as_str(), "{record}");
    assert_eq!(record["ino"], *ino, "{record}");
}

/// Waits for the zombie that a release of an io_uring-pinned scenario file makes, and checks all of
/// it.
#[track_caller]
pub fn expect_zombie(monitor: &Monitor, pid: i64, file: &Subject, cause: &str) -> Value {
    let zombie = expect_zombie_of_older_lease(monitor, pid, file, cause);
    assert!(integer(&zombie["lease"], "held_ms") >= 0, "{zombie}");
    zombie
}

/// Waits for the zombie that the end of a write lease makes of pins of any consumer, and checks
/// what belongs to every zombie.
#[track_caller]
pub fn expect_zombie_with(
    monitor: &Monitor,
    pid: i64,
    file: &Subject,
    cause: &str,
    pins: i64,
    consumer: &str,
) -> Value {
    let zombie = monitor.expect("zombie", |event| {
        event["pid"] == pid && event["ino"] == file.ino && event["dev"] == file.dev.as_str()
    });
    assert_about(&zombie, pid, file);
    assert_eq!(zombie["cause"], cause, "{zombie}");
    assert_eq!(zombie["pins"], pins, "{zombie}");
    assert_eq!(zombie["consumer"], consumer, "{zombie}");
    assert_eq!(zombie["lease"]["mode"], "write", "{zombie}");
    assert!(zombie["pinned_ms"].is_u64(), "{zombie}");
    assert_file_agrees(&zombie);
    zombie
}

/// The same for a lease that was set before the monitor started: nobody knows how long it was
/// held.
#[track_caller]
pub fn expect_zombie_of_older_lease(
    monitor: &Monitor,
    pid: i64,
    file: &Subject,
    cause: &str,
) -> Value {
    let zombie = monitor.expect_of("zombie", pid);
    assert_about(&zombie, pid, file);
    assert_eq!(zombie["cause"], cause, "{zombie}");
    assert_eq!(zombie["pins"], PAGES, "{zombie}");
    assert_eq!(zombie["consumer"], "io_uring", "{zombie}");
    assert_eq!(zombie["uid"], 0, "{zombie}");
    assert_eq!(zombie["lease"]["kind"], "lease", "{zombie}");
    assert_eq!(zombie["lease"]["mode"], "write", "{zombie}");
    assert!(text(&zombie, "cgroup").starts_with('/'), "{zombie}");
    let dying = matches!(cause, "exit" | "killed");
    assert_eq!(
        zombie["ends_by_itself"].as_bool().unwrap_or(false),
        dying,
        "{zombie}"
    );
    zombie
}

/// Waits for the end of a zombie, and checks that it is the same one.
#[track_caller]
pub fn expect_rest(monitor: &Monitor, pid: i64, file: &Subject) -> Value {
    let rest = monitor.expect_of("at-rest", pid);
    assert_about(&rest, pid, file);
    assert!(integer(&rest, "zombie_ms") >= 0, "{rest}");
    rest
}

/// Asserts who let go.
#[track_caller]
pub fn assert_released_by(record: &Value, pid: i64) {
    assert_eq!(record["releaser"]["pid"], pid, "{record}");
    if !ended(pid) {
        assert_eq!(record["releaser"]["comm"], comm_of(pid), "{record}");
    }
}

/// Whether a process has ended, reaped or not.
fn ended(pid: i64) -> bool {
    matches!(state_of(pid), None | Some('Z' | 'X'))
}
