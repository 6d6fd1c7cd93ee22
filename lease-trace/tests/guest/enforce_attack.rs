//! Those who would switch enforcement off, or turn it on somebody else.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::harness::{
    Actor, Enforcement, Fate, Holder, Monitor, PAGES, Pinned, Scratch, Subject, Tool, eventually,
    leases_on, open_lease_and_pin, pin_without_lease, retire_enforcement, state_of, text,
};

const NOBODY: u32 = 65534;
const DIRECTORY: &str = "/sys/fs/bpf/lease-trace";

fn rule(action: &str, fallback: &str) -> String {
    format!("mode = \"enforce\"\n[[rule]]\nname = \"r\"\naction = \"{action}\"\n{fallback}\n")
}

fn kill() -> String {
    rule("kill", "")
}

fn deny() -> String {
    rule("deny", "fallback = \"kill\"")
}

/// Files of a directory and those below it.
fn below(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![directory.to_owned()];
    for entry in fs::read_dir(directory).expect("the directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(below(&path));
        } else {
            found.push(path);
        }
    }
    found
}

#[test]
fn a_user_without_privileges_reaches_nothing() {
    let enforcement = Enforcement::start(&deny());
    let files = below(DIRECTORY.as_ref());
    assert!(files.len() > 15, "{files:?}");
    assert_eq!(
        fs::metadata(DIRECTORY)
            .expect("the directory")
            .permissions()
            .mode()
            & 0o777,
        0o700
    );
    let attacker = Actor::start();
    attacker.ok(&format!("setuid {NOBODY}"));
    for path in &files {
        let open = format!("open x {} ro", path.display());
        attacker.err(&open, libc::EACCES);
    }
    let monitor = enforcement.monitor();
    reaches_no_object(&attacker, &files);
    reaches_no_monitor(&attacker, monitor.pid());
    // All capabilities, in a user namespace of its own.
    attacker.ok("unshare-user");
    reaches_no_object(&attacker, &files);
    reaches_no_monitor(&attacker, monitor.pid());
    assert_eq!(enforcement.status()["monitor"], monitor.pid());
    let victim = Actor::start();
    let scratch = Scratch::new();
    open_lease_and_pin(&victim, &scratch.file("f"));
    victim.err("setlease f u", libc::EBUSY);
    monitor.expect_of("denied", victim.pid());
    victim.all(&["unregister-buffers ring", "setlease f u"]);
    let stopped = monitor.stop();
    stopped.assert_nothing_lost();

    let policy = Scratch::new();
    let path = policy.file("p.toml");
    fs::write(&path, rule("report", "")).expect("writes the policy");
    let before = enforcement.status();
    for arguments in [
        &["enforce", "stop"][..],
        &["enforce", "status"],
        &["enforce", "start", "--policy", &path],
        &["monitor", "-d", "1s"],
    ] {
        let ran = Tool::beside(arguments).user(NOBODY).finish();
        assert_ne!(ran.code, Some(0), "{ran}");
    }
    assert_eq!(enforcement.status(), before);
    assert_eq!(below(DIRECTORY.as_ref()), files);
}

/// Neither by the files in bpffs nor by the kernel's numbers.
fn reaches_no_object(attacker: &Actor, files: &[PathBuf]) {
    for path in files {
        attacker.err(&format!("bpf-get {}", path.display()), libc::EACCES);
        // Everybody may write into bpffs itself, which is sticky.
        let errno = if path == Path::new(DIRECTORY) {
            libc::EPERM
        } else {
            libc::EACCES
        };
        attacker.err(&format!("unlink {}", path.display()), errno);
    }
    let root = Actor::start();
    for kind in ["map", "prog", "link", "btf"] {
        let command = |id: u32| format!("bpf-by-id {kind} {id}");
        // They go up with each start of the scenarios before.
        let exists = (1..100_000).find(|id| root.attempt(&command(*id)).is_ok());
        let id = exists.unwrap_or_else(|| panic!("the kernel has no {kind}"));
        attacker.err(&command(id), libc::EPERM);
    }
}

/// Neither by a signal nor by a debugger's means.
fn reaches_no_monitor(attacker: &Actor, monitor: i64) {
    for signal in ["KILL", "STOP", "TERM"] {
        attacker.err(&format!("signal {monitor} {signal}"), libc::EPERM);
    }
    attacker.err(&format!("ptrace {monitor}"), libc::EPERM);
    for fd in 0..16 {
        attacker.err(&format!("steal-fd {monitor} {fd}"), libc::EPERM);
    }
    for (file, flags) in [("mem", "rw"), ("maps", "ro"), ("environ", "ro")] {
        attacker.err(
            &format!("open x /proc/{monitor}/{file} {flags}"),
            libc::EACCES,
        );
    }
}

/// A lease of one's own on the victim's file, broken off, is nothing that the victim did.
#[test]
fn a_lease_on_somebody_elses_file_kills_nobody() {
    let scratch = Scratch::new();
    let enforcement = Enforcement::start(&kill());
    let monitor = enforcement.monitor();
    let victim = Actor::start();
    let file = pin_without_lease(&victim, &scratch.file("f"));
    victim.all(&[&format!("open f {} ro", file.path), "setlease f r"]);
    let attacker = Actor::start();
    attacker.ok(&format!("setuid {NOBODY}"));
    attacker.ok(&format!("open f {} ro", file.path));
    // Somebody else's file: no lease for a user who is not its owner.
    attacker.err("setlease f r", libc::EACCES);
    let second = Actor::start();
    second.all(&[&format!("open f {} ro", file.path), "setlease f r"]);
    second.all(&["setlease f u", "setlease f r", "close f"]);
    monitor.barrier();
    for (who, event) in [
        (&victim, "killed"),
        (&victim, "zombie"),
        (&second, "killed"),
    ] {
        monitor.none_for(who.pid(), event);
    }
    assert_eq!(victim.ok("getlease f"), "r");
    assert_eq!(second.ok("pid"), second.pid().to_string());
    assert_eq!(leases_on(&file).len(), 1);
    assert_eq!(enforcement.hits("r"), serde_json::json!({}));
}

/// A break that the holder answers in time is nothing to be punished for.
#[test]
fn a_break_that_is_answered_kills_nobody() {
    let scratch = Scratch::new();
    let enforcement = Enforcement::start(&kill());
    let victim = Actor::start();
    let file = open_lease_and_pin(&victim, &scratch.file("f"));
    fs::set_permissions(&file.path, fs::Permissions::from_mode(0o666)).expect("its mode");
    let attacker = Actor::start();
    attacker.ok(&format!("setuid {NOBODY}"));
    let open = format!("open f {} rw,nonblock", file.path);
    attacker.err(&open, libc::EWOULDBLOCK);
    victim.all(&["unregister-buffers ring", "setlease f u"]);
    attacker.ok(&open);
    assert_eq!(enforcement.hits("r"), serde_json::json!({}));
}

/// The owner of the pins is gone, its ring lives on in another process, and an innocent process
/// gets its pid, opens the same file and lets go of a lease of its own.
#[test]
fn a_pid_that_is_used_again_is_another_process() {
    let scratch = Scratch::new();
    let enforcement = Enforcement::start(&kill());
    let monitor = enforcement.monitor();
    let parent = Actor::start();
    parent.ok("uring ring");
    let owner = parent.fork("owner");
    let path = scratch.file("f");
    parent.ok(&format!("owner: open f {path} rw,creat"));
    parent.all(&[
        "owner: write-all f 1M",
        "owner: setlease f w",
        "owner: mmap m f 1M shared rw",
        "owner: register-buffers ring m",
    ]);
    assert_eq!(parent.ok("owner: kill-self KILL"), "killed SIGKILL");
    monitor.expect_of("zombie", owner);
    let file = Subject::at(&path);
    assert!(eventually(|| leases_on(&file).is_empty()));

    // Somebody may be faster; then it is tried again.
    let mut taken = false;
    for _ in 0..20 {
        fs::write("/proc/sys/kernel/ns_last_pid", (owner - 1).to_string()).expect("ns_last_pid");
        if parent.fork("innocent") == owner {
            taken = true;
            break;
        }
        parent.ok("innocent: exit 0");
    }
    assert!(taken, "pid {owner} could not be had again");
    parent.ok(&format!("innocent: open f {path} rw"));
    parent.all(&["innocent: setlease f w", "innocent: setlease f u"]);
    parent.all(&["innocent: setlease f w", "innocent: close f"]);
    assert_eq!(parent.ok("innocent: pid"), owner.to_string());
    monitor.barrier();
    assert_eq!(parent.ok("innocent: pid"), owner.to_string());
    monitor.none_for(owner, "killed");
    assert!(matches!(state_of(owner), Some('S' | 'R')));
    parent.ok("close ring");
    // Both leases are in the row that the owner left, and that is told.
    let joined = |lost: &Value| text(lost, "what").contains("of the same pid");
    monitor.expect("lost", joined);
    drop(monitor);
    drop(enforcement);
    // What is lost stays counted for as long as the enforcement is in place.
    retire_enforcement();
}

#[test]
fn a_dying_holder_never_deadlocks() {
    let scratch = Scratch::new();
    dies_with_everything(Holder::Ring, &|name| scratch.file(name));
}

/// SIGKILL and exit with everything in hand, whichever goes first: nobody waits for ever.
pub fn dies_with_everything(holder: Holder, file_in: &dyn Fn(&str) -> String) {
    for (round, action) in ["deny", "hold", "stop", "kill"].iter().enumerate() {
        let fallback = match *action {
            "deny" => "fallback = \"kill\"",
            "hold" => "fallback = \"report\"",
            _ => "",
        };
        let enforcement = Enforcement::start(&rule(action, fallback));
        let monitor = enforcement.monitor();
        for (fds, end, fate) in [
            ([10, 15], "kill-self KILL", Fate::Killed(libc::SIGKILL)),
            ([15, 10], "kill-self KILL", Fate::Killed(libc::SIGKILL)),
            ([10, 15], "exit 3", Fate::Exited(3)),
        ] {
            let pinned = Pinned::now();
            let mut actor = Actor::start();
            let file = holder.open(&actor, &file_in(&format!("{round}{}{}", fds[0], end.len())));
            let [lease, pins] = fds;
            actor.ok(&format!("move-fd f {lease}"));
            actor.ok(&format!("move-fd {} {pins}", holder.descriptor()));
            assert_eq!(pinned.since(), PAGES, "{action} {fds:?}");
            assert_eq!(actor.fate(end), fate, "{action} {fds:?}");
            assert!(
                eventually(|| leases_on(&file).is_empty()),
                "{action} {fds:?}"
            );
            pinned.assert_balanced();
            monitor.barrier();
            for event in ["killed", "denied", "stopped"] {
                monitor.none_for(actor.pid(), event);
            }
        }
    }
}

/// 65,536 leases are known at one time. Whoever takes more switches off what concerns the rest:
/// their releases pass. It is counted and shown, and over when the leases are gone.
#[test]
fn leases_without_end_fail_open_and_are_told() {
    const ROOM: u32 = 65_536;
    let scratch = Scratch::new();
    let enforcement = Enforcement::start(&deny());
    let monitor = enforcement.monitor();
    let hoarder = Actor::start();
    hoarder.ok(&format!("open-files {}", ROOM + 1000));
    fs::create_dir(scratch.file("hoard")).expect("a directory");
    hoarder.ok(&format!("hoard-leases {ROOM} {}", scratch.file("hoard")));
    let actor = Actor::start();
    open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok("setlease f u");
    let lost = |value: &serde_json::Value| {
        value["what"]
            .as_str()
            .is_some_and(|what| what.contains("LEASES"))
    };
    monitor.expect("lost", lost);
    let status = enforcement.status();
    assert!(
        status["lost"]
            .as_array()
            .is_some_and(|list| list.iter().any(lost)),
        "{status}"
    );
    drop(hoarder);
    let actor = Actor::start();
    open_lease_and_pin(&actor, &scratch.file("g"));
    actor.err("setlease f u", libc::EBUSY);
    actor.all(&["unregister-buffers ring", "setlease f u"]);
    // What was lost is told to every monitor that comes; the next scenario's must not hear of it.
    drop((monitor, enforcement));
    retire_enforcement();
}

/// A directory that this user may write to.
fn directory_of(scratch: &Scratch, name: &str, uid: u32) -> String {
    let directory = scratch.file(name);
    fs::create_dir(&directory).expect("a directory");
    std::os::unix::fs::chown(&directory, Some(uid), Some(uid)).expect("its owner");
    directory
}

/// A breach by this user, which is denied.
#[track_caller]
fn is_denied(scratch: &Scratch, name: &str, uid: u32) {
    let directory = directory_of(scratch, name, uid);
    let actor = Actor::start();
    actor.ok(&format!("setuid {uid}"));
    open_lease_and_pin(&actor, &format!("{directory}/f"));
    actor.err("setlease f u", libc::EBUSY);
    actor.all(&["unregister-buffers ring", "setlease f u"]);
}

fn is_of_a_share(lost: &Value) -> bool {
    let what = lost["what"].as_str();
    what.is_some_and(|what| what.contains("a quarter of a table"))
}

/// A user's leases find room until he has a quarter of the table. Then he goes without, and others do not.
#[test]
fn a_users_leases_leave_room_for_those_of_others() {
    const ROOM: u32 = 65_536;
    let scratch = Scratch::new();
    let enforcement = Enforcement::start(&deny());
    let monitor = enforcement.monitor();
    let directory = directory_of(&scratch, "hoard", 1000);
    let hoarder = Actor::start();
    hoarder.ok(&format!("open-files {}", ROOM + 1000));
    hoarder.ok("setuid 1000");
    hoarder.ok(&format!("hoard-leases {ROOM} {directory}"));
    is_denied(&scratch, "another", 2000);
    monitor.expect("lost", is_of_a_share);
    let own = Actor::start();
    own.ok("setuid 1000");
    open_lease_and_pin(&own, &format!("{directory}/own"));
    own.ok("setlease f u");
    drop((own, hoarder));
    is_denied(&scratch, "the-same", 1000);
    drop((monitor, enforcement));
    retire_enforcement();
}

/// So it is with the files that he has pinned, and his stakes in them.
#[test]
fn a_users_pins_leave_room_for_those_of_others() {
    const ROOM: u32 = 1024;
    let scratch = Scratch::new();
    retire_enforcement();
    let policy = scratch.file("policy.toml");
    fs::write(&policy, deny()).expect("a policy");
    let room = ROOM.to_string();
    let monitor = Monitor::with(&["--capacity", &room, "--policy", &policy]);
    let directory = directory_of(&scratch, "many", 1000);
    let pinner = Actor::start();
    pinner.all(&["setuid 1000", "uring r"]);
    pinner.ok(&format!(
        "register-files-pages r {} {directory}",
        ROOM + 100
    ));
    is_denied(&scratch, "another", 2000);
    monitor.expect("lost", is_of_a_share);
    pinner.ok("unregister-buffers r");
    is_denied(&scratch, "the-same", 1000);
    drop(pinner);
    monitor.stop();
}

/// The ring is everybody's, and anybody can fill it. What the monitor was to do for a rule is in the stake as well.
#[test]
fn a_full_ring_saves_nobody() {
    /// Bare pins of one process that find room in the ring, and some more.
    const MANY: u32 = 12_000;
    let scratch = Scratch::new();
    let enforcement = Enforcement::start(&kill());
    let monitor = enforcement.monitor();
    let actor = Actor::start();
    open_lease_and_pin(&actor, &scratch.file("f"));
    actor.all(&["munmap m", "begin-own-table t", "close f"]);
    let flooder = Actor::start();
    flooder.all(&[
        "uring ring",
        &format!("open g {} rw,creat", scratch.file("g")),
        "truncate g 4K",
        "mmap n g 4K shared rw",
    ]);
    actor.ok(&format!("signal {} STOP", monitor.pid()));
    let flood = format!("time-buffers ring n {MANY}");
    flooder.ok_within(Duration::from_mins(4), &flood);
    let full = Tool::beside(&["enforce", "status", "-J"]).finish().exits(0);
    assert!(full.json()["lost"].to_string().contains("ring"), "{full}");
    actor.ok("finish t");
    let stat = format!("/proc/{}/stat", actor.pid());
    let is_dead = || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z "));
    assert!(!is_dead());
    flooder.ok(&format!("signal {} CONT", monitor.pid()));
    assert!(eventually(is_dead), "{:?}", fs::read_to_string(&stat));
    monitor.expect_of("killed", actor.pid());
}
