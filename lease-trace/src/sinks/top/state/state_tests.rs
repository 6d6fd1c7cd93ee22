//! The screen's state, look by look.

use super::*;
use crate::sinks::top::top_tests::{at, facts, row, screen};

fn pids(screen: &Screen) -> Vec<u32> {
    screen.listed().map(|row| row.key.tgid).collect()
}

#[test]
fn the_selection_stays_with_its_stake() {
    let (one, two) = (row(1, Standing::Covered, 10), row(2, Standing::Covered, 20));
    let mut screen = screen(vec![one.clone(), two.clone()]);
    screen.step(1);
    screen.step(1);
    assert_eq!(screen.selected().map(|row| row.key.tgid), Some(2));
    let zombie = row(3, Standing::Zombie, 95);
    screen.update(vec![zombie, one, two], facts(), at(101));
    assert_eq!(pids(&screen), [3, 1, 2]);
    assert_eq!(screen.selected_at(), Some(2));
    screen.only = Only::Zombies;
    screen.arrange();
    assert_eq!(screen.selected_at(), Some(0), "the next best");
}

#[test]
fn nothing_to_select_is_no_error() {
    let mut screen = screen(Vec::new());
    screen.step(1);
    screen.select(7);
    assert_eq!(screen.selected_at(), None);
    assert_eq!(screen.oldest_ms(), None);
}

#[test]
fn a_zombie_at_rest_says_farewell() {
    let mut screen = screen(vec![
        row(1, Standing::Zombie, 90),
        row(2, Standing::Leased, 90),
    ]);
    screen.update(Vec::new(), facts(), at(101));
    assert_eq!(
        pids(&screen),
        [1],
        "a lease that ended is nothing to look at"
    );
    assert_eq!(screen.count(Standing::Zombie), 0);
    assert_eq!(screen.rows().len(), 0);
    screen.update(Vec::new(), facts(), at(112));
    assert!(pids(&screen).is_empty());
}

#[test]
fn the_selected_one_stays_until_another_is_selected() {
    let mut screen = screen(vec![row(1, Standing::Zombie, 90)]);
    screen.step(1);
    screen.update(Vec::new(), facts(), at(101));
    screen.update(Vec::new(), facts(), at(200));
    assert_eq!(pids(&screen), [1]);
    assert_eq!(screen.history.of(&StakeKey::new(1, 1)).count(), 2);
    screen.deselect();
    screen.update(Vec::new(), facts(), at(201));
    assert!(pids(&screen).is_empty());
    assert_eq!(screen.history.of(&StakeKey::new(1, 1)).count(), 0);
}

#[test]
fn what_is_typed_is_looked_for_everywhere() {
    let mut screen = screen(vec![
        row(4711, Standing::Zombie, 90),
        row(12, Standing::Leased, 90),
    ]);
    for (find, expected) in [
        ("ZOMB", vec![4711]),
        ("47", vec![4711]),
        ("/srv", vec![4711, 12]),
        ("nothing of the kind", vec![]),
    ] {
        find.clone_into(&mut screen.find);
        screen.arrange();
        assert_eq!(pids(&screen), expected, "{find}");
    }
}

#[test]
fn curves_have_a_point_for_each_look() {
    let mut screen = screen(vec![row(1, Standing::Zombie, 90)]);
    screen.update(Vec::new(), facts(), at(101));
    assert_eq!(screen.history.zombies, [1, 0]);
    assert_eq!(screen.history.pins, [256, 0]);
}
