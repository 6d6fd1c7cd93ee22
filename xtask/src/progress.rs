//! What the user is told while something takes long: one line a step on stderr, with a spinner and
//! the seconds where stderr is a terminal, and a bar where what is to come can be counted.
//!
//! A bar is always the last line. So everything that is written to the terminal beside it goes
//! through here, and comes in whole lines. Without a terminal there are no bars, and lines are
//! passed on as they come.

use std::{
    io::{self, Write},
    sync::LazyLock,
    time::{Duration, Instant},
};

use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How often what turns is drawn.
const TICK: Duration = Duration::from_millis(120);

/// All spinners and bars there are, on stderr.
static BARS: LazyLock<MultiProgress> = LazyLock::new(MultiProgress::new);

/// Says one thing.
pub fn say(text: impl AsRef<str>) {
    BARS.suspend(|| eprintln!("xtask: {}", text.as_ref()));
}

/// Writes a line to stdout.
pub fn line(text: impl AsRef<str>) {
    BARS.suspend(|| println!("{}", text.as_ref()));
}

/// Names a piece of work, does it, and says how long it took.
pub fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let bar = shown(ProgressBar::new_spinner(), "{spinner} {msg} ({elapsed})");
    if bar.is_hidden() {
        say(format!("{name} ..."));
    } else {
        bar.set_message(name.to_owned());
    }
    let start = Instant::now();
    let result = work();
    bar.finish_and_clear();
    let outcome = if result.is_ok() { "done" } else { "failed" };
    say(format!(
        "{name}: {outcome} in {:.1} s",
        start.elapsed().as_secs_f32()
    ));
    result
}

/// How far something has come that consists of many equal parts; gone when dropped.
pub struct Count(ProgressBar);

impl Count {
    pub fn start(name: &str, parts: usize) -> Self {
        let bar = shown(
            ProgressBar::new(parts as u64),
            "{spinner} {msg} [{bar:24}] {pos} of {len} ({elapsed})",
        );
        bar.set_message(name.to_owned());
        Self(bar)
    }

    /// One more part is done.
    pub fn add(&self) {
        self.0.inc(1);
    }

    /// So many more parts are to come than was thought.
    pub fn expect(&self, more: usize) {
        self.0.inc_length(more as u64);
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn shown(bar: ProgressBar, template: &str) -> ProgressBar {
    let bar = BARS.add(bar);
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    if !bar.is_hidden() {
        bar.enable_steady_tick(TICK);
    }
    bar
}

/// `out`, so that bars do not get in its way.
pub fn beside(out: impl Write + Send + 'static) -> Box<dyn Write + Send> {
    if BARS.is_hidden() {
        Box::new(out)
    } else {
        Box::new(Lines {
            out,
            line: Vec::new(),
        })
    }
}

/// Passes on whole lines, each while the bars are away.
struct Lines<W: Write> {
    out: W,
    line: Vec<u8>,
}

impl<W: Write> Lines<W> {
    fn pass_on(&mut self, end: usize) -> io::Result<()> {
        let whole: Vec<u8> = self.line.drain(..end).collect();
        BARS.suspend(|| {
            self.out.write_all(&whole)?;
            self.out.flush()
        })
    }
}

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend_from_slice(bytes);
        if let Some(last) = self.line.iter().rposition(|byte| *byte == b'\n') {
            self.pass_on(last + 1)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl<W: Write> Drop for Lines<W> {
    fn drop(&mut self) {
        // What comes behind the last newline. Nobody is left to tell if that fails.
        let _ = self.pass_on(self.line.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lines_are_passed_on() {
        let mut out = Vec::new();
        let mut lines = Lines {
            out: &mut out,
            line: Vec::new(),
        };
        lines.write_all(b"test a ... ").unwrap();
        assert!(lines.out.is_empty());
        lines.write_all(b"ok\ntest b ...").unwrap();
        assert_eq!(*lines.out, b"test a ... ok\n");
        drop(lines);
        assert_eq!(out, b"test a ... ok\ntest b ...");
    }

    #[test]
    fn a_step_returns_what_its_work_does() {
        assert_eq!(step("adding", || Ok(1 + 1)).unwrap(), 2);
        let failed = step("failing", || -> Result<()> { anyhow::bail!("no") });
        assert_eq!(failed.unwrap_err().to_string(), "no");
    }

    #[test]
    fn parts_are_counted() {
        let count = Count::start("parts", 2);
        count.add();
        count.expect(1);
        assert_eq!((count.0.position(), count.0.length()), (1, Some(3)));
    }
}
