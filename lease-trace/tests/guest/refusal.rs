//! Bad input and bad hosts: each refused with a message that names operation, object and remedy,
//! with the right exit status, and with nothing left attached or pinned.

use std::ffi::CString;
use std::io;

use crate::harness::{
    Actor, Leftovers, Monitor, Ran, Scratch, Tool, expect_zombie, hide, no_monitor,
    open_lease_and_pin,
};

const MONITOR: [&str; 3] = ["monitor", "-d", "1s"];

/// Everything that needs the kernel, run in the same way.
#[track_caller]
fn refused(prepare: impl Fn(Tool) -> Tool, code: i32, words: &[&str]) {
    let leftovers = Leftovers::before();
    for arguments in [&MONITOR[..], &["report"]] {
        let ran = prepare(Tool::new(arguments))
            .finish()
            .exits(code)
            .says(words);
        assert_eq!(ran.stdout, "", "stdout is for data\n{ran}");
    }
    leftovers.assert_none();
}

#[test]
fn an_unprivileged_user_is_told_which_privilege() {
    refused(|tool| tool.user(65534), 2, &["root", "CAP_BPF"]);
}

#[test]
fn root_without_capabilities_is_told_so_too() {
    refused(
        |tool| tool.before(drop_capabilities),
        2,
        &["CAP_BPF", "CAP_PERFMON"],
    );
}

fn drop_capabilities() -> io::Result<()> {
    const CAP_SYS_ADMIN: libc::c_ulong = 21;
    const CAP_PERFMON: libc::c_ulong = 38;
    const CAP_BPF: libc::c_ulong = 39;
    for capability in [CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF] {
        // SAFETY: takes numbers; exec then gives root no more than the bounding set has.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// As a container's seccomp profile does: EPERM for bpf(2), even for root.
#[test]
fn a_sandbox_is_suspected_where_root_gets_eperm() {
    refused(
        |tool| tool.before(forbid_bpf),
        2,
        &["bpf(2)", "EPERM", "seccomp"],
    );
}

fn forbid_bpf() -> io::Result<()> {
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const ERRNO: u32 = 0x0005_0000;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        step(LOAD_WORD, 0, 0, 0),
        step(JUMP_IF_EQUAL, 0, 1, libc::SYS_bpf as u32),
        step(RETURN, 0, 0, ERRNO | libc::EPERM as u32),
        step(RETURN, 0, 0, ALLOW),
    ];
    let program = libc::sock_fprog {
        len: filter.len() as u16,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the kernel copies the four instructions, which live until the call returns.
    let returned = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
            0,
            0,
        )
    };
    if returned == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[test]
fn a_kernel_without_btf_is_named_with_its_option() {
    refused(
        |tool| {
            let btf = CString::new("/sys/kernel/btf").expect("no NUL");
            tool.before(move || hide(&btf, false))
        },
        3,
        &["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF"],
    );
}

/// Either it helps itself and says so, or it names the mount that is missing.
#[test]
fn a_missing_bpffs_is_named() {
    let leftovers = Leftovers::before();
    let bpffs = CString::new("/sys/fs/bpf").expect("no NUL");
    let ran = Tool::new(&MONITOR)
        .before(move || hide(&bpffs, true))
        .finish();
    assert!(matches!(ran.code, Some(0 | 2)), "{ran}");
    ran.says(&["/sys/fs/bpf", "mount"]);
    leftovers.assert_none();
}

#[test]
fn impossible_arguments_are_named() {
    let leftovers = Leftovers::before();
    let cases: &[(&[&str], &str)] = &[
        (&["monitor", "-p", "0"], "0"),
        (&["monitor", "-p", "abc"], "abc"),
        (&["monitor", "-p", "-1"], "-1"),
        (&["monitor", "-p", "99999999999"], "99999999999"),
        (
            &["monitor", "-c", "/sys/fs/cgroup/no-such-group"],
            "no-such-group",
        ),
        (&["monitor", "-c", "/tmp"], "/tmp"),
        (&["monitor", "-d", "soon"], "soon"),
        (&["monitor", "-d", "0s"], "0s"),
        (&["monitor", "--path", "not/absolute"], "not/absolute"),
        (&["monitor", "--path", ""], "path"),
        (&["monitor", "-o", "yaml"], "yaml"),
        (&["monitor", "--pins", "some"], "some"),
        (&["monitor", "--attach", "ptrace"], "ptrace"),
        (&["monitor", "surplus"], "surplus"),
        (&["report", "mammals"], "mammals"),
        (&["report", "-o", ""], "-o"),
        (&["undertake"], "undertake"),
        (&[], "usage"),
    ];
    for (arguments, word) in cases {
        let ran = Tool::run(arguments).exits(2).says(&[word]);
        assert_eq!(ran.stdout, "", "stdout is for data\n{ran}");
    }
    leftovers.assert_none();
}

/// A process that has not begun or has ended is no reason to wait for ever.
#[test]
fn a_process_that_does_not_exist_is_named() {
    let largest = std::fs::read_to_string("/proc/sys/kernel/pid_max").expect("pid_max");
    let nobody = largest.trim();
    Tool::run(&["monitor", "-d", "1s", "-p", nobody])
        .exits(2)
        .says(&[nobody, "no process"]);
}

#[test]
fn a_second_monitor_names_the_first() {
    let scratch = Scratch::new();
    let first = Monitor::alone();
    let pid = first.pid().to_string();
    let second: Ran = Tool::run(&["monitor", "-o", "json", "-d", "1s"]).says(&[&pid]);
    // It may join and read, or refuse; either way the first goes on undisturbed.
    assert!(matches!(second.code, Some(0 | 2)), "{second}");
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok("setlease f u");
    expect_zombie(&first, actor.pid(), &file, "unlock");
    first.exactly_one(actor.pid(), "zombie");
    let stopped = first.stop();
    assert_eq!(stopped.status.code(), Some(0), "{stopped:?}");
}

/// SIGKILL leaves the pins of a monitor behind: the next one recovers them, says so, and leaves
/// nothing.
#[test]
fn a_dead_monitors_pins_are_recovered() {
    let leftovers = Leftovers::before();
    let scratch = Scratch::new();
    Monitor::alone().kill();
    let monitor = Monitor::alone();
    let talk = monitor.talk();
    assert!(
        talk.contains("/sys/fs/bpf/lease-trace"),
        "not a word about the dead one: `{talk}`"
    );
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok("setlease f u");
    expect_zombie(&monitor, actor.pid(), &file, "unlock");
    monitor.stop();
    leftovers.assert_none();
}

/// A directory of that name that is not the tool's own is nothing to clear away.
#[test]
fn a_strangers_directory_is_not_cleared_away() {
    let directory = "/sys/fs/bpf/lease-trace";
    no_monitor();
    std::fs::create_dir_all(format!("{directory}/not-ours")).expect("bpffs takes directories");
    let ran = Tool::run(&MONITOR);
    let kept = std::path::Path::new(directory).join("not-ours").exists();
    std::fs::remove_dir(format!("{directory}/not-ours")).ok();
    std::fs::remove_dir(directory).ok();
    assert!(
        kept || ran.code == Some(0),
        "cleared away and still refused\n{ran}"
    );
    ran.says(&[directory]);
}
