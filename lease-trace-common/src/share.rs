//! What one user may take of a table, so that nobody uses it up for others.

/// Users that are told apart: a power of two. Those below it have a counter of their own, others one with whoever
/// has the same number modulo this.
pub const USERS: usize = 1 << 13;

/// Tables that are shared so: of leases, inodes, stakes and covers.
pub const TABLES: usize = 4;

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

/// The counter of this user. A user namespace has ranges of 65,536 numbers (subuid(5)), all in one hand: such a
/// range counts as one user.
#[inline(always)]
pub const fn user(uid: u32) -> u32 {
    const RANGE: u32 = 16;
    let number = if uid >> RANGE == 0 { uid } else { uid >> RANGE };
    number & (USERS as u32 - 1)
}

/// The user who has no limit: root, and the kernel.
pub const NOBODY: u32 = 0;

/// Whether somebody who has `had` entries may have one more in a table with room for so many. A counter that was
/// counted down too often counts as none.
#[inline(always)]
pub const fn has_room(had: u64, capacity: u64) -> bool {
    (had as i64) < (capacity / PARTS) as i64
}

/// A user has this part of a table at most: enough for whoever runs the one service of a host, and three more such
/// users do not fill it.
pub const PARTS: u64 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_a_namespace_is_one_user() {
        assert_eq!(user(0), NOBODY);
        assert_eq!(user(1000), 1000);
        assert_ne!(user(1000), user(1001));
        assert_eq!(user(100_000), user(131_071));
        assert_ne!(user(131_071), user(131_072));
        assert_ne!(user(100_000), NOBODY);
    }

    #[test]
    fn a_quarter_is_for_each() {
        assert!(has_room(0, 1024) && has_room(255, 1024));
        assert!(!has_room(256, 1024));
        assert!(has_room(u64::MAX, 1024));
    }
}
