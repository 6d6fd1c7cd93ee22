//! Whether this kernel preempts a task inside a BPF program. A trampoline (fentry, fexit, fmod_ret) is then
//! missed for every other task of that CPU until the first one runs again; a kprobe runs with
//! preemption off, and is not.

use std::{
    fs::{self, File},
    io::Read as _,
};

use rustix::{
    fs::{Mode, OFlags},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
};

use super::{btf, host};

/// What the kernel says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preemption {
    /// A task in the kernel runs until it waits or asks.
    Never,
    /// A task in the kernel may be preempted where it holds no spinlock.
    Tasks,
    /// The same where it holds one: spinlocks sleep (PREEMPT_RT).
    RealTime,
    /// It may be either, and may not be asked.
    Unknown,
}

impl Preemption {
    /// Asks the running kernel: its build, and where that leaves it open the mode in force.
    pub fn ask() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let build = read("/proc/sys/kernel/version");
        let real_time = read("/sys/kernel/realtime");
        Self::of(&build, &real_time, mode)
    }

    /// What `uname -v`, /sys/kernel/realtime and, where it matters, `sched/preempt` of debugfs say.
    fn of(build: &str, real_time: &str, mode: impl FnOnce() -> Option<String>) -> Self {
        let mut flags = build.split_ascii_whitespace();
        let flag = flags.find(|word| word.starts_with("PREEMPT"));
        if real_time.trim() == "1" || flag == Some("PREEMPT_RT") {
            return Self::RealTime;
        }
        match flag {
            _ if build.trim().is_empty() => Self::Unknown,
            // Built so that it cannot (CONFIG_PREEMPT_NONE, CONFIG_PREEMPT_VOLUNTARY).
            None => Self::Never,
            Some("PREEMPT_DYNAMIC") => match mode().as_deref().and_then(in_force) {
                Some("none" | "voluntary") => Self::Never,
                Some("full" | "lazy") => Self::Tasks,
                _ => Self::Unknown,
            },
            Some(_) => Self::Tasks,
        }
    }

    /// Whether the kernel has answered.
    pub const fn is_known(self) -> bool {
        !matches!(self, Self::Unknown)
    }

    /// Whether what is missed where tasks are preempted has to be avoided.
    pub const fn may_miss(self) -> bool {
        !matches!(self, Self::Never)
    }

    /// The same inside a spinlock.
    pub const fn may_miss_locked(self) -> bool {
        matches!(self, Self::RealTime)
    }

    /// In words.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Never => "none in the kernel",
            Self::Tasks => "tasks in the kernel, unless they hold a spinlock",
            Self::RealTime => "tasks in the kernel (PREEMPT_RT)",
            Self::Unknown => "not known",
        }
    }
}

/// The mode in parentheses: `none voluntary (full)`.
fn in_force(modes: &str) -> Option<&str> {
    Some(modes.split_once('(')?.1.split_once(')')?.0)
}

/// What `sched/preempt` says, wherever debugfs is mounted; where it is not, one of this process alone, which
/// is in no tree and goes with its descriptor.
fn mode() -> Option<String> {
    let mounted = fs::read_to_string("/sys/kernel/debug/sched/preempt").ok();
    // Else a sandbox may end this process for the attempt.
    let may_mount = || host::has_sys_admin().then(own_debugfs).flatten();
    mounted.or_else(may_mount)
}

fn own_debugfs() -> Option<String> {
    let read = || -> std::io::Result<String> {
        let made = fsopen("debugfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_create(&made)?;
        let root = fsmount(
            &made,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::MOUNT_ATTR_RDONLY,
        )?;
        let file = rustix::fs::openat(
            &root,
            "sched/preempt",
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let mut text = String::new();
        File::from(file).read_to_string(&mut text)?;
        Ok(text)
    };
    read()
        .inspect_err(|error| log::debug!("the mode of preemption cannot be read: {error}"))
        .ok()
}

/// Where kretprobe.multi keeps what it needs until a call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returns {
    /// With the task (fprobe by the function graph tracer, 6.14): any number of calls may be under way.
    Unlimited,
    /// In a pool of two for each CPU (fprobe by rethook): who keeps that many threads inside the call
    /// hides all others.
    Pool,
    /// There is no kretprobe.multi.
    None,
}

impl Returns {
    /// By the kernel's `struct fprobe`, which has the pool or has none.
    pub fn of(types: &btf::Btf) -> Self {
        match types.offset("fprobe", "rethook") {
            Ok(_) => Self::Pool,
            Err(btf::Error::NoField(..)) => Self::Unlimited,
            Err(_) => Self::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(build: &str, real_time: &str, mode: Option<&str>) -> Preemption {
        Preemption::of(build, real_time, || mode.map(str::to_owned))
    }

    #[test]
    fn the_mode_in_force_decides_where_the_build_leaves_it_open() {
        let dynamic = "#1 SMP PREEMPT_DYNAMIC Debian 6.12.117-1 (2026-11-01)\n";
        let with = |mode| of(dynamic, "", Some(mode));
        assert_eq!(with("none (voluntary) full\n"), Preemption::Never);
        assert_eq!(with("(none) voluntary full\n"), Preemption::Never);
        assert_eq!(with("none voluntary (full)\n"), Preemption::Tasks);
        assert_eq!(with("full (lazy)\n"), Preemption::Tasks);
        assert_eq!(with("full (something)\n"), Preemption::Unknown);
        assert_eq!(with(""), Preemption::Unknown);
        assert_eq!(of(dynamic, "", None), Preemption::Unknown);
    }

    #[test]
    fn a_build_that_leaves_nothing_open_is_not_asked_further() {
        let of = |build: &str, real_time: &str| {
            Preemption::of(build, real_time, || panic!("asked: {build}"))
        };
        assert_eq!(of("#1 SMP Debian 6.1.0-50", ""), Preemption::Never);
        assert_eq!(of("#1 SMP PREEMPT Debian", ""), Preemption::Tasks);
        assert_eq!(of("#1 SMP PREEMPT_LAZY x", ""), Preemption::Tasks);
        assert_eq!(of("#1 SMP PREEMPT_RT Debian", ""), Preemption::RealTime);
        assert_eq!(of("#1 SMP PREEMPT_DYNAMIC", "1\n"), Preemption::RealTime);
        assert_eq!(of("", ""), Preemption::Unknown);
    }

    #[test]
    fn no_answer_is_taken_for_the_worse_one() {
        assert!(Preemption::Unknown.may_miss());
        assert!(!Preemption::Never.may_miss());
        // The build tells of PREEMPT_RT, whatever else is not known.
        assert!(!Preemption::Unknown.may_miss_locked());
        assert!(Preemption::RealTime.may_miss_locked());
    }
}
