//! How much of a table each user has, see `lease_trace_common::share`.

use lease_trace_common::{
    share::{HIGH_ONES, NOBODY, PARTS, PARTS_OF_HIGH, TABLES, Table, USERS, has_room, is_high},
    word::Word as _,
};

use crate::{
    bpf::{
        atomic::At,
        config::{CONFIG, constant},
    },
    state::maps::SHARES,
};

/// What a user has of a table.
pub trait Share {
    /// One more entry for this user; false if he has his share.
    fn take(self, user: u32) -> bool;
    /// One fewer.
    fn give_back(self, user: u32);
}

impl Share for Table {
    #[inline(always)]
    fn take(self, user: u32) -> bool {
        user == NOBODY || share_take(self as u64, u64::from(user)) != 0
    }

    #[inline(always)]
    fn give_back(self, user: u32) {
        if user != NOBODY {
            share_give_back(self as u64, u64::from(user));
        }
    }
}

/// A global function: verified once, not once for each call.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn share_take(table: u64, user: u64) -> i64 {
    if !take(table, user as u32, PARTS) {
        return 0;
    }
    if is_high(user as u32) && !take(table, HIGH_ONES, PARTS_OF_HIGH) {
        of(table, user as u32).add(ONE_FEWER);
        return 0;
    }
    1
}

#[inline(always)]
fn take(table: u64, user: u32, parts: u64) -> bool {
    let entries = of(table, user);
    let has_room = has_room(entries.add(1), u64::from(constant(&CONFIG.capacity)), parts);
    if !has_room {
        entries.add(ONE_FEWER);
    }
    has_room
}

/// A global function, too.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn share_give_back(table: u64, user: u64) -> i64 {
    of(table, user as u32).add(ONE_FEWER);
    if is_high(user as u32) {
        of(table, HIGH_ONES).add(ONE_FEWER);
    }
    0
}

#[inline(always)]
fn of(table: u64, user: u32) -> At {
    let index = (table as usize & (TABLES - 1)) * USERS + (user as usize & (USERS - 1));
    // SAFETY: a global of this object, with so many words for each table.
    unsafe { At::new((&raw mut SHARES).cast::<u64>().add(index)) }
}

const _: () = assert!(TABLES.is_power_of_two() && USERS.is_power_of_two());

const ONE_FEWER: u64 = 1_u64.wrapping_neg();
