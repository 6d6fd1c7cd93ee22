//! `lease-trace run`: what would release a lease with pins left waits until they are gone.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::time::Duration;

use crate::book;
use crate::harness::{
    Enforcement, Fate, Leftovers, Monitor, Pinned, Scratch, Supervised, Tool, expect_rest,
    expect_zombie, interrupt_pid, kill, leases_on, open_lease_and_pin, run_to_end,
};

const WAITS: &str = "waits: 256 pins on";

/// The client, as the command of a `run` in a `run`, or of another program.
fn client() -> OsString {
    std::env::var_os("CLIENT").expect("CLIENT names the actor's program")
}

/// The calls that release, with what comes before each.
const WAYS: [(&[&str], &str); 10] = [
    (&["munmap m"], "close f"),
    (&["munmap m"], "close-32 f"),
    (&["munmap m"], "close_range f f"),
    (&["munmap m", "memfd o 4K"], "dup2 o f"),
    (&["munmap m", "memfd o 4K"], "dup3 o f"),
    (&["close f"], "munmap m"),
    (&["close f", "memfd o 1M"], "mmap-over m 0 o 1M shared ro"),
    (&["close f", "mmap-anon o 1M private"], "mremap-over o m"),
    (&[], "setlease f u"),
    (&[], "setlease-32 f u"),
];

/// The unlock of `f` waits, on a thread of its own, until the ring has given its buffers back.
#[track_caller]
fn unlock_waits_until_unregistered(actor: &Supervised) {
    actor.ok("begin releasing setlease f u");
    actor.says(WAITS);
    actor.ok("unregister-buffers ring");
    actor.ok("finish releasing");
}

/// Each on a thread of its own, while another goes on and unregisters.
#[test]
fn a_release_waits_until_another_thread_has_unpinned() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let actor = Supervised::start(&[]);
    for (number, (before, release)) in WAYS.into_iter().enumerate() {
        let file = open_lease_and_pin(&actor, &scratch.file(&number.to_string()));
        actor.all(before);
        actor.ok(&format!("begin releasing {release}"));
        actor.says(&format!("{WAITS} {}", file.path));
        monitor.barrier();
        monitor.none_for(actor.pid(), "zombie");
        assert_eq!(leases_on(&file).len(), 1, "{release}: the lease is there");
        actor.ok("unregister-buffers ring");
        actor.ok("finish releasing");
        assert!(leases_on(&file).is_empty(), "{release}: the lease is gone");
        actor.tidy_up();
    }
    actor.says("goes on after");
    monitor.barrier();
    monitor.none_for(actor.pid(), "zombie");
    pinned.assert_balanced();
}

/// The kernel's own delegations, where there are any (F_SETDELEG, 6.19).
#[test]
fn the_unlock_of_a_delegation_waits() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Supervised::start(&[]);
    actor.ok(&format!("open g {} rw,creat", scratch.file("g")));
    if let Err(refusal) = actor.attempt("setdeleg g w") {
        assert_eq!(refusal.errno, libc::EINVAL, "{refusal}");
        crate::harness::cannot("F_SETDELEG", refusal.errno);
        return;
    }
    actor.ok("setdeleg g u");
    actor.all(&["uring ring", "write-all g 1M", "setdeleg g w"]);
    actor.all(&["mmap m g 1M shared rw", "register-buffers ring m"]);
    actor.ok("begin releasing setdeleg g u");
    actor.says(WAITS);
    actor.ok("unregister-buffers ring");
    actor.ok("finish releasing");
    monitor.barrier();
    monitor.none_for(actor.pid(), "zombie");
}

/// Only what is last lets the lease go: a duplicate, a mapping or a child keeps it.
#[test]
fn what_releases_nothing_does_not_wait() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Supervised::start(&[]);
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.all(&["dup f g", "close f", "munmap m", "memfd o 4K", "close o"]);
    let _child = actor.fork("child");
    actor.ok("close g");
    assert_eq!(leases_on(&file).len(), 1, "the child has it");
    actor.ok("child: close ring");
    // The child's is the last now, and the pins are the parent's.
    actor.tell("child: close g");
    actor.says(&format!(
        "256 pins of client[{}] on {}",
        actor.pid(),
        file.path
    ));
    interrupt_pid(actor.pid(), libc::SIGKILL);
    actor.is_left_alone();
    monitor.barrier();
    // Its pins are orphaned for as long as the child keeps the lease, and told so if that is long enough.
    monitor.none_for(actor.pid(), "zombie");
}

/// The parent's unlock would leave its child's pins uncovered; it is the child that lets it go on.
#[test]
fn a_release_waits_for_the_pins_of_a_child() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Supervised::start(&[]);
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    let child = actor.fork("child");
    actor.all(&["child: uring own", "child: register-buffers own m"]);
    actor.ok("unregister-buffers ring");
    actor.ok("begin releasing setlease f u");
    actor.says(&format!("256 pins of client[{child}] on {}", file.path));
    assert_eq!(leases_on(&file).len(), 1);
    actor.ok("child: unregister-buffers own");
    actor.ok("finish releasing");
    assert!(leases_on(&file).is_empty());
    monitor.barrier();
    for pid in [actor.pid(), child] {
        monitor.none_for(pid, "zombie");
    }
}

/// One thread that closes the leased file before the ring would wait for ever: a signal frees it,
/// and so do its pins.
#[test]
fn sigkill_frees_whoever_waits_for_itself() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let mut actor = Supervised::start(&[]);
    actor.all(&["open null /dev/null rw", "move-fd null 30"]);
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.all(&["move-fd f 10", "move-fd ring 15", "munmap m"]);
    actor.tell("close f");
    actor.says(&format!("close(10) of client[{}] {WAITS}", actor.pid()));
    interrupt_pid(actor.pid(), libc::SIGKILL);
    assert_eq!(actor.actor_mut().ends(), Fate::Killed(libc::SIGKILL));
    actor.is_left_alone();
    pinned.assert_balanced();
    assert!(leases_on(&file).is_empty());
    monitor.barrier();
}

/// A handler without SA_RESTART gets EINTR, with nothing done; one with it waits on.
#[test]
fn a_handler_interrupts_the_wait() {
    let scratch = Scratch::new();
    let _monitor = Monitor::start();
    let actor = Supervised::start(&[]);
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.all(&["munmap m", "signals catch USR1"]);
    actor.tell("close f");
    actor.says(WAITS);
    interrupt_pid(actor.pid(), libc::SIGUSR1);
    let refused = actor.answer(Duration::from_secs(30), "close f");
    assert_eq!(refused.expect_err("EINTR").errno, libc::EINTR);
    assert_eq!(leases_on(&file).len(), 1, "the descriptor is still open");
    actor.says("was interrupted after");

    actor.ok("signals catch-restart USR1");
    actor.tell("close f");
    actor.says_times(WAITS, 2);
    interrupt_pid(actor.pid(), libc::SIGUSR1);
    // The call is made again by the kernel, and waits again.
    actor.says_times(WAITS, 3);
    interrupt_pid(actor.pid(), libc::SIGTERM);
    actor.is_left_alone();
}

#[test]
fn an_exit_waits_for_nothing() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let mut actor = Supervised::start(&[]);
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    assert_eq!(actor.actor_mut().fate("exit 7"), Fate::Exited(7));
    actor.is_left_alone();
    assert!(!actor.said().contains("waits"), "{}", actor.said());
    expect_zombie(&monitor, actor.pid(), &file, "exit");
    expect_rest(&monitor, actor.pid(), &file);
    pinned.assert_balanced();
}

/// Of a thousand threads that close a duplicate each, the last waits and the others do not.
#[test]
fn a_thousand_threads_close_at_once() {
    const THREADS: usize = 1000;
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Supervised::start(&[]);
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.all(&["munmap m", "open-files 4096"]);
    actor.ok_within(
        Duration::from_mins(2),
        &format!("begin-closing crowd f {THREADS}"),
    );
    actor.says_within(Duration::from_mins(3), WAITS);
    assert_eq!(leases_on(&file).len(), 1, "one has it still");
    monitor.barrier();
    monitor.none_for(actor.pid(), "zombie");
    actor.ok("unregister-buffers ring");
    let closed = actor.ok_within(Duration::from_mins(2), "finish crowd");
    assert_eq!(closed, THREADS.to_string());
    assert!(leases_on(&file).is_empty());
    monitor.barrier();
    monitor.none_for(actor.pid(), "zombie");
}

#[test]
fn a_denied_release_is_busy_whatever_it_is() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Supervised::start(&["--on-release", "deny"]);
    for (number, (before, release)) in WAYS.into_iter().enumerate() {
        let file = open_lease_and_pin(&actor, &scratch.file(&number.to_string()));
        actor.all(before);
        actor.err(release, libc::EBUSY);
        assert_eq!(leases_on(&file).len(), 1, "{release}");
        actor.ok("unregister-buffers ring");
        actor.ok(release);
        assert!(leases_on(&file).is_empty(), "{release}");
        actor.tidy_up();
    }
    let file = open_lease_and_pin(&actor, &scratch.file("exec"));
    actor.all(&["munmap m", "cloexec ring off"]);
    actor.err("exec-self", libc::EBUSY);
    assert_eq!(leases_on(&file).len(), 1);
    actor.ok("unregister-buffers ring");
    actor.ok("exec-self");
    assert!(leases_on(&file).is_empty());
    monitor.barrier();
    monitor.none_for(actor.pid(), "zombie");
    actor.says("fails with EBUSY: 256 pins on");
}

#[test]
fn a_release_can_be_the_end_of_its_process() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let _monitor = Monitor::start();
    let mut actor = Supervised::start(&["--on-release", "kill"]);
    open_lease_and_pin(&actor, &scratch.file("f"));
    let fate = actor.actor_mut().fate("setlease f u");
    assert_eq!(fate, Fate::Killed(libc::SIGKILL));
    actor.is_left_alone();
    assert!(actor.said().contains("is killed: 256 pins on"));
    pinned.assert_balanced();
}

/// SIGSTOP at the spot, for a debugger; once it goes on, it waits.
#[test]
fn a_release_can_stop_its_process() {
    let scratch = Scratch::new();
    let _monitor = Monitor::start();
    let mut actor = Supervised::start(&["--on-release", "stop"]);
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    assert_eq!(actor.actor_mut().fate("setlease f u"), Fate::Stopped);
    assert_eq!(leases_on(&file).len(), 1);
    actor.go_on(false);
    actor.says(WAITS);
    assert_eq!(leases_on(&file).len(), 1);
    interrupt_pid(actor.pid(), libc::SIGTERM);
    actor.is_left_alone();
}

/// What is let go goes, and is told by both.
#[test]
fn a_release_that_is_only_reported_goes_through() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Supervised::start(&["--on-release", "report"]);
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok("setlease f u");
    actor.says("lets a lease go: 256 pins on");
    expect_zombie(&monitor, actor.pid(), &file, "unlock");
    actor.ok("close ring");
    expect_rest(&monitor, actor.pid(), &file);
}

/// The first rule that matches decides, in the words of the policy.
#[test]
fn rules_decide() {
    let scratch = Scratch::new();
    let _monitor = Monitor::start();
    let (kept, other) = (scratch.file("kept"), scratch.file("other"));
    fs::create_dir(&kept).expect("a directory");
    fs::create_dir(&other).expect("a directory");
    let policy = scratch.file("policy.toml");
    let text = format!(
        "mode = \"enforce\"\n\
         [[rule]]\nname = \"large\"\naction = \"report\"\nmatch.min_pins = 257\n\
         [[rule]]\nname = \"rings\"\naction = \"deny\"\nfallback = \"report\"\n\
         match.path = \"{kept}\"\nmatch.consumer = \"io_uring\"\nmatch.comm = \"cli*\"\n\
         match.cause = \"close\"\n\
         [[rule]]\nname = \"held\"\naction = \"hold\"\nfallback = \"report\"\nmatch.path = \"{kept}\"\n"
    );
    fs::write(&policy, text).expect("writes the policy");
    let actor = Supervised::start(&["--policy", &policy]);
    open_lease_and_pin(&actor, &format!("{kept}/f"));
    actor.ok("munmap m");
    actor.err("close f", libc::EBUSY);
    actor.says("fails with EBUSY, by rule rings: 256 pins on");
    actor.ok("begin releasing setlease f u");
    actor.says("waits, by rule held: 256 pins on");
    actor.ok("unregister-buffers ring");
    actor.ok("finish releasing");
    actor.tidy_up();
    // No rule matches there.
    open_lease_and_pin(&actor, &format!("{other}/f"));
    actor.ok("setlease f u");
    actor.says("lets a lease go: 256 pins on");
}

/// Nobody watches: it watches itself, tells what slips by, and leaves nothing.
#[test]
fn it_watches_itself_where_nobody_does() {
    let leftovers = Leftovers::before();
    let scratch = Scratch::new();
    let mut actor = Supervised::start(&[]);
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok("munmap m");
    actor.ok("begin releasing close f");
    actor.says(WAITS);
    actor.ok("unregister-buffers ring");
    actor.ok("finish releasing");
    actor.tidy_up();
    // A close in the ring is no system call of the thread's.
    open_lease_and_pin(&actor, &scratch.file("g"));
    actor.ok("munmap m");
    actor.ok("uring-close f caller");
    actor.says("zombie: client[");
    assert!(leases_on(&file).is_empty());
    assert_eq!(actor.actor_mut().fate("exit 0"), Fate::Exited(0));
    actor.is_left_alone();
    leftovers.assert_none();
}

/// Enforcement that is in place is enough to know of leases and pins.
#[test]
fn it_stands_on_the_enforcement_in_place() {
    let scratch = Scratch::new();
    let enforcement =
        Enforcement::start("mode = \"audit\"\n[[rule]]\nname = \"all\"\naction = \"report\"\n");
    let actor = Supervised::start(&[]);
    open_lease_and_pin(&actor, &scratch.file("f"));
    unlock_waits_until_unregistered(&actor);
    drop(enforcement);
}

/// The supervisor dies while a call waits: it goes through, and so does whatever comes after.
#[test]
fn a_dead_supervisor_lets_everything_through() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Supervised::start(&[]);
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok("begin releasing setlease f u");
    actor.says(WAITS);
    let [supervisor, _] = Supervised::watchers();
    kill(supervisor);
    actor.ok("finish releasing");
    actor.says("from now on every release goes through");
    expect_zombie(&monitor, actor.pid(), &file, "unlock");
    actor.tidy_up();
    open_lease_and_pin(&actor, &scratch.file("g"));
    actor.all(&["munmap m", "close f", "exec-self"]);
}

/// The same, closed: whoever waits and whoever comes is killed.
#[test]
fn a_dead_supervisor_can_be_the_end() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let _monitor = Monitor::start();
    let mut actor = Supervised::start(&["--on-supervisor-death", "closed"]);
    open_lease_and_pin(&actor, &scratch.file("f"));
    actor.tell("setlease f u");
    actor.says(WAITS);
    let [supervisor, _] = Supervised::watchers();
    kill(supervisor);
    assert_eq!(actor.actor_mut().ends(), Fate::Killed(libc::SIGKILL));
    actor.is_left_alone();
    assert!(actor.said().contains("is killed"), "{}", actor.said());
    pinned.assert_balanced();
}

/// The inner one becomes its command under the outer.
#[test]
fn a_run_in_a_run_is_the_outers() {
    let scratch = Scratch::new();
    let _monitor = Monitor::start();
    let tool = std::env::var_os("LEASE_TRACE").expect("LEASE_TRACE names the tool");
    let inner = ["run", "--on-release", "report", "--"].map(OsString::from);
    let command: Vec<_> = [tool].into_iter().chain(inner).chain([client()]).collect();
    let actor = Supervised::start_command(&[], &command);
    actor.says("this runs under another");
    open_lease_and_pin(&actor, &scratch.file("f"));
    unlock_waits_until_unregistered(&actor);
}

/// A filter of the command's own is on top of this one; a listener of its own it cannot have.
#[test]
fn a_command_has_filters_of_its_own() {
    let scratch = Scratch::new();
    let _monitor = Monitor::start();
    let actor = Supervised::start(&[]);
    actor.err("seccomp listen", libc::EBUSY);
    actor.ok("seccomp forbid");
    actor.err("hang-up", libc::EXDEV);
    open_lease_and_pin(&actor, &scratch.file("f"));
    unlock_waits_until_unregistered(&actor);
}

/// What would run with more than its caller has does not run at all.
#[test]
fn a_program_that_gains_by_exec_is_refused() {
    let scratch = Scratch::new();
    let _monitor = Monitor::start();
    let program = scratch.file("setuid");
    fs::copy(client(), &program).expect("copies the client");
    chown(&program, Some(1000), Some(1000)).expect("chown");
    for (mode, word) in [(0o4755, "set-user-ID"), (0o2755, "set-group-ID")] {
        fs::set_permissions(&program, fs::Permissions::from_mode(mode)).expect("chmod");
        let ran = run_to_end(&[], &[OsString::from(&program)], "");
        ran.exits(126).says(&[word, "cannot execute", "EPERM"]);
    }
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("chmod");
    run_to_end(&[], &[OsString::from(&program)], "exit 0\n").exits(0);
}

/// While one thread waits to close a descriptor, another puts something else in its place: it is
/// that which is closed in the end, and the lease is still there.
#[test]
fn a_descriptor_may_be_replaced_while_its_close_waits() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Supervised::start(&[]);
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.all(&["munmap m", "memfd o 4K"]);
    actor.ok("begin closing close f");
    actor.says(WAITS);
    // Neither is the last any more.
    actor.all(&["dup f kept", "dup2 o f"]);
    actor.ok("unregister-buffers ring");
    actor.ok("finish closing");
    assert_eq!(leases_on(&file).len(), 1, "the duplicate has it");
    actor.ok("close kept");
    assert!(leases_on(&file).is_empty());
    monitor.barrier();
    monitor.none_for(actor.pid(), "zombie");
}

/// The monitor that it stood on ends: it watches itself from there on.
#[test]
fn it_outlives_the_monitor_that_it_stands_on() {
    let scratch = Scratch::new();
    let monitor = Monitor::alone();
    let actor = Supervised::start(&[]);
    open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok("begin releasing setlease f u");
    actor.says(WAITS);
    monitor.stop();
    // What was pinned before is not known any more.
    actor.says_within(Duration::from_mins(2), "goes on after");
    actor.ok("finish releasing");
    assert!(actor.said().contains("what watched the leases has ended"));
    actor.tidy_up();
    open_lease_and_pin(&actor, &scratch.file("g"));
    actor.ok("begin again setlease f u");
    actor.says_times(WAITS, 2);
    actor.ok("unregister-buffers ring");
    actor.ok("finish again");
}

#[test]
fn without_privileges_there_is_no_command() {
    let ran = Tool::new(&["run", "--", "/bin/true"]).user(65534).finish();
    ran.exits(2).says(&["root", "CAP_BPF"]);
}

/// The messages in docs/run.md are those of this version.
#[test]
fn it_says_what_the_book_says() {
    fs::create_dir_all("/srv").expect("a directory");
    let scratch = Scratch::within(Path::new("/srv"), "data");
    let _monitor = Monitor::start();
    fs::copy(client(), "/run/db").expect("copies the client");
    let actor = Supervised::start_command(&[], &["/run/db".into()]);
    open_lease_and_pin(&actor, &scratch.file("segment.db"));
    actor.ok("munmap m");
    actor.ok("begin closing close f");
    actor.says(WAITS);
    actor.ok("unregister-buffers ring");
    actor.ok("finish closing");
    actor.says("goes on after");
    let page = include_str!("../../../docs/run.md");
    let is_said = |line: &&str| line.starts_with("lease-trace: ") || line.starts_with("  /srv");
    let expected: Vec<_> = page.lines().filter(is_said).map(str::trim).collect();
    let shape = |text: &str| book::shape(text.trim()).join(" ");
    assert_eq!(shape(&actor.said()), shape(&expected.join(" ")));
}

/// As env(1): status, arguments and standard streams are the command's.
#[test]
fn a_command_is_as_without_it() {
    let _monitor = Monitor::start();
    let ran = run_to_end(&[], &[client(), OsString::from("help")], "");
    assert!(ran.stdout.contains("setlease"), "{ran}");
    assert_eq!(ran.stderr, "", "{ran}");
    ran.exits(0);
    let ran = run_to_end(&[], &[client()], "pid\nexit 42\n");
    assert!(ran.stdout.starts_with("ok "), "{ran}");
    ran.exits(42);
    run_to_end(&[], &["/nowhere/at-all".into()], "")
        .exits(127)
        .says(&["cannot execute /nowhere/at-all"]);
    run_to_end(&[], &["/proc".into()], "")
        .exits(126)
        .says(&["cannot execute /proc"]);
    run_to_end(&["--policy", "/nowhere.toml"], &[client()], "").exits(2);
    // What is ignored stays ignored, and hinders nobody.
    let program = client();
    let words = ["run", "--", program.to_str().expect("ASCII"), "help"];
    let ran = Tool::new(&words).before(|| {
        // SAFETY: no handler is installed.
        unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
        Ok(())
    });
    ran.finish().exits(0);
}

/// A ring closes without a system call that could be asked about.
#[test]
fn what_slips_by_is_reported() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Supervised::start(&[]);
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok("munmap m");
    actor.ok("uring-close f caller");
    expect_zombie(&monitor, actor.pid(), &file, "io_uring");
    actor.ok("close ring");
    expect_rest(&monitor, actor.pid(), &file);
}
