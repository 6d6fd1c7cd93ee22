//! A kernel booted without `bpf` in `lsm=`: an unlock is denied through another kind of program.

use std::fs;

use crate::harness::{Actor, Enforcement, Scratch, deniable_here, leases_on, open_lease_and_pin};

/// The whole of it, short: EBUSY, the lease stays, it is told and counted.
pub fn an_unlock_is_denied() {
    let scratch = Scratch::new();
    let enforcement = Enforcement::start(
        "mode = \"enforce\"\n[[rule]]\nname = \"r\"\naction = \"deny\"\nfallback = \"kill\"\n",
    );
    assert_eq!(enforcement.deniable(), deniable_here());
    let monitor = enforcement.monitor();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.err("setlease f u", libc::EBUSY);
    assert_eq!(leases_on(&file).len(), 1);
    let denied = monitor.expect_of("denied", actor.pid());
    assert_eq!(denied["cause"], "unlock", "{denied}");
    assert_eq!(enforcement.hits("r")["denied"], 1);
    actor.all(&["unregister-buffers ring", "setlease f u"]);
    assert!(leases_on(&file).is_empty());
}

#[test]
fn an_unlock_is_denied_by_another_program() {
    let lsm = fs::read_to_string("/sys/kernel/security/lsm").expect("securityfs");
    assert!(!lsm.split(',').any(|name| name.trim() == "bpf"), "{lsm}");
    an_unlock_is_denied();
}
