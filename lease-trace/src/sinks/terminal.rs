//! What is known of the terminal that stdout may be.

use std::{
    env,
    io::{self, IsTerminal as _, Write as _},
    mem::MaybeUninit,
};

use super::text;

const FALLBACK_WIDTH: usize = 80;

/// Says something on stderr that is no data. Nobody is left to tell if stderr is closed.
pub fn say(sentence: &str) {
    let line = text::wrap(&format!("lease-trace: {sentence}"), text::TALK_WIDTH, 2);
    let _ = writeln!(io::stderr(), "{line}");
}

/// How to present a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Columns there are; `None`: as many as it takes (not a terminal, or asked for).
    pub width: Option<usize>,
    pub colour: bool,
}

impl Look {
    /// For stdout as it is.
    pub fn of_stdout() -> Self {
        if !io::stdout().is_terminal() {
            return Self::PLAIN;
        }
        let no_colour = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            width: Some(terminal_width()),
            colour: !is_dumb() && !no_colour,
        }
    }

    /// For pipes and files.
    pub const PLAIN: Self = Self {
        width: None,
        colour: false,
    };
}

/// Whether the terminal can do nothing but show one line after the other.
pub fn is_dumb() -> bool {
    env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty())
}

fn terminal_width() -> usize {
    let mut size = MaybeUninit::<libc::winsize>::zeroed();
    // SAFETY: TIOCGWINSZ writes a winsize to the pointer it is given; an all-zero one is a value,
    // so reading it back is sound whatever the call did.
    let size = unsafe {
        libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, size.as_mut_ptr());
        size.assume_init()
    };
    if size.ws_col > 0 {
        return usize::from(size.ws_col);
    }
    env::var("COLUMNS")
        .ok()
        .and_then(|columns| columns.parse().ok())
        .unwrap_or(FALLBACK_WIDTH)
}

/// Whether stdout is a pipe that nobody reads any more. Without this a quiet monitor would learn
/// of it only at its next record.
pub fn reader_is_gone() -> bool {
    let mut stdout = libc::pollfd {
        fd: libc::STDOUT_FILENO,
        events: 0,
        revents: 0,
    };
    // SAFETY: one pollfd, as announced; with no time limit to wait for.
    let ready = unsafe { libc::poll(&raw mut stdout, 1, 0) };
    ready > 0 && stdout.revents & libc::POLLERR != 0
}
