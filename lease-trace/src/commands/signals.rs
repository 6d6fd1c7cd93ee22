//! The signals that end a monitor, so that it ends cleanly: nothing stays attached or pinned.

use std::{io, mem::MaybeUninit};

use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGINT, SIGTERM, and SIGHUP unless it is ignored (nohup).
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Option<Signal>,
}

impl Signals {
    /// From here on they end nothing by themselves.
    pub fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: if is_ignored(libc::SIGHUP) {
                None
            } else {
                Some(signal(SignalKind::hangup())?)
            },
        })
    }

    /// Waits for one of them.
    pub async fn any(&mut self) {
        let Self {
            interrupt,
            terminate,
            hangup,
        } = self;
        let hangup = async {
            match hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup => {}
        }
    }
}

fn is_ignored(number: libc::c_int) -> bool {
    let mut present = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action the call only writes the present one to the pointer; an
    // all-zero sigaction (SIG_DFL) is a value, so reading it back is sound whatever the call did.
    let present = unsafe {
        libc::sigaction(number, std::ptr::null(), present.as_mut_ptr());
        present.assume_init()
    };
    present.sa_sigaction == libc::SIG_IGN
}

#[cfg(test)]
mod tests {
    #[test]
    fn pipes_are_ignored_and_hangups_are_not() {
        // The runtime of every Rust program ignores SIGPIPE; EPIPE is then what a write returns.
        assert!(super::is_ignored(libc::SIGPIPE));
        assert!(!super::is_ignored(libc::SIGCHLD));
    }
}
