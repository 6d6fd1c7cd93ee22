//! The survey: what is pinned now, read from the structures of those who pin. What its programs are told, and
//! what they say.

use crate::{
    COMM_LEN,
    offsets::{Source, offsets, source},
};

/// What has to be closed or deregistered so that pins go.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `struct io_ring_ctx`: registered buffers.
    Ring = 1,
    /// `struct xdp_umem` of an AF_XDP socket.
    Umem = 2,
    /// `struct udmabuf` of a dma-buf.
    Dmabuf = 3,
    /// `struct ib_uverbs_file`: memory regions.
    Verbs = 4,
    /// `struct vfio_iommu` of a container: ranges of a device's addresses.
    Vfio = 5,
}

impl Kind {
    pub const ALL: [Self; 5] = [
        Self::Ring,
        Self::Umem,
        Self::Dmabuf,
        Self::Verbs,
        Self::Vfio,
    ];

    pub fn from_raw(raw: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u32 == raw)
    }
}

offsets! {
    /// Offsets in bytes into the structures of the kernel itself, see [`Offsets`](crate::offsets::Offsets).
    Own
    file_op: Field [file.f_op],
    /// Up to 6.12: an array of pointers to buffers.
    ring_buffers: IfAny [io_ring_ctx.user_bufs],
    ring_buffers_nr: IfAny [io_ring_ctx.nr_user_bufs],
    /// Later: of pointers to nodes.
    ring_nodes: IfAny [io_ring_ctx.buf_table.nodes],
    ring_nodes_nr: IfAny [io_ring_ctx.buf_table.nr],
    node_buffer: IfAny [io_rsrc_node.buf],
    buffer_start: IfAny [io_mapped_ubuf.ubuf],
    buffer_end: IfAny [io_mapped_ubuf.ubuf_end],
    buffer_len: IfAny [io_mapped_ubuf.len],
    buffer_nr: IfAny [io_mapped_ubuf.nr_bvecs],
    buffer_flags: IfAny [io_mapped_ubuf.flags],
    buffer_vecs: IfAny [io_mapped_ubuf.bvec],
    vec_page: Field [bio_vec.bv_page],
    vec_size: Size [bio_vec],
    socket_ops: Field [socket.ops],
    socket_sk: Field [socket.sk],
    socket_umem: IfAny [xdp_sock.umem],
    umem_pages: IfAny [xdp_umem.pgs],
    umem_nr: IfAny [xdp_umem.npgs],
    umem_len: IfAny [xdp_umem.size],
    dmabuf_ops: IfAny [dma_buf.ops],
    dmabuf_priv: IfAny [dma_buf.priv],
    /// 6.12: a list of what was pinned; 7.x: an array. Before there were no pins.
    udmabuf_list: IfAny [udmabuf.unpin_list],
    udmabuf_list_folio: IfAny [udmabuf_folio.folio],
    udmabuf_list_link: IfAny [udmabuf_folio.list],
    udmabuf_folios: IfAny [udmabuf.pinned_folios],
    udmabuf_nr: IfAny [udmabuf.nr_pinned],
    /// How many pages a large folio has.
    folio_nr: IfAny [folio._folio_nr_pages, folio._nr_pages],
    sg_link: Field [scatterlist.page_link],
    sg_len: Field [scatterlist.length],
    sg_size: Size [scatterlist],
}

offsets! {
    /// The same into those of ib_uverbs and ib_core, which are modules.
    Verbs
    file_objects: IfAny [ib_uverbs_file.uobjects],
    object_link: IfAny [ib_uobject.list],
    object_object: IfAny [ib_uobject.object],
    object_api: IfAny [ib_uobject.uapi_object],
    api_id: IfAny [uverbs_api_object.id],
    region_device: IfAny [ib_mr.device],
    region_number: IfAny [ib_mr.res.id],
    device_driver: IfAny [ib_device.ops.driver_id],
    umem_mm: IfAny [ib_umem.owning_mm],
    umem_len: IfAny [ib_umem.length],
    umem_start: IfAny [ib_umem.address],
    umem_sg: IfAny [ib_umem.sgt_append.sgt.sgl],
    umem_sg_nr: IfAny [ib_umem.sgt_append.sgt.orig_nents],
}

offsets! {
    /// The same into those of vfio and vfio_iommu_type1, which are modules.
    Vfio
    container_driver: IfAny [vfio_container.iommu_driver],
    container_data: IfAny [vfio_container.iommu_data],
    driver_ops: IfAny [vfio_iommu_driver.ops],
    iommu_ranges: IfAny [vfio_iommu.dma_list],
    range_node: IfAny [vfio_dma.node],
    range_address: IfAny [vfio_dma.iova],
    range_start: IfAny [vfio_dma.vaddr],
    range_len: IfAny [vfio_dma.size],
    range_mapped: IfAny [vfio_dma.iommu_mapped],
    range_task: IfAny [vfio_dma.task],
    /// Pages that were pinned for it; not those that are no memory of the host's.
    range_locked: IfAny [vfio_dma.locked_vm],
}

/// How many drivers there is room for: those that `kernel/owners.rs` of the user side knows, which an assertion holds.
pub const DRIVERS: usize = 8;

/// Where a driver's region has its `struct ib_mr` and its pointer to a `struct ib_umem`, in bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Driver {
    /// `enum rdma_driver_id`; 0: no driver.
    pub id: u32,
    pub region: u32,
    pub umem: u32,
}

/// Everything that the survey's programs are told beside [`Config`](crate::config::Config).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Addresses of the tables by which a file, a socket or a dma-buf is known for what it is
    /// (`io_uring_fops` and so on); 0: this kernel has none now.
    pub ring_fops: u64,
    pub socket_fops: u64,
    pub xsk_ops: u64,
    pub dmabuf_fops: u64,
    pub udmabuf_ops: u64,
    pub verbs_fops: u64,
    /// The same of a device that can be mapped.
    pub verbs_mmap_fops: u64,
    /// Address of `vmemmap_base`, which says where `struct page` of the first page frame is.
    pub memmap: u64,
    pub vfio_fops: u64,
    /// `vfio_iommu_driver_ops_type1`
    pub type1_ops: u64,
    pub own: Own,
    pub verbs: Verbs,
    pub vfio: Vfio,
    pub drivers: [Driver; DRIVERS],
    /// `UVERBS_OBJECT_MR`.
    pub region_id: u32,
    /// Byte of `struct ib_umem` and bits in it that say that its pages are not pinned by it: on demand, or
    /// a dma-buf's.
    pub unpinned_byte: u32,
    pub unpinned_bits: u32,
    pub zero: u32,
}

/// In the place of a descriptor: a mapping keeps the file.
pub const MAPPED: u32 = u32::MAX;

/// A descriptor or mapping of a file with which something may be pinned.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// [`Kind`]
    pub kind: u32,
    /// The descriptor, or [`MAPPED`].
    pub fd: u32,
    /// Whose it is.
    pub tgid: u32,
    /// Whose pins it keeps, by the kernel's own account; 0: it has none.
    pub owner: u32,
    /// Address of the `struct file`.
    pub file: u64,
    /// Address of what [`Kind`] says.
    pub object: u64,
    /// Inode number of the file.
    pub ino: u64,
    pub comm: [u8; COMM_LEN],
}

/// What a part's pages are.
pub mod backing {
    /// Pages of a file.
    pub const FILE: u32 = 0;
    /// Anonymous memory.
    pub const ANONYMOUS: u32 = 1;
    /// They have left their file, or never were in one.
    pub const NONE: u32 = 2;
    /// Whatever the owner has mapped where the entry begins.
    pub const MAPPED: u32 = 3;
}

/// Consecutive pins of one entry (a buffer, a region) in the same file.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Number of the entry: the buffer's in its table; of a region the number by which rdma(8) knows it; of a range
    /// the device's address.
    pub entry: u64,
    /// Address of what has the pins: of a buffer that several rings share it is the same.
    pub id: u64,
    /// Where the entry begins in its owner's memory; 0: not known.
    pub start: u64,
    /// Length of the entry in bytes.
    pub len: u64,
    /// Where the part begins in the entry, in bytes, if each pin is of one page.
    pub offset: u64,
    /// Pin references of this part.
    pub pins: u64,
    pub ino: u64,
    /// `super_block.s_dev`, in the kernel's own encoding.
    pub dev: u32,
    /// See [`backing`].
    pub backing: u32,
    /// 0: no lease is on the file; else `F_RDLCK` or `F_WRLCK` and one.
    pub leased: u32,
    /// Whose pins they are, if the entry says so itself; 0: it does not.
    pub owner: u32,
    /// Of a memory region `enum rdma_driver_id`.
    pub driver: u32,
    pub zero: u32,
}

/// Parts that one run of the program has room for, in 320 KiB; the next run has what is left.
pub const PARTS: u32 = 4096;

/// What a run of the program is asked for, where it is, and what it came to. All words, so that the
/// verifier knows nothing of them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walk {
    /// Address of the file whose entries are asked for; 0: files are.
    pub file: u64,
    /// The entry that is looked at.
    pub entry: u64,
    /// The entry to begin with, and pages of it that are known already.
    pub seek: u64,
    pub skip: u64,
    /// 1: the file was found.
    pub is_found: u64,
    /// 1: all of its entries were looked at.
    pub is_done: u64,
    /// Parts that were found.
    pub parts: u64,
    /// Page frames that count: the first, and the one behind the last; 0: all do.
    pub first_frame: u64,
    pub end_frame: u64,
    pub kind: u64,
    pub object: u64,
    /// How many entries there are; of regions, a bound.
    pub entries: u64,
    /// Of a list: the link that was looked at last.
    pub link: u64,
    /// How pages are found: see [`by`].
    pub by: u64,
    /// Where the next one is.
    pub next: u64,
    /// From one to the next, in bytes.
    pub stride: u64,
    /// How many are left; of a list: its head.
    pub left: u64,
    /// The next of a scatterlist, and how many are left.
    pub sg: u64,
    pub sg_left: u64,
    /// Pages of the entry that were looked at.
    pub at: u64,
    /// The last page's mapping.
    pub mapping: u64,
    pub part: Part,
}

/// How the pages of an entry are found.
pub mod by {
    /// There is no entry.
    pub const NOTHING: u64 = 0;
    /// An array of pointers, `stride` bytes from each other.
    pub const ARRAY: u64 = 1;
    /// Consecutive pages, those of one element of a scatterlist.
    pub const PAGES: u64 = 2;
    /// `struct udmabuf_folio`, linked.
    pub const LIST: u64 = 3;
}

/// Inodes that can be asked about at once, what their page caches have pinned.
pub const ASKED: u32 = 4096;

/// What an inode's page cache has pinned.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InCache {
    /// Address of the `struct inode`.
    pub inode: u64,
    /// Pin references, or fewer where fewer were enough.
    pub pins: u64,
}

const _: () = assert!(size_of::<InCache>() == 16);
const _: () = assert!(size_of::<Found>() == 56);
const _: () = assert!(size_of::<Part>() == 80);
const _: () = assert!(size_of::<Walk>() == 21 * 8 + size_of::<Part>());
const _: () = assert!(size_of::<Survey>().is_multiple_of(8));

crate::pod!(Survey, Found, InCache, Part, Walk);
