//! The machine's first program in breach of every rule: it is told, and nothing is done to it.

use crate::harness::{Actor, Enforcement, Scratch, eventually, leases_on, open_lease_and_pin};

/// What the policy says.
const ACTIONS: [(&str, &str); 4] = [
    ("kill", ""),
    ("stop", ""),
    ("deny", "fallback = \"kill\""),
    ("hold", "fallback = \"kill\""),
];

/// How the lease goes: cause, commands.
const WAYS: [(&str, &[&str]); 3] = [
    ("unlock", &["setlease f u", "munmap m", "close f"]),
    ("close", &["munmap m", "close f"]),
    // By a kworker, which leaves a signal to the monitor.
    (
        "other",
        &[
            "munmap m",
            "uring files",
            "register-files files f",
            "close f",
            "close files",
        ],
    ),
];

#[test]
fn pid_1_is_never_touched() {
    let scratch = Scratch::new();
    let first = Actor::first();
    assert_eq!(first.ok("pid"), "1");
    for (action, fallback) in ACTIONS {
        let enforcement = Enforcement::start(&format!(
            "mode = \"enforce\"\n[[rule]]\nname = \"r\"\naction = \"{action}\"\n{fallback}\n"
        ));
        let monitor = enforcement.monitor();
        for (cause, commands) in WAYS {
            eprintln!("{action} {cause}");
            let file = open_lease_and_pin(&first, &scratch.file(&format!("{action}-{cause}")));
            first.all(commands);
            let told = monitor.expect_of("spared", 1);
            assert_eq!(told["outcome"], "spared", "{told}");
            assert_eq!(told["rule"], "r", "{told}");
            assert_eq!(told["cause"], cause, "{told}");
            assert!(eventually(|| leases_on(&file).is_empty()));
            assert_eq!(first.ok("pid"), "1");
            first.all(&["unregister-buffers ring", "close ring"]);
            monitor.expect_of("at-rest", 1);
        }
        monitor.barrier();
        for event in ["killed", "stopped", "denied", "held", "failed"] {
            monitor.none_for(1, event);
        }
        assert_eq!(
            enforcement.hits("r"),
            serde_json::json!({ "spared": WAYS.len() })
        );
    }
}
