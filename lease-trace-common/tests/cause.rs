//! The table of causes: each row is a moment at which a lease ends.

use lease_trace_common::{
    cause::{Cause, ReleaseFacts, classify},
    lease::FL_UNLOCK_PENDING,
};

const CLOSE: i64 = 3;
const FCNTL: i64 = 72;
const OPENAT: i64 = 257;
const F_SETLEASE: u32 = 1024;
const F_SETDELEG: u32 = 1040;

fn last(syscall: i64) -> ReleaseFacts {
    ReleaseFacts {
        kernel_lease: false,
        last_reference: true,
        lease_flags: 0,
        kthread: false,
        io_worker: false,
        exiting: false,
        ending: false,
        exit_code: 0,
        syscall,
        compat: false,
        command: 0,
    }
}

#[test]
fn the_system_call_that_drops_the_last_reference_is_the_cause() {
    let rows = [
        (CLOSE, Cause::Close),
        (33, Cause::Dup2),
        (292, Cause::Dup2),
        (436, Cause::CloseRange),
        (9, Cause::Munmap),
        (11, Cause::Munmap),
        (30, Cause::Munmap),
        (25, Cause::Munmap),
        (59, Cause::Exec),
        (322, Cause::Exec),
        (60, Cause::Exit),
        (231, Cause::Exit),
        (426, Cause::IoUring),
        (47, Cause::Other),
        (-1, Cause::Other),
    ];
    for (syscall, cause) in rows {
        assert_eq!(classify(&last(syscall)), cause, "system call {syscall}");
    }
}

#[test]
fn a_32_bit_process_has_numbers_of_its_own() {
    let rows = [
        (6, Cause::Close),
        (91, Cause::Munmap),
        (63, Cause::Dup2),
        (11, Cause::Exec),
    ];
    for (syscall, cause) in rows {
        assert_eq!(
            classify(&ReleaseFacts {
                compat: true,
                ..last(syscall)
            }),
            cause,
            "{syscall}"
        );
    }
}

#[test]
fn the_calls_of_x32_are_those_of_64_bits_but_for_some() {
    const X32: i64 = 0x4000_0000;
    let rows = [
        (CLOSE, Cause::Close),
        (33, Cause::Dup2),
        (436, Cause::CloseRange),
        (11, Cause::Munmap),
        (520, Cause::Exec),
        (545, Cause::Exec),
        (231, Cause::Exit),
        (426, Cause::IoUring),
        (47, Cause::Other),
    ];
    for (number, cause) in rows {
        assert_eq!(classify(&last(X32 + number)), cause, "x32 {number}");
    }
    assert_eq!(classify(&last(520)), Cause::Other, "of x32 alone");
    let unlock = ReleaseFacts {
        last_reference: false,
        command: F_SETLEASE,
        ..last(X32 + FCNTL)
    };
    assert_eq!(classify(&unlock), Cause::Unlock);
    let compat = ReleaseFacts {
        compat: true,
        ..last(X32 + 6)
    };
    assert_eq!(classify(&compat), Cause::Other, "no number of 32 bits");
}

/// Its registers say nothing: it has never been in user mode.
#[test]
fn what_a_worker_of_io_uring_drops_io_uring_dropped() {
    let worker = ReleaseFacts {
        io_worker: true,
        ..last(-1)
    };
    assert_eq!(classify(&worker), Cause::IoUring);
    let idle_too_long = ReleaseFacts {
        exiting: true,
        ..worker
    };
    assert_eq!(classify(&idle_too_long), Cause::IoUring);
    let ended = ReleaseFacts {
        exiting: true,
        ending: true,
        exit_code: 9,
        ..worker
    };
    assert_eq!(classify(&ended), Cause::Killed);
}

#[test]
fn a_thread_with_a_table_of_its_own_ends_without_its_process() {
    let thread = ReleaseFacts {
        exiting: true,
        exit_code: 9,
        ..last(60)
    };
    assert_eq!(classify(&thread), Cause::ThreadExit);
    assert!(!Cause::ThreadExit.is_ending());
}

#[test]
fn an_exiting_task_was_killed_if_its_exit_code_has_a_signal() {
    let exiting = ReleaseFacts {
        exiting: true,
        ending: true,
        ..last(231)
    };
    assert_eq!(
        classify(&ReleaseFacts {
            exit_code: 3 << 8,
            ..exiting
        }),
        Cause::Exit
    );
    assert_eq!(
        classify(&ReleaseFacts {
            exit_code: 9,
            ..exiting
        }),
        Cause::Killed
    );
}

#[test]
fn while_references_remain_the_lease_was_unlocked_or_timed_out() {
    let alive = ReleaseFacts {
        last_reference: false,
        ..last(FCNTL)
    };
    assert_eq!(
        classify(&ReleaseFacts {
            command: F_SETLEASE,
            ..alive
        }),
        Cause::Unlock
    );
    assert_eq!(
        classify(&ReleaseFacts {
            command: F_SETDELEG,
            ..alive
        }),
        Cause::Unlock
    );
    let pending = ReleaseFacts {
        lease_flags: FL_UNLOCK_PENDING,
        ..alive
    };
    assert_eq!(
        classify(&ReleaseFacts {
            syscall: OPENAT,
            ..pending
        }),
        Cause::BreakTimeout
    );
    assert_eq!(
        classify(&ReleaseFacts {
            command: F_SETLEASE,
            ..pending
        }),
        Cause::Unlock,
        "the holder answers a break"
    );
    assert_eq!(
        classify(&ReleaseFacts {
            syscall: OPENAT,
            ..alive
        }),
        Cause::Other
    );
}

#[test]
fn a_kernel_thread_has_no_system_call_and_the_kernel_its_own_leases() {
    assert_eq!(
        classify(&ReleaseFacts {
            kthread: true,
            ..last(CLOSE)
        }),
        Cause::Other
    );
    assert_eq!(
        classify(&ReleaseFacts {
            kernel_lease: true,
            ..last(CLOSE)
        }),
        Cause::Kernel
    );
}

#[test]
fn every_cause_survives_the_trip_through_a_record() {
    for cause in Cause::ALL {
        assert_eq!(Cause::from_raw(cause as u32), Some(cause));
    }
    assert_eq!(Cause::from_raw(0), None);
}
