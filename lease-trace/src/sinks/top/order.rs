//! Which stakes are listed, and in which order.

use std::cmp::{Ordering, Reverse};

use super::row::{Row, Standing};

/// What the list is ordered by. Each order has the one that a person looks for first on top.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// Zombies first, then by how bad it is; the oldest first among equals.
    #[default]
    State,
    Age,
    Pins,
    Command,
    Path,
}

impl Sort {
    pub const fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Age => "age",
            Self::Pins => "pins",
            Self::Command => "command",
            Self::Path => "path",
        }
    }

    /// The one that comes after it.
    pub const fn next(self) -> Self {
        match self {
            Self::State => Self::Age,
            Self::Age => Self::Pins,
            Self::Pins => Self::Command,
            Self::Command => Self::Path,
            Self::Path => Self::State,
        }
    }

    /// Never `Equal` for different stakes: what is equal must not change places from one moment to
    /// the next.
    pub fn compare(self, one: &Row, other: &Row) -> Ordering {
        // Who has been so since before anybody looked has been so the longest.
        let oldest = |one: &Row, other: &Row| one.since_ns.cmp(&other.since_ns);
        let first = match self {
            Self::State => one.standing.cmp(&other.standing),
            Self::Age => Ordering::Equal,
            Self::Pins => Reverse(one.pins).cmp(&Reverse(other.pins)),
            Self::Command => one.process.comm.cmp(&other.process.comm),
            Self::Path => one.path.cmp(&other.path),
        };
        first
            .then_with(|| oldest(one, other))
            .then_with(|| one.key.cmp(&other.key))
    }
}

/// Which stakes are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Only {
    #[default]
    All,
    /// Zombies, orphaned and bare pins.
    Breaches,
    Zombies,
    /// Whatever has pins.
    Pins,
    /// Leases without a pin.
    Leases,
}

impl Only {
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Breaches => "breaches",
            Self::Zombies => "zombies",
            Self::Pins => "pins",
            Self::Leases => "leases",
        }
    }

    /// The one that comes after it.
    pub const fn next(self) -> Self {
        match self {
            Self::All => Self::Breaches,
            Self::Breaches => Self::Zombies,
            Self::Zombies => Self::Pins,
            Self::Pins => Self::Leases,
            Self::Leases => Self::All,
        }
    }

    /// A zombie that has come to rest stays where it was for its last moment.
    pub const fn admits(self, standing: Standing) -> bool {
        match self {
            Self::All => true,
            Self::Breaches => standing.is_breach() || matches!(standing, Standing::AtRest),
            Self::Zombies => matches!(standing, Standing::Zombie | Standing::AtRest),
            Self::Pins => !matches!(standing, Standing::Leased),
            Self::Leases => matches!(standing, Standing::Leased),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::top::top_tests::row;

    fn order(sort: Sort, rows: &[Row]) -> Vec<u32> {
        let mut rows: Vec<_> = rows.iter().collect();
        rows.sort_by(|one, other| sort.compare(one, other));
        rows.iter().map(|row| row.key.tgid).collect()
    }

    #[test]
    fn zombies_come_first_and_the_oldest_of_them() {
        let rows = [
            row(1, Standing::Leased, 5),
            row(2, Standing::Zombie, 30),
            row(3, Standing::Covered, 1),
            row(4, Standing::Zombie, 20),
            row(5, Standing::BarePin, 10),
        ];
        assert_eq!(order(Sort::State, &rows), [4, 2, 5, 3, 1]);
        assert_eq!(order(Sort::Age, &rows), [3, 1, 5, 4, 2]);
    }

    #[test]
    fn most_pins_come_first() {
        let with = |pid, pins| Row {
            pins,
            ..row(pid, Standing::Covered, 10)
        };
        assert_eq!(
            order(Sort::Pins, &[with(1, 2), with(2, 300), with(3, 2)]),
            [2, 1, 3]
        );
    }

    #[test]
    fn keys_go_through_all_and_come_back() {
        let (mut sort, mut only) = (Sort::State, Only::All);
        for _ in 0..5 {
            (sort, only) = (sort.next(), only.next());
        }
        assert_eq!((sort, only), (Sort::State, Only::All));
    }
}
