//! The files of a storm, mapped, and parts of them as buffers for a ring.

use std::ffi::{c_int, c_void};
use std::os::fd::RawFd;
use std::ptr;

use super::chance::Chance;
use crate::reply::Failure;
use crate::sys;
use crate::uring_abi::{REGISTER_BUFFERS, UNREGISTER_BUFFERS};

const PAGE: usize = 4096;
/// Pages of each file.
const LENGTH: usize = 256;
/// The most pages of one buffer, and the most buffers.
const MOST_PAGES: usize = 64;
pub const MOST_BUFFERS: usize = 8;
/// Files that all share.
const SHARED: usize = 4;

/// Files with their mappings, which nothing in Rust refers into.
#[derive(Clone)]
pub struct Files(Vec<File>);

#[derive(Clone, Copy)]
struct File {
    fd: RawFd,
    address: *mut c_void,
}

// SAFETY: numbers and addresses of shared mappings that last as long as the process; only the kernel
// reads and writes there.
unsafe impl Send for Files {}

impl Files {
    /// Those that all share.
    pub fn open(directory: &str) -> Result<Self, Failure> {
        let files = (0..SHARED).map(|number| open(&format!("{directory}/shared-{number}")));
        Ok(Self(files.collect::<Result<_, _>>()?))
    }

    /// One of a thread's own.
    pub fn one(path: &str) -> Result<Self, Failure> {
        Ok(Self(vec![open(path)?]))
    }

    /// One that came by its descriptor.
    pub fn received(fd: RawFd) -> Result<Self, Failure> {
        Ok(Self(vec![map(fd)?]))
    }

    /// Lets go of them.
    pub fn close(self) -> Result<(), Failure> {
        for File { fd, address } in self.0 {
            sys::munmap(address, LENGTH * PAGE)?;
            sys::close(fd)?;
        }
        Ok(())
    }

    /// The descriptor of the first.
    pub fn fd(&self) -> RawFd {
        self.0[0].fd
    }

    /// Sets a lease on the first, and says whether it could.
    pub fn lease(&self) -> Result<bool, Failure> {
        self.set_lease(libc::F_WRLCK, libc::EAGAIN)
    }

    /// Ends it, and says whether it could.
    pub fn unlock(&self) -> Result<bool, Failure> {
        self.set_lease(libc::F_UNLCK, libc::EBUSY)
    }

    /// False where it is refused with this errno.
    fn set_lease(&self, lease: c_int, refusal: i32) -> Result<bool, Failure> {
        match sys::fcntl(self.fd(), libc::F_SETLEASE, lease, "F_SETLEASE") {
            Ok(_) => Ok(true),
            Err(Failure::Kernel { errno, .. }) if errno == refusal => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// A part of one of them.
    pub fn part(&self, chance: &mut Chance) -> libc::iovec {
        let file = self.0[chance.below(self.0.len())];
        let pages = 1 + chance.below(MOST_PAGES);
        let first = chance.below(LENGTH - pages + 1);
        libc::iovec {
            iov_base: file.address.wrapping_byte_add(first * PAGE),
            iov_len: pages * PAGE,
        }
    }

    /// Takes pages away from one of them: a hole, or its end for a moment.
    pub fn cut(&self, chance: &mut Chance) -> Result<(), Failure> {
        let File { fd, .. } = self.0[chance.below(self.0.len())];
        let pages = 1 + chance.below(MOST_PAGES);
        let first = chance.below(LENGTH - pages + 1);
        if chance.below(4) > 0 {
            return sys::punch_hole(fd, first * PAGE, pages * PAGE);
        }
        sys::truncate(fd, first * PAGE)?;
        sys::truncate(fd, LENGTH * PAGE)
    }
}

fn open(path: &str) -> Result<File, Failure> {
    let fd = sys::open(path, libc::O_RDWR | libc::O_CREAT)?;
    sys::truncate(fd, LENGTH * PAGE)?;
    map(fd)
}

fn map(fd: RawFd) -> Result<File, Failure> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let address = sys::mmap(LENGTH * PAGE, access, libc::MAP_SHARED, fd)?;
    Ok(File { fd, address })
}

/// What is registered at once.
pub struct Buffers {
    parts: [libc::iovec; MOST_BUFFERS],
    count: usize,
}

impl Buffers {
    /// Up to so many, of any of these files.
    pub fn choose(of: &[&Files], most: usize, chance: &mut Chance) -> Self {
        let nothing = libc::iovec {
            iov_base: ptr::null_mut(),
            iov_len: 0,
        };
        let mut buffers = Self {
            parts: [nothing; MOST_BUFFERS],
            count: 0,
        };
        for _ in 0..=chance.below(most) {
            buffers.add(of[chance.below(of.len())], chance);
        }
        buffers
    }

    /// One page of one of these files: the shortest that a pin can last.
    pub fn page(of: &Files, chance: &mut Chance) -> Self {
        let mut buffers = Self::choose(&[of], 1, chance);
        buffers.parts[0].iov_len = PAGE;
        buffers
    }

    /// One more, of these files. There is room: nobody chooses [`MOST_BUFFERS`] and adds another.
    pub fn add(&mut self, of: &Files, chance: &mut Chance) {
        self.parts[self.count] = of.part(chance);
        self.count += 1;
    }

    pub fn pages(&self) -> u64 {
        let bytes: usize = self.parts.iter().map(|part| part.iov_len).sum();
        (bytes / PAGE) as u64
    }

    pub fn register(&self, ring: RawFd) -> Result<(), Failure> {
        let parts = self.parts.as_ptr().cast();
        sys::io_uring_register(ring, REGISTER_BUFFERS, parts, self.count as u32).map(drop)
    }

    pub fn unregister(ring: RawFd) -> Result<(), Failure> {
        sys::io_uring_register(ring, UNREGISTER_BUFFERS, ptr::null(), 0).map(drop)
    }
}
