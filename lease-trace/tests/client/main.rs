//! The scenarios' actor: a process that does exactly what it is told.
//!
//! It reads one command a line from stdin, performs that and nothing else, and answers with one
//! line: `ok [VALUES]`, or `error ERRNO_NAME ERRNO DETAIL` when the kernel refused. One process is
//! one actor; `fork` makes another, addressed through its parent as `NAME: COMMAND`. It knows
//! nothing about lease-trace, so whatever the tool says about it, the tool found in the kernel.
//!
//! `help` lists the commands. They carry the kernel's words and work on *slots*: small names for
//! descriptors, mappings and memory regions. This file reads lines and hands them on.

mod actor;
mod child;
mod command;
mod crowd;
mod direct;
mod file;
mod fixed;
#[cfg_attr(target_feature = "crt-static", path = "ibverbs_absent.rs")]
mod ibverbs;
mod intruder;
mod lease;
mod measure;
mod memory;
mod process;
mod reply;
mod ring;
mod slots;
mod storm;
mod sys;
mod table;
mod thread;
mod udmabuf;
mod uffd;
mod uring_abi;
mod verbs;
mod vfio;
mod xdp;

use std::process::ExitCode;

use actor::Actor;
use reply::Answer;

fn main() -> ExitCode {
    let mut actor = Actor::new();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {}
        ["help" | "-h" | "--help"] => {
            print!("{}", command::help());
            return ExitCode::SUCCESS;
        }
        [process::RESUME, ref slots @ ..] => {
            let names = actor.resume(slots);
            reply::say(&Ok(Answer::Values(names)));
        }
        [..] => {
            eprintln!("client: commands are read from stdin; `client help` lists them");
            return ExitCode::from(2);
        }
    }
    // A lease that somebody wants broken sends SIGIO, which would end a process that did not ask
    // for it. Scenarios about broken leases must outlive that; `signals default` brings it back.
    process::ignore_lease_breaks();
    command::read_on(&mut actor);
    ExitCode::SUCCESS
}
