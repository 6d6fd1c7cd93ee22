//! Calls that were seen to begin, and whose return was not: the thread has ended since.

use super::step;
use crate::{
    kernel::{MapElement, TaskPtr},
    state::calls,
};

/// One call of `CALLS`.
#[inline(always)]
pub fn call(ctx: *const MapElement) {
    if let Some(thread) = MapElement::key(ctx)
        && let Some(task) = calls::task_of(thread)
        && !TaskPtr(task).is_still(thread)
    {
        calls::forget(thread);
    }
    step(ctx);
}
