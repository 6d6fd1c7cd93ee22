//! lease-trace as a command that runs to its end.

use std::env;
use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;

use serde_json::Value;

use super::end::{interrupt, wait};
use super::{START_PATIENCE, schema, shared};

/// An invocation of the tool.
pub struct Tool {
    command: Command,
}

/// What came of one.
#[derive(Debug)]
pub struct Ran {
    pub invocation: String,
    /// The exit status; none if a signal ended it.
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Tool {
    /// The tool with these arguments, and with `--attach` where the run asks for one.
    ///
    /// A `monitor` or `record` needs the machine for itself, so the shared one is retired.
    pub fn new(arguments: &[&str]) -> Self {
        if matches!(arguments.first(), Some(&("monitor" | "record"))) {
            shared::retire();
        }
        Self::beside(arguments)
    }

    /// The same, next to the enforcement that is in place: a `monitor` takes it over.
    pub fn beside(arguments: &[&str]) -> Self {
        let path = env::var_os("LEASE_TRACE").expect("LEASE_TRACE names the tool");
        let mut command = Command::new(path);
        command
            .args(arguments)
            .stdin(Stdio::null())
            .env_remove("COLUMNS");
        let takes_attach = matches!(
            arguments,
            ["monitor" | "record", ..] | ["enforce", "start", ..]
        );
        if takes_attach
            && !arguments.contains(&"--attach")
            && let Some(attach) = env::var_os("LEASE_TRACE_ATTACH")
        {
            command.arg("--attach").arg(attach);
        }
        Self { command }
    }

    /// Runs it to its end.
    pub fn run(arguments: &[&str]) -> Ran {
        Self::new(arguments).finish()
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// As this user and group, with no others.
    pub fn user(mut self, id: u32) -> Self {
        self.command.uid(id).gid(id);
        self
    }

    /// Does something in the new process before the tool starts there.
    pub fn before(
        mut self,
        prepare: impl FnMut() -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        // SAFETY: the scenarios' closures make system calls only; they neither allocate nor lock.
        unsafe { self.command.pre_exec(prepare) };
        self
    }

    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.command.stdin(stdin);
        self
    }

    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.command.stdout(stdout);
        self
    }

    /// Starts it with stderr in a pipe, and stdout too unless it was sent elsewhere.
    pub fn spawn(&mut self) -> Child {
        let command = self.command.stderr(Stdio::piped());
        command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// Runs it to its end, with stdout in a pipe.
    pub fn finish(self) -> Ran {
        self.stdout(Stdio::piped()).finish_as_is()
    }

    /// Runs it to its end, with stdout wherever it was sent.
    pub fn finish_as_is(mut self) -> Ran {
        let mut process = self.spawn();
        let invocation = format!("{:?}", self.command);
        let mut stdout = process.stdout.take();
        let mut stderr = process.stderr.take().expect("stderr is a pipe");
        let stdout = thread::spawn(move || {
            let mut text = String::new();
            if let Some(stdout) = &mut stdout {
                let _ = stdout.read_to_string(&mut text);
            }
            text
        });
        let stderr = thread::spawn(move || {
            let mut text = String::new();
            let _ = stderr.read_to_string(&mut text);
            text
        });
        let status = wait(&mut process, START_PATIENCE);
        if status.is_none() {
            interrupt(&process, libc::SIGKILL);
        }
        let (stdout, stderr) = (
            stdout.join().expect("reader"),
            stderr.join().expect("reader"),
        );
        assert!(
            status.is_some(),
            "{invocation} did not end:\n{stdout}{stderr}"
        );
        let code = status.and_then(|status| status.code());
        Ran {
            invocation,
            code,
            stdout,
            stderr,
        }
    }
}

impl Ran {
    /// Asserts the exit status.
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Asserts that stderr says each of these, whatever the case of letters.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        let stderr = self.stderr.to_lowercase();
        for word in words {
            assert!(
                stderr.contains(&word.to_lowercase()),
                "stderr lacks `{word}`\n{self}"
            );
        }
        self
    }

    /// stdout as one JSON document; a report, and what `pins` says, is held to its schema.
    #[track_caller]
    pub fn json(&self) -> Value {
        let document: Value =
            serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}\n{self}"));
        let lists = ["zombies", "leases", "stakes"];
        if lists.iter().any(|list| document[list].is_array()) {
            schema::check_report(&document).unwrap_or_else(|error| panic!("{error}\n{self}"));
        }
        if document["pins"].is_array() {
            schema::check_pins(&document).unwrap_or_else(|error| panic!("{error}\n{self}"));
        }
        document
    }

    /// The rows of a `-J` report, those of one process.
    #[track_caller]
    pub fn rows(&self, list: &str, pid: i64) -> Vec<Value> {
        let document = self.json();
        let rows = document[list].as_array();
        let rows = rows.unwrap_or_else(|| panic!("no list `{list}`\n{self}"));
        rows.iter()
            .filter(|row| row["pid"] == pid)
            .cloned()
            .collect()
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            invocation,
            code,
            stdout,
            stderr,
        } = self;
        writeln!(
            f,
            "{invocation} exited {code:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}"
        )
    }
}
