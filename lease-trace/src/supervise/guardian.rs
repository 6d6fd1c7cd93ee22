//! Who answers when the supervisor has died. Without anybody the kernel would let every call that
//! is asked about fail with ENOSYS (kernel/seccomp.c, `seccomp_do_user_notification`), which no
//! program is made for.

use std::{collections::BTreeSet, io};

use clap::ValueEnum;
use rustix::process::Signal;

use super::{
    listener::{Answer, Listener, Next},
    outstanding::Outstanding,
    process::Caller,
    tell,
};

/// What becomes of the releases of a command whose supervisor died.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OnDeath {
    /// They go through
    Open,
    /// Who makes one is killed
    Closed,
}

/// From now until nobody is left who could ask.
pub fn take_over(
    listener: &Listener,
    outstanding: &Outstanding,
    on_death: OnDeath,
    how: &str,
) -> io::Result<()> {
    tell::say(&match on_death {
        OnDeath::Open => format!(
            "the supervisor {how}: from now on every release goes through, and what it leaves \
             is seen by a monitor only (--on-supervisor-death open)"
        ),
        OnDeath::Closed => format!(
            "the supervisor {how}: whatever makes a call that could release a lease from now on \
             is killed (--on-supervisor-death closed)"
        ),
    });
    let mut killed = BTreeSet::new();
    for (id, tid) in outstanding.left() {
        settle(listener, id, tid, on_death, &mut killed)?;
    }
    loop {
        match listener.wait()? {
            Next::Asked(asked) => settle(listener, asked.id, asked.tid, on_death, &mut killed)?,
            Next::Nothing => {}
            Next::End => return Ok(()),
        }
    }
}

fn settle(
    listener: &Listener,
    id: u64,
    tid: u32,
    on_death: OnDeath,
    killed: &mut BTreeSet<u32>,
) -> io::Result<()> {
    if on_death == OnDeath::Open {
        return listener.answer(id, Answer::Continue).map(|_| ());
    }
    let Some(caller) = Caller::of(tid).filter(|_| listener.is_waiting(id)) else {
        return Ok(());
    };
    if killed.insert(caller.tgid) {
        tell::say(&format!("{} is killed", tell::who(caller.tgid)));
    }
    match caller.signal(Signal::KILL) {
        Err(error) if error.raw_os_error() != Some(libc::ESRCH) => Err(error),
        _ => Ok(()),
    }
}
