//! What the programs log: the losses that a counter has, one by one, with what each is about.

mod losses;

use std::collections::BTreeMap;
use std::{fs, io};

use crate::harness::{
    Actor, Enforcement, Monitor, PAGES, Scratch, Setting, counted, eventually, open_lease_and_pin,
};

/// Leases beyond what there is room for: not more than the ring of the log has room for.
const BEYOND: i64 = 6;
const CAPACITY: i64 = 1024;

/// Each line of a loss says how many; together they are what was counted.
#[test]
fn each_loss_is_logged_with_what_it_is_about() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.file("files")).expect("a directory");
    let monitor = Monitor::that_logs(&["--capacity", &CAPACITY.to_string()]);
    let actor = Actor::start();
    actor.ok("open-files 4096");
    let crowd = format!("crowd c 1 {} {}", CAPACITY + BEYOND, scratch.file("files"));
    actor.ok(&crowd);
    monitor.expect_logged("no room in the");
    let about = format!("thread {0} of process {0}", crowd_pid(&monitor));
    assert!(monitor.talk().contains(&about), "{}", monitor.talk());
    actor.ok("crowd-end c");
}

/// Leases, and pins that none covers, beside a monitor that reads nothing: what is routine has half of the
/// ring at most.
#[test]
fn what_finds_no_room_in_the_ring_is_logged() {
    const RING: &str = "notifications found no room in the ring buffer";
    /// Leases set and ended, and more than there is room for.
    const MANY: i64 = 5000;
    let scratch = Scratch::new();
    let monitor = Monitor::that_logs(&["--all-events"]);
    let lost = || counted().get(RING).copied().unwrap_or(0);
    let actor = Actor::start();
    actor.ok(&format!("open f {} rw,creat", scratch.file("f")));
    stand_still(&monitor);
    actor.ok(&format!("time-lease f {MANY}"));
    let before = lost();
    assert!(before > 0, "there is room for all");
    monitor.signal(libc::SIGCONT);
    monitor.barrier();
    let of_actor = format!("of process {}", actor.pid());
    assert!(eventually(|| monitor.logged(&of_actor).contains_key(RING)));

    // As many again as there was room for, and a few: the ring of the log has room for those.
    let another = Actor::start();
    another.ok(&format!("open g {} rw,creat", scratch.file("g")));
    another.all(&["truncate g 4K", "mmap m g 4K shared rw", "uring r"]);
    stand_still(&monitor);
    another.ok(&format!("time-lease g {}", MANY - before / 2 + 2));
    another.ok("register-buffers r m");
    let beyond = lost() - before;
    assert!((2..8).contains(&beyond), "{beyond}");
    monitor.signal(libc::SIGCONT);
    let of_process = format!("of process {}", another.pid());
    let of_ring = || monitor.logged(&of_process);
    assert!(
        eventually(|| of_ring() == BTreeMap::from([(RING.to_owned(), beyond)])),
        "logged {:?}, counted {beyond}",
        of_ring()
    );
}

/// Fewer pins are there than are counted, since a hook was kept from running, and what is done about it.
#[test]
fn doubt_and_correction_are_logged() {
    let scratch = Scratch::new();
    let monitor = Monitor::that_logs(&["--all-events", "--attach", "kprobe"]);
    let actor = Actor::start();
    open_lease_and_pin(&actor, &scratch.file("f"));
    unseen(&actor, "unregister-buffers ring");
    monitor.expect("corrected", |event| event["pins_counted"] == PAGES);
    let corrected = || monitor.logged("").get("pins were taken out of the count") == Some(&PAGES);
    assert!(eventually(corrected), "{}", monitor.talk());
    let doubted = monitor
        .logged("")
        .contains_key("the page cache has fewer pins than are counted");
    assert!(doubted, "{}", monitor.talk());
}

/// Two have pins in one file, and it is not known whose are gone: who lets go of the lease is not judged by them.
#[test]
fn pins_that_nobody_is_judged_by_are_logged() {
    let scratch = Scratch::new();
    let kill = "mode = \"enforce\"\n[[rule]]\nname = \"r\"\naction = \"kill\"\n";
    let _enforcement = Enforcement::that_logs(kill, &["--attach", "kprobe"]);
    let actor = Actor::start();
    open_lease_and_pin(&actor, &scratch.file("f"));
    actor.fork("child");
    actor.all(&[
        "child: mmap n f 1M shared rw",
        "child: uring own",
        "child: register-buffers own n",
    ]);
    unseen(&actor, "unregister-buffers ring");
    actor.ok("setlease f u");
    let monitor = Monitor::that_shows_logs();
    let of_actor = format!("of process {}", actor.pid());
    let what = "pins may be gone, or another's, and nobody is judged by them";
    assert!(
        eventually(|| monitor
            .logged(&of_actor)
            .get(what)
            .is_some_and(|n| n % (2 * PAGES) == 0)),
        "{}",
        monitor.talk()
    );
}

/// One lease covered more processes with pins than a program has room for notes.
#[test]
fn breaches_that_are_not_judged_are_logged() {
    const HEIRS: i64 = 6;
    const ROOM: i64 = 4;
    let scratch = Scratch::new();
    let report = "mode = \"enforce\"\n[[rule]]\nname = \"r\"\naction = \"report\"\n";
    let _enforcement = Enforcement::that_logs(report, &[]);
    let monitor = Monitor::that_shows_logs();
    let actor = Actor::start();
    open_lease_and_pin(&actor, &scratch.file("f"));
    for heir in 0..HEIRS {
        actor.fork(&format!("heir{heir}"));
        actor.ok(&format!("heir{heir}: uring own"));
        actor.ok(&format!("heir{heir}: register-buffers own m"));
    }
    actor.ok("setlease f u");
    let of_actor = format!("of process {}", actor.pid());
    let expected = BTreeMap::from([
        (
            "breaches found no room to be judged".to_owned(),
            1 + HEIRS - ROOM,
        ),
        // All but the first are for the monitor to judge.
        (
            "pins may be gone, or another's, and nobody is judged by them".to_owned(),
            (ROOM - 1) * PAGES,
        ),
    ]);
    assert!(
        eventually(|| monitor.logged(&of_actor) == expected),
        "{}",
        monitor.talk()
    );
}

/// It reads nothing from now on.
fn stand_still(monitor: &Monitor) {
    monitor.signal(libc::SIGSTOP);
    let threads = format!("/proc/{}/task", monitor.pid());
    let is_stopped = |thread: io::Result<fs::DirEntry>| {
        let stat = thread.and_then(|thread| fs::read_to_string(thread.path().join("stat")));
        stat.is_ok_and(|stat| stat.contains(") T "))
    };
    let all_are = || fs::read_dir(&threads).is_ok_and(|mut all| all.all(is_stopped));
    assert!(eventually(all_are), "it goes on");
}

/// The hooks are kept from running, and nothing counts that.
fn unseen(actor: &Actor, command: &str) {
    let _off = Setting::of_sysfs("kernel/debug/kprobes/enabled", "0");
    actor.ok(command);
}

/// The process that lost something, by the log.
fn crowd_pid(monitor: &Monitor) -> i64 {
    let talk = monitor.talk();
    let (_, behind) = talk.rsplit_once("of process ").expect("a process");
    let end = behind
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(behind.len());
    behind[..end].parse().expect("a pid")
}
