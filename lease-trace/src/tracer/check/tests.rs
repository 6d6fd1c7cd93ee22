use lease_trace_common::{
    idle::IDLE,
    line::Line,
    word::{LEASE, PIN},
};

use super::*;

const ID: u64 = 7;
const TGID: u32 = 42;
const ADDRESS: u64 = 0xffff_8880_0000_0000;

/// One process with three pins and a lease in one inode.
fn right() -> Look {
    let generation = books::generation(ID);
    let tagged = tagged::fresh(generation);
    let word = word::fresh(generation) + 3 * PIN + LEASE;
    let inode = Inode {
        word,
        owners: tagged + (1 << 24) + u64::from(TGID),
        unowned: tagged,
        owed: tagged,
        id: ID,
        address: ADDRESS,
        ..zeroed()
    };
    let stake = Stake { word, ..zeroed() };
    let lease = Lease {
        counted: lease_trace_common::stake::number(0, ID),
        setter: lease_trace_common::stake::Task {
            tgid: TGID,
            ..zeroed()
        },
        ..zeroed()
    };
    Look {
        inodes: BTreeMap::from([(ID, inode)]),
        stakes: vec![(StakeKey::new(TGID, ID), stake)],
        leases: vec![(LeaseKey::first(ADDRESS, TGID), lease)],
        totals: Totals {
            tracked: Line::new(1),
            pinned: Line::new(1),
            pinning: Line::new(0),
        },
        calls: vec![u64::from(TGID) << 32 | 0x2b],
        ..Look::default()
    }
}

/// A record of integers only.
fn zeroed<T: aya::Pod>() -> T {
    // SAFETY: `Pod` is for types for which any bytes are a value.
    unsafe { std::mem::zeroed() }
}

fn rules(look: &Look, is_there: bool) -> Vec<Rule> {
    let found = look.violations(|_| is_there);
    found.iter().map(|violation| violation.rule).collect()
}

fn with(change: impl Fn(&mut Look)) -> Vec<Rule> {
    let mut look = right();
    change(&mut look);
    rules(&look, true)
}

fn inode(look: &mut Look) -> &mut Inode {
    look.inodes.get_mut(&ID).expect("the inode")
}

#[test]
fn right_books_keep_all_rules() {
    assert_eq!(rules(&right(), true), []);
    assert_eq!(rules(&Look::default(), true), []);
}

#[test]
fn each_rule_is_held() {
    assert_eq!(with(|look| inode(look).word += PIN), [Rule::Pins]);
    assert_eq!(with(|look| inode(look).unowned += 1), [Rule::Pins]);
    assert_eq!(with(|look| inode(look).user = 1000), [Rule::Shares]);
    let share = |look: &mut Look| _ = look.shares.insert((0, 1000), 1);
    assert_eq!(with(share), [Rule::Shares]);
    assert_eq!(with(|look| inode(look).owed += 4), [Rule::Owed]);
    assert_eq!(with(|look| inode(look).owners += 1), [Rule::Owners]);
    assert_eq!(
        with(|look| inode(look).owners += 1 << 24),
        [Rule::Owners, Rule::Owners]
    );
    assert_eq!(with(|look| inode(look).word += LEASE), [Rule::Leases]);
    assert_eq!(
        with(|look| look.leases[0].1.counted = IDLE | 1),
        [Rule::Leases, Rule::Idle]
    );
    assert_eq!(
        with(|look| inode(look).batch = batch::new(ID, TGID, 9) - 5),
        [Rule::Batch]
    );
    assert_eq!(with(|look| look.stakes[0].1.word += 1 << 30), [Rule::Told]);
    assert_eq!(
        with(|look| look.totals.tracked = Line::new(2)),
        [Rule::Totals]
    );
    assert_eq!(
        with(|look| look.totals.pinned = Line::new(0)),
        [Rule::Totals]
    );
    assert_eq!(rules(&right(), false), [Rule::Calls]);
}

#[test]
fn a_stake_is_in_an_inode_that_there_is() {
    let found = with(|look| look.stakes[0].0 = StakeKey::new(TGID, ID + 1));
    assert_eq!(found, [Rule::Pins, Rule::Owners, Rule::Stake]);
}

#[test]
fn folios_that_left_have_no_more_pins_than_their_inode() {
    let folio = 0xffff_ea00_0001_2340;
    let left = |pins| {
        with(|look| {
            let detached = Detached {
                inode_id: ID,
                pins: tagged::fresh(lease_trace_common::stake::detached_tag(folio)) + pins,
                ..zeroed()
            };
            look.detached = vec![(folio, detached)];
        })
    };
    assert_eq!(left(3), []);
    assert_eq!(left(4), [Rule::Folios]);
}
