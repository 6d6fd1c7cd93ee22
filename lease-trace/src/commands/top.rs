//! `lease-trace top`: the stakes on a live screen, from whatever watches already, or from hooks of
//! its own.

mod feed;
mod watch;

use std::{
    io, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow, bail};
use ratatui::crossterm::event::{self, Event};
use tokio::{
    runtime,
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time,
};

use self::{feed::Feed, watch::Watch};
use super::{say, signals::Signals};
use crate::{
    cli::{Pins, TopFlags},
    enrich::{Names, cgroup::Cgroups},
    exit::Exit,
    filter::Filter,
    sinks::{
        WriteError,
        terminal::Look,
        top::{
            self, Theme,
            guard::{self, Guard},
            keys::{self, After},
        },
    },
    tracer,
};

/// Looks that follow each other faster would show nothing but themselves.
const SHORTEST: Duration = Duration::from_millis(100);
/// A look takes no more than this part of the time, however many stakes there are.
const SHARE: u32 = 10;

pub fn run(flags: &TopFlags) -> anyhow::Result<Exit> {
    guard::check()?;
    let interval = interval(&flags.interval)?;
    let cgroups = Cgroups::of_host();
    let filter = Filter::resolve(&flags.filter.asked(), &cgroups)?;
    let theme = Theme {
        colour: Look::of_stdout().colour && !flags.no_color,
    };
    let options = tracer::Options {
        attach: flags.attach.attach.into(),
        pins_all: flags.pins == Pins::All,
        capacity: flags.capacity.capacity,
        ..tracer::Options::default()
    };
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    runtime.block_on(async {
        // Before anything is attached: a signal during the start must not leave it behind.
        let mut signals = Signals::catch().context("cannot catch signals")?;
        let feed = Feed::open(options, || {
            say("no monitor is running; attaching hooks, which takes a moment");
        })?;
        let mut watch = Watch::start(feed, filter, Names::new(cgroups), interval)?;
        let shown = show(&mut watch, theme, interval, &mut signals).await;
        watch.stop();
        shown.map(|()| Exit::Done)
    })
}

/// From the first picture to the last. The terminal is as it was when this returns.
async fn show(
    watch: &mut Watch,
    theme: Theme,
    interval: Duration,
    signals: &mut Signals,
) -> anyhow::Result<()> {
    let mut guard = Guard::take()?;
    let mut keys = keyboard();
    let mut next = Instant::now() + interval;
    loop {
        let drawn = guard
            .terminal
            .draw(|frame| top::draw(&mut watch.screen, theme, frame));
        drawn.map_err(WriteError)?;
        tokio::select! {
            biased;
            () = signals.any() => return Ok(()),
            key = keys.recv() => match key {
                Some(Ok(Event::Key(key))) => {
                    if keys::press(&mut watch.screen, key) == After::Quit {
                        return Ok(());
                    }
                    watch.look_closer();
                }
                // A new size: the next picture has it.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error).context("cannot read keys"),
                // Whoever reads them ends with an error.
                None => return Ok(()),
            },
            () = time::sleep_until(next.into()) => {
                let begun = Instant::now();
                watch.look()?;
                next = begun + interval.max(begun.elapsed() * SHARE);
            }
            () = watch.drained() => {}
        }
    }
}

/// Keys pressed and sizes changed, read by a thread that ends with the program.
fn keyboard() -> UnboundedReceiver<io::Result<Event>> {
    let (send, receive) = unbounded_channel();
    thread::spawn(move || {
        loop {
            let event = event::read();
            let last = event.is_err();
            if send.send(event).is_err() || last {
                break;
            }
        }
    });
    receive
}

fn interval(typed: &str) -> anyhow::Result<Duration> {
    let interval = humantime::parse_duration(typed)
        .map_err(|error| anyhow!("-i {typed}: {error}; write e.g. 500ms, 5s or 1min"))?;
    if interval < SHORTEST {
        bail!("-i {typed}: nobody can read that fast; 100ms is the shortest");
    }
    Ok(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_written_as_people_do() {
        assert_eq!(interval("2s").expect("a duration"), Duration::from_secs(2));
        let refused = |typed| interval(typed).expect_err("refused").to_string();
        insta::assert_snapshot!(refused("9ms"), @"-i 9ms: nobody can read that fast; 100ms is the shortest");
        insta::assert_snapshot!(refused("5"), @"-i 5: time unit needed, for example 5sec or 5ms; write e.g. 500ms, 5s or 1min");
    }
}
