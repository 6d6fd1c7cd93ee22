//! Reads a guest's kernel console line by line and tells a crash or a lock-up from mere talk. Only
//! lines of the kernel's own count: they begin with its time stamp.

use std::fmt;

/// Why a guest is beyond help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    Panic,
    Crash,
    LockUp,
    Stall,
    Hang,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Panic => "kernel panic",
            Self::Crash => "kernel crash (BUG or Oops)",
            Self::LockUp => "CPU lock-up",
            Self::Stall => "RCU stall",
            Self::Hang => "hung task",
        })
    }
}

/// The texts, in the words of kernel/panic.c, arch/x86, kernel/watchdog.c, kernel/rcu and
/// kernel/hung_task.c.
fn means(message: &str) -> Option<Trouble> {
    let begins = |text: &str| message.starts_with(text);
    let has = |text: &str| message.contains(text);
    if begins("Kernel panic") {
        Some(Trouble::Panic)
    } else if has("soft lockup - CPU#")
        || has("hard LOCKUP on cpu")
        || begins("BUG: workqueue lockup")
    {
        Some(Trouble::LockUp)
    } else if begins("BUG: ")
        || begins("kernel BUG at ")
        || begins("Oops: ")
        || begins("general protection fault")
        || begins("PANIC: double fault")
        || begins("Internal error")
    {
        Some(Trouble::Crash)
    } else if has("rcu: INFO: ") && (has("self-detected stall") || has("detected stalls")) {
        Some(Trouble::Stall)
    } else if begins("INFO: task ") && has(" blocked for more than ") {
        Some(Trouble::Hang)
    } else {
        None
    }
}

/// What a line of the console says about the guest's health.
pub fn trouble(line: &str) -> Option<Trouble> {
    let stamped = line.trim_end().strip_prefix('[')?;
    let (stamp, message) = stamped.split_once("] ")?;
    let numeric = |c: char| c.is_ascii_digit() || c == '.' || c == ' ';
    // The stamp may be followed by the id of the caller, as in `[    1.2][  T12] `.
    let stamp = stamp.split(']').next().unwrap_or_default();
    if !stamp.chars().all(numeric) {
        return None;
    }
    let message = message.strip_prefix("watchdog: ").unwrap_or(message);
    means(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_recognised() {
        for (line, expected) in [
            (
                "[    4.2] Kernel panic - not syncing: sysrq triggered crash",
                Trouble::Panic,
            ),
            (
                "[    4.2][  T101] BUG: kernel NULL pointer dereference, address: 0",
                Trouble::Crash,
            ),
            ("[   10.000001] kernel BUG at mm/gup.c:77!", Trouble::Crash),
            (
                "[   10.000001] Oops: Oops: 0002 [#1] PREEMPT SMP",
                Trouble::Crash,
            ),
            (
                "[   60.1] watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [a:1]",
                Trouble::LockUp,
            ),
            (
                "[   60.1] watchdog: Watchdog detected hard LOCKUP on cpu 0",
                Trouble::LockUp,
            ),
            (
                "[   60.1] rcu: INFO: rcu_preempt self-detected stall on CPU",
                Trouble::Stall,
            ),
            (
                "[   60.1] rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:",
                Trouble::Stall,
            ),
            (
                "[  120.1] INFO: task client:88 blocked for more than 120 seconds.",
                Trouble::Hang,
            ),
        ] {
            assert_eq!(trouble(line), Some(expected), "{line}");
        }
    }

    #[test]
    fn talk_is_not_trouble() {
        for line in [
            "Kernel panic - not syncing: said by a script, without a time stamp",
            "[info] BUG: none of the kernel's",
            "[    1.0] WARNING: CPU: 0 PID: 1 at kernel/bpf/verifier.c:1",
            "[    1.0] test: a lockup of words",
            "",
        ] {
            assert_eq!(trouble(line), None, "{line}");
        }
    }
}
