//! A process that does what it is told: the `client` example, one command at a time.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use std::{env, fmt, fs, thread};

use rustix::fs::{CWD, FileType, Mode};

use super::end::{Departure, interrupt, wait};
use super::{PATIENCE, Scratch, eventually};

/// One actor. Dropped, it is told to end, and what it holds goes with it.
pub struct Actor {
    pid: i64,
    /// None for the guest's first program, which outlives everybody, and for one forked apart,
    /// which is no child of this program.
    process: Option<Child>,
    commands: Option<File>,
    answers: Receiver<String>,
}

/// What became of an actor that was told to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It could.
    Ok,
    /// The kernel refused with this errno.
    Refused(i32),
    /// SIGSTOP: no answer yet.
    Stopped,
    /// A signal ended it.
    Killed(i32),
    /// It exited with this status.
    Exited(i32),
}

/// What the kernel answered to a command that failed.
#[derive(Debug)]
pub struct Refusal {
    pub errno: i32,
    pub detail: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "errno {}: {}", self.errno, self.detail)
    }
}

impl Actor {
    pub fn start() -> Self {
        let client = env::var_os("CLIENT").expect("CLIENT names the actor's program");
        Self::spawn(Command::new(client))
    }

    /// Starts a copy of the actor's program, for those who want it under another name.
    pub fn start_as(program: &Path) -> Self {
        fs::copy(env::var_os("CLIENT").expect("CLIENT is set"), program).expect("copying CLIENT");
        Self::spawn(Command::new(program))
    }

    fn spawn(mut program: Command) -> Self {
        let program = program.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = program
            .spawn()
            .unwrap_or_else(|error| panic!("{program:?}: {error}"));
        let answers = OwnedFd::from(process.stdout.take().expect("stdout is a pipe"));
        let commands = OwnedFd::from(process.stdin.take().expect("stdin is a pipe"));
        Self {
            pid: i64::from(process.id()),
            process: Some(process),
            commands: Some(commands.into()),
            answers: lines_of(answers.into()),
        }
    }

    /// The same under `lease-trace run`, which becomes the actor; what is said on stderr goes to
    /// `stderr`.
    pub fn start_under(mut run: Command, stderr: impl Into<Stdio>) -> Self {
        run.stderr(stderr);
        Self::spawn(run)
    }

    /// The guest's first program, where that is an actor.
    pub fn first() -> Self {
        let commands = File::options().write(true).open("/run/guest/first.in");
        let answers = File::open("/run/guest/first.out");
        Self {
            pid: 1,
            process: None,
            commands: Some(commands.expect("pid 1 reads commands")),
            answers: lines_of(answers.expect("pid 1 writes answers")),
        }
    }

    /// A child of this one, which goes on when its parent is gone. It is spoken to through two FIFOs.
    pub fn fork_apart(&self, scratch: &Scratch) -> Self {
        let fifo = |what: &str| {
            let path = scratch.file(&format!("{what}-of-{}", self.pid));
            rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
                .unwrap_or_else(|error| panic!("{path}: {error}"));
            path
        };
        let paths = [fifo("commands"), fifo("answers")];
        let [commands, answers] = &paths;
        let pid = self.ok(&format!("fork-apart {commands} {answers}"));
        // Each open waits for the other end.
        let commands = File::options().write(true).open(commands);
        let answers = File::open(answers);
        let child = Self {
            pid: pid.parse().expect("fork-apart answers with a pid"),
            process: None,
            commands: Some(commands.expect("it reads commands")),
            answers: lines_of(answers.expect("it writes answers")),
        };
        for path in paths {
            fs::remove_file(path).expect("both ends are open");
        }
        child
    }

    pub fn pid(&self) -> i64 {
        self.pid
    }

    /// Performs a command that must work, and returns its values.
    pub fn ok(&self, command: &str) -> String {
        self.attempt(command)
            .unwrap_or_else(|refusal| panic!("`{command}`: {refusal}"))
    }

    /// Performs a command that must fail with this errno.
    pub fn err(&self, command: &str, errno: i32) {
        match self.attempt(command) {
            Ok(values) => panic!("`{command}` answered `ok {values}`, not errno {errno}"),
            Err(refusal) => assert_eq!(refusal.errno, errno, "`{command}`: {refusal}"),
        }
    }

    /// Whether one of its threads comes to wait, within five seconds, in a kernel function of a name like this.
    pub fn waits_in(&self, function: &str) -> bool {
        let waits = || {
            let tasks = fs::read_dir(format!("/proc/{}/task", self.pid())).expect("threads");
            tasks.flatten().any(|task| {
                let place = fs::read_to_string(task.path().join("wchan"));
                place.is_ok_and(|place| place.contains(function))
            })
        };
        let begun = Instant::now();
        while !waits() && begun.elapsed() < Duration::from_secs(5) {
            thread::sleep(Duration::from_millis(10));
        }
        waits()
    }

    /// Performs commands that must work, in order.
    pub fn all(&self, commands: &[&str]) {
        for command in commands {
            self.ok(command);
        }
    }

    /// Performs a command that may fail for a reason of the kernel's.
    pub fn attempt(&self, command: &str) -> Result<String, Refusal> {
        self.attempt_within(PATIENCE * 2, command)
    }

    /// Performs a command that must work, and may take so long.
    pub fn ok_within(&self, patience: Duration, command: &str) -> String {
        self.attempt_within(patience, command)
            .unwrap_or_else(|refusal| panic!("`{command}`: {refusal}"))
    }

    fn attempt_within(&self, patience: Duration, command: &str) -> Result<String, Refusal> {
        self.tell(command);
        self.answer(patience, command)
    }

    /// What it answers to the command that it was told.
    pub fn answer(&self, patience: Duration, command: &str) -> Result<String, Refusal> {
        let answer = self.answers.recv_timeout(patience);
        let answer = answer.unwrap_or_else(|_| panic!("`{command}` got no answer"));
        understand(command, &answer)
    }

    /// Performs a command that may also stop or end the actor.
    pub fn fate(&mut self, command: &str) -> Fate {
        self.tell(command);
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.answers.recv_timeout(Duration::from_millis(20)) {
                Ok(answer) => {
                    return match understand(command, &answer) {
                        Ok(_) => Fate::Ok,
                        Err(refusal) => Fate::Refused(refusal.errno),
                    };
                }
                Err(RecvTimeoutError::Timeout) if state_of(self.pid()) == Some('T') => {
                    return Fate::Stopped;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.ends(),
            }
        }
        panic!("`{command}` got no answer")
    }

    /// Waits until a signal or a command that it was told before has ended it, and says how.
    pub fn ends(&mut self) -> Fate {
        let process = self.process.as_mut().expect("pid 1 never ends");
        let status = wait(process, PATIENCE).expect("it ends");
        match status.code() {
            Some(code) => Fate::Exited(code),
            None => Fate::Killed(status.signal().expect("exit or signal")),
        }
    }

    /// Performs a command that may fail for any reason, a slot that is not there included.
    pub fn try_usage(&self, command: &str) -> bool {
        self.tell(command);
        let answer = self.answers.recv_timeout(PATIENCE * 2);
        answer.is_ok_and(|answer| answer.starts_with("ok"))
    }

    /// SIGCONT; an answer that was held back by SIGSTOP follows, and must be `ok`.
    pub fn go_on(&self, in_command: bool) {
        let process = self.process.as_ref().expect("pid 1 never stops");
        interrupt(process, libc::SIGCONT);
        if in_command {
            let answer = self.answers.recv_timeout(PATIENCE);
            let answer = answer.expect("an answer after SIGCONT");
            assert!(answer.starts_with("ok"), "after SIGCONT: {answer}");
        }
    }

    /// Waits until it has come to this, without having been told anything.
    pub fn comes_to(&self, fate: Fate) -> bool {
        let is = |state: Option<char>| match fate {
            Fate::Stopped => state == Some('T'),
            Fate::Killed(_) | Fate::Exited(_) => matches!(state, None | Some('Z')),
            Fate::Ok | Fate::Refused(_) => matches!(state, Some('R' | 'S' | 'D')),
        };
        eventually(|| is(state_of(self.pid())))
    }

    /// Performs a command that ends the actor, and waits until it is gone.
    pub fn end(&mut self, command: &str) {
        self.tell(command);
        let process = self.process.as_mut().expect("pid 1 never ends");
        assert!(
            wait(process, PATIENCE).is_some(),
            "`{command}` did not end the actor"
        );
    }

    /// Ends one that was forked apart, by a command or else by SIGKILL, and waits until it is gone
    /// with all that it had.
    pub fn end_apart(self, command: Option<&str>) {
        assert!(self.process.is_none(), "a child is waited for");
        let end = Departure::of(self.pid);
        match command {
            Some(command) => self.tell(command),
            None => end.kill(),
        }
        end.wait(PATIENCE);
    }

    /// Forks it; the child answers to `NAME: COMMAND`. Returns the child's pid.
    pub fn fork(&self, name: &str) -> i64 {
        self.ok(&format!("fork {name}"))
            .parse()
            .expect("fork answers with a pid")
    }

    /// Tells it to perform a command, and does not wait for the answer.
    pub fn tell(&self, command: &str) {
        let mut commands = self.commands.as_ref().expect("the actor takes commands");
        commands
            .write_all(format!("{command}\n").as_bytes())
            .unwrap_or_else(|error| panic!("`{command}`: the actor is gone: {error}"));
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(process) = &mut self.process
            && wait(process, PATIENCE).is_none()
        {
            interrupt(process, libc::SIGKILL);
            let _ = process.wait();
        }
    }
}

/// What an actor says, line by line.
fn lines_of(answers: File) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(answers).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

/// An answer, read.
fn understand(command: &str, answer: &str) -> Result<String, Refusal> {
    if let Some(values) = answer.strip_prefix("ok") {
        return Ok(values.trim().to_owned());
    }
    let mut words = answer.splitn(4, ' ').skip(2);
    let errno = words.next().and_then(|errno| errno.parse().ok());
    match errno {
        Some(errno) if errno != 0 => Err(Refusal {
            errno,
            detail: words.next().unwrap_or_default().to_owned(),
        }),
        // A mistake in the scenario, not an answer of the kernel's.
        _ => panic!("`{command}`: {answer}"),
    }
}

/// A process' state as /proc has it, like `S`; nothing if there is no such process.
pub fn state_of(pid: i64) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// A live process' name.
pub fn comm_of(pid: i64) -> String {
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).expect("the process is alive");
    comm.trim_end().to_owned()
}
