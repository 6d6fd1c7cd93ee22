//! The process that answers: one loop, which is asked by the command's threads and woken by the
//! kernel side.

use std::{
    collections::HashSet,
    io,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

use lease_trace_common::policy::Action;
use rustix::process::Signal;
use tokio::{
    io::{Interest, unix::AsyncFd},
    time::{self, MissedTickBehavior},
};

use super::{
    call::Call,
    judge::{Decision, Judge},
    listener::{Answer, Asked, Listener, Next},
    outstanding::{Outstanding, Ticket},
    process::{self, Caller},
    release::{Breach, InFlight, Look, Released},
    start, tell,
    witness::Witness,
};
use crate::{
    enrich::Names,
    sinks::text,
    tracer::{self, snapshot::StakeView, wakeup::Watch},
};

/// How often it is looked whether somebody still watches the leases.
const TICK: Duration = Duration::from_secs(1);

/// How long it takes until it is looked again whether calls that were let go are done.
const SOON: Duration = Duration::from_millis(20);

/// For so long at most.
const UNSETTLED: Duration = Duration::from_secs(1);

/// Questions taken in one go: those of one process are answered by one walk over it.
const BATCH: usize = 4096;

/// A call that is to be answered.
struct Pending {
    asked: Asked,
    /// Since when it cannot be said whether other references remain.
    unsettled: Option<Instant>,
    ticket: Ticket,
    /// Once it was told that it waits.
    waits: Option<Waiting>,
}

/// What was told of a call that waits, and when.
struct Waiting {
    since: Instant,
    text: String,
}

impl Waiting {
    fn over(self, how: &str) {
        let after = text::age(self.since.elapsed().as_millis() as u64);
        tell::say(&format!("{} {how} after {after}", self.text));
    }
}

/// What is to be done with a call.
enum Verdict {
    Answer(Answer),
    /// Later: it may be let go when pins are.
    Wait,
    /// It is never answered: its process ends.
    Never,
}

/// The state of the loop.
pub struct Supervisor {
    listener: AsyncFd<Listener>,
    outstanding: Outstanding,
    judge: Judge,
    names: Names,
    witness: Witness,
    watch: Option<Watch>,
    in_flight: InFlight,
    waiting: Vec<Pending>,
    /// When to look at them again though nothing is told of some yet: what those release depends on calls
    /// that are just being made.
    unsettled: Option<Instant>,
    /// Processes that were stopped once for an inode: then they wait.
    stopped: HashSet<(u32, u64)>,
}

impl Supervisor {
    /// Must be called inside a tokio runtime.
    pub fn new(
        listener: Listener,
        outstanding: Outstanding,
        judge: Judge,
        names: Names,
        witness: Witness,
        watch: Option<Watch>,
    ) -> anyhow::Result<Self> {
        // SAFETY: the descriptor belongs to the listener and stays open as long as it lives, which
        // is as long as the registration.
        let listener = unsafe { AsyncFd::register_with_interest(listener, Interest::READABLE) }
            .map_err(io::Error::from)?;
        Ok(Self {
            listener,
            outstanding,
            judge,
            names,
            watch,
            witness,
            in_flight: InFlight::default(),
            waiting: Vec::new(),
            unsettled: None,
            stopped: HashSet::new(),
        })
    }

    /// Answers until nobody is left who could ask. `command` is a pidfd of the process that was
    /// started; others may be left when it has ended.
    pub async fn run(mut self, command: OwnedFd) -> anyhow::Result<()> {
        // SAFETY: the descriptor stays open as long as the registration.
        let command = unsafe { AsyncFd::register_with_interest(command, Interest::READABLE) }
            .map_err(io::Error::from)?;
        let mut has_ended = false;
        let mut tick = time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = until(self.unsettled) => self.look_again()?,
                ready = self.listener.readable() => {
                    ready?.clear_ready();
                    if self.take()? {
                        break;
                    }
                }
                woken = woken(self.watch.as_ref()) => {
                    woken?;
                    self.look_again()?;
                }
                seen = self.witness.next() => self.witness.tell(&seen)?,
                _ = command.readable(), if !has_ended => {
                    has_ended = true;
                    start::be_quiet();
                }
                _ = tick.tick() => self.tick()?,
            }
        }
        self.witness.end()
    }

    /// Takes and answers all questions there are; true at the end.
    fn take(&mut self) -> anyhow::Result<bool> {
        loop {
            let mut batch = Vec::new();
            let mut end = false;
            while batch.len() < BATCH && self.outstanding.has_room() {
                match self.listener.get_ref().next()? {
                    Next::Asked(asked) => {
                        self.witness.is_asked_by(asked.tid);
                        self.in_flight.done(asked.tid);
                        if let Some(ticket) = self.outstanding.enter(asked.id, asked.tid) {
                            batch.push(Pending {
                                asked,
                                unsettled: None,
                                ticket,
                                waits: None,
                            });
                        }
                    }
                    Next::Nothing => break,
                    Next::End => {
                        end = true;
                        break;
                    }
                }
            }
            if end || batch.is_empty() {
                return Ok(end);
            }
            self.settle(batch)?;
        }
    }

    /// Looks at all that wait once more.
    fn look_again(&mut self) -> anyhow::Result<()> {
        self.unsettled = None;
        let waiting = std::mem::take(&mut self.waiting);
        self.settle(waiting)
    }

    fn settle(&mut self, pending: Vec<Pending>) -> anyhow::Result<()> {
        let covers_any = match &self.watch {
            Some(watch) => watch.covers_any()?,
            None => false,
        };
        let watch = self.watch.take();
        let mut in_flight = std::mem::take(&mut self.in_flight);
        let mut look = watch
            .as_ref()
            .filter(|_| covers_any)
            .map(|watch| Look::new(watch, &mut in_flight));
        let mut result = Ok(());
        for one in pending {
            result = result.and_then(|()| self.one(one, watch.as_ref(), look.as_mut()));
        }
        drop(look);
        (self.watch, self.in_flight) = (watch, in_flight);
        result
    }

    fn one(
        &mut self,
        mut one: Pending,
        watch: Option<&Watch>,
        look: Option<&mut Look<'_>>,
    ) -> anyhow::Result<()> {
        let verdict = self.verdict(&mut one, watch, look)?;
        let answer = match verdict {
            Verdict::Answer(answer) => answer,
            Verdict::Wait => {
                self.waiting.push(one);
                return Ok(());
            }
            Verdict::Never => {
                self.outstanding.done(one.ticket);
                return Ok(());
            }
        };
        self.answer(one, answer)
    }

    fn answer(&mut self, one: Pending, answer: Answer) -> anyhow::Result<()> {
        let heard = self.listener.get_ref().answer(one.asked.id, answer)?;
        self.outstanding.done(one.ticket);
        if let Some(waits) = one.waits {
            waits.over(if heard { "goes on" } else { "was interrupted" });
        }
        Ok(())
    }

    fn verdict(
        &mut self,
        one: &mut Pending,
        watch: Option<&Watch>,
        look: Option<&mut Look<'_>>,
    ) -> anyhow::Result<Verdict> {
        const GO: Verdict = Verdict::Answer(Answer::Continue);
        if look.is_none() && !Call::may_be_exec(&one.asked) {
            return Ok(GO);
        }
        // Most calls by far, and the one file in /proc that says so.
        if let Some(fd) = Call::only_descriptor(&one.asked)
            && !process::is_leased(one.asked.tid, fd)
        {
            return Ok(GO);
        }
        let Some(caller) = Caller::of(one.asked.tid) else {
            return Ok(GO);
        };
        let call = Call::of(&one.asked, caller);
        if let Call::Exec { directory, path } = call {
            let Ok(program) = caller.program(directory, path) else {
                return Ok(GO);
            };
            if !program.exists() {
                return Ok(GO);
            }
            if let Some(gains) = caller.gains_by(&program) {
                tell::say(&format!(
                    "{} may not execute a program that is {gains}: it would run without that \
                     here; run it outside (EPERM)",
                    tell::who(caller.tgid),
                ));
                return Ok(Verdict::Answer(Answer::Fail(libc::EPERM)));
            }
        }
        let (Some(look), Some(watch)) = (look, watch) else {
            return Ok(GO);
        };
        let is_patient = one
            .unsettled
            .is_none_or(|since| since.elapsed() < UNSETTLED);
        let released = look.released(&call, one.asked.number, caller, is_patient);
        // What was read may have been another thread's that came to have the same id.
        if !self.listener.get_ref().is_waiting(one.asked.id) {
            look.forget(one.asked.tid);
            return Ok(GO);
        }
        let breach = match released? {
            Released::Nothing => return Ok(GO),
            Released::Lease(breach) => {
                one.unsettled = None;
                breach
            }
            Released::Unsettled => {
                one.unsettled.get_or_insert_with(Instant::now);
                self.unsettled.get_or_insert_with(|| Instant::now() + SOON);
                return Ok(Verdict::Wait);
            }
        };
        let Some(stake) = watch.stake(breach.owner, breach.inode)? else {
            return Ok(GO);
        };
        Ok(self.judge(one, &call, caller, breach, &stake))
    }

    fn judge(
        &mut self,
        one: &mut Pending,
        call: &Call,
        caller: Caller,
        breach: Breach,
        stake: &StakeView,
    ) -> Verdict {
        const GO: Verdict = Verdict::Answer(Answer::Continue);
        if one.waits.is_some() {
            return Verdict::Wait;
        }
        let Decision {
            action,
            rule,
            enforced,
        } = self.judge.decide(stake, breach.cause, &mut self.names);
        let what = tell::call(call, caller);
        let pinned = tell::pinned(stake, caller.tgid, &mut self.names);
        let by = rule.map_or_else(String::new, |rule| format!(", by rule {rule}"));
        if !enforced && action != Action::Report {
            let would = action.name();
            tell::say(&format!("{what} would meet {would}{by}: {pinned}"));
            return GO;
        }
        match action {
            Action::Report => {
                tell::say(&format!("{what} lets a lease go{by}: {pinned}"));
                GO
            }
            Action::Deny => {
                tell::say(&format!("{what} fails with EBUSY{by}: {pinned}"));
                Verdict::Answer(Answer::Fail(libc::EBUSY))
            }
            // Whoever only happens to let go is not the one who pinned.
            Action::Kill if caller.tgid != breach.owner => {
                tell::say(&format!(
                    "{what} lets a lease go, and is not killed, since the pins are another's{by}: \
                     {pinned}"
                ));
                GO
            }
            Action::Kill => {
                tell::say(&format!("{what} is killed{by}: {pinned}"));
                signal(caller, Signal::KILL);
                Verdict::Never
            }
            Action::Stop if self.stopped.insert((caller.tgid, breach.inode)) => {
                tell::say(&format!("{what} is stopped{by}: {pinned}"));
                signal(caller, Signal::STOP);
                wait(one, what)
            }
            Action::Stop | Action::Hold => {
                tell::say(&format!("{what} waits{by}: {pinned}"));
                wait(one, what)
            }
        }
    }

    /// Whoever was interrupted by a signal does not wait any more; a call that is made again after
    /// it waits on.
    fn forget_interrupted(&mut self) {
        let listener = self.listener.get_ref();
        let gone = |one: &mut Pending| !listener.is_waiting(one.asked.id);
        for one in self.waiting.extract_if(.., gone) {
            self.outstanding.done(one.ticket);
            if let Some(waits) = one.waits {
                waits.over("was interrupted");
            }
        }
    }

    fn tick(&mut self) -> anyhow::Result<()> {
        self.forget_interrupted();
        self.witness.tick()?;
        if self.watch.as_ref().is_none_or(|watch| !watch.is_kept()) {
            self.watch = None;
            self.witness.stand_in()?;
            self.watch = Watch::open()?;
        }
        // Somebody else watches now, or a call that was let go has failed: then another waits for nothing.
        if !self.waiting.is_empty() {
            self.look_again()?;
        }
        Ok(())
    }
}

fn wait(one: &mut Pending, text: String) -> Verdict {
    one.waits = Some(Waiting {
        since: Instant::now(),
        text,
    });
    Verdict::Wait
}

fn signal(caller: Caller, signal: Signal) {
    if let Err(error) = caller.signal(signal) {
        log::warn!("cannot signal process {}: {error}", caller.tgid);
    }
}

async fn until(when: Option<Instant>) {
    match when {
        Some(when) => time::sleep_until(when.into()).await,
        None => std::future::pending().await,
    }
}

async fn woken(watch: Option<&Watch>) -> Result<(), tracer::Error> {
    match watch {
        Some(watch) => watch.woken().await,
        None => std::future::pending().await,
    }
}
