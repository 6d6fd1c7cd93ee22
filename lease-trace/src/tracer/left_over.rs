//! What is kept for threads and was not taken out, since a hook was missed: it goes with the thread.

use aya::maps::{HashMap, MapData, MapError};
use lease_trace_common::{STACK_LEN, note};

use super::of_directory;
use crate::kernel::{limits, undisturbed::Undisturbed};

/// Notes and stacks of threads.
pub struct LeftOver {
    notes: HashMap<MapData, u64, note::Pending>,
    stacks: HashMap<MapData, u64, [u64; STACK_LEN]>,
}

impl LeftOver {
    /// Nothing where the maps are not there.
    pub fn open() -> Option<Self> {
        Some(Self {
            notes: HashMap::try_from(of_directory("PENDING").ok()?).ok()?,
            stacks: HashMap::try_from(of_directory("STACKS").ok()?).ok()?,
        })
    }

    /// Takes out what is left of threads that have ended.
    pub fn remove(&mut self) -> Result<(), MapError> {
        remove(&mut self.notes, note::thread)?;
        remove(&mut self.stacks, |thread| thread as u32)
    }
}

fn remove<V: aya::Pod>(
    map: &mut HashMap<MapData, u64, V>,
    thread: impl Fn(u64) -> u32,
) -> Result<(), MapError> {
    let kept: Vec<u64> = {
        let _undisturbed = Undisturbed::claim();
        map.keys().collect::<Result<_, _>>()?
    };
    for key in kept
        .into_iter()
        .filter(|key| !limits::has_thread(thread(*key)))
    {
        let _undisturbed = Undisturbed::claim();
        // It may be gone by now.
        _ = map.remove(&key);
    }
    Ok(())
}
