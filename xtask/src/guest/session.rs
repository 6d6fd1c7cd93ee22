//! One guest from start to end: passes its channels on, watches its console and the clock, and
//! decides why it ended.

use std::{
    collections::VecDeque,
    fs,
    io::{self, BufRead as _, BufReader, Read, Write as _},
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    Ended, Ran, Sink,
    qemu::{self, Boot, Channels, Qemu},
    watch::{self, Trouble},
};
use crate::progress::say;

/// How many lines of the console are kept to be shown, of those before trouble begins.
const KEPT: usize = 40;
/// How many more are kept of what a guest in trouble says.
const KEPT_OF_TROUBLE: usize = 100;
/// How long a guest in trouble may go on explaining itself.
const EXPLAIN: Duration = Duration::from_millis(1500);

/// What the threads that read a guest's channels have to say.
enum Event {
    Up,
    Exit(i32),
    Trouble(Trouble),
    ConsoleEnd,
    Unread,
}

type SharedSink = Arc<Mutex<Sink>>;
type Lines = Arc<Mutex<VecDeque<String>>>;

/// A kernel that has not come so far by then hangs: 7.3 does now and then in a QEMU that is too old
/// (docs/kernels.md), before any program has run.
const COME_UP: Duration = Duration::from_mins(5);

/// A guest whose kernel does not come up is booted once more, and that is said.
pub fn run(boot: &Boot, directory: &Path, limit: Duration, out: Sink, err: Sink) -> Result<Ran> {
    let sinks = [out, err].map(|sink| Arc::new(Mutex::new(sink)));
    let ran = run_once(boot, directory, limit, &sinks)?;
    let has_failed = matches!(ran.ended, Ended::Trouble(_) | Ended::TimeLimit { .. });
    if ran.boot.is_some() || !has_failed || limit < COME_UP {
        return Ok(ran);
    }
    say(format!(
        "the guest's kernel did not come up ({}); once more. The last lines of its console:\n{}",
        ran.ended, ran.last_words
    ));
    run_once(boot, directory, limit, &sinks)
}

fn run_once(
    boot: &Boot,
    directory: &Path,
    limit: Duration,
    [out, err]: &[SharedSink; 2],
) -> Result<Ran> {
    let start = Instant::now();
    let (
        mut qemu,
        Channels {
            console,
            out: guest_out,
            err: guest_err,
            status,
        },
    ) = qemu::start(boot, directory)?;
    let (events, inbox) = mpsc::channel();
    let lines = Lines::default();
    let readers = [
        read_console(console, Arc::clone(&lines), events.clone()),
        read_status(status, events.clone()),
        pass_on(guest_out, Arc::clone(out), events.clone()),
        pass_on(guest_err, Arc::clone(err), events),
    ];
    let (ended, boot) = decide(&inbox, boot.initramfs, start, limit);
    if matches!(ended, Ended::Trouble(_)) {
        explain(&inbox);
    }
    qemu.end()?;
    for reader in readers {
        // A reader that panicked has printed why.
        let _ = reader.join();
    }
    Ok(Ran {
        last_words: last_words(&ended, &lines, &qemu),
        ended,
        boot,
    })
}

/// Waits for whatever ends the guest.
fn decide(
    inbox: &Receiver<Event>,
    initramfs: &Path,
    start: Instant,
    limit: Duration,
) -> (Ended, Option<Duration>) {
    let mut boot = None;
    loop {
        let limit = if boot.is_none() {
            limit.min(COME_UP)
        } else {
            limit
        };
        let left = limit.saturating_sub(start.elapsed());
        let ended = match inbox.recv_timeout(left) {
            Ok(Event::Up) => {
                boot = Some(start.elapsed());
                // Long read, and large: not to be left behind should this process be killed. What
                // remains is removed with the directory.
                let _ = fs::remove_file(initramfs);
                continue;
            }
            Ok(Event::Exit(status)) => Ended::Exit(status),
            Ok(Event::Trouble(trouble)) => Ended::Trouble(trouble),
            Ok(Event::Unread) => Ended::Unread,
            Ok(Event::ConsoleEnd) | Err(RecvTimeoutError::Disconnected) => last_chance(inbox),
            Err(RecvTimeoutError::Timeout) => Ended::TimeLimit { up: boot.is_some() },
        };
        return (ended, boot);
    }
}

/// The console has ended: what the other channels still hold says why.
fn last_chance(inbox: &Receiver<Event>) -> Ended {
    while let Ok(event) = inbox.recv_timeout(Duration::from_millis(500)) {
        match event {
            Event::Exit(status) => return Ended::Exit(status),
            Event::Trouble(trouble) => return Ended::Trouble(trouble),
            Event::Unread => return Ended::Unread,
            Event::Up | Event::ConsoleEnd => {}
        }
    }
    Ended::Died
}

/// Lets a guest in trouble finish its report.
fn explain(inbox: &Receiver<Event>) {
    let start = Instant::now();
    loop {
        match inbox.recv_timeout(EXPLAIN.saturating_sub(start.elapsed())) {
            Ok(Event::ConsoleEnd) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

fn last_words(ended: &Ended, lines: &Lines, qemu: &Qemu) -> String {
    let lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
    let mut console: String = lines.iter().flat_map(|line| ["  ", line, "\n"]).collect();
    if console.is_empty() {
        console.push_str("  (nothing)\n");
    }
    match ended {
        Ended::Died => format!("{console}{}", qemu.last_words()),
        _ => console,
    }
}

fn read_console(
    console: impl Read + Send + 'static,
    lines: Lines,
    events: Sender<Event>,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut console = BufReader::new(console);
        let mut bytes = Vec::new();
        let mut in_trouble = false;
        while console
            .read_until(b'\n', &mut bytes)
            .is_ok_and(|count| count > 0)
        {
            let line = printable(&bytes);
            bytes.clear();
            if let Some(trouble) = watch::trouble(&line) {
                in_trouble = true;
                let _ = events.send(Event::Trouble(trouble));
            }
            let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
            if !in_trouble && lines.len() == KEPT {
                lines.pop_front();
            }
            if lines.len() < KEPT + KEPT_OF_TROUBLE {
                lines.push_back(line);
            }
        }
        let _ = events.send(Event::ConsoleEnd);
    })
}

/// A line of the console without what the firmware says to a terminal.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.chars()
        .filter(|c| !c.is_control())
        .collect::<String>()
        .trim_end()
        .to_owned()
}

fn read_status(status: impl Read + Send + 'static, events: Sender<Event>) -> JoinHandle<()> {
    thread::spawn(move || {
        for line in BufReader::new(status).lines().map_while(Result::ok) {
            let event = match line.strip_prefix("exit ").map(str::parse) {
                Some(Ok(status)) => Event::Exit(status),
                _ if line == "up" => Event::Up,
                _ => continue,
            };
            let _ = events.send(event);
        }
    })
}

fn pass_on(
    mut from: impl Read + Send + 'static,
    to: SharedSink,
    events: Sender<Event>,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        loop {
            match from.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) => {
                    let mut to = to.lock().unwrap_or_else(PoisonError::into_inner);
                    if to
                        .write_all(&buffer[..count])
                        .and_then(|()| to.flush())
                        .is_err()
                    {
                        let _ = events.send(Event::Unread);
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The guest is gone.
                Err(_) => return,
            }
        }
    })
}
