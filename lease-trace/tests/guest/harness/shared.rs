//! The monitor that scenarios hand on to each other.
//!
//! To load and attach takes seconds in a guest, and most scenarios only ask what is said about their
//! own actors. So they share one monitor, which also shows that it stands a long run. A scenario
//! about the monitor itself, or about its absence, takes one of its own or retires this one.

use std::ops::Deref;
use std::sync::{Mutex, Once, PoisonError};
use std::thread;

use super::{Monitor, enforcement};

static IDLE: Mutex<Option<Monitor>> = Mutex::new(None);
static AT_EXIT: Once = Once::new();

/// The shared monitor, lent to one scenario.
pub struct Shared(Option<Monitor>);

impl Shared {
    /// The idle one, or a new one that sees everything of everybody.
    pub fn borrow() -> Self {
        let idle = take().filter(Monitor::is_running);
        let monitor = idle.unwrap_or_else(Monitor::alone);
        monitor.forget();
        Self(Some(monitor))
    }
}

/// Ends the idle one, if there is one, and the enforcement that scenarios hand on.
pub fn retire() {
    drop(take());
    enforcement::retire();
}

fn take() -> Option<Monitor> {
    IDLE.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl Deref for Shared {
    type Target = Monitor;

    fn deref(&self) -> &Monitor {
        self.0.as_ref().expect("lent until dropped")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // After a failure nobody knows what state it is in: the next scenario gets another.
        if thread::panicking() {
            return;
        }
        at_exit();
        *IDLE.lock().unwrap_or_else(PoisonError::into_inner) = self.0.take();
    }
}

/// Sees to it that nothing idle outlives this program.
pub fn at_exit() {
    AT_EXIT.call_once(|| {
        // SAFETY: the handler is a plain function that stays for as long as the program.
        unsafe { libc::atexit(retire_at_exit) };
    });
}

/// Statics are not dropped, and whoever runs next on this machine must find no monitor.
extern "C" fn retire_at_exit() {
    retire();
}
