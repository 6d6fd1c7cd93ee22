//! udmabuf: a memfd's folios, pinned as a dma-buf by `memfd_pin_folios`.

use std::path::Path;

use crate::harness::{
    Actor, Monitor, PAGES, Pinned, Setting, Subject, cannot, expect_rest, expect_zombie_with,
};

/// The descriptor by whose number a memfd can be opened again: only such a second open file takes a
/// write lease.
const NUMBER: u32 = 77;

/// A memfd of a mebibyte as `f`, and a write lease on it as `l`.
fn lease_a_memfd(actor: &Actor, length: &str) -> Subject {
    actor.ok(&format!("memfd f {length}"));
    actor.all(&["seal f", &format!("write-all f {length}")]);
    actor.ok(&format!("move-fd f {NUMBER}"));
    actor.ok(&format!("open l /proc/self/fd/{NUMBER} ro"));
    actor.ok("setlease l w");
    Subject {
        path: "/memfd:f".to_owned(),
        ..Subject::at(&format!("/proc/{}/fd/{NUMBER}", actor.pid()))
    }
}

/// Says whether this kernel has udmabuf.
fn is_there(actor: &Actor) -> bool {
    if Path::new("/dev/udmabuf").exists() {
        return true;
    }
    actor.err("open b /dev/udmabuf rw", libc::ENOENT);
    cannot("udmabuf (CONFIG_UDMABUF)", libc::ENOENT);
    false
}

#[test]
fn it_is_pinned_until_the_buffer_goes() {
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = lease_a_memfd(&actor, "1M");
    // A ring has a memfd's pages, too, and every kernel has rings.
    actor.all(&[
        "uring ring",
        "mmap m f 1M shared rw",
        "register-buffers ring m",
    ]);
    actor.ok("setlease l u");
    expect_zombie_with(&monitor, actor.pid(), &file, "unlock", PAGES, "io_uring");
    actor.ok("unregister-buffers ring");
    expect_rest(&monitor, actor.pid(), &file);
    if !is_there(&actor) {
        return;
    }
    actor.ok("setlease l w");
    actor.ok("udmabuf b f 0 1M");
    assert_eq!(pinned.since(), PAGES);
    actor.ok("setlease l u");
    let zombie = expect_zombie_with(&monitor, actor.pid(), &file, "unlock", PAGES, "udmabuf");
    // The call was made on /dev/udmabuf, which was closed when the buffer was there: what is left
    // of it is the name.
    assert_eq!(zombie["context"], "udmabuf", "{zombie}");
    actor.ok("close b");
    expect_rest(&monitor, actor.pid(), &file);
    pinned.assert_balanced();

    // A part of it, and the descriptor with the lease closed instead.
    actor.ok("setlease l w");
    actor.ok("udmabuf b f 64K 128K");
    actor.ok("close l");
    expect_zombie_with(&monitor, actor.pid(), &file, "close", 32, "udmabuf");
    actor.ok("close b");
    expect_rest(&monitor, actor.pid(), &file);
    pinned.assert_balanced();
}

/// A huge folio is one reference, however much of it is in the buffer.
#[test]
fn a_huge_folio_is_one_pin() {
    let monitor = Monitor::start();
    let actor = Actor::start();
    if !is_there(&actor) {
        return;
    }
    let _huge = Setting::of_sysfs(
        "kernel/mm/transparent_hugepage/shmem_enabled",
        "within_size",
    );
    let pinned = Pinned::now();
    let file = lease_a_memfd(&actor, "4M");
    actor.ok("udmabuf b f 64K 3M");
    let pins = pinned.since();
    assert!(pins < 3 * PAGES, "no huge folio in it: {pins} references");
    actor.ok("setlease l u");
    expect_zombie_with(&monitor, actor.pid(), &file, "unlock", pins, "udmabuf");
    actor.ok("close b");
    expect_rest(&monitor, actor.pid(), &file);
    pinned.assert_balanced();
}
