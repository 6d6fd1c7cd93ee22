//! Below the paths of which rules a file is, looked at when its lease is set and when a process takes its first pins:
//! whatever it is called later.

use core::ffi::c_void;

use lease_trace_common::{below::Below, policy::Header};

use crate::{
    bpf::loops,
    effects::notes,
    judge::rules::policy_below,
    kernel::{File, leases as kernel_leases},
    state::{
        calls,
        inodes::InodeRef,
        leases::LeaseRef,
        maps::PENDING,
        policy::{header, rule},
        stakes::StakeRef,
    },
};

/// `generic_setlease` has returned: notes where the file is if it has a lease.
#[inline(always)]
pub fn of_lease() {
    if header().has_paths() {
        enforce_path_of_lease();
    }
}

/// A global function, so that it is left out where nothing is judged. It looks the call up itself, since the program has
/// no room on its stack to keep it for that.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn enforce_path_of_lease() -> i64 {
    let Some(call) = calls::kept() else {
        return 0;
    };
    let file = File(call.start);
    let header = header();
    // First, since the entry that is found after it may be another's if that takes long.
    let now = below_which(header, file.0, 0);
    let found = kernel_leases::find(file)
        .and_then(|lease| lease.id_on(file))
        .and_then(LeaseRef::find);
    if let Some(found) = found {
        // One that is set again is where it was at first, too.
        let rules = Below(found.get().below).rules(header) | now;
        // SAFETY: a live map value, written as a whole word.
        unsafe {
            core::ptr::write_volatile(
                &raw mut (*found.get_ptr()).below,
                Below::new(header, rules).0,
            );
        };
    }
    0
}

/// The pins of note `n` of this thread are the first of their stake, or a lease has come to cover them: notes where the
/// file is, or was when that lease was set.
#[inline(always)]
pub fn of_pins(n: u64) {
    if header().has_paths() {
        enforce_path_of_pins(n);
    }
}

/// A global function, as above.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn enforce_path_of_pins(n: u64) -> i64 {
    let Some(note) = PENDING.get_ptr(notes::of_thread() + n) else {
        return 0;
    };
    // SAFETY: a map value, whose memory is that of a note as long as the program runs.
    let (slot, inode_id, tgid, cause) =
        unsafe { ((*note).slot, (*note).inode_id, (*note).tgid, (*note).cause) };
    if cause != 0 {
        return 0;
    }
    let Some(stake) = StakeRef::find(tgid, inode_id) else {
        return 0;
    };
    let (header, number) = (header(), InodeRef::number_of(slot, inode_id));
    // As above.
    let now = below_which(header, stake.get().file, number);
    if let Some(stake) = StakeRef::find(tgid, inode_id) {
        // A lease that covers it has brought where the file was when that was set.
        let rules = Below(stake.get().below).rules(header) | now;
        stake.is_below(Below::new(header, rules).0);
    }
    0
}

struct Look {
    header: Header,
    /// See [`policy_below`].
    file: u64,
    number: u64,
    rules: u64,
}

/// Below the paths of which rules the file is now, or, where it is 0, the inode with this number: a bit for each.
#[inline(always)]
fn below_which(header: Header, file: u64, number: u64) -> u32 {
    let mut look = Look {
        header,
        file,
        number,
        rules: loops::zero(),
    };
    loops::repeat(header.rules(), one_rule, &mut look);
    look.rules as u32
}

unsafe extern "C" fn one_rule(index: u64, look: *mut c_void) -> i64 {
    // SAFETY: bpf_loop hands over what `below_which` gave it.
    let look = unsafe { &mut *look.cast::<Look>() };
    let Some(rule) = rule(look.header, index as u32) else {
        return 1;
    };
    if rule.path_ino != 0
        && policy_below(
            look.file,
            look.number,
            u64::from(rule.path_dev),
            rule.path_ino,
        ) != 0
    {
        let rules = look.rules | 1 << (index & 31);
        loops::keep(&mut look.rules, rules);
    }
    0
}
