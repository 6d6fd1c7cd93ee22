//! Leases that end while pins remain: one scenario for each way of letting go.

use serde_json::json;

use crate::harness::{
    Actor, Monitor, PAGES, Pinned, Scratch, Tool, assert_about, assert_released_by, cannot,
    expect_rest, expect_zombie, leases_on, open_lease_and_pin, pin_without_lease,
};

#[test]
fn unlock_makes_one_and_unregistering_lays_it_to_rest() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::alone();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    assert_eq!(pinned.since(), PAGES);
    actor.ok("setlease f u");

    let zombie = expect_zombie(&monitor, actor.pid(), &file, "unlock");
    assert_released_by(&zombie, actor.pid());
    assert!(
        leases_on(&file).is_empty(),
        "/proc/locks shows nothing any more"
    );
    monitor.exactly_one(actor.pid(), "zombie");
    monitor.none_for(actor.pid(), "at-rest");

    actor.ok("sleep 50");
    actor.ok("unregister-buffers ring");
    let rest = expect_rest(&monitor, actor.pid(), &file);
    assert!(
        rest["zombie_ms"]
            .as_u64()
            .is_some_and(|lasted| lasted >= 50),
        "{rest}"
    );
    monitor.exactly_one(actor.pid(), "at-rest");
    monitor.exactly_one(actor.pid(), "zombie");
    pinned.assert_balanced();
    let stopped = monitor.stop();
    assert_eq!(stopped.summary["zombies"], 0, "{stopped:?}");
    stopped.assert_nothing_lost();
}

#[test]
fn a_mapping_outlives_the_close_and_munmap_makes_one() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok("close f");
    monitor.barrier();
    monitor.none_for(actor.pid(), "zombie");
    monitor.none_for(actor.pid(), "lease-end");
    assert_eq!(leases_on(&file).len(), 1, "the mapping holds the lease");

    actor.ok("munmap m");
    expect_zombie(&monitor, actor.pid(), &file, "munmap");
    monitor.exactly_one(actor.pid(), "zombie");
    actor.ok("unregister-buffers ring");
    expect_rest(&monitor, actor.pid(), &file);
}

#[test]
fn a_descriptor_outlives_the_munmap_and_close_makes_one() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok("munmap m");
    monitor.barrier();
    monitor.none_for(actor.pid(), "zombie");

    actor.ok("close f");
    expect_zombie(&monitor, actor.pid(), &file, "close");
    monitor.exactly_one(actor.pid(), "zombie");
    // The ring's end is a kworker's job: the owner is credited all the same.
    actor.ok("close ring");
    expect_rest(&monitor, actor.pid(), &file);
}

#[test]
fn a_mapping_that_shrinks_and_moves_still_holds_the_lease() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.all(&["close f", "mremap m 4M", "mremap m 64K"]);
    monitor.barrier();
    monitor.none_for(actor.pid(), "zombie");
    actor.ok("munmap m");
    expect_zombie(&monitor, actor.pid(), &file, "munmap");
}

/// Moved onto the last mapping of a leased file, or mapped over it: it goes as if it were unmapped.
#[test]
fn a_mapping_over_the_last_one_makes_one() {
    for over in ["mremap-over other m", "mmap-over m 0 o 1M shared rw"] {
        let scratch = Scratch::new();
        let monitor = Monitor::start();
        let actor = Actor::start();
        let file = open_lease_and_pin(&actor, &scratch.file("f"));
        actor.all(&["memfd o 1M", "mmap other o 1M shared rw", "close f"]);
        monitor.barrier();
        monitor.none_for(actor.pid(), "lease-end");
        actor.ok(over);
        let zombie = expect_zombie(&monitor, actor.pid(), &file, "munmap");
        assert_released_by(&zombie, actor.pid());
    }
}

#[test]
fn the_right_order_makes_none() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.all(&[
        "unregister-buffers ring",
        "setlease f u",
        "munmap m",
        "close f",
    ]);
    let end = monitor.expect_of("lease-end", actor.pid());
    assert_about(&end, actor.pid(), &file);
    monitor.barrier();
    // The same with the lease ended by the close instead.
    open_lease_and_pin_again(&actor, &file.path);
    actor.all(&[
        "unregister-buffers ring",
        "munmap m",
        "close f",
        "close ring",
    ]);
    monitor.barrier();
    monitor.none_for(actor.pid(), "zombie");
    monitor.none_for(actor.pid(), "at-rest");
    monitor.none_for(actor.pid(), "bare-pin");
}

fn open_lease_and_pin_again(actor: &Actor, path: &str) {
    actor.ok(&format!("open f {path} rw,cloexec"));
    actor.all(&[
        "setlease f w",
        "mmap m f 1M shared rw",
        "register-buffers ring m",
    ]);
}

/// A ring pins for writing, and a writer excludes read leases: so the pins come first, and stay in
/// the ring when the writable descriptor and mapping are gone. A read-only memory region needs no
/// such order: see `rdma::a_second_lease_keeps_it_from_being_one`.
#[test]
fn a_second_lease_keeps_it_from_being_one() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = pin_without_lease(&actor, &scratch.file("f"));
    for slot in ["a", "b"] {
        actor.ok(&format!("open {slot} {} ro", file.path));
        actor.ok(&format!("setlease {slot} r"));
    }
    assert_eq!(leases_on(&file).len(), 2);
    actor.ok("setlease a u");
    monitor.barrier();
    monitor.none_for(actor.pid(), "zombie");

    actor.ok("close b");
    let zombie = monitor.expect_of("zombie", actor.pid());
    assert_about(&zombie, actor.pid(), &file);
    assert_eq!(zombie["cause"], "close", "{zombie}");
    assert_eq!(zombie["lease"]["mode"], "read", "{zombie}");
    assert_eq!(zombie["pins"], PAGES, "{zombie}");
    monitor.exactly_one(actor.pid(), "zombie");
}

#[test]
fn dup2_over_the_last_descriptor_makes_one() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok(&format!("open other {} rw,creat", scratch.file("other")));
    actor.all(&["munmap m", "dup2 other f"]);
    let zombie = expect_zombie(&monitor, actor.pid(), &file, "dup2");
    assert_released_by(&zombie, actor.pid());
    monitor.exactly_one(actor.pid(), "zombie");
}

#[test]
fn close_range_over_the_last_descriptor_makes_one() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.all(&["munmap m", "close_range f f"]);
    expect_zombie(&monitor, actor.pid(), &file, "close_range");
    monitor.exactly_one(actor.pid(), "zombie");
}

#[test]
fn another_descriptor_of_the_same_open_file_holds_the_lease() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.all(&["munmap m", "dup f copy", "close f"]);
    monitor.barrier();
    monitor.none_for(actor.pid(), "zombie");
    actor.ok("close copy");
    expect_zombie(&monitor, actor.pid(), &file, "close");
}

#[test]
fn exec_over_a_cloexec_descriptor_makes_one() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.all(&["munmap m", "cloexec ring off"]);
    assert_eq!(actor.ok("exec-self"), "ring", "the ring is what survives");
    let zombie = expect_zombie(&monitor, actor.pid(), &file, "exec");
    assert_released_by(&zombie, actor.pid());
    monitor.exactly_one(actor.pid(), "zombie");
    actor.ok("unregister-buffers ring");
    expect_rest(&monitor, actor.pid(), &file);
}

#[test]
fn exec_over_the_last_mapping_makes_one() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.all(&["close f", "cloexec ring off"]);
    assert_eq!(actor.ok("exec-self"), "ring");
    expect_zombie(&monitor, actor.pid(), &file, "exec");
    monitor.exactly_one(actor.pid(), "zombie");
}

/// A ring may keep the file open, too, without descriptor or mapping.
#[test]
fn a_rings_registered_file_holds_the_lease_until_it_goes() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.all(&["munmap m", "register-files ring f", "close f"]);
    monitor.barrier();
    monitor.none_for(actor.pid(), "zombie");
    assert_eq!(leases_on(&file).len(), 1, "the ring holds the lease");
    actor.ok("unregister-files ring");
    expect_zombie(&monitor, actor.pid(), &file, "io_uring");
}

/// A thread that set the lease may be gone: what counts is the process.
#[test]
fn the_thread_that_set_the_lease_may_be_gone() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    actor.ok("uring ring");
    actor.ok(&format!("open f {} rw,creat", scratch.file("f")));
    actor.all(&[
        "write-all f 1M",
        "mmap m f 1M shared rw",
        "thread setlease f w",
        "thread register-buffers ring m",
        "thread setlease f u",
    ]);
    let zombie = monitor.expect_of("zombie", actor.pid());
    assert_eq!(zombie["pins"], PAGES, "{zombie}");
    actor.ok("thread unregister-buffers ring");
    monitor.expect_of("at-rest", actor.pid());
    monitor.exactly_one(actor.pid(), "zombie");
}

#[test]
fn a_user_without_privileges_is_named_by_uid() {
    const USER: u32 = 1000;
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    actor.ok(&format!("setuid {USER}"));
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok("setlease f u");
    let zombie = monitor.expect_of("zombie", actor.pid());
    assert_about(&zombie, actor.pid(), &file);
    assert_eq!(zombie["uid"], USER, "{zombie}");
}

/// F_SETDELEG came with 6.19; before that the number is no fcntl operation.
#[test]
fn a_delegation_can_become_one() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    actor.ok("uring ring");
    actor.ok(&format!("open f {} rw,creat", scratch.file("f")));
    actor.ok("write-all f 1M");
    if let Err(refusal) = actor.attempt("setdeleg f w") {
        assert_eq!(refusal.errno, libc::EINVAL, "{refusal}");
        return cannot("delegations from user space (F_SETDELEG)", refusal.errno);
    }
    actor.all(&[
        "mmap m f 1M shared rw",
        "register-buffers ring m",
        "setdeleg f u",
    ]);
    let zombie = monitor.expect_of("zombie", actor.pid());
    assert_eq!(zombie["lease"]["kind"], "deleg", "{zombie}");
    assert_eq!(zombie["lease"]["mode"], "write", "{zombie}");
    assert_eq!(zombie["cause"], "unlock", "{zombie}");
    assert_eq!(zombie["releaser"]["pid"], json!(actor.pid()), "{zombie}");
}

/// A second zombie of the same process and file is one of its own.
#[test]
fn a_new_lease_and_a_new_release_make_another() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok("setlease f u");
    expect_zombie(&monitor, actor.pid(), &file, "unlock");
    actor.ok("unregister-buffers ring");
    expect_rest(&monitor, actor.pid(), &file);
    actor.all(&["setlease f w", "register-buffers ring m", "setlease f u"]);
    expect_zombie(&monitor, actor.pid(), &file, "unlock");
    actor.ok("unregister-buffers ring");
    expect_rest(&monitor, actor.pid(), &file);
    monitor.barrier();
    assert_eq!(monitor.count(actor.pid(), "zombie"), 2);
}

/// The breach is not undone by a lease that comes after it.
#[test]
fn one_that_has_a_lease_again_keeps_its_cause() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.all(&["setlease f u", "setlease f w"]);
    expect_zombie(&monitor, actor.pid(), &file, "unlock");
    let row = |state: &str| {
        let report = Tool::run(&["report", "stakes", "-J"]).exits(0);
        let rows = report.rows("stakes", actor.pid());
        assert!(rows.len() == 1 && rows[0]["state"] == state, "{report}");
        assert_eq!(rows[0]["leases"], 1, "{report}");
        rows[0]["cause"].clone()
    };
    assert_eq!(row("zombie"), "unlock");
    actor.ok("unregister-buffers ring");
    let rest = expect_rest(&monitor, actor.pid(), &file);
    assert_eq!(rest["cause"], "unlock", "{rest}");
    assert!(row("leased").is_null(), "a lease in force has not ended");
}
