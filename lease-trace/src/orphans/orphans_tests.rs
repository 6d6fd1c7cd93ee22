//! Walks over made-up processes.

use std::convert::Infallible;

use lease_trace_common::stake::{Inode, LEASE, PIN, Stake, ZOMBIE};

use super::*;
use crate::{fixtures, tracer::snapshot::InodeView};

const OWNER: u32 = 10;
const CHILD: u32 = 11;
const INODE: u64 = 3;
const ADDRESS: u64 = 0xffff_8880_0000_0000;
const THE_LEASE: u64 = 0xdead;

fn inode() -> InodeView {
    InodeView {
        inode: Some(Inode {
            id: INODE,
            address: ADDRESS,
            ..fixtures::blank()
        }),
        path: None,
        breaker: None,
    }
}

fn stake_of(word: u64) -> StakeView {
    StakeView {
        key: StakeKey::new(OWNER, INODE),
        stake: Stake {
            word,
            owner: fixtures::task(OWNER, "parent"),
            ..fixtures::blank()
        },
        inode: inode(),
    }
}

fn leased() -> Leased {
    Leased::from([(THE_LEASE, ADDRESS)])
}

fn holder(tgid: u32) -> Holder {
    Holder {
        lease: THE_LEASE,
        inode: 0,
        flags: 0,
        tgid,
        comm: "x".to_owned(),
        fd: Some(3),
    }
}

/// What comes of a walk that finds these holders, which are all that the lease has or not.
fn changes(
    orphans: &mut Orphans,
    word: u64,
    holders: &[u32],
    is_in_full: bool,
    has_rules: bool,
) -> Changes {
    let holders: Vec<_> = holders.iter().copied().map(holder).collect();
    let all = || {
        Ok::<_, Infallible>(Everybody {
            holders: holders.clone(),
            in_full: is_in_full.then_some(THE_LEASE).into_iter().collect(),
        })
    };
    let changes = orphans.update(&[stake_of(word)], &leased(), &holders, 7, has_rules, all);
    changes.expect("nothing fails")
}

/// What such a walk tells where no rules are in force, as kind and end.
fn walk(orphans: &mut Orphans, word: u64, holders: &[u32]) -> Vec<(u32, Option<&'static str>)> {
    changes(orphans, word, holders, true, false)
        .told
        .iter()
        .map(|change| (change.notification.event.kind, change.end))
        .collect()
}

const BOTH: u64 = 4 * PIN + LEASE;
const BEGIN: (u32, Option<&str>) = (EventKind::OrphanedPin as u32, None);
const END: u32 = EventKind::OrphanEnd as u32;

#[test]
fn the_second_walk_in_a_row_tells_it_once() {
    let mut orphans = Orphans::default();
    assert_eq!(walk(&mut orphans, BOTH, &[CHILD]), []);
    assert_eq!(walk(&mut orphans, BOTH, &[CHILD]), [BEGIN]);
    assert_eq!(walk(&mut orphans, BOTH, &[CHILD]), []);
    assert_eq!(
        walk(&mut orphans, LEASE, &[CHILD]),
        [(END, Some("pins-gone"))]
    );
    assert_eq!(walk(&mut orphans, LEASE, &[CHILD]), []);
}

#[test]
fn a_reference_that_is_there_again_covers() {
    let mut orphans = Orphans::default();
    walk(&mut orphans, BOTH, &[CHILD]);
    assert_eq!(walk(&mut orphans, BOTH, &[OWNER, CHILD]), []);
    walk(&mut orphans, BOTH, &[CHILD]);
    assert_eq!(walk(&mut orphans, BOTH, &[CHILD]), [BEGIN]);
    assert_eq!(walk(&mut orphans, BOTH, &[OWNER]), [(END, Some("covered"))]);
}

#[test]
fn a_lease_that_nobody_else_keeps_makes_no_orphan() {
    let mut orphans = Orphans::default();
    for _ in 0..5 {
        assert_eq!(walk(&mut orphans, BOTH, &[]), []);
    }
}

#[test]
fn a_zombie_takes_its_place() {
    let mut orphans = Orphans::default();
    walk(&mut orphans, BOTH, &[CHILD]);
    walk(&mut orphans, BOTH, &[CHILD]);
    orphans.became_zombie(StakeKey::new(OWNER, INODE));
    assert!(orphans.is_empty());
    assert_eq!(walk(&mut orphans, 4 * PIN + ZOMBIE, &[]), []);
}

#[test]
fn what_is_held_for_its_pins_is_no_orphan() {
    let mut view = stake_of(BOTH);
    let held = Held::new(&leased(), &[holder(CHILD)]);
    assert!(held.orphans(&view));
    view.stake.held = 1;
    assert!(!held.orphans(&view));
}

#[test]
fn rules_apply_once_and_only_if_each_reference_is_known() {
    let mut orphans = Orphans::default();
    let word = lease_trace_common::word::fresh(5) + BOTH;
    let mut asked = Vec::new();
    for (walk, is_in_full) in (1..).zip([false, false, true, true, true, true, true, true]) {
        let found = changes(&mut orphans, word, &[CHILD], is_in_full, true);
        if !found.certain.is_empty() {
            asked.push((walk, found.certain));
        }
    }
    // Told by the second walk, and asked again for by the fourth, not the third.
    assert_eq!(asked, [(4, vec![(StakeKey::new(OWNER, INODE), word)])]);
}

#[test]
fn no_rule_applies_to_whom_the_leases_of_others_covered() {
    let mut orphans = Orphans::default();
    let mut view = stake_of(BOTH + lease_trace_common::word::fresh(5));
    view.stake.inherited = 1;
    let holders = [holder(CHILD)];
    let all = || {
        Ok::<_, Infallible>(Everybody {
            holders: holders.to_vec(),
            in_full: [THE_LEASE].into(),
        })
    };
    let stakes = [view];
    let mut told = 0;
    for _ in 0..8 {
        let changes = orphans.update(&stakes, &leased(), &holders, 7, true, all);
        let changes = changes.expect("nothing fails");
        told += changes.told.len();
        assert_eq!(changes.certain, []);
    }
    assert_eq!(told, 1);
}
