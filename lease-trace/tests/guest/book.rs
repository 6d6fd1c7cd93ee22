//! Pages of the documentation: their commands are run, and print what the pages say they print.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{
    Actor, Enforcement, PAGES, Pinned, Scratch, Tool, eventually, interrupt, no_monitor,
};

const QUICK_START: &str = include_str!("../../../docs/quick-start.md");
const FILES: &str = include_str!("../../../docs/files.md");
const OUTPUT: &str = include_str!("../../../docs/output.md");
const POLICY: &str = include_str!("../../../docs/policy.md");
const KERNELS: &str = include_str!("../../../docs/kernels.md");
const ENFORCEMENT: &str = include_str!("../../../docs/enforcement.md");
const PROMPT: &str = "$ sudo ";
const TOOL: &str = "lease-trace ";

/// Each command of root's on a page, and what it prints there.
fn commands(page: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    page.split("```console\n").skip(1).filter_map(|rest| {
        let (block, _) = rest.split_once("```").expect("a block ends");
        let (command, printed) = block.split_once('\n')?;
        Some((command.strip_prefix(PROMPT)?, printed))
    })
}

/// Those of lease-trace, as arguments.
fn invocations(page: &'static str) -> impl Iterator<Item = (Vec<&'static str>, &'static str)> {
    commands(page).filter_map(|(command, printed)| {
        let arguments = command.strip_prefix(TOOL)?;
        Some((arguments.split(' ').collect(), printed))
    })
}

/// What differs from one run to the next, taken out: numbers, and the width that they have.
pub fn shape(printed: &str) -> Vec<String> {
    let line = |line: &str| {
        let words = line.split_whitespace().map(|word| {
            let mut shape = String::new();
            for c in word.chars() {
                let c = if c.is_ascii_digit() { '0' } else { c };
                // 9.8s and 10s are as good as 999ms.
                if c != '0' || !shape.ends_with('0') {
                    shape.push(c);
                }
            }
            match shape.as_str() {
                "0.0s" | "0s" | "0ms" => "TIME".to_owned(),
                _ => shape,
            }
        });
        words.collect::<Vec<_>>().join(" ")
    };
    printed.lines().map(line).collect()
}

#[track_caller]
fn assert_printed(arguments: &[&str], printed: &str, expected: &str) {
    assert_eq!(
        shape(printed),
        shape(expected),
        "`lease-trace {}` prints:\n{printed}",
        arguments.join(" ")
    );
}

/// A program of this name that has a lease on a file, and its pages in a ring.
pub fn start(scratch: &Scratch, name: &str, file: &str) -> Actor {
    let actor = Actor::start_as(&Path::new("/run").join(name));
    let path = scratch.file(file);
    actor.ok("uring ring");
    actor.ok(&format!("open f {path} rw,creat"));
    actor.all(&["write-all f 1M", "setlease f w"]);
    actor.all(&["mmap m f 1M shared rw", "register-buffers ring m"]);
    actor
}

#[test]
fn commands_print_what_the_book_says() {
    fs::create_dir_all("/srv").expect("a directory");
    let scratch = Scratch::within(Path::new("/srv"), "data");
    let pinned = Pinned::now();
    let all: Vec<_> = invocations(QUICK_START).collect();
    let watches = |(arguments, _): &(Vec<&str>, &str)| arguments[0] == "monitor";
    let place = all.iter().position(watches).expect("one monitor");
    let (first, (watch, shown), asked) = (&all[..place], &all[place], &all[place + 1..]);
    for (arguments, expected) in first {
        run(arguments, expected);
    }
    let mut monitor = Tool::new(watch).stdout(Stdio::piped()).spawn();
    let mut output = BufReader::new(monitor.stdout.take().expect("a pipe"));
    let mut printed = String::new();
    output.read_line(&mut printed).expect("headings");

    let db = start(&scratch, "db", "segment.db");
    let loader = start(&scratch, "loader", "index.db");
    db.ok("setlease f u");
    let is_told = || Tool::beside(&["report"]).finish().code == Some(1);
    assert!(eventually(is_told), "no zombie in the report");
    assert_eq!(pinned.since(), 2 * PAGES);
    for (arguments, expected) in asked {
        run(arguments, expected);
    }
    for (command, expected) in commands(FILES).chain(commands(OUTPUT)) {
        if let Some(arguments) = command.strip_prefix(TOOL) {
            let words: Vec<_> = arguments.split(' ').collect();
            run(&words, expected);
        } else {
            shell(command, expected);
        }
    }
    loader.all(&["unregister-buffers ring", "setlease f u"]);
    db.ok("unregister-buffers ring");
    pinned.assert_balanced();
    interrupt(&monitor, libc::SIGINT);
    output.read_to_string(&mut printed).expect("its rows");
    assert!(monitor.wait().expect("a child").success());
    assert_printed(watch, &printed, shown);
}

/// Runs a command. Where the page does not show what it prints, its status alone counts.
#[track_caller]
fn run(arguments: &[&str], expected: &str) {
    let ran = Tool::beside(arguments).finish();
    assert!(matches!(ran.code, Some(0 | 1)), "{ran}");
    if !expected.is_empty() {
        assert_printed(arguments, &ran.stdout, expected);
    }
}

/// The same of any other command; the files in bpffs have their rows in no order.
#[track_caller]
fn shell(command: &str, expected: &str) {
    let ran = Command::new("sh").args(["-c", command]).output();
    let ran = ran.expect("a shell");
    assert!(ran.status.success(), "{command}: {ran:?}");
    let printed = String::from_utf8(ran.stdout).expect("text");
    let sorted = |text: &str| {
        let mut lines = shape(text);
        lines.sort_unstable();
        lines
    };
    assert_eq!(
        sorted(&printed),
        sorted(expected),
        "`{command}` prints:\n{printed}"
    );
}

/// The first policy on a page.
fn policy(page: &'static str) -> &'static str {
    let (_, rest) = page.split_once("```toml\n").expect("a policy");
    rest.split_once("```").expect("it ends").0
}

/// Whether the page's output is that of this kernel.
fn is_of(release: &str) -> bool {
    let running = fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    running.starts_with(release)
}

/// What depends on the kernel is shown for one of them; the commands work on each.
#[test]
fn a_kernel_is_told_as_the_book_does() {
    no_monitor();
    // The policy names it.
    fs::create_dir_all("/srv").expect("a directory");
    let scratch = Scratch::new();
    fs::write(scratch.file("policy.toml"), policy(POLICY)).expect("writes");
    let mut shown = 0;
    for (arguments, printed) in invocations(KERNELS).chain(invocations(POLICY)) {
        let path = scratch.file("policy.toml");
        let file = |word: &&'static str| {
            if *word == "policy.toml" {
                path.clone()
            } else {
                (*word).to_owned()
            }
        };
        let typed: Vec<_> = arguments.iter().map(file).collect();
        let typed: Vec<_> = typed.iter().map(String::as_str).collect();
        let ran = Tool::run(&typed).exits(0);
        if is_of("6.1.") {
            assert_printed(
                &arguments,
                &ran.stdout.replace(&path, "policy.toml"),
                printed,
            );
        }
        shown += 1;
    }
    assert_eq!(shown, 2, "doctor and policy check");
}

#[test]
fn a_status_is_what_the_book_says() {
    fs::create_dir_all("/srv").expect("a directory");
    let scratch = Scratch::within(Path::new("/srv"), "data");
    let enforcement = Enforcement::start(policy(ENFORCEMENT));
    let monitor = enforcement.monitor();
    let loader = start(&scratch, "loader", "index.db");
    loader.err("setlease f u", libc::EBUSY);
    let mut shown = 0;
    for (arguments, printed) in invocations(ENFORCEMENT) {
        if arguments != ["enforce", "status"] {
            continue;
        }
        let ran = Tool::run(&arguments).exits(0);
        if is_of("7.") {
            assert_printed(&arguments, &ran.stdout, printed);
        }
        shown += 1;
    }
    assert_eq!(shown, 1);
    loader.all(&["unregister-buffers ring", "setlease f u"]);
    drop(monitor);
}
