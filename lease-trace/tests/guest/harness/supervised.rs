//! An actor under `lease-trace run`, and what the supervisor says of it.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::ops::Deref;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use std::{env, thread};

use super::{Actor, PATIENCE, Ran, START_PATIENCE, eventually, state_of};

/// The actor is what the calling process became, as its command.
pub struct Supervised {
    actor: Actor,
    lines: Receiver<String>,
    said: Mutex<String>,
}

impl Deref for Supervised {
    type Target = Actor;

    fn deref(&self) -> &Actor {
        &self.actor
    }
}

impl Supervised {
    /// With these arguments before `--`, and whatever `LEASE_TRACE_ATTACH` asks for.
    pub fn start(arguments: &[&str]) -> Self {
        let client = env::var_os("CLIENT").expect("CLIENT names the actor's program");
        Self::start_command(arguments, &[client])
    }

    /// The same with another command, which becomes the actor in the end.
    pub fn start_command(arguments: &[&str], command: &[OsString]) -> Self {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let actor = Actor::start_under(invocation(arguments, command), writer);
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(reader).lines().map_while(Result::ok) {
                eprintln!("{line}");
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let started = Self {
            actor,
            lines,
            said: Mutex::default(),
        };
        started.actor.ok_within(START_PATIENCE, "pid");
        started
    }

    pub fn actor_mut(&mut self) -> &mut Actor {
        &mut self.actor
    }

    /// All that was said so far, in one line.
    pub fn said(&self) -> String {
        let mut said = self.said.lock().expect("one test, one thread");
        for line in self.lines.try_iter() {
            said.push_str(line.trim_start());
            said.push(' ');
        }
        said.clone()
    }

    /// Waits until this was said.
    #[track_caller]
    pub fn says(&self, words: &str) -> String {
        let found = eventually(|| self.said().contains(words));
        assert!(found, "`{words}` was not said: {}", self.said());
        self.said()
    }

    /// Waits until this was said so often.
    #[track_caller]
    pub fn says_times(&self, words: &str, times: usize) {
        let found = eventually(|| self.said().matches(words).count() >= times);
        assert!(
            found,
            "`{words}` was not said {times} times: {}",
            self.said()
        );
    }

    /// Waits so long until this was said.
    #[track_caller]
    pub fn says_within(&self, patience: Duration, words: &str) {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            if self.said().contains(words) {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
        panic!("`{words}` was not said: {}", self.said());
    }

    /// Lets go of all that a step may have left: the next begins with nothing.
    pub fn tidy_up(&self) {
        for command in ["munmap m", "munmap o", "close f", "close o", "close ring"] {
            _ = self.actor.try_usage(command);
        }
    }

    /// Waits until both who watch are gone with all that they had: then nobody has its stderr.
    #[track_caller]
    pub fn is_left_alone(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.said.lock().expect("one thread").push_str(&line),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            assert!(Instant::now() < deadline, "the supervisor goes on");
        }
    }

    /// The processes that watch it: supervisor and guardian.
    pub fn watchers() -> [i64; 2] {
        let mut found: Vec<i64> = fs::read_dir("/proc")
            .expect("/proc")
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid| listens(*pid))
            .collect();
        found.sort_unstable();
        let parent_of = |pid: i64| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("PPid:"));
            line.and_then(|pid| pid.trim().parse::<i64>().ok())
        };
        match found[..] {
            [a, b] if parent_of(a) == Some(b) => [a, b],
            [a, b] if parent_of(b) == Some(a) => [b, a],
            _ => panic!("not two that listen: {found:?}"),
        }
    }
}

/// The command line.
pub fn invocation(arguments: &[&str], command: &[OsString]) -> Command {
    let mut run = Command::new(env::var_os("LEASE_TRACE").expect("LEASE_TRACE names the tool"));
    run.arg("run").args(arguments);
    if let Some(attach) = env::var_os("LEASE_TRACE_ATTACH") {
        run.arg("--attach").arg(attach);
    }
    run.arg("--").args(command);
    run
}

fn listens(pid: i64) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd"));
    descriptors.into_iter().flatten().flatten().any(|entry| {
        fs::read_link(entry.path())
            .is_ok_and(|target| target.as_os_str() == "anon_inode:seccomp notify")
    })
}

/// A command under `lease-trace run` that reads this and runs to its end.
pub fn run_to_end(arguments: &[&str], command: &[OsString], stdin: &str) -> Ran {
    let mut run = invocation(arguments, command);
    let run = run.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = run.stderr(Stdio::piped()).spawn().expect("it starts");
    let mut input = process.stdin.take().expect("a pipe");
    // A command that reads nothing may be gone.
    _ = input.write_all(stdin.as_bytes());
    drop(input);
    let ran = process.wait_with_output().expect("it ends");
    Ran {
        invocation: format!("{command:?}"),
        code: ran.status.code(),
        stdout: String::from_utf8_lossy(&ran.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&ran.stderr).into_owned(),
    }
}

/// Sends a signal to any process.
pub fn interrupt_pid(pid: i64, signal: i32) {
    let pid = i32::try_from(pid).expect("a pid");
    // SAFETY: takes numbers, touches no memory.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0, "{pid} is there");
}

/// Ends a process for good.
pub fn kill(pid: i64) {
    interrupt_pid(pid, libc::SIGKILL);
    assert!(
        eventually(|| matches!(state_of(pid), None | Some('Z'))),
        "{pid} survived"
    );
}
