//! What io_uring's interface looks like, as far as registering goes: linux/io_uring.h.

/// `struct io_uring_params`, opaque: a ring without entries to submit needs no field of it.
#[repr(C)]
pub struct Params([u64; 15]);

impl Params {
    pub const fn zeroed() -> Self {
        Self([0; 15])
    }
}

const _: () = assert!(size_of::<Params>() == 120);

/// `struct io_uring_clone_buffers`.
#[repr(C)]
#[derive(Default)]
pub struct CloneBuffers {
    pub src_fd: u32,
    pub flags: u32,
    pub src_off: u32,
    pub dst_off: u32,
    pub nr: u32,
    pub pad: [u32; 3],
}

pub const REGISTER_BUFFERS: u32 = 0;
pub const UNREGISTER_BUFFERS: u32 = 1;
pub const REGISTER_FILES: u32 = 2;
pub const UNREGISTER_FILES: u32 = 3;
pub const REGISTER_CLONE_BUFFERS: u32 = 30;
