//! Whatever the programs count as a loss or a correction, they log, too: by `lost` (state/losses.rs). A loss may be
//! named elsewhere, and counted without, only by those below.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use lease_trace_common::count::Count;

/// Who names a loss without `lost`: the file, the loss, and why.
const NAMED: [(&str, &str, &str); 4] = [
    (
        "state/inodes.rs",
        "LostWait",
        "an answer to who passes it on to `lost`",
    ),
    ("state/inodes.rs", "LostShares", "the same"),
    (
        "state/leases.rs",
        "LostShares",
        "an answer; who asked has the lease that it is about",
    ),
    ("state/leases.rs", "LostLeases", "the same"),
];

/// Who counts what does not stand there.
const COUNTED: [(&str, &str); 2] = [
    ("state/losses.rs", "`lost` itself"),
    (
        "judge/verdicts.rs",
        "what a rule came to, of which there is an event",
    ),
];

/// The programs' sources without comments, by their paths below `src`.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../lease-trace-ebpf/src");
    let mut directories = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).expect("a directory") {
            let path: PathBuf = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let name = path.strip_prefix(&root).expect("below the root");
            let text = fs::read_to_string(&path).expect("a source");
            found.push((name.display().to_string(), without_comments(&text)));
        }
    }
    found
}

fn without_comments(text: &str) -> String {
    let lines = text.lines();
    let code = lines.map(|line| line.split_once("//").map_or(line, |(code, _)| code));
    code.collect::<Vec<_>>().join("\n")
}

/// The first arguments of all calls of this function, up to the comma or the end.
fn first_arguments<'a>(text: &'a str, function: &str) -> Vec<&'a str> {
    let call = format!("{function}(");
    let calls = text.match_indices(&call).filter(|(at, _)| {
        let before = &text[..*at];
        !before.ends_with(|last: char| last == '_' || last == '.' || last.is_alphanumeric())
            && !before.ends_with("fn ")
    });
    calls
        .map(|(at, _)| first_argument(&text[at + call.len()..]).trim())
        .collect()
}

fn first_argument(arguments: &str) -> &str {
    let mut depth = 0;
    let end = arguments.find(|character| {
        match character {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
        depth < 0 || depth == 0 && character == ','
    });
    &arguments[..end.unwrap_or(arguments.len())]
}

/// The counts named in a text that mean a loss.
fn losses(text: &str) -> Vec<String> {
    let named = text.split("Count::").skip(1).map(|behind| {
        let end = behind.find(|character: char| !character.is_alphanumeric());
        &behind[..end.unwrap_or(behind.len())]
    });
    let all: BTreeSet<String> = Count::ALL
        .into_iter()
        .filter(|count| count.loss().is_some())
        .map(|count| format!("{count:?}"))
        .collect();
    named
        .filter(|name| all.contains(*name))
        .map(str::to_owned)
        .collect()
}

/// Losses of a text that are named outside of the first argument of `lost`.
fn unlogged(text: &str) -> Vec<String> {
    let mut named = losses(text);
    for argument in first_arguments(text, "lost") {
        for loss in losses(argument) {
            let at = named.iter().position(|name| *name == loss);
            named.remove(at.expect("it is in the text"));
        }
    }
    named
}

#[test]
fn each_loss_that_is_counted_is_logged() {
    let sources = sources();
    let logged = sources
        .iter()
        .map(|(_, text)| first_arguments(text, "lost").len());
    assert!(logged.sum::<usize>() > 20, "lost is not found");
    let named: BTreeSet<(String, String)> = sources
        .iter()
        .flat_map(|(file, text)| unlogged(text).into_iter().map(|loss| (file.clone(), loss)))
        .collect();
    let excepted = NAMED.map(|(file, loss, _)| (file.to_owned(), loss.to_owned()));
    assert_eq!(named, BTreeSet::from(excepted));
}

#[test]
fn what_is_counted_stands_there() {
    let counted: BTreeSet<String> = sources()
        .into_iter()
        // Another `count` than that of the counters, or itself.
        .filter(|(_, text)| !text.contains("fn count("))
        .filter(|(_, text)| {
            let mut arguments = first_arguments(text, "count").into_iter();
            arguments.any(|argument| !argument.starts_with("Count::"))
        })
        .map(|(file, _)| file)
        .collect();
    let excepted = COUNTED.map(|(file, _)| file.to_owned());
    assert_eq!(counted, BTreeSet::from(excepted));
}

#[test]
fn a_loss_without_a_log_is_found() {
    let text = without_comments(
        "fn lost(which: Count) {}\n// count(Count::LostRing, 1);\nlost(Count::Healed, 1, at(0, 1));\n\
         lost(no_record(made, Count::LostStakes), 1, 0); count(\n    Count::LostPages, n);",
    );
    assert_eq!(unlogged(&text), ["LostPages"]);
    let arguments = first_arguments("maps.count(a, b); count(f(a, b)[1], 2)", "count");
    assert_eq!(arguments, ["f(a, b)[1]"]);
}
