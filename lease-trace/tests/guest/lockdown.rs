//! A kernel under lockdown in the mode that forbids reading its memory: root has all capabilities
//! and gets EPERM all the same.

use crate::harness::{Leftovers, Tool};

#[test]
fn everything_says_which_mode_refuses_it() {
    let leftovers = Leftovers::before();
    for arguments in [
        &["monitor", "-d", "1s"][..],
        &["report"],
        &["report", "leases"],
        &["doctor"],
    ] {
        let ran = Tool::run(arguments).exits(2).says(&[
            "bpf(2)",
            "EPERM",
            "lockdown",
            "confidentiality",
            "lockdown=integrity",
        ]);
        assert_eq!(ran.stdout, "", "stdout is for data\n{ran}");
    }
    leftovers.assert_none();
}
