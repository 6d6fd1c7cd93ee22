//! `lease-trace monitor`: shows each zombie when it begins and when its last pin is dropped.

use std::{
    collections::BTreeSet,
    io::{self, BufWriter},
    process,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};
use lease_trace_common::count::Count;
use tokio::{
    runtime,
    time::{self, MissedTickBehavior},
};

use super::{consumers::Moved, metrics::Metrics, plan, signals::Signals};
use crate::{
    actions::Actions,
    cli::{Format, MonitorFlags, Pins},
    clock::Zone,
    enrich::{Names, cgroup::Cgroups},
    exit::Exit,
    filter::Filter,
    kernel::host,
    proofs::{LOOKS, Lapses, Proofs},
    record::Start,
    rules,
    service::{Service, Store},
    session::Session,
    sinks::{
        Sink, WriteError,
        journal::Journal,
        json::Json,
        metrics::server::Server,
        table::Table,
        terminal::{Look, reader_is_gone},
        text,
    },
    tracer::{self, Tracer, cross_check::CrossChecker},
};

/// How often losses are looked for.
const TICK: Duration = Duration::from_secs(1);

/// What the flags mean.
struct Settings {
    filter: Filter,
    cgroups: Cgroups,
    duration: Option<Duration>,
    options: tracer::Options,
}

impl Settings {
    fn resolve(flags: &MonitorFlags) -> anyhow::Result<Self> {
        let cgroups = Cgroups::of_host();
        Ok(Self {
            filter: Filter::resolve(&flags.filter.asked(), &cgroups)?,
            cgroups,
            duration: flags.duration.as_deref().map(parse_duration).transpose()?,
            options: tracer::Options {
                attach: flags.attach.attach.into(),
                capacity: flags.capacity.capacity,
                pins_all: flags.pins == Pins::All,
                cross_check: flags.cross_check.given(),
                all_events: flags.all_events,
                files: flags.files.proc_mode,
            },
        })
    }
}

pub fn run(flags: &MonitorFlags) -> anyhow::Result<Exit> {
    run_into(flags, sink)
}

/// The same, with records going wherever `sink` says.
pub fn run_into(
    flags: &MonitorFlags,
    sink: impl FnOnce(Format) -> anyhow::Result<Box<dyn Sink>>,
) -> anyhow::Result<Exit> {
    host::no_huge_pages();
    // Before anything is opened.
    let mut service = Service::find();
    let Settings {
        filter,
        cgroups,
        duration,
        options,
    } = Settings::resolve(flags)?;
    let plan = flags.policy.as_deref().map(plan::read).transpose()?;
    let sink = sink(flags.output)?;
    let server = flags.metrics.map(Server::bind).transpose()?;
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    runtime.block_on(async {
        // Before anything is attached: a signal during the start must not leave it behind.
        let mut signals = Signals::catch().context("cannot catch signals")?;
        let mut tracer = Tracer::start(options, plan.as_ref())?;
        let mut metrics = Metrics::start(server, &tracer)?;
        let sink = metrics.beside(sink);
        let session = Session::new(sink, filter, Names::new(cgroups), flags.all_events);
        if let (Format::Json | Format::Journal, Some(recovered)) =
            (flags.output, tracer.recovered())
        {
            eprintln!("lease-trace: {recovered}");
        }
        let cross_check = flags
            .cross_check
            .given()
            .then(|| CrossChecker::start(&tracer))
            .transpose()?;
        let watched = watch(
            session,
            &mut tracer,
            &mut signals,
            &mut service,
            &mut metrics,
            duration,
            cross_check,
        )
        .await;
        tracer.stop();
        watched.map(|()| Exit::Done)
    })
}

/// From the first record to the last.
async fn watch(
    mut session: Session,
    tracer: &mut Tracer,
    signals: &mut Signals,
    service: &mut Service,
    metrics: &mut Metrics,
    duration: Option<Duration>,
    mut cross_check: Option<CrossChecker>,
) -> anyhow::Result<()> {
    let deadline = async {
        match duration {
            Some(duration) => time::sleep(duration).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(deadline);
    let mut tick = time::interval(service.pulse().map_or(TICK, |pulse| pulse.min(TICK)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);

    let mut looks = time::interval(LOOKS);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);

    session.start(Start {
        pid: process::id(),
        kernel: host::release(),
        attach: tracer.attached(),
        cannot: tracer.cannot(),
        recovered: tracer.recovered().map(str::to_owned),
        policy: rules::describe(&tracer.in_force()?),
    })?;
    let mut actions = Actions::default();
    let mut sweep = Sweep::default();
    let mut proofs = Proofs::default();
    let mut lapses = Lapses::default();
    let mut limits = Limits::beside(tracer.limits());
    let mut moved = Moved::default();
    // Inode ids are those of the maps: only with maps that stay do they mean anything later.
    let store = if tracer.is_in_place() {
        Store::of_manager()
    } else {
        Store::default()
    };
    for done in actions.take_over(tracer, store, service.take_handed())? {
        session.rule_action(&done)?;
    }
    service.ready(status(&session, &actions, tracer)?);
    loop {
        tokio::select! {
            biased;
            () = signals.any() => break,
            () = &mut deadline => break,
            _ = tick.tick() => {
                tracer.count_missed()?;
                let counts = tracer.counts()?;
                session.losses(&counts)?;
                if let Some(found) = cross_check.as_mut().map(|cross_check| cross_check.look(tracer)).transpose()?
                {
                    session.cross_checked(found)?;
                }
                session.overdue()?;
                for done in actions.catch_up(tracer, &counts)? {
                    session.rule_action(&done)?;
                }
                for done in actions.tick(tracer::hold_limit_ms()) {
                    session.rule_action(&done)?;
                }
                sweep.run(tracer, &mut session, &mut actions, &counts)?;
                limits.look();
                moved.look(tracer)?;
                if reader_is_gone() {
                    return Err(WriteError(io::ErrorKind::BrokenPipe.into()).into());
                }
                service.alive(status(&session, &actions, tracer)?);
            }
            _ = looks.tick() => {
                proofs.run(tracer, &mut session)?;
                lapses.run(tracer);
            }
            question = metrics.asked() => {
                metrics.answer(question, &mut session, &actions, tracer)?;
            }
            notifications = tracer.next() => act(&mut session, &mut actions, &notifications)?,
        }
    }
    service.stopping();
    act(&mut session, &mut actions, &tracer.drain())?;
    match actions.held() {
        0 => {}
        files if actions.outlives_this() => eprintln!(
            "lease-trace: {} with the service manager, which releases them unless this is a restart",
            text::counted(files as u64, "held file"),
        ),
        files => session.lapse(files)?,
    }
    tracer.count_missed()?;
    session.losses(&tracer.counts()?)?;
    // The ledger knows the zombies, too, if the maps cannot be read any more.
    session.end(
        tracer.snapshot().ok().as_ref(),
        tracer.in_force().ok().as_ref(),
    )?;
    Ok(())
}

/// What keeps hooks from seeing, which may change while they are attached.
struct Limits {
    known: BTreeSet<String>,
    next: Instant,
}

impl Limits {
    const EVERY: Duration = Duration::from_secs(5);

    /// Beside those that the start has told.
    fn beside(told: &BTreeSet<String>) -> Self {
        Self {
            known: told.clone(),
            next: Instant::now() + Self::EVERY,
        }
    }

    /// Says what has changed since the last look.
    fn look(&mut self) {
        let begun = Instant::now();
        if begun < self.next {
            return;
        }
        self.next = begun + Self::EVERY;
        let now = tracer::limits();
        for limit in now.difference(&self.known) {
            log::warn!("{limit}");
        }
        for limit in self.known.difference(&now) {
            log::warn!("this is over: {limit}");
        }
        self.known = now;
    }
}

/// Looks for orphaned pins while there are pins under a lease.
struct Sweep {
    next: Instant,
}

impl Default for Sweep {
    fn default() -> Self {
        Self {
            next: Instant::now(),
        }
    }
}

impl Sweep {
    /// However long a walk takes, it takes no more than this part of the time.
    const SHARE: u32 = 20;
    /// With rules in force: a walk holds each open file for a moment, and a close in that moment is
    /// not the last, so that no rule meets it.
    const SHARE_WITH_RULES: u32 = 200;

    fn run(
        &mut self,
        tracer: &mut Tracer,
        session: &mut Session,
        actions: &mut Actions,
        counts: &[u64; Count::LEN],
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        let covered = counts[Count::Covered as usize] != counts[Count::Uncovered as usize];
        if begun < self.next || !(covered || session.has_orphans()) {
            return Ok(());
        }
        let known = session.known_orphans();
        let stakes = tracer.stakes_with(|key, stake| known.concerns(key, stake))?;
        let leased = tracer.leased()?;
        act(session, actions, &tracer.drain())?;
        let holders = tracer.holders_of(&stakes, &leased)?;
        let has_rules = tracer.rules()? > 0;
        let certain =
            session.orphans(&stakes, &leased, &holders, has_rules, || tracer.everybody())?;
        let taken = begun.elapsed();
        let share = if has_rules {
            tracer.upkeep().judge_orphans(certain);
            Self::SHARE_WITH_RULES
        } else {
            Self::SHARE
        };
        self.next = begun + taken * share;
        Ok(())
    }
}

/// Tells what happened, and does what it asks for.
fn act(
    session: &mut Session,
    actions: &mut Actions,
    notifications: &[Vec<u8>],
) -> anyhow::Result<()> {
    for request in session.batch(notifications)? {
        if let Some(done) = actions.carry_out(request) {
            session.rule_action(&done)?;
        }
    }
    Ok(())
}

/// What the service manager shows: `2 rules, 1 file held, 0 zombies`.
fn status(session: &Session, actions: &Actions, tracer: &Tracer) -> anyhow::Result<String> {
    Ok(format!(
        "{}, {} held, {}",
        text::counted(u64::from(tracer.rules()?), "rule"),
        text::counted(actions.held() as u64, "file"),
        text::counted(session.zombies(), "zombie"),
    ))
}

fn sink(format: Format) -> anyhow::Result<Box<dyn Sink>> {
    // Flushed after every batch, so that nothing waits in it.
    let out = BufWriter::new(io::stdout().lock());
    Ok(match format {
        Format::Journal => Box::new(Journal::connect()?),
        Format::Json => Box::new(Json::new(out)),
        Format::Table => Box::new(Table::new(
            out,
            io::stderr(),
            Look::of_stdout(),
            Zone::Local,
        )),
    })
}

pub fn parse_duration(typed: &str) -> anyhow::Result<Duration> {
    let duration = humantime::parse_duration(typed)
        .map_err(|error| anyhow!("-d {typed}: {error}; write e.g. 90s, 10min or 1h 30m"))?;
    if duration.is_zero() {
        bail!("-d {typed}: nothing can be seen in no time; leave -d out to watch until Ctrl-C");
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_people_do() {
        let parsed = parse_duration("1h 30m").expect("a duration");
        assert_eq!(parsed, Duration::from_mins(90));
    }

    #[test]
    fn wrong_durations_say_what_to_write() {
        let refused = |typed| parse_duration(typed).expect_err("refused").to_string();
        insta::assert_snapshot!(refused("0s"), @r#"-d 0s: nothing can be seen in no time; leave -d out to watch until Ctrl-C"#);
        insta::assert_snapshot!(refused("10"), @r#"-d 10: time unit needed, for example 10sec or 10ms; write e.g. 90s, 10min or 1h 30m"#);
        insta::assert_snapshot!(refused("soon"), @r#"-d soon: expected number at 0; write e.g. 90s, 10min or 1h 30m"#);
    }

    #[test]
    fn the_kernel_has_a_release() {
        assert!(!host::release().is_empty());
    }
}
