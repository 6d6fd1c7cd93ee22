//! The kernel's own count of FOLL_PIN references: nr_foll_pin_acquired and nr_foll_pin_released.

use std::{fs, io};

/// Pin references taken and dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow {
    pub taken: u64,
    pub dropped: u64,
}

impl Flow {
    pub fn since(self, earlier: Self) -> Self {
        Self {
            taken: self.taken.wrapping_sub(earlier.taken),
            dropped: self.dropped.wrapping_sub(earlier.dropped),
        }
    }

    /// References held.
    pub const fn held(self) -> i64 {
        self.taken.wrapping_sub(self.dropped) as i64
    }
}

/// Since boot, on the whole machine.
pub fn pins() -> io::Result<Flow> {
    // They are kept by CPU and added up once a second, unless somebody asks.
    fs::write("/proc/sys/vm/stat_refresh", "1")?;
    read(&fs::read_to_string("/proc/vmstat")?)
        .ok_or_else(|| io::Error::other("/proc/vmstat has no nr_foll_pin_acquired"))
}

fn read(text: &str) -> Option<Flow> {
    let counter = |name: &str| {
        let mut words = text.lines().filter_map(|line| line.split_once(' '));
        words.find(|(word, _)| *word == name)?.1.trim().parse().ok()
    };
    Some(Flow {
        taken: counter("nr_foll_pin_acquired")?,
        dropped: counter("nr_foll_pin_released")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_counters_are_read() {
        let text = "nr_foll_pin_acquired 12\nnr_foll_pin_released 7\nnr_kernel_stack 1\n";
        let flow = read(text).expect("both are there");
        assert_eq!((flow.taken, flow.dropped), (12, 7));
        assert_eq!(read("nr_foll_pin_acquired 12\n"), None);
    }
}
