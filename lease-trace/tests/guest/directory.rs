//! The directory in bpffs: whose it is, and that of many who want it at once one gets it.

use std::os::unix::fs::{chown, symlink};
use std::path::Path;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};
use std::{fs, io::Read as _};

use crate::harness::{
    Enforcement, Leftovers, START_PATIENCE, Scratch, Tool, interrupt, no_monitor,
};

const DIRECTORY: &str = "/sys/fs/bpf/lease-trace";
const MONITOR: [&str; 3] = ["monitor", "-d", "1s"];

/// Somebody else's directory, or a link to somewhere: refused with what to do, and nothing is touched.
#[test]
fn a_directory_of_somebody_else_is_left_alone() {
    no_monitor();
    let scratch = Scratch::new();
    let kept = scratch.file("target/links/kept");
    fs::create_dir_all(&kept).expect("directories");
    let policy = scratch.file("p.toml");
    fs::write(&policy, "[[rule]]\nname = \"r\"\naction = \"report\"\n").expect("a policy");
    let start = ["enforce", "start", "--policy", &policy];
    let cases: [(&dyn Fn(), &str); 2] = [
        (
            &|| symlink(scratch.file("target"), DIRECTORY).expect("bpffs takes links"),
            "symbolic link",
        ),
        (
            &|| {
                fs::create_dir(DIRECTORY).expect("bpffs takes directories");
                fs::create_dir(format!("{DIRECTORY}/links")).expect("bpffs takes directories");
                chown(DIRECTORY, Some(1000), Some(1000)).expect("chown by root");
            },
            "uid 1000",
        ),
    ];
    for (make, word) in cases {
        make();
        for arguments in [&MONITOR[..], &start, &["enforce", "stop"]] {
            let ran = Tool::run(arguments).exits(2);
            ran.says(&[DIRECTORY, word, "remove it"]);
        }
        let found = Tool::run(&["doctor"]).exits(0);
        let said: Vec<_> = found.stdout.split_whitespace().collect();
        assert!(said.join(" ").contains(word), "{found}");
        Tool::run(&["report"]).exits(0);
        assert!(Path::new(&kept).exists(), "{word}: cleared away");
        let is_link = fs::symlink_metadata(DIRECTORY)
            .expect("it stays")
            .is_symlink();
        if is_link {
            fs::remove_file(DIRECTORY).expect("a link");
        } else {
            assert!(
                Path::new(&format!("{DIRECTORY}/links")).exists(),
                "cleared away"
            );
            fs::remove_dir_all(DIRECTORY).expect("a directory");
        }
    }
}

const AT_ONCE: usize = 8;

/// All of them are started, and all but one end with the usual message.
#[track_caller]
fn one_of_many() {
    let start = || {
        let tool = Tool::beside(&["monitor", "-o", "json"]);
        tool.stdout(Stdio::null()).spawn()
    };
    let mut running: Vec<Child> = (0..AT_ONCE).map(|_| start()).collect();
    let deadline = Instant::now() + START_PATIENCE;
    while running.len() > 1 {
        assert!(Instant::now() < deadline, "{} go on", running.len());
        sleep(Duration::from_millis(50));
        let mut at = 0;
        while at < running.len() {
            match running[at].try_wait().expect("a child of ours") {
                None => at += 1,
                Some(status) => {
                    let mut talk = String::new();
                    let stderr = running.remove(at).stderr;
                    let mut stderr = stderr.expect("stderr is a pipe");
                    stderr.read_to_string(&mut talk).expect("text");
                    assert_eq!(status.code(), Some(2), "{talk}");
                    assert!(talk.contains("is running already (pid"), "{talk}");
                }
            }
        }
    }
    let mut last = running.pop().expect("one of them goes on");
    sleep(Duration::from_millis(300));
    assert!(matches!(last.try_wait(), Ok(None)), "none goes on");
    interrupt(&last, libc::SIGINT);
    let status = last.wait().expect("a child of ours");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn of_many_monitors_at_once_one_begins() {
    let leftovers = Leftovers::before();
    for _ in 0..2 {
        one_of_many();
        leftovers.assert_none();
    }
}

#[test]
fn of_many_monitors_at_once_one_takes_over() {
    let _enforcement = Enforcement::start("[[rule]]\nname = \"r\"\naction = \"report\"\n");
    for _ in 0..4 {
        one_of_many();
    }
}
