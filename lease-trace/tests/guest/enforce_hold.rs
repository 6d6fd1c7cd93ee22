//! Files held by the monitor: from when on, for how long, and for whom not.

use std::fs;

use crate::harness::{
    Actor, Enforcement, PAGES, Scratch, Tool, eventually, leases_on, open_lease_and_pin,
};

const HOLD: &str = "mode = \"enforce\"\n[[rule]]\nname = \"r\"\naction = \"hold\"\n\
                    fallback = \"report\"\n";

#[test]
fn a_lease_outlives_the_close_until_the_pins_are_gone() {
    let scratch = Scratch::new();
    let enforcement = Enforcement::start(HOLD);
    let monitor = enforcement.monitor();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    let held = monitor.expect_of("held", actor.pid());
    assert_eq!(held["rule"], "r", "{held}");
    assert_eq!(held["outcome"], "done", "{held}");
    assert_eq!(held["pins"], PAGES, "{held}");

    actor.all(&["munmap m", "close f"]);
    monitor.barrier();
    monitor.none_for(actor.pid(), "zombie");
    monitor.none_for(actor.pid(), "lease-end");
    assert_eq!(leases_on(&file).len(), 1);
    let report = Tool::run(&["report", "-J"]).exits(0);
    assert!(report.rows("zombies", actor.pid()).is_empty(), "{report}");
    let report = Tool::run(&["report", "leases", "-J"]).exits(0);
    let rows = report.rows("leases", actor.pid());
    assert_eq!(rows.len(), 1, "{report}");
    let holders = rows[0]["holders"].as_array().expect("holders");
    let by_monitor = |holder: &&serde_json::Value| holder["pid"] == monitor.pid();
    assert_eq!(holders.iter().filter(by_monitor).count(), 1, "{report}");

    actor.ok("unregister-buffers ring");
    let end = monitor.expect_of("hold-end", actor.pid());
    assert_eq!(end["outcome"], "pins-gone", "{end}");
    assert!(eventually(|| leases_on(&file).is_empty()));
    monitor.barrier();
    monitor.none_for(actor.pid(), "zombie");
}

/// The pins came first: the lease is kept for them from when it is set.
#[test]
fn a_lease_that_comes_after_the_pins_is_held() {
    let scratch = Scratch::new();
    let enforcement = Enforcement::start(HOLD);
    let monitor = enforcement.monitor();
    let actor = Actor::start();
    actor.ok("uring ring");
    actor.ok(&format!("open f {} rw,creat,cloexec", scratch.file("f")));
    actor.all(&[
        "write-all f 1M",
        "mmap m f 1M shared rw",
        "register-buffers ring m",
        "setlease f w",
    ]);
    let held = monitor.expect_of("held", actor.pid());
    assert_eq!(held["pins"], PAGES, "{held}");
    actor.all(&["munmap m", "close f"]);
    monitor.barrier();
    monitor.none_for(actor.pid(), "zombie");
    actor.ok("unregister-buffers ring");
    monitor.expect_of("hold-end", actor.pid());
    monitor.none_for(actor.pid(), "zombie");
}

/// Who unpins first gets its lease back for good, and the monitor keeps nothing.
#[test]
fn who_plays_by_the_rules_is_kept_nothing() {
    let scratch = Scratch::new();
    let enforcement = Enforcement::start(HOLD);
    let monitor = enforcement.monitor();
    let actor = Actor::start();
    for round in 0..5 {
        let path = scratch.file(&format!("f{round}"));
        let file = open_lease_and_pin(&actor, &path);
        monitor.expect_of("held", actor.pid());
        actor.all(&[
            "unregister-buffers ring",
            "munmap m",
            "close f",
            "close ring",
        ]);
        monitor.expect_of("hold-end", actor.pid());
        assert!(eventually(|| leases_on(&file).is_empty()), "round {round}");
    }
    monitor.none_for(actor.pid(), "zombie");
    monitor.none_for(actor.pid(), "failed");
    let descriptors = format!("/proc/{}/fd", monitor.pid());
    let kept = fs::read_dir(descriptors).expect("the monitor's descriptors");
    let kept = kept.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let kept: Vec<_> = kept
        .filter(|path| path.starts_with(scratch.directory()))
        .collect();
    assert!(kept.is_empty(), "{kept:?}");
}

/// What the monitor holds ends with it, and that is said.
#[test]
fn it_lapses_with_the_monitor() {
    let scratch = Scratch::new();
    let enforcement = Enforcement::start(HOLD);
    let monitor = enforcement.monitor();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    monitor.expect_of("held", actor.pid());
    actor.all(&["munmap m", "close f"]);
    assert_eq!(leases_on(&file).len(), 1);
    let stopped = monitor.stop();
    let lapsed = stopped.lost.iter().filter(|lost| {
        let what = lost["what"].as_str().unwrap_or_default();
        what.contains("held are let go")
    });
    let lapsed: Vec<_> = lapsed.map(|lost| lost["count"].clone()).collect();
    assert_eq!(lapsed, [1], "{stopped:?}");
    assert!(eventually(|| leases_on(&file).is_empty()));
    actor.ok("unregister-buffers ring");
}

/// The monitor lets go last, of a file that another policy's rule would have its owner killed for:
/// lease-trace is neither refused nor signalled, and the owner is not made to pay for it.
#[test]
fn who_lets_go_may_be_lease_trace() {
    let scratch = Scratch::new();
    let enforcement = Enforcement::start(HOLD);
    let monitor = enforcement.monitor();
    for (number, action) in ["kill", "stop", "deny"].iter().enumerate() {
        enforcement.replace(HOLD);
        let actor = Actor::start();
        let file = open_lease_and_pin(&actor, &scratch.file(&number.to_string()));
        monitor.expect_of("held", actor.pid());
        actor.all(&["munmap m", "close f"]);
        let rule = format!("[[rule]]\nname = \"r\"\naction = \"{action}\"\n");
        let fallback = match *action {
            "deny" => "fallback = \"kill\"\n",
            _ => "",
        };
        enforcement.replace(&format!(
            "mode = \"enforce\"\nhold_limit_ms = 1\n{rule}{fallback}"
        ));
        let told = monitor.expect_of("spared", actor.pid());
        assert_eq!(told["outcome"], "spared", "{told}");
        assert_eq!(told["releaser"]["pid"], monitor.pid(), "{told}");
        assert!(leases_on(&file).is_empty());
        assert_eq!(actor.ok("pid"), actor.pid().to_string());
        actor.ok("unregister-buffers ring");
    }
    let stopped = monitor.stop();
    stopped.assert_nothing_lost();
}

/// A file is not kept for ever for a process that does not unpin.
#[test]
fn it_ends_at_its_limit() {
    let scratch = Scratch::new();
    let enforcement = Enforcement::start(&format!("hold_limit_ms = 1500\n{HOLD}"));
    let monitor = enforcement.monitor();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    monitor.expect_of("held", actor.pid());
    actor.all(&["munmap m", "close f"]);
    let end = monitor.expect_of("hold-end", actor.pid());
    assert_eq!(end["outcome"], "limit", "{end}");
    monitor.expect_of("zombie", actor.pid());
    assert!(leases_on(&file).is_empty());
    actor.ok("unregister-buffers ring");
}
