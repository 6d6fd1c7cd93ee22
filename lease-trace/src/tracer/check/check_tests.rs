use lease_trace_common::{
    books,
    idle::IDLE,
    line::Line,
    share::Table,
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
        threads: vec![(Rule::Calls, 0x2b)],
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

fn with(change: impl FnOnce(&mut Look)) -> Vec<Rule> {
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
fn what_is_kept_of_threads_goes_with_them() {
    let mut look = right();
    look.threads = vec![(Rule::Stacks, 7), (Rule::Notes, 8), (Rule::Calls, 9)];
    let found = look.violations(|tid| tid == 9);
    let told: Vec<_> = found
        .iter()
        .map(|violation| (violation.rule, violation.subject.clone()))
        .collect();
    let thread = |tid| Subject::Thread { tid };
    assert_eq!(told, [(Rule::Notes, thread(8)), (Rule::Stacks, thread(7))]);
}

/// One more process, without pins of its own, that a lease of the first one's covers.
fn with_an_heir(look: &mut Look) {
    const HEIR: u32 = 43;
    let lease = 0xffff_8880_0001_0000;
    look.leases[0].1.address = lease;
    let stake = Stake {
        inherited: 1,
        word: word::fresh(1),
        user: 1000,
        ..zeroed()
    };
    look.stakes.push((StakeKey::new(HEIR, ID), stake));
    let covered = Covered {
        inode: ID,
        setter: look.leases[0].1.setter.tgid.into(),
    };
    look.covers = vec![(CoverKey::new(lease, HEIR), covered)];
    look.shares = BTreeMap::from([
        ((Table::Stakes as usize, 1000), 1),
        ((Table::Covers as usize, 1000), 1),
    ]);
}

#[test]
fn covers_are_of_a_stake_and_of_a_lease_in_force() {
    let wrong = |change: fn(&mut Look)| {
        with(|look| {
            with_an_heir(look);
            change(look);
        })
    };
    assert_eq!(wrong(|_| {}), []);
    assert_eq!(wrong(|look| look.stakes[1].1.inherited = 2), [Rule::Covers]);
    assert_eq!(
        wrong(|look| look.covers.clear()),
        [Rule::Shares, Rule::Covers]
    );
    assert_eq!(
        wrong(|look| look.covers[0].1.inode = ID + 1),
        [Rule::Shares, Rule::Covers, Rule::Covers]
    );
    assert_eq!(
        wrong(|look| look.leases[0].1.address += 8),
        [Rule::Covering]
    );
    let shares = wrong(|look| _ = look.shares.remove(&(Table::Covers as usize, 1000)));
    assert_eq!(shares, [Rule::Shares]);
}

#[test]
fn a_page_cache_has_no_fewer_pins_than_are_counted() {
    let cached = |pins| with(|look| look.cached = pins);
    assert_eq!(cached(BTreeMap::from([(ID, 2)])), [Rule::PageCache]);
    assert_eq!(cached(BTreeMap::from([(ID, 3)])), []);
    // Those of others, and what cannot be seen.
    assert_eq!(cached(BTreeMap::from([(ID, 4)])), []);
    assert_eq!(cached(BTreeMap::new()), []);
    // A record that has gone since.
    assert_eq!(cached(BTreeMap::from([(ID, 3), (ID + 1, 0)])), []);
}

/// What is dropped and not taken out yet is not there.
#[test]
fn what_is_owed_or_of_a_batch_is_not_counted() {
    let one_left = |change: fn(&mut Inode)| {
        with(|look| {
            look.cached = BTreeMap::from([(ID, 1)]);
            change(inode(look));
        })
    };
    assert_eq!(one_left(|inode| inode.owed += 2), []);
    assert_eq!(one_left(|inode| inode.owed += 1), [Rule::PageCache]);
    let batch_of = |dropped| batch::new(ID, TGID, 2) - dropped;
    let with_batch = |dropped| {
        with(|look| {
            look.cached = BTreeMap::from([(ID, 1)]);
            inode(look).batch = batch_of(dropped);
        })
    };
    assert_eq!(with_batch(2), []);
    assert_eq!(with_batch(1), [Rule::PageCache]);
}

#[test]
fn pins_of_folios_that_left_are_the_files() {
    let folio = 0xffff_ea00_0001_2340;
    let left = |inode_id, address, pins| {
        with(|look| {
            let detached = Detached {
                inode: address,
                inode_id,
                pins: tagged::fresh(lease_trace_common::stake::detached_tag(folio)) + pins,
                ..zeroed()
            };
            look.cached = BTreeMap::from([(ID, 1)]);
            look.detached = vec![(folio, detached)];
        })
    };
    assert_eq!(left(ID, ADDRESS, 2), []);
    assert_eq!(left(ID, ADDRESS, 1), [Rule::PageCache]);
    // Of a record that is gone, by the inode; of one that is there, by nothing else.
    assert_eq!(left(ID - 1, ADDRESS, 2), []);
    assert_eq!(left(ID - 1, ADDRESS + 8, 2), [Rule::PageCache]);
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
