//! io_uring, as far as it takes to pin a page of one's own.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

const IORING_REGISTER_BUFFERS: libc::c_uint = 0;
const IORING_UNREGISTER_BUFFERS: libc::c_uint = 1;
/// Size of `struct io_uring_params` (include/uapi/linux/io_uring.h).
const PARAMS: usize = 120;

/// A ring that does nothing but keep buffers.
pub struct Ring(OwnedFd);

impl Ring {
    /// # Errors
    /// ENOSYS where the kernel has no io_uring, EPERM where it is not allowed
    /// (kernel.io_uring_disabled, a seccomp filter).
    pub fn new() -> io::Result<Self> {
        let mut params = [0_u64; PARAMS / size_of::<u64>()];
        // SAFETY: zeroes ask for nothing special; the kernel writes into the structure, which
        // outlives the call.
        let fd = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, params.as_mut_ptr()) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor, so it is nobody else's.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) }))
    }

    /// Pins the pages of a buffer until they are unregistered.
    ///
    /// # Safety
    /// The buffer is memory that this process has mapped.
    pub unsafe fn register(&self, start: *mut libc::c_void, length: usize) -> io::Result<()> {
        let buffer = libc::iovec {
            iov_base: start,
            iov_len: length,
        };
        self.call(IORING_REGISTER_BUFFERS, &raw const buffer, 1)
    }

    /// Drops the pins.
    pub fn unregister(&self) -> io::Result<()> {
        self.call(IORING_UNREGISTER_BUFFERS, std::ptr::null(), 0)
    }

    fn call(
        &self,
        operation: libc::c_uint,
        argument: *const libc::iovec,
        count: libc::c_uint,
    ) -> io::Result<()> {
        // SAFETY: `argument` is null, or points to `count` structures that outlive the call; the
        // kernel reads them.
        let returned = unsafe {
            libc::syscall(
                libc::SYS_io_uring_register,
                self.0.as_raw_fd(),
                operation,
                argument,
                count,
            )
        };
        if returned < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }
}
