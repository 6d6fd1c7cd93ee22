//! `lease-trace doctor`: what this kernel offers and lacks.

use crate::harness::{Leftovers, Tool};

#[test]
fn this_kernel_is_fit_and_the_probe_points_are_named() {
    let leftovers = Leftovers::before();
    let ran = Tool::run(&["doctor"]).exits(0);
    for word in ["lease_modify", "pin_user_pages"] {
        assert!(ran.stdout.contains(word), "no {word}\n{ran}");
    }
    leftovers.assert_none();
}

#[test]
fn the_same_comes_as_json() {
    let ran = Tool::run(&["doctor", "-J"]).exits(0);
    assert!(ran.json().is_object(), "{ran}");
    for word in ["lease_modify", "pin_user_pages"] {
        assert!(ran.stdout.contains(word), "no {word}\n{ran}");
    }
}

/// It works beside a monitor, and does not disturb it.
#[test]
fn it_may_be_asked_while_a_monitor_runs() {
    let monitor = crate::harness::Monitor::alone();
    Tool::run(&["doctor"]).exits(0);
    monitor.barrier();
    let stopped = monitor.stop();
    assert_eq!(stopped.status.code(), Some(0), "{stopped:?}");
}

/// Without privileges it cannot try what would attach, and says that rather than "no".
#[test]
fn without_privileges_it_says_what_it_could_not_tell() {
    let ran = Tool::new(&["doctor"]).user(65534).finish();
    assert_ne!(ran.code, None, "{ran}");
    let said = format!("{}{}", ran.stdout, ran.stderr).to_lowercase();
    assert!(said.contains("root") || said.contains("cap_"), "{ran}");
}
