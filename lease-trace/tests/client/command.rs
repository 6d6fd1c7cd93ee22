//! The commands by name, how their arguments are read, and `help`.

use std::fmt::Write as _;

use crate::actor::Actor;
use crate::reply::{self, Answer, Failure, Reply, usage};
use crate::{
    child, crowd, direct, file, fixed, intruder, lease, measure, memory, process, ring, storm, sys,
    table, thread, udmabuf, uffd, verbs, vfio, xdp,
};

/// One command: its name, its arguments as `help` shows them, what it does, and the code.
pub struct Command {
    pub name: &'static str,
    pub arguments: &'static str,
    pub summary: &'static str,
    pub run: fn(&mut Actor, &Arguments) -> Reply,
}

impl Command {
    /// How many words follow the name, at least and at most, as `arguments` says.
    fn bounds(&self) -> (usize, usize) {
        let words = || {
            self.arguments
                .split_whitespace()
                .filter(|word| *word != "...")
        };
        let required = words().filter(|word| !word.starts_with('[')).count();
        let open_ended = self.arguments.ends_with("...");
        (
            required,
            if open_ended {
                usize::MAX
            } else {
                words().count()
            },
        )
    }
}

/// The words after the command's name.
pub struct Arguments<'a>(&'a [&'a str]);

const GROUPS: &[(&str, &[Command])] = &[
    ("files", file::COMMANDS),
    ("leases", lease::COMMANDS),
    ("memory", memory::COMMANDS),
    ("io_uring", ring::COMMANDS),
    ("io_uring's table of buffers", table::COMMANDS),
    ("O_DIRECT", direct::COMMANDS),
    ("requests with registered buffers", fixed::COMMANDS),
    ("AF_XDP", xdp::COMMANDS),
    ("udmabuf", udmabuf::COMMANDS),
    ("uffd", uffd::COMMANDS),
    ("RDMA", verbs::COMMANDS),
    ("VFIO", vfio::COMMANDS),
    ("processes", process::COMMANDS),
    ("children", child::COMMANDS),
    ("threads", thread::COMMANDS),
    ("crowds", crowd::COMMANDS),
    ("storms", storm::COMMANDS),
    ("what others have", intruder::COMMANDS),
    ("loads with their time", measure::COMMANDS),
    ("help", &[HELP]),
];

const HELP: Command = Command {
    name: "help",
    arguments: "",
    summary: "lists the commands",
    run: |_, _| Ok(Answer::Text(help())),
};

/// Performs line after line, until no more come.
pub fn read_on(actor: &mut Actor) {
    while let Some(line) = sys::read_line(libc::STDIN_FILENO) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        reply::say(&perform(actor, line));
    }
}

/// Performs one line: a command of this actor's, or `NAME: COMMAND` for a child of it.
pub fn perform(actor: &mut Actor, line: &str) -> Reply {
    let (head, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    if let Some(name) = head.strip_suffix(':') {
        return child::forward(actor, name, rest.trim());
    }
    let words: Vec<&str> = rest.split_whitespace().collect();
    let Some(command) = GROUPS
        .iter()
        .flat_map(|(_, commands)| *commands)
        .find(|command| command.name == head)
    else {
        return usage(format!("no command `{head}`; `help` lists them"));
    };
    let (required, most) = command.bounds();
    if words.len() < required || words.len() > most {
        return usage(format!("usage: {} {}", command.name, command.arguments));
    }
    (command.run)(actor, &Arguments(&words))
}

/// Every command in a line of its own.
pub fn help() -> String {
    let mut text = String::from(
        "One command a line; the answer is `ok [VALUES]` or `error ERRNO_NAME ERRNO DETAIL`.\n\
         A SLOT is a name you choose. LEN takes K and M. `NAME: COMMAND` goes to a forked child.\n",
    );
    for (noun, commands) in GROUPS {
        let _ = writeln!(text, "\n{noun}:");
        for Command {
            name,
            arguments,
            summary,
            ..
        } in *commands
        {
            let usage = format!("{name} {arguments}");
            let _ = writeln!(text, "  {usage:<44} {summary}");
        }
    }
    text
}

impl<'a> Arguments<'a> {
    /// The word at `index`; the caller's usage line promises that it is there.
    pub fn word(&self, index: usize) -> &'a str {
        self.0[index]
    }

    pub fn optional(&self, index: usize) -> Option<&'a str> {
        self.0.get(index).copied()
    }

    pub fn rest(&self) -> String {
        self.0.join(" ")
    }

    pub fn number<T: std::str::FromStr>(&self, index: usize) -> Result<T, Failure> {
        let word = self.word(index);
        word.parse()
            .or_else(|_| usage(format!("`{word}` is not a number that fits here")))
    }

    /// A length in bytes; `4K` and `1M` are accepted.
    pub fn length(&self, index: usize) -> Result<usize, Failure> {
        let word = self.word(index);
        let (digits, unit) = match word.strip_suffix(['K', 'k']) {
            Some(digits) => (digits, 1 << 10),
            None => word
                .strip_suffix(['M', 'm'])
                .map_or((word, 1), |digits| (digits, 1 << 20)),
        };
        let number: Option<usize> = digits.parse().ok();
        match number.and_then(|number| number.checked_mul(unit)) {
            Some(length) => Ok(length),
            None => usage(format!(
                "`{word}` is not a length in bytes, like 4096, 64K or 1M"
            )),
        }
    }

    /// One of a few words, each standing for a value.
    pub fn choice<T: Copy>(&self, index: usize, choices: &[(&str, T)]) -> Result<T, Failure> {
        let word = self.word(index);
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == word) {
            return Ok(*value);
        }
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        usage(format!("`{word}` is none of: {}", names.join(", ")))
    }
}
