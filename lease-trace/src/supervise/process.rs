//! What is read of a process whose call waits: all of it from /proc, and true only as long as the
//! call does wait.

use std::{
    fs::{self, File},
    io,
    os::unix::{ffi::OsStringExt as _, fs::FileExt as _, fs::MetadataExt as _},
    path::PathBuf,
};

use crate::enrich::process;
use rustix::process::{Pid, Signal, kill_process};

/// The longest path the kernel takes, with its NUL (include/uapi/linux/limits.h).
const PATH_MAX: usize = 4096;

/// The thread that called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    pub tid: u32,
    /// Its thread group.
    pub tgid: u32,
}

/// What of a process two tasks may have in common (kcmp(2)).
#[derive(Clone, Copy)]
enum Shared {
    Memory = 1,
    Descriptors = 2,
}

impl Caller {
    /// Nothing if it is gone.
    pub fn of(tid: u32) -> Option<Self> {
        let group = process::thread_group(tid)?;
        Some(Self { tid, tgid: group })
    }

    /// Whether it is known to have done with a call of this number: it has ended, or waits in another, or outside
    /// of any.
    pub fn has_done_with(self, number: u32) -> bool {
        match self.waits_in() {
            Ok(call) => call.is_some_and(|call| call != i64::from(number)),
            Err(error) => matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)),
        }
    }

    /// Whether it is seen to wait in a call of this number.
    pub fn is_inside(self, number: u32) -> bool {
        self.waits_in().ok().flatten() == Some(i64::from(number))
    }

    /// The call it waits in, -1 for none; nothing while it runs (Documentation/filesystems/proc.rst, `syscall`).
    fn waits_in(self) -> io::Result<Option<i64>> {
        let text = fs::read_to_string(format!("/proc/{}/task/{}/syscall", self.tgid, self.tid))?;
        Ok(text
            .split(' ')
            .next()
            .and_then(|call| call.trim().parse().ok()))
    }

    /// Whether it has this descriptor.
    pub fn has(self, fd: u32) -> bool {
        fs::symlink_metadata(format!("/proc/{}/fd/{fd}", self.tid)).is_ok()
    }

    /// Whether execve(2) closes this descriptor.
    pub fn closes_on_exec(self, fd: u32) -> bool {
        let text = fs::read_to_string(format!("/proc/{}/fdinfo/{fd}", self.tid));
        let flags = text.ok().and_then(|text| {
            let octal = text.lines().find_map(|line| line.strip_prefix("flags:"))?;
            i32::from_str_radix(octal.trim(), 8).ok()
        });
        flags.is_some_and(|flags| flags & libc::O_CLOEXEC != 0)
    }

    /// Whether another task has the same table of descriptors, as far as threads and a parent go.
    pub fn shares_descriptors(self) -> bool {
        let threads = process::number(self.tid, "Threads");
        threads.is_some_and(|threads| threads > 1) || self.shares_with_parent(Shared::Descriptors)
    }

    /// Whether its memory stays mapped when it executes another program: it is a vfork(2) child.
    pub fn shares_memory(self) -> bool {
        self.shares_with_parent(Shared::Memory)
    }

    fn shares_with_parent(self, what: Shared) -> bool {
        let Some(parent) = process::number(self.tid, "PPid") else {
            return false;
        };
        // SAFETY: kcmp(2) takes numbers, and changes nothing.
        let order = unsafe { libc::syscall(libc::SYS_kcmp, self.tid, parent, what as i32, 0, 0) };
        order == 0
    }

    /// The file that execve(2) is asked for, as this process finds it.
    pub fn program(self, directory: i32, path: u64) -> io::Result<PathBuf> {
        let path = self.path_at(path)?;
        let proc = PathBuf::from(format!("/proc/{}", self.tid));
        let base = if path.is_absolute() {
            proc.join("root")
        } else if directory == libc::AT_FDCWD {
            proc.join("cwd")
        } else {
            proc.join(format!("fd/{directory}"))
        };
        let relative = path.strip_prefix("/").unwrap_or(&path);
        Ok(if relative.as_os_str().is_empty() {
            base
        } else {
            base.join(relative)
        })
    }

    fn path_at(self, address: u64) -> io::Result<PathBuf> {
        let mut bytes = vec![0; PATH_MAX];
        let mut end = 0;
        // Page by page: the next may not be there.
        while end < PATH_MAX {
            let to_page = 4096 - (address as usize + end) % 4096;
            let upto = (end + to_page).min(PATH_MAX);
            self.read(address + end as u64, &mut bytes[end..upto])?;
            if let Some(nul) = bytes[end..upto].iter().position(|byte| *byte == 0) {
                bytes.truncate(end + nul);
                return Ok(PathBuf::from(std::ffi::OsString::from_vec(bytes)));
            }
            end = upto;
        }
        Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG))
    }

    fn read(self, address: u64, into: &mut [u8]) -> io::Result<()> {
        File::open(format!("/proc/{}/mem", self.tid))?.read_exact_at(into, address)
    }

    /// `d_type` of a `struct delegation` (include/uapi/linux/fcntl.h, 6.19).
    pub fn delegation_mode(self, address: u64) -> Option<u16> {
        let mut bytes = [0; 8];
        self.read(address, &mut bytes).ok()?;
        Some(u16::from_le_bytes([bytes[4], bytes[5]]))
    }

    /// Address, length, protection and flags of a `struct mmap_arg_struct32`
    /// (arch/x86/kernel/sys_ia32.c).
    pub fn old_mmap(self, address: u64) -> Option<[u32; 4]> {
        let mut bytes = [0; 16];
        self.read(address, &mut bytes).ok()?;
        let word = |n: usize| {
            let bytes = [bytes[n], bytes[n + 1], bytes[n + 2], bytes[n + 3]];
            u32::from_le_bytes(bytes)
        };
        Some([word(0), word(4), word(8), word(12)])
    }

    /// Why executing this file would give the process what it has not; `None`: it would not.
    pub fn gains_by(self, program: &std::path::Path) -> Option<&'static str> {
        let file = fs::metadata(program).ok()?;
        let own = fs::metadata(format!("/proc/{}", self.tid)).ok()?;
        if file.mode() & libc::S_ISUID != 0 && file.uid() != own.uid() {
            return Some("set-user-ID");
        }
        let sets_group = libc::S_ISGID | libc::S_IXGRP;
        if file.mode() & sets_group == sets_group && file.gid() != own.gid() {
            return Some("set-group-ID");
        }
        if own.uid() != 0 && has_capabilities(program) {
            return Some("given capabilities");
        }
        None
    }

    /// Ends it.
    pub fn signal(self, signal: Signal) -> io::Result<()> {
        let gone = || io::Error::from_raw_os_error(libc::ESRCH);
        let pid = i32::try_from(self.tgid).ok().and_then(Pid::from_raw);
        Ok(kill_process(pid.ok_or_else(gone)?, signal)?)
    }
}

/// Whether this descriptor's open file description has a lease; true if that cannot be told.
pub fn is_leased(tid: u32, fd: u32) -> bool {
    match fs::read_to_string(format!("/proc/{tid}/fdinfo/{fd}")) {
        Ok(text) => text.lines().any(|line| {
            line.starts_with("lock:") && (line.contains(" LEASE ") || line.contains(" DELEG "))
        }),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

fn has_capabilities(program: &std::path::Path) -> bool {
    let mut value = [0_u8; 64];
    rustix::fs::getxattr(program, "security.capability", &mut value[..]).is_ok()
}

#[cfg(test)]
mod tests {
    use std::{ffi::CString, os::fd::AsRawFd as _};

    use super::*;

    fn own() -> Caller {
        Caller::of(std::process::id()).expect("this process")
    }

    #[test]
    fn the_program_of_an_exec_is_found() {
        let path = CString::new("/proc/self/exe").expect("a path");
        let found = own().program(libc::AT_FDCWD, path.as_ptr() as u64);
        let expected = format!("/proc/{}/{}/proc/self/exe", std::process::id(), "root");
        assert_eq!(found.expect("read"), PathBuf::from(expected));
        assert!(own().program(libc::AT_FDCWD, 8).is_err());
    }

    #[test]
    fn files_say_whether_they_stay() {
        let file = File::open("/proc/self/exe").expect("opened");
        let fd = file.as_raw_fd() as u32;
        assert!(own().closes_on_exec(fd));
        assert!(!is_leased(own().tid, fd));
        assert!(!own().closes_on_exec(u32::MAX));
        assert!(!is_leased(own().tid, u32::MAX));
    }

    #[test]
    fn a_test_has_memory_of_its_own() {
        assert!(!own().shares_memory());
    }
}
