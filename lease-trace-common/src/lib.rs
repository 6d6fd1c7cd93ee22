//! What the kernel side and the user side of lease-trace agree on: the records in the maps and in
//! the ring buffer, the state machine of a stake, and the constants handed over at load time.
//!
//! Everything here is plain data and pure functions. Nothing reads kernel memory, nothing talks
//! to a map: the same code runs in the kernel and in host tests.
#![no_std]

#[cfg(feature = "user")]
extern crate std;

pub mod batch;
pub mod below;
pub mod books;
pub mod call;
pub mod cause;
pub mod config;
pub mod consumer;
pub mod context;
pub mod control;
pub mod count;
pub mod cover;
pub mod event;
pub mod idle;
pub mod lease;
pub mod line;
pub mod logged;
pub mod note;
pub mod offsets;
pub mod policy;
pub mod share;
pub mod stake;
pub mod survey;
pub mod tagged;
pub mod task;
pub mod totals;
pub mod verdict;
pub mod word;
pub mod x32;

/// Length of `task_struct.comm` (include/linux/sched.h, TASK_COMM_LEN).
pub const COMM_LEN: usize = 16;

/// Bytes kept of a path, leaf side first kept. Longer ones are marked as truncated. With
/// [`NAME_SLACK`] and a header of eight bytes a record of a path has 2,048 bytes.
pub const PATH_LEN: usize = 1784;

/// Longest name of one component (include/uapi/linux/limits.h, NAME_MAX), rounded up.
pub const NAME_SLACK: usize = 256;

/// Frames kept of the stack that asked for a pin: 128 bytes of each stake and of each notification.
pub const STACK_LEN: usize = 16;

/// Lets a record cross the map boundary in userspace.
macro_rules! pod {
    ($($record:ty),+ $(,)?) => {$(
        // SAFETY: `repr(C)`, made of integers and arrays of them, without padding (asserted on
        // the type), so that every bit pattern is a value.
        #[cfg(feature = "user")]
        unsafe impl aya::Pod for $record {}
    )+};
}
pub(crate) use pod;
