//! What the user is told while something takes long: one line a step on stderr, with a spinner and
//! the seconds where stderr is a terminal.

use std::time::{Duration, Instant};

use anyhow::Result;
use indicatif::{ProgressBar, ProgressStyle};

/// Says one thing.
pub fn say(text: impl AsRef<str>) {
    eprintln!("xtask: {}", text.as_ref());
}

/// Names a piece of work, does it, and says how long it took.
pub fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let bar = ProgressBar::new_spinner();
    if bar.is_hidden() {
        say(format!("{name} ..."));
    } else {
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.set_message(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
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
