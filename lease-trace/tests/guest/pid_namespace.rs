//! A monitor in a pid namespace of its own, as in a container: it is told what is not seen from
//! there.

use std::io;

use serde_json::Value;

use crate::harness::{Actor, Scratch, Tool, open_lease_and_pin};

/// Between fork(2) and execve(2): another fork, whose child is the first process of a pid namespace
/// with a /proc of its own. The process in between ends as that child does.
fn enter() -> io::Result<()> {
    // SAFETY: takes flags; only this process is concerned.
    check(unsafe { libc::unshare(libc::CLONE_NEWPID | libc::CLONE_NEWNS) })?;
    // SAFETY: this process has one thread.
    let child = unsafe { libc::fork() };
    check(child)?;
    if child > 0 {
        let mut status = 0;
        // SAFETY: nothing here is used any more but these calls. Without the descriptors whoever
        // waits for an end of file hears of the child's.
        unsafe {
            libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0);
            libc::waitpid(child, &raw mut status, 0);
            libc::_exit(libc::WEXITSTATUS(status));
        }
    }
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    let nothing = std::ptr::null();
    // SAFETY: C strings, and no data.
    unsafe {
        check(libc::mount(
            nothing,
            c"/".as_ptr(),
            nothing,
            flags,
            nothing.cast(),
        ))?;
        check(libc::mount(
            c"proc".as_ptr(),
            c"/proc".as_ptr(),
            c"proc".as_ptr(),
            0,
            nothing.cast(),
        ))
    }
}

fn check(returned: libc::c_int) -> io::Result<()> {
    if returned < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[test]
fn a_monitor_and_a_doctor_say_what_they_do_not_see() {
    let doctor = Tool::new(&["doctor"]).finish().exits(0);
    assert!(doctor.stdout.contains("ok       pid namespace"), "{doctor}");
    let doctor = Tool::new(&["doctor"]).before(enter).finish().exits(0);
    assert!(doctor.stdout.contains("degraded pid namespace"), "{doctor}");

    let scratch = Scratch::new();
    let actor = Actor::start();
    let monitor = Tool::new(&["monitor", "-o", "json", "-d", "8s", "--all-events"]);
    let waiting = std::thread::spawn(move || monitor.before(enter).finish());
    let ready = crate::harness::eventually(|| {
        std::path::Path::new("/sys/fs/bpf/lease-trace/zombies").exists()
    });
    assert!(ready, "no monitor");
    std::thread::sleep(std::time::Duration::from_secs(1));
    open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok("setlease f u");
    let ran = waiting.join().expect("the monitor's thread").exits(0);
    let events: Vec<Value> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let start = events.iter().find(|event| event["event"] == "start");
    let cannot = start.expect("a start")["cannot"].to_string();
    assert!(cannot.contains("pid namespace"), "{cannot}");
    // Pids are those of the first pid namespace, whatever /proc has under them here.
    let zombie = events.iter().find(|event| event["event"] == "zombie");
    let zombie = zombie.unwrap_or_else(|| panic!("no zombie\n{ran}"));
    assert_eq!(zombie["pid"], actor.pid(), "{zombie}");
    actor.ok("unregister-buffers ring");
}
