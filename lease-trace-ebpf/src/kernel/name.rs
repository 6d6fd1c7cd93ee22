//! Names and mounts.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel_str;

use super::memory::{Dentry, InodePtr, VfsMount, at, pointer};

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
            at(self.0, offset!(dentry_len)),
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
        at::<u64>(self.0, offset!(dentry_hashed)) == 0 && self.parent() != Some(self)
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
