//! The live screen in a real terminal: what it shows of zombies, what keys do, and that the terminal
//! is given back however it ends.

use std::fs;
use std::path::Path;

use crate::book;
use crate::harness::{Actor, Monitor, Scratch, Terminal, Tool, eventually, no_monitor};
use crate::harness::{open_lease_and_pin, pin_without_lease};

const IN_THE_KERNEL: &str = "/sys/fs/bpf/lease-trace";

/// The line of this process in the list.
fn line_of(picture: &str, pid: i64) -> Option<&str> {
    let pid = pid.to_string();
    let mut lines = picture.lines();
    lines.find(|line| line.split_whitespace().nth(2) == Some(&pid))
}

/// Waits until the list says this of the process.
#[track_caller]
fn expect_of(terminal: &Terminal, pid: i64, words: &[&str]) -> String {
    terminal.wait(&format!("{words:?} of {pid}"), |picture| {
        line_of(picture, pid).is_some_and(|line| words.iter().all(|word| line.contains(word)))
    })
}

/// A process of the tool that is `top`.
fn top() -> Option<i32> {
    let mut processes = fs::read_dir("/proc").expect("/proc").flatten();
    processes.find_map(|entry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        let mut words = line.split(|byte| *byte == 0);
        let tool = words.next()?.ends_with(b"lease-trace");
        (tool && words.next()? == b"top").then_some(pid)
    })
}

#[test]
fn a_monitors_zombies_are_on_the_screen() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let (actor, reader) = (Actor::start(), Actor::start());
    let path = scratch.file("segment.db");
    open_lease_and_pin(&actor, &path);
    let terminal = Terminal::start(80, 24);
    terminal.line("echo before; lease-trace top; echo ended $?");
    terminal.expect(&format!("from monitor {}", monitor.pid()));
    expect_of(
        &terminal,
        actor.pid(),
        &["covered", "256", "io_uring", "segment.db"],
    );

    actor.ok("setlease f u");
    let picture = expect_of(&terminal, actor.pid(), &["zombie", "unlock", "256"]);
    let first = picture.lines().nth(5).expect("a list");
    assert!(first.starts_with("zombie"), "{picture}");
    assert!(picture.contains("zombies 1"), "{picture}");
    assert!(picture.contains("started 1, ended 0"), "{picture}");
    assert!(picture.lines().all(|line| line.chars().count() <= 80));
    // Its age counts.
    expect_of(&terminal, actor.pid(), &[" 2s "]);

    // Details, with the kernel stack, the context, who else has it, and what was seen.
    reader.ok(&format!("open f {path} ro"));
    terminal.keys(&["Enter"]);
    let details = terminal.wait("the details", |picture| {
        let all = [
            "io_sqe_buffer",
            "io_uring",
            "through  fd ",
            "[io_uring]",
            "ended    unlock",
            &format!("others   client[{}]", reader.pid()),
            "zombie by unlock, 256 pins",
        ];
        all.iter().all(|word| picture.contains(word))
    });
    println!("{details}");
    terminal.keys(&["Enter"]);
    terminal.wait("details alone", |picture| {
        picture.contains("found: covered, 256 pins") && line_of(picture, actor.pid()).is_none()
    });
    terminal.keys(&["Enter"]);

    // More columns in a wider one; a small one keeps the list.
    terminal.resize(130, 30);
    terminal.expect("UNIT");
    terminal.resize(60, 12);
    expect_of(&terminal, actor.pid(), &["zombie"]);
    terminal.resize(80, 24);

    // Keys: another stake without a lease, the filter, the order, the search, the help.
    let other = Actor::start();
    pin_without_lease(&other, &scratch.file("bare"));
    expect_of(&terminal, other.pid(), &["bare-pin"]);
    terminal.keys(&["z"]);
    terminal.wait("zombies alone", |picture| {
        picture.contains("zombies of the stakes: 1 of") && line_of(picture, other.pid()).is_none()
    });
    terminal.keys(&["z", "s"]);
    terminal.expect("by age");
    terminal.keys(&["/", "b", "a", "r", "e", "Enter"]);
    terminal.wait("what is looked for", |picture| {
        picture.contains("with \"bare\"")
            && line_of(picture, other.pid()).is_some()
            && line_of(picture, actor.pid()).is_none()
    });
    terminal.keys(&["Escape"]);
    terminal.wait("all of them", |picture| !picture.contains("with \"bare\""));
    terminal.keys(&["?"]);
    terminal.expect("reverse it");
    terminal.keys(&["q"]);
    terminal.expect("by age");

    actor.ok("unregister-buffers ring");
    expect_of(&terminal, actor.pid(), &["at-rest"]);
    terminal.keys(&["q"]);
    let picture = terminal.expect("ended 0");
    assert!(picture.contains("before"), "{picture}");
    terminal.assert_given_back();
}

/// Both pictures of docs/top.md, but for figures and curves, and for the stack, which is the kernel's.
#[test]
fn it_looks_as_the_book_says() {
    let page = include_str!("../../../docs/top.md");
    let pictures: Vec<_> = page.split("```\n").skip(1).step_by(2).take(2).collect();
    fs::create_dir_all("/srv").expect("a directory");
    let scratch = Scratch::within(Path::new("/srv"), "data");
    let monitor = Monitor::alone();
    let db = book::start(&scratch, "db", "segment.db");
    let client = book::start(&scratch, "ring-client", "index.db");
    let xdp = Actor::start_as(Path::new("/run/xdpsock"));
    pin_without_lease(&xdp, &scratch.file("bare"));
    let backup = Actor::start_as(Path::new("/run/backup"));
    backup.ok(&format!("open f {} ro", scratch.file("segment.db")));
    let terminal = Terminal::start(80, 24);
    terminal.line("lease-trace top");
    terminal.expect(&format!("from monitor {}", monitor.pid()));
    expect_of(&terminal, db.pid(), &["covered"]);
    db.ok("setlease f u");
    let picture = expect_of(&terminal, db.pid(), &["zombie", "unlock", "256"]);
    assert_eq!(shape(&picture), shape(pictures[0]), "{picture}");
    terminal.keys(&["Enter"]);
    let picture = terminal.wait("others", |picture| picture.contains("others   backup["));
    assert_eq!(details(&picture), details(pictures[1]), "{picture}");
    terminal.keys(&["q"]);
    for actor in [db, client, xdp] {
        actor.ok("unregister-buffers ring");
    }
}

fn shape(picture: &str) -> Vec<String> {
    let without_curve = |line: &str| {
        line.trim_end_matches(|c| " ▁▂▃▄▅▆▇█".contains(c))
            .to_owned()
    };
    let lines: Vec<_> = picture.lines().map(without_curve).collect();
    book::shape(lines.join("\n").trim_end())
}

/// The left half of the details.
fn details(picture: &str) -> Vec<String> {
    let lines = picture
        .lines()
        .skip_while(|line| !line.starts_with("─ zombie"));
    let half = |line: &str| {
        let left: String = line.chars().take(47).collect();
        left.trim_end_matches([' ', '─']).to_owned()
    };
    let halves: Vec<_> = lines.map(half).collect();
    book::shape(halves.join("\n").trim_end())
}

#[test]
fn a_monitor_that_ends_is_told() {
    let monitor = Monitor::alone();
    let terminal = Terminal::start(80, 24);
    terminal.line("lease-trace top");
    terminal.expect(&format!("from monitor {}", monitor.pid()));
    monitor.stop();
    terminal.expect("has ended; these figures are of");
    let next = Monitor::alone();
    terminal.wait("the next one", |picture| {
        picture.contains(&format!("from monitor {}", next.pid())) && !picture.contains("has ended")
    });
    terminal.keys(&["C-c"]);
    terminal.wait("the shell", |picture| !picture.contains("from monitor"));
    terminal.assert_given_back();
}

#[test]
fn without_a_monitor_it_watches_by_itself() {
    no_monitor();
    let scratch = Scratch::new();
    let terminal = Terminal::start(80, 24);
    terminal.line("lease-trace top --no-color; echo ended $?");
    terminal.wait("a screen of its own", |picture| {
        picture.contains("watching by itself since") && picture.contains("Nothing has a lease")
    });
    let actor = Actor::start();
    open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok("setlease f u");
    expect_of(
        &terminal,
        actor.pid(),
        &["zombie", "unlock", "256", "io_uring"],
    );
    let plain = terminal.coloured();
    assert!(!plain.contains("\x1b[3"), "{plain:?}");

    // SIGTERM: the terminal is given back, and nothing stays in the kernel.
    let pid = top().expect("it runs");
    // SAFETY: a signal to a process; no memory is involved.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
    terminal.expect("ended 0");
    terminal.assert_given_back();
    assert!(!Path::new(IN_THE_KERNEL).exists());

    // With colours, of the sixteen that every terminal has. Then the connection is lost.
    terminal.line("clear; lease-trace top");
    terminal.expect("watching by itself");
    let other = Actor::start();
    open_lease_and_pin(&other, &scratch.file("g"));
    other.ok("setlease f u");
    expect_of(&terminal, other.pid(), &["zombie"]);
    let coloured = terminal.coloured();
    assert!(
        coloured.contains("\x1b[31m") || coloured.contains(";31m"),
        "{coloured:?}"
    );
    for more in ["38;5;", "38;2;", "48;5;", "48;2;"] {
        assert!(!coloured.contains(more), "{more}: {coloured:?}");
    }
    let pid = top().expect("it runs");
    terminal.hang_up();
    assert!(
        eventually(|| !Path::new(&format!("/proc/{pid}")).exists()),
        "it runs on"
    );
    assert!(!Path::new(IN_THE_KERNEL).exists());
}

#[test]
fn where_there_is_no_terminal_it_says_what_to_do() {
    let ran = Tool::beside(&["top"]).finish();
    ran.exits(2).says(&["stdout is none", "lease-trace report"]);
}
