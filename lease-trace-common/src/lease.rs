//! Leases as the kernel knows them: one `file_lease` on one open file description.

use crate::idle::{ENDED, IDLE};

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
    /// Its end was missed, and found out later: who let it go, and how, is not known.
    pub const LAPSED: u32 = 8;
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

/// Which lease it is: its address, the inode that has the pages of its file, and `flc_pid`, who set it. So
/// much of it the kernel's own structures tell, and by so much its entry is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Id {
    /// `struct file_lease *`
    pub address: u64,
    /// `struct inode *`
    pub inode: u64,
    /// Thread group id in the initial pid namespace.
    pub setter: u32,
}

impl Id {
    /// `setter` is a thread group id, in a word as functions of their own take it.
    #[inline(always)]
    pub const fn new(address: u64, inode: u64, setter: u64) -> Self {
        Self {
            address,
            inode,
            setter: setter as u32,
        }
    }
}

/// Key of a lease. Whoever pins finds the lease of its own process by it, without a walk.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseKey {
    /// Address of the inode that has the pages of the leased file.
    pub inode: u64,
    /// The first lease of a process in an inode: its thread group id; any other: the address of the
    /// `file_lease`.
    pub by: u64,
}

impl LeaseKey {
    /// That of the only, or first, lease of a process in an inode.
    #[inline(always)]
    pub const fn first(inode: u64, setter: u32) -> Self {
        Self {
            inode,
            by: setter as u64,
        }
    }

    /// Whether it is that of any other: no thread group id is as large as an address.
    #[inline(always)]
    pub const fn is_further(self) -> bool {
        self.by > u32::MAX as u64
    }

    /// That of any other.
    #[inline(always)]
    pub const fn further(id: Id) -> Self {
        Self {
            inode: id.inode,
            by: id.address,
        }
    }

    /// Whether it is a process's first one.
    #[inline(always)]
    pub const fn is_first(self) -> bool {
        self.by <= u32::MAX as u64
    }
}

/// One lease in force, see [`crate::idle`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Lease {
    /// Address of the `file_lease`.
    pub address: u64,
    /// Address of the leased `struct file`.
    pub file: u64,
    /// [`IDLE`] and a number, [`ENDED`], or the number of the inode's record that counts it
    /// ([`crate::stake::number`]).
    pub counted: u64,
    /// Processes whose pins it covers by inheritance.
    pub heirs: u64,
    /// Since when the kernel has not listed it (CLOCK_BOOTTIME, ms, and never 0); 0: it does, as far as is known.
    pub missing_ms: u32,
    /// In whose share it is, see [`crate::share`].
    pub user: u32,
    /// Below the path of which rules its file was when it was set, see [`crate::below::Below`].
    pub below: u64,
    pub info: LeaseInfo,
    /// The process that set it.
    pub setter: crate::stake::Task,
}

impl Lease {
    /// Slot and id of the inode's record that counts it, if one does.
    pub const fn record(&self) -> Option<(u64, u64)> {
        if self.is_idle() || self.counted == ENDED {
            return None;
        }
        Some(crate::stake::parts_of_number(self.counted))
    }

    /// Whether the kernel itself holds it (nfsd): no process has pins by it.
    pub const fn is_kernels(&self) -> bool {
        self.info.known & known::KERNEL != 0
    }

    /// Whether it is in force and no stake counts it.
    #[inline(always)]
    pub const fn is_idle(&self) -> bool {
        self.counted & IDLE != 0
    }
}

/// Bytes that most paths fit into.
pub const SHORT_PATH: usize = 256;

/// What is said of an idle lease's file when somebody asks: no record has it. The path follows.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct IdleLease {
    pub key: LeaseKey,
    /// That of the inode's record if it has one, else its address.
    pub inode_id: u64,
    /// As it was opened.
    pub ino: u64,
    /// As [`crate::stake::Inode::dev`].
    pub dev: u32,
    /// Bytes that follow: none, [`SHORT_PATH`], or [`crate::PATH_LEN`]. The path is the last of them.
    pub path_room: u32,
    /// Bytes of the path.
    pub path_len: u32,
    /// Set of [`crate::stake::path_flag`].
    pub path_flags: u32,
}

const _: () = assert!(size_of::<LeaseInfo>() == 24);
const _: () = assert!(size_of::<IdleLease>() == 48);
const _: () = assert!(size_of::<LeaseKey>() == 16);
const _: () = assert!(size_of::<Lease>() == 104);

crate::pod!(LeaseInfo, LeaseKey, Lease, IdleLease);
