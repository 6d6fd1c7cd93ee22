//! Names for people: what the kernel's records leave as numbers, looked up in /proc, /sys, the
//! cgroup file system and kallsyms. Whatever cannot be found stays unknown; nothing is guessed.

pub mod cgroup;
pub mod consumer;
pub mod device;
pub mod locks;
pub mod process;
pub mod size;
pub mod symbols;

use lease_trace_common::{STACK_LEN, stake::Task};

use crate::record::{Asker, Owner, Person};

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
        Owner {
            person: Person::of(task),
            uid: Some(task.uid),
            cgroup: self.cgroups.path(task.cgroup, task.tgid).map(str::to_owned),
        }
    }

    /// Why consumers cannot be named here, if so.
    pub fn prepare(&mut self) -> Result<(), symbols::Error> {
        self.consumers.prepare()
    }

    /// Names of the functions on a stack, innermost first; none if symbols cannot be read.
    pub fn functions(&mut self, stack: &[u64; STACK_LEN]) -> Vec<String> {
        self.consumers.names(stack)
    }

    /// The consumer alone, from the same stack: nothing about its process is looked up.
    pub fn consumer(&mut self, stack: &[u64; STACK_LEN]) -> Option<String> {
        self.consumers.find(stack).map(|found| found.name)
    }

    /// What asked for pins, from the stack that took the first of them.
    pub fn asker(&mut self, tgid: u32, stack: &[u64; STACK_LEN]) -> Asker {
        let Some(found) = self.consumers.find(stack) else {
            return Asker::default();
        };
        Asker {
            device: found.rdma.then(|| device::of(tgid)).flatten(),
            consumer: Some(found.name),
        }
    }
}
