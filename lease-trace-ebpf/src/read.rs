//! Every read of kernel memory, behind a named function. Addresses are wrapped in the type they
//! belong to; offsets come from BTF through [`CONFIG`]. A failed read is `None`, never a guess.

use aya_ebpf::helpers::{
    bpf_probe_read_kernel,
    generated::{bpf_probe_read_kernel as bpf_probe_read_kernel_raw, bpf_probe_read_kernel_str},
};
use lease_trace_common::{COMM_LEN, config::ABSENT, context::Call};

use crate::maps::CONFIG;

/// An offset, as a constant of the verifier.
macro_rules! offset {
    ($field:ident) => {
        constant(&CONFIG.offsets.$field)
    };
}

/// Reads a field of [`CONFIG`]. Volatile keeps the compiler from folding in the blank value that
/// is in the object.
#[inline(always)]
pub fn constant(field: &'static u32) -> u32 {
    // SAFETY: a reference is valid to read.
    unsafe { core::ptr::read_volatile(field) }
}

#[inline(always)]
fn at<T>(base: u64, offset: u32) -> Option<T> {
    if offset == ABSENT {
        return None;
    }
    // SAFETY: bpf_probe_read_kernel checks the address and fails on a bad one.
    unsafe { bpf_probe_read_kernel((base + u64::from(offset)) as *const T).ok() }
}

#[inline(always)]
fn pointer(base: u64, offset: u32) -> Option<u64> {
    at::<u64>(base, offset).filter(|address| *address != 0)
}

/// `struct page *`, element `index` of an array of them.
#[inline(always)]
pub fn element(array: u64, index: u64) -> Option<u64> {
    pointer(array + index * 8, 0)
}

/// Word `index` of a program's own context, as a number: the verifier would otherwise take it for
/// a typed pointer, which functions of their own do not accept. `None` for zero.
#[inline(always)]
pub fn word(context: u64, index: u64) -> Option<u64> {
    element(context, index)
}

/// The address of something in memory of ours, as a number: see [`word`].
#[inline(always)]
pub fn address<T>(of: &T) -> u64 {
    let pointer = core::ptr::from_ref(of) as u64;
    element((&raw const pointer) as u64, 0).unwrap_or(0)
}

/// The key of a map's element, which the kernel hands to an iterator.
#[inline(always)]
pub fn key<K>(address: u64) -> Option<K> {
    at(address, 0)
}

/// `seq_file.count`: bytes written and not yet read.
#[inline(always)]
pub fn seq_count(seq: u64) -> u64 {
    at(seq, offset!(seq_count)).unwrap_or(0)
}

/// `len` bytes at `from` as a NUL-terminated text, as far as there is room.
///
/// # Safety
/// `to` is valid to write for `room` bytes.
#[inline(always)]
pub unsafe fn copy_text(to: *mut u8, room: u64, from: u64, len: u64) {
    let size = opaque(if len < room { len + 1 } else { room });
    if size > room {
        return;
    }
    // SAFETY: the caller's; the helper checks the other address.
    unsafe { bpf_probe_read_kernel_str(to.cast(), size as u32, from as *const _) };
}

/// One byte.
#[inline(always)]
pub fn byte(address: u64) -> Option<u8> {
    at(address, 0)
}

macro_rules! addresses {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub struct $name(pub u64);
    )+};
}

addresses! {
    /// `struct file *`
    File,
    /// `struct inode *`
    InodePtr,
    /// `struct file_lease *` (`struct file_lock *` before 6.9)
    FileLease,
    /// `struct page *`
    Page,
    /// `struct folio *`
    Folio,
    /// `struct dentry *`
    Dentry,
    /// `struct vfsmount *`
    VfsMount,
    /// `struct vm_area_struct *`
    Vma,
    /// `struct task_struct *`
    TaskPtr,
}

impl File {
    /// The inode that was opened: it carries the leases.
    #[inline(always)]
    pub fn inode(self) -> Option<InodePtr> {
        pointer(self.0, offset!(file_inode)).map(InodePtr)
    }

    /// The inode that owns the pages.
    #[inline(always)]
    pub fn pages_inode(self) -> Option<InodePtr> {
        match file_pages_inode(self.0) {
            0 => None,
            inode => Some(InodePtr(inode as u64)),
        }
    }

    /// The same of a file that is mapped: overlayfs maps the one beneath (fs/overlayfs/file.c,
    /// `ovl_mmap`).
    #[inline(always)]
    pub fn mapped_inode(self) -> Option<InodePtr> {
        let mapping = pointer(self.0, offset!(file_mapping))?;
        pointer(mapping, offset!(mapping_host)).map(InodePtr)
    }

    /// The file that overlayfs opened beneath this one of its own: `private_data`, or the first
    /// member of what that points to (fs/overlayfs/file.c, `struct ovl_file`, from 6.13 on). BTF of
    /// the module may not be there yet, so each is tried for being a file.
    #[inline(always)]
    fn beneath(self) -> Option<Self> {
        let private = pointer(self.0, offset!(file_private))?;
        let is_file = |file: &Self| file.mapped_inode().is_some_and(|host| file.maps(host));
        Some(Self(private))
            .filter(is_file)
            .or_else(|| pointer(private, 0).map(Self).filter(is_file))
    }

    /// Whether its mapping is that of the inode, which any file's is of its mapping's host.
    #[inline(always)]
    fn maps(self, inode: InodePtr) -> bool {
        let Some(mapping) = pointer(self.0, offset!(file_mapping)) else {
            return false;
        };
        pointer(inode.0, offset!(inode_mapping)).is_some_and(|of_inode| of_inode == mapping)
    }

    #[inline(always)]
    pub fn dentry(self) -> Option<Dentry> {
        pointer(self.0, offset!(file_dentry)).map(Dentry)
    }

    #[inline(always)]
    pub fn mount(self) -> Option<VfsMount> {
        pointer(self.0, offset!(file_mnt)).map(VfsMount)
    }

    /// Whether the last reference is gone (`__fput` runs).
    ///
    /// `f_count` is zero then (fs/file_table.c, up to 6.13); `f_ref` is in its dead zone, which
    /// is negative (include/linux/file_ref.h, FILE_REF_DEAD, from 6.14).
    #[inline(always)]
    pub fn is_last_reference(self) -> bool {
        let Some(count) = at::<i64>(self.0, offset!(file_count)) else {
            return false;
        };
        let biased = constant(&CONFIG.file_ref) != 0;
        if biased { count < 0 } else { count == 0 }
    }
}

impl File {
    /// References: descriptors, mappings and whatever else keeps it open.
    ///
    /// `f_ref` counts from zero for one reference (include/linux/file_ref.h, FILE_REF_ONEREF).
    #[inline(always)]
    pub fn references(self) -> i64 {
        let count = at::<i64>(self.0, offset!(file_count)).unwrap_or(0);
        if constant(&CONFIG.file_ref) != 0 {
            count + 1
        } else {
            count
        }
    }
}

impl InodePtr {
    #[inline(always)]
    pub fn number(self) -> u64 {
        at(self.0, offset!(inode_ino)).unwrap_or(0)
    }

    #[inline(always)]
    pub fn generation(self) -> u32 {
        at(self.0, offset!(inode_generation)).unwrap_or(0)
    }

    #[inline(always)]
    pub fn device(self) -> u32 {
        pointer(self.0, offset!(inode_sb))
            .and_then(|sb| at(sb, offset!(sb_dev)))
            .unwrap_or(0)
    }

    /// OVERLAYFS_SUPER_MAGIC (include/uapi/linux/magic.h): its inodes have no pages of their own.
    #[inline(always)]
    fn is_on_overlayfs(self) -> bool {
        const OVERLAYFS: u64 = 0x794c_7630;
        pointer(self.0, offset!(inode_sb))
            .and_then(|sb| at::<u64>(sb, offset!(sb_magic)))
            .is_some_and(|magic| magic == OVERLAYFS)
    }

    /// `S_PRIVATE`: memory the kernel keeps in a file of its own (shared anonymous mappings,
    /// System V segments); no process can open it, so none can lease it.
    #[inline(always)]
    pub fn is_private(self) -> bool {
        const S_PRIVATE: u32 = 512;
        at::<u32>(self.0, offset!(inode_flags)).is_some_and(|flags| flags & S_PRIVATE != 0)
    }

    #[inline(always)]
    pub fn mode(self) -> u32 {
        u32::from(at::<u16>(self.0, offset!(inode_mode)).unwrap_or(0))
    }

    /// `i_size`: length in bytes.
    #[inline(always)]
    pub fn size(self) -> Option<u64> {
        at(self.0, offset!(inode_size))
    }

    /// The inode that owns the pages.
    #[inline(always)]
    pub fn pages(self) -> Option<Self> {
        let mapping = pointer(self.0, offset!(inode_mapping))?;
        pointer(mapping, offset!(mapping_host)).map(Self)
    }

    /// Some name of the inode.
    #[inline(always)]
    pub fn alias(self) -> Option<Dentry> {
        pointer(self.0, offset!(inode_dentry))
            .map(|node| Dentry(node - u64::from(offset!(dentry_alias))))
    }

    /// Head of the list of leases, if a lock of any kind was ever set.
    #[inline(always)]
    pub fn lease_list(self) -> Option<u64> {
        pointer(self.0, offset!(inode_flctx)).map(|ctx| ctx + u64::from(offset!(flctx_lease)))
    }
}

/// See [`File::pages_inode`]. A function of its own for the verifier: checked once, not once for
/// each call.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn file_pages_inode(file: u64) -> i64 {
    let file = File(file);
    let Some(inode) = file.mapped_inode() else {
        return 0;
    };
    if inode.is_on_overlayfs()
        && let Some(beneath) = file.beneath().and_then(File::mapped_inode)
    {
        return beneath.0 as i64;
    }
    inode.0 as i64
}

/// Previous entry of a `list_head`.
#[inline(always)]
pub fn list_prev(entry: u64) -> Option<u64> {
    pointer(entry, 8)
}

impl FileLease {
    #[inline(always)]
    pub fn of_list(entry: u64) -> Self {
        Self(entry - u64::from(offset!(fl_list)))
    }

    #[inline(always)]
    pub fn file(self) -> Option<File> {
        pointer(self.0, offset!(fl_file)).map(File)
    }

    #[inline(always)]
    pub fn flags(self) -> u32 {
        at(self.0, offset!(fl_flags)).unwrap_or(0)
    }

    #[inline(always)]
    pub fn mode(self) -> u32 {
        u32::from(at::<u8>(self.0, offset!(fl_type)).unwrap_or(0))
    }

    /// Thread group that set it.
    #[inline(always)]
    pub fn setter(self) -> u32 {
        at(self.0, offset!(fl_pid)).unwrap_or(0)
    }
}

impl Page {
    /// The folio of this page (include/linux/page-flags.h, `_compound_head`).
    ///
    /// Bit 0 of `compound_head` marks a tail page. The rest is the head's address or, from 7.2
    /// on where `struct page` allows it, a mask to apply to the page's own address; a mask has
    /// all upper bits set, which no address of a page has.
    #[inline(always)]
    pub fn folio(self) -> Option<Folio> {
        let info = at::<u64>(self.0, offset!(page_head))?;
        Some(Folio(if info & 1 == 0 {
            self.0
        } else if info >> 40 == 0xff_ffff {
            self.0 & info
        } else {
            info - 1
        }))
    }

    /// The `n`th page after this one (`memmap` is virtually contiguous on x86-64).
    #[inline(always)]
    pub fn nth(self, n: u64) -> Self {
        Self(self.0 + n * u64::from(offset!(page_size)))
    }
}

/// What backs a folio.
pub enum Backing {
    /// Pages of a file.
    File(InodePtr),
    /// Anonymous or merged memory: not a file.
    Anonymous,
    /// No mapping: the folio left the page cache, or never was in it.
    None,
}

impl Folio {
    #[inline(always)]
    pub fn backing(self) -> Option<Backing> {
        let mapping = at::<u64>(self.0, offset!(folio_mapping))?;
        Some(if mapping == 0 {
            Backing::None
        } else if mapping & 3 != 0 {
            Backing::Anonymous
        } else {
            Backing::File(InodePtr(pointer(mapping, offset!(mapping_host))?))
        })
    }

    /// Pin references on the folio; for a small one an upper bound that a great many ordinary
    /// references could raise (include/linux/mm.h, `folio_maybe_dma_pinned`).
    #[inline(always)]
    pub fn pins(self) -> u64 {
        const GUP_PIN_COUNTING_BIAS: u32 = 1024;
        let flags = at::<u64>(self.0, offset!(folio_flags)).unwrap_or(0);
        if flags >> offset!(folio_head_bit) & 1 != 0 {
            u64::from(at::<u32>(self.0, offset!(folio_pincount)).unwrap_or(0))
        } else {
            let count = at::<u32>(self.0, offset!(folio_refcount)).unwrap_or(0);
            u64::from(count / GUP_PIN_COUNTING_BIAS)
        }
    }
}

/// Folio `index` of a `folio_batch`, and how many it has.
#[inline(always)]
pub fn batch_len(batch: u64) -> u64 {
    u64::from(at::<u8>(batch, offset!(batch_nr)).unwrap_or(0))
}

#[inline(always)]
pub fn batch_folio(batch: u64, index: u64) -> Option<Folio> {
    element(batch + u64::from(offset!(batch_folios)), index).map(Folio)
}

impl Dentry {
    /// `None` for a negative one.
    #[inline(always)]
    pub fn inode(self) -> Option<InodePtr> {
        pointer(self.0, offset!(dentry_inode)).map(InodePtr)
    }

    #[inline(always)]
    pub fn parent(self) -> Option<Self> {
        pointer(self.0, offset!(dentry_parent)).map(Self)
    }

    #[inline(always)]
    pub fn name(self) -> Option<(u64, u32)> {
        Some((
            pointer(self.0, offset!(dentry_name))?,
            at(self.0, offset!(dentry_len))?,
        ))
    }

    /// Copies the name, cut to `len` bytes with its NUL.
    ///
    /// # Safety
    /// `to` has room for `len` bytes.
    #[inline(always)]
    pub unsafe fn copy_name(self, to: *mut u8, len: u32) {
        if let Some((name, _)) = self.name() {
            // SAFETY: the caller guarantees the room; the helper checks the address of the name.
            unsafe { bpf_probe_read_kernel_str(to.cast(), len, name as *const _) };
        }
    }

    /// `d_unlinked`: neither hashed nor a root.
    #[inline(always)]
    pub fn is_unlinked(self) -> bool {
        at::<u64>(self.0, offset!(dentry_hashed)) == Some(0) && self.parent() != Some(self)
    }
}

impl VfsMount {
    #[inline(always)]
    pub fn root(self) -> Option<Dentry> {
        pointer(self.0, offset!(vfsmount_root)).map(Dentry)
    }

    /// Where this mount hangs: the mount below and the dentry there; `None` at the root of the
    /// mount namespace.
    #[inline(always)]
    pub fn mountpoint(self) -> Option<(Self, Dentry)> {
        let mount = self.0 - u64::from(offset!(mount_mnt));
        let parent = pointer(mount, offset!(mount_parent))?;
        if parent == mount {
            return None;
        }
        let at = pointer(mount, offset!(mount_mountpoint))?;
        Some((Self(parent + u64::from(offset!(mount_mnt))), Dentry(at)))
    }
}

impl Vma {
    #[inline(always)]
    pub fn start(self) -> u64 {
        at(self.0, offset!(vma_start)).unwrap_or(0)
    }

    #[inline(always)]
    pub fn end(self) -> u64 {
        at(self.0, offset!(vma_end)).unwrap_or(0)
    }

    /// `VM_SHARED`: every page of the mapping belongs to the file.
    #[inline(always)]
    pub fn is_shared(self) -> bool {
        const VM_SHARED: u64 = 8;
        at::<u64>(self.0, offset!(vma_flags)).is_some_and(|flags| flags & VM_SHARED != 0)
    }

    #[inline(always)]
    pub fn file(self) -> Option<File> {
        pointer(self.0, offset!(vma_file)).map(File)
    }
}

impl TaskPtr {
    #[inline(always)]
    pub fn tgid(self) -> u32 {
        at(self.0, offset!(task_tgid)).unwrap_or(0)
    }

    #[inline(always)]
    pub fn mm(self) -> u64 {
        at(self.0, offset!(task_mm)).unwrap_or(0)
    }

    #[inline(always)]
    pub fn flags(self) -> u32 {
        at(self.0, offset!(task_flags)).unwrap_or(0)
    }

    #[inline(always)]
    pub fn gid(self) -> Option<u32> {
        pointer(self.0, offset!(task_cred)).and_then(|cred| at(cred, offset!(cred_gid)))
    }

    /// When the process was started: `start_boottime` of its leader, ns.
    #[inline(always)]
    pub fn started(self) -> u64 {
        at(self.leader(), offset!(task_start)).unwrap_or(0)
    }

    /// The leader of the thread group: it is there as long as the process is.
    #[inline(always)]
    pub fn leader(self) -> u64 {
        pointer(self.0, offset!(task_leader)).unwrap_or(self.0)
    }

    /// SIGKILL is pending for this thread, as it is for every thread of a group that was sent it
    /// (kernel/signal.c, `complete_signal`).
    #[inline(always)]
    pub fn is_being_killed(self) -> bool {
        const SIGKILL_BIT: u64 = 1 << 8;
        at::<u64>(self.0, offset!(task_pending)).is_some_and(|set| set & SIGKILL_BIT != 0)
    }

    /// In this cgroup of the unified hierarchy, or below it.
    #[inline(always)]
    pub fn is_in_cgroup(self, id: u64, level: u32) -> bool {
        let Some(cgroup) = pointer(self.0, offset!(task_cgroups))
            .and_then(|set| pointer(set, offset!(css_default)))
        else {
            return false;
        };
        let depth = at::<u32>(cgroup, offset!(cgroup_level)).unwrap_or(0);
        if level > depth || offset!(cgroup_ancestors) == ABSENT {
            return false;
        }
        element(
            cgroup + u64::from(offset!(cgroup_ancestors)),
            u64::from(level),
        )
        .and_then(|ancestor| pointer(ancestor, offset!(cgroup_node)))
        .and_then(|node| at(node, offset!(node_id)))
            == Some(id)
    }

    /// The open file behind a descriptor of this task.
    #[inline(always)]
    pub fn file(self, fd: u32) -> Option<File> {
        let table = pointer(self.0, offset!(task_files))
            .and_then(|files| pointer(files, offset!(files_table)))?;
        if fd >= at::<u32>(table, offset!(table_len))? {
            return None;
        }
        element(pointer(table, offset!(table_files))?, u64::from(fd)).map(File)
    }

    /// A ring that this thread has registered with itself.
    #[inline(always)]
    pub fn registered_ring(self, index: u32) -> Option<File> {
        /// `IO_RINGFD_REG_MAX`
        const MOST: u32 = 16;
        let offset = offset!(ring_registered);
        if offset == ABSENT || index >= MOST {
            return None;
        }
        let rings = pointer(self.0, offset!(task_ring))?;
        element(rings + u64::from(offset), u64::from(index)).map(File)
    }

    /// One more than the highest descriptor there can be.
    #[inline(always)]
    pub fn descriptors(self) -> u32 {
        pointer(self.0, offset!(task_files))
            .and_then(|files| pointer(files, offset!(files_table)))
            .and_then(|table| at(table, offset!(table_len)))
            .unwrap_or(0)
    }

    /// Whether another task uses the same table of descriptors.
    #[inline(always)]
    pub fn shares_descriptors(self) -> bool {
        pointer(self.0, offset!(task_files))
            .and_then(|files| at::<u32>(files, offset!(files_count)))
            .is_some_and(|count| count > 1)
    }

    /// Of its whole process: the last thread to end may be one of io_uring's workers, whose own code
    /// is 0 whatever ended the process.
    #[inline(always)]
    pub fn exit_code(self) -> u32 {
        pointer(self.0, offset!(task_signal))
            .and_then(|signal| at(signal, offset!(signal_exit_code)))
            .unwrap_or(0)
    }

    /// Name of the thread group: that of its leader.
    #[inline(always)]
    pub fn comm(self) -> [u8; 16] {
        at(self.leader(), offset!(task_comm)).unwrap_or([0; 16])
    }

    /// The same, written where it is to stay.
    ///
    /// # Safety
    /// `to` is valid to write.
    #[inline(always)]
    pub unsafe fn copy_comm(self, to: *mut [u8; COMM_LEN]) {
        let from = self.leader() + u64::from(offset!(task_comm));
        // SAFETY: the caller guarantees `to`; the helper checks the other address, and writes
        // zeroes if it is bad.
        unsafe { bpf_probe_read_kernel_raw(to.cast(), COMM_LEN as u32, from as *const _) };
    }

    /// `from_kuid(&init_user_ns, task_uid(task))`
    #[inline(always)]
    pub fn uid(self) -> u32 {
        pointer(self.0, offset!(task_cred))
            .and_then(|cred| at(cred, offset!(cred_uid)))
            .unwrap_or(0)
    }

    /// Id of the cgroup in the unified hierarchy, as `bpf_get_current_cgroup_id` has it.
    #[inline(always)]
    pub fn cgroup(self) -> u64 {
        pointer(self.0, offset!(task_cgroups))
            .and_then(|set| pointer(set, offset!(css_default)))
            .and_then(|cgroup| pointer(cgroup, offset!(cgroup_node)))
            .and_then(|node| at(node, offset!(node_id)))
            .unwrap_or(0)
    }

    /// `TS_COMPAT`: in a system call made through the 32-bit entry.
    #[inline(always)]
    pub fn is_compat(self) -> bool {
        const TS_COMPAT: u32 = 2;
        at::<u32>(self.0, offset!(task_status)).is_some_and(|status| status & TS_COMPAT != 0)
    }
}

/// The task that owns an address space (`CONFIG_MEMCG`), `None` once it has exited.
#[inline(always)]
pub fn mm_owner(mm: u64) -> Option<TaskPtr> {
    pointer(mm, offset!(mm_owner)).map(TaskPtr)
}

/// Argument `n` (from zero, five at most) of a 64-bit system call whose registers are at `regs`
/// (arch/x86/include/asm/syscall_wrapper.h).
#[inline(always)]
pub fn argument(regs: u64, n: u32) -> u64 {
    let offset = match n {
        0 => offset!(regs_first),
        1 => offset!(regs_second),
        2 => offset!(regs_third),
        3 => offset!(regs_fourth),
        _ => offset!(regs_fifth),
    };
    at(regs, offset).unwrap_or(0)
}

/// The system call number and second argument in user registers at `regs`; a 32-bit call
/// (`is_compat`) has its arguments in other registers.
#[inline(always)]
pub fn syscall(regs: u64, is_compat: bool) -> (i64, u32) {
    let second = if is_compat {
        at::<u64>(regs, offset!(regs_second_compat))
    } else {
        at::<u64>(regs, offset!(regs_second))
    };
    (
        at(regs, offset!(regs_syscall)).unwrap_or(-1),
        second.unwrap_or(0) as u32,
    )
}

/// The system call in user registers at `regs`, as far as it tells which file it works on.
#[inline(always)]
pub fn call(regs: u64, is_compat: bool) -> Call {
    let (first, second, fourth) = if is_compat {
        (
            offset!(regs_first_compat),
            offset!(regs_second_compat),
            offset!(regs_second),
        )
    } else {
        (
            offset!(regs_first),
            offset!(regs_second),
            offset!(regs_fourth),
        )
    };
    Call {
        number: at(regs, offset!(regs_syscall)).unwrap_or(-1),
        compat: is_compat,
        first: at(regs, first).unwrap_or(0),
        second: at(regs, second).unwrap_or(0),
        fourth: at(regs, fourth).unwrap_or(0),
    }
}

/// `io_ring_ctx.mm_account` of the ring whose `exit_work` this is.
#[inline(always)]
pub fn ring_mm(work: u64) -> Option<u64> {
    let offset = offset!(ring_exit_work);
    if offset == ABSENT {
        return None;
    }
    pointer(work - u64::from(offset), offset!(ring_mm))
}

/// Hides where a number came from, so that the test behind it is made on the register that is
/// used as an index: the verifier does not connect two copies of a number.
#[inline(always)]
pub fn opaque(number: u64) -> u64 {
    // SAFETY: reads the local it is given.
    unsafe { core::ptr::read_volatile(&raw const number) }
}
