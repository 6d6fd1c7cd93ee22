//! Reads what a Rust test program prints: its counts, and which tests failed. Text goes through
//! live; lines that begin with the marker are for the reader alone.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

/// How many tests ended how.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u32,
    pub failed: u32,
    pub ignored: u32,
}

/// What is read in a program's output.
#[derive(Debug, PartialEq, Eq)]
pub enum Word<'a> {
    /// A line that began with the marker, without it.
    Marked(&'a str),
    /// A test of this name has just ended.
    Ended(&'a str),
    /// A name in the list of failures at the end.
    Failed(&'a str),
    Result(Tally),
}

/// Begins a line that the script around the tests prints for the reader.
pub const MARKER: &str = "@@ ";

/// `listing`: the lines before this one are the head of a list of failures, or its items.
fn word(line: &str, listing: bool) -> Option<Word<'_>> {
    if let Some(marked) = line.strip_prefix(MARKER) {
        return Some(Word::Marked(marked));
    }
    if let Some(counts) = line.strip_prefix("test result: ") {
        return tally(counts).map(Word::Result);
    }
    if let Some((name, _)) = line
        .strip_prefix("test ")
        .and_then(|rest| rest.split_once(" ... "))
    {
        return Some(Word::Ended(name));
    }
    line.strip_prefix("    ")
        .filter(|_| listing)
        .map(Word::Failed)
}

/// `ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 1.20s`
fn tally(text: &str) -> Option<Tally> {
    let count = |what: &str| {
        let part = text
            .split([';', '.'])
            .find_map(|part| part.trim().strip_suffix(what))?;
        part.trim().parse().ok()
    };
    Some(Tally {
        passed: count(" passed")?,
        failed: count(" failed")?,
        ignored: count(" ignored")?,
    })
}

/// Somebody who is told each word as it comes.
pub trait Reader: Send {
    fn read(&mut self, word: Word<'_>);
}

/// Passes output on and tells a shared reader what is in it.
pub struct Scanner<R> {
    out: Box<dyn Write + Send>,
    reader: Arc<Mutex<R>>,
    line: Vec<u8>,
    listing: bool,
}

impl<R: Reader> Scanner<R> {
    pub fn new(out: Box<dyn Write + Send>, reader: Arc<Mutex<R>>) -> Self {
        Self {
            out,
            reader,
            line: Vec::new(),
            listing: false,
        }
    }

    /// Takes in part of a line; marked lines are held back.
    fn take(&mut self, part: &[u8]) -> io::Result<()> {
        self.line.extend_from_slice(part);
        let whole = part.ends_with(b"\n");
        if self.line.first() != MARKER.as_bytes().first() {
            self.out.write_all(part)?;
        } else if whole && !self.line.starts_with(MARKER.as_bytes()) {
            // Only a whole line shows whether it is marked.
            self.out.write_all(&self.line)?;
        }
        if whole {
            let line = String::from_utf8_lossy(&self.line).into_owned();
            let word = word(line.trim_end(), self.listing);
            self.listing = line.trim_end() == "failures:" || matches!(word, Some(Word::Failed(_)));
            if let Some(word) = word {
                self.reader
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .read(word);
            }
            self.line.clear();
        }
        Ok(())
    }
}

impl<R: Reader> Write for Scanner<R> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.take(part)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESULT: &str = "test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 5 filtered out; finished in 1.20s";

    #[test]
    fn words_are_read() {
        let tally = Tally {
            passed: 3,
            failed: 1,
            ignored: 2,
        };
        assert_eq!(word(RESULT, false), Some(Word::Result(tally)));
        assert_eq!(
            word("    lease::unlock", true),
            Some(Word::Failed("lease::unlock"))
        );
        assert_eq!(word("    what a test said", false), None);
        assert_eq!(
            word("@@ begin auto", false),
            Some(Word::Marked("begin auto"))
        );
        assert_eq!(word("running 3 tests", false), None);
        for how in ["ok", "ignored, slow", "FAILED"] {
            assert_eq!(
                word(&format!("test lease::unlock ... {how}"), false),
                Some(Word::Ended("lease::unlock"))
            );
        }
    }

    #[derive(Default)]
    struct Heard(Vec<String>);

    impl Reader for Heard {
        fn read(&mut self, word: Word<'_>) {
            self.0.push(format!("{word:?}"));
        }
    }

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn text_goes_through_however_it_is_cut() {
        let text = format!(
            "running 1 test\n@@ begin auto\n@not a mark\ntest a ... FAILED\n\nfailures:\n\n\
             ---- a stdout ----\n    said\n\nfailures:\n    a\n\n{RESULT}\n"
        );
        for size in [1, 3, 1000] {
            let shown = Shared::default();
            let heard = Arc::new(Mutex::new(Heard::default()));
            let mut scanner = Scanner::new(Box::new(shown.clone()), Arc::clone(&heard));
            for part in text.as_bytes().chunks(size) {
                scanner.write_all(part).unwrap();
            }
            assert_eq!(
                String::from_utf8(shown.0.lock().unwrap().clone()).unwrap(),
                text.replace("@@ begin auto\n", ""),
                "cut by {size}"
            );
            let heard = &heard.lock().unwrap().0;
            assert_eq!(
                heard[..3],
                ["Marked(\"begin auto\")", "Ended(\"a\")", "Failed(\"a\")"],
                "cut by {size}"
            );
            assert_eq!(heard.len(), 4, "cut by {size}");
        }
    }
}
