//! One call of each kind with as much to look at as a program looks at, or as a guest has room for: what a user may
//! make of a call, under rules that deny.

use std::fs;

use super::figure::{By, figure};
use super::load::time;
use crate::harness::{
    Actor, Enforcement, Scratch, Subject, deniable_here, leases_on, retire_enforcement,
};

/// More descriptors than are looked at for one lease.
const DESCRIPTORS: u32 = 70_000;
/// Together some 64,000 files.
const RINGS: u32 = 4;
const FILES: u32 = 16_000;
/// As many as a process may have.
const MOST_DESCRIPTORS: u32 = 1 << 20;
/// As many pages as mappings are looked at for one call.
const MAPPED: &str = "64M";
/// As many pages in a page cache as are looked at for one release.
const CACHED: &str = "512M";
/// 65,536 pages.
const PINNED: &str = "256M";
const HALF: &str = "128M";
/// As many rules as there may be, but for one.
const RULES: usize = 31;
/// As many directories above a file as are looked at, but for those above the first.
const DEPTH: usize = 250;

/// Each call with the kernel alone, and then under enforcement.
pub fn measure() {
    calls(By::Kernel);
    let scratch = Scratch::new();
    let enforcement = Enforcement::start(&policy(&scratch));
    calls(By::LeaseTrace);
    drop(enforcement);
    retire_enforcement();
}

/// Rules about paths that are nobody's, and one that denies what is left.
fn policy(scratch: &Scratch) -> String {
    let elsewhere = (0..RULES).map(|number| {
        let directory = scratch.file(&format!("elsewhere-{number}"));
        fs::create_dir(&directory).expect("a directory");
        rule(
            &format!("r{number}"),
            &format!("match.path = \"{directory}\"\n"),
        )
    });
    let rules = elsewhere.chain([rule("all", "")]);
    format!("mode = \"enforce\"\n{}", rules.collect::<String>())
}

fn rule(name: &str, condition: &str) -> String {
    format!("[[rule]]\nname = \"{name}\"\n{condition}action = \"deny\"\nfallback = \"report\"\n")
}

fn calls(by: By) {
    let calls: [fn(&str, By); 8] = [
        beside_pins,
        beside_stakes,
        beside_a_lease,
        close_range,
        munmap,
        unlock,
        pins,
        deep,
    ];
    for call in calls {
        // Its files go with it: there is no room for all.
        call(&Scratch::new().file("f"), by);
    }
}

/// What the call takes, whatever it answers: under enforcement it is refused where it would leave pins without a
/// lease.
fn worst(name: &str, by: By, actor: &Actor, command: &str) {
    let took = time(actor, &format!("time-any {command}"));
    figure(&format!("worst-{name}"), by, took);
}

/// Somebody who has so much of a file mapped, and may have very many descriptors.
fn mapper(path: &str, length: &str) -> Actor {
    let actor = Actor::start();
    actor.all(&[&format!("open-files {MOST_DESCRIPTORS}"), "uring r"]);
    actor.ok(&format!("open f {path} rw,creat"));
    actor.ok(&format!("write-all f {length}"));
    actor.ok(&format!("mmap m f {length} shared rw"));
    actor.ok("touch m");
    actor
}

/// A lease is set on a file that somebody else has pinned, and ends. He has very many descriptors of it, and none of
/// them is leased.
fn beside_pins(path: &str, by: By) {
    let stranger = mapper(path, "4K");
    stranger.all(&["register-buffers r m", "munmap m", "close f"]);
    stranger.ok(&format!("open f {path} ro"));
    stranger.ok(&format!("dup-many f {DESCRIPTORS}"));
    let setter = Actor::start();
    setter.ok(&format!("open f {path} ro"));
    worst("lease-set", by, &setter, "setlease f r");
    worst("lease-end", by, &setter, "setlease f u");
}

/// The same while almost all stakes that there can be are somebody's, in other files.
fn beside_stakes(path: &str, by: By) {
    let crowd = Actor::start();
    for ring in 0..RINGS {
        let directory = format!("{path}-{ring}");
        fs::create_dir(&directory).expect("a directory");
        crowd.ok(&format!("uring r{ring}"));
        crowd.ok(&format!("register-files-pages r{ring} {FILES} {directory}"));
    }
    let stranger = mapper(path, "4K");
    stranger.all(&["register-buffers r m", "munmap m", "close f"]);
    let setter = Actor::start();
    setter.all(&[&format!("open f {path} ro"), "setlease f r"]);
    worst("stakes", by, &setter, "setlease f u");
}

/// Pins beside a lease that another has set: whoever takes them has its file behind very many descriptors.
fn beside_a_lease(path: &str, by: By) {
    let setter = mapper(path, "4K");
    setter.ok("setlease f w");
    setter.fork("heir");
    setter.ok(&format!("heir: open other {path}-other rw,creat"));
    setter.ok(&format!("heir: dup-many other {}", DESCRIPTORS - 10_000));
    setter.all(&["heir: dup f g", "heir: close f", "heir: uring own"]);
    let took = time(&setter, "heir: time-any register-buffers own m");
    figure("worst-pin", by, took);
}

/// Somebody closes all of his descriptors of a leased file.
fn close_range(path: &str, by: By) {
    let actor = mapper(path, "4K");
    actor.all(&["setlease f w", "register-buffers r m", "munmap m"]);
    actor.ok(&format!("dup-many f {}", MOST_DESCRIPTORS - 100));
    actor.ok("dup f last");
    worst("close-range", by, &actor, "close_range f last");
    is_refused(path, by, "close_range");
}

/// And unmaps it, mapped page by page.
fn munmap(path: &str, by: By) {
    let actor = mapper(path, MAPPED);
    actor.all(&[
        "mmap-pages m f",
        "setlease f w",
        "register-buffers r m 0 4K",
    ]);
    actor.ok("close f");
    worst("munmap", by, &actor, "munmap m");
    is_refused(path, by, "munmap");
}

/// And lets go of it where all of a large page cache is pinned.
fn unlock(path: &str, by: By) {
    let actor = mapper(path, CACHED);
    actor.all(&["setlease f w", "register-buffers r m"]);
    worst("unlock", by, &actor, "setlease f u");
    is_refused(path, by, "unlock");
}

/// Under enforcement the lease is there still, where this kernel lets the release be denied.
fn is_refused(path: &str, by: By, cause: &str) {
    let is_denied = by == By::LeaseTrace && deniable_here().iter().any(|denied| denied == cause);
    let leases = leases_on(&Subject::at(path));
    assert_eq!(!leases.is_empty(), is_denied, "{cause}: {leases:?}");
}

/// Pages that are looked at one by one, since two mappings have them.
fn pins(path: &str, by: By) {
    let actor = mapper(path, PINNED);
    actor.ok(&format!("mmap-over m {HALF} f {HALF} shared rw"));
    actor.all(&["touch m", "setlease f w"]);
    worst("pins", by, &actor, "register-buffers r m");
}

/// A lease on a file below very many directories.
fn deep(path: &str, by: By) {
    let directory = format!("{path}{}", "/d".repeat(DEPTH));
    fs::create_dir_all(&directory).expect("directories");
    let actor = mapper(&format!("{directory}/f"), "4K");
    worst("deep", by, &actor, "setlease f w");
}
