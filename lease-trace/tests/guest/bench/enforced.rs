//! What is not tracked, while a policy is enforced and others hold leases and pins.

use super::figure::By;
use super::load::Loads;
use super::release::hold;
use crate::harness::{Actor, Enforcement, Scratch, open_lease_and_pin, retire_enforcement};

/// Denies what can be denied.
const POLICY: &str = r#"
mode = "enforce"

[[rule]]
name = "all"
action = "deny"
fallback = "report"
"#;

pub fn measure(loads: &Loads) {
    let scratch = Scratch::new();
    let enforcement = Enforcement::start(POLICY);
    // Somebody's pins could be in breach: the programs have to look.
    let pinner = Actor::start();
    open_lease_and_pin(&pinner, &scratch.file("pinned"));
    for leases in [10, 10_000] {
        let others = hold(&scratch, leases);
        loads.cheap(By::Enforced(leases));
        drop(others);
    }
    pinner.all(&["unregister-buffers ring", "setlease f u"]);
    drop(enforcement);
    retire_enforcement();
}
