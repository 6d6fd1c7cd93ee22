//! The books are held against the kernel's own: what a hook has missed.

use std::time::Duration;

use serde_json::Value;

use crate::harness::{
    Actor, Fate, Holder, Monitor, PAGES, Pinned, ReleasePath, Scratch, Setting, Subject, Tool,
    cannot, deniable_here, expect_zombie, leases_on, no_monitor, open_lease_and_pin,
    pin_without_lease, release_paths,
};

/// Kprobes of this kind do not run while this is in force, and nothing counts that.
fn no_kprobes() -> Setting {
    Setting::of_sysfs("kernel/debug/kprobes/enabled", "0")
}

fn expect_corrected(monitor: &Monitor, file: &Subject, counted: i64, found: i64) {
    let event = monitor.expect("corrected", |event| {
        event["dev"] == file.dev.as_str() && event["ino"] == file.ino
    });
    assert_eq!(event["path"], file.path.as_str(), "{event}");
    assert_eq!(event["pins_counted"], counted, "{event}");
    assert_eq!(event["pins_found"], found, "{event}");
}

fn pins_of(actor: &Actor) -> Value {
    let report = Tool::beside(&["report", "stakes", "-J"]).finish().exits(0);
    let rows = report.rows("stakes", actor.pid());
    assert_eq!(rows.len(), 1, "{rows:?}");
    rows[0]["pins"].clone()
}

/// A release that no hook saw: the pins go from the books as soon as the page cache is looked at, and the
/// lease may go after them.
#[test]
fn a_release_that_was_missed_is_found() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::with(&["--all-events", "--attach", "kprobe"]);
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    {
        let _off = no_kprobes();
        actor.ok("unregister-buffers ring");
    }
    expect_corrected(&monitor, &file, PAGES, 0);
    assert_eq!(pins_of(&actor), 0);
    actor.ok("setlease f u");
    monitor.barrier();
    monitor.none_for(actor.pid(), "zombie");
    pinned.assert_balanced();
}

/// Of two processes it is not known whose pins went unseen: both are marked, in reports and in events, until one
/// is left.
#[test]
fn whose_pins_are_gone_is_doubtful() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::with(&["--all-events", "--attach", "kprobe"]);
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    let child = actor.fork("child");
    actor.all(&["child: uring own", "child: register-buffers own m"]);
    {
        let _off = no_kprobes();
        actor.ok("unregister-buffers ring");
    }
    expect_corrected(&monitor, &file, 2 * PAGES, PAGES);
    let lost = monitor.expect("lost", |lost| {
        lost["what"] == "pin releases could not be credited to one owner"
    });
    assert_eq!(lost["count"], PAGES, "{lost}");
    let report = Tool::beside(&["report", "stakes", "-J"]).finish().exits(0);
    for pid in [actor.pid(), child] {
        let rows = report.rows("stakes", pid);
        assert_eq!(rows.len(), 1, "{rows:?}");
        assert_eq!(
            (&rows[0]["pins"], &rows[0]["doubtful"]),
            (&PAGES.into(), &true.into())
        );
    }
    let table = Tool::beside(&["report", "stakes", "-n", "-o", "PINS"]);
    let table = table.finish().exits(0);
    assert_eq!(table.stdout, "~256\n~256\n");
    actor.ok("setlease f u");
    for pid in [actor.pid(), child] {
        let zombie = monitor.expect_of("zombie", pid);
        assert_eq!(zombie["doubtful"], true, "{zombie}");
    }
    actor.ok("child: unregister-buffers own");
    for pid in [actor.pid(), child] {
        let rest = monitor.expect_of("at-rest", pid);
        assert_eq!(rest["path"], file.path.as_str(), "{rest}");
    }
    actor.ok("register-buffers ring m");
    let report = Tool::beside(&["report", "stakes", "-J"]).finish().exits(0);
    let rows = report.rows("stakes", actor.pid());
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(
        (&rows[0]["pins"], &rows[0]["doubtful"]),
        (&PAGES.into(), &Value::Null)
    );
    actor.ok("unregister-buffers ring");
    pinned.assert_balanced();
}

/// What `doctor --check` finds, and the exit status by which it says so.
fn checked(code: i32) -> Value {
    Tool::run(&["doctor", "--check", "-J"]).exits(code).json()
}

/// Without a monitor nobody takes out what a missed hook has left: a check finds it, and again nothing once a
/// monitor has come.
#[test]
fn a_check_finds_pins_that_are_gone() {
    no_monitor();
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let policy = scratch.file("policy.toml");
    std::fs::write(&policy, "[[rule]]\nname = \"r\"\naction = \"report\"\n").expect("writes");
    Tool::run(&[
        "enforce", "start", "--attach", "kprobe", "--policy", &policy,
    ])
    .exits(0);
    let (actor, other) = (Actor::start(), Actor::start());
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    open_lease_and_pin(&other, &scratch.file("g"));
    let found = checked(0);
    assert_eq!(found["compared"], 2, "{found}");
    {
        let _off = no_kprobes();
        actor.ok("unregister-buffers ring");
    }
    let found = checked(1);
    let told = found["violations"].as_array().expect("a list");
    assert_eq!(told.len(), 1, "{found}");
    assert_eq!(told[0]["rule"], "page-cache", "{found}");
    assert_eq!(told[0]["subject"]["inode"]["ino"], file.ino, "{found}");
    assert_eq!(
        (&told[0]["found"], &told[0]["expected"]),
        (&PAGES.into(), &0.into()),
        "{found}"
    );
    let ran = Tool::run(&["doctor", "--check"]).exits(1);
    let said = format!("it counts {PAGES} pins, and the kernel has 0 there");
    assert!(ran.stdout.contains(&said), "{ran}");
    assert!(ran.stdout.ends_with("1 thing is wrong\n"), "{ran}");
    {
        let monitor = Monitor::of_enforcement();
        expect_corrected(&monitor, &file, PAGES, 0);
        let found = checked(0);
        assert_eq!(found["compared"], 1, "{found}");
    }
    other.ok("unregister-buffers ring");
    pinned.assert_balanced();
    Tool::run(&["enforce", "stop"]).exits(0);
}

/// Of a zombie whose pins went unseen the rest is told.
#[test]
fn a_zombie_whose_end_was_missed_is_laid_to_rest() {
    let scratch = Scratch::new();
    let monitor = Monitor::with(&["--all-events", "--attach", "kprobe"]);
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok("setlease f u");
    expect_zombie(&monitor, actor.pid(), &file, "unlock");
    {
        let _off = no_kprobes();
        actor.ok("unregister-buffers ring");
    }
    let rest = monitor.expect_of("at-rest", actor.pid());
    assert_eq!(rest["path"], file.path.as_str(), "{rest}");
    expect_corrected(&monitor, &file, PAGES, 0);
}

/// Whoever let go of everything in the right order is not refused for what a hook missed.
#[test]
fn nobody_is_denied_for_pins_that_are_gone() {
    no_monitor();
    let scratch = Scratch::new();
    let policy = format!(
        "mode = \"enforce\"\n[[rule]]\nname = \"all\"\nmatch.path = \"{}\"\naction = \"deny\"\n\
         fallback = \"report\"\n",
        scratch.directory().display()
    );
    let path = scratch.file("policy.toml");
    std::fs::write(&path, policy).expect("writes the policy");
    let monitor = Monitor::with(&["--attach", "kprobe", "--policy", &path]);
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.err("setlease f u", libc::EBUSY);
    {
        let _off = no_kprobes();
        actor.ok("unregister-buffers ring");
    }
    expect_corrected(&monitor, &file, PAGES, 0);
    actor.ok("setlease f u");
}

/// Whoever lets go in the right order is neither refused nor killed, at the very moment when the hook on
/// the drop was missed: wherever the release can be denied, the page cache is looked at before.
#[test]
fn nobody_is_punished_for_pins_that_are_gone() {
    no_monitor();
    let deniable = deniable_here();
    for action in ["deny", "kill"] {
        let scratch = Scratch::new();
        let policy = format!(
            "mode = \"enforce\"\n[[rule]]\nname = \"all\"\nmatch.path = \"{}\"\n\
             match.cause = {deniable:?}\naction = \"{action}\"\n",
            scratch.directory().display()
        );
        let path = scratch.file("policy.toml");
        std::fs::write(&path, policy).expect("writes the policy");
        let monitor = Monitor::with(&["--all-events", "--attach", "kprobe", "--policy", &path]);
        for (number, way) in release_paths().iter().enumerate() {
            if deniable.iter().any(|cause| way.is_own_call_of(cause)) {
                is_not_punished(way, &scratch.file(&number.to_string()));
            }
        }
        assert_eq!(monitor.all("zombie"), Vec::<Value>::new(), "{action}");
        is_punished(&monitor, action, &scratch.file("in-force"));
    }
}

fn is_not_punished(way: &ReleasePath, path: &str) {
    let pinned = Pinned::now();
    let mut actor = Actor::start();
    let file = open_lease_and_pin(&actor, path);
    way.prepare(&actor, Holder::Ring);
    {
        let _off = no_kprobes();
        actor.ok("unregister-buffers ring");
    }
    assert_eq!(way.take(&mut actor, &file), Fate::Ok, "{}", way.name);
    assert!(leases_on(&file).is_empty(), "{}", way.name);
    assert_eq!(pinned.since(), 0, "{}", way.name);
}

/// The rule is in force, and whoever unlocks too early meets it.
fn is_punished(monitor: &Monitor, action: &str, path: &str) {
    let mut actor = Actor::start();
    let file = open_lease_and_pin(&actor, path);
    let fate = actor.fate("setlease f u");
    let (expected, event) = match action {
        "deny" => (Fate::Refused(libc::EBUSY), "denied"),
        _ => (Fate::Killed(libc::SIGKILL), "killed"),
    };
    assert_eq!(fate, expected, "{action}");
    let told = monitor.expect_of(event, actor.pid());
    assert_eq!(told["path"], file.path.as_str(), "{told}");
}

/// Of pins that are older than the monitor nothing is said: the books may be too low, and what is there may be
/// somebody else's.
#[test]
fn older_pins_are_nobodys() {
    no_monitor();
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let actor = Actor::start();
    let file = pin_without_lease(&actor, &scratch.file("f"));
    let monitor = Monitor::alone();
    let other = Actor::start();
    other.all(&[
        "uring later",
        &format!("open g {} rw", file.path),
        "mmap n g 64K shared rw",
        "register-buffers later n",
    ]);
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(pins_of(&other), 16);
    other.ok("unregister-buffers later");
    let report = Tool::beside(&["report", "stakes", "-J"]).finish().exits(0);
    assert!(report.rows("stakes", other.pid()).is_empty(), "{report}");
    actor.ok("unregister-buffers ring");
    monitor.barrier();
    assert!(monitor.all("corrected").is_empty());
    pinned.assert_balanced();
}

/// A user who has very many files under lease, and folios that were truncated while pinned, does not keep the
/// monitor from anything.
#[test]
fn very_many_files_take_no_longer() {
    let scratch = Scratch::new();
    let monitor = Monitor::alone();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok("truncate f 0");
    actor.ok("open-files 12000");
    std::fs::create_dir(scratch.file("files")).expect("a directory");
    actor.ok_within(
        Duration::from_mins(2),
        &format!("crowd c 100 100 {}", scratch.file("files")),
    );
    actor.ok("setlease f u");
    let zombie = monitor.expect_of("zombie", actor.pid());
    assert_eq!(zombie["path"], file.path.as_str(), "{zombie}");
    actor.ok_within(Duration::from_mins(2), "crowd-end c");
    assert!(monitor.all("corrected").is_empty());
}

/// Large folios, pages behind a hole, and pages that have left the file: none of them is found wrong.
#[test]
fn what_is_right_stays_as_it_is() {
    let scratch = Scratch::huge("always", "size=64M");
    let pinned = Pinned::now();
    let monitor = Monitor::alone();
    let actor = Actor::start();
    let path = scratch.file("f");
    actor.ok("uring ring");
    actor.ok(&format!("open f {path} rw,creat,cloexec"));
    actor.all(&[
        "truncate f 16M",
        "setlease f w",
        "mmap m f 8M shared rw",
        "touch m",
        "register-buffers ring m",
        "truncate f 4M",
    ]);
    // Longer than it takes until something is corrected.
    std::thread::sleep(Duration::from_secs(4));
    monitor.barrier();
    let corrected = monitor.all("corrected");
    assert!(corrected.is_empty(), "{corrected:?}");
    let held = pinned.since();
    assert!(held > 0 && pins_of(&actor) == held, "{held}");
    let found = checked(0);
    assert_eq!(found["compared"], 1, "{found}");
    actor.all(&["unregister-buffers ring", "setlease f u"]);
    monitor.barrier();
    monitor.none_for(actor.pid(), "zombie");
    pinned.assert_balanced();
}

/// Ends of leases that no hook saw: what has pins is told as a zombie of which nobody knows who let go, and nothing
/// stays in the books.
#[test]
fn ends_of_leases_that_were_missed_are_found() {
    let scratch = Scratch::new();
    let monitor = Monitor::that_logs(&["--attach", "kprobe"]);
    let (idle, pinner) = (Actor::start(), Actor::start());
    idle.ok(&format!("open f {} rw,creat", scratch.file("idle")));
    idle.ok("setlease f w");
    let file = open_lease_and_pin(&pinner, &scratch.file("pinned"));
    {
        let _off = no_kprobes();
        idle.ok("close f");
        pinner.ok("setlease f u");
    }
    let zombie = monitor.expect_of("zombie", pinner.pid());
    assert_eq!(zombie["ino"], file.ino, "{zombie}");
    assert_eq!(zombie["cause"], "other", "{zombie}");
    assert_eq!(zombie["releaser"], Value::Null, "{zombie}");
    assert_eq!(zombie["pins"], PAGES, "{zombie}");
    monitor.expect("lost", |lost| {
        let what = lost["what"].as_str();
        what.is_some_and(|what| what.contains("that were gone"))
    });
    monitor.expect_logged("that were gone");
    assert_eq!(checked(0)["leases"], 0);
    pinner.ok("unregister-buffers ring");
    monitor.expect_of("at-rest", pinner.pid());
}

/// A plain kretprobe misses a return while ten others are awaited (kernel/kprobes.c, `register_kretprobe`). What is kept
/// of such a call goes with its thread.
#[test]
fn a_call_whose_return_was_missed_ends_with_its_thread() {
    const CALLS: usize = 24;
    let scratch = Scratch::new();
    let monitor = Monitor::that_logs(&["--attach", "kprobe"]);
    let mut actor = Actor::start();
    actor.all(&[
        &format!("open f {} rw,creat", scratch.file("f")),
        "truncate f 1M",
        "mmap m f 1M shared rw",
        "uffd u m",
    ]);
    for number in 0..CALLS {
        actor.ok(&format!("uring r{number}"));
        actor.ok(&format!(
            "begin c{number} register-buffers r{number} m 0 4K"
        ));
    }
    if !actor.waits_in("userfault") {
        // 6.1 pins here without letting the lock of the address space go, so that no page can be waited for.
        let refused = actor.attempt("finish c0").expect_err("it did not wait");
        assert_eq!(refused.errno, libc::EFAULT, "{refused:?}");
        cannot("wait for a page inside a pin call", libc::EFAULT);
        return;
    }
    actor.ok("close u");
    for number in 0..CALLS {
        // What becomes of a call whose page is not there any more is the kernel's affair.
        _ = actor.attempt(&format!("finish c{number}"));
    }
    let check = Tool::run(&["doctor", "--check"]);
    eprintln!("{check}");
    actor.end("exit 0");
    monitor.expect("lost", |lost| {
        let what = lost["what"].as_str();
        what.is_some_and(|what| what.contains("a return was missed"))
    });
    monitor.expect_logged("a return was missed");
    Tool::run(&["doctor", "--check"]).exits(0);
    monitor.stop();
}
