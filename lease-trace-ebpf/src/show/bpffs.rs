//! The files in bpffs: one row of text for each zombie, each lease and each stake with pins, written
//! from the maps while somebody reads, without any process of ours.
//!
//! The program is called for each element of a map, and once more at the end without one. When a
//! row does not fit into what is left of the reader's buffer, the kernel drops it and calls the
//! program for that element again (kernel/bpf/bpf_iter.c, `bpf_seq_read`), so a row is there as a
//! whole or not at all.

use core::ffi::{CStr, c_void};

use aya_ebpf::helpers::{
    bpf_ktime_get_boot_ns,
    generated::{bpf_seq_printf, bpf_seq_write},
};
use lease_trace_common::{
    PATH_LEN,
    cause::Cause,
    consumer::{NAME_LEN, padded},
    context::{Context as Through, NO_FD},
    lease::{Kind, LeaseInfo, LeaseKey},
    stake::{self, MINOR_BITS, Stake, StakeKey, State, Task, path_flag, pins},
};

use crate::{
    bpf::loops::repeat,
    kernel::{self, InodePtr, MapElement, Typed},
    show::{consumer, idle},
    state::inodes::InodeRef,
    state::leases::LeaseRef,
    state::maps::PATHS,
    state::stakes::StakeRef,
};

const ZOMBIES_HEADER: &CStr =
    c"COMMAND PID KIND MODE CAUSE AGE_MS PINS SIZE_BYTES CONSUMER DEV INODE PATH\n";
const LEASES_HEADER: &CStr =
    c"COMMAND PID KIND MODE AGE_MS PINS SIZE_BYTES CONSUMER DEV INODE PATH\n";
const FILE_PINS_HEADER: &CStr =
    c"COMMAND PID FD CONTEXT LEASES PINS CONSUMER AGE_MS SIZE_BYTES DEV INODE PATH\n";

/// One stake of `STAKES`, if it is a zombie.
#[inline(always)]
pub fn zombies(ctx: *const MapElement) {
    let Some((out, stake)) = next_stake(ctx, ZOMBIES_HEADER) else {
        return;
    };
    let word = stake.word();
    if stake::state(word) != State::Zombie {
        return;
    }
    let Stake {
        owner,
        lease,
        released_ns,
        ..
    } = stake.get();
    out.task(owner);
    out.lease(lease);
    out.cause(lease);
    out.age(*released_ns);
    let inode = InodeRef::find_slot(stake.get().slot, stake.key.inode);
    out.print(c" %llu", [stake.pins()]);
    out.size_of(inode);
    out.consumer(stake);
    out.file(inode, stake.key.inode);
}

/// One lease of `LEASES`; the pins are those of the process that set it.
#[inline(always)]
pub fn leases(ctx: *const MapElement) {
    let Some((out, key)) = Out::row::<LeaseKey>(ctx, LEASES_HEADER) else {
        return;
    };
    let Some(found) = LeaseRef::at(key) else {
        return;
    };
    let lease = found.get();
    out.task(&lease.setter);
    out.lease(&lease.info);
    out.age(lease.info.set_ns);
    let inode = found.inode();
    let stake = inode.and_then(|inode| StakeRef::find(lease.setter.tgid, inode.id));
    match stake {
        Some(stake) if pins(stake.word()) > 0 => {
            out.print(c" %llu", [stake.pins()]);
            out.size(key.inode);
            out.consumer(stake);
        }
        _ => {
            out.text(c" 0");
            out.size(key.inode);
            out.text(c" -");
        }
    }
    match inode {
        Some(inode) if !lease.is_idle() => out.file(Some(inode), inode.id),
        _ => {
            let path = idle::PathNow::of(found);
            out.numbers(idle::numbers(found));
            out.path(path.id);
            out.text(c"\n");
            path.forget();
        }
    }
}

/// One stake of `STAKES`, if it has pins.
#[inline(always)]
pub fn file_pins(ctx: *const MapElement) {
    let Some((out, stake)) = next_stake(ctx, FILE_PINS_HEADER) else {
        return;
    };
    let word = stake.word();
    if pins(word) == 0 {
        return;
    }
    out.task(&stake.get().owner);
    out.through(&stake.get().context);
    let inode = InodeRef::find_slot(stake.get().slot, stake.key.inode);
    out.print(c" %llu %llu", [stake::leases(word), stake.pins()]);
    out.consumer(stake);
    out.age(stake.get().pinned_ns);
    out.size_of(inode);
    out.file(inode, stake.key.inode);
}

#[inline(always)]
fn next_stake(ctx: *const MapElement, header: &'static CStr) -> Option<(Out, StakeRef)> {
    let (out, key) = Out::row::<StakeKey>(ctx, header)?;
    Some((out, StakeRef::find(key.tgid, key.inode)?))
}

/// The file that somebody reads.
#[derive(Clone, Copy)]
struct Out(*mut c_void);

/// Kinds and causes by number, as they are printed.
static KINDS: [[u8; NAME_LEN]; 3] = [
    padded(Kind::Lease.name()),
    padded(Kind::Deleg.name()),
    padded(Kind::Layout.name()),
];
static CAUSES: [[u8; NAME_LEN]; Cause::ALL.len() + 1] = causes();

const fn causes() -> [[u8; NAME_LEN]; Cause::ALL.len() + 1] {
    let mut names = [padded("-"); Cause::ALL.len() + 1];
    let mut at = 0;
    while at < Cause::ALL.len() {
        names[Cause::ALL[at] as usize] = padded(Cause::ALL[at].name());
        at += 1;
    }
    names
}

impl Out {
    /// Where a row goes, and the key of the element that it is about; `None` at the end. Before
    /// anything else goes the header.
    #[inline(always)]
    fn row<K>(ctx: *const MapElement, header: &'static CStr) -> Option<(Self, K)> {
        let (seq, number) = MapElement::reader(ctx);
        let out = Self(seq);
        let key = MapElement::key_at(ctx);
        // The last call has the number of the last element: it is the first of all only if nothing
        // was written yet.
        if number == 0 && (key.is_some() || kernel::seq_count(Typed(seq as u64)) == 0) {
            out.text(header);
        }
        let key = key?;
        Some((out, kernel::value(key)?))
    }

    #[inline(always)]
    fn text(self, text: &'static CStr) {
        // SAFETY: `seq` is the iterator's own sequence file; the text is a constant.
        unsafe {
            bpf_seq_write(
                self.0.cast(),
                text.as_ptr().cast_mut().cast(),
                text.count_bytes() as u32,
            )
        };
    }

    /// As printf does; `%s` takes the address of a NUL-terminated text.
    #[inline(always)]
    fn print<const N: usize>(self, format: &'static CStr, words: [u64; N]) {
        // SAFETY: `seq` is the iterator's own sequence file; the format is a constant with its NUL,
        // and the words are a local.
        unsafe {
            bpf_seq_printf(
                self.0.cast(),
                format.as_ptr().cast_mut().cast(),
                format.count_bytes() as u32 + 1,
                words.as_ptr().cast(),
                size_of_val(&words) as u32,
            )
        };
    }

    /// A name that anybody may have chosen, as one word; `?` for none.
    #[inline(always)]
    fn escaped<const N: usize>(self, name: &[u8; N]) {
        if name[0] == 0 {
            self.text(c"?");
        } else {
            self.escaped_at(kernel::address(name), N as u32);
        }
    }

    /// COMMAND PID
    #[inline(always)]
    fn task(self, task: &Task) {
        self.escaped(&task.comm);
        self.print(c" %u", [task.tgid.into()]);
    }

    #[inline(always)]
    fn escaped_at(self, at: u64, len: u32) {
        repeat(len, one_byte, &mut Escape { out: self, at });
    }

    /// KIND MODE
    #[inline(always)]
    fn lease(self, lease: &LeaseInfo) {
        if !lease.is_lease() {
            return self.text(c" - -");
        }
        let kind = KINDS.get(lease.kind() as usize).unwrap_or(&KINDS[0]);
        self.print(c" %s", [kind.as_ptr() as u64]);
        self.text(if lease.mode == lease_trace_common::lease::F_WRLCK {
            c" write"
        } else {
            c" read"
        });
    }

    /// CAUSE, with a star if the pins will go by themselves.
    #[inline(always)]
    fn cause(self, lease: &LeaseInfo) {
        let name = CAUSES.get(lease.cause as usize).unwrap_or(&CAUSES[0]);
        self.print(c" %s", [name.as_ptr() as u64]);
        if lease.ends_by_itself() {
            self.text(c"*");
        }
    }

    /// AGE_MS
    #[inline(always)]
    fn age(self, since_ns: u64) {
        if since_ns == 0 {
            return self.text(c" ?");
        }
        // SAFETY: no precondition.
        let now = unsafe { bpf_ktime_get_boot_ns() };
        self.print(c" %llu", [now.saturating_sub(since_ns) / 1_000_000]);
    }

    /// SIZE_BYTES
    #[inline(always)]
    fn size(self, address: u64) {
        self.print(c" %llu", [InodePtr(address).size()]);
    }

    /// The same of a record's inode, which may not be in memory any more.
    #[inline(always)]
    fn size_of(self, inode: Option<InodeRef>) {
        let size = inode.and_then(|inode| {
            let address = inode.get().address;
            let size = InodePtr(address).size();
            // What is freed may be another's by now.
            (address != 0 && inode.get().address == address).then_some(size)
        });
        match size {
            Some(size) => self.print(c" %llu", [size]),
            None => self.text(c" ?"),
        }
    }

    /// CONSUMER
    #[inline(always)]
    fn consumer(self, stake: StakeRef) {
        match consumer::name(stake) {
            Some(who) => self.print(c" %s", [who.as_ptr() as u64]),
            None => self.text(c" ?"),
        }
    }

    /// FD CONTEXT
    #[inline(always)]
    fn through(self, context: &Through) {
        if context.mode == 0 {
            return self.text(c" ? ?");
        }
        if context.fd == NO_FD {
            self.text(c" - ");
        } else {
            self.print(c" %d ", [context.fd as u64]);
        }
        if context.is_socket() {
            self.text(c"socket");
        } else {
            self.escaped(&context.name);
        }
    }

    /// DEV INODE PATH, and the end of the row.
    #[inline(always)]
    fn file(self, inode: Option<InodeRef>, id: u64) {
        self.numbers(inode.map(|inode| (inode.get().dev, inode.get().ino)));
        self.path(id);
        self.text(c"\n");
    }

    /// DEV INODE
    #[inline(always)]
    fn numbers(self, numbers: Option<(u32, u64)>) {
        match numbers {
            Some((dev, ino)) => {
                let (major, minor) = (dev >> MINOR_BITS, dev & ((1 << MINOR_BITS) - 1));
                self.print(c" %u:%u %llu ", [major.into(), minor.into(), ino]);
            }
            None => self.text(c" ? ? "),
        }
    }

    #[inline(always)]
    fn path(self, id: u64) {
        let Some(path) = PATHS.get_ptr(id) else {
            return self.text(c"?");
        };
        // SAFETY: a live map value.
        let path = unsafe { &*path };
        let len = path.len.min(PATH_LEN as u32);
        if len == 0 {
            return self.text(c"?");
        }
        if path.flags & (path_flag::TRUNCATED | path_flag::NO_MOUNT) != 0 {
            self.text(c"…");
        }
        let end = kernel::address(&path.bytes) + PATH_LEN as u64;
        self.escaped_at(end - u64::from(len), len);
        if path.flags & path_flag::DELETED != 0 {
            self.text(c"\\x20(deleted)");
        }
    }
}

/// A name being written.
#[derive(Clone, Copy)]
struct Escape {
    out: Out,
    at: u64,
}

/// Escapes as `report --raw` does, but for what is not ASCII: each such byte is `\xNN`.
unsafe extern "C" fn one_byte(index: u64, state: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `escaped_at` gave it.
    let Escape { out, at } = unsafe { *state.cast_const().cast::<Escape>() };
    let Some(byte) = kernel::value::<u8>(at + index) else {
        return 1;
    };
    match byte {
        0 => return 1,
        b'\n' => out.text(c"\\n"),
        b'\t' => out.text(c"\\t"),
        b'\r' => out.text(c"\\r"),
        b'\\' => out.text(c"\\\\"),
        b'!'..=b'~' => out.print(c"%c", [byte.into()]),
        _ => out.print(c"\\x%02x", [byte.into()]),
    }
    0
}
