//! The place of libibverbs in a static build, which cannot load a shared library: every attempt to
//! open a device says so, and nothing else can be reached.

use crate::memory::Mapping;
use crate::reply::Failure;

/// A device that cannot exist here.
pub enum Device {}

/// A memory region that cannot exist here.
pub enum Region {}

impl Device {
    pub fn open(_: Option<&str>) -> Result<Self, Failure> {
        Err(Failure::Kernel {
            errno: libc::ENOSYS,
            operation: "RDMA needs libibverbs, which a static build cannot load".to_owned(),
        })
    }

    pub fn name(&self) -> String {
        match *self {}
    }

    pub fn register(&self, _: &Mapping, _: bool) -> Result<Region, Failure> {
        match *self {}
    }

    pub fn close(self) -> Result<(), Failure> {
        match self {}
    }
}

impl Region {
    pub fn move_to(&self, _: &Mapping) -> Result<(), Failure> {
        match *self {}
    }

    pub fn change_access(&self, _: bool) -> Result<(), Failure> {
        match *self {}
    }

    pub fn deregister(self) -> Result<(), Failure> {
        match self {}
    }
}
