//! `pins`: everything here is pinned before anything of ours is loaded.

use serde_json::Value;

use crate::harness::{
    Actor, PAGES, Pinned, Ran, Scratch, Subject, Tool, integer, no_monitor, open_lease_and_pin,
    text,
};

/// What `pins` says with these arguments.
#[track_caller]
pub fn pins(arguments: &[&str]) -> Ran {
    Tool::run(&[&["pins", "-J"], arguments].concat()).exits(0)
}

/// A file on tmpfs with 1 MiB in a ring: the row.
#[track_caller]
pub fn only_row(ran: &Ran, pid: i64) -> Value {
    let rows = ran.rows("pins", pid);
    assert_eq!(rows.len(), 1, "{ran}");
    rows[0].clone()
}

/// The owner, its descriptor, the file and its lease, and how many pins.
#[track_caller]
pub fn assert_row(row: &Value, pid: i64, file: &Subject, object: &str, consumer: &str) {
    assert_eq!(row["pid"], pid, "{row}");
    assert_eq!(row["object"], object, "{row}");
    assert_eq!(row["consumer"], consumer, "{row}");
    assert_eq!(row["path"], file.path, "{row}");
    assert_eq!(row["ino"], file.ino, "{row}");
    assert_eq!(row["dev"], file.dev, "{row}");
    assert_eq!(row["pins"], PAGES, "{row}");
}

/// Nothing is left out: what was found is what the kernel counts.
#[track_caller]
pub fn assert_all_found() {
    Tool::run(&["pins", "--check"]).exits(0);
}

#[test]
fn a_ring_has_a_row_for_each_buffer() {
    no_monitor();
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    let ran = pins(&[]);
    let row = only_row(&ran, actor.pid());
    assert_row(&row, actor.pid(), &file, "ring buffer 0", "io_uring");
    assert_eq!(row["leased"], "write", "{row}");
    assert_eq!(row["size_bytes"], 1 << 20, "{row}");
    let link = std::fs::read_link(format!("/proc/{}/fd/{}", actor.pid(), row["fd"]));
    let link = link.expect("the ring is open").display().to_string();
    assert_eq!(link, "anon_inode:[io_uring]", "{row}");
    assert_eq!(row["holders"].as_array().map(Vec::len), Some(1), "{row}");
    assert_all_found();
    // Another ring of the same process, on a quarter of the same file.
    actor.all(&[
        "uring other",
        "register-buffers other m 0 256K",
        "setlease f u",
    ]);
    let rows = pins(&[]).rows("pins", actor.pid());
    let counts: Vec<_> = rows.iter().map(|row| integer(row, "pins")).collect();
    assert_eq!(counts, [PAGES, PAGES / 4], "{rows:?}");
    assert!(rows.iter().all(|row| row["leased"].is_null()), "{rows:?}");
    assert_ne!(rows[0]["fd"], rows[1]["fd"], "{rows:?}");
    assert_all_found();
    actor.all(&["unregister-buffers ring", "unregister-buffers other"]);
    assert_eq!(pins(&[]).rows("pins", actor.pid()), Vec::<Value>::new());
    pinned.assert_balanced();
}

/// A child has the ring, too; the pins are those of its maker, also when that has closed it.
#[test]
fn an_inherited_ring_is_its_makers() {
    no_monitor();
    let scratch = Scratch::new();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    let child = actor.fork("child");
    let row = only_row(&pins(&[]), actor.pid());
    assert_row(&row, actor.pid(), &file, "ring buffer 0", "io_uring");
    let holders = row["holders"].as_array().expect("a list");
    let pids: Vec<_> = holders
        .iter()
        .map(|holder| integer(holder, "pid"))
        .collect();
    assert_eq!(pids.len(), 2, "{row}");
    assert!(pids.contains(&child), "{row}");
    actor.ok("close ring");
    let row = only_row(&pins(&[]), actor.pid());
    assert_row(&row, actor.pid(), &file, "ring buffer 0", "io_uring");
    assert!(row["fd"].is_null(), "{row}");
    assert_all_found();
}

#[test]
fn buffers_that_rings_share_are_counted_once() {
    no_monitor();
    let scratch = Scratch::new();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok("uring clone");
    if let Err(refusal) = actor.attempt("clone-buffers clone ring") {
        assert_eq!(refusal.errno, libc::EINVAL, "{refusal}");
        crate::harness::cannot("cloned buffers", refusal.errno);
        return;
    }
    let ran = pins(&[]);
    let rows = ran.rows("pins", actor.pid());
    assert_eq!(rows.len(), 2, "{ran}");
    for row in &rows {
        assert_row(row, actor.pid(), &file, "ring buffer 0", "io_uring");
    }
    assert!(rows[0]["shared"].is_null(), "{ran}");
    assert_eq!(rows[1]["shared"], true, "{ran}");
    assert_all_found();
}

#[test]
fn a_umem_is_found() {
    no_monitor();
    let scratch = Scratch::new();
    let actor = Actor::start();
    let path = scratch.file("f");
    actor.ok("xdp-socket x");
    actor.ok(&format!("open f {path} rw,creat,cloexec"));
    actor.all(&["write-all f 1M", "mmap m f 1M shared rw", "xdp-umem x m"]);
    let row = only_row(&pins(&[]), actor.pid());
    assert_row(&row, actor.pid(), &Subject::at(&path), "umem", "xdp");
    assert_eq!(row["size_bytes"], 1 << 20, "{row}");
    assert_all_found();
}

/// What was truncated is in no file any more; its owner is known all the same.
#[test]
fn pages_that_left_their_file_are_told_apart() {
    no_monitor();
    let scratch = Scratch::new();
    let actor = Actor::start();
    open_lease_and_pin(&actor, &scratch.file("f"));
    actor.all(&["setlease f u", "truncate f 0"]);
    let ran = pins(&[]);
    assert_eq!(ran.rows("pins", actor.pid()), Vec::<Value>::new(), "{ran}");
    let ran = ran.says(&["256 pins in memory that is no file", "--all-memory"]);
    assert_eq!(ran.json()["not_found"], 0, "{ran}");
    let row = only_row(&pins(&["--all-memory"]), actor.pid());
    assert_eq!(row["memory"], "detached", "{row}");
    assert_eq!(row["pins"], PAGES, "{row}");
    assert_all_found();
}

#[test]
fn anonymous_memory_is_asked_for() {
    no_monitor();
    let actor = Actor::start();
    actor.all(&[
        "uring ring",
        "mmap-anon m 1M private",
        "register-buffers ring m",
    ]);
    let row = only_row(&pins(&["--all-memory"]), actor.pid());
    assert_eq!(row["memory"], "anonymous", "{row}");
    assert!(row["path"].is_null(), "{row}");
    assert_all_found();
}

/// 100 buffers of 100 files, and the filters.
#[test]
fn each_file_of_many_has_its_row() {
    no_monitor();
    let scratch = Scratch::new();
    let actors = [Actor::start(), Actor::start()];
    for (n, actor) in actors.iter().enumerate() {
        open_lease_and_pin(actor, &scratch.file(&format!("f{n}")));
    }
    let [first, second] = &actors;
    let of = |arguments: &[&str]| -> Vec<i64> {
        let document = pins(arguments).json();
        let rows = document["pins"].as_array().expect("a list").clone();
        rows.iter().map(|row| integer(row, "pid")).collect()
    };
    let both = [first.pid(), second.pid()];
    assert_eq!(of(&[]), both);
    assert_eq!(of(&[&scratch.file("f1")]), [second.pid()]);
    assert_eq!(of(&[&scratch.folder().display().to_string()]), both);
    assert_eq!(of(&["/proc"]), Vec::<i64>::new());
    assert_eq!(of(&["-p", &first.pid().to_string()]), [first.pid()]);
    assert_eq!(of(&["-p", &format!("{},{}", both[0], both[1])]), both);
    assert_eq!(of(&["--consumer", "io_uring"]), both);
    assert_eq!(of(&["--consumer", "xdp"]), Vec::<i64>::new());
    Tool::run(&["pins", "-p", "4194303"])
        .exits(2)
        .says(&["no process", "leave -p out"]);
    Tool::run(&["pins", &scratch.file("ghost")])
        .exits(2)
        .says(&["cannot look at", "give a file"]);
    Tool::run(&["pins", "-o", "GHOST"])
        .exits(2)
        .says(&["no column", "HOLDERS"]);
}

#[test]
fn it_looks_as_the_book_says() {
    no_monitor();
    let scratch = Scratch::new();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    let ran = Tool::run(&["pins"]).exits(0);
    let mut lines = ran.stdout.lines();
    let headings: Vec<_> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let usual = [
        "COMMAND", "PID", "FD", "OBJECT", "ADDRESS", "SIZE", "PINS", "CONSUMER", "LEASED", "PATH",
    ];
    assert_eq!(headings, usual, "{ran}");
    let row = lines.next().unwrap_or_default();
    assert!(
        row.contains("ring buffer 0") && row.ends_with(&file.path),
        "{ran}"
    );
    let raw = Tool::run(&["pins", "-nr", "-o", "PID,OBJECT,SIZE,PINS"]).exits(0);
    let pid = actor.pid();
    assert_eq!(
        raw.stdout,
        format!("{pid} ring\\x20buffer\\x200 1048576 256\n")
    );
    let check = Tool::run(&["pins", "--check"]).exits(0);
    assert_eq!(check.stdout, "256 pins, all of them found\n");
    let document = pins(&[]).json();
    assert_eq!(text(&document["pins"][0], "memory"), "file");
}

/// Nobody's but root's.
#[test]
fn it_takes_the_same_rights_as_a_report() {
    no_monitor();
    Tool::new(&["pins"]).user(1000).finish().exits(2);
}
