//! `pins`: everything here is pinned before anything of ours is loaded.

use std::path::Path;

use serde_json::Value;

use crate::harness::{
    Actor, Monitor, Overlay, PAGES, Pinned, Ran, Scratch, Subject, Tool, cannot, expect_rest,
    expect_zombie, integer, no_monitor, open_lease_and_pin, text,
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
        cannot("cloned buffers", refusal.errno);
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
    assert!(row["address"].is_null(), "{row}");
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
    assert_eq!(of(&[&scratch.directory().display().to_string()]), both);
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

/// Its descriptor is closed; what has mapped it keeps it, and its buffers.
#[test]
fn a_ring_that_only_a_mapping_keeps_is_found() {
    no_monitor();
    let scratch = Scratch::new();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.all(&["mmap r ring 4K shared rw", "close ring"]);
    let row = only_row(&pins(&[]), actor.pid());
    assert_row(&row, actor.pid(), &file, "ring buffer 0", "io_uring");
    assert!(row["fd"].is_null(), "{row}");
    assert!(row["holders"][0]["fd"].is_null(), "{row}");
    assert_all_found();
}

/// One umem over eight files: io_uring takes none of several files on 6.1.
#[test]
fn an_object_has_a_row_for_each_of_its_files() {
    no_monitor();
    let scratch = Scratch::new();
    let actor = Actor::start();
    actor.all(&["xdp-socket x", "mmap-anon area 512K private"]);
    for number in 0..8 {
        let path = scratch.file(&number.to_string());
        actor.ok(&format!("open f{number} {path} rw,creat"));
        actor.ok(&format!("write-all f{number} 64K"));
        let at = 64 * number;
        actor.ok(&format!("mmap-over area {at}K f{number} 64K shared rw"));
    }
    actor.ok("xdp-umem x area");
    let ran = pins(&[]);
    let rows = ran.rows("pins", actor.pid());
    let paths: Vec<_> = rows
        .iter()
        .map(|row| text(row, "path").to_owned())
        .collect();
    let wanted: Vec<_> = (0..8)
        .map(|number| scratch.file(&number.to_string()))
        .collect();
    assert_eq!(paths, wanted, "{ran}");
    for row in &rows {
        assert_eq!(row["object"], "umem", "{ran}");
        assert_eq!(row["pins"], 16, "{ran}");
        assert_eq!(row["size_bytes"], 512 << 10, "{ran}");
    }
    assert_all_found();
}

/// More parts than one run of the program has room for, full in the middle of an entry: pages of two files in turn.
#[test]
fn very_many_parts_are_all_found() {
    const PAGES: i64 = 4_200;
    no_monitor();
    let scratch = Scratch::new();
    let actor = Actor::start();
    actor.all(&[
        "xdp-socket x",
        &format!("mmap-anon area {}K private", 4 * PAGES),
    ]);
    for name in ["a", "b"] {
        actor.ok(&format!("open {name} {} rw,creat", scratch.file(name)));
        actor.ok(&format!("write-all {name} 4K"));
    }
    for page in 0..PAGES {
        let name = if page % 2 == 0 { "a" } else { "b" };
        actor.ok(&format!("mmap-over area {}K {name} 4K shared rw", 4 * page));
    }
    actor.ok("xdp-umem x area");
    let rows = pins(&[]).rows("pins", actor.pid());
    let sum: i64 = rows.iter().map(|row| integer(row, "pins")).sum();
    assert_eq!((rows.len() as i64, sum), (PAGES, PAGES));
    assert_all_found();
}

/// The lease is on overlayfs' inode, the pages are those of the file beneath.
#[test]
fn a_file_of_overlayfs_has_the_name_it_has_there() {
    no_monitor();
    let scratch = Scratch::new();
    let overlay = Overlay::over(&scratch);
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &overlay.file("f"));
    let row = only_row(&pins(&[]), actor.pid());
    assert_row(&row, actor.pid(), &file, "ring buffer 0", "io_uring");
    assert_eq!(row["leased"], "write", "{row}");
    only_row(&pins(&[&file.path]), actor.pid());
    assert_all_found();
}

/// A dma-buf that was sent to another process, and closed where it was made.
#[test]
fn a_dma_buf_is_found_with_whoever_has_it() {
    no_monitor();
    let actor = Actor::start();
    if !Path::new("/dev/udmabuf").exists() {
        actor.err("open b /dev/udmabuf rw", libc::ENOENT);
        cannot("udmabuf (CONFIG_UDMABUF)", libc::ENOENT);
        return;
    }
    actor.all(&["memfd f 1M", "seal f", "write-all f 1M", "udmabuf b f 0 1M"]);
    let row = only_row(&pins(&[]), actor.pid());
    assert_eq!(row["path"], "/memfd:f", "{row}");
    assert_eq!(
        (&row["pins"], &row["consumer"]),
        (&PAGES.into(), &"udmabuf".into()),
        "{row}"
    );
    let link = format!("/proc/{}/fdinfo/{}", actor.pid(), row["fd"]);
    let info = std::fs::read_to_string(&link).unwrap_or_else(|error| panic!("{link}: {error}"));
    let number = info.lines().find_map(|line| line.strip_prefix("ino:"));
    let number = number.expect("fdinfo has the inode").trim();
    assert_eq!(row["object"], format!("dma-buf {number}"), "{row}");
    let child = actor.fork("child");
    actor.all(&[
        "child: close b",
        "send-fd b child",
        "child: recv-fd c parent",
        "close b",
    ]);
    let row = only_row(&pins(&[]), child);
    assert_eq!(row["path"], "/memfd:f", "{row}");
    assert_all_found();
}

/// By page frame and by block of memory, as somebody asks who wants that block offline.
#[test]
fn a_page_frame_has_those_who_pin_it() {
    no_monitor();
    let scratch = Scratch::new();
    let actor = Actor::start();
    open_lease_and_pin(&actor, &scratch.file("f"));
    let row = only_row(&pins(&[]), actor.pid());
    let address = integer(&row, "address").cast_unsigned();
    let frame = frame_of(actor.pid(), address);
    let row = only_row(&pins(&["--pfn", &frame.to_string()]), actor.pid());
    assert_eq!(row["pins"], 1, "{row}");
    let size = std::fs::read_to_string("/sys/devices/system/memory/block_size_bytes");
    let size = u64::from_str_radix(size.expect("memory hotplug").trim(), 16).expect("hex") / 4096;
    let block = (frame / size).to_string();
    let row = only_row(&pins(&["--memory-block", &block]), actor.pid());
    assert!((1..=PAGES).contains(&integer(&row, "pins")), "{row}");
    let why = Tool::run(&["why", &format!("memory{block}")]).exits(0);
    assert!(why.stdout.contains("ring buffer 0"), "{why}");
    assert_eq!(
        pins(&["--pfn", "1"]).rows("pins", actor.pid()),
        Vec::<Value>::new()
    );
    let ghost = ["pins", "--memory-block", "memory99999999"];
    Tool::run(&ghost)
        .exits(2)
        .says(&["memory-block 99999999", "/sys/devices/system/memory"]);
}

/// The page frame behind an address (Documentation/admin-guide/mm/pagemap.rst).
fn frame_of(pid: i64, address: u64) -> u64 {
    use std::os::unix::fs::FileExt as _;
    let pagemap = std::fs::File::open(format!("/proc/{pid}/pagemap")).expect("pagemap");
    let mut entry = [0; 8];
    pagemap
        .read_exact_at(&mut entry, address / 4096 * 8)
        .expect("an entry");
    u64::from_le_bytes(entry) & ((1 << 55) - 1)
}

#[test]
fn why_says_who_and_what_would_free_it() {
    no_monitor();
    let scratch = Scratch::new();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    let pid = actor.pid();
    for what in [
        file.path.clone(),
        scratch.directory().display().to_string(),
        pid.to_string(),
    ] {
        let ran = Tool::run(&["why", &what]).exits(0);
        let said = ran.stdout.replace("\n  ", " ");
        for part in [
            "256",
            &format!("client[{pid}]"),
            "ring buffer 0",
            "unregistered",
        ] {
            assert!(said.contains(part), "`{part}`: {ran}");
        }
    }
    let ran = Tool::run(&["why", &file.path]).exits(0);
    assert!(
        ran.stdout
            .contains(&format!("A write lease is on it, held by client[{pid}].")),
        "{ran}"
    );
    actor.ok("unregister-buffers ring");
    let ran = Tool::run(&["why", &file.path]).exits(0);
    assert!(ran.stdout.contains("Nothing is found"), "{ran}");
    Tool::run(&["why", "/ghost"])
        .exits(2)
        .says(&["/ghost", "no pid"]);
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

/// It needs nothing of a monitor, and takes nothing from it.
#[test]
fn beside_a_monitor_it_says_the_same() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    let row = only_row(&pins(&[]), actor.pid());
    assert_row(&row, actor.pid(), &file, "ring buffer 0", "io_uring");
    assert_all_found();
    actor.ok("setlease f u");
    expect_zombie(&monitor, actor.pid(), &file, "unlock");
    actor.ok("unregister-buffers ring");
    expect_rest(&monitor, actor.pid(), &file);
}

/// Nobody's but root's.
#[test]
fn it_takes_the_same_rights_as_a_report() {
    no_monitor();
    Tool::new(&["pins"]).user(1000).finish().exits(2);
}
