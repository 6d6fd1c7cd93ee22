//! Clients that keep the rules: enforcement changes nothing of what they see.

use crate::harness::{Actor, Enforcement, Fate, Scratch, no_monitor};

/// Denies and, where that is not possible, kills whoever breaks the rule.
const STRICT: &str = "mode = \"enforce\"\n[[rule]]\nname = \"r\"\naction = \"deny\"\n\
                      fallback = \"kill\"\n";

/// Leases and pins in every order that is allowed, and what the kernel refuses by itself.
/// `FILE` stands for a new file.
const LEASES: &[&str] = &[
    "open f FILE rw,creat",
    "getlease f",
    "setlease f u",
    "setlease f r",
    "setlease f w",
    "getlease f",
    "setlease f w",
    "setlease f u",
    "setlease f u",
    "setlease f w",
    "close f",
    "open f FILE ro",
    "open g FILE ro",
    "setlease f r",
    "setlease g r",
    "setlease f w",
    "getlease f",
    "setlease f u",
    "getlease g",
    "close g",
    "dup f h",
    "setlease f r",
    "close f",
    "getlease h",
    "open w FILE rw,nonblock",
    "setlease h u",
    "open w FILE rw,nonblock",
    "setlease h r",
    "close w",
    "setlease h r",
    "setdeleg h r",
    "getdeleg h",
    "memfd other 4K",
    "dup2 other h",
    "close_range other h",
];
const BUFFERS: &[&str] = &[
    "uring ring",
    "unregister-buffers ring",
    "open f FILE rw,creat",
    "write-all f 1M",
    "mmap m f 1M shared rw",
    "register-buffers ring m",
    "register-buffers ring m",
    "unregister-buffers ring",
    "setlease f w",
    "register-buffers ring m",
    "setlease f w",
    "getlease f",
    "unregister-buffers ring",
    "setlease f u",
    "setlease f w",
    "register-buffers ring m 0 64K",
    "unregister-buffers ring",
    "unregister-buffers ring",
    "munmap m",
    "close f",
    "open f FILE rw",
    "setlease f w",
    "mmap m f 1M shared rw",
    "register-buffers ring m",
    "register-files ring f",
    "close f",
    "munmap m",
    "unregister-buffers ring",
    "unregister-files ring",
    "open f FILE rw",
    "setlease f w",
    "mmap m f 1M shared rw",
    "register-buffers ring m",
    "fork child",
    "child: close f",
    "child: munmap m",
    "child: close ring",
    "child: exit 0",
    "touch m",
    "mremap m 64K",
    "dup f g",
    "close f",
    "unregister-buffers ring",
    "close ring",
    "munmap m",
    "close g",
    "exit 0",
];

/// All answers, word for word. Pids differ from run to run and are left out.
fn answers(script: &[&str]) -> Vec<String> {
    let scratch = Scratch::new();
    let mut actor = Actor::start();
    let (last, script) = script.split_last().expect("a script");
    let mut answers = Vec::new();
    for command in script {
        let line = command.replace("FILE", &scratch.file("f"));
        let answer = match actor.attempt(&line) {
            Ok(_) if command.starts_with("fork") => "a pid".to_owned(),
            Ok(values) => values,
            Err(refusal) => refusal.to_string().replace(&scratch.file("f"), "FILE"),
        };
        answers.push(format!("{command}: {answer}"));
    }
    let fate: Fate = actor.fate(last);
    answers.push(format!("{last}: {fate:?}"));
    answers
}

#[test]
fn they_see_no_difference() {
    no_monitor();
    let scripts = [LEASES, BUFFERS];
    let without = scripts.map(answers);
    let enforcement = Enforcement::start(STRICT);
    let monitor = enforcement.monitor();
    let with = scripts.map(answers);
    assert_eq!(without, with);
    let refused = |answers: &[String]| {
        answers
            .iter()
            .filter(|answer| answer.contains("errno"))
            .count()
    };
    assert!(refused(&without[0]) > 3, "{without:#?}");
    assert_eq!(
        enforcement.hits("r"),
        serde_json::json!({}),
        "{}",
        monitor.account()
    );
}
