//! Rings that are torn down (io_uring/io_uring.c).

use aya_ebpf::{
    macros::{fentry, fexit, kprobe, kretprobe},
    programs::{FEntryContext, FExitContext, ProbeContext, RetProbeContext},
};

use crate::{
    judge::moments,
    kernel::args::{Registers as _, Returned as _},
    state::calls,
    track::ring_teardown,
};

on_return!(
    /// `void io_ring_exit_work(struct work_struct *work)` (io_uring/io_uring.c)
    "io_ring_exit_work",
    io_ring_exit_work_enter, io_ring_exit_work_leave,
    io_ring_exit_work_probe, io_ring_exit_work_ret,
    if true,
    |ctx| ring_teardown::begin(ctx.parameter(0))
);
