//! How much of a table each user has, see `lease_trace_common::share`.

use lease_trace_common::{
    share::{NOBODY, TABLES, USERS, has_room},
    word::Word as _,
};

use crate::{
    bpf::{
        atomic::At,
        config::{CONFIG, constant},
    },
    state::maps::SHARES,
};

/// The tables that are shared so.
#[derive(Clone, Copy)]
pub enum Table {
    Leases,
    Inodes,
    Stakes,
    Covers,
}

const _: () = assert!(Table::Covers as usize + 1 == TABLES);

impl Table {
    /// One more entry for this user; false if he has his share.
    #[inline(always)]
    pub fn take(self, user: u32) -> bool {
        if user == NOBODY {
            return true;
        }
        let entries = self.of(user);
        if has_room(entries.add(1), u64::from(constant(&CONFIG.capacity))) {
            return true;
        }
        entries.add(ONE_FEWER);
        false
    }

    /// One fewer.
    #[inline(always)]
    pub fn give_back(self, user: u32) {
        if user != NOBODY {
            self.of(user).add(ONE_FEWER);
        }
    }

    #[inline(always)]
    fn of(self, user: u32) -> At {
        let index = self as usize * USERS + (user as usize & (USERS - 1));
        // SAFETY: a global of this object, with so many words for each table.
        unsafe { At::new((&raw mut SHARES).cast::<u64>().add(index)) }
    }
}

const ONE_FEWER: u64 = 1_u64.wrapping_neg();
