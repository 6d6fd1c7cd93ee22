//! What every scenario stands on: actors, the tool, files, and the kernel's own figures.

mod actor;
mod end;
mod enforcement;
mod files;
mod follower;
mod leftovers;
mod locks;
mod logged;
mod metrics;
mod monitor;
mod mounts;
mod nfs;
mod outcome;
mod recipe;
mod release_paths;
mod rxe;
mod schema;
mod scratch;
mod sentinel;
mod setting;
mod shared;
mod slow_disk;
mod steps;
mod supervised;
mod terminal;
mod tool;
mod vfio;
mod vmstat;

use std::env;
use std::str::FromStr;
use std::time::{Duration, Instant};

pub use actor::{Actor, Fate, state_of};
pub use end::interrupt;
pub use enforcement::{Enforcement, deniable_here, retire as retire_enforcement};
pub use files::{FILES, Text as FileText, assert_file_agrees};
pub use follower::Follower;
pub use leftovers::Leftovers;
pub use locks::{leases_in, leases_on};
pub use logged::counted;
pub use metrics::{Metrics, get};
pub use monitor::{Monitor, integer, is_hook_missed, text};
pub use mounts::{BindMount, Filesystem, LoopMount, MemoryDisk, Overlay, PmemMount, hide};
pub use nfs::Nfs;
pub use outcome::{Outcome, Trial};
pub use recipe::{
    PAGES, assert_about, assert_released_by, expect_rest, expect_zombie,
    expect_zombie_of_older_lease, expect_zombie_with, open_lease_and_pin, pin_without_lease,
};
pub use release_paths::{Holder, ReleasePath, release_paths};
pub use rxe::Rxe;
pub use scratch::{Scratch, Subject, has_large_folios};
pub use sentinel::Sentinel;
pub use setting::Setting;
pub use shared::retire as no_monitor;
pub use slow_disk::SlowDisk;
pub use steps::{Step, kill_before, steps};
pub use supervised::{Supervised, interrupt_pid, invocation as run_invocation, kill, run_to_end};
pub use terminal::Terminal;
pub use tool::{Ran, Tool};
pub use vfio::VfioGroup;
pub use vmstat::Pinned;

/// How long anything may take. A guest without hardware virtualisation is slow.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long a monitor may take until it has attached: the kernel checks every program first.
pub const START_PATIENCE: Duration = Duration::from_mins(2);

/// The number in this variable of the environment, or what it is where nobody says.
pub fn number_in_env<T: FromStr>(name: &str, otherwise: T) -> T {
    match env::var(name) {
        Ok(text) => text.parse().ok().unwrap_or_else(|| panic!("{name}={text}")),
        Err(_) => otherwise,
    }
}

/// Waits until `done` answers true, and says whether it ever did.
pub fn eventually(mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if done() {
            return true;
        }
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Says on stderr what this kernel cannot do, with the errno that proved it.
pub fn cannot(what: &str, errno: i32) {
    let reason = std::io::Error::from_raw_os_error(errno);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    eprintln!("not on {}: {what}: {reason}", kernel.trim());
}
