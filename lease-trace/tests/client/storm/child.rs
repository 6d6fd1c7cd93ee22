//! Children of a storm: how a process of it ended, and those that are forked by one of its threads.
//! Behind such a fork there are system calls only.

use std::os::fd::RawFd;
use std::ptr;
use std::thread::sleep;
use std::time::Duration;

use super::board::{Board, Figure};
use super::chance::Chance;
use super::pages::{Buffers, Files};
use crate::reply::Failure;
use crate::sys;

/// What became of a process, if anything did.
pub fn fate(pid: i32) -> Result<Option<Figure>, Failure> {
    let mut status = 0;
    // SAFETY: the kernel writes one integer.
    match unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG | libc::WUNTRACED) } {
        0 => Ok(None),
        -1 => Err(Failure::of(&std::io::Error::last_os_error(), "waitpid")),
        _ if libc::WIFSTOPPED(status) => {
            // It would never end by itself.
            sys::kill(pid, libc::SIGKILL)?;
            sys::wait(pid)?;
            Ok(Some(Figure::Stopped))
        }
        _ if libc::WIFSIGNALED(status) => Ok(Some(Figure::Killed)),
        _ => Ok(Some(Figure::Exited)),
    }
}

/// What a thread has that forks.
pub struct Part<'a> {
    pub board: Board,
    pub files: &'a Files,
    pub own: &'a Files,
}

impl Part<'_> {
    fn buffers(&self, chance: &mut Chance) -> Buffers {
        let mut buffers = Buffers::choose(&[self.files], 3, chance);
        buffers.add(self.own, chance);
        buffers
    }

    /// Forks a child that inherits all, pins, and ends in one of four ways; waits until it has.
    pub fn fork(&self, chance: &mut Chance) -> Result<(), Failure> {
        let way = chance.below(4);
        let buffers = self.buffers(chance);
        // SAFETY: the child makes system calls only, until it ends or executes a program.
        let pid = unsafe { libc::fork() };
        match pid {
            -1 => Err(Failure::of(&std::io::Error::last_os_error(), "fork")),
            0 => live(way, &buffers),
            _ => {
                if way == KILLED {
                    sleep(Duration::from_micros(chance.below(3000) as u64));
                    sys::kill(pid, libc::SIGKILL)?;
                }
                sys::wait(pid)?;
                self.board.count(Figure::Forked, 1);
                Ok(())
            }
        }
    }

    /// Forks a child that inherits all, pins, and keeps the pins while its parent holds what that has; its pid, once
    /// they are there.
    pub fn fork_holding(
        &self,
        process: usize,
        round: u64,
        chance: &mut Chance,
    ) -> Result<i32, Failure> {
        let before = self.board.children(process);
        let buffers = self.buffers(chance);
        // SAFETY: the child makes system calls only, until it ends.
        let pid = unsafe { libc::fork() };
        match pid {
            -1 => return Err(Failure::of(&std::io::Error::last_os_error(), "fork")),
            0 => {
                let ring = sys::io_uring_setup(1).unwrap_or(-1);
                let _ = buffers.register(ring);
                self.board.hold_as_child(process, round);
                // SAFETY: ends the process; nothing of it runs again.
                unsafe { libc::_exit(0) }
            }
            _ => {}
        }
        while self.board.children(process) == before {
            sleep(Duration::from_millis(1));
        }
        Ok(pid)
    }
}

const EXITS: usize = 1;
const EXECUTES: usize = 2;
const KILLED: usize = 3;

/// What the child does.
fn live(way: usize, buffers: &Buffers) -> ! {
    let ring = sys::io_uring_setup(1).unwrap_or(-1);
    loop {
        // Refused where another thread has cut pages off: nothing is pinned then.
        let _ = buffers.register(ring);
        if way == EXITS || way == EXECUTES {
            break;
        }
        let _ = Buffers::unregister(ring);
        if way != KILLED {
            break;
        }
    }
    if way == EXECUTES {
        execute();
    }
    // SAFETY: ends the process; nothing of it runs again.
    unsafe { libc::_exit(0) }
}

/// Becomes this program again, to say something to nobody.
fn execute() {
    // SAFETY: NUL-terminated literals, which outlive the calls; the descriptor replaces the answers'
    // in this process alone.
    unsafe {
        let nowhere: RawFd = libc::open(c"/dev/null".as_ptr(), libc::O_WRONLY);
        libc::dup2(nowhere, libc::STDOUT_FILENO);
        let arguments = [c"client".as_ptr(), c"help".as_ptr(), ptr::null()];
        let environment = [ptr::null()];
        libc::execve(
            c"/proc/self/exe".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
        );
    }
}
