//! What is lost, forced: each loss is logged with what it is about, and as often as it is counted.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use crate::harness::{Actor, Monitor, Scratch, counted, eventually};

/// The least that lease-trace takes.
const CAPACITY: i64 = 1024;
/// As few as the ring of the log has room for.
const BEYOND: i64 = 4;

const NO_FILE: &str = "inodes found no room in the INODES map";
const NOBODYS: &str = "pins are counted that no process has";
const NO_STAKE: &str = "stakes found no room in the STAKES map";
const NO_SHARE: &str = "users who have a quarter of a table got no more of it";
const NO_OWNER: &str = "pin releases could not be credited to one owner";
const NOT_COUNTED: &str = "pin references were dropped that had not been counted";
const NOT_DETACHED: &str = "truncated folios found no room in the DETACHED map";
const NO_PATH: &str = "paths could not be kept";
const NOT_READ: &str = "pinned pages could not be read";

fn with_room_for_few() -> Monitor {
    Monitor::that_logs(&["--capacity", &CAPACITY.to_string()])
}

fn directory_of(scratch: &Scratch, uid: u32) -> String {
    let directory = scratch.file(&format!("of-{uid}"));
    fs::create_dir(&directory).expect("a directory");
    chown(&directory, Some(uid), None).expect("its owner");
    directory
}

/// Of one loss, with the process that it is told of.
#[track_caller]
fn expect_of_process(monitor: &Monitor, pid: i64, what: &str, n: i64) {
    monitor.expect_logged(what);
    let of_process = format!("of process {pid}");
    assert_eq!(
        monitor.logged(&of_process),
        BTreeMap::from([(what.to_owned(), n)]),
        "{}",
        monitor.talk()
    );
}

/// More files than there is room for, and one more owner in one that has a record.
#[test]
fn files_and_owners_without_room_are_logged() {
    let scratch = Scratch::new();
    let monitor = with_room_for_few();
    let directory = directory_of(&scratch, 0);
    let first = Actor::start();
    first.ok("uring r");
    let many = CAPACITY + BEYOND;
    first.ok(&format!("register-files-pages r {many} {directory}"));
    expect_of_process(&monitor, first.pid(), NO_FILE, BEYOND);
    let second = Actor::start();
    second.ok("uring r");
    second.ok(&format!("register-files-pages r 1 {directory}"));
    monitor.expect_logged_of(second.pid(), NO_STAKE);
    assert_eq!(counted()[NO_STAKE], 1, "{}", monitor.talk());
    let of_second = monitor.logged(&format!("of process {}", second.pid()));
    assert_eq!(of_second.get(NOBODYS), Some(&1), "{}", monitor.talk());
}

/// A user's leases, and the files in which he has pins.
#[test]
fn what_is_beyond_a_users_share_is_logged() {
    const USER: u32 = 1000;
    let scratch = Scratch::new();
    let monitor = with_room_for_few();
    let directory = directory_of(&scratch, USER);
    let many = CAPACITY / 4 + BEYOND;
    let actor = Actor::start();
    actor.all(&["open-files 1024", &format!("setuid {USER}"), "uring r"]);
    actor.ok(&format!("lease-each {many} {directory}"));
    expect_of_process(&monitor, actor.pid(), NO_SHARE, BEYOND);
    actor.ok(&format!("register-files-pages r {many} {directory}"));
    expect_of_process(&monitor, actor.pid(), NO_SHARE, 2 * BEYOND);
}

/// A kworker drops a umem. Of two owners it is not known whose it was; and one from before the monitor was more than is
/// counted.
#[test]
fn drops_that_are_nobodys_are_logged() {
    let scratch = Scratch::new();
    let has_umem = |name: &str| {
        let actor = Actor::start();
        actor.ok(&format!("open f {} rw,creat", scratch.file(name)));
        actor.all(&["truncate f 64K", "mmap m f 64K shared rw"]);
        actor.all(&["xdp-socket x", "xdp-umem x m"]);
        actor
    };
    let older = has_umem("older");
    let monitor = Monitor::that_logs(&[]);
    let (_one, other) = (has_umem("f"), has_umem("f"));
    other.ok("close x");
    until_lost(NO_OWNER);
    monitor.expect_logged(NO_OWNER);
    older.all(&["mmap n f 4K shared rw", "xdp-socket y", "xdp-umem y n"]);
    older.ok("close x");
    until_lost(NOT_COUNTED);
    monitor.expect_logged(NOT_COUNTED);
    let expected = [(NO_OWNER, 16), (NOT_COUNTED, 15)];
    assert_eq!(
        counted(),
        expected.map(|(what, n)| (what.to_owned(), n)).into()
    );
}

/// One call pins more pages than a program looks at: the same ones, mapped again and again. Then the kernel finds that they
/// are more than it has memory, and drops them.
#[test]
fn pages_that_are_not_looked_at_are_logged() {
    const MIB: i64 = 256;
    const TIMES: i64 = 128;
    /// KiB.
    const BEYOND: i64 = 16;
    let scratch = Scratch::huge("always", "mode=1777");
    let monitor = Monitor::that_logs(&[]);
    let actor = Actor::start();
    actor.ok(&format!("open f {} rw,creat", scratch.file("f")));
    let all = MIB * TIMES * 1024 + BEYOND;
    actor.all(&[
        &format!("truncate f {MIB}M"),
        &format!("mmap m f {all}K shared rw"),
        "xdp-socket x",
    ]);
    for time in 0..TIMES {
        actor.ok(&format!("mmap-over m {}M f {MIB}M shared rw", time * MIB));
    }
    actor.ok(&format!(
        "mmap-over m {}M f {BEYOND}K shared rw",
        TIMES * MIB
    ));
    actor.err("xdp-umem x m", libc::ENOMEM);
    // When they are pinned and when they are dropped.
    let twice = 2 * BEYOND / 4;
    expect_of_process(&monitor, actor.pid(), NOT_READ, twice);
}

/// The monitor's cgroup has used up its memory: the kernel has no more for new entries of its maps.
#[test]
fn what_finds_no_memory_is_logged() {
    let scratch = Scratch::new();
    let group = Group::new();
    let monitor = group.monitor();
    let actor = Actor::start();
    actor.ok(&format!("open f {} rw,creat", scratch.file("f")));
    actor.all(&["truncate f 1M", "mmap m f 1M shared rw"]);
    actor.all(&["uring r", "register-buffers r m"]);
    group.has_no_more();

    // For some the kernel has set memory aside, on each processor.
    let cut_off = |number| actor.ok(&format!("truncate f {}K", 1024 - 32 * (number + 1)));
    (0..32)
        .take_while(|_| !is_lost(NOT_DETACHED))
        .for_each(|number| _ = cut_off(number));
    monitor.expect_logged_of(actor.pid(), NOT_DETACHED);

    let pin_another = |number| {
        let directory = scratch.file(&format!("{number}"));
        fs::create_dir(&directory).expect("a directory");
        actor.ok(&format!("uring r{number}"));
        actor.ok(&format!("register-files-pages r{number} 1 {directory}"));
    };
    (0..64)
        .take_while(|_| !is_lost(NO_PATH))
        .for_each(pin_another);
    monitor.expect_logged_of(actor.pid(), NO_PATH);
}

fn is_lost(what: &str) -> bool {
    counted().contains_key(what)
}

/// A kworker may be about it.
#[track_caller]
fn until_lost(what: &str) {
    assert!(eventually(|| is_lost(what)), "{what}: {:?}", counted());
}

/// A cgroup for the memory of a monitor's maps.
struct Group(PathBuf);

const ROOT: &str = "/sys/fs/cgroup";

impl Group {
    fn new() -> Self {
        let root = Path::new(ROOT);
        fs::write(root.join("cgroup.subtree_control"), "+memory").expect("a controller");
        let group = root.join("no-memory");
        fs::create_dir(&group).expect("a cgroup");
        Self(group)
    }

    /// One whose maps are this group's, and which is itself in no group.
    fn monitor(&self) -> Monitor {
        move_to(&self.0, 0);
        let monitor = Monitor::that_logs(&[]);
        for pid in [0, monitor.pid()] {
            move_to(Path::new(ROOT), pid);
        }
        monitor
    }

    /// From now on it gets none.
    fn has_no_more(&self) {
        fs::write(self.0.join("memory.max"), "0").expect("a limit");
    }
}

fn move_to(group: &Path, pid: i64) {
    fs::write(group.join("cgroup.procs"), pid.to_string()).expect("moved");
}

impl Drop for Group {
    fn drop(&mut self) {
        move_to(Path::new(ROOT), 0);
        let _ = fs::remove_dir(&self.0);
    }
}
