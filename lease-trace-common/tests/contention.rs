//! What several processors at one inode's words cost each other: how often a swap is tried for a pin and its
//! release. Every order of their steps is as likely as any other, and between two changes a processor does
//! nothing else: worse than any kernel, which has the page's own count to change, too.
//!
//! One test, since what was done is counted for the whole process.

#[path = "interleavings/layer.rs"]
#[allow(
    dead_code,
    reason = "shared with interleavings.rs, which needs all of it"
)]
mod layer;

use std::sync::{Arc, atomic::Ordering::SeqCst};

use layer::{Memory, done};
use shuttle::thread;

const ORDERS: usize = 20;
/// Pins and releases of each processor.
const EACH: u64 = 50;
/// Swaps that are tried for one change in the kernel (`bpf/atomic.rs`); after as many the loss is counted.
const TRIES: f64 = 12.0;

/// Swaps tried for a pin and its release, and the share of them that others were faster with.
fn measure(processors: u64, owners: u32) -> (f64, f64) {
    let before = [&done::SWAPS, &done::FAILED].map(|count| count.load(SeqCst));
    let program = move || {
        let memory = Arc::new(Memory::new());
        for owner in 1..=owners {
            memory.pin(owner, 1);
        }
        let running: Vec<_> = (0..processors)
            .map(|processor| {
                let memory = Arc::clone(&memory);
                let owner = 1 + processor as u32 % owners;
                thread::spawn(move || {
                    for _ in 0..EACH {
                        memory.pin(owner, 1);
                        memory.unpin(1, Some(owner));
                    }
                })
            })
            .collect();
        for thread in running {
            thread.join().expect("no panic");
        }
    };
    shuttle::check_random(program, ORDERS);
    let [swaps, failed] = [&done::SWAPS, &done::FAILED].map(|count| count.load(SeqCst));
    let (swaps, failed) = ((swaps - before[0]) as f64, (failed - before[1]) as f64);
    let pairs = (ORDERS as u64 * processors * EACH) as f64;
    (swaps / pairs, failed / swaps)
}

#[test]
fn many_processors_get_by_with_few_tries() {
    for owners in [1, 2] {
        for processors in [1, 2, 4, 16] {
            let (swaps, failed) = measure(processors, owners);
            let given_up = failed.powf(TRIES);
            println!(
                "{processors:>2} processors, {owners} owners: {swaps:.1} swaps for a pin and its release, \
                 {:.0} % in vain; {given_up:.1e} of changes would be given up",
                100.0 * failed
            );
            assert!(processors > 1 || failed == 0.0, "{failed}");
            assert!(failed < 0.4 && given_up < 1e-4, "{failed} {given_up}");
        }
    }
}
