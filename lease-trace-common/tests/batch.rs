//! Laws of the batch of a sole owner.

use lease_trace_common::{
    batch,
    word::{PIN, pins},
};
use proptest::prelude::*;

proptest! {
    /// However many pins are dropped by a batch and whenever it is taken back, stake and batch
    /// together say how many there are, only one owner's are dropped by it, and the last never is.
    #[test]
    fn what_a_batch_drops_is_not_lost(drops in prop::collection::vec((1..3u32, 1..2000u64), 0..60)) {
        let all = 40_000;
        let mut words = [all * PIN; 2];
        let mut left = [all; 2];
        let mut value = 0;
        for (tgid, n) in drops {
            let own = tgid as usize - 1;
            let n = n.min(left[own]);
            let fits = if value != 0 && batch::owner(value) == tgid { batch::less(value, n) } else { None };
            if let Some(new) = fits {
                value = new;
            } else {
                // As `books::close_batch` does, then the release itself, then the next batch.
                if value != 0 {
                    words[batch::owner(value) as usize - 1] -= batch::dropped(value) * PIN;
                }
                words[own] -= n * PIN;
                let most = pins(words[own]).saturating_sub(1).min(batch::MOST);
                value = if most > 0 { batch::new(u64::MAX, tgid, most) } else { 0 };
                prop_assert_eq!(batch::dropped(value), 0);
            }
            left[own] -= n;
            for tgid in [1, 2] {
                let own = tgid as usize - 1;
                let word = batch::net(words[own], tgid, value);
                prop_assert_eq!(pins(word), left[own]);
                prop_assert_eq!(pins(words[own]) == 0, left[own] == 0);
            }
        }
    }
}

#[test]
fn more_than_a_stake_has_is_not_taken_from_it() {
    let value = batch::less(batch::new(1, 7, 9), 5).expect("so many are left");
    assert_eq!(batch::net(4 * PIN, 7, value), 4 * PIN);
    assert_eq!(batch::net((6 * PIN) | 1, 7, value), PIN | 1);
    assert_eq!(batch::net(6 * PIN, 8, value), 6 * PIN, "somebody else's");
    assert_eq!(batch::net(6 * PIN, 0, 0), 6 * PIN);
    assert_eq!(batch::less(value, 5), None);
    assert_eq!(batch::less(0, 1), None);
}

#[test]
fn a_batch_is_of_one_inode_and_one_owner() {
    let value = batch::new(5, (4 << 20) - 1, batch::MOST);
    assert_eq!(batch::owner(value), (4 << 20) - 1);
    assert_eq!(batch::dropped(value), 0);
    assert_ne!(value, batch::new(6, (4 << 20) - 1, batch::MOST));
    let none_left = batch::less(value, batch::MOST).expect("all of it");
    assert_eq!(batch::dropped(none_left), batch::MOST);
}
