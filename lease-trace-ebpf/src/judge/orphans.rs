//! Orphaned pins: their owner dropped his own last reference to the leased file, and others keep the lease. No hook
//! passes then, so a monitor finds it by a walk, and has it judged here, by the rules in force.

use lease_trace_common::{
    cause::Cause,
    policy::on,
    stake::{StakeKey, leases},
    word,
};

use crate::{
    effects::notes,
    judge::moments,
    kernel::MapElement,
    state::{
        maps::{ORPHANS, PENDING},
        stakes::StakeRef,
    },
};

/// One stake of `ORPHANS`.
#[inline(always)]
pub fn stake(ctx: *const MapElement) {
    if let Some(key) = MapElement::key::<StakeKey>(ctx) {
        enforce_orphan(u64::from(key.tgid), key.inode);
    }
}

/// A global function, so that it is left out where nothing is judged.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn enforce_orphan(tgid: u64, inode: u64) -> i64 {
    let key = StakeKey::new(tgid as u32, inode);
    let (Some(found), Some(stake)) = (ORPHANS.get_ptr(key), StakeRef::find(key.tgid, inode)) else {
        return 0;
    };
    // SAFETY: a live map value, written by userspace before it reads.
    let seen = unsafe { *found };
    let now = stake.word();
    // Only who had a lease of his own has let go of it; those of others came and went as they liked. And one that came
    // since the walk covers his pins.
    if word::generation(now) != word::generation(seen)
        || leases(now) != leases(seen)
        || leases(now) <= stake.get().inherited
    {
        return 0;
    }
    _ = PENDING.remove(notes::of_thread());
    let packed = tgid | u64::from(on::ZOMBIE) << 32 | (Cause::Orphaned as u64) << 40;
    if notes::note(packed, stake.get().slot, inode) == 0 {
        moments::judge_orphan();
    }
    0
}
