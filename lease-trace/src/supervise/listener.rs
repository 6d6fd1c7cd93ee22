//! The descriptor through which the kernel asks (seccomp_unotify(2)), shared by whoever answers.

use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
};

use libc::{seccomp_notif, seccomp_notif_resp};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// `SECCOMP_IOCTL_NOTIF_RECV` and its kin (include/uapi/linux/seccomp.h).
const RECEIVE: libc::Ioctl = 0xc050_2100_u32 as libc::Ioctl;
const SEND: libc::Ioctl = 0xc018_2101_u32 as libc::Ioctl;
const IS_VALID: libc::Ioctl = 0x4008_2102;
const SET_FLAGS: libc::Ioctl = 0x4008_2104;
/// `SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP` (6.6): who is asked runs where the asker did.
const SYNC_WAKE_UP: u64 = 1;
const _: () = assert!(size_of::<seccomp_notif>() == 80);
const _: () = assert!(size_of::<seccomp_notif_resp>() == 24);

/// One call that waits for an answer.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Never used again.
    pub id: u64,
    /// The calling thread.
    pub tid: u32,
    /// Which entry it came through, see [`super::nr::abi`].
    pub arch: u32,
    pub number: u32,
    pub arguments: [u64; 6],
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The kernel does it.
    Continue,
    /// It fails with this error, and nothing was done.
    Fail(i32),
}

/// What there is to do.
pub enum Next {
    Asked(Asked),
    Nothing,
    /// Nobody is left who could ask.
    End,
}

/// The descriptor that seccomp(2) gave for the filter (`SECCOMP_FILTER_FLAG_NEW_LISTENER`).
pub struct Listener(OwnedFd);

impl Listener {
    pub fn new(fd: OwnedFd) -> Self {
        let listener = Self(fd);
        // Without it answers only come later (before 6.6).
        _ = listener.command(SET_FLAGS, SYNC_WAKE_UP as *mut u64);
        listener
    }

    /// The next question, without waiting for one.
    pub fn next(&self) -> io::Result<Next> {
        self.next_within(Some(&Timespec::default()))
    }

    /// The same, and waits.
    pub fn wait(&self) -> io::Result<Next> {
        self.next_within(None)
    }

    fn next_within(&self, patience: Option<&Timespec>) -> io::Result<Next> {
        // RECV waits whatever the descriptor's flags are.
        let mut ready = [PollFd::new(&self.0, PollFlags::IN)];
        match poll(&mut ready, patience) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(Next::Nothing),
            Err(error) => return Err(error.into()),
        }
        let found = ready[0].revents();
        if found.contains(PollFlags::IN) {
            return self.receive();
        }
        if found.intersects(PollFlags::HUP | PollFlags::ERR) {
            return Ok(Next::End);
        }
        Ok(Next::Nothing)
    }

    fn receive(&self) -> io::Result<Next> {
        // The kernel insists on zeroes.
        // SAFETY: `seccomp_notif` is made of integers only, for which zero is a value.
        let mut found: seccomp_notif = unsafe { std::mem::zeroed() };
        match self.command(RECEIVE, &raw mut found) {
            Ok(()) => Ok(Next::Asked(Asked {
                id: found.id,
                tid: found.pid,
                arch: found.data.arch,
                number: found.data.nr as u32,
                arguments: found.data.args,
            })),
            // Whoever asked is gone, or was interrupted.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINTR)) => {
                Ok(Next::Nothing)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether whoever asked still waits for the answer; else its thread id may be another's.
    pub fn is_waiting(&self, id: u64) -> bool {
        let mut id = id;
        self.command(IS_VALID, &raw mut id).is_ok()
    }

    /// Answers. False: nobody waits for it any more.
    pub fn answer(&self, id: u64, answer: Answer) -> io::Result<bool> {
        let (error, flags) = match answer {
            Answer::Continue => (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
            Answer::Fail(errno) => (-errno, 0),
        };
        let mut response = seccomp_notif_resp {
            id,
            val: 0,
            error,
            flags,
        };
        match self.command(SEND, &raw mut response) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn command<T>(&self, command: libc::Ioctl, argument: *mut T) -> io::Result<()> {
        // SAFETY: the descriptor is open; `argument` points to what the command wants, of the
        // size that is part of its number, or is the number that SET_FLAGS wants in its place.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), command, argument) };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl std::os::fd::AsRawFd for Listener {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.0.as_raw_fd()
    }
}
