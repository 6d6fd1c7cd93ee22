//! bpf(2) by hand, for programs that the kernel finds by the BTF id of a function.

use std::{
    ffi::{CStr, CString},
    io,
    os::{
        fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use aya_obj::generated::{bpf_func_info, bpf_line_info, bpf_prog_info};
use thiserror::Error;

use super::link::BPF_TRACE_KPROBE_MULTI;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_OBJ_PIN: libc::c_int = 6;
const BPF_OBJ_GET: libc::c_int = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_RAW_TRACEPOINT_OPEN: libc::c_int = 17;
const BPF_BTF_LOAD: libc::c_int = 18;

const BPF_PROG_TYPE_KPROBE: u32 = 2;
const BPF_PROG_TYPE_TRACING: u32 = 26;
const BPF_PROG_TYPE_LSM: u32 = 29;
const BPF_TRACE_FENTRY: u32 = 24;
const BPF_TRACE_FEXIT: u32 = 25;
const BPF_MODIFY_RETURN: u32 = 26;
const BPF_LSM_MAC: u32 = 27;
const BPF_TRACE_ITER: u32 = 28;

/// Room for what the verifier says. Pages that it leaves blank cost nothing.
const LOG_SIZE: usize = (u32::MAX >> 8) as usize;

/// `union bpf_attr` for `BPF_PROG_LOAD` (include/uapi/linux/bpf.h), as far as it is used.
#[repr(C)]
#[derive(Default)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
    prog_btf_fd: u32,
    func_info_rec_size: u32,
    func_info: u64,
    func_info_cnt: u32,
    line_info_rec_size: u32,
    line_info: u64,
    line_info_cnt: u32,
    attach_btf_id: u32,
    attach_btf_obj_fd: u32,
    core_relo_cnt: u32,
}

/// The same for `BPF_OBJ_PIN` and `BPF_OBJ_GET`.
#[repr(C)]
#[derive(Default)]
struct Pin {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// The same for `BPF_RAW_TRACEPOINT_OPEN`.
#[repr(C)]
#[derive(Default)]
struct Open {
    name: u64,
    prog_fd: u32,
    padding: u32,
}

/// The same for `BPF_BTF_LOAD`.
#[repr(C)]
#[derive(Default)]
struct LoadBtf {
    btf: u64,
    btf_log_buf: u64,
    btf_size: u32,
    btf_log_size: u32,
    btf_log_level: u32,
    padding: u32,
}

/// The same for `BPF_OBJ_GET_INFO_BY_FD`.
#[repr(C)]
#[derive(Default)]
struct Describe {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// What a program may do at the function it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `fentry`: runs before a kernel function.
    Entry,
    /// `fexit`: runs after it.
    Exit,
    /// Runs for each of what a function `bpf_iter_*` walks over.
    Iterator,
    /// `fmod_ret`: runs before a kernel function; if it returns other than 0, the function is not
    /// called and returns that.
    ModifyReturn,
    /// Runs as the BPF security module's hook `bpf_lsm_*`.
    Lsm,
    /// Runs for a kprobe or kretprobe.
    Kprobe,
    /// The same where kprobe.multi attaches it.
    KprobeMulti,
}

impl Kind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Entry => "fentry",
            Self::Exit => "fexit",
            Self::Iterator => "iterator",
            Self::ModifyReturn => "fmod_ret",
            Self::Lsm => "BPF LSM",
            Self::Kprobe => "kprobe",
            Self::KprobeMulti => "kprobe.multi",
        }
    }

    const fn types(self) -> (u32, u32) {
        match self {
            Self::Entry => (BPF_PROG_TYPE_TRACING, BPF_TRACE_FENTRY),
            Self::Exit => (BPF_PROG_TYPE_TRACING, BPF_TRACE_FEXIT),
            Self::Iterator => (BPF_PROG_TYPE_TRACING, BPF_TRACE_ITER),
            Self::ModifyReturn => (BPF_PROG_TYPE_TRACING, BPF_MODIFY_RETURN),
            Self::Lsm => (BPF_PROG_TYPE_LSM, BPF_LSM_MAC),
            Self::Kprobe => (BPF_PROG_TYPE_KPROBE, 0),
            Self::KprobeMulti => (BPF_PROG_TYPE_KPROBE, BPF_TRACE_KPROBE_MULTI),
        }
    }
}

/// A program as the kernel is handed it.
pub struct Program<'a> {
    pub kind: Kind,
    /// BTF id of the function it is for; 0 for a kprobe.
    pub function_id: u32,
    pub name: &'a str,
    pub instructions: &'a [u64],
    pub license: &'a CStr,
    /// Needed by a program of more than one function.
    pub types: Option<Types<'a>>,
}

/// The types of a program's functions.
#[derive(Clone, Copy)]
pub struct Types<'a> {
    pub btf: BorrowedFd<'a>,
    /// Records of `struct bpf_func_info`.
    pub functions: &'a [u8],
    /// Records of `struct bpf_line_info`.
    pub lines: &'a [u8],
}

/// Why the kernel does not take a program.
#[derive(Debug, Error)]
#[error("{error}{}", said.as_ref().map(|said| format!(": {said}")).unwrap_or_default())]
pub struct Refusal {
    pub error: io::Error,
    /// The verifier's last words.
    pub said: Option<String>,
}

/// `BPF_PROG_LOAD`. A program that is refused is tried once more to hear why; the whole answer
/// goes to the debug log.
pub fn load(program: &Program) -> Result<OwnedFd, Refusal> {
    let error = match load_with(program, &mut []) {
        Ok(loaded) => return Ok(loaded),
        Err(error) => error,
    };
    let mut log = vec![0; LOG_SIZE];
    // The first error counts: this attempt may fail for want of room.
    if let Ok(loaded) = load_with(program, &mut log) {
        return Ok(loaded);
    }
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    let log = String::from_utf8_lossy(&log[..end]);
    log::debug!("{}: {error}\n{}", program.name, log.trim_end());
    Err(Refusal {
        error,
        said: last_words(&log).map(str::to_owned),
    })
}

fn load_with(program: &Program, log: &mut [u8]) -> io::Result<OwnedFd> {
    let (prog_type, expected_attach_type) = program.kind.types();
    let mut attr = Load {
        prog_type,
        expected_attach_type,
        attach_btf_id: program.function_id,
        insns: program.instructions.as_ptr() as u64,
        insn_cnt: program.instructions.len() as u32,
        license: program.license.as_ptr() as u64,
        ..Load::default()
    };
    // The last byte stays 0; a longer name is cut, as the kernel shows names of that length only.
    let room = attr.prog_name.len() - 1;
    for (to, from) in attr.prog_name[..room].iter_mut().zip(program.name.bytes()) {
        *to = from;
    }
    if let Some(types) = program.types {
        attr.prog_btf_fd = types.btf.as_raw_fd() as u32;
        attr.func_info_rec_size = size_of::<bpf_func_info>() as u32;
        attr.func_info = types.functions.as_ptr() as u64;
        attr.func_info_cnt = (types.functions.len() / size_of::<bpf_func_info>()) as u32;
        attr.line_info_rec_size = size_of::<bpf_line_info>() as u32;
        attr.line_info = types.lines.as_ptr() as u64;
        attr.line_info_cnt = (types.lines.len() / size_of::<bpf_line_info>()) as u32;
    }
    if !log.is_empty() {
        attr.log_level = 1;
        attr.log_buf = log.as_mut_ptr() as u64;
        attr.log_size = log.len() as u32;
    }
    // SAFETY: `Load` is this command's attribute. It points to what `program` borrows, with the
    // lengths of those slices, and to `log`, which nobody else sees; all outlive the call.
    unsafe { descriptor(BPF_PROG_LOAD, &attr) }
}

/// `BPF_BTF_LOAD`.
pub fn load_btf(btf: &[u8]) -> io::Result<OwnedFd> {
    let attr = LoadBtf {
        btf: btf.as_ptr() as u64,
        btf_size: btf.len() as u32,
        ..LoadBtf::default()
    };
    // SAFETY: `LoadBtf` is this command's attribute; it points to `btf`, with its length.
    unsafe { descriptor(BPF_BTF_LOAD, &attr) }
}

/// Attaches a program to the function it was loaded for. It stays until the link is closed, or
/// until its last pin is removed.
pub fn attach(program: BorrowedFd) -> io::Result<OwnedFd> {
    let attr = Open {
        prog_fd: program.as_raw_fd() as u32,
        ..Open::default()
    };
    // SAFETY: `Open` is this command's attribute; without a name it points nowhere.
    unsafe { descriptor(BPF_RAW_TRACEPOINT_OPEN, &attr) }
}

/// `BPF_OBJ_GET`: a descriptor of what has this name in bpffs.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attr = Pin {
        pathname: path.as_ptr() as u64,
        ..Pin::default()
    };
    // SAFETY: `Pin` is this command's attribute; it points to `path`, which ends with a zero.
    unsafe { descriptor(BPF_OBJ_GET, &attr) }
}

/// The program's number, and how often its hooks were missed, since it was running on that CPU
/// already.
pub fn recursion_misses(program: BorrowedFd) -> io::Result<(u32, u64)> {
    let info = info(program)?;
    Ok((info.id, info.recursion_misses))
}

/// How many instructions the kernel walked through to accept a program.
pub fn verified(program: BorrowedFd) -> io::Result<u32> {
    Ok(info(program)?.verified_insns)
}

fn info(program: BorrowedFd) -> io::Result<bpf_prog_info> {
    // SAFETY: `bpf_prog_info` is made of integers only, for which zero is a value.
    let mut info: bpf_prog_info = unsafe { std::mem::zeroed() };
    // SAFETY: a program is described by this structure.
    unsafe { describe(program, &mut info) }?;
    Ok(info)
}

/// `BPF_OBJ_GET_INFO_BY_FD`.
///
/// # Safety
/// `T` is the structure that describes such an object. All zeroes it asks for nothing to be written
/// elsewhere.
pub(super) unsafe fn describe<T>(object: BorrowedFd, info: &mut T) -> io::Result<()> {
    let attr = Describe {
        bpf_fd: object.as_raw_fd() as u32,
        info_len: size_of::<T>() as u32,
        info: std::ptr::from_mut(info) as u64,
    };
    // SAFETY: `Describe` is this command's attribute; it points to `info`, with its size, which
    // outlives the call.
    unsafe { call(BPF_OBJ_GET_INFO_BY_FD, &attr) }.map(drop)
}

/// `BPF_OBJ_PIN`: gives a link, map or program a name in bpffs.
pub fn pin(object: BorrowedFd, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attr = Pin {
        pathname: path.as_ptr() as u64,
        bpf_fd: object.as_raw_fd() as u32,
        ..Pin::default()
    };
    // SAFETY: `Pin` is this command's attribute; it points to `path`, which ends with a zero.
    unsafe { call(BPF_OBJ_PIN, &attr) }.map(drop)
}

/// `union bpf_attr` for `BPF_LINK_CREATE`: what links of all kinds have, and what those of this kind have
/// besides.
#[repr(C)]
struct CreateLink<T> {
    prog_fd: u32,
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    of_kind: T,
}

/// Makes a link of a program, to `target` where the kind has one.
///
/// # Safety
/// `T` is what this kind of link has in `union bpf_attr` behind its flags, without padding; what it points to
/// outlives the call.
pub(super) unsafe fn create_link<T>(
    program: BorrowedFd,
    target: Option<BorrowedFd>,
    attach_type: u32,
    of_kind: T,
) -> io::Result<OwnedFd> {
    const BPF_LINK_CREATE: libc::c_int = 28;
    let attr = CreateLink {
        prog_fd: program.as_raw_fd() as u32,
        target_fd: target.map_or(0, |target| target.as_raw_fd() as u32),
        attach_type,
        flags: 0,
        of_kind,
    };
    // SAFETY: this is the command's attribute; the caller vouches for the rest of it.
    unsafe { descriptor(BPF_LINK_CREATE, &attr) }
}

/// A command that returns a new descriptor.
///
/// # Safety
/// As for [`call`]; and `command` returns a new descriptor.
pub(super) unsafe fn descriptor<A>(command: libc::c_int, attr: &A) -> io::Result<OwnedFd> {
    // SAFETY: the caller's.
    let fd = unsafe { call(command, attr) }?;
    // SAFETY: the caller vouches that the descriptor is new, so it is nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// # Safety
/// `A` is laid out as `union bpf_attr` is for `command`, without padding of its own; where it
/// points to, the kernel may read and write as that command does.
pub(super) unsafe fn call<A>(command: libc::c_int, attr: &A) -> io::Result<libc::c_int> {
    // SAFETY: the caller's.
    unsafe { call_at(command, std::ptr::from_ref(attr)) }
}

/// A command that answers in its attribute.
///
/// # Safety
/// As for [`call`].
pub(super) unsafe fn call_mut<A>(command: libc::c_int, attr: &mut A) -> io::Result<libc::c_int> {
    // SAFETY: the caller's.
    unsafe { call_at(command, std::ptr::from_mut(attr)) }
}

/// # Safety
/// As for [`call`].
unsafe fn call_at<A>(command: libc::c_int, attr: *const A) -> io::Result<libc::c_int> {
    // SAFETY: the caller's, and the size is that of `A`.
    match unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<A>()) } {
        returned if returned < 0 => Err(io::Error::last_os_error()),
        returned => Ok(returned as libc::c_int),
    }
}

/// The line of a verifier's log that says what is wrong.
pub fn last_words(log: &str) -> Option<&str> {
    log.lines()
        .rev()
        .map(str::trim)
        .find(|line| !line.is_empty() && !is_statistics(line))
}

/// What the verifier appends to its log whatever happened.
fn is_statistics(line: &str) -> bool {
    [
        "processed ",
        "subprog ",
        "stack depth ",
        "verification time ",
        "insns processed ",
    ]
    .iter()
    .any(|start| line.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_those_before_the_statistics() {
        let log = "0: R1=ctx() R10=fp0\nAt program exit the register R0 should have been 0\n\
                   processed 2 insns (limit 1000000) max_states_per_insn 0\n\n";
        assert_eq!(
            last_words(log),
            Some("At program exit the register R0 should have been 0")
        );
        assert_eq!(last_words("processed 0 insns\n"), None);
    }

    #[test]
    fn attributes_are_as_long_as_the_kernel_has_them() {
        assert_eq!(size_of::<Load>(), 120);
        assert_eq!(size_of::<Pin>(), 16);
        assert_eq!(size_of::<Open>(), 16);
        assert_eq!(size_of::<LoadBtf>(), 32);
        assert_eq!(size_of::<Describe>(), 16);
    }
}
