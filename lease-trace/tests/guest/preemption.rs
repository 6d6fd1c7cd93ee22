//! How points are watched where the kernel preempts tasks inside programs, and what is lost by that. Its userland boots with
//! `preempt=full`, which a kernel built with PREEMPT_RT need not be told; `doctor::` asks the same where the kernel
//! is as it comes.

use std::{fs, io, path::Path, process::Command};

use crate::harness::{
    Actor, Monitor, PAGES, Pinned, Scratch, Tool, counted, expect_rest, expect_zombie,
    open_lease_and_pin,
};

const DEBUGFS: &str = "/sys/kernel/debug";

/// What `doctor` says of preemption.
pub fn said() -> String {
    let found = Tool::run(&["doctor", "-J"]).exits(0).json();
    let findings = found["findings"].as_array().expect("a list");
    let mut findings = findings.iter();
    let finding = findings.find(|finding| finding["point"] == "preemption");
    let how = finding.and_then(|finding| finding["how"].as_str());
    how.unwrap_or_else(|| panic!("nothing of preemption: {found}"))
        .to_owned()
}

/// How an entry, a return and a call under a spinlock are watched by a monitor.
pub fn kinds(attach: &str) -> [String; 3] {
    let monitor = Monitor::with(&["--attach", attach]);
    let points = monitor.start["attach"].as_array().expect("a list");
    let points: Vec<_> = points.iter().filter_map(|point| point.as_str()).collect();
    ["unpin_user_page", "pin_user_pages", "lease_modify"].map(|function| {
        let mut kinds = points.iter().filter_map(|point| point.split_once(": "));
        let kind = kinds.find_map(|(name, kind)| (name == function).then_some(kind));
        kind.unwrap_or_else(|| panic!("no {function}: {points:?}"))
            .to_owned()
    })
}

/// Whether the kernel is built with PREEMPT_RT, where spinlocks sleep.
pub fn is_real_time() -> bool {
    let build = fs::read_to_string("/proc/sys/kernel/version").expect("its build");
    build.split_whitespace().any(|word| word == "PREEMPT_RT")
}

/// Whether the kernel has kprobe.multi.
fn has_multi() -> bool {
    let symbols = fs::read_to_string("/proc/kallsyms").expect("its symbols");
    symbols
        .lines()
        .any(|line| line.ends_with(" register_fprobe_ips"))
}

/// The mode in force, from the debugfs that every guest has mounted.
pub fn mode() -> String {
    let modes = fs::read_to_string(Path::new(DEBUGFS).join("sched/preempt")).expect("modes");
    let begun = modes.split_once('(').expect("one in force").1;
    begun.split_once(')').expect("its end").0.to_owned()
}

fn run(command: &str, arguments: &[&str]) {
    let status = Command::new(command).args(arguments).status();
    assert!(status.expect(command).success(), "{command} {arguments:?}");
}

/// The mode is found with debugfs mounted and without; and then nothing is left mounted.
#[test]
fn entries_are_watched_by_kprobes() {
    if !is_real_time() {
        assert_eq!(mode(), "full");
    }
    let mounted = said();
    // Even where something is mounted below.
    run("umount", &["-l", DEBUGFS]);
    let own = said();
    let is_left = Path::new(DEBUGFS).join("sched").exists();
    run("mount", &["-t", "debugfs", "debugfs", DEBUGFS]);
    assert!(!is_left, "it left a mount behind");
    assert_eq!(own, mounted);
    assert!(own.starts_with("tasks"), "{own}");
    let [entry, both, locked] = kinds("auto");
    let (kprobe, known): (_, &[&str]) = if has_multi() {
        let known = &["kprobe.multi+kretprobe.multi", "kprobe.multi+fexit"];
        ("kprobe.multi", known)
    } else {
        ("kprobe", &["fentry+fexit", "kprobe+kretprobe"])
    };
    let under_lock = if is_real_time() { kprobe } else { "fentry" };
    assert_eq!([entry.as_str(), &locked], [kprobe, under_lock]);
    assert!(known.contains(&both.as_str()), "{both}");
    if is_real_time() {
        assert!(!both.contains("fexit"), "{both}");
    }
    assert_eq!(kinds("fentry"), ["fentry", "fentry+fexit", "fentry"]);
}

/// Pins, short-term pins between them, and the zombie they make: nothing is counted as lost.
#[test]
fn the_kinds_go_together() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::with(&["--all-events"]);
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.all(&["mmap-anon a 1M private", "touch a"]);
    for _ in 0..20 {
        actor.ok("vm-read a");
    }
    assert_eq!(pinned.since(), PAGES);
    actor.ok("setlease f u");
    expect_zombie(&monitor, actor.pid(), &file, "unlock");
    actor.ok("unregister-buffers ring");
    expect_rest(&monitor, actor.pid(), &file);
    pinned.assert_balanced();
    let lost = monitor.all("lost");
    assert!(lost.is_empty(), "{lost:?}");
}

/// A task is preempted while it deletes the record of a file, by one that wants to make it, on the same processor: the
/// wait for the first has no end, and is given up.
#[test]
fn a_wait_that_is_given_up_is_logged() {
    const GIVEN_UP: &str =
        "records were not to be had in time: other CPUs made, changed or deleted them";
    let scratch = Scratch::new();
    let monitor = Monitor::that_logs(&["--attach", "fentry"]);
    let [slow, urgent] = [(); 2].map(|()| {
        let actor = Actor::start();
        actor.ok(&format!("open f {} rw,creat", scratch.file("f")));
        actor.all(&["truncate f 4K", "mmap m f 4K shared rw", "uring r"]);
        actor
    });
    run_on_first_processor(&slow, libc::SCHED_OTHER);
    run_on_first_processor(&urgent, libc::SCHED_FIFO);
    {
        let _slowly = SlowDeletion::new();
        // Where the first one is just then is chance: it takes some dozens of these. 6.1 lets it wait between them.
        let is_given_up = (0..60).any(|_| {
            slow.ok("begin some time-buffers r m 100");
            for _ in 0..24 {
                urgent.all(&["register-buffers r m", "unregister-buffers r"]);
            }
            slow.ok("finish some");
            counted().contains_key(GIVEN_UP)
        });
        assert!(is_given_up, "{:?}", counted());
    }
    monitor.expect_logged_of(urgent.pid(), GIVEN_UP);
}

/// Entries of maps are deleted slowly: the kernel writes a stack down each time.
struct SlowDeletion;

impl SlowDeletion {
    const FILTER: &str = "/sys/kernel/debug/tracing/set_ftrace_filter";

    fn new() -> Self {
        fs::write(Self::FILTER, "htab_map_delete_elem:stacktrace").expect("a trigger");
        Self
    }
}

impl Drop for SlowDeletion {
    fn drop(&mut self) {
        let _ = fs::write(Self::FILTER, "!htab_map_delete_elem:stacktrace");
    }
}

/// From now on, with whatever threads it makes.
fn run_on_first_processor(actor: &Actor, policy: libc::c_int) {
    let pid = i32::try_from(actor.pid()).expect("a pid");
    let done = |answer: libc::c_int| assert_eq!(answer, 0, "{}", io::Error::last_os_error());
    // SAFETY: plain structures, of which zero is a value, and which outlive the calls.
    unsafe {
        let mut first: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(0, &mut first);
        done(libc::sched_setaffinity(
            pid,
            size_of_val(&first),
            &raw const first,
        ));
        let mut parameters: libc::sched_param = std::mem::zeroed();
        parameters.sched_priority = i32::from(policy == libc::SCHED_FIFO);
        done(libc::sched_setscheduler(pid, policy, &raw const parameters));
    }
}
