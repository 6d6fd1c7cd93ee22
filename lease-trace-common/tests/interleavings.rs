//! The state layer under many orders of the steps of two and three threads: every order in which a thread is
//! interrupted once at most, and others, chosen by shuttle at random and with few preemptions at the worst places
//! (PCT). `INTERLEAVINGS=n` tries `n` of these.
//!
//! Whatever the order was, when all threads have ended the books are as if they had come one after the other.

#[path = "interleavings/every.rs"]
mod every;
#[path = "interleavings/layer.rs"]
mod layer;

use std::sync::Arc;

use lease_trace_common::{
    batch,
    books::{self, Books as _},
    tagged::{self, owners},
    word::{self, Word as _},
};
use shuttle::{Config, Runner, sync::atomic::Ordering::SeqCst, thread};

use every::Every;
use layer::Memory;

/// Orders of each program, by each way to choose them, where nobody says.
const ORDERS: usize = 500;

/// Processes.
const P: u32 = 1;
const Q: u32 = 2;

#[derive(Clone, Copy, Debug)]
enum Step {
    Pin(u32, u64),
    PinShort(u64),
    /// By a thread of this process.
    Unpin(u32, u64),
    /// By a kernel thread or an interrupt, which does not say whose they are.
    UnpinUnseen(u32, u64),
    UnpinShort(u64),
    Lease(u32),
    /// The second process comes to hold the leased files of the first.
    Share(u32, u32),
    /// All pins of the process have gone: no breach.
    EndClean(u32),
    /// Some have not.
    EndBreach(u32),
    /// Somebody else may be faster.
    EndEither(u32),
}
use Step::{
    EndBreach, EndClean, EndEither, Lease, Pin, PinShort, Share, Unpin, UnpinShort, UnpinUnseen,
};

fn run(memory: &Memory, step: Step) {
    match step {
        Pin(tgid, n) => memory.pin(tgid, n),
        PinShort(n) => memory.pin_short(n),
        Unpin(tgid, n) => memory.unpin(n, Some(tgid)),
        UnpinUnseen(_, n) | UnpinShort(n) => memory.unpin(n, None),
        Lease(tgid) => memory.lease(tgid),
        Share(setter, heir) => memory.share(setter, heir),
        EndClean(tgid) => assert!(!memory.end_lease(tgid), "a breach that was none"),
        EndBreach(tgid) => assert!(memory.end_lease(tgid), "a breach that was not seen"),
        EndEither(tgid) => _ = memory.end_lease(tgid),
    }
}

/// What is held after these steps: pins of P, of Q and of nobody; leases of P and of Q.
fn held(steps: impl Iterator<Item = Step>) -> ([u64; 3], [u64; 2]) {
    let (mut pins, mut leases) = ([0; 3], [0; 2]);
    let of = |tgid: u32| tgid as usize - 1;
    for step in steps {
        match step {
            Pin(tgid, n) => pins[of(tgid)] += n,
            Unpin(tgid, n) | UnpinUnseen(tgid, n) => pins[of(tgid)] -= n,
            PinShort(n) => pins[2] += n,
            UnpinShort(n) => pins[2] -= n,
            Lease(tgid) => leases[of(tgid)] += 1,
            Share(..) => {}
            EndClean(tgid) | EndBreach(tgid) | EndEither(tgid) => leases[of(tgid)] -= 1,
        }
    }
    (pins, leases)
}

/// What must hold while nobody is at work.
fn judge(memory: &Memory, pins: [u64; 3], leases: [u64; 2]) {
    let all: u64 = pins.iter().sum();
    let stakes = memory.stakes();
    assert_eq!(
        memory.uncounted.load(SeqCst),
        0,
        "releases that were never counted"
    );
    assert_eq!(
        memory.pinned.load(SeqCst),
        i64::from(all > 0),
        "inodes with pins"
    );
    let entries = memory.leases();
    let of = |tgid: u32| entries.iter().filter(move |entry| entry.0 == tgid);
    assert_eq!(
        [P, Q].map(|tgid| of(tgid).count() as u64),
        leases,
        "leases in force"
    );
    let counted = entries.iter().filter(|entry| entry.1).count() as u64;
    let Some(inode) = memory.inode() else {
        assert_eq!((all, counted, stakes), (0, 0, vec![]), "no record");
        return;
    };
    for (tgid, _) in &stakes {
        let idle = of(*tgid).filter(|entry| !entry.1).count();
        assert_eq!(
            idle, 0,
            "a lease of {tgid}, who has a stake, is not counted"
        );
    }
    let words = inode.words();
    let generation = books::generation(words.id);
    let (word, batch) = (words.word.load(), words.batch.load());
    let [owed, unowned] = [words.owed, words.unowned].map(|count| tagged::get(count, generation));
    let dropped = if batch::is_of(batch, words.id) {
        batch::dropped(batch)
    } else {
        0
    };
    assert_eq!(
        word::pins(word) - owed - dropped,
        all,
        "pins that there are"
    );
    let of_stakes: u64 = stakes.iter().map(|(_, word)| word::pins(*word)).sum();
    assert_eq!(
        word::pins(word),
        of_stakes + unowned,
        "pins of stakes and of nobody"
    );
    let own = |(tgid, word): &(u32, u64)| word::leases(*word) - memory.covers_of(*tgid);
    assert_eq!(
        [word::leases(word), stakes.iter().map(own).sum()],
        [counted; 2],
        "leases that are counted"
    );
    for (tgid, word) in &stakes {
        let covers = memory.covers_of(*tgid);
        assert!(
            covers == 0 || word::pins(*word) > 0,
            "a cover of no pins of {tgid}"
        );
        assert!(
            word::pins(*word) == 0
                || covers == memory.held_by(*tgid)
                || memory.lost_covers.load(SeqCst) > 0,
            "pins of {tgid} that each lease he holds covers"
        );
    }
    let bare = stakes.iter().filter(|(_, word)| word & word::BARE != 0);
    let with_ends = memory.bare_ends.load(SeqCst) + bare.count() as u64;
    let told = memory.bare.load(SeqCst);
    assert!(
        with_ends <= told,
        "an end of bare pins of which nobody was told"
    );
    // That they are a zombie's ends them, too.
    if memory.breaches.load(SeqCst) == 0 {
        assert_eq!(with_ends, told, "bare pins whose end was not told");
    }
    let with_pins: Vec<_> = stakes
        .iter()
        .filter(|(_, word)| word::pins(*word) > 0)
        .collect();
    let known = tagged::get(words.owners, generation);
    assert_eq!(owners::number(known), with_pins.len() as u64, "owners");
    if let [(only, _)] = with_pins[..] {
        assert_eq!(owners::sole(known), Some(*only), "the only owner");
    }
    let empty = stakes
        .iter()
        .filter(|(_, word)| word::pins(*word) + word::leases(*word) == 0);
    assert_eq!(empty.count(), 0, "stakes with nothing in them");
    assert!(
        word::pins(word) + word::leases(word) > 0,
        "a record with nothing in it"
    );
}

/// Does `first`, then lets the threads go; holds the books against what is held; lets go of the rest one
/// by one, and holds them against nothing.
fn once(first: &[Step], threads: &[&'static [Step]]) -> Arc<Memory> {
    let memory = Arc::new(Memory::new());
    for step in first {
        run(&memory, *step);
    }
    let running: Vec<_> = threads
        .iter()
        .map(|steps| {
            let (memory, steps) = (Arc::clone(&memory), *steps);
            thread::spawn(move || steps.iter().for_each(|step| run(&memory, *step)))
        })
        .collect();
    for thread in running {
        thread.join().expect("no panic");
    }
    let of_threads = threads.iter().flat_map(|steps| steps.iter());
    let (pins, leases) = held(first.iter().chain(of_threads).copied());
    judge(&memory, pins, leases);
    for (n, tgid) in pins.into_iter().zip([Some(P), Some(Q), None]) {
        (0..n).for_each(|_| memory.unpin(1, tgid));
    }
    for (n, tgid) in leases.into_iter().zip([P, Q]) {
        (0..n).for_each(|_| assert!(!memory.end_lease(tgid), "a breach without pins"));
    }
    judge(&memory, [0; 3], [0; 2]);
    assert_eq!(
        memory.zombies.load(SeqCst),
        0,
        "zombies that are not at rest"
    );
    memory
}

/// What one owner drops while another's transfer is under way is his own.
#[test]
fn pins_of_nobody_are_not_taken_for_an_owners() {
    let program = || {
        let memory = Memory::new();
        for step in [Pin(P, 2), Pin(Q, 2), PinShort(2), Unpin(Q, 2)] {
            run(&memory, step);
        }
        let of = |memory: &Memory| -> Vec<_> {
            let stakes = memory.stakes().into_iter();
            stakes
                .map(|(tgid, word)| (tgid, word::pins(word)))
                .collect()
        };
        assert_eq!(of(&memory), [(P, 2)]);
        run(&memory, UnpinShort(2));
        assert_eq!(of(&memory), [(P, 2)]);
        judge(&memory, [2, 0, 0], [0; 2]);
    };
    shuttle::check_random(program, 1);
}

fn orders() -> usize {
    std::env::var("INTERLEAVINGS").map_or(ORDERS, |n| n.parse().expect("a number"))
}

/// How often a thread is interrupted in the orders that are all tried.
const INTERRUPTED: usize = 1;

fn check(first: &'static [Step], threads: &'static [&'static [Step]]) {
    check_all(move || {
        once(first, threads);
    });
}

fn check_all(program: impl Fn() + Copy + Send + Sync + 'static) {
    let orders = orders();
    shuttle::check_random(program, orders);
    shuttle::check_pct(program, orders, 3);
    let tried = Runner::new(Every::new(INTERRUPTED), Config::new()).run(program);
    assert!(tried > 1, "one order of several threads");
}

#[test]
fn two_threads_pin_and_unpin() {
    check(&[], &[&[Pin(P, 1)], &[Pin(P, 1)]]);
    check(&[], &[&[Pin(P, 1)], &[Pin(Q, 1)]]);
    check(&[Pin(P, 1)], &[&[Unpin(P, 1)], &[Pin(P, 1)]]);
    check(&[Pin(P, 1)], &[&[Unpin(P, 1)], &[Pin(Q, 1)]]);
    check(&[Pin(P, 2)], &[&[Unpin(P, 1)], &[Unpin(P, 1)]]);
    check(&[], &[&[Pin(P, 1), Unpin(P, 1)], &[Pin(P, 2), Unpin(P, 2)]]);
    check(&[], &[&[Pin(P, 1), Unpin(P, 1)], &[Pin(Q, 2), Unpin(Q, 2)]]);
}

#[test]
fn two_threads_release_what_nobody_is_seen_to() {
    check(
        &[Pin(P, 1), Pin(Q, 1)],
        &[&[UnpinUnseen(P, 1)], &[UnpinUnseen(Q, 1)]],
    );
    check(
        &[Pin(P, 1), Pin(Q, 1)],
        &[&[Unpin(P, 1)], &[UnpinUnseen(Q, 1)]],
    );
    check(
        &[],
        &[
            &[Pin(P, 1), UnpinUnseen(P, 1)],
            &[Pin(Q, 2), UnpinUnseen(Q, 2)],
        ],
    );
    check(
        &[Pin(P, 3), Pin(Q, 3)],
        &[&[UnpinUnseen(P, 3)], &[UnpinUnseen(Q, 2)]],
    );
}

#[test]
fn two_threads_and_leases() {
    check(&[], &[&[Lease(P), EndClean(P)], &[Lease(P), EndClean(P)]]);
    check(&[], &[&[Lease(P), EndClean(P)], &[Lease(Q), EndClean(Q)]]);
    check(&[Lease(P)], &[&[EndEither(P)], &[Pin(P, 1), Unpin(P, 1)]]);
    check(&[Lease(P), Pin(P, 1)], &[&[EndEither(P)], &[Unpin(P, 1)]]);
    check(
        &[Pin(Q, 1)],
        &[
            &[Lease(P), Pin(P, 1), Unpin(P, 1), EndClean(P)],
            &[Unpin(Q, 1)],
        ],
    );
    check(
        &[Pin(Q, 1)],
        &[&[Lease(P), Pin(P, 1), EndBreach(P)], &[Unpin(Q, 1)]],
    );
    check(
        &[Lease(P), Pin(P, 1)],
        &[&[EndBreach(P)], &[Pin(P, 1), Unpin(P, 1)]],
    );
}

/// A lease is counted when its setter pins, by one of all who come to know.
#[test]
fn two_threads_and_idle_leases() {
    check(&[], &[&[Lease(P)], &[Pin(P, 1)]]);
    check(&[Lease(P)], &[&[Pin(P, 1)], &[Pin(P, 1)]]);
    check(&[Lease(P)], &[&[Pin(P, 1)], &[Lease(P)]]);
    check(&[Lease(P)], &[&[Pin(P, 1)], &[Pin(Q, 1), Lease(Q)]]);
    check(
        &[Lease(P)],
        &[&[EndEither(P), Lease(P)], &[Pin(P, 1), Unpin(P, 1)]],
    );
    check(
        &[Lease(P)],
        &[&[Pin(P, 1), Unpin(P, 1)], &[Pin(P, 1), Unpin(P, 1)]],
    );
    check(
        &[Lease(P)],
        &[
            &[Pin(P, 1), Unpin(P, 1), EndClean(P)],
            &[Lease(Q), EndClean(Q)],
        ],
    );
    check(&[Lease(P), Lease(P)], &[&[EndClean(P)], &[EndClean(P)]]);
}

/// Pins that came while a lease was being counted that ends are told: as those of a zombie, whoever finds it out, or
/// as bare, if they came after the end.
#[test]
fn a_lease_that_ends_while_it_is_counted_hides_no_pins() {
    let program = || {
        let memory = Arc::new(Memory::new());
        memory.lease(P);
        let pinning: Vec<_> = (0..2)
            .map(|_| {
                let memory = Arc::clone(&memory);
                thread::spawn(move || memory.pin(P, 1))
            })
            .collect();
        memory.end_lease(P);
        for thread in pinning {
            thread.join().expect("no panic");
        }
        judge(&memory, [2, 0, 0], [0; 2]);
        let told = memory.breaches.load(SeqCst) + memory.bare.load(SeqCst);
        assert!(told > 0, "pins that nobody was told of");
    };
    check_all(program);
}

#[test]
fn three_threads_and_idle_leases() {
    check(&[], &[&[Lease(P)], &[Pin(P, 1)], &[Pin(P, 1)]]);
    check(
        &[Lease(P)],
        &[
            &[EndEither(P), Lease(P)],
            &[Pin(P, 1)],
            &[Pin(P, 1), Unpin(P, 1)],
        ],
    );
    check(
        &[Lease(P)],
        &[&[EndEither(P)], &[Pin(P, 1), Unpin(P, 1)], &[Lease(P)]],
    );
}

/// While one process drops its last pin another thread of it takes the next, and a lease of somebody else's covers both.
#[test]
fn pins_under_a_lease_of_anothers_are_never_bare() {
    let threads: [&[&[Step]]; 4] = [
        &[&[Unpin(Q, 1)], &[Pin(Q, 1)]],
        &[&[Unpin(Q, 1), Pin(Q, 1)], &[Pin(Q, 1), Unpin(Q, 1)]],
        &[&[Unpin(Q, 1)], &[Pin(Q, 1)], &[Pin(Q, 1)]],
        &[&[Unpin(Q, 1)], &[Pin(Q, 1), Unpin(Q, 1)], &[Pin(Q, 1)]],
    ];
    for threads in threads {
        check_all(move || {
            let memory = once(&[Share(P, Q), Lease(P), Pin(Q, 1)], threads);
            assert_eq!(memory.bare.load(SeqCst), 0, "bare pins that a lease covers");
            assert_eq!(memory.lost_covers.load(SeqCst), 0, "a lease that lasts");
        });
    }
}

/// The same while the lease ends: whoever has pins then is told of.
#[test]
fn a_lease_that_ends_leaves_no_pins_of_others_untold() {
    let program = |threads: &'static [&'static [Step]]| {
        check_all(move || {
            let memory = once(&[Share(P, Q), Lease(P), Pin(Q, 2)], threads);
            let [told, bare, lost] =
                [&memory.breaches, &memory.bare, &memory.lost_covers].map(|n| n.load(SeqCst));
            assert!(told + bare + lost > 0, "pins that nobody was told of");
        });
    };
    program(&[&[EndEither(P)], &[Unpin(Q, 1)]]);
    program(&[&[EndEither(P)], &[Unpin(Q, 2), Pin(Q, 1)]]);
    program(&[&[EndEither(P)], &[Unpin(Q, 2)], &[Pin(Q, 1)]]);
    check(
        &[Share(P, Q), Lease(P), Pin(Q, 2)],
        &[&[EndEither(P), Lease(P)], &[Unpin(Q, 2)], &[Pin(Q, 1)]],
    );
}

#[test]
fn two_threads_and_batches() {
    check(
        &[Pin(P, 4)],
        &[&[Unpin(P, 1), Unpin(P, 1)], &[Unpin(P, 1), Unpin(P, 1)]],
    );
    check(
        &[Pin(P, 4), Unpin(P, 1)],
        &[&[Unpin(P, 1), Unpin(P, 1)], &[Pin(P, 1)]],
    );
    check(
        &[Pin(P, 4), Unpin(P, 1)],
        &[&[Unpin(P, 1), Unpin(P, 1)], &[Pin(Q, 1)]],
    );
    check(
        &[Lease(P), Pin(P, 4), Unpin(P, 1)],
        &[&[Unpin(P, 3), EndClean(P)], &[Pin(Q, 1), Unpin(Q, 1)]],
    );
    check(
        &[Pin(P, 6), Unpin(P, 1), Unpin(P, 1)],
        &[&[Pin(P, 2), Unpin(P, 1)], &[Unpin(P, 2)]],
    );
}

#[test]
fn two_threads_and_short_terms() {
    check(
        &[Pin(P, 2)],
        &[&[Unpin(P, 1)], &[PinShort(1), UnpinShort(1)]],
    );
    check(
        &[Pin(P, 3)],
        &[&[UnpinUnseen(P, 2)], &[PinShort(1), UnpinShort(1)]],
    );
    check(
        &[Pin(P, 1)],
        &[&[Pin(P, 1), Unpin(P, 1)], &[PinShort(1), UnpinShort(1)]],
    );
}

#[test]
fn three_threads() {
    check(&[], &[&[Pin(P, 1)], &[Pin(P, 1)], &[Pin(Q, 1)]]);
    check(
        &[Pin(P, 1), Pin(Q, 1)],
        &[&[UnpinUnseen(P, 1)], &[UnpinUnseen(Q, 1)], &[Pin(P, 1)]],
    );
    check(
        &[Pin(P, 2)],
        &[&[Unpin(P, 1)], &[Pin(Q, 1)], &[PinShort(1)]],
    );
    check(
        &[Pin(P, 3)],
        &[&[Unpin(P, 1)], &[Unpin(P, 1)], &[Pin(Q, 1)]],
    );
    check(
        &[Lease(P), Pin(P, 1)],
        &[&[EndEither(P)], &[Unpin(P, 1)], &[Pin(Q, 1)]],
    );
    check(
        &[Pin(P, 6), Unpin(P, 1)],
        &[
            &[Unpin(P, 1), Unpin(P, 1)],
            &[Unpin(P, 2)],
            &[Pin(Q, 1), Unpin(Q, 1)],
        ],
    );
    check(
        &[Pin(P, 4), Pin(Q, 4)],
        &[&[UnpinUnseen(P, 3)], &[UnpinUnseen(Q, 3)], &[Unpin(P, 1)]],
    );
}
