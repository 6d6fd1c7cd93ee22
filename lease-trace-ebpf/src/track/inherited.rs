//! Leases that cover a process which did not set them, as `COVERS` keeps them: taken out again.

use core::ffi::c_void;

use lease_trace_common::share::Table;

use crate::{
    state::{
        maps::{COVERS, CoverKey, walk_covers},
        shares::Share as _,
        stakes::StakeRef,
    },
    track::counts,
};

/// Whether the lease covered this stake; not any more.
#[inline(always)]
pub fn remove(lease: u64, stake: StakeRef) -> bool {
    let removed = COVERS.remove(CoverKey::new(lease, stake.key.tgid)).is_ok();
    if removed {
        Table::Covers.give_back(stake.user());
        stake.disinherit();
    }
    removed
}

/// The last pin of a stake went: what others have set covers nothing any more.
#[inline(always)]
pub fn forget(stake: StakeRef) {
    if stake.get().inherited > 0 {
        cover_forget(u64::from(stake.key.tgid), stake.key.inode);
    }
}

/// A function of its own, so that it shares no stack with what drops the pins.
#[unsafe(no_mangle)]
extern "C" fn cover_forget(tgid: u64, inode_id: u64) -> i64 {
    let mut forget = Forget {
        inode_id,
        tgid: tgid as u32,
    };
    walk_covers(forget_one, &mut forget);
    0
}

struct Forget {
    inode_id: u64,
    tgid: u32,
}

unsafe extern "C" fn forget_one(
    _map: *mut c_void,
    key: *mut CoverKey,
    inode_id: *mut u64,
    forget: *mut Forget,
) -> i64 {
    // SAFETY: the helper hands over a live key and value, and what `cover_forget` gave it.
    unsafe {
        let (lease, tgid) = ((*key).lease, (*key).tgid);
        if tgid != (*forget).tgid || *inode_id != (*forget).inode_id {
            return 0;
        }
        if let Some(stake) = StakeRef::find(tgid, (*forget).inode_id)
            && remove(lease, stake)
        {
            counts::cover(stake.unlease());
        }
    }
    0
}
