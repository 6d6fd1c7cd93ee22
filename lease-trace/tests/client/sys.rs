//! The system calls, one function each: what goes wrong comes back as the operation and its errno.

pub mod bpf;
mod channel;
pub mod compat;
mod descriptor;
mod memory;
mod process;
mod vfio;

use std::io;

pub use channel::{pair, pipe, read_line, receive_fd, send_fd, write_line};
pub use descriptor::{
    close, close_range, dup, dup2, dup3, fcntl, fcntl_by, fcntl_delegation, io_uring_register,
    io_uring_setup, is_open, memfd, open, open_devices, pread, punch_hole, pwrite, register_umem,
    set_cloexec, truncate, udmabuf_create, uffd_register, unlink, unread, userfaultfd, xdp_socket,
};
pub use memory::{mmap, mmap_fixed, mremap, mremap_fixed, munmap, vm_read};
pub use process::{
    Disposition, exit_thread, filter, fork, hang_up, kill, mount_tmpfs, pause, ptrace_seize,
    set_comm, set_dumpable, set_locked_memory, set_open_files, set_signal, set_uid, steal_fd, uid,
    unshare, unshare_user, wait,
};
pub use vfio::{vfio_map, vfio_set_container, vfio_set_iommu, vfio_unmap};

use crate::reply::Failure;

/// The refusal that errno holds right now.
fn refusal(operation: impl Into<String>) -> Failure {
    Failure::of(&io::Error::last_os_error(), operation)
}

/// What a system call returned: -1 is a refusal.
fn check<T: PartialEq + From<i8>>(returned: T, operation: impl Into<String>) -> Result<T, Failure> {
    if returned == T::from(-1) {
        Err(refusal(operation))
    } else {
        Ok(returned)
    }
}
