//! Calls of bpf(2) on maps that nobody interrupts for long.
//!
//! While one is under way, the kernel misses every kprobe's program on that CPU, for all of the host
//! (kernel/bpf/syscall.c, `bpf_disable_instrumentation`). Where tasks are preempted in the kernel, one that is
//! preempted in such a call keeps it under way until it runs again: thousands of hooks in a storm.

use libc::{
    SCHED_BATCH, SCHED_FIFO, SCHED_IDLE, SCHED_OTHER, SCHED_RESET_ON_FORK, pid_t, sched_param,
};

/// This thread.
const SELF: pid_t = 0;
/// Least of all that no ordinary task preempts.
const PRIORITY: i32 = 1;

/// As long as it lives, no ordinary task preempts this thread. Where that is refused (it takes
/// CAP_SYS_NICE, or RLIMIT_RTPRIO), nothing changes: what is missed is counted and told.
///
/// To be held for one call or a few: nobody else runs on this CPU meanwhile.
#[must_use = "it ends when it is dropped"]
pub struct Undisturbed {
    before: Option<i32>,
}

impl Undisturbed {
    pub fn claim() -> Self {
        // SAFETY: it takes a number.
        let before = unsafe { libc::sched_getscheduler(SELF) };
        let ordinary = matches!(
            before & !SCHED_RESET_ON_FORK,
            SCHED_OTHER | SCHED_BATCH | SCHED_IDLE
        );
        let claimed = ordinary && schedule(SCHED_FIFO | SCHED_RESET_ON_FORK, PRIORITY);
        Self {
            before: claimed.then_some(before),
        }
    }
}

impl Drop for Undisturbed {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            // That flag goes only with CAP_SYS_NICE, where a limit (RLIMIT_RTPRIO) was enough to claim.
            let _ = schedule(before, 0) || schedule(before | SCHED_RESET_ON_FORK, 0);
        }
    }
}

fn schedule(policy: i32, priority: i32) -> bool {
    let parameters = sched_param {
        sched_priority: priority,
    };
    // SAFETY: the call reads `parameters`, which outlives it.
    unsafe { libc::sched_setscheduler(SELF, policy, &raw const parameters) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> i32 {
        // SAFETY: it takes a number.
        unsafe { libc::sched_getscheduler(SELF) }
    }

    #[test]
    fn it_ends_as_it_began_also_within_another() {
        let before = policy();
        {
            let outer = Undisturbed::claim();
            let held = policy();
            drop(Undisturbed::claim());
            assert_eq!(policy(), held);
            assert_eq!(outer.before.is_some(), held != before);
        }
        assert_eq!(policy(), before);
    }
}
