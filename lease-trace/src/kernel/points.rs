//! The probe points: every kernel function watched, what it is for, and what is lost without it.

/// What a point is for. Points are attached in this order, so that nothing is counted in that
/// could not be counted out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Group {
    PinsDropped,
    PageCache,
    Context,
    PinsTaken,
    Leases,
    /// Only where a policy may come into force, see [`UNLOCKED`].
    Verdicts,
}

impl Group {
    pub const ALL: [Self; 5] = [
        Self::PinsDropped,
        Self::PageCache,
        Self::Context,
        Self::PinsTaken,
        Self::Leases,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::PinsDropped => "pins dropped",
            Self::PageCache => "page cache",
            Self::Context => "context",
            Self::PinsTaken => "pins taken",
            Self::Leases => "leases",
            Self::Verdicts => "verdicts",
        }
    }
}

/// How much depends on a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Without it there is no main job.
    Required,
    /// Where the kernel has the function it must be watched; a kernel without it has no need.
    IfPresent,
    /// Without it something is less exact.
    Optional,
}

/// One watched function.
#[derive(Debug)]
pub struct Point {
    pub function: &'static str,
    /// Common beginning of the names of its links (`STEM_enter`, `STEM_leave`, ...), and see
    /// [`Self::program`].
    pub stem: &'static str,
    pub group: Group,
    pub need: Need,
    /// Watched on return, too.
    pub returns: bool,
    /// Watched on return alone.
    pub returns_only: bool,
    /// The kernel calls it with a spinlock held.
    pub locked: bool,
    /// What is lost without it.
    pub loss: &'static str,
    /// The prototypes relied on, as [`super::btf::Btf::prototype`] spells them. The kernel's may
    /// go on with more parameters.
    pub prototypes: &'static [&'static str],
}

impl Point {
    /// The program for one of its ends, by what its name ends with. A kprobe's is not bound to a function: that
    /// on the return of the calls that pin is one for all of them, and so is that of arrays that are unpinned.
    /// What judges reads no arguments, so that it is one for all kinds.
    pub fn program(&self, suffix: &str) -> String {
        match (suffix, self.group, self.stem) {
            (_, Group::Verdicts, _) if self.returns_only => "judge_returned".to_owned(),
            (_, Group::Verdicts, _) => "judge_unlocked".to_owned(),
            ("ret", Group::PinsTaken, _) => "pins_taken_ret".to_owned(),
            ("probe", _, "unpin_folios") => "unpin_user_pages_probe".to_owned(),
            ("probe", _, "unpin_folio") => "unpin_user_page_probe".to_owned(),
            _ => format!("{}_{suffix}", self.stem),
        }
    }
}

const fn point(
    function: &'static str,
    group: Group,
    need: Need,
    returns: bool,
    loss: &'static str,
    prototypes: &'static [&'static str],
) -> Point {
    Point {
        function,
        stem: function,
        group,
        need,
        returns,
        returns_only: false,
        locked: false,
        loss,
        prototypes,
    }
}

const UNSEEN_RELEASE: &str = "pins dropped this way are counted as held for ever";
const UNSEEN_PINS: &str = "pins taken this way are not seen";

/// All of them.
pub static POINTS: &[Point] = &[
    point(
        "unpin_user_page",
        Group::PinsDropped,
        Need::Required,
        false,
        UNSEEN_RELEASE,
        &["void(struct page *)"],
    ),
    point(
        "unpin_user_pages",
        Group::PinsDropped,
        Need::Required,
        false,
        UNSEEN_RELEASE,
        &["void(struct page **, long unsigned int)"],
    ),
    point(
        "unpin_user_pages_dirty_lock",
        Group::PinsDropped,
        Need::Required,
        false,
        UNSEEN_RELEASE,
        &["void(struct page **, long unsigned int, bool)"],
    ),
    point(
        "unpin_user_page_range_dirty_lock",
        Group::PinsDropped,
        Need::IfPresent,
        false,
        UNSEEN_RELEASE,
        &["void(struct page *, long unsigned int, bool)"],
    ),
    point(
        "unpin_folio",
        Group::PinsDropped,
        Need::IfPresent,
        false,
        UNSEEN_RELEASE,
        &["void(struct folio *)"],
    ),
    point(
        "unpin_user_folio",
        Group::PinsDropped,
        Need::IfPresent,
        false,
        UNSEEN_RELEASE,
        &["void(struct folio *, long unsigned int)"],
    ),
    point(
        "unpin_folios",
        Group::PinsDropped,
        Need::IfPresent,
        false,
        UNSEEN_RELEASE,
        &["void(struct folio **, long unsigned int)"],
    ),
    Point {
        stem: "filemap_remove_folio",
        // That of the mapping's pages (mm/filemap.c).
        locked: true,
        ..point(
            "__filemap_remove_folio",
            Group::PageCache,
            Need::Optional,
            false,
            "pins on pages truncated while pinned are counted as held for ever",
            &["void(struct folio *, void *)"],
        )
    },
    point(
        "delete_from_page_cache_batch",
        Group::PageCache,
        Need::Optional,
        false,
        "pins on pages truncated while pinned are counted as held for ever",
        &["void(struct address_space *, struct folio_batch *)"],
    ),
    Point {
        stem: "destroy_inode",
        ..point(
            "__destroy_inode",
            Group::PageCache,
            Need::Optional,
            false,
            "pins on a file deleted while pinned may be credited to a newer file",
            &["void(struct inode *)"],
        )
    },
    point(
        "io_ring_exit_work",
        Group::Context,
        Need::Optional,
        true,
        "where several processes pin one file, a ring's teardown cannot be credited to one",
        &["void(struct work_struct *)"],
    ),
    Point {
        stem: "break_lease",
        ..point(
            "__break_lease",
            Group::Context,
            Need::Optional,
            false,
            "who wants a lease broken is not known",
            &[
                "int(struct inode *, unsigned int)",
                "int(struct inode *, unsigned int, unsigned int)",
            ],
        )
    },
    point(
        "pin_user_pages",
        Group::PinsTaken,
        Need::Required,
        true,
        UNSEEN_PINS,
        &["long int(long unsigned int, long unsigned int, unsigned int, struct page **"],
    ),
    point(
        "pin_user_pages_fast",
        Group::PinsTaken,
        Need::Required,
        true,
        UNSEEN_PINS,
        &["int(long unsigned int, int, unsigned int, struct page **)"],
    ),
    point(
        "pin_user_pages_fast_only",
        Group::PinsTaken,
        Need::IfPresent,
        true,
        UNSEEN_PINS,
        &["int(long unsigned int, int, unsigned int, struct page **)"],
    ),
    point(
        "pin_user_pages_remote",
        Group::PinsTaken,
        Need::IfPresent,
        true,
        UNSEEN_PINS,
        &[
            "long int(struct mm_struct *, long unsigned int, long unsigned int, unsigned int, \
           struct page **",
        ],
    ),
    point(
        "pin_user_pages_unlocked",
        Group::PinsTaken,
        Need::IfPresent,
        true,
        UNSEEN_PINS,
        &["long int(long unsigned int, long unsigned int, struct page **, unsigned int)"],
    ),
    point(
        "memfd_pin_folios",
        Group::PinsTaken,
        Need::IfPresent,
        true,
        UNSEEN_PINS,
        &[
            "long int(struct file *, loff_t, loff_t, struct folio **, unsigned int, \
           long unsigned int *)",
        ],
    ),
    point(
        "folio_add_pin",
        Group::PinsTaken,
        Need::IfPresent,
        false,
        UNSEEN_PINS,
        &["void(struct folio *)"],
    ),
    point(
        "folio_add_pins",
        Group::PinsTaken,
        Need::IfPresent,
        false,
        UNSEEN_PINS,
        &["int(struct folio *, unsigned int)"],
    ),
    Point {
        // flc_lock (fs/locks.c).
        locked: true,
        ..point(
            "lease_modify",
            Group::Leases,
            Need::Required,
            false,
            "the end of a lease is not seen",
            &[
                "int(struct file_lease *, int, struct list_head *)",
                "int(struct file_lock *, int, struct list_head *)",
            ],
        )
    },
    Point {
        // flc_lock (fs/locks.c).
        locked: true,
        ..point(
            "lease_setup",
            Group::Leases,
            Need::Optional,
            false,
            "leases set by a task that is preempted meanwhile may be missed",
            &[
                "void(struct file_lease *, void **)",
                "void(struct file_lock *, void **)",
            ],
        )
    },
    point(
        "generic_setlease",
        Group::Leases,
        Need::Required,
        true,
        "new leases are not seen",
        &[
            "int(struct file *, int, struct file_lease **, void **)",
            "int(struct file *, long int, struct file_lock **, void **)",
        ],
    ),
];

/// Without [`UNLOCKED`].
pub const UNPROVED: &str = "`stop` and `kill` go by counts that nothing was held against";

/// Where a task that has let a lease go comes past once `flc_lock` is free: with the leases that it disposes of
/// (fs/locks.c). Up to 6.18 that is the function for locks of all kinds, which goes on to be there for the others.
pub static UNLOCKED: [Point; 2] = [
    Point {
        stem: "unlocked",
        ..point(
            "lease_dispose_list",
            Group::Verdicts,
            Need::IfPresent,
            false,
            UNPROVED,
            DISPOSE_LIST,
        )
    },
    Point {
        stem: "unlocked",
        ..point(
            "locks_dispose_list",
            Group::Verdicts,
            Need::Optional,
            false,
            UNPROVED,
            DISPOSE_LIST,
        )
    },
];

const DISPOSE_LIST: &[&str] = &["void(struct list_head *)"];

/// System calls that take long-term pins, in the order of [`lease_trace_common::control::RETURNED`]: bare pins are
/// judged when they return.
pub static RETURNED: [Point; 4] = [
    returned("__x64_sys_io_uring_register", "io_uring_register"),
    returned("__x64_sys_io_uring_setup", "io_uring_setup"),
    returned("__x64_sys_ioctl", "ioctl"),
    returned("__x64_sys_setsockopt", "setsockopt"),
];

const fn returned(function: &'static str, stem: &'static str) -> Point {
    Point {
        stem,
        returns_only: true,
        ..point(
            function,
            Group::Verdicts,
            Need::Optional,
            true,
            "`stop` and `kill` for bare pins of this call wait for a monitor",
            &["long int(const struct pt_regs *)"],
        )
    }
}
