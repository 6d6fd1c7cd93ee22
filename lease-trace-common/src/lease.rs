//! Leases as the kernel knows them: one `file_lease` on one open file description.

/// `F_RDLCK` (include/uapi/asm-generic/fcntl.h).
pub const F_RDLCK: u32 = 0;
/// `F_WRLCK`.
pub const F_WRLCK: u32 = 1;
/// `F_UNLCK`.
pub const F_UNLCK: u32 = 2;

/// `FL_DELEG` (include/linux/filelock.h).
pub const FL_DELEG: u32 = 4;
/// `FL_LEASE`.
pub const FL_LEASE: u32 = 32;
/// `FL_DOWNGRADE_PENDING`: a breaker waits and wants it to be a read lease.
pub const FL_DOWNGRADE_PENDING: u32 = 256;
/// `FL_UNLOCK_PENDING`: a breaker waits and wants it gone.
pub const FL_UNLOCK_PENDING: u32 = 512;
/// `FL_LAYOUT`.
pub const FL_LAYOUT: u32 = 2048;

/// What kind of lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "lowercase")
)]
pub enum Kind {
    Lease,
    Deleg,
    Layout,
}

impl Kind {
    /// From `flc_flags`.
    #[inline(always)]
    pub const fn from_flags(flags: u32) -> Self {
        if flags & FL_LAYOUT != 0 {
            Self::Layout
        } else if flags & FL_DELEG != 0 {
            Self::Deleg
        } else {
            Self::Lease
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Lease => "lease",
            Self::Deleg => "deleg",
            Self::Layout => "layout",
        }
    }
}

/// The facts of a lease that outlive it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseInfo {
    /// When it was set (CLOCK_BOOTTIME, ns); 0 for a lease older than the tool.
    pub set_ns: u64,
    /// `flc_flags`.
    pub flags: u32,
    /// `flc_type`: [`F_RDLCK`] or [`F_WRLCK`].
    pub mode: u32,
    /// How it ended, see [`crate::cause::Cause`]; 0 while it lasts.
    pub cause: u32,
    /// [`known`] bits.
    pub known: u32,
}

/// Bits of [`LeaseInfo::known`].
pub mod known {
    /// The record stands for a lease (a bare pin has none).
    pub const LEASED: u32 = 1;
    /// The holder is the kernel itself (nfsd).
    pub const KERNEL: u32 = 2;
    /// The lease went because the owner of the pins is ending: they will go by themselves.
    pub const ENDING: u32 = 4;
}

impl LeaseInfo {
    pub const fn kind(&self) -> Kind {
        Kind::from_flags(self.flags)
    }

    pub const fn mode_name(&self) -> &'static str {
        if self.mode == F_WRLCK {
            "write"
        } else {
            "read"
        }
    }

    /// Whether the pins go by themselves because their process is ending.
    pub const fn ends_by_itself(&self) -> bool {
        self.known & known::ENDING != 0
    }

    /// Whether somebody wants it broken, or did when it ended.
    #[inline(always)]
    pub const fn is_breaking(&self) -> bool {
        self.flags & (FL_UNLOCK_PENDING | FL_DOWNGRADE_PENDING) != 0
    }

    pub const fn is_lease(&self) -> bool {
        self.known & known::LEASED != 0
    }
}

/// One lease in force; the key is the address of its `file_lease`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// Address of the leased `struct file`.
    pub file: u64,
    /// Slot of the inode's record.
    pub slot: u64,
    /// Inode id, see [`crate::stake::Inode::id`].
    pub inode_id: u64,
    pub info: LeaseInfo,
    /// The process that set it.
    pub setter: crate::stake::Task,
    /// Processes whose pins it covers by inheritance.
    pub heirs: u64,
    /// 1: it is counted in the setter's stake.
    pub counted: u64,
}

const _: () = assert!(size_of::<LeaseInfo>() == 24);
const _: () = assert!(size_of::<Lease>() == 96);

crate::pod!(LeaseInfo, Lease);
