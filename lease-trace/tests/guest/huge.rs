//! Huge pages: hugetlbfs, and tmpfs with folios of several sizes in one call. Pins are counted as
//! the kernel counts them: a ring may keep one reference for a whole folio, a umem has one for each
//! of its pages.

use std::fs;

use crate::harness::{
    Actor, Monitor, Pinned, Scratch, Setting, Subject, Tool, cannot, expect_rest,
    expect_zombie_with, has_large_folios,
};

/// How the pins are taken and dropped, and who the consumer is.
const BY: [[&str; 3]; 2] = [
    [
        "register-buffers ring m",
        "unregister-buffers ring",
        "io_uring",
    ],
    ["xdp-umem x m", "close x", "xdp"],
];

/// The pins that the tool knows of the process.
fn pins_of(actor: &Actor) -> i64 {
    let report = Tool::run(&["report", "stakes", "-J"]).exits(0);
    let rows = report.rows("stakes", actor.pid());
    rows.iter().filter_map(|row| row["pins"].as_i64()).sum()
}

/// Kibibytes of huge folios of shmem files there are.
fn huge_shmem() -> u64 {
    let meminfo = fs::read_to_string("/proc/meminfo").expect("/proc/meminfo");
    let figure = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("ShmemHugePages:"));
    assert_eq!(figure.is_some(), has_large_folios(), "{meminfo}");
    let Some(figure) = figure else {
        return 0;
    };
    let figure = figure.trim_end_matches("kB");
    figure.trim().parse().expect("a number")
}

#[test]
fn of_hugetlbfs() {
    let _pages = Setting::set("vm/nr_hugepages", "4");
    let scratch = Scratch::of("hugetlbfs", "pagesize=2M");
    let monitor = Monitor::start();
    for [pin, unpin, consumer] in BY {
        let pinned = Pinned::now();
        let actor = Actor::start();
        actor.all(&["uring ring", "xdp-socket x"]);
        actor.ok(&format!("open f {} rw,creat", scratch.file(consumer)));
        actor.all(&["truncate f 4M", "mmap m f 4M shared rw", "touch m"]);
        let file = Subject::at(&scratch.file(consumer));
        let lease = actor.attempt("setlease f w");
        actor.ok(pin);
        let pins = pinned.since();
        assert!(pins > 0, "{consumer}");
        assert_eq!(pins_of(&actor), pins, "{consumer}");
        match lease {
            Ok(_) => {
                actor.ok("setlease f u");
                expect_zombie_with(&monitor, actor.pid(), &file, "unlock", pins, consumer);
                actor.ok(unpin);
                expect_rest(&monitor, actor.pid(), &file);
            }
            Err(refusal) => {
                assert_eq!(refusal.errno, libc::EINVAL, "{refusal}");
                cannot("a lease on a file of hugetlbfs", refusal.errno);
                let bare = monitor.expect_of("bare-pin", actor.pid());
                assert_eq!(bare["consumer"], consumer, "{bare}");
                actor.ok(unpin);
            }
        }
        pinned.assert_balanced();
        assert_eq!(pins_of(&actor), 0, "{consumer}");
    }
}

/// Two huge folios and sixteen small ones behind them; then cut off in the middle, and wholly.
#[test]
fn of_several_sizes_in_one_call() {
    let scratch = Scratch::huge("within_size", "mode=1777");
    let monitor = Monitor::start();
    for [pin, unpin, consumer] in BY {
        let pinned = Pinned::now();
        let actor = Actor::start();
        let huge = huge_shmem();
        actor.all(&["uring ring", "xdp-socket x"]);
        actor.ok(&format!("open f {} rw,creat", scratch.file(consumer)));
        actor.all(&["truncate f 4160K", "write-all f 4160K"]);
        let expected = if has_large_folios() { 4096 } else { 0 };
        assert_eq!(
            huge_shmem() - huge,
            expected,
            "two huge folios, the rest is small"
        );
        let file = Subject::at(&scratch.file(consumer));
        actor.all(&["setlease f w", "mmap m f 4160K shared rw", pin]);
        let pins = pinned.since();
        assert_eq!(pins_of(&actor), pins, "{consumer}");
        actor.all(&["punch-hole f 1M 64K", "truncate f 3M", "truncate f 0"]);
        assert_eq!(pinned.since(), pins, "{consumer}: cut off");
        actor.ok("setlease f u");
        expect_zombie_with(&monitor, actor.pid(), &file, "unlock", pins, consumer);
        actor.ok(unpin);
        expect_rest(&monitor, actor.pid(), &file);
        pinned.assert_balanced();
    }
}
