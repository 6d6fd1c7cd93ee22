//! What one user may take of a table, so that nobody uses it up for others.

/// Counters of users, a power of two: the lower half for uids below 65,536, the upper half for others. Those below 4,096
/// have one each; of the rest some share one with them, or with each other.
pub const USERS: usize = 1 << 13;

/// Above this there are uids of directories, and ranges of which a user may have one for user namespaces (subuid(5)),
/// with as many counters as he likes: all of them together have half of a table at most.
const HIGH: u32 = 1 << 16;

/// Tables that are shared so.
#[derive(Clone, Copy)]
pub enum Table {
    Leases,
    Inodes,
    Stakes,
    Covers,
}

/// How many they are.
pub const TABLES: usize = Table::Covers as usize + 1;

/// How many entries each user has in each table: one map of one value.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
pub struct Shares(pub [[u64; USERS]; TABLES]);

impl Shares {
    /// The map, named after its section.
    pub const MAP: &str = ".bss.SHARES";

    #[allow(clippy::large_stack_arrays, reason = "what a global begins with")]
    pub const ZERO: Self = Self([[0; USERS]; TABLES]);
}

crate::pod!(Shares);

/// The counter of this user.
#[inline(always)]
pub const fn user(uid: u32) -> u32 {
    const HALF: u32 = USERS as u32 / 2;
    if uid == 0 {
        return NOBODY;
    }
    let (half, number) = if uid < HIGH {
        (0, uid)
    } else {
        (HALF, uid ^ uid >> 12)
    };
    match number & (HALF - 1) {
        // Those of root, and of all high ones together.
        0 => half + 1,
        number => half + number,
    }
}

/// The user who has no limit: root, and the kernel.
pub const NOBODY: u32 = 0;
/// The counter of all high ones together.
pub const HIGH_ONES: u32 = USERS as u32 / 2;

/// Whether this is the counter of a high one.
#[inline(always)]
pub const fn is_high(user: u32) -> bool {
    user > HIGH_ONES
}

/// Whether somebody who has `had` entries may have one more in a table with room for so many: he gets one of so many
/// parts. A counter that was counted down too often counts as none.
#[inline(always)]
pub const fn has_room(had: u64, capacity: u64, parts: u64) -> bool {
    (had as i64) < (capacity / parts) as i64
}

/// A user has this part of a table at most: enough for whoever runs the one service of a host, and three more such
/// users do not fill it.
pub const PARTS: u64 = 4;
/// All high ones together have this part.
pub const PARTS_OF_HIGH: u64 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_but_root_has_no_limit() {
        assert_eq!(user(0), NOBODY);
        for uid in (1..300_000).chain((0..u32::MAX).step_by(4096).skip(1)) {
            assert!(user(uid) != NOBODY && user(uid) != HIGH_ONES, "{uid}");
            assert_eq!(is_high(user(uid)), uid >= HIGH, "{uid}");
            assert!((user(uid) as usize) < USERS);
        }
    }

    #[test]
    fn local_users_have_a_counter_of_their_own() {
        for uid in 1..4096 {
            assert_eq!(user(uid), uid);
        }
        assert_ne!(user(100_000), user(100_001));
    }

    #[test]
    fn a_quarter_is_for_each() {
        assert!(has_room(0, 1024, PARTS) && has_room(255, 1024, PARTS));
        assert!(!has_room(256, 1024, PARTS));
        assert!(has_room(u64::MAX, 1024, PARTS));
    }
}
