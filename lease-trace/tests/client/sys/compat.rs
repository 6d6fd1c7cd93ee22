//! System calls through the 32-bit entry, which a 64-bit program reaches too: int 0x80, with the
//! numbers and registers of i386 (arch/x86/entry/syscalls/syscall_32.tbl).

use std::arch::asm;
use std::ffi::c_int;
use std::os::fd::RawFd;

use crate::reply::Failure;

const CLOSE: c_int = 6;
const FCNTL64: c_int = 221;

pub fn close(fd: RawFd) -> Result<(), Failure> {
    call(CLOSE, [fd, 0, 0], "32-bit close")
}

pub fn fcntl(fd: RawFd, what: c_int, argument: c_int, name: &str) -> Result<(), Failure> {
    call(FCNTL64, [fd, what, argument], &format!("32-bit {name}"))
}

fn call(number: c_int, [first, second, third]: [c_int; 3], name: &str) -> Result<(), Failure> {
    let mut returned = number;
    // SAFETY: the callers' system calls take numbers and touch no memory. rbx, which the compiler
    // keeps for itself, is put back; r8 to r11 may be lost.
    unsafe {
        asm!(
            "xchg rbx, {first:r}",
            "int 0x80",
            "xchg rbx, {first:r}",
            first = inout(reg) first => _,
            inout("eax") returned,
            in("ecx") second,
            in("edx") third,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    if returned < 0 {
        return Err(Failure::Kernel {
            errno: -returned,
            operation: name.to_owned(),
        });
    }
    Ok(())
}
