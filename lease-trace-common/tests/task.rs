//! What kind of task it is.

use lease_trace_common::task::{PF_EXITING, PF_IO_WORKER, PF_KTHREAD, PF_USER_WORKER, may_call};

#[test]
fn what_the_kernel_made_is_in_no_system_call() {
    let io_worker = PF_IO_WORKER | PF_USER_WORKER;
    for flags in [PF_KTHREAD, PF_IO_WORKER, PF_USER_WORKER, io_worker] {
        assert!(!may_call(flags), "{flags:#x}");
        assert!(!may_call(flags | PF_EXITING), "{flags:#x}");
    }
    assert!(may_call(0) && may_call(PF_EXITING));
}
