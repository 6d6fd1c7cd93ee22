//! Who has no pins of his own is refused nothing and not touched; who has is not spared for a detour.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use crate::harness::{
    Actor, Enforcement, Fate, Pinned, Scratch, Setting, eventually, open_lease_and_pin, text,
};

fn deny() -> String {
    "mode = \"enforce\"\n[[rule]]\nname = \"r\"\naction = \"deny\"\nfallback = \"report\"\n"
        .to_owned()
}

/// A lease and pins, and the descriptor is sent to somebody else: to let go of that is no breach of his, and no
/// program expects close(2) to fail.
#[test]
fn who_was_sent_a_descriptor_can_close_it() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let enforcement = Enforcement::start(&deny());
    let monitor = enforcement.monitor();
    let owner = Actor::start();
    let file = open_lease_and_pin(&owner, &scratch.file("f"));
    owner.fork("daemon");
    owner.all(&[
        "daemon: munmap m",
        "daemon: close ring",
        "daemon: close f",
        "munmap m",
        "send-fd f daemon",
        "close f",
        "daemon: recv-fd f parent",
        "daemon: close f",
    ]);
    let zombie = monitor.expect_of("zombie", owner.pid());
    assert_eq!(text(&zombie, "path"), file.path, "{zombie}");
    if enforcement.deniable().contains(&"close".to_owned()) {
        let spared = monitor.expect_of("spared", owner.pid());
        assert_eq!(text(&spared, "action"), "deny", "{spared}");
    } else {
        monitor.expect_of("reported", owner.pid());
    }
    monitor.none_for(owner.pid(), "denied");
    owner.ok("close ring");
    pinned.assert_balanced();
}

/// An unlock through a shared open file description, too.
#[test]
fn who_inherited_a_descriptor_can_unlock_it() {
    let scratch = Scratch::new();
    let enforcement = Enforcement::start(&deny());
    let monitor = enforcement.monitor();
    let owner = Actor::start();
    open_lease_and_pin(&owner, &scratch.file("f"));
    owner.fork("child");
    owner.ok("child: setlease f u");
    monitor.expect_of("spared", owner.pid());
    owner.ok("unregister-buffers ring");
    assert_eq!(owner.ok("pid"), owner.pid().to_string());
}

/// The end of a thread is none of the process: a rule that kills applies to the process.
#[test]
fn a_thread_with_a_table_of_its_own_spares_nobody() {
    let scratch = Scratch::new();
    let rule = "mode = \"enforce\"\n[[rule]]\nname = \"r\"\naction = \"kill\"\n";
    let enforcement = Enforcement::start(rule);
    let monitor = enforcement.monitor();
    let mut actor = Actor::start();
    open_lease_and_pin(&actor, &scratch.file("f"));
    actor.all(&["munmap m", "begin-own-table t", "close f"]);
    monitor.none_for(actor.pid(), "killed");
    // A task that is exiting is sent no signal by the kernel's programs; the monitor sends it.
    let first = actor.fate("finish t");
    let killed = monitor.expect_of("killed", actor.pid());
    assert_eq!(text(&killed, "cause"), "thread-exit", "{killed}");
    if first == Fate::Ok {
        let stat = format!("/proc/{}/stat", actor.pid());
        let is_dead = || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z "));
        assert!(eventually(is_dead), "{:?}", fs::read_to_string(&stat));
    }
}

/// A look at close_range(2) takes as long as there are descriptors, not as the square of that: 50,000 would be
/// minutes.
#[test]
fn many_descriptors_of_one_file_make_no_call_long() {
    const MANY: u32 = 50_000;
    const LONG: Duration = Duration::from_secs(20);
    let scratch = Scratch::new();
    let enforcement = Enforcement::start(&deny());
    let actor = Actor::start();
    actor.ok("open-files 1048576");
    // Its mapping keeps the file whatever is closed.
    open_lease_and_pin(&actor, &scratch.file("f"));
    actor.all(&["dup f first", &format!("dup-many f {MANY}"), "dup f last"]);
    let begun = Instant::now();
    actor.ok("close_range first last");
    let took = begun.elapsed();
    assert!(took < LONG, "{took:?}");
    assert_eq!(enforcement.hits("r"), serde_json::json!({}));
}

/// However many files one call would let go of, the one with pins is found behind those without.
#[test]
fn a_file_with_pins_is_found_behind_others() {
    let scratch = Scratch::new();
    let enforcement = Enforcement::start(&deny());
    let mut actor = Actor::start();
    actor.ok(&format!("open first {} rw,creat", scratch.file("first")));
    actor.ok("setlease first w");
    for n in 0..20 {
        actor.ok(&format!(
            "open f{n} {} rw,creat",
            scratch.file(&format!("f{n}"))
        ));
        actor.ok(&format!("setlease f{n} w"));
    }
    open_lease_and_pin(&actor, &scratch.file("f"));
    actor.all(&["munmap m", "dup f last"]);
    let can_deny = enforcement.deniable().contains(&"close_range".to_owned());
    let expected = if can_deny {
        Fate::Refused(libc::EBUSY)
    } else {
        Fate::Ok
    };
    assert_eq!(actor.fate("close_range first last"), expected);
}

/// A break by another user, which a holder with pins may be unable to obey, is a breach only under rules that name
/// it; one's own is a breach like any other.
#[test]
fn a_break_by_another_user_is_judged_only_where_a_rule_says_so() {
    let _short = Setting::set("fs/lease-break-time", "2");
    let scratch = Scratch::new();
    let kill = "mode = \"enforce\"\n[[rule]]\nname = \"r\"\naction = \"kill\"\n";
    let enforcement = Enforcement::start(kill);
    let monitor = enforcement.monitor();
    for (name, uid, event) in [("others", 1000, "zombie"), ("own", 0, "killed")] {
        let holder = Actor::start();
        let file = open_lease_and_pin(&holder, &scratch.file(name));
        let mode = fs::Permissions::from_mode(0o666);
        fs::set_permissions(&file.path, mode).expect("its mode");
        let other = Actor::start();
        if uid != 0 {
            other.ok(&format!("setuid {uid}"));
        }
        other.ok(&format!("open g {} rw", file.path));
        let told = monitor.expect_of(event, holder.pid());
        assert_eq!(text(&told, "cause"), "break-timeout", "{told}");
        if uid != 0 {
            monitor.barrier();
            monitor.none_for(holder.pid(), "killed");
            assert_eq!(holder.ok("pid"), holder.pid().to_string());
            assert_eq!(enforcement.hits("r"), serde_json::json!({}));
        }
    }
}
