//! The policy as the kernel side reads it: rules as records of a map, and one word that says which
//! of them are in force.
//!
//! Rules live in banks. A new policy is written into a bank that is not in use and takes effect by
//! one store of the [`Header`]; whoever reads the header once sees one policy and never a mixture.

use crate::{cause::Cause, lease::Kind};

/// Rules of one policy at most: each breach is held against all of them in turn, in the hook. A power of two, since the
/// number of a rule is masked by it.
pub const RULES: u32 = 32;
/// Policies there is room for: the one in force and those that a program may still be reading. Two bits
/// of the [`Header`].
pub const BANKS: u32 = 4;
/// Bytes of a rule's name.
pub const NAME_LEN: usize = 32;

/// What a rule does about a breach.
#[repr(u32)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "user",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "lowercase")
)]
pub enum Action {
    /// Says so.
    #[default]
    Report = 0,
    /// The release fails with EBUSY and nothing changes.
    Deny = 1,
    /// A duplicate of the open file description is kept until the pins are gone.
    Hold = 2,
    /// SIGSTOP.
    Stop = 3,
    /// SIGKILL.
    Kill = 4,
}

impl Action {
    pub const ALL: [Self; 5] = [Self::Report, Self::Deny, Self::Hold, Self::Stop, Self::Kill];

    #[inline(always)]
    pub const fn from_raw(raw: u32) -> Self {
        match raw {
            1 => Self::Deny,
            2 => Self::Hold,
            3 => Self::Stop,
            4 => Self::Kill,
            _ => Self::Report,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Deny => "deny",
            Self::Hold => "hold",
            Self::Stop => "stop",
            Self::Kill => "kill",
        }
    }
}

/// Whether rules act.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "user",
    derive(serde::Serialize, serde::Deserialize),
    serde(rename_all = "lowercase")
)]
pub enum Mode {
    /// They do not: what they would have done is counted and reported. JSON and metrics call it
    /// [`Self::OLD_AUDIT`], as policies did at first.
    #[default]
    #[cfg_attr(
        feature = "user",
        serde(rename(serialize = "monitor"), alias = "monitor")
    )]
    Audit,
    Enforce,
}

impl Mode {
    pub const OLD_AUDIT: &'static str = "monitor";

    pub const fn name(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Enforce => "enforce",
        }
    }

    /// In JSON and metrics, where a word that readers know stays.
    pub const fn in_data(self) -> &'static str {
        match self {
            Self::Audit => Self::OLD_AUDIT,
            Self::Enforce => "enforce",
        }
    }
}

/// Breaches a rule may be about: bits of [`Rule::on`].
pub mod on {
    /// The last lease goes while pins remain.
    pub const ZOMBIE: u32 = 1;
    /// Long-term pins that no lease covers.
    pub const BARE_PIN: u32 = 2;
}

/// Which policy is in force, in one word.
///
/// ```text
///  63        32 31       16  15     14   13     12      11    10    9   8 7        0
/// +------------+-----------+------+-----+-------+----------+------+-----+------+---------+
/// | generation | deniable  | path | new | audits| bare-pin | holds| enf.| bank | rules   |
/// +------------+-----------+------+-----+-------+----------+------+-----+------+---------+
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header(pub u64);

impl Header {
    const BANK: u32 = 8;
    const ENFORCE: u64 = 1 << 10;
    const HOLDS: u64 = 1 << 11;
    const BARE_PINS: u64 = 1 << 12;
    const AUDITS: u64 = 1 << 13;
    const SETTLES: u64 = 1 << 14;
    const PATHS: u64 = 1 << 15;
    const DENIABLE: u32 = 16;
    const GENERATION: u32 = 32;

    /// `deniable` is a set of [`cause_bit`]s.
    #[inline(always)]
    pub const fn new(generation: u32, bank: u32, rules: u32) -> Self {
        Self(
            (generation as u64) << Self::GENERATION
                | ((bank & 3) as u64) << Self::BANK
                | (rules & 0xff) as u64,
        )
    }

    /// Some rules are carried out; some only tell what they would do.
    #[must_use]
    pub const fn of_modes(self, enforce: bool, audit: bool) -> Self {
        let enforce = if enforce { Self::ENFORCE } else { 0 };
        let audit = if audit { Self::AUDITS } else { 0 };
        Self(self.0 | enforce | audit)
    }

    /// The same for its rules that only tell what they would do.
    #[must_use]
    #[inline(always)]
    pub const fn auditing(self) -> Self {
        Self(self.0 & !Self::ENFORCE)
    }

    /// Some rule holds, or watches bare pins.
    #[must_use]
    pub const fn watching(self, holds: bool, bare_pins: bool) -> Self {
        let holds = if holds { Self::HOLDS } else { 0 };
        let bare_pins = if bare_pins { Self::BARE_PINS } else { 0 };
        Self(self.0 | holds | bare_pins)
    }

    /// Some rule has a path.
    #[must_use]
    pub const fn with_paths(self, paths: bool) -> Self {
        Self(self.0 | if paths { Self::PATHS } else { 0 })
    }

    #[inline(always)]
    pub const fn has_paths(self) -> bool {
        self.0 & Self::PATHS != 0
    }

    /// The release paths that this kernel lets be denied: a set of [`cause_bit`]s.
    #[must_use]
    pub const fn deniable_by(self, causes: u32) -> Self {
        Self(self.0 | ((causes & 0xffff) as u64) << Self::DENIABLE)
    }

    /// The same with none but these release paths, if they are among those it has.
    #[must_use]
    #[inline(always)]
    pub const fn deniable_at_most(self, causes: u32) -> Self {
        Self(self.0 & !(((!causes & 0xffff) as u64) << Self::DENIABLE))
    }

    /// The same, said to be new if it was put in force less than [`SETTLES_NS`] ago.
    #[must_use]
    #[inline(always)]
    pub const fn of_age(self, ns: u64) -> Self {
        if ns < SETTLES_NS {
            Self(self.0 | Self::SETTLES)
        } else {
            self
        }
    }

    /// It was new when this was asked with [`Header::of_age`].
    #[inline(always)]
    pub const fn settles(self) -> bool {
        self.0 & Self::SETTLES != 0
    }

    #[inline(always)]
    pub const fn rules(self) -> u32 {
        self.0 as u32 & 0xff
    }

    #[inline(always)]
    pub const fn bank(self) -> u32 {
        (self.0 >> Self::BANK) as u32 & 3
    }

    #[inline(always)]
    pub const fn enforces(self) -> bool {
        self.0 & Self::ENFORCE != 0
    }

    #[inline(always)]
    pub const fn audits(self) -> bool {
        self.0 & Self::AUDITS != 0
    }

    /// That of its rules, if they have but one; enforce, if some of them act.
    pub const fn mode(self) -> Mode {
        if self.enforces() {
            Mode::Enforce
        } else {
            Mode::Audit
        }
    }

    #[inline(always)]
    pub const fn holds(self) -> bool {
        self.0 & Self::HOLDS != 0
    }

    #[inline(always)]
    pub const fn bare_pins(self) -> bool {
        self.0 & Self::BARE_PINS != 0
    }

    #[inline(always)]
    pub const fn deniable(self) -> u32 {
        (self.0 >> Self::DENIABLE) as u32 & 0xffff
    }

    #[inline(always)]
    pub const fn generation(self) -> u32 {
        (self.0 >> Self::GENERATION) as u32
    }
}

/// A cause in a set of them.
#[inline(always)]
pub const fn cause_bit(cause: u32) -> u32 {
    1 << (cause & 15)
}

/// Causes count from 1; [`Header::deniable`] has 16 bits for them.
const _: () = assert!(Cause::ALL.len() < 16);

/// Every cause.
pub const ANY_CAUSE: u32 = u32::MAX;

/// Stands beside the cause `break-timeout` in a set where whoever wanted the lease broken has the same user as its
/// holder: nobody else has done that to him.
pub const OWN_BREAK: u32 = 1 << 16;

/// The causes of a rule that names none: a break by another user, which its holder may be unable to obey, is a breach only
/// under rules that say so.
pub const USUAL_CAUSES: u32 = ANY_CAUSE & !cause_bit(Cause::BreakTimeout as u32);

/// A kind of lease in a set of them.
#[inline(always)]
pub const fn kind_bit(kind: Kind) -> u32 {
    match kind {
        Kind::Lease => 1,
        Kind::Deleg => 2,
        Kind::Layout => 4,
    }
}

/// A mode (`F_RDLCK`, `F_WRLCK`) in a set of them.
#[inline(always)]
pub const fn mode_bit(mode: u32) -> u32 {
    1 << (mode & 3)
}

/// One rule. What is not asked for matches everything.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name, NUL-padded.
    pub name: [u8; NAME_LEN],
    /// How long a zombie of an ending process may last before it counts, ms.
    pub grace_ms: u64,
    /// Pin references from which on it matches.
    pub min_pins: u64,
    /// Bits of the owner's comm that are compared, and what they must be.
    pub comm_mask: [u64; 2],
    pub comm_bits: [u64; 2],
    /// Id of the cgroup in the unified hierarchy, 0: any.
    pub cgroup: u64,
    /// Inode number of the directory below which the file must lie, or of the file, 0: any.
    pub path_ino: u64,
    /// Set of consumer numbers, see [`TextRange::consumer`]; 0: any.
    pub consumers: u64,
    /// Device of `path_ino`, as in `super_block.s_dev`.
    pub path_dev: u32,
    /// Depth of the cgroup below the root.
    pub cgroup_level: u32,
    /// Lowest and highest user id of the owner.
    pub uid: [u32; 2],
    /// Lowest and highest group id of the owner.
    pub gid: [u32; 2],
    /// [`Action`]
    pub action: u32,
    /// [`Action`] where `action` cannot be had.
    pub fallback: u32,
    /// Set of [`on`] bits.
    pub on: u32,
    /// Set of [`kind_bit`]s.
    pub kinds: u32,
    /// Set of [`mode_bit`]s.
    pub modes: u32,
    /// Set of [`cause_bit`]s.
    pub causes: u32,
    /// Where its hits are counted, below [`ROWS`]: the same in the next policy that has a rule of
    /// this name.
    pub row: u32,
    /// 1: it only tells what it would do, whatever the others do, and takes no breach from them.
    pub audits: u32,
}

/// What a rule is held against. Paths, cgroups and consumers need the kernel's structures and are
/// compared there.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct RuleFacts {
    /// One of the [`on`] bits.
    pub on: u32,
    /// A [`kind_bit`].
    pub kind: u32,
    /// A [`mode_bit`].
    pub mode: u32,
    /// A [`cause_bit`]; [`ANY_CAUSE`] while the lease lasts.
    pub cause: u32,
    pub pins: u64,
    pub uid: u32,
    /// `u32::MAX` where it is not known, which only a rule for any group matches.
    pub gid: u32,
    /// The process's name now.
    pub comm: [u64; 2],
    /// And when it took its first pins: it may have taken another since, or exec(2) has given it one.
    pub comm_before: [u64; 2],
}

impl Rule {
    /// A rule that matches every zombie.
    pub const ANY: Self = Self {
        name: [0; NAME_LEN],
        grace_ms: 0,
        min_pins: 0,
        comm_mask: [0; 2],
        comm_bits: [0; 2],
        cgroup: 0,
        path_ino: 0,
        consumers: 0,
        path_dev: 0,
        cgroup_level: 0,
        uid: [0, u32::MAX],
        gid: [0, u32::MAX],
        action: Action::Report as u32,
        fallback: Action::Report as u32,
        on: on::ZOMBIE,
        kinds: u32::MAX,
        modes: u32::MAX,
        causes: ANY_CAUSE,
        row: 0,
        audits: 0,
    };

    /// Whether everything agrees that can be told from the facts alone.
    #[inline(always)]
    pub const fn admits(&self, facts: &RuleFacts) -> bool {
        self.on & facts.on != 0
            && (facts.on == on::BARE_PIN
                || (self.kinds & facts.kind != 0
                    && self.modes & facts.mode != 0
                    && self.causes & facts.cause != 0))
            && facts.pins >= self.min_pins
            && self.uid[0] <= facts.uid
            && facts.uid <= self.uid[1]
            && self.gid[0] <= facts.gid
            && facts.gid <= self.gid[1]
            && (self.is_named(facts.comm) || self.is_named(facts.comm_before))
    }

    #[inline(always)]
    const fn is_named(&self, comm: [u64; 2]) -> bool {
        comm[0] & self.comm_mask[0] == self.comm_bits[0]
            && comm[1] & self.comm_mask[1] == self.comm_bits[1]
    }

    /// What it says is done, and not only told.
    #[inline(always)]
    pub const fn acts(&self) -> bool {
        self.audits == 0
    }

    pub const fn mode(&self) -> Mode {
        if self.acts() {
            Mode::Enforce
        } else {
            Mode::Audit
        }
    }

    /// Its name, without the padding.
    pub fn name(&self) -> &[u8] {
        trim(&self.name)
    }
}

/// Bytes up to the first NUL.
pub fn trim(padded: &[u8]) -> &[u8] {
    let end = padded.iter().position(|byte| *byte == 0);
    &padded[..end.unwrap_or(padded.len())]
}

/// Code that belongs to a consumer: what an address on the stack of a pin says. The table of them
/// is sorted by `start`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TextRange {
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Its number among the consumers that the policy names; [`OTHER_CONSUMER`] for one that it
    /// does not name.
    pub consumer: u32,
    /// 1: it helps whoever called it, and is the consumer only if nothing outward is.
    pub helper: u32,
}

/// Text ranges of one policy at most; one that needs more is refused. Debian's kernels have some hundred
/// (docs/policy.md). Policies take the two halves of the table in turn.
pub const TEXT_RANGES: u32 = 8192;
/// A consumer that no rule names.
pub const OTHER_CONSUMER: u32 = 63;
/// Consumers that a policy can name: their numbers go from 1 to this, and are bits of a word.
pub const CONSUMERS: u32 = OTHER_CONSUMER - 1;
/// Bytes of a consumer's name: a module's has 55 at most (include/linux/module.h, MODULE_NAME_LEN).
pub const CONSUMER_LEN: usize = 64;

/// A consumer that the policy names, for whoever looks its code up anew. The kernel side knows it by its
/// number.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerName(pub [u8; CONSUMER_LEN]);

impl ConsumerName {
    /// What does not fit is cut off.
    pub fn new(name: &str) -> Self {
        let mut padded = [0; CONSUMER_LEN];
        for (byte, of_name) in padded.iter_mut().zip(name.bytes()) {
            *byte = of_name;
        }
        Self(padded)
    }

    /// Empty: there is none.
    pub fn name(&self) -> &[u8] {
        trim(&self.0)
    }
}

/// Where things are in the map `POLICY`.
pub mod index {
    /// The [`super::Header`].
    pub const HEADER: u32 = 0;
    /// Text ranges in each half of the table.
    pub const TEXT_RANGES: [u32; 2] = [1, 2];
    /// When it was put in force, in nanoseconds of `CLOCK_BOOTTIME`.
    pub const SINCE: u32 = 3;
    /// Words of the map.
    pub const LEN: u32 = 4;
}

/// So long a policy's `fallback` for what could have been denied waits: a call that was let through before it was in
/// force, or before all programs were attached, has ended by then.
pub const SETTLES_NS: u64 = 1_000_000_000;

/// Counters kept for one rule, indexed by [`hit`]: eight outcomes of each of five actions, and as many as
/// make a power of two.
pub const HITS: u32 = 64;
/// Rules that counters are kept for: as many as the banks have.
pub const ROWS: u32 = BANKS * RULES;

/// Where hits of the rule with this row are counted.
#[inline(always)]
pub const fn hit(row: u32, action: Action, outcome: crate::verdict::Outcome) -> u32 {
    row * HITS + action as u32 * 8 + outcome as u32
}

/// Release paths that a hook of ours can deny, on some kernel.
pub const DENIABLE: [Cause; 5] = [
    Cause::Unlock,
    Cause::Close,
    Cause::Dup2,
    Cause::CloseRange,
    Cause::Munmap,
];

const _: () = assert!(size_of::<Rule>() == 32 + 9 * 8 + 14 * 4);
const _: () = assert!(size_of::<TextRange>() == 24);

crate::pod!(Rule, TextRange, ConsumerName);
