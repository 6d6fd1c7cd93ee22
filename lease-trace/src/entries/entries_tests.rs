//! Reports of made-up snapshots.

use lease_trace_common::{
    books,
    count::Count,
    lease::{FL_LEASE, FL_UNLOCK_PENDING, LeaseInfo, known},
    stake::{Inode, LEASE, PIN, Stake, StakeKey, ZOMBIE},
    tagged,
};

use super::*;
use crate::{breaking::needs_list, enrich::cgroup::Cgroups, fixtures, tracer};

const SECOND: u64 = 1_000_000_000;

fn inode() -> InodeView {
    InodeView {
        inode: Some(Inode {
            id: 3,
            address: 64,
            ino: 12,
            dev: 8 << 20 | 1,
            ..fixtures::blank()
        }),
        path: None,
        breaker: None,
    }
}

fn info() -> LeaseInfo {
    LeaseInfo {
        set_ns: 40 * SECOND,
        flags: FL_LEASE,
        mode: 1,
        cause: 0,
        known: known::LEASED,
    }
}

fn stake_of(tgid: u32, word: u64) -> StakeView {
    StakeView {
        key: StakeKey::new(tgid, 3),
        stake: Stake {
            word,
            owner: fixtures::task(tgid, "client"),
            pinned_ns: 50 * SECOND,
            released_ns: 90 * SECOND,
            peak: 300,
            lease: LeaseInfo {
                cause: Cause::Munmap as u32,
                ..info()
            },
            releaser: fixtures::task(tgid, "client"),
            ..fixtures::blank()
        },
        inode: inode(),
    }
}

fn lease_of(tgid: u32) -> LeaseView {
    LeaseView {
        key: lease_trace_common::lease::LeaseKey::first(64, tgid),
        inode_id: 3,
        lease: lease_trace_common::lease::Lease {
            address: 0xdead,
            info: info(),
            setter: fixtures::task(tgid, "client"),
            ..fixtures::blank()
        },
        inode: inode(),
    }
}

fn snapshot(leases: Vec<LeaseView>, stakes: Vec<StakeView>) -> Snapshot {
    let holder = |tgid, fd| tracer::snapshot::Holder {
        lease: 0xdead,
        inode: 3,
        flags: FL_LEASE,
        tgid,
        comm: "client".to_owned(),
        fd,
    };
    Snapshot {
        leases,
        stakes,
        holders: vec![holder(u32::MAX, None), holder(u32::MAX - 1, Some(5))],
        counts: [0; Count::LEN],
        source: Some(tracer::snapshot::Source::Monitor(1)),
    }
}

fn names() -> Names {
    Names::new(Cgroups::default())
}

fn line(pid: u32, ino: u64) -> LockLine {
    LockLine {
        delegation: false,
        breaking: false,
        write: true,
        pid,
        dev: Dev::new(8, 1),
        ino,
    }
}

#[test]
fn only_zombies_are_zombies() {
    let snapshot = snapshot(
        Vec::new(),
        vec![
            stake_of(1, PIN + LEASE),
            stake_of(2, 256 * PIN + ZOMBIE),
            stake_of(3, 0),
        ],
    );
    let found = zombies(&snapshot, &[], &fixtures::clock(), &mut names());
    assert_eq!(found.len(), 1);
    let zombie = &found[0];
    assert_eq!(zombie.owner.process.pid, 2);
    assert_eq!(zombie.pins, Some(256));
    assert_eq!(zombie.cause, Some(Cause::Munmap));
    assert_eq!(zombie.age_ms, Some(10_000));
    assert_eq!(
        zombie.lease.as_ref().and_then(|lease| lease.held_ms),
        Some(50_000)
    );
}

/// While fewer pins are found than counted, or what was dropped is credited to nobody, a stake with pins says so.
#[test]
fn doubt_is_that_of_the_inode() {
    let is_doubtful = |word, change: fn(&mut Inode)| {
        let mut stake = stake_of(1, word);
        change(stake.inode.inode.as_mut().expect("a record"));
        let snapshot = snapshot(Vec::new(), vec![stake]);
        let entries = stakes(&snapshot, &[], &fixtures::clock(), &mut names());
        entries[0].doubtful
    };
    assert!(!is_doubtful(PIN + LEASE, |_| {}));
    assert!(is_doubtful(PIN + LEASE, |inode| inode.doubt = 17));
    assert!(!is_doubtful(LEASE, |inode| inode.doubt = 17));
    assert!(is_doubtful(PIN, |inode| inode.owed =
        tagged::fresh(books::generation(inode.id)) + 1));
}

#[test]
fn stakes_have_a_state_and_an_empty_one_is_none() {
    let snapshot = snapshot(
        Vec::new(),
        vec![
            stake_of(3, PIN),
            stake_of(2, PIN + LEASE),
            stake_of(1, LEASE),
            stake_of(5, 0),
        ],
    );
    let found = stakes(&snapshot, &[], &fixtures::clock(), &mut names());
    let states: Vec<_> = found.iter().filter_map(|entry| entry.state).collect();
    assert_eq!(states, ["leased", "covered", "bare-pin"]);
    assert_eq!(found[0].cause, None, "the lease is in force");
}

#[test]
fn who_holds_the_leased_file_decides_what_a_stake_is() {
    let snapshot = snapshot(
        vec![lease_of(2)],
        vec![stake_of(2, PIN + LEASE), stake_of(u32::MAX, PIN)],
    );
    let found = stakes(&snapshot, &[], &fixtures::clock(), &mut names());
    let states: Vec<_> = found.iter().filter_map(|entry| entry.state).collect();
    assert_eq!(states, ["orphaned-pin", "covered"]);
}

#[test]
fn a_squatter_has_no_pin_and_is_in_the_way_or_old() {
    let mut snapshot = snapshot(
        vec![lease_of(1)],
        vec![stake_of(1, LEASE), stake_of(2, PIN + LEASE)],
    );
    let mut squatters = |breaking: u32, which| {
        for holder in &mut snapshot.holders {
            holder.flags = FL_LEASE | breaking;
        }
        let stakes = stakes(&snapshot, &[], &fixtures::clock(), &mut names());
        let found = super::squatters(stakes, which);
        let pids: Vec<u32> = found.iter().map(|entry| entry.owner.process.pid).collect();
        pids
    };
    let held = |ms| Squatters::Held { ms };
    assert!(squatters(0, Squatters::InTheWay).is_empty());
    assert_eq!(squatters(FL_UNLOCK_PENDING, Squatters::InTheWay), [1]);
    assert_eq!(squatters(0, held(60_000)), [1]);
    assert!(squatters(0, held(60_001)).is_empty());
}

#[test]
fn a_lease_has_the_pins_of_all_who_keep_it() {
    let snapshot = snapshot(
        vec![lease_of(u32::MAX)],
        vec![
            stake_of(u32::MAX, 3 * PIN + LEASE),
            stake_of(u32::MAX - 1, 4 * PIN),
            stake_of(77, 5 * PIN),
        ],
    );
    let found = leases(&snapshot, &[], &fixtures::clock(), &mut names());
    assert_eq!(found[0].pins, Some(7));
    let holders = found[0].holders.as_deref().unwrap_or_default();
    assert_eq!(
        holders.iter().map(|holder| holder.fd).collect::<Vec<_>>(),
        [Some(5), None]
    );
}

#[test]
fn without_a_monitor_pins_are_unknown() {
    let mut snapshot = snapshot(vec![lease_of(std::process::id())], vec![stake_of(1, LEASE)]);
    snapshot.source = None;
    let found = leases(&snapshot, &[], &fixtures::clock(), &mut names());
    assert_eq!(found[0].pins, None);
    assert!(found[0].vm_pin_bytes.is_some());
    let found = stakes(&snapshot, &[], &fixtures::clock(), &mut names());
    assert_eq!((found[0].pins, found[0].state), (None, None));
}

#[test]
fn what_the_kernel_lists_and_the_walk_missed_is_added() {
    let snapshot = snapshot(vec![lease_of(u32::MAX)], Vec::new());
    let listed = [line(u32::MAX, 12), line(u32::MAX - 5, 99)];
    let found = leases(&snapshot, &listed, &fixtures::clock(), &mut names());
    assert_eq!(found.len(), 2);
    let added = found.iter().find(|entry| entry.file.ino == Some(99));
    let added = added.expect("the lease that was missed");
    assert_eq!(added.file.path, None);
    assert_eq!(added.lease.as_ref().map(|lease| lease.mode), Some("write"));
}

/// Only a ring keeps it: no walk comes by it, and the kernel's list alone says that it is wanted.
#[test]
fn a_lease_that_no_walk_has_found_is_breaking_if_it_is_listed_so() {
    let mut snapshot = snapshot(
        vec![lease_of(u32::MAX)],
        vec![stake_of(u32::MAX, 3 * PIN + LEASE)],
    );
    let breaking = LockLine {
        breaking: true,
        ..line(u32::MAX, 12)
    };
    let listed = [breaking];
    let is_breaking = |snapshot: &Snapshot, listed: &[LockLine]| {
        let found = stakes(snapshot, listed, &fixtures::clock(), &mut names());
        let of_lease = leases(snapshot, listed, &fixtures::clock(), &mut names());
        assert_eq!(found[0].breaking, of_lease[0].breaking);
        found[0].breaking
    };
    assert!(!needs_list(&snapshot));
    assert_eq!(
        is_breaking(&snapshot, &listed),
        Some(false),
        "the walk knows"
    );
    snapshot.holders.clear();
    assert!(needs_list(&snapshot));
    assert_eq!(is_breaking(&snapshot, &listed), Some(true));
    assert_eq!(is_breaking(&snapshot, &[line(u32::MAX, 12)]), Some(false));
}

#[test]
fn a_lease_listed_under_another_pid_is_the_same_lease() {
    let snapshot = snapshot(vec![lease_of(u32::MAX)], Vec::new());
    let listed = [line(7, 12)];
    let found = leases(&snapshot, &listed, &fixtures::clock(), &mut names());
    assert_eq!(found.len(), 1);
    let listed = [line(7, 12), line(u32::MAX, 12)];
    let found = leases(&snapshot, &listed, &fixtures::clock(), &mut names());
    assert_eq!(found.len(), 2, "two leases on one file");
}
