//! The proof of the books: what each file has pinned by the hooks is held against its page cache, and put right
//! where it stays too high. The program does that while somebody reads.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufRead as _, BufReader},
    os::fd::{AsFd as _, OwnedFd},
    time::{Duration, Instant},
};

use aya::maps::MapData;

use super::{bpffs, maps::Maps, object::Object, pinned, snapshot::InodeView};
use crate::kernel::{bpf, iter};

/// The file, its program, and the map that it goes over.
const FILE: bpffs::File = ("proof", "prove", "SLOT_OF");

/// What the program says of an inode: right, to be looked at again, corrected, or not known (`outcome` of the
/// kernel side).
const OUTCOMES: std::ops::RangeInclusive<u64> = 0..=3;
const DOUBTFUL: u64 = 1;
const CORRECTED: u64 = 2;

/// Makes the file; why there is none if that cannot be.
pub fn make(object: &Object, directory: &pinned::Directory) -> Option<String> {
    let made = bpffs::pin(object, FILE, directory.path());
    made.err()
        .map(|reason| format!("counts that a missed hook left wrong stay wrong: {reason}"))
}

/// Goes over all inodes, again and again, some at a time.
pub struct Prover {
    link: OwnedFd,
    /// Of which directory it is: of another one's maps nothing is known here.
    directory: Option<u64>,
    /// The walk under way.
    walk: Option<BufReader<File>>,
    /// Inodes that were doubtful in the last whole walk: with what is put right the record may go.
    doubtful: HashMap<u64, InodeView>,
    /// Those of the walk under way.
    doubted: HashMap<u64, InodeView>,
    /// How many there were in the last whole walk.
    doubts: usize,
}

/// Books that were put right.
pub struct Correction {
    pub inode: InodeView,
    /// Pins by the books before.
    pub counted: u64,
    /// Pins by the page cache, and by the books now.
    pub found: u64,
}

/// Some of a walk.
pub struct Look {
    pub corrected: Vec<Correction>,
    /// The walk has come to its end.
    pub is_whole: bool,
}

impl Prover {
    /// Nothing where there is no such file.
    pub fn open() -> Option<Self> {
        let link = bpf::open(&pinned::directory().join(FILE.0)).ok()?;
        Some(Self {
            link,
            directory: pinned::inode(),
            walk: None,
            doubtful: HashMap::new(),
            doubted: HashMap::new(),
            doubts: 0,
        })
    }

    /// Whether the programs and maps are still those in place.
    pub fn is_in_place(&self) -> bool {
        pinned::inode() == self.directory
    }

    /// Goes on for this long, or until all inodes were looked at.
    pub fn look(&mut self, maps: &Maps<MapData>, limit: Duration) -> io::Result<Look> {
        /// So little that the kernel stops after a few inodes with pins.
        const LINES: usize = 64;
        let begun = Instant::now();
        let mut walk = if let Some(walk) = self.walk.take() {
            walk
        } else {
            let file = File::from(iter::begin(self.link.as_fd())?);
            BufReader::with_capacity(LINES, file)
        };
        let mut corrected = Vec::new();
        let mut text = String::new();
        loop {
            match walk.read_line(&mut text) {
                Ok(0) => break,
                Ok(_) => {}
                // A million inodes without a line (kernel/bpf/bpf_iter.c, `MAX_ITER_OBJECTS`).
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            }
            let line = Line::of(text.trim_end());
            let line = line.ok_or_else(|| io::Error::other(format!("what is `{text}`?")))?;
            text.clear();
            corrected.extend(self.enter(maps, line));
            if begun.elapsed() > limit {
                self.walk = Some(walk);
                return Ok(Look {
                    corrected,
                    is_whole: false,
                });
            }
        }
        self.doubtful = std::mem::take(&mut self.doubted);
        self.doubts = self.doubtful.len();
        Ok(Look {
            corrected,
            is_whole: true,
        })
    }

    /// Files that had fewer pins in their page cache than are counted, in the last whole walk.
    pub const fn doubtful(&self) -> usize {
        self.doubts
    }

    fn enter(&mut self, maps: &Maps<MapData>, line: Line) -> Option<Correction> {
        let known = self.doubtful.remove(&line.inode_id);
        let inode = || known.unwrap_or_else(|| maps.inode(line.slot, line.inode_id));
        match line.outcome {
            CORRECTED => Some(Correction {
                inode: inode(),
                counted: line.counted,
                found: line.found,
            }),
            DOUBTFUL => {
                self.doubted.insert(line.inode_id, inode());
                None
            }
            _ => None,
        }
    }
}

/// What the program says of one inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    slot: u64,
    inode_id: u64,
    counted: u64,
    found: u64,
    outcome: u64,
}

impl Line {
    fn of(text: &str) -> Option<Self> {
        let words: Option<Vec<u64>> = text.split(' ').map(|word| word.parse().ok()).collect();
        let [slot, inode_id, counted, found, outcome] = words?[..] else {
            return None;
        };
        OUTCOMES.contains(&outcome).then_some(Self {
            slot,
            inode_id,
            counted,
            found,
            outcome,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_an_inode_whose_books_are_not_right() {
        let line = Line {
            slot: 3,
            inode_id: 17,
            counted: 5,
            found: 0,
            outcome: CORRECTED,
        };
        assert_eq!(Line::of("3 17 5 0 2"), Some(line));
        for text in [
            "",
            "1 2 3 4",
            "1 2 3 4 5",
            "1 2 3 x 1",
            "1 2 3 4 4",
            "1 2 3 4 1 6",
        ] {
            assert_eq!(Line::of(text), None, "{text}");
        }
    }
}
