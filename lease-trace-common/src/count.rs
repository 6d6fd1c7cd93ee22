//! Counters kept in the kernel: what was seen and what was lost. They are shown by every command that reads
//! the stakes.

use crate::line;

/// Index into the counters of a CPU.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Notifications written.
    Events = 0,
    /// Notifications that found no room in the ring buffer. The stakes are right all the same.
    LostRing = 1,
    /// Leases that found no room in `LEASES`.
    LostLeases = 2,
    /// Inodes that found no room in `INODES`.
    LostInodes = 3,
    /// Stakes that found no room in `STAKES`.
    LostStakes = 4,
    /// Paths that found no room or could not be read.
    LostPaths = 5,
    /// Calls that found no room in `CALLS`, or whose return was not seen, and that were not
    /// counted.
    LostCalls = 6,
    /// Folios that left the page cache while pinned and found no room in `DETACHED`.
    LostDetached = 7,
    /// Pins whose page could not be read.
    LostPages = 8,
    /// Pin references dropped that were never counted.
    Excess = 9,
    /// Pin references dropped that no single owner could be credited with.
    Unattributed = 10,
    /// Pin references taken on tracked files.
    Pinned = 11,
    /// Pin references dropped on tracked files.
    Unpinned = 12,
    /// Zombies born.
    Zombies = 13,
    /// Zombies that ended: their last pin was dropped.
    AtRest = 14,
    /// Releases denied.
    Denied = 15,
    /// SIGSTOP sent at the spot.
    Stopped = 16,
    /// SIGKILL sent at the spot.
    Killed = 17,
    /// Files that the monitor was asked to hold.
    HoldRequests = 18,
    /// Signals that the monitor was asked to send, since another task was current.
    HandedOver = 19,
    /// Actions not taken because they were spared: pid 1, ending tasks, bystanders, lease-trace.
    Spared = 20,
    /// Actions that came too late or that the kernel refused.
    ActionsFailed = 21,
    /// Actions that enforce mode would have taken.
    Would = 22,
    /// Stakes that came to have both a lease and pins.
    Covered = 23,
    /// Stakes that ceased to have both.
    Uncovered = 24,
    /// Leases that cover a process without being its own and found no room in `COVERS`.
    LostCovers = 25,
    /// FOLL_PIN references seen to be taken, of any kind, while a cross-check runs.
    AllTaken = 26,
    /// The same dropped.
    AllDropped = 27,
    /// Hooks missed: their program was not run. Kept by the kernel with each program; the monitor writes
    /// their sum into the word `LOST_HOOKS` of `CONTROL`.
    LostHooks = 28,
    /// Leases or pins of a process that joined the stake of an ended one, whose pid it has.
    Joined = 29,
    /// Records of inodes or stakes that other CPUs were just making, changing or deleting, and that were not to
    /// be had in time.
    LostWait = 30,
    /// What was counted and gone, and was taken out: pins before a release was judged, and leases whose end
    /// was missed.
    Healed = 31,
    /// Entries that a user did not get since he has his share of a table, see [`crate::share`].
    LostShares = 32,
}

impl Count {
    /// Number of counters.
    pub const LEN: usize = 33;

    pub const ALL: [Self; Self::LEN] = [
        Self::Events,
        Self::LostRing,
        Self::LostLeases,
        Self::LostInodes,
        Self::LostStakes,
        Self::LostPaths,
        Self::LostCalls,
        Self::LostDetached,
        Self::LostPages,
        Self::Excess,
        Self::Unattributed,
        Self::Pinned,
        Self::Unpinned,
        Self::Zombies,
        Self::AtRest,
        Self::Denied,
        Self::Stopped,
        Self::Killed,
        Self::HoldRequests,
        Self::HandedOver,
        Self::Spared,
        Self::ActionsFailed,
        Self::Would,
        Self::Covered,
        Self::Uncovered,
        Self::LostCovers,
        Self::AllTaken,
        Self::AllDropped,
        Self::LostHooks,
        Self::Joined,
        Self::LostWait,
        Self::Healed,
        Self::LostShares,
    ];

    /// Whether many CPUs may add to it at once. Of the others one is enough, for a shorter program.
    #[inline(always)]
    pub const fn is_frequent(self) -> bool {
        matches!(
            self,
            Self::Events
                | Self::Pinned
                | Self::Unpinned
                | Self::Covered
                | Self::Uncovered
                | Self::AllTaken
                | Self::AllDropped
        )
    }

    /// What a growing counter means, for those that mean a loss.
    pub const fn loss(self) -> Option<&'static str> {
        match self {
            Self::LostRing => Some("notifications found no room in the ring buffer"),
            Self::LostLeases => Some("leases found no room in the LEASES map"),
            Self::LostInodes => Some("inodes found no room in the INODES map"),
            Self::LostStakes => Some("stakes found no room in the STAKES map"),
            Self::LostPaths => Some("paths could not be kept"),
            Self::LostCalls => {
                Some("calls were not counted: no room in the CALLS map, or a return was missed")
            }
            Self::LostDetached => Some("truncated folios found no room in the DETACHED map"),
            Self::LostPages => Some("pinned pages could not be read"),
            Self::Excess => Some("pin references were dropped that had not been counted"),
            Self::Unattributed => Some("pin releases could not be credited to one owner"),
            Self::LostCovers => Some(
                "inherited leases found no room in the COVERS map, or ended just as they were counted",
            ),
            Self::LostHooks => Some("hooks were missed while their program ran on that CPU"),
            Self::Joined => {
                Some("leases or pins joined what an ended process of the same pid left")
            }
            Self::LostWait => {
                Some("records were not to be had in time: other CPUs made, changed or deleted them")
            }
            Self::Healed => Some("pins or leases were counted that were gone, and taken out"),
            Self::LostShares => Some("users who have a quarter of a table got no more of it"),
            Self::Events
            | Self::Pinned
            | Self::Unpinned
            | Self::Zombies
            | Self::AtRest
            | Self::Denied
            | Self::Stopped
            | Self::Killed
            | Self::HoldRequests
            | Self::HandedOver
            | Self::Spared
            | Self::ActionsFailed
            | Self::Would
            | Self::Covered
            | Self::Uncovered
            | Self::AllTaken
            | Self::AllDropped => None,
        }
    }
}

/// The counters of all CPUs: one map of one value. Each CPU adds what is frequent to cache lines of its own;
/// beyond [`Self::CPUS`] several have the same, which costs time and no count.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub struct PerCpu(pub [[u64; Self::STRIDE]; Self::CPUS]);

impl PerCpu {
    /// CPUs with counters of their own; more than so many share them, by their number modulo this, hence a
    /// power of two.
    pub const CPUS: usize = 64;
    /// Counters of one CPU, with what fills the last cache line.
    pub const STRIDE: usize = 40;
    /// The map, named after its section.
    pub const MAP: &str = ".bss.COUNTS";

    #[allow(clippy::large_stack_arrays, reason = "what a global begins with")]
    pub const ZERO: Self = Self([[0; Self::STRIDE]; Self::CPUS]);

    /// The sums over all CPUs, indexed by [`Count`].
    pub fn sums(&self) -> [u64; Count::LEN] {
        let mut sums = [0_u64; Count::LEN];
        for counters in &self.0 {
            for (sum, counter) in sums.iter_mut().zip(counters) {
                *sum += counter;
            }
        }
        sums
    }
}

const _: () = assert!(
    Count::LEN <= PerCpu::STRIDE
        && (PerCpu::STRIDE * size_of::<u64>()).is_multiple_of(line::BYTES)
        && PerCpu::CPUS.is_power_of_two()
        && size_of::<PerCpu>() == PerCpu::CPUS * PerCpu::STRIDE * size_of::<u64>()
);

crate::pod!(PerCpu);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_over_all_cpus() {
        let mut counts = PerCpu::ZERO;
        counts.0[0][Count::Events as usize] = 1;
        counts.0[PerCpu::CPUS - 1][Count::Events as usize] = 2;
        counts.0[3][Count::LEN - 1] = 5;
        let sums = counts.sums();
        assert_eq!(sums[Count::Events as usize], 3);
        assert_eq!(sums[Count::LEN - 1], 5);
        assert_eq!(sums.iter().sum::<u64>(), 8);
    }
}
