//! The files in bpffs: text that the kernel writes from the stakes while somebody reads.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Output},
};

use crate::harness::{
    Actor, Enforcement, FILES as DIRECTORY, FileText as Text, Monitor, PAGES, Pinned, Scratch,
    Tool, expect_zombie, open_lease_and_pin,
};

/// Anybody but root.
const NOBODY: u32 = 65_534;

/// The same columns of the report.
fn reported(subject: &str, columns: &[&str], code: i32) -> BTreeSet<String> {
    let columns = columns.join(",");
    let ran = Tool::beside(&["report", subject, "-rno", &columns]).finish();
    let ran = ran.exits(code);
    ran.stdout.lines().map(str::to_owned).collect()
}

const OF_ZOMBIES: [&str; 10] = [
    "COMMAND", "PID", "KIND", "MODE", "CAUSE", "PINS", "CONSUMER", "DEV", "INODE", "PATH",
];
const OF_LEASES: [&str; 9] = [
    "COMMAND", "PID", "KIND", "MODE", "PINS", "CONSUMER", "DEV", "INODE", "PATH",
];

/// Every word of every row is that of the report, whatever a file is called.
#[test]
fn they_say_what_the_report_says() {
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let monitor = Monitor::start();
    let names = [
        "plain",
        "a blank",
        "back\\slash and\ta tab",
        "two\nlines",
        "\x1b[31mred\x7f",
        "[1]*'\"$(x)%s%n",
    ];
    let actors: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let actor = Actor::start();
            let file = open_lease_and_pin(&actor, &scratch.file(&format!("before{at}")));
            let after = scratch.file(name);
            fs::rename(&file.path, &after).expect("renames");
            // The path is that of the newest lease.
            actor.all(&["setlease f u", "setlease f w"]);
            (actor, after)
        })
        .collect();
    let covered = Actor::start();
    let kept = open_lease_and_pin(&covered, &scratch.file("kept"));
    let idle = Actor::start();
    idle.ok(&format!("open f {} rw,creat", scratch.file("leased")));
    idle.ok("setlease f w");
    let leases = Text::of("leases");
    assert_eq!(leases.lines(&OF_LEASES), reported("leases", &OF_LEASES, 0));
    assert_eq!(leases.row(idle.pid())[leases.column("PINS")], "0");
    assert_eq!(leases.number(covered.pid(), "SIZE_BYTES"), 1 << 20);

    for (actor, _) in &actors {
        actor.ok("setlease f u");
        monitor.expect_of("zombie", actor.pid());
    }
    let (gone, path) = &actors[0];
    fs::remove_file(path).expect("it is there");
    let zombies = Text::of("zombies");
    assert_eq!(
        zombies.lines(&OF_ZOMBIES),
        reported("zombies", &OF_ZOMBIES, 1)
    );
    assert_eq!(zombies.number(gone.pid(), "SIZE_BYTES"), 1 << 20);
    assert!(zombies.number(gone.pid(), "AGE_MS") < 600_000);

    let file_pins = Text::of("file_pins");
    assert_eq!(file_pins.rows.len(), names.len() + 1);
    let columns = [
        "COMMAND", "PID", "LEASES", "PINS", "CONSUMER", "DEV", "INODE", "PATH",
    ];
    let ours = |line: &String| !line.split(' ').any(|word| word == idle.pid().to_string());
    let stakes = reported("stakes", &columns, 0);
    assert_eq!(
        file_pins.lines(&columns),
        stakes.into_iter().filter(ours).collect()
    );
    let row = file_pins.row(covered.pid());
    let fd = &row[file_pins.column("FD")];
    let link = fs::read_link(format!("/proc/{}/fd/{fd}", covered.pid())).expect("a descriptor");
    assert_eq!(link.to_str(), Some("anon_inode:[io_uring]"));
    assert_eq!(row[file_pins.column("CONTEXT")], "[io_uring]");
    assert_eq!(row[file_pins.column("PATH")], kept.path);

    for (actor, _) in &actors {
        actor.ok("unregister-buffers ring");
        monitor.expect_of("at-rest", actor.pid());
    }
    covered.ok("unregister-buffers ring");
    assert!(Text::of("zombies").rows.is_empty());
    assert!(Text::of("file_pins").rows.is_empty());
    pinned.assert_balanced();
}

/// What is not ASCII is told byte by byte: who reads may have any locale.
#[test]
fn other_letters_are_bytes() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("größe\u{202e}"));
    actor.ok("setlease f u");
    expect_zombie(&monitor, actor.pid(), &file, "unlock");
    let zombies = Text::of("zombies");
    let path = &zombies.row(actor.pid())[zombies.column("PATH")];
    assert!(
        path.ends_with("/gr\\xc3\\xb6\\xc3\\x9fe\\xe2\\x80\\xae"),
        "{path}"
    );
    actor.ok("unregister-buffers ring");
}

/// With enforcement in place and no process of ours, and more rows than fit into one read.
#[test]
fn they_need_no_process() {
    const PROCESSES: usize = 400;
    const EACH: usize = 5;
    let scratch = Scratch::new();
    let enforcement = Enforcement::start("mode = \"audit\"\n");
    assert_eq!(enforcement.status()["monitor"], serde_json::Value::Null);
    let directory = scratch.file("files");
    fs::create_dir(&directory).expect("a directory");
    let actor = Actor::start();
    actor.ok(&format!("open-files {}", 2 * PROCESSES));
    actor.ok(&format!("crowd c {PROCESSES} {EACH} {directory}"));
    let leases = Text::of("leases");
    let length = fs::read(format!("{DIRECTORY}/leases"))
        .expect("reads")
        .len();
    assert!(length > 3 * 8 * 4096, "{length} bytes");
    assert_eq!(leases.rows.len(), PROCESSES * EACH);
    assert_eq!(leases.lines(&OF_LEASES), reported("leases", &OF_LEASES, 0));
    actor.ok("crowd-unlock c");
    let zombies = Text::of("zombies");
    assert_eq!(zombies.rows.len(), PROCESSES);
    assert_eq!(
        zombies.lines(&OF_ZOMBIES),
        reported("zombies", &OF_ZOMBIES, 1)
    );
    // As people do it.
    let shell = |script: &str| {
        let output = Command::new("sh").args(["-c", script]).output();
        String::from_utf8(output.expect("a shell").stdout).expect("text")
    };
    let counted = shell(&format!(
        "awk 'NR > 1 && $7 == 1 {{ n++ }} END {{ print n }}' {DIRECTORY}/zombies; \
         cat {DIRECTORY}/file_pins | wc -l"
    ));
    assert_eq!(counted, format!("{PROCESSES}\n{}\n", PROCESSES + 1));
    let watched = shell(&format!("timeout 3 watch -t -n 1 cat {DIRECTORY}/zombies"));
    for line in zombies.lines(&["COMMAND", "PID", "KIND", "MODE", "CAUSE"]) {
        assert!(watched.contains(&line), "{line} in {watched}");
    }
    actor.ok("crowd-end c");
    assert!(Text::of("leases").rows.is_empty());
}

/// Others read them if the administrator says so, and nothing else in the directory.
#[test]
fn others_read_what_they_may() {
    let scratch = Scratch::new();
    let policy = scratch.file("policy.toml");
    fs::write(&policy, "mode = \"audit\"\n").expect("writes");
    let enforcement = Enforcement::start("mode = \"audit\"\n");
    let start = |mode: &str| {
        let arguments = ["enforce", "start", "--policy", &policy, "--proc-mode", mode];
        Tool::beside(&arguments).finish()
    };
    start("0400").exits(0);
    assert!(!as_nobody("zombies").status.success());
    start("0444").exits(0);
    for file in ["zombies", "leases", "file_pins"] {
        let output = as_nobody(file);
        assert!(output.status.success(), "{output:?}");
        assert!(output.stdout.starts_with(b"COMMAND PID "), "{output:?}");
        assert_eq!(mode(file), 0o444);
    }
    for other in ["STAKES", "CONTROL", "."] {
        let output = as_nobody(other);
        assert!(!output.status.success(), "{other}: {output:?}");
    }
    start("0644").exits(2).says(&["--proc-mode", "0444"]);
    start("0400").exits(0);
    assert!(!as_nobody("zombies").status.success());
    drop(enforcement);
}

fn as_nobody(file: &str) -> Output {
    let mut command = Command::new("cat");
    command.arg(Path::new(DIRECTORY).join(file));
    command.uid(NOBODY).gid(NOBODY);
    command.output().expect("cat")
}

fn mode(file: &str) -> u32 {
    let found = fs::metadata(Path::new(DIRECTORY).join(file)).expect("it is there");
    found.permissions().mode() & 0o7777
}

/// They come and go with a monitor, and are root's.
#[test]
fn they_go_with_the_monitor() {
    let scratch = Scratch::new();
    let monitor = Monitor::alone();
    assert_eq!(mode("zombies"), 0o400);
    assert!(!as_nobody("zombies").status.success());
    let actor = Actor::start();
    open_lease_and_pin(&actor, &scratch.file("f"));
    let file_pins = Text::of("file_pins");
    assert_eq!(file_pins.rows.len(), 1, "the first row is the last");
    assert_eq!(file_pins.number(actor.pid(), "PINS"), PAGES.unsigned_abs());
    assert!(Text::of("zombies").rows.is_empty());
    drop(monitor);
    assert!(!Path::new(DIRECTORY).exists());
    actor.ok("unregister-buffers ring");
}
