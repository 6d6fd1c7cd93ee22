//! System calls of x32, programs with pointers of 32 bits: they come through the same entry as those of
//! 64 bits, with a bit of their own in the number (arch/x86/entry/syscalls/syscall_64.tbl).

/// `__X32_SYSCALL_BIT` (arch/x86/include/uapi/asm/unistd.h).
const BIT: i64 = 0x4000_0000;

/// The number that the same call has for programs of 64 bits. Most have one number; of the others those
/// that matter here are told apart.
#[inline(always)]
pub const fn as_64(number: i64) -> i64 {
    let of_x32 = number - BIT;
    match of_x32 {
        ..0 => number,
        // ioctl, readv, writev, recvfrom, sendmsg, recvmsg
        514 => 16,
        515 => 19,
        516 => 20,
        517 => 45,
        518 => 46,
        519 => 47,
        // execve, execveat
        520 => 59,
        545 => 322,
        // vmsplice, preadv, pwritev, setsockopt, preadv2, pwritev2
        532 => 278,
        534 => 295,
        535 => 296,
        541 => 54,
        546 => 327,
        547 => 328,
        _ => of_x32,
    }
}
