//! The terminal, taken for the screen and given back whatever happens: at the end, on an error, on
//! a panic. A signal ends the program in the ordinary way, so it needs nothing of its own.

use std::{
    io::{self, IsTerminal as _, Write},
    panic,
};

use anyhow::{Context as _, bail};
use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::{Hide, Show},
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};

use super::sixteen::Sixteen;
use crate::sinks::terminal::is_dumb;

/// A terminal that takes sixteen colours.
type Screen = Terminal<CrosstermBackend<Sixteen<io::Stdout>>>;

/// The terminal while the screen has it.
pub struct Guard {
    pub terminal: Screen,
    /// What the log may say again afterwards.
    log: log::LevelFilter,
}

/// Whether there is a terminal that can show a screen.
pub fn check() -> anyhow::Result<()> {
    if !io::stdout().is_terminal() {
        bail!(
            "top draws on a terminal, and stdout is none; use `lease-trace report` for a list, or \
             `lease-trace monitor` for a stream"
        );
    }
    if is_dumb() {
        bail!("top needs a terminal that can move the cursor; set TERM to what this one is");
    }
    Ok(())
}

impl Guard {
    /// Takes the terminal.
    pub fn take() -> anyhow::Result<Self> {
        let before = panic::take_hook();
        panic::set_hook(after_restoring(give_back, before));
        // From here on it is given back, also if one of the next steps fails.
        let log = log::max_level();
        if io::stderr().is_terminal() {
            log::set_max_level(log::LevelFilter::Off);
        }
        let taken = open().context("cannot take the terminal");
        match taken {
            Ok(terminal) => Ok(Self { terminal, log }),
            Err(error) => {
                give_back();
                log::set_max_level(log);
                Err(error)
            }
        }
    }
}

fn open() -> io::Result<Screen> {
    enable_raw_mode()?;
    execute!(io::stdout(), EnterAlternateScreen, Hide)?;
    Terminal::new(CrosstermBackend::new(Sixteen::new(io::stdout())))
}

impl Drop for Guard {
    fn drop(&mut self) {
        give_back();
        log::set_max_level(self.log);
    }
}

/// Puts the terminal back as it was. A terminal that is gone needs nothing any more.
fn give_back() {
    let _ = leave(&mut io::stdout());
    let _ = disable_raw_mode();
}

fn leave(out: &mut impl Write) -> io::Result<()> {
    execute!(out, LeaveAlternateScreen, Show)
}

type Hook = Box<dyn Fn(&panic::PanicHookInfo<'_>) + Send + Sync>;

/// A panic's message must not go to the screen that is about to vanish.
fn after_restoring(restore: impl Fn() + Send + Sync + 'static, then: Hook) -> Hook {
    Box::new(move |info| {
        restore();
        then(info);
    })
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        thread,
    };

    use super::*;

    /// A thread that panics alone gets into the record: other tests may panic meanwhile.
    const NAME: &str = "panics on the screen";

    #[test]
    fn a_panic_gives_the_terminal_back_before_it_speaks() {
        let record = Arc::new(Mutex::new(Vec::new()));
        let note = |what: &'static str| {
            let record = Arc::clone(&record);
            move || {
                if thread::current().name() == Some(NAME) {
                    record.lock().expect("no panic").push(what);
                }
            }
        };
        let (restore, speak) = (note("restored"), note("spoke"));
        let before: Arc<Hook> = panic::take_hook().into();
        let others = Arc::clone(&before);
        panic::set_hook(after_restoring(
            restore,
            Box::new(move |info| {
                if thread::current().name() == Some(NAME) {
                    speak();
                } else {
                    others(info);
                }
            }),
        ));
        let panicked = thread::Builder::new()
            .name(NAME.to_owned())
            .spawn(|| panic!("as it should"))
            .expect("starts")
            .join();
        panic::set_hook(Box::new(move |info| before(info)));
        assert!(panicked.is_err());
        assert_eq!(*record.lock().expect("no panic"), ["restored", "spoke"]);
    }

    #[test]
    fn leaving_shows_the_old_screen_and_the_cursor() {
        let mut out = Vec::new();
        leave(&mut out).expect("a vector takes everything");
        assert_eq!(out, b"\x1b[?1049l\x1b[?25h");
    }

    #[test]
    fn a_pipe_is_no_terminal() {
        // Tests have their stdout in a pipe or a file, unless a person runs them alone.
        if !io::stdout().is_terminal() {
            let error = check().expect_err("refused").to_string();
            assert!(error.contains("stdout is none"), "{error}");
        }
    }
}
