//! Pins dropped by an allowance in the inode's record, see `stake::allowance`: given, spent, and taken
//! from what the stake counts.

use lease_trace_common::{
    count::Count,
    stake::{self, MOST_ALLOWANCE, allowance_owner, pins, spent},
};

use crate::{
    kernel::Pointer, state::inodes::InodeRef, state::maps::count, state::stakes::StakeRef,
    track::release,
};

/// Drops `n` pins in the inode of this mapping by its allowance, if that can be.
#[inline(always)]
pub fn is_paid<P: Pointer>(mapping: P, n: u64) -> bool {
    InodeRef::of_mapping(mapping).is_some_and(|inode| inode.spend(n))
}

/// Gives the inode an allowance, if that can be, for the folios of the mapping at this address (0: of
/// whichever is known).
#[inline(always)]
pub fn grant(inode: InodeRef, mapping: u64) {
    allowance_grant(u64::from(inode.slot), inode.get().id, mapping);
}

/// A function of its own for the verifier, and because it is rarely called.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn allowance_grant(slot: u64, inode_id: u64, mapping: u64) -> i64 {
    let Some(inode) = InodeRef::find_slot(slot, inode_id) else {
        return 0;
    };
    let Some(tgid) = inode.entitled() else {
        return 0;
    };
    let Some(stake) = StakeRef::find(tgid, inode_id) else {
        return 0;
    };
    let (all, own) = (pins(inode.word()), pins(stake.word()));
    let there = if own < all { own } else { all };
    if there <= LEAST {
        return 0;
    }
    let n = if there > MOST_ALLOWANCE {
        MOST_ALLOWANCE
    } else {
        there - 1
    };
    let is_set = inode.set_allowance(stake::allowance(inode_id, tgid, n), mapping);
    // Whoever drops pins, or comes to own some, looks for an allowance after that; and it is looked here
    // after the allowance was given. So one of the two sees the other.
    let stands = is_set
        && inode.entitled() == Some(tgid)
        && pins(inode.word()) > n
        && pins(stake.word()) > n;
    if !stands {
        deduct(inode);
        inode.forget_if_empty();
    }
    0
}

/// With fewer pins an allowance is not worth it.
const LEAST: u64 = 8;

/// Takes what was dropped by an allowance from its stake and the inode's word, so that what they count is
/// what there is. The allowance is gone. An allowance leaves pins, but another CPU may have dropped them
/// meanwhile: the caller has a lease or pins in the inode, or forgets it if it is empty.
#[inline(always)]
pub fn deduct(inode: InodeRef) {
    if inode.allowance() != 0 {
        allowance_deduct(u64::from(inode.slot), inode.get().id);
    }
}

/// A function of its own for the verifier: checked once, not once for each call.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn allowance_deduct(slot: u64, inode_id: u64) -> i64 {
    let Some(inode) = InodeRef::find_slot(slot, inode_id) else {
        return 0;
    };
    let taken = inode.take_allowance();
    let n = spent(taken);
    if n == 0 {
        return 0;
    }
    count(Count::Unpinned, n);
    let missing = match StakeRef::find(allowance_owner(taken), inode_id) {
        Some(stake) => {
            let missing = stake.drop_pins(inode, n);
            stake.forget_if_empty();
            missing
        }
        None => n,
    };
    release::add_missing(inode, missing);
    inode.drop_pins(n);
    0
}
