//! What the programs log: numbers, which the user side puts into words.

use crate::count::Count;

/// What is logged beside losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Logged {
    /// An inode's page cache has fewer pins than the books.
    Doubt,
    /// The books were put right.
    Correction,
    /// Somebody was to be judged, and pins that are counted may be gone or another's.
    Uncertain,
    /// A breach found no room among the notes of its thread.
    Unjudged,
    /// Pins were taken, and no stake has them: there was no room for it, or it was deleted each time.
    Unowned,
}

impl Logged {
    /// Behind the numbers of the counters.
    #[inline(always)]
    pub const fn number(self) -> u64 {
        Count::LEN as u64 + self as u64
    }

    /// What a logged number stands for, and what its subject is.
    pub fn words(number: u64) -> Option<(&'static str, &'static str)> {
        if number == Self::Doubt.number() {
            return Some((
                "the page cache has fewer pins than are counted",
                "inode record",
            ));
        }
        if number == Self::Correction.number() {
            return Some(("pins were taken out of the count", "inode record"));
        }
        if number == Self::Uncertain.number() {
            return Some((
                "pins may be gone, or another's, and nobody is judged by them",
                "inode record",
            ));
        }
        if number == Self::Unjudged.number() {
            return Some(("breaches found no room to be judged", "inode"));
        }
        if number == Self::Unowned.number() {
            return Some(("pins are counted that no process has", "inode record"));
        }
        let count = *Count::ALL.get(usize::try_from(number).ok()?)?;
        let subject = match count {
            Count::LostPages | Count::LostDetached => "page or array",
            Count::LostLeases | Count::LostCovers => "lease",
            Count::LostCalls => "call at",
            _ => "inode or its record",
        };
        Some((count.loss()?, subject))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loss_has_words_and_nothing_else_has() {
        for (number, count) in Count::ALL.into_iter().enumerate() {
            let words = Logged::words(number as u64).map(|(what, _)| what);
            assert_eq!(words, count.loss());
        }
        for number in Count::LEN as u64..=Logged::Unowned.number() {
            assert!(Logged::words(number).is_some(), "{number}");
        }
        assert_eq!(Logged::words(Logged::Unowned.number() + 1), None);
    }
}
