//! Kernel threads that tear down a ring in the name of the process that made it.

use core::ffi::c_void;

use lease_trace_common::stake::{Stake, StakeKey, pins};

use crate::{
    bpf::loops,
    kernel,
    kernel::current,
    state::calls,
    state::maps::{Call, nothing_tracked, walk_stakes},
    state::stakes::StakeRef,
};

/// A kernel thread begins to tear down a ring: what it unpins belongs to the ring's creator.
#[inline(always)]
pub fn begin(exit_work: u64) {
    if !nothing_tracked()
        && let Some(mm) = kernel::ring_mm(exit_work)
    {
        calls::keep(Call {
            mm,
            ..Call::new(exit_work, 0, 0)
        });
    }
}

/// The address space whose ring this kernel thread tears down. What it does just now is asked of the kernel,
/// too: the call is still kept where its return was missed.
#[inline(always)]
fn acts_for() -> Option<u64> {
    let call = calls::kept()?;
    let work = current::current().work()?;
    (call.start == work).then_some(call.mm)
}

/// The process in whose name this kernel thread tears down a ring, if it has pins in the inode: the one
/// whose address space it is, or was when it took the pins.
#[inline(always)]
pub fn owner_of(inode_id: u64) -> Option<u32> {
    let mm = acts_for()?;
    let owner = kernel::mm_owner(mm);
    if let Some(owner) = owner
        && let Some(stake) = StakeRef::find(owner.tgid(), inode_id)
        && pins(stake.word()) > 0
    {
        return Some(owner.tgid());
    }
    let mut search = Search {
        inode: inode_id,
        mm: loops::zero(),
        tgid: loops::zero() as u32,
    };
    search.mm = mm;
    walk_stakes(same_mm, &mut search);
    (search.tgid != 0).then_some(search.tgid)
}

struct Search {
    inode: u64,
    mm: u64,
    tgid: u32,
}

unsafe extern "C" fn same_mm(
    _map: *mut c_void,
    key: *mut StakeKey,
    stake: *mut Stake,
    search: *mut Search,
) -> i64 {
    // SAFETY: the helper hands over a live key and value, and what `stake_of` gave it.
    unsafe {
        if (*key).inode == (*search).inode && (*stake).mm == (*search).mm {
            (*search).tgid = (*key).tgid;
            return 1;
        }
    }
    0
}
