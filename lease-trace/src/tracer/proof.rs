//! The proof of the books: what each file has pinned by the hooks is held against its page cache, and put right
//! where it is wrong twice in the same way. The program does that while somebody reads its file in bpffs.

use std::{collections::HashMap, fs, mem, path::PathBuf};

use aya::maps::MapData;

use super::{error::Error, files, maps::Maps, object::Object, pinned, snapshot::InodeView};

/// The file, its program, and the map that it goes over.
const FILE: (&str, &str, &str) = ("proof", "prove", "SLOT_OF");

/// What the program says of an inode whose books are not right: wrong for the first time, corrected, changed
/// meanwhile, or not known (`outcome` of the kernel side).
const OUTCOMES: std::ops::RangeInclusive<u64> = 1..=4;
const CORRECTED: u64 = 2;

/// Makes the file; why there is none if that cannot be.
pub fn make(object: &Object, folder: &pinned::Folder) -> Option<String> {
    let (file, program, map) = FILE;
    let at = folder.path().join(file);
    let made = files::pin(object, program, &folder.path().join(map), &at);
    made.err().map(|reason| {
        format!(
            "counts that a missed hook left wrong stay wrong: {}: {reason}",
            at.display()
        )
    })
}

/// Reads the file.
pub struct Prover {
    at: PathBuf,
    /// Inodes that were doubtful when it was read last: with what is put right the record may go.
    doubtful: HashMap<u64, InodeView>,
}

/// Books that were put right.
pub struct Correction {
    pub inode: InodeView,
    /// Pins by the books before.
    pub counted: u64,
    /// Pins by the page cache, and by the books now.
    pub found: u64,
}

impl Prover {
    /// Nothing where there is no such file.
    pub fn open() -> Option<Self> {
        let at = pinned::folder().join(FILE.0);
        at.exists().then(|| Self {
            at,
            doubtful: HashMap::new(),
        })
    }

    /// Looks at all inodes once; what was put right.
    pub fn look(&mut self, maps: &Maps<MapData>) -> Result<Vec<Correction>, Error> {
        let at = self.at.display().to_string();
        let failed = |reason: String| Error::maps("cannot read", at.clone(), reason);
        let text = fs::read_to_string(&self.at).map_err(|error| failed(error.to_string()))?;
        let mut before = mem::take(&mut self.doubtful);
        let mut corrected = Vec::new();
        for line in text.lines() {
            let line = Line::of(line).ok_or_else(|| failed(format!("what is `{line}`?")))?;
            let known = before.remove(&line.inode_id);
            let inode = known.unwrap_or_else(|| maps.inode(line.slot, line.inode_id));
            if line.outcome == CORRECTED {
                corrected.push(Correction {
                    inode,
                    counted: line.counted,
                    found: line.found,
                });
            } else {
                self.doubtful.insert(line.inode_id, inode);
            }
        }
        Ok(corrected)
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
            "1 2 3 4 0",
            "1 2 3 4 1 6",
        ] {
            assert_eq!(Line::of(text), None, "{text}");
        }
    }
}
