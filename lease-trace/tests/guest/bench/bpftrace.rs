//! bpftrace, doing a lesser job: it counts.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::harness::interrupt;

/// A bpftrace that has attached; ended when dropped.
pub struct Bpftrace(Child);

/// What takes pins and what drops them, as far as a kernel has it.
const TAKERS: [&str; 3] = [
    "pin_user_pages",
    "pin_user_pages_fast",
    "pin_user_pages_remote",
];
const DROPPERS: [&str; 4] = [
    "unpin_user_page",
    "unpin_user_pages",
    "unpin_user_pages_dirty_lock",
    "unpin_user_folio",
];

impl Bpftrace {
    /// One that counts calls that pin and calls that unpin, but not by a kprobe of its own each;
    /// with `[pid]` by process.
    pub fn counting_pins(points: &Value, by: &str) -> Self {
        let mut script = String::new();
        for (function, _) in attached(points).filter(|(_, how)| how.starts_with("fentry")) {
            for (functions, count) in [(&TAKERS[..], "pins"), (&DROPPERS[..], "unpins")] {
                if functions.contains(&function) {
                    let _ = writeln!(script, "fentry:{function} {{ @{count}{by} = count(); }}");
                }
            }
        }
        Self::run(&script).0
    }

    /// One that counts on every point that lease-trace has attached to, and how long it took from
    /// exec until it had attached.
    pub fn on_all(points: &Value) -> (Self, f64) {
        Self::doing(points, "@[probe] = count();")
    }

    /// One that does nothing on these points: what it costs to get there.
    pub fn empty(points: &Value) -> Self {
        Self::doing(points, "").0
    }

    fn doing(points: &Value, what: &str) -> (Self, f64) {
        let mut script = String::new();
        for (function, how) in attached(points) {
            for probe in how.split('+') {
                let _ = writeln!(script, "{probe}:{function} {{ {what} }}");
            }
        }
        Self::run(&script)
    }

    fn run(script: &str) -> (Self, f64) {
        let script = format!("BEGIN {{ printf(\"attached\\n\"); }}\n{script}");
        let begun = Instant::now();
        let mut process = Command::new("bpftrace")
            .args(["-q", "-B", "line", "-e", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bpftrace is installed");
        let stdout = process.stdout.take().expect("stdout is a pipe");
        let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
        assert!(
            lines.any(|line| line == "attached"),
            "bpftrace did not attach:\n{script}"
        );
        let took = begun.elapsed().as_nanos() as f64;
        (Self(process), took)
    }
}

/// What lease-trace says it has attached to: functions, and how bpftrace is to do the same.
fn attached(points: &Value) -> impl Iterator<Item = (&str, &str)> {
    let points = points.as_array().expect("the points attached").iter();
    points.map(|point| {
        let point = point.as_str().expect("a line");
        let (function, how) = point.split_once(": ").expect("function and way");
        // What bpftrace has for one function that costs least.
        let how = match how {
            "kprobe.multi" => "fentry",
            "kprobe.multi+kretprobe.multi" | "kprobe.multi+fexit" => "fentry+fexit",
            how => how,
        };
        (function, how)
    })
}

impl Drop for Bpftrace {
    fn drop(&mut self) {
        interrupt(&self.0, libc::SIGINT);
        let _ = self.0.wait();
    }
}
