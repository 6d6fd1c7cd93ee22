//! What a tracer could leave behind in the kernel: programs, maps, links and pinned files.

use std::collections::BTreeSet;
use std::path::Path;

use super::{eventually, shared};

/// The directory a running monitor pins its maps in.
const PIN_DIRECTORY: &str = "/sys/fs/bpf/lease-trace";

/// The BPF objects there were at one moment. A system may have some of its own.
pub struct Leftovers {
    before: BTreeSet<(&'static str, u32)>,
}

/// `bpf(2)` commands that walk the ids of one sort of object.
const WALKS: [(&str, libc::c_int); 3] = [("program", 11), ("map", 12), ("link", 31)];

impl Leftovers {
    /// As it is without any monitor.
    pub fn before() -> Self {
        shared::retire();
        Self { before: objects() }
    }

    /// Asserts that nothing was added, once the kernel's deferred frees are through.
    #[track_caller]
    pub fn assert_none(&self) {
        let clean = eventually(|| objects().is_subset(&self.before));
        let now = objects();
        let added: Vec<_> = now.difference(&self.before).collect();
        assert!(clean, "left behind: {added:?}");
        assert!(
            !Path::new(PIN_DIRECTORY).exists(),
            "{PIN_DIRECTORY} is left behind"
        );
    }
}

fn objects() -> BTreeSet<(&'static str, u32)> {
    let mut found = BTreeSet::new();
    for (sort, command) in WALKS {
        let mut id = 0;
        while let Some(next) = next_id(command, id) {
            found.insert((sort, next));
            id = next;
        }
    }
    found
}

/// The start of `union bpf_attr` for those commands.
#[repr(C)]
struct Walk {
    start_id: u32,
    next_id: u32,
    open_flags: u32,
}

fn next_id(command: libc::c_int, start_id: u32) -> Option<u32> {
    let mut walk = Walk {
        start_id,
        next_id: 0,
        open_flags: 0,
    };
    // SAFETY: the kernel reads and writes the twelve bytes whose size it is given.
    let returned =
        unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut walk, size_of::<Walk>()) };
    (returned == 0).then_some(walk.next_id)
}
