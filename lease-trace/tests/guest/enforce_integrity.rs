//! A kernel under lockdown in the mode that forbids changing it: an unlock is denied all the same.

use std::fs;

use crate::enforce_without_lsm::an_unlock_is_denied;

#[test]
fn an_unlock_is_denied_under_lockdown() {
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").expect("securityfs");
    assert!(lockdown.contains("[integrity]"), "{lockdown}");
    an_unlock_is_denied();
}
