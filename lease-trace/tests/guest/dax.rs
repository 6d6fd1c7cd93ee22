//! FS DAX: the file's pages are the memory device itself. Long-term pins are refused there; what is
//! left is O_DIRECT that is under way.

use crate::direct::released_while_under_way;
use crate::harness::{Actor, PmemMount, Rxe};

#[test]
fn o_direct_pins_its_pages() {
    let mount = PmemMount::new();
    released_while_under_way(|name| mount.file(name));
}

/// Neither a ring nor a memory region gets one, whatever it asks for.
#[test]
fn nothing_pins_it_for_long() {
    Rxe::ready();
    let mount = PmemMount::new();
    for mode in ["rw", "ro"] {
        let actor = Actor::start();
        actor.ok(&format!("rdma-open d {}", Rxe::DEVICE));
        actor.ok("uring ring");
        actor.ok(&format!("open f {} rw,creat", mount.file(mode)));
        actor.ok("write-all f 1M");
        actor.ok(&format!("mmap m f 1M shared {mode}"));
        actor.ok("touch m");
        actor.err(&format!("reg-mr mr d m {mode}"), libc::EOPNOTSUPP);
        actor.err("register-buffers ring m", libc::EOPNOTSUPP);
    }
}
