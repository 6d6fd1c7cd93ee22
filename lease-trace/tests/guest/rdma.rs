//! Real RDMA: memory regions of rdma_rxe with stock rdma-core, over files on tmpfs, ext4 and xfs.
//!
//! What may be pinned for how long depends on kernel and file system. A writable region on a file
//! system that tracks dirty pages is EFAULT since 6.5; a read-only one is EFAULT before about that
//! time. So each case is tried, and either makes a zombie or proves its errno; that at least one
//! sort of region works on every file system is asserted, too.

use serde_json::Value;

use crate::harness::{
    Actor, Filesystem, LoopMount, Monitor, PAGES, Pinned, Rxe, Scratch, Subject, Tool,
    assert_about, assert_file_agrees, assert_released_by, cannot, leases_on,
};

/// A read-write or a read-only memory region.
pub const MODES: [&str; 2] = ["ro", "rw"];

/// A lease, a mapping and a region over them: slots `f`, `m`, `mr` and `d`. Says whether the kernel
/// allows such a region.
pub fn lease_and_register(actor: &Actor, path: &str, mode: &str) -> bool {
    assert_eq!(
        actor.ok(&format!("rdma-open d {}", Rxe::DEVICE)),
        Rxe::DEVICE
    );
    actor.ok(&format!("open f {path} rw,creat,cloexec"));
    actor.all(&["write-all f 1M", "setlease f w"]);
    actor.ok(&format!("mmap m f 1M shared {mode}"));
    match actor.attempt(&format!("reg-mr mr d m {mode}")) {
        Ok(_) => true,
        Err(refusal) => {
            assert_eq!(refusal.errno, libc::EFAULT, "{refusal}");
            cannot(
                &format!("a memory region, {mode}, of {path}"),
                refusal.errno,
            );
            false
        }
    }
}

#[track_caller]
fn expect_rdma_zombie(monitor: &Monitor, actor: &Actor, file: &Subject, cause: &str) -> Value {
    let zombie = monitor.expect_of("zombie", actor.pid());
    assert_about(&zombie, actor.pid(), file);
    assert_eq!(zombie["cause"], cause, "{zombie}");
    assert_eq!(zombie["pins"], PAGES, "{zombie}");
    assert_eq!(zombie["consumer"], "rdma_rxe", "{zombie}");
    assert_file_agrees(&zombie);
    // A process that is gone has no descriptor any more by which its device could be told.
    if cause != "killed" {
        assert_eq!(zombie["device"], Rxe::DEVICE, "{zombie}");
        assert_eq!(zombie["context"], "/dev/infiniband/uverbs0", "{zombie}");
        assert!(zombie["context_fd"].is_number(), "{zombie}");
    }
    zombie
}

#[track_caller]
fn expect_rdma_rest(monitor: &Monitor, actor: &Actor, file: &Subject) {
    let rest = monitor.expect_of("at-rest", actor.pid());
    assert_about(&rest, actor.pid(), file);
}

/// Both ways of ending the lease, with each sort of region that this kernel allows.
#[track_caller]
pub fn both_ends_on(path_of: impl Fn(&str) -> String) {
    Rxe::ready();
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let mut worked = 0;
    for mode in MODES {
        let actor = Actor::start();
        let path = path_of(mode);
        if !lease_and_register(&actor, &path, mode) {
            continue;
        }
        worked += 1;
        let file = Subject::as_mounted(&path);
        actor.ok("setlease f u");
        let zombie = expect_rdma_zombie(&monitor, &actor, &file, "unlock");
        assert_released_by(&zombie, actor.pid());
        assert!(leases_on(&file).is_empty());
        actor.ok("dereg-mr mr");
        expect_rdma_rest(&monitor, &actor, &file);

        actor.ok("setlease f w");
        actor.ok(&format!("reg-mr mr d m {mode}"));
        actor.ok("munmap m");
        monitor.barrier();
        assert_eq!(
            monitor.count(actor.pid(), "zombie"),
            1,
            "{}",
            monitor.account()
        );
        actor.ok("close f");
        expect_rdma_zombie(&monitor, &actor, &file, "close");
        actor.ok("dereg-mr mr");
        expect_rdma_rest(&monitor, &actor, &file);
        monitor.barrier();
        assert_eq!(
            monitor.count(actor.pid(), "zombie"),
            2,
            "{}",
            monitor.account()
        );
    }
    assert!(worked > 0, "this kernel pins nothing of such a file");
    pinned.assert_balanced();
}

/// Modules that pin go and come again while a monitor runs, to other addresses: who pins is named all
/// the same.
#[test]
fn its_modules_may_be_loaded_again() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    for time in ["first", "second"] {
        Rxe::ready();
        let pinned = Pinned::now();
        let mut worked = 0;
        for mode in MODES {
            let actor = Actor::start();
            let path = scratch.file(&format!("{time}-{mode}"));
            if lease_and_register(&actor, &path, mode) {
                worked += 1;
                let file = Subject::as_mounted(&path);
                actor.ok("setlease f u");
                expect_rdma_zombie(&monitor, &actor, &file, "unlock");
                actor.ok("dereg-mr mr");
                expect_rdma_rest(&monitor, &actor, &file);
            }
        }
        assert!(worked > 0, "this kernel pins nothing of such a file");
        pinned.assert_balanced();
        Rxe::unload();
    }
}

#[test]
fn on_tmpfs() {
    let scratch = Scratch::new();
    both_ends_on(|name| scratch.file(name));
}

#[test]
fn on_ext4() {
    let mount = LoopMount::new(Filesystem::Ext4);
    both_ends_on(|name| mount.file(name));
}

#[test]
fn on_xfs() {
    let mount = LoopMount::new(Filesystem::Xfs);
    both_ends_on(|name| mount.file(name));
}

/// On tmpfs a writable region works on every kernel.
#[test]
fn a_writable_region_of_a_tmpfs_file_always_works() {
    Rxe::ready();
    let scratch = Scratch::new();
    let actor = Actor::start();
    assert!(lease_and_register(&actor, &scratch.file("f"), "rw"));
}

/// Unmapped first and closed last, then the other way round: the mapping is the last reference.
#[test]
fn munmap_as_the_last_reference_is_the_cause() {
    Rxe::ready();
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    assert!(lease_and_register(&actor, &scratch.file("f"), "rw"));
    let file = Subject::at(&scratch.file("f"));
    actor.ok("close f");
    monitor.barrier();
    monitor.none_for(actor.pid(), "zombie");
    actor.ok("munmap m");
    expect_rdma_zombie(&monitor, &actor, &file, "munmap");
}

/// Two read leases through two descriptors, and a region that needs no writer.
#[test]
fn a_second_lease_keeps_it_from_being_one() {
    Rxe::ready();
    let scratch = Scratch::new();
    let path = scratch.file("f");
    std::fs::write(&path, vec![1; 1 << 20]).expect("a file");
    let monitor = Monitor::start();
    let actor = Actor::start();
    actor.ok("rdma-open d");
    for slot in ["a", "b"] {
        actor.ok(&format!("open {slot} {path} ro"));
        actor.ok(&format!("setlease {slot} r"));
    }
    actor.ok("mmap m a 1M shared ro");
    if let Err(refusal) = actor.attempt("reg-mr mr d m ro") {
        assert_eq!(refusal.errno, libc::EFAULT, "{refusal}");
        return cannot("a read-only memory region of a file", refusal.errno);
    }
    actor.ok("setlease a u");
    monitor.barrier();
    monitor.none_for(actor.pid(), "zombie");
    actor.ok("setlease b u");
    let zombie = expect_rdma_zombie(&monitor, &actor, &Subject::at(&path), "unlock");
    assert_eq!(zombie["lease"]["mode"], "read", "{zombie}");
    monitor.exactly_one(actor.pid(), "zombie");
}

/// Closing the device drops its regions; so does being killed.
#[test]
fn closing_the_device_lays_it_to_rest() {
    Rxe::ready();
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    assert!(lease_and_register(&actor, &scratch.file("f"), "rw"));
    let file = Subject::at(&scratch.file("f"));
    actor.ok("setlease f u");
    expect_rdma_zombie(&monitor, &actor, &file, "unlock");
    actor.ok("rdma-close d");
    expect_rdma_rest(&monitor, &actor, &file);
}

/// A device's descriptor is opened before the file: the lease goes first, as it does for a ring.
#[test]
fn sigkill_lays_it_to_rest_by_itself() {
    Rxe::ready();
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let mut actor = Actor::start();
    assert!(lease_and_register(&actor, &scratch.file("f"), "rw"));
    let file = Subject::at(&scratch.file("f"));
    actor.end("kill-self KILL");
    let zombie = expect_rdma_zombie(&monitor, &actor, &file, "killed");
    assert_eq!(zombie["ends_by_itself"], true, "{zombie}");
    expect_rdma_rest(&monitor, &actor, &file);
    pinned.assert_balanced();
}

#[test]
fn the_right_order_makes_none() {
    Rxe::ready();
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    assert!(lease_and_register(&actor, &scratch.file("f"), "rw"));
    actor.all(&[
        "dereg-mr mr",
        "setlease f u",
        "munmap m",
        "close f",
        "rdma-close d",
    ]);
    monitor.barrier();
    monitor.none_for(actor.pid(), "zombie");
    monitor.none_for(actor.pid(), "bare-pin");
}

/// Registered again over another file, the pins of the first would go and those of the other come.
/// librxe has no such call, whatever the kernel: the region keeps what it has.
#[test]
fn a_region_that_cannot_be_moved_keeps_its_pins() {
    Rxe::ready();
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let actor = Actor::start();
    assert!(lease_and_register(&actor, &scratch.file("f"), "rw"));
    let file = Subject::at(&scratch.file("f"));
    actor.ok(&format!("open g {} rw,creat", scratch.file("g")));
    actor.all(&["write-all g 1M", "setlease g w", "mmap n g 1M shared rw"]);
    actor.ok("setlease f u");
    expect_rdma_zombie(&monitor, &actor, &file, "unlock");
    for command in ["rereg-mr mr n", "rereg-mr-access mr ro"] {
        actor.err(command, libc::EOPNOTSUPP);
        cannot(command, libc::EOPNOTSUPP);
    }
    assert_eq!(pinned.since(), PAGES);
    actor.ok("setlease g u");
    monitor.barrier();
    monitor.none_for(actor.pid(), "at-rest");
    assert_eq!(monitor.count(actor.pid(), "zombie"), 1);
    actor.ok("dereg-mr mr");
    expect_rdma_rest(&monitor, &actor, &file);
    pinned.assert_balanced();
}

/// A ring refuses what a device accepts: on kernels before 6.5 by the file system, later for being
/// written to behind its back. Either way there is nothing to trace.
#[test]
fn a_ring_cannot_pin_a_file_on_disk() {
    let mount = LoopMount::new(Filesystem::Ext4);
    let actor = Actor::start();
    actor.ok("uring ring");
    actor.ok(&format!("open f {} rw,creat", mount.file("f")));
    actor.all(&["write-all f 1M", "mmap m f 1M shared rw", "touch m"]);
    let refusal = actor
        .attempt("register-buffers ring m")
        .expect_err("pinned for good");
    let expected = [libc::EFAULT, libc::EOPNOTSUPP];
    assert!(expected.contains(&refusal.errno), "{refusal}");
}

/// O_DIRECT pins the pages it reads into, and only while it reads.
#[test]
fn short_term_pins_of_direct_reads_are_no_stake() {
    let (mount, scratch) = (LoopMount::new(Filesystem::Ext4), Scratch::new());
    std::fs::write(mount.file("source"), vec![1; 1 << 20]).expect("a file");
    let monitor = Monitor::start();
    let actor = Actor::start();
    actor.ok(&format!("open d {} ro,direct", mount.file("source")));
    actor.ok(&format!("open f {} rw,creat", scratch.file("f")));
    actor.all(&["write-all f 1M", "mmap m f 1M shared rw", "direct-read d m"]);
    let report = Tool::run(&["report", "stakes", "-J"]).exits(0);
    for row in report.rows("stakes", actor.pid()) {
        assert_eq!(row["pins"].as_u64().unwrap_or(0), 0, "{report}");
    }
    monitor.barrier();
    monitor.none_for(actor.pid(), "bare-pin");
}

/// Under a read lease others may open the file. Who has inherited the leased one is covered,
/// through whatever it pins; who has not is bare.
#[test]
fn an_inherited_lease_covers_pins_through_another_open() {
    Rxe::ready();
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let parent = Actor::start();
    let path = scratch.file("f");
    parent.ok(&format!("open w {path} rw,creat"));
    parent.all(&["write-all w 1M", "close w"]);
    parent.ok(&format!("open f {path} ro"));
    parent.ok("setlease f r");
    let heir = parent.fork("heir");
    let stranger = Actor::start();
    let open = format!("open g {path} ro");
    let device = format!("rdma-open d {}", Rxe::DEVICE);
    for command in [open.as_str(), device.as_str(), "mmap m g 1M shared ro"] {
        parent.ok(&format!("heir: {command}"));
        stranger.ok(command);
    }
    if let Err(refusal) = parent.attempt("heir: reg-mr mr d m ro") {
        assert_eq!(refusal.errno, libc::EFAULT, "{refusal}");
        return cannot("a read-only memory region", refusal.errno);
    }
    stranger.ok("reg-mr mr d m ro");
    monitor.expect_of("bare-pin", stranger.pid());
    monitor.barrier();
    monitor.none_for(heir, "bare-pin");
    parent.ok("setlease f u");
    let zombie = monitor.expect_of("zombie", heir);
    assert_about(&zombie, heir, &Subject::at(&path));
    assert_eq!(zombie["pins"], PAGES, "{zombie}");
    assert_eq!(zombie["lease"]["mode"], "read", "{zombie}");
    assert_released_by(&zombie, parent.pid());
    monitor.barrier();
    monitor.none_for(stranger.pid(), "zombie");
}
