//! The hammer: processes with threads that pin, unpin, lease and let go on all processors at once.
//! Whenever all pause with what they have, and again when all have given it back, the books are held against the
//! kernel.
//!
//! `STORM_SECONDS` and `STORM_SEED` say how long each of them lasts and which sizes it has; `cargo
//! xtask oracle --storm` sets them.

mod found;
mod heirs;
mod held;
mod quiet;

use std::os::unix::fs::chown;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::crowd;
use crate::harness::{
    Actor, Enforcement, Monitor, Pinned, Scratch, SlowDisk, Subject, Tool, expect_zombie,
    no_monitor, number_in_env as number, open_lease_and_pin, retire_enforcement, text,
};
use found::{Figures, Found};

/// How long each of them lasts, where nobody says, and with which sizes.
const SECONDS: u64 = 8;
const SEED: u64 = 7;
/// A long one has time for a thousand denials.
const LONG: u64 = 200;
/// The longest that it goes on without being compared.
const ROUND: Duration = Duration::from_secs(10);
/// How long the processes may take to become quiet.
const HUSH: Duration = Duration::from_mins(3);
const PROCESSES: u32 = 3;
/// Files that all of them share.
const SHARED: usize = 4;
const USER: u32 = 1000;

/// What comes beside pins, leases in the right order and heirs: round after round, and again. Heirs that are `alone`
/// pin and unpin many times as often.
const ALL_KINDS: [&str; 4] = ["wrong,alone", "wrong", "fork", "wrong,fork,cut"];
/// Without children that may still have pins when the lease ends, and without breaches.
const RIGHT_KINDS: [&str; 2] = ["alone", "cut"];

/// Lets the storm go on, with a look at the books after each round; ends it, and looks once more.
fn storm(scratch: &Scratch, kinds: &[&str], pinned: Pinned) -> Found {
    let _disk = SlowDisk::new();
    let (seconds, seed) = (number("STORM_SECONDS", SECONDS), number("STORM_SEED", SEED));
    eprintln!("{seconds} s from seed {seed}");
    let total = Duration::from_secs(seconds);
    let round = ROUND.min(total / kinds.len() as u32);
    let rounds = (total.as_millis() / round.as_millis()) as usize;
    let directory = scratch.directory().display();
    let of_heirs = heirs::directory(scratch);
    // No root, so that what each user has is counted.
    for path in [scratch.directory(), &of_heirs, Path::new(SlowDisk::PATH)] {
        chown(path, Some(USER), None).expect("an owner");
    }
    let actor = Actor::start();
    actor.ok(&format!("setuid {USER}"));
    actor.ok(&format!(
        "storm s {PROCESSES} {directory} {seed} {}",
        SlowDisk::PATH
    ));
    let shared = (0..SHARED).map(|number| Subject::at(&scratch.file(&format!("shared-{number}"))));
    let shared: Vec<_> = shared.collect();
    let place = held::Place {
        dev: shared[0].dev.clone(),
        shared: shared.iter().map(|file| file.ino).collect(),
    };
    let mut found = Found::default();
    // A short storm has no time for more: every other round, and the last has all kinds.
    let is_short = seconds <= SECONDS;
    for (number, kind) in kinds.iter().cycle().take(rounds).enumerate() {
        let command = format!("storm-round s {} {kind}", round.as_millis());
        actor.ok_within(round + HUSH, command.trim_end());
        if !is_short || number % 2 == 1 {
            let begun = Instant::now();
            let held = held::compare(&place, pinned);
            eprintln!("[{kind}] {held} ({:.1?})", begun.elapsed());
            found.add_held(&held);
        }
        let figures = actor.ok_within(HUSH, "storm-release s");
        found.done = Figures::read(&figures);
        let books = quiet::compare(&place.dev, pinned);
        eprintln!("[{kind}] {figures}\n    {books}");
        found.add(&books);
    }
    actor.ok_within(HUSH, "storm-end s");
    let books = quiet::compare(&place.dev, pinned);
    eprintln!("[ended] {books}");
    found.add(&books);
    found.lost = Tool::run(&["report", "stakes", "-J"]).json()["lost"].clone();
    eprintln!("lost: {}", found.lost);
    found
}

/// A monitor, and reports that read its maps all the time: its books are right whenever all is quiet,
/// each breach is told, and nothing else is.
#[test]
fn the_books_are_right_when_all_is_quiet() {
    let (scratch, other) = (Scratch::new(), Scratch::new());
    let pinned = Pinned::now();
    let monitor = Monitor::of_storm();
    let is_over = AtomicBool::new(false);
    let mut found = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                Tool::run(&["report", "zombies", "-J"]);
            }
        });
        let _over = Over(&is_over);
        storm(&scratch, &ALL_KINDS, pinned)
    });
    // Events come in order: behind this one there is none of the storm's.
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &other.file("sentinel"));
    actor.ok("setlease f u");
    expect_zombie(&monitor, actor.pid(), &file, "unlock");
    actor.ok("unregister-buffers ring");
    let told = monitor.all("zombie");
    let of = |kind: &str| {
        let about = scratch.file(kind);
        let about = told
            .iter()
            .filter(|zombie| text(zombie, "path").starts_with(&about));
        about.count() as i64
    };
    (found.told, found.told_of_right) = (of("wrong-"), of("right-"));
    found.missed = crowd::missed(monitor.pid()).or_else(|| Some(found.told_missed()));
    eprintln!(
        "breaches told: {} of {}, told of right releases: {}, hooks missed: {:?}",
        found.told, found.done.wrong, found.told_of_right, found.missed
    );
    let missed = found.missed.unwrap_or_default();
    let of_heirs = heirs::wrong_events(&monitor, &scratch, &found.done, missed);
    // Before it is judged: a failure is a failure, also where hooks were missed.
    drop(monitor);
    let mut wrong = found.wrong_books();
    wrong.extend(found.wrong_events());
    wrong.extend(of_heirs);
    wrong.extend(found.wrong_losses());
    wrong.extend(found.wrong_fates());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Who lets go in the right order is never refused, and who does not is, while monitors beside it are killed.
#[test]
fn no_right_release_is_denied() {
    let (found, mut wrong) = storm_under("deny", "stop", &ALL_KINDS, kill_monitors);
    if found.done.wrong > 0 {
        wrong.push(format!(
            "{} wrong releases were let through",
            found.done.wrong
        ));
    }
    eprintln!("{} denied", found.done.wrong_refused);
    let enough = if number("STORM_SECONDS", SECONDS) < LONG {
        1
    } else {
        1000
    };
    if found.done.wrong_refused < enough {
        wrong.push(format!("{} were denied", found.done.wrong_refused));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Nobody is killed who lets go in the right order.
#[test]
fn no_right_release_is_killed_for() {
    let (_, wrong) = storm_under("kill", "kill", &RIGHT_KINDS, |_, _| ());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What goes on beside a storm ends with it, however that ends.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A monitor after the other, each killed after a moment.
fn kill_monitors(enforcement: &Enforcement, is_over: &AtomicBool) {
    const MOMENT: Duration = Duration::from_millis(700);
    let mut killed = 0;
    while !is_over.load(Ordering::Relaxed) {
        let monitor = enforcement.monitor();
        thread::sleep(MOMENT);
        monitor.kill();
        killed += 1;
    }
    eprintln!("{killed} monitors killed");
    assert!(killed > 0);
}

/// What a storm comes to, and what of it is wrong, where a rule does this to whoever unlocks too early, and another
/// that to heirs with bare pins. Something goes on `beside` it.
fn storm_under(
    action: &str,
    to_heirs: &str,
    kinds: &[&str],
    beside: impl FnOnce(&Enforcement, &AtomicBool) + Send,
) -> (Found, Vec<String>) {
    no_monitor();
    // The hooks are those that the first policy asks for.
    retire_enforcement();
    let scratch = Scratch::new();
    let pinned = Pinned::now();
    let enforcement = Enforcement::start(&policy(&scratch, action, to_heirs));
    let is_over = AtomicBool::new(false);
    let found = thread::scope(|scope| {
        scope.spawn(|| beside(&enforcement, &is_over));
        let _over = Over(&is_over);
        storm(&scratch, kinds, pinned)
    });
    for rule in ["storm", "heirs", "bare-heirs"] {
        eprintln!("hits of {rule}: {}", enforcement.hits(rule));
    }
    let mut wrong = found.wrong_books();
    wrong.extend(found.wrong_losses());
    wrong.extend(found.wrong_fates());
    wrong.extend(heirs::wrong_hits(&enforcement, &found.done));
    (found, wrong)
}

fn policy(scratch: &Scratch, action: &str, to_heirs: &str) -> String {
    let directory = scratch.directory().display();
    let of_heirs = heirs::rules(scratch, to_heirs);
    format!(
        "mode = \"enforce\"\n{of_heirs}[[rule]]\nname = \"storm\"\n\
         match.path = \"{directory}\"\nmatch.cause = \"unlock\"\naction = \"{action}\"\n"
    )
}
