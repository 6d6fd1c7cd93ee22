//! Whether the pins that a rule is about are there, by the kernel's own word. A hook on a drop may have been
//! passed, and then the books are too high: on them alone nobody is punished.

use lease_trace_common::{stake::detached_tag, tagged, verdict::Moment};

use crate::{
    kernel::{InodePtr, Page, Pinned},
    state::{
        inodes::InodeRef,
        maps::DETACHED,
        reading::Reading,
        stakes::{StakeRef, has_other_owners},
    },
};

/// Where nobody else has pins in the file: a page of those taken last is pinned. Else, and if that page is not:
/// the page cache has as many pins as the books say, no more and no fewer. That is asked before a release only;
/// afterwards a lock of the kernel's is held.
#[inline(always)]
pub fn is_there(inode: InodeRef, stake: StakeRef, moment: Moment) -> bool {
    let may_walk = matches!(moment, Moment::Before);
    enforce_proof(inode.number(), u64::from(stake.key.tgid), may_walk.into()) != 0
}

/// A function of its own for the verifier, and because it is rarely called.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn enforce_proof(number: u64, tgid: u64, may_walk: u64) -> i64 {
    let Some(inode) = InodeRef::find_number(number) else {
        return 0;
    };
    let Some(stake) = StakeRef::find(tgid as u32, inode.id) else {
        return 0;
    };
    let address = inode.get().address;
    if !has_other_owners(inode, tgid as u32) && is_pinned(Page(stake.get().page), address) {
        return 1;
    }
    if may_walk == 0 {
        return 0;
    }
    let counted = Reading::of(inode).pins();
    i64::from(InodePtr(address).cached_pins(counted + 1) == Some(counted))
}

/// Whether this page is one of the inode's that is pinned; or that was one, by the books, when it left the page
/// cache, and is pinned still.
#[inline(always)]
fn is_pinned(page: Page, inode: u64) -> bool {
    if page.0 == 0 {
        return false;
    }
    match page.pinned_of(inode) {
        Pinned::Still => true,
        Pinned::Detached => {
            let folio = page.folio().0;
            DETACHED.get_ptr(folio).is_some_and(|detached| {
                // SAFETY: a live map value.
                let (of, pins) = unsafe { ((*detached).inode, (*detached).pins) };
                of == inode && tagged::value(pins, detached_tag(folio)).unwrap_or(0) > 0
            })
        }
        Pinned::Gone => false,
    }
}
