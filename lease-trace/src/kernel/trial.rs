//! Small trials of what the kernel accepts, made by asking it: a program of two instructions is
//! loaded and forgotten.

use std::io;

use super::btf::Btf;

const BPF_PROG_LOAD: libc::c_int = 5;
const BPF_PROG_TYPE_TRACING: u32 = 26;
const BPF_PROG_TYPE_LSM: u32 = 29;
const BPF_MODIFY_RETURN: u32 = 26;
const BPF_LSM_MAC: u32 = 27;

/// Why a program was not loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// EPERM: this process may not ask.
    Privilege,
    /// The kernel cannot do it; in its words.
    Kernel(String),
}

/// `union bpf_attr` for `BPF_PROG_LOAD` up to `attach_prog_fd` (include/uapi/linux/bpf.h).
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
    attach_prog_fd: u32,
    fd_array_pad: u32,
}

/// Whether a program may replace the return value of this function (`fmod_ret`), so that a call
/// can be denied.
pub fn modify_return(btf: &Btf, function: &str) -> Result<(), Refusal> {
    load(btf, function, BPF_PROG_TYPE_TRACING, BPF_MODIFY_RETURN)
}

/// Whether a program may answer for the BPF LSM, `hook` being `bpf_lsm_NAME`.
pub fn lsm(btf: &Btf, hook: &str) -> Result<(), Refusal> {
    load(btf, hook, BPF_PROG_TYPE_LSM, BPF_LSM_MAC)
}

fn load(btf: &Btf, function: &str, prog_type: u32, attach: u32) -> Result<(), Refusal> {
    let id = btf
        .function_id(function)
        .ok_or_else(|| Refusal::Kernel(format!("this kernel has no function {function}")))?;
    // r0 = 0; exit
    let program: [u64; 2] = [0xb7, 0x95];
    let mut log = vec![0_u8; 4096];
    let attr = Load {
        prog_type,
        insn_cnt: program.len() as u32,
        insns: program.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 1,
        log_size: log.len() as u32,
        log_buf: log.as_mut_ptr() as u64,
        expected_attach_type: attach,
        attach_btf_id: id,
        ..Load::default()
    };
    // SAFETY: `attr` has the layout of the command, and the buffers it points to outlive the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_LOAD,
            &raw const attr,
            size_of::<Load>(),
        )
    };
    if fd < 0 {
        let error = io::Error::last_os_error();
        let text = String::from_utf8_lossy(&log);
        let said = text
            .trim_matches('\0')
            .lines()
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned();
        return Err(match error.raw_os_error() {
            Some(libc::EPERM) => Refusal::Privilege,
            _ if said.is_empty() => Refusal::Kernel(error.to_string()),
            _ => Refusal::Kernel(said),
        });
    }
    // SAFETY: the descriptor was just returned to this function and is nobody else's.
    unsafe { libc::close(fd as libc::c_int) };
    Ok(())
}
