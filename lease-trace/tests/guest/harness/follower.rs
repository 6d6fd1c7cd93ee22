//! A running `lease-trace report -J --follow`: a report for each line, without a new process.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::Value;

use super::Tool;

/// Dropped, it ends.
pub struct Follower {
    process: Child,
    questions: Option<ChildStdin>,
    reports: BufReader<ChildStdout>,
}

impl Follower {
    /// Of `zombies`, `leases` or `stakes`.
    pub fn of(subject: &str) -> Self {
        let tool = Tool::beside(&["report", subject, "-J", "--follow"]);
        let mut process = tool.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let questions = process.stdin.take();
        let reports = BufReader::new(process.stdout.take().expect("stdout is a pipe"));
        Self {
            process,
            questions,
            reports,
        }
    }

    /// Asks for a report, whose [`Self::answer`] is read later.
    pub fn begin(&mut self) {
        let questions = self.questions.as_mut().expect("taken when dropped");
        questions.write_all(b"\n").expect("it reads stdin");
    }

    /// The report that was asked for.
    pub fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.reports.read_line(&mut line).expect("its stdout");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in `{line}`"))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.questions = None;
        let _ = self.process.wait();
    }
}
