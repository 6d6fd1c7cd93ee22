//! Names for people: what the kernel's records leave as numbers, looked up in /proc, /sys, the
//! cgroup file system and kallsyms. Whatever cannot be found stays unknown; nothing is guessed.

pub mod cgroup;
pub mod consumer;
pub mod context;
pub mod device;
pub mod locks;
pub mod mapped;
pub mod mounts;
pub mod process;
pub mod size;
pub mod symbols;
pub mod unit;

use lease_trace_common::{STACK_LEN, context::Context, stake::Task};

use crate::record::{Owner, PinSource, ProcessRef};

/// Everything that names are looked up in, with what was found before.
pub struct Names {
    pub cgroups: cgroup::Cgroups,
    consumers: consumer::Consumers,
}

impl Names {
    pub fn new(cgroups: cgroup::Cgroups) -> Self {
        Self {
            cgroups,
            consumers: consumer::Consumers::default(),
        }
    }

    pub fn owner(&mut self, task: &Task) -> Owner {
        let cgroup = self.cgroups.path(task.cgroup, task.tgid);
        Owner {
            process: ProcessRef::of(task),
            uid: Some(task.uid),
            unit: cgroup.and_then(unit::unit).map(str::to_owned),
            container: cgroup.and_then(unit::container).map(str::to_owned),
            cgroup: cgroup.map(str::to_owned),
        }
    }

    /// Why consumers cannot be named here, if so.
    pub fn check(&self) -> Result<(), symbols::Error> {
        self.consumers.check()
    }

    /// Names of the functions on a stack, innermost first; none if symbols cannot be read.
    pub fn functions(&mut self, stack: &[u64; STACK_LEN]) -> Vec<String> {
        self.consumers.names(stack)
    }

    /// The consumer alone, from the same stack: nothing about its process is looked up.
    pub fn consumer(&mut self, stack: &[u64; STACK_LEN]) -> Option<String> {
        self.consumers.find(stack).map(|found| found.name)
    }

    /// What asked for pins, from the stack that took the first of them and the file that it worked
    /// on.
    pub fn source(&mut self, tgid: u32, stack: &[u64; STACK_LEN], context: &Context) -> PinSource {
        let through = PinSource {
            context_fd: u32::try_from(context.fd).ok().filter(|_| context.mode != 0),
            context: context::name(tgid, context),
            ..PinSource::default()
        };
        let Some(found) = self.consumers.find(stack) else {
            return through;
        };
        PinSource {
            device: found.rdma.then(|| device::of(tgid)).flatten(),
            consumer: Some(found.name),
            ..through
        }
    }
}
