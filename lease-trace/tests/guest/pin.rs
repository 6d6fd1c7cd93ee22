//! Pins: which ones make a stake, and what becomes of them when the file changes beneath.

use crate::harness::{
    Actor, Monitor, PAGES, Pinned, Scratch, Subject, Tool, assert_about, cannot, expect_rest,
    expect_zombie, open_lease_and_pin, pin_without_lease,
};

/// Asserts that the process has no pins in any stake.
#[track_caller]
fn assert_no_pins(actor: &Actor, why: &str) {
    let report = Tool::run(&["report", "stakes", "-J"]).exits(0);
    for row in report.rows("stakes", actor.pid()) {
        assert_eq!(row["pins"].as_u64().unwrap_or(0), 0, "{why}: {row}");
    }
}

#[test]
fn anonymous_memory_is_no_stake() {
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let actor = Actor::start();
    actor.ok("uring ring");
    // Shared anonymous memory is a shmem file inside, but nobody could have leased it.
    for sharing in ["private", "shared"] {
        actor.ok(&format!("mmap-anon m 1M {sharing}"));
        actor.all(&["touch m", "register-buffers ring m"]);
        assert_eq!(pinned.since(), PAGES, "{sharing}");
        assert_no_pins(&actor, sharing);
        actor.all(&["unregister-buffers ring", "munmap m"]);
    }
    monitor.barrier();
    monitor.none_for(actor.pid(), "bare-pin");
}

/// A private mapping's pages are copies once they are pinned for writing.
#[test]
fn private_copies_of_a_file_are_no_stake() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let actor = Actor::start();
    actor.ok("uring ring");
    actor.ok(&format!("open f {} rw,creat", scratch.file("f")));
    actor.all(&[
        "write-all f 1M",
        "setlease f w",
        "mmap m f 1M private rw",
        "touch m",
    ]);
    actor.ok("register-buffers ring m");
    assert_eq!(pinned.since(), PAGES);
    assert_no_pins(&actor, "written to before");
    actor.all(&[
        "unregister-buffers ring",
        "munmap m",
        "mmap m f 1M private rw",
    ]);
    actor.ok("register-buffers ring m");
    assert_eq!(pinned.since(), PAGES);
    assert_no_pins(&actor, "copied by the pinning itself");
    actor.ok("setlease f u");
    monitor.barrier();
    monitor.none_for(actor.pid(), "zombie");
    monitor.none_for(actor.pid(), "bare-pin");
}

/// process_vm_readv pins the pages it reads, for as long as it reads them.
#[test]
fn short_term_pins_are_no_stake() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    actor.ok(&format!("open f {} rw,creat", scratch.file("f")));
    actor.all(&[
        "write-all f 1M",
        "mmap m f 1M shared rw",
        "touch m",
        "vm-read m",
    ]);
    assert_no_pins(&actor, "process_vm_readv");
    monitor.barrier();
    monitor.none_for(actor.pid(), "bare-pin");
}

/// Counted on request, they come and go in balance.
#[test]
fn short_term_pins_balance_when_counted() {
    let scratch = Scratch::new();
    let monitor = Monitor::with(&["--all-events", "--pins", "all"]);
    let actor = Actor::start();
    actor.ok(&format!("open f {} rw,creat", scratch.file("f")));
    actor.all(&[
        "write-all f 1M",
        "setlease f w",
        "mmap m f 1M shared rw",
        "touch m",
        "vm-read m",
    ]);
    assert_no_pins(&actor, "process_vm_readv is over");
    actor.ok("setlease f u");
    monitor.barrier();
    monitor.none_for(actor.pid(), "zombie");
}

#[test]
fn without_a_lease_they_are_bare() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = pin_without_lease(&actor, &scratch.file("f"));
    let bare = monitor.expect_of("bare-pin", actor.pid());
    assert_about(&bare, actor.pid(), &file);
    assert_eq!(bare["pins"], PAGES, "{bare}");
    assert_eq!(bare["consumer"], "io_uring", "{bare}");
    monitor.exactly_one(actor.pid(), "bare-pin");
    let report = Tool::run(&["report", "stakes", "-J"]).exits(0);
    let rows = report.rows("stakes", actor.pid());
    assert_eq!(rows.len(), 1, "{report}");
    assert_eq!(rows[0]["state"], "bare-pin", "{report}");
    actor.ok("unregister-buffers ring");
    monitor.barrier();
    monitor.none_for(actor.pid(), "zombie");
}

#[test]
fn a_part_of_a_file_counts_its_own_pages() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    actor.all(&["uring one", "uring two"]);
    actor.ok(&format!("open f {} rw,creat", scratch.file("f")));
    actor.all(&[
        "write-all f 1M",
        "setlease f w",
        "mmap m f 1M shared rw",
        "register-buffers one m 64K 128K",
        "register-buffers two m 128K 128K",
        "setlease f u",
    ]);
    let zombie = monitor.expect_of("zombie", actor.pid());
    assert_eq!(
        zombie["pins"], 64,
        "two buffers of 32 pages, 16 of them shared: {zombie}"
    );
    actor.ok("unregister-buffers one");
    monitor.barrier();
    monitor.none_for(actor.pid(), "at-rest");
    let report = Tool::run(&["report", "zombies", "-J"]).exits(1);
    assert_eq!(
        report.rows("zombies", actor.pid())[0]["pins"],
        32,
        "{report}"
    );
    actor.ok("unregister-buffers two");
    monitor.expect_of("at-rest", actor.pid());
}

/// While the call waits for its second page, another file is mapped in the place of the first: each page is
/// its own file's.
#[test]
fn a_mapping_that_is_replaced_meanwhile_is_told_by_its_pages() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let _monitor = Monitor::start();
    let actor = Actor::start();
    let (one, other) = (scratch.file("one"), scratch.file("other"));
    actor.all(&[
        "uring ring",
        &format!("open f {one} rw,creat"),
        &format!("open g {other} rw,creat"),
        "write-all f 4K",
        "truncate f 8K",
        "write-all g 8K",
        "mmap m f 8K shared rw",
        "uffd u m",
        "begin call register-buffers ring m",
    ]);
    if !actor.waits_in("userfault") {
        // 6.1 pins here without letting the lock of the address space go, so that no page can be waited for.
        let refused = actor.attempt("finish call").expect_err("it did not wait");
        assert_eq!(refused.errno, libc::EFAULT, "{refused:?}");
        cannot("wait for a page inside a pin call", libc::EFAULT);
        return;
    }
    actor.all(&["mmap-over m 0 g 8K shared rw", "close u", "finish call"]);
    assert_eq!(pinned.since(), 2);
    let report = Tool::run(&["report", "stakes", "-J"]).exits(0);
    let rows = report.rows("stakes", actor.pid());
    // By its pages alone a file is not known by all of its path.
    let of = |end: &str| {
        let mut rows = rows
            .iter()
            .filter_map(|row| Some((row["path"].as_str()?, &row["pins"])));
        rows.find_map(|(path, pins)| path.ends_with(end).then(|| pins.clone()))
    };
    let found = [of("/one"), of("/other")];
    assert_eq!(found, [Some(1.into()), Some(1.into())], "{rows:?}");
    actor.ok("unregister-buffers ring");
    pinned.assert_balanced();
    let left = Tool::run(&["report", "stakes", "-J"]).exits(0);
    assert!(left.rows("stakes", actor.pid()).is_empty(), "{left}");
}

/// A hole in the file takes the pages out of the page cache; the ring has them still.
#[test]
fn pages_cut_out_of_the_file_are_still_pinned() {
    for cut in ["truncate f 0", "punch-hole f 0 512K"] {
        let scratch = Scratch::new();
        let pinned = Pinned::now();
        let monitor = Monitor::start();
        let actor = Actor::start();
        let file = open_lease_and_pin(&actor, &scratch.file("f"));
        actor.ok(cut);
        assert_eq!(pinned.since(), PAGES, "{cut}");
        actor.ok("setlease f u");
        expect_zombie(&monitor, actor.pid(), &file, "unlock");
        actor.ok("unregister-buffers ring");
        expect_rest(&monitor, actor.pid(), &file);
        pinned.assert_balanced();
    }
}

/// The inode may be gone before the pins are.
#[test]
fn pages_of_a_file_that_is_no_more_are_still_pinned() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok("munmap m");
    std::fs::remove_file(&file.path).expect("unlinked");
    actor.ok("close f");
    expect_zombie(&monitor, actor.pid(), &file, "close");
    assert_eq!(pinned.since(), PAGES);
    actor.ok("unregister-buffers ring");
    expect_rest(&monitor, actor.pid(), &file);
    pinned.assert_balanced();
}

/// A ring may share another's pins; they go with the last of the two.
#[test]
fn cloned_buffers_are_the_same_pins() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok("uring copy");
    if let Err(refusal) = actor.attempt("clone-buffers copy ring") {
        assert_eq!(refusal.errno, libc::EINVAL, "{refusal}");
        return cannot(
            "sharing registered buffers (IORING_REGISTER_CLONE_BUFFERS)",
            refusal.errno,
        );
    }
    assert_eq!(pinned.since(), PAGES, "cloning pins nothing anew");
    actor.ok("setlease f u");
    expect_zombie(&monitor, actor.pid(), &file, "unlock");
    actor.ok("unregister-buffers ring");
    monitor.barrier();
    monitor.none_for(actor.pid(), "at-rest");
    actor.ok("unregister-buffers copy");
    expect_rest(&monitor, actor.pid(), &file);
    pinned.assert_balanced();
}

/// A memfd takes no write lease through the descriptor that made it (through a second one it does:
/// `udmabuf.rs`), so these pins are bare.
#[test]
fn a_memfd_cannot_be_leased_by_its_maker() {
    let monitor = Monitor::start();
    let actor = Actor::start();
    actor.all(&["uring ring", "memfd f 1M", "mmap m f 1M shared rw"]);
    actor.err("setlease f w", libc::EAGAIN);
    actor.ok("register-buffers ring m");
    let bare = monitor.expect_of("bare-pin", actor.pid());
    assert_eq!(bare["pins"], PAGES, "{bare}");
}

/// Pins that a process took before the tool came are not known, and not made up.
#[test]
fn those_older_than_the_tool_are_not_made_up() {
    let scratch = Scratch::new();
    let actor = Actor::start();
    open_lease_and_pin(&actor, &scratch.file("f"));
    let monitor = Monitor::alone();
    actor.all(&["unregister-buffers ring", "setlease f u"]);
    monitor.barrier();
    monitor.none_for(actor.pid(), "zombie");
    // And new ones on the same file are counted from nothing.
    actor.all(&["setlease f w", "register-buffers ring m", "setlease f u"]);
    expect_zombie(
        &monitor,
        actor.pid(),
        &Subject::at(&scratch.file("f")),
        "unlock",
    );
}

/// What was told as bare has an end: the last pin, by whomever it was dropped, whether a lease has come to cover it
/// meanwhile or not. A zombie's end is `at-rest`.
#[test]
fn the_end_of_bare_pins_is_told() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = pin_without_lease(&actor, &scratch.file("bare"));
    monitor.expect_of("bare-pin", actor.pid());
    actor.ok("unregister-buffers ring");
    let end = monitor.expect_of("bare-pin-end", actor.pid());
    assert_about(&end, actor.pid(), &file);
    assert_eq!(end["pins"], PAGES, "{end}");
    assert_eq!(end["releaser"]["pid"], actor.pid(), "{end}");
    assert!(end["pinned_ms"].is_u64(), "{end}");
    assert!(end.get("lease").is_none(), "{end}");

    // The kernel drops the pins of a ring in the background.
    let behind = Actor::start();
    pin_without_lease(&behind, &scratch.file("ring"));
    behind.ok("close ring");
    let end = monitor.expect_of("bare-pin-end", behind.pid());
    assert_ne!(end["releaser"]["pid"], behind.pid(), "{end}");

    let late = Actor::start();
    let path = scratch.file("late");
    pin_without_lease(&late, &path);
    late.all(&[&format!("open f {path} rw"), "setlease f w"]);
    late.ok("unregister-buffers ring");
    let end = monitor.expect_of("bare-pin-end", late.pid());
    assert_eq!(end["lease"]["mode"], "write", "{end}");

    let zombie = Actor::start();
    let path = scratch.file("zombie");
    pin_without_lease(&zombie, &path);
    zombie.all(&[&format!("open f {path} rw"), "setlease f w", "setlease f u"]);
    monitor.expect_of("zombie", zombie.pid());
    zombie.ok("unregister-buffers ring");
    monitor.expect_of("at-rest", zombie.pid());
    monitor.barrier();
    monitor.none_for(zombie.pid(), "bare-pin-end");
}
