//! `pins` over ranges that a device behind an IOMMU reaches, mapped before anything of ours is loaded.

use crate::harness::{Actor, PAGES, Pinned, Scratch, Subject, integer, no_monitor};
use crate::survey::{assert_all_found, assert_row, only_row, pins};
use crate::vfio::open_container;

#[test]
fn a_container_has_a_row_for_each_range() {
    no_monitor();
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let actor = Actor::start();
    open_container(&actor);
    let path = scratch.file("f");
    actor.ok(&format!("open f {path} rw,creat,cloexec"));
    actor.all(&[
        "write-all f 1M",
        "setlease f w",
        "mmap m f 1M shared rw",
        "vfio-map c 1M m rw",
    ]);
    let row = only_row(&pins(&[]), actor.pid());
    let object = "container iova 0x100000";
    assert_row(&row, actor.pid(), &Subject::at(&path), object, "vfio");
    assert_eq!(row["leased"], "write", "{row}");
    assert_eq!(row["size_bytes"], 1 << 20, "{row}");
    assert_all_found();
    // Ranges beside each other that are not one.
    for number in 0..9 {
        actor.ok(&format!("vfio-map c {}K m rw 64K 64K", 4096 + 256 * number));
    }
    let rows = pins(&[]).rows("pins", actor.pid());
    let sum: i64 = rows.iter().map(|row| integer(row, "pins")).sum();
    assert_eq!((rows.len(), sum), (10, PAGES + 9 * 16), "{rows:?}");
    assert_all_found();
    actor.all(&["vfio-unmap c 1M 1M", "close g", "close c"]);
    pinned.assert_balanced();
}
