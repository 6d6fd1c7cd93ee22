//! Programs of kprobes on functions, attached by hand: with kprobe.multi, of which aya knows nothing, and
//! with a kprobe of its own for each; and what the kernel says such a link has missed.

use std::{
    ffi::CString,
    fs, io,
    os::fd::{AsFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use super::{
    bpf::{create_link, describe},
    btf::Btf,
};

const BPF_PERF_EVENT: u32 = 41;
pub const BPF_TRACE_KPROBE_MULTI: u32 = 42;
/// The program runs when the function returns.
const BPF_F_KPROBE_MULTI_RETURN: u32 = 1;
/// `BPF_LINK_TYPE_PERF_EVENT` and `BPF_LINK_TYPE_KPROBE_MULTI` (include/uapi/linux/bpf.h).
const PERF_EVENT: u32 = 7;
const KPROBE_MULTI: u32 = 8;

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Entry,
    Return,
}

/// What `union bpf_attr` has for a link of kprobe.multi (include/uapi/linux/bpf.h).
#[repr(C)]
struct OfMulti {
    flags: u32,
    cnt: u32,
    syms: u64,
    addrs: u64,
    cookies: u64,
}

/// `struct perf_event_attr` as far as its second version goes (include/uapi/linux/perf_event.h).
#[repr(C)]
#[derive(Default)]
struct PerfEvent {
    kind: u32,
    size: u32,
    config: u64,
    sample_period: u64,
    sample_type: u64,
    read_format: u64,
    flags: u64,
    wakeup_events: u32,
    bp_type: u32,
    kprobe_func: u64,
    probe_offset: u64,
}

/// `struct bpf_link_info` with its `kprobe_multi`.
#[repr(C)]
#[derive(Default)]
struct MultiInfo {
    kind: u32,
    id: u32,
    prog_id: u32,
    padding: u32,
    addrs: u64,
    count: u32,
    flags: u32,
    missed: u64,
    cookies: u64,
}

/// The same with its `perf_event.kprobe`.
#[repr(C)]
#[derive(Default)]
struct KprobeInfo {
    kind: u32,
    id: u32,
    prog_id: u32,
    padding: u32,
    event: u32,
    padding_of_event: u32,
    func_name: u64,
    name_len: u32,
    offset: u32,
    addr: u64,
    missed: u64,
    cookie: u64,
}

/// Attaches a program of type kprobe, loaded for kprobe.multi, to this one function. It stays until the
/// link is closed, or until its last pin is removed.
///
/// # Errors
/// What the kernel says: EOPNOTSUPP where it has no fprobe, ESRCH where the function is none that can be
/// traced.
pub fn multi(program: BorrowedFd, function: &str, end: End) -> io::Result<OwnedFd> {
    let function = CString::new(function)?;
    let names = [function.as_ptr()];
    let of_multi = OfMulti {
        flags: match end {
            End::Entry => 0,
            End::Return => BPF_F_KPROBE_MULTI_RETURN,
        },
        cnt: 1,
        syms: names.as_ptr() as u64,
        addrs: 0,
        cookies: 0,
    };
    // SAFETY: `OfMulti` is what such a link has. It points to one pointer to a name that ends with a zero; both
    // outlive the call.
    unsafe { create_link(program, None, BPF_TRACE_KPROBE_MULTI, of_multi) }
}

/// Attaches a program of type kprobe to this function with a kprobe or kretprobe of its own. It stays
/// as the above does.
pub fn kprobe(program: BorrowedFd, function: &str, end: End) -> io::Result<OwnedFd> {
    let event = event(function, end)?;
    // The link keeps the event.
    // SAFETY: such a link has nothing that must be given besides.
    unsafe { create_link(program, Some(event.as_fd()), BPF_PERF_EVENT, ()) }
}

fn event(function: &str, end: End) -> io::Result<OwnedFd> {
    const PERF_FLAG_FD_CLOEXEC: libc::c_ulong = 8;
    let function = CString::new(function)?;
    let attr = PerfEvent {
        kind: said("type")?,
        size: size_of::<PerfEvent>() as u32,
        config: match end {
            End::Entry => 0,
            End::Return => 1 << said("format/retprobe")?,
        },
        kprobe_func: function.as_ptr() as u64,
        ..PerfEvent::default()
    };
    // SAFETY: `PerfEvent` begins `struct perf_event_attr` and says how long it is. It points to a name
    // that ends with a zero and outlives the call; the rest are numbers.
    let fd = unsafe {
        let attr = &raw const attr;
        libc::syscall(
            libc::SYS_perf_event_open,
            attr,
            -1,
            0,
            -1,
            PERF_FLAG_FD_CLOEXEC,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, so it is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// The number at the end of a file that describes the kernel's kprobes: `6`, or `config:0`.
fn said(file: &str) -> io::Result<u32> {
    let path = format!("/sys/bus/event_source/devices/kprobe/{file}");
    let text = fs::read_to_string(&path)?;
    number(&text).ok_or_else(|| io::Error::other(format!("{path} has no number: {text}")))
}

fn number(text: &str) -> Option<u32> {
    text.trim().rsplit(':').next()?.parse().ok()
}

/// Which links this kernel tells misses of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tells {
    /// Those of kprobe.multi (6.7).
    pub multi: bool,
    /// Those of kprobes (6.7).
    pub kprobe: bool,
}

impl Tells {
    /// A kernel without such a field writes nothing there: only its types tell.
    pub fn of(types: &Btf) -> Self {
        let has = |field| types.offset("bpf_link_info", field).is_ok();
        Self {
            multi: has("kprobe_multi.missed"),
            kprobe: has("perf_event.kprobe.missed"),
        }
    }

    /// Why a sum of misses lacks some.
    pub fn loss(self) -> Option<String> {
        let fields = [
            (self.multi, "kprobe_multi.missed"),
            (self.kprobe, "perf_event.kprobe.missed"),
        ];
        let lacks: Vec<&str> = fields
            .into_iter()
            .filter_map(|(has, field)| (!has).then_some(field))
            .collect();
        (!lacks.is_empty()).then(|| {
            format!(
                "this kernel's bpf_link_info has no {}: a return that found no instance of its kretprobe \
                 is counted nowhere",
                lacks.join(", no ")
            )
        })
    }
}

/// How often a link was missed, its program not asked: another kprobe was running, or there was
/// no instance for a return. What the program itself missed is counted with the program. Of a link
/// of another kind 0; `None` where this kernel does not tell.
pub fn missed(link: BorrowedFd, tells: Tells) -> io::Result<Option<u64>> {
    let mut info = MultiInfo::default();
    // SAFETY: a link is described by `struct bpf_link_info`, of which this is one form; it asks for no
    // addresses and no cookies.
    unsafe { describe(link, &mut info) }?;
    match info.kind {
        KPROBE_MULTI => Ok(tells.multi.then_some(info.missed)),
        PERF_EVENT if tells.kprobe => {
            let mut info = KprobeInfo::default();
            // SAFETY: as above; it asks for no name.
            unsafe { describe(link, &mut info) }?;
            Ok(Some(info.missed))
        }
        PERF_EVENT => Ok(None),
        _ => Ok(Some(0)),
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn attributes_are_as_the_kernel_has_them() {
        assert_eq!(size_of::<OfMulti>(), 32);
        assert_eq!(offset_of!(OfMulti, syms), 8);
        // PERF_ATTR_SIZE_VER1
        assert_eq!(size_of::<PerfEvent>(), 72);
    }

    #[test]
    fn the_fields_of_links_are_where_the_uapi_has_them() {
        use aya_obj::generated::{
            bpf_link_info, bpf_link_info__bindgen_ty_1__bindgen_ty_9 as Multi,
        };
        let head = offset_of!(bpf_link_info, __bindgen_anon_1);
        let missed = head + offset_of!(Multi, missed);
        assert_eq!(offset_of!(MultiInfo, missed), missed);
        assert_eq!(size_of::<MultiInfo>(), head + size_of::<Multi>());
        // `type`, then the name, its length, the offset and the address.
        assert_eq!(offset_of!(KprobeInfo, missed), head + 8 + 8 + 8 + 8);
    }

    #[test]
    fn the_number_is_the_last_thing_said() {
        assert_eq!(number("6\n"), Some(6));
        assert_eq!(number("config:0\n"), Some(0));
        assert_eq!(number("config\n"), None);
    }

    #[test]
    fn what_is_not_told_is_named() {
        let tells = |multi, kprobe| Tells { multi, kprobe }.loss();
        assert_eq!(tells(true, true), None);
        let none = tells(false, false).expect("a loss");
        assert!(none.contains("kprobe_multi.missed, no perf_event.kprobe.missed"));
        assert!(!tells(true, false).expect("a loss").contains("multi"));
    }
}
