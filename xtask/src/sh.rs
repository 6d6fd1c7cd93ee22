//! Spawning other programs: every failure carries the full command line, and nothing but the data
//! a command asked for ever reaches stdout (the children's talk goes to stderr or is kept back).

use std::{
    ffi::OsStr,
    io::{self, Read as _, Seek as _},
    process::{Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// How many of the last lines of a failed command's output its error shows.
const TAIL: usize = 25;

/// What the rest of this crate asks of a [`Command`].
pub trait Run {
    /// The command line, quoted so that it can be pasted into a shell.
    fn line(&self) -> String;
    /// Runs it to success with its output shown on stderr.
    fn run(&mut self) -> Result<()>;
    /// Runs it to success; its output is shown, shortened, only if it fails.
    fn quiet(&mut self) -> Result<()>;
    /// Runs it to success and returns what it wrote to stdout.
    fn read(&mut self) -> Result<String>;
}

impl Run for Command {
    fn line(&self) -> String {
        std::iter::once(self.get_program())
            .chain(self.get_args())
            .map(|word| quote(&word.to_string_lossy()))
            .collect::<Vec<_>>()
            .join(" ")
    }

    fn run(&mut self) -> Result<()> {
        let status = self
            .stdin(Stdio::null())
            .stdout(io::stderr())
            .status()
            .with_context(|| format!("could not start: {}", self.line()))?;
        check(status, &self.line(), "")
    }

    fn quiet(&mut self) -> Result<()> {
        let mut log = tempfile::tempfile().context("creating a temporary file for output")?;
        let status = self
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log.try_clone()?)
            .status()
            .with_context(|| format!("could not start: {}", self.line()))?;
        let mut text = Vec::new();
        log.rewind()?;
        log.read_to_end(&mut text)?;
        check(status, &self.line(), &String::from_utf8_lossy(&text))
    }

    fn read(&mut self) -> Result<String> {
        let output = self
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("could not start: {}", self.line()))?;
        check(
            output.status,
            &self.line(),
            &String::from_utf8_lossy(&output.stderr),
        )?;
        String::from_utf8(output.stdout)
            .with_context(|| format!("output is not UTF-8: {}", self.line()))
    }
}

fn check(status: ExitStatus, line: &str, output: &str) -> Result<()> {
    if status.success() {
        return Ok(());
    }
    let tail = last_lines(output, TAIL);
    if tail.is_empty() {
        bail!("failed ({status}): {line}");
    }
    bail!("failed ({status}): {line}\n{tail}");
}

/// The last `count` lines of a text.
pub fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

/// A word as a POSIX shell would have to be given it.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+./:,@%^".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A command that needs root: run as it is by root, through sudo by anybody else.
pub fn as_root(program: impl AsRef<OsStr>) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut sudo = Command::new("sudo");
    sudo.arg(program);
    sudo
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Whether a program of this name is to be found, on the PATH or where root's tools lie.
pub fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|directory| directory.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_only_where_a_shell_would_stumble() {
        assert_eq!(quote("a-b=c/d"), "a-b=c/d");
        assert_eq!(quote("two words"), "'two words'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
    }

    #[test]
    fn a_failure_shows_the_command_and_what_it_said() {
        let error = Command::new("sh")
            .args(["-c", "echo no such luck; exit 3"])
            .quiet();
        let text = format!("{:#}", error.unwrap_err());
        assert!(text.contains("sh -c 'echo no such luck; exit 3'"), "{text}");
        assert!(text.ends_with("no such luck"), "{text}");
    }

    #[test]
    fn tails_are_no_longer_than_asked() {
        assert_eq!(last_lines("a\nb\nc\n", 2), "b\nc");
        assert_eq!(last_lines("", 2), "");
    }
}
