//! Open files, inodes and leases.

use lease_trace_common::lease::Id;

use super::memory::{Dentry, File, FileLease, InodePtr, VfsMount, at, pointer};
use crate::bpf::config::{CONFIG, constant};

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

    /// `private_data`: what the file stands for, where it is no file of a file system.
    #[inline(always)]
    pub fn private(self) -> Option<u64> {
        pointer(self.0, offset!(file_private))
    }

    /// The file that overlayfs opened beneath this one of its own: `private_data`, or the first
    /// member of what that points to (fs/overlayfs/file.c, `struct ovl_file`, from 6.13 on). BTF of
    /// the module may not be there yet, so each is tried for being a file.
    #[inline(always)]
    fn beneath(self) -> Option<Self> {
        let private = self.private()?;
        let is_file = |file: &Self| file.mapped_inode().is_some_and(|host| file.maps(host));
        Some(Self(private))
            .filter(is_file)
            .or_else(|| pointer(private, 0).map(Self).filter(is_file))
    }

    /// The dentry and the mount (0: not known) by which it was opened, if it is a file of this inode, or of one of
    /// overlayfs that has its pages there. The memory of a file that was closed is another one's at once
    /// (fs/file_table.c, `SLAB_TYPESAFE_BY_RCU`): so whose it is is read after them.
    #[inline(always)]
    pub fn opened_as(self, inode: InodePtr) -> Option<(Dentry, u64)> {
        if self.0 == 0 {
            return None;
        }
        let opened = (self.dentry()?, self.mount().map_or(0, |mount| mount.0));
        let is_its = self.pages_inode() == Some(inode) || self.inode() == Some(inode);
        is_its.then_some(opened)
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
        let count = at::<i64>(self.0, offset!(file_count));
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
        let count = at::<i64>(self.0, offset!(file_count));
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
        at(self.0, offset!(inode_ino))
    }

    #[inline(always)]
    pub fn generation(self) -> u32 {
        at(self.0, offset!(inode_generation))
    }

    #[inline(always)]
    pub fn device(self) -> u32 {
        pointer(self.0, offset!(inode_sb)).map_or(0, |sb| at(sb, offset!(sb_dev)))
    }

    /// OVERLAYFS_SUPER_MAGIC (include/uapi/linux/magic.h): its inodes have no pages of their own.
    #[inline(always)]
    fn is_on_overlayfs(self) -> bool {
        const OVERLAYFS: u64 = 0x794c_7630;
        pointer(self.0, offset!(inode_sb))
            .map(|sb| at::<u64>(sb, offset!(sb_magic)))
            .is_some_and(|magic| magic == OVERLAYFS)
    }

    /// `S_PRIVATE`: memory the kernel keeps in a file of its own (shared anonymous mappings,
    /// System V segments); no process can open it, so none can lease it.
    #[inline(always)]
    pub fn is_private(self) -> bool {
        const S_PRIVATE: u32 = 512;
        at::<u32>(self.0, offset!(inode_flags)) & S_PRIVATE != 0
    }

    #[inline(always)]
    pub fn mode(self) -> u32 {
        u32::from(at::<u16>(self.0, offset!(inode_mode)))
    }

    #[inline(always)]
    pub fn is_regular(self) -> bool {
        /// include/uapi/linux/stat.h
        const S_IFMT: u32 = 0o170_000;
        const S_IFREG: u32 = 0o100_000;
        self.mode() & S_IFMT == S_IFREG
    }

    /// `i_size`: length in bytes.
    #[inline(always)]
    pub fn size(self) -> u64 {
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

/// See [`File::pages_inode`]. A global function: verified once, not once for each call.
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

/// Next entry of a `list_head`.
#[inline(always)]
pub fn list_next(entry: u64) -> Option<u64> {
    pointer(entry, 0)
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
        at(self.0, offset!(fl_flags))
    }

    #[inline(always)]
    pub fn mode(self) -> u32 {
        u32::from(at::<u8>(self.0, offset!(fl_type)))
    }

    /// Thread group that set it.
    #[inline(always)]
    pub fn setter(self) -> u32 {
        at(self.0, offset!(fl_pid))
    }

    /// What its entry is found by.
    #[inline(always)]
    pub fn id(self) -> Option<Id> {
        self.file().and_then(|file| self.id_on(file))
    }

    /// The same where the leased file is known.
    #[inline(always)]
    pub fn id_on(self, file: File) -> Option<Id> {
        Some(Id {
            address: self.0,
            inode: file.pages_inode()?.0,
            setter: self.setter(),
        })
    }
}
