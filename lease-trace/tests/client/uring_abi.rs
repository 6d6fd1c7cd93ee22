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

/// `struct io_uring_rsrc_update`, as IORING_REGISTER_RING_FDS takes it.
#[repr(C)]
pub struct RingUpdate {
    /// Where to put it; all ones: anywhere. The kernel writes down where.
    pub offset: u32,
    pub resv: u32,
    /// The ring's descriptor.
    pub data: u64,
}

pub const REGISTER_BUFFERS: u32 = 0;
pub const UNREGISTER_BUFFERS: u32 = 1;
pub const REGISTER_FILES: u32 = 2;
pub const UNREGISTER_FILES: u32 = 3;
pub const REGISTER_RING_FDS: u32 = 20;
pub const REGISTER_CLONE_BUFFERS: u32 = 30;
pub const REGISTER_BUFFERS2: u32 = 15;
pub const REGISTER_BUFFERS_UPDATE: u32 = 16;

/// `struct io_uring_rsrc_register`.
#[repr(C)]
#[derive(Default)]
pub struct RsrcRegister {
    pub nr: u32,
    pub flags: u32,
    pub resv2: u64,
    pub data: u64,
    pub tags: u64,
}

pub const RSRC_REGISTER_SPARSE: u32 = 1;

/// `struct io_uring_rsrc_update2`.
#[repr(C)]
#[derive(Default)]
pub struct RsrcUpdate2 {
    pub offset: u32,
    pub resv: u32,
    pub data: u64,
    pub tags: u64,
    pub nr: u32,
    pub resv2: u32,
}

const _: () = assert!(size_of::<RsrcRegister>() == 32 && size_of::<RsrcUpdate2>() == 32);

/// With an operation: the ring is named by its place among the registered ones.
pub const USE_REGISTERED_RING: u32 = 1 << 31;
