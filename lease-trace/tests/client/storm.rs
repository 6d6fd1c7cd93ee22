//! A storm: processes with threads that pin, unpin, lease and let go by themselves, as fast as they
//! can, until they are told to pause; then they keep what they have, until they are told to give it back. They are
//! not spoken to meanwhile: what phase it is and what they did stands in memory that all of them share.

mod board;
mod chance;
mod child;
mod heir;
mod heirs;
mod pages;
mod work;

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::actor::Actor;
use crate::command::{Arguments, Command};
use crate::reply::{DONE, Failure, Reply, usage, value};
use crate::sys;
use board::{Board, PROCESSES};
use pages::Files;

pub const COMMANDS: &[Command] = &[
    Command {
        name: "storm",
        arguments: "SLOT PROCESSES DIRECTORY SEED [DISK]",
        summary: "so many processes with eight threads each, and as many parents of heirs, which wait; DISK is read \
                  with O_DIRECT",
        run: gather,
    },
    Command {
        name: "storm-round",
        arguments: "SLOT MILLISECONDS [KIND,...]",
        summary: "lets them work and waits until each holds what it has; KIND: wrong, fork, cut, alone",
        run: round,
    },
    Command {
        name: "storm-release",
        arguments: "SLOT",
        summary: "lets them give back what they hold, and waits until they are quiet",
        run: release,
    },
    Command {
        name: "storm-end",
        arguments: "SLOT",
        summary: "exit(2) of all of them, and waits until they are gone",
        run: end,
    },
];

/// How long they may take until they are quiet.
const PATIENCE: Duration = Duration::from_secs(170);

/// The processes, and what they share.
pub struct Storm {
    pids: Vec<Option<i32>>,
    board: Board,
}

fn gather(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let (slot, directory) = (arguments.word(0), arguments.word(2));
    let (count, seed): (usize, u64) = (arguments.number(1)?, arguments.number(3)?);
    if 2 * count > PROCESSES {
        return usage(format!("at most {} processes", PROCESSES / 2));
    }
    actor.storms.free(slot)?;
    let board = Board::new()?;
    for number in 0..count {
        board.expect(number, work::THREADS as u64);
        board.expect(count + number, heirs::THREADS);
    }
    let files = Files::open(directory)?;
    let mut pids = Vec::new();
    for number in 0..count {
        match sys::fork()? {
            0 => {
                let worked = work::all(
                    board,
                    &files,
                    number,
                    seed,
                    directory,
                    arguments.optional(4),
                );
                std::process::exit(i32::from(worked.is_err()))
            }
            pid => pids.push(Some(pid)),
        }
    }
    files.close()?;
    // These have nothing of the files that are shared.
    for number in count..2 * count {
        match sys::fork()? {
            0 => {
                let lived = heirs::all(board, number, seed, &format!("{directory}/heirs"));
                std::process::exit(i32::from(lived.is_err()))
            }
            pid => pids.push(Some(pid)),
        }
    }
    actor.storms.put(slot, Storm { pids, board });
    Ok(value(count))
}

fn round(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let storm = actor.storms.get_mut(arguments.word(0))?;
    let duration = Duration::from_millis(arguments.number(1)?);
    let mut kinds = 0;
    for word in arguments
        .optional(2)
        .into_iter()
        .flat_map(|list| list.split(','))
    {
        match board::KINDS.iter().find(|(name, _)| *name == word) {
            Some((_, kind)) => kinds |= kind,
            None => return usage(format!("`{word}` is no kind of work")),
        }
    }
    storm.board.begin(kinds);
    sleep(duration);
    storm.board.hush();
    storm.wait_until(Board::is_holding)?;
    Ok(value(storm.board.figures()))
}

fn release(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let storm = actor.storms.get_mut(arguments.word(0))?;
    storm.board.release();
    storm.wait_until(Board::is_quiet)?;
    Ok(value(storm.board.figures()))
}

impl Storm {
    /// Those that have ended or were stopped are not waited for; they are counted.
    fn wait_until(&mut self, is_so: impl Fn(Board, usize) -> bool) -> Result<(), Failure> {
        let deadline = Instant::now() + PATIENCE;
        for (number, pid) in self.pids.iter_mut().enumerate() {
            while let Some(child) = *pid {
                if is_so(self.board, number) {
                    break;
                }
                if let Some(fate) = child::fate(child)? {
                    self.board.count(fate, 1);
                    *pid = None;
                } else if Instant::now() > deadline {
                    return usage(format!("process {child} does not become quiet"));
                }
                sleep(Duration::from_millis(2));
            }
        }
        Ok(())
    }
}

fn end(actor: &mut Actor, arguments: &Arguments) -> Reply {
    let storm = actor.storms.take(arguments.word(0))?;
    storm.board.end();
    for pid in storm.pids.into_iter().flatten() {
        sys::wait(pid)?;
    }
    DONE
}
