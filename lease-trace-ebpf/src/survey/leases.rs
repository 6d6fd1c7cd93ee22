//! Leases whose end no hook saw: the kernel does not list them any more.

use super::step;
use crate::{
    kernel::{File, FileLease, MapElement, current, leases::is_listed},
    state::leases::LeaseRef,
    track::over,
};

/// One lease of `LEASES`.
#[inline(always)]
pub fn lease(ctx: *const MapElement) {
    look(ctx);
    step(ctx);
}

#[inline(always)]
fn look(ctx: *const MapElement) {
    let Some(found) = MapElement::key(ctx).and_then(LeaseRef::at) else {
        return;
    };
    let record = found.get();
    match lease_is_listed(record.address, record.file) {
        LISTED => found.is_listed(),
        MISSING if found.is_missing(current::now()) => over::lapsed(found),
        _ => {}
    }
}

/// What [`lease_is_listed`] returns where it is seen.
const LISTED: i64 = 1;
const MISSING: i64 = 0;

/// A function of its own, so that its stack is free again for what follows.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn lease_is_listed(lease: u64, file: u64) -> i64 {
    is_listed(FileLease(lease), File(file)).map_or(-1, i64::from)
}
