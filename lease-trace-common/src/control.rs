//! State and flags that userspace sets for the programs: words of the map `CONTROL`. Whose the
//! pinned maps are, whether enforcement is in place, what readers ask for.

/// Pid of the monitor that reads the ring buffer, 0: none.
pub const PID: u32 = 0;
/// When it was started, in clock ticks since boot, so that a reused pid is not taken for it.
pub const STARTED: u32 = 1;
/// 0: no enforcement; [`IN_PLACE`], [`STARTING`] or [`STOPPING`].
pub const ENFORCED: u32 = 2;
/// Enforcement is in place, with or without a monitor.
pub const IN_PLACE: u64 = 1;
/// It is being put in place by the process that [`PID`] names. If that is gone, this is what a start
/// that was cut off has left: some of the hooks, perhaps the policy.
pub const STARTING: u64 = 2;
/// It is being removed, or a removal was cut off: some of the hooks may be gone.
pub const STOPPING: u64 = 3;
/// [`LAYOUT`] of the programs in place.
pub const LAYOUT_OF: u32 = 3;
/// `CLOCK_REALTIME` at which enforcement was put in place, s.
pub const SINCE: u32 = 4;
/// How long a held file may be kept after its process let it go, ms.
pub const HOLD_LIMIT: u32 = 5;
/// 1: the leases that were there before are adopted; walks enter nothing any more.
pub const ADOPTED: u32 = 6;
/// 1: somebody wants to hear of leases set and ended, too.
pub const ALL_EVENTS: u32 = 7;
/// 1: a kprobe is among the hooks. The kernel misses all of them on a CPU where bpf(2) reads a
/// map (kernel/trace/bpf_trace.c, `trace_call_bpf`).
pub const KPROBES: u32 = 8;
/// 1: somebody waits, or has waited, for pins to go (`lease-trace run`).
pub const WAITED: u32 = 9;
/// Hooks that the kernel missed, as the monitor last added them up.
pub const LOST_HOOKS: u32 = 10;
/// 1: whoever has let a lease go is judged once `flc_lock` is free, so that the page cache can be looked at before.
pub const JUDGES_UNLOCKED: u32 = 11;
/// The thread group that tries whether it is seen there, set back to 0 once it was; 0: none does.
pub const TRIAL: u32 = 12;
/// Of [`RETURNED`], those whose return is watched, a bit each: bare pins are judged there.
pub const JUDGES_RETURNED: u32 = 13;
/// Words of the map.
pub const LEN: u32 = 14;

/// A map of one [`Line`](crate::line::Line) beside it, named after its section, since each lease that is set asks for
/// it. 1: a lease that a process sets may have to be found when `generic_setlease` returns, because `lease_setup` is
/// not watched by fentry.
pub const SET_ON_RETURN: &str = ".bss.SET_ON_RETURN";

/// System calls that take long-term pins, by their numbers on x86-64: io_uring_register, io_uring_setup, ioctl (RDMA,
/// vfio, iommufd, udmabuf) and setsockopt (AF_XDP). Whether the pins stay is known when they have returned.
pub const RETURNED: [i64; 4] = [427, 425, 16, 54];

/// Changes with every change to a record that the kernel side and the user side share; a lease-trace
/// that finds programs of another layout in place leaves their maps alone.
pub const LAYOUT: u64 = 30;
