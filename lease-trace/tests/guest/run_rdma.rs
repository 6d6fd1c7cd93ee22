//! `lease-trace run` with memory regions of an RDMA device, and with perftest, which knows nothing
//! of it.

use std::ffi::OsString;
use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::harness::{
    Fate, Filesystem, LoopMount, Monitor, Pinned, Rxe, Scratch, Subject, Supervised, eventually,
    interrupt_pid, leases_on, run_invocation,
};
use crate::rdma::{MODES, lease_and_register};

/// Every sort of region that this kernel allows, on tmpfs and ext4.
#[test]
fn a_release_waits_until_the_region_is_deregistered() {
    Rxe::ready();
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let (scratch, mount) = (Scratch::new(), LoopMount::new(Filesystem::Ext4));
    let mut worked = 0;
    for mode in MODES {
        for path in [scratch.file(mode), mount.file(mode)] {
            let actor = Supervised::start(&[]);
            if !lease_and_register(&actor, &path, mode) {
                continue;
            }
            worked += 1;
            let file = Subject::as_mounted(&path);
            for release in ["setlease f u", "close f"] {
                actor.ok(&format!("begin releasing {release}"));
                actor.says("waits: 256 pins on");
                actor.says("through rdma_rxe");
                monitor.barrier();
                assert_eq!(leases_on(&file).len(), 1, "{release}");
                actor.ok("dereg-mr mr");
                actor.ok("finish releasing");
                assert!(leases_on(&file).is_empty(), "{release}");
                if release == "setlease f u" {
                    actor.all(&["setlease f w", &format!("reg-mr mr d m {mode}")]);
                    actor.all(&["munmap m"]);
                }
            }
            actor.says_times("goes on after", 2);
            monitor.barrier();
            monitor.none_for(actor.pid(), "zombie");
        }
    }
    assert!(worked > 1, "this kernel pins nothing of such files");
    pinned.assert_balanced();
}

/// The case of the kernel discussion: the lease has descriptor 10, the RDMA device 15, and SIGKILL
/// closes them in that order. An exit does not wait, whether or not a close of the same did.
#[test]
fn sigkill_never_deadlocks() {
    Rxe::ready();
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let _monitor = Monitor::start();
    for waits in [false, true] {
        let mut actor = Supervised::start(&[]);
        let path = scratch.file(if waits { "waits" } else { "f" });
        actor.ok(&format!("open f {path} rw,creat,cloexec"));
        actor.ok("move-fd f 10");
        let fd = |fd: u32| format!("/proc/{}/fd/{fd}", actor.pid());
        for free in (3..15).filter(|number| fs::symlink_metadata(fd(*number)).is_err()) {
            // The lowest that is free.
            actor.ok(&format!("open n{free} /dev/null rw"));
        }
        actor.ok("rdma-open d");
        let device = fs::read_link(fd(15)).expect("the device is 15");
        assert_eq!(device.to_str(), Some("/dev/infiniband/uverbs0"));
        actor.all(&["write-all f 1M", "setlease f w", "mmap m f 1M shared rw"]);
        actor.all(&["reg-mr mr d m rw", "munmap m"]);
        if waits {
            actor.tell("close f");
            actor.says(&format!("close(10) of client[{}] waits", actor.pid()));
        }
        interrupt_pid(actor.pid(), libc::SIGKILL);
        assert_eq!(actor.actor_mut().ends(), Fate::Killed(libc::SIGKILL));
        actor.is_left_alone();
        assert!(eventually(|| leases_on(&Subject::at(&path)).is_empty()));
    }
    pinned.assert_balanced();
}

/// The columns that ib_write_bw prints, which differ in nothing but the figures.
fn columns(output: &str) -> Vec<String> {
    let mut lines = output.lines().skip_while(|line| !line.contains("#bytes"));
    let (heads, row) = (lines.next(), lines.next());
    let heads = heads.unwrap_or_else(|| panic!("no table: {output}"));
    let row: Vec<_> = row.unwrap_or_default().split_whitespace().collect();
    assert_eq!(row[..2], ["65536", "200"], "{output}");
    heads.split_whitespace().map(str::to_owned).collect()
}

fn finish(child: Child, who: &str) -> Output {
    let ran = child.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{who}: {}\n{said}", ran.status);
    ran
}

/// Registers, transfers, and deregisters in the right order: nothing waits and nothing is said.
#[test]
fn perftest_is_as_without_it() {
    Rxe::ready();
    let scratch = Scratch::new();
    let _monitor = Monitor::start();
    let mut tables = Vec::new();
    for supervised in [false, true] {
        let start = |side: &str, more: &[&str]| {
            let path = scratch.file(side);
            fs::write(&path, vec![0; 2 << 20]).expect("a file");
            let mmap = format!("--mmap={path}");
            let fixed = ["ib_write_bw", "-d", Rxe::DEVICE, "-s", "65536", "-n", "200"];
            let words: Vec<OsString> = fixed
                .into_iter()
                .chain([mmap.as_str()])
                .chain(more.iter().copied())
                .map(OsString::from)
                .collect();
            let mut command = if supervised {
                run_invocation(&[], &words)
            } else {
                let mut command = Command::new(&words[0]);
                command.args(&words[1..]);
                command
            };
            let command = command.stdin(Stdio::null()).stdout(Stdio::piped());
            command.stderr(Stdio::piped()).spawn().expect("it starts")
        };
        let server = start("server", &[]);
        // Until it listens (perftest's own port).
        assert!(eventually(|| {
            let sockets = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
            let sockets6 = fs::read_to_string("/proc/net/tcp6").unwrap_or_default();
            (sockets + &sockets6).contains(":4853 ")
        }));
        std::thread::sleep(Duration::from_millis(200));
        let client = start("client", &["10.77.0.1"]);
        let (client, server) = (finish(client, "client"), finish(server, "server"));
        for ran in [&client, &server] {
            let said = String::from_utf8_lossy(&ran.stderr);
            assert!(!said.contains("lease-trace"), "{said}");
        }
        tables.push(columns(&String::from_utf8_lossy(&client.stdout)));
    }
    assert_eq!(tables[0], tables[1]);
}
