//! What the scenario tells: one figure a line.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};

use crate::{
    guest::kernels::Kernel,
    progress::{Count, say},
    sh::last_lines,
    test::MARKER,
};

/// All figures of one kernel.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Measured {
    pub kernel: String,
    pub release: String,
    /// By name, and by under what or at what number it was measured.
    pub figures: BTreeMap<String, BTreeMap<String, f64>>,
}

impl Measured {
    pub fn get(&self, name: &str, by: &str) -> Option<f64> {
        self.figures.get(name)?.get(by).copied()
    }

    /// The figures of one name by number, in order.
    pub fn by_number(&self, name: &str) -> Vec<(u32, f64)> {
        let all = self.figures.get(name).into_iter().flatten();
        let mut all: Vec<_> = all
            .filter_map(|(by, value)| Some((by.parse().ok()?, *value)))
            .collect();
        all.sort_by_key(|(number, _)| *number);
        all
    }

    /// `figure NAME BY VALUE`
    fn enter(&mut self, line: &str) -> Option<()> {
        let mut words = line.strip_prefix("figure ")?.split(' ');
        let (name, by) = (words.next()?, words.next()?);
        let value = words.next()?.parse().ok()?;
        let of_name = self.figures.entry(name.to_owned()).or_default();
        of_name.insert(by.to_owned(), value);
        Some(())
    }
}

/// The lines of a program's output that it has read so far.
#[derive(Clone)]
pub struct Reader(Arc<Mutex<State>>);

struct State {
    measured: Measured,
    /// What is no figure, for a failure.
    talk: String,
    line: Vec<u8>,
    progress: Arc<Count>,
}

impl Reader {
    pub fn new(kernel: &Kernel, progress: &Arc<Count>) -> Self {
        Self(Arc::new(Mutex::new(State {
            measured: Measured {
                kernel: kernel.name.clone(),
                release: kernel.release.clone(),
                figures: BTreeMap::new(),
            },
            talk: String::new(),
            line: Vec::new(),
            progress: Arc::clone(progress),
        })))
    }

    pub fn measured(&self) -> Measured {
        self.lock().measured.clone()
    }

    pub fn talk(&self) -> String {
        last_lines(&self.lock().talk, 60)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn read(&mut self, line: &str) {
        // Before the first one stands the name of the test.
        let Some((_, marked)) = line.split_once(MARKER) else {
            self.talk.push_str(line);
            self.talk.push('\n');
            return;
        };
        if let Some(phase) = marked.strip_prefix("phase ") {
            say(format!("kernel {}: {phase}", self.measured.kernel));
            self.progress.add();
        } else if self.measured.enter(marked).is_none() {
            say(format!("not understood: {marked}"));
        }
    }
}

impl Write for Reader {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.lock();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            state.line.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let whole = std::mem::take(&mut state.line);
                state.read(String::from_utf8_lossy(&whole).trim_end());
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read() {
        let mut measured = Measured::default();
        assert_eq!(measured.enter("figure unlock 10000 12.5"), Some(()));
        assert_eq!(measured.enter("figure unlock 10 7"), Some(()));
        assert_eq!(measured.enter("figure unlock kernel 5"), Some(()));
        assert_eq!(measured.enter("figure unlock"), None);
        assert_eq!(measured.get("unlock", "kernel"), Some(5.0));
        assert_eq!(measured.by_number("unlock"), [(10, 7.0), (10_000, 12.5)]);
    }
}
