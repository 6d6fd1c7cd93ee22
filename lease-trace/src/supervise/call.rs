//! The system calls that are asked about, read from the registers they came with.

use super::{
    listener::Asked,
    nr::{self, abi, compat},
    process::Caller,
};

const PAGE: u64 = 4096;

/// What a call would do, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Close {
        fd: u32,
    },
    CloseRange {
        first: u32,
        last: u32,
        /// Other tasks with the same table keep theirs.
        unshare: bool,
    },
    /// `old` takes the place of `new`.
    Dup {
        name: &'static str,
        old: u32,
        new: u32,
    },
    /// These addresses are unmapped: first, and behind the last.
    Unmap {
        name: &'static str,
        spans: Vec<(u64, u64)>,
    },
    /// A lease is unlocked.
    Unlock {
        fd: u32,
    },
    Exec {
        /// The directory that the path begins in; `AT_FDCWD` for the working directory.
        directory: i32,
        /// Address of the path.
        path: u64,
    },
    /// Nothing that matters.
    Nothing,
}

/// Where the numbers of one call are in the tables.
enum Kind {
    Close,
    CloseRange,
    Dup(&'static str),
    Munmap,
    Mmap,
    OldMmap,
    Mremap,
    Fcntl,
    Execve,
    Execveat,
}

fn kind(arch: u32, number: u32) -> Option<Kind> {
    if arch == abi::I386 {
        return Some(match number {
            compat::CLOSE => Kind::Close,
            compat::CLOSE_RANGE => Kind::CloseRange,
            compat::DUP2 => Kind::Dup("dup2"),
            compat::DUP3 => Kind::Dup("dup3"),
            compat::MUNMAP => Kind::Munmap,
            compat::MMAP2 => Kind::Mmap,
            compat::OLD_MMAP => Kind::OldMmap,
            compat::MREMAP => Kind::Mremap,
            compat::FCNTL | compat::FCNTL64 => Kind::Fcntl,
            compat::EXECVE => Kind::Execve,
            compat::EXECVEAT => Kind::Execveat,
            _ => return None,
        });
    }
    Some(match number & !abi::X32_BIT {
        nr::CLOSE => Kind::Close,
        nr::CLOSE_RANGE => Kind::CloseRange,
        nr::DUP2 => Kind::Dup("dup2"),
        nr::DUP3 => Kind::Dup("dup3"),
        nr::MUNMAP => Kind::Munmap,
        number if number == nr::NATIVE.mmap => Kind::Mmap,
        number if number == nr::NATIVE.mremap => Kind::Mremap,
        number if nr::NATIVE.fcntl.contains(&number) => Kind::Fcntl,
        nr::EXECVE | nr::X32_EXECVE => Kind::Execve,
        nr::EXECVEAT | nr::X32_EXECVEAT => Kind::Execveat,
        _ => return None,
    })
}

impl Call {
    /// What the kernel's notification says; what is behind pointers is read from the caller.
    pub fn of(asked: &Asked, caller: Caller) -> Self {
        const UNSHARE: u64 = 2;
        const CLOEXEC: u64 = 4;
        let of = asked.arguments;
        match kind(asked.arch, asked.number) {
            Some(Kind::Close) => Self::Close { fd: of[0] as u32 },
            Some(Kind::CloseRange) if of[2] & CLOEXEC == 0 => Self::CloseRange {
                first: of[0] as u32,
                last: of[1] as u32,
                unshare: of[2] & UNSHARE != 0,
            },
            Some(Kind::Dup(name)) if of[0] as u32 != of[1] as u32 => Self::Dup {
                name,
                old: of[0] as u32,
                new: of[1] as u32,
            },
            Some(Kind::Munmap) => Self::unmap("munmap", vec![span(of[0], of[1])]),
            Some(Kind::Mmap) => Self::unmap("mmap", vec![span(of[0], of[1])]),
            Some(Kind::OldMmap) => caller.old_mmap(of[0]).map_or(Self::Nothing, |map| {
                let [address, length, _, flags] = map;
                let mask = nr::MAP_FIXED | nr::MAP_FIXED_NOREPLACE;
                if flags & mask == nr::MAP_FIXED {
                    Self::unmap("mmap", vec![span(address.into(), length.into())])
                } else {
                    Self::Nothing
                }
            }),
            Some(Kind::Mremap) => {
                let (_, end) = span(of[0], of[1]);
                let (_, kept) = span(of[0], of[2]);
                let mut spans = vec![(kept, end)];
                if of[3] & u64::from(nr::MREMAP_FIXED) != 0 {
                    spans.push(span(of[4], of[2]));
                }
                Self::unmap("mremap", spans)
            }
            Some(Kind::Fcntl) => {
                let unlocks = match of[1] as u32 {
                    nr::F_SETDELEG => caller.delegation_mode(of[2]) == Some(nr::F_UNLCK as u16),
                    _ => true,
                };
                if unlocks {
                    Self::Unlock { fd: of[0] as u32 }
                } else {
                    Self::Nothing
                }
            }
            Some(Kind::Execve) => Self::Exec {
                directory: libc::AT_FDCWD,
                path: of[0],
            },
            Some(Kind::Execveat) => Self::Exec {
                directory: of[0] as i32,
                path: of[1],
            },
            _ => Self::Nothing,
        }
    }

    /// Whether it executes a program; nothing of the caller is read.
    pub fn may_be_exec(asked: &Asked) -> bool {
        matches!(
            kind(asked.arch, asked.number),
            Some(Kind::Execve | Kind::Execveat)
        )
    }

    /// The descriptor that it takes away, if that is all it can do; nothing else is read.
    pub fn only_descriptor(asked: &Asked) -> Option<u32> {
        let [first, second, ..] = asked.arguments;
        match kind(asked.arch, asked.number)? {
            Kind::Close | Kind::Fcntl => Some(first as u32),
            Kind::Dup(_) => Some(second as u32),
            _ => None,
        }
    }

    fn unmap(name: &'static str, mut spans: Vec<(u64, u64)>) -> Self {
        spans.retain(|(start, end)| start < end);
        if spans.is_empty() {
            Self::Nothing
        } else {
            Self::Unmap { name, spans }
        }
    }

    /// As it is told: `close(10)`.
    pub fn text(&self) -> String {
        match self {
            Self::Close { fd } => format!("close({fd})"),
            Self::CloseRange { first, last, .. } => {
                let last = if *last == u32::MAX {
                    "~0".to_owned()
                } else {
                    last.to_string()
                };
                format!("close_range({first}, {last})")
            }
            Self::Dup { name, old, new } => format!("{name}({old}, {new})"),
            Self::Unmap { name, .. } => (*name).to_owned(),
            Self::Unlock { fd } => format!("the unlock of {fd}"),
            Self::Exec { .. } => "execve".to_owned(),
            Self::Nothing => "a call".to_owned(),
        }
    }
}

/// Whole pages: an address that is not on one is refused by the kernel.
fn span(address: u64, length: u64) -> (u64, u64) {
    let end = length
        .checked_next_multiple_of(PAGE)
        .and_then(|length| address.checked_add(length));
    match end {
        Some(end) if address.is_multiple_of(PAGE) => (address, end),
        _ => (address, address),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(arch: u32, number: i64, arguments: &[u64]) -> Call {
        let mut all = [0; 6];
        all[..arguments.len()].copy_from_slice(arguments);
        let asked = Asked {
            id: 1,
            tid: std::process::id(),
            arch,
            number: number as u32,
            arguments: all,
        };
        Call::of(&asked, Caller::of(std::process::id()).expect("this one"))
    }

    #[test]
    fn both_tables_say_the_same() {
        for (arch, close, dup3, munmap) in [
            (
                abi::X86_64,
                libc::SYS_close,
                libc::SYS_dup3,
                libc::SYS_munmap,
            ),
            (abi::I386, 6, 330, 91),
        ] {
            assert_eq!(call(arch, close, &[10]), Call::Close { fd: 10 });
            let dup = Call::Dup {
                name: "dup3",
                old: 4,
                new: 10,
            };
            assert_eq!(call(arch, dup3, &[4, 10, 0]), dup);
            assert_eq!(call(arch, dup3, &[4, 4, 0]), Call::Nothing);
            let unmap = Call::Unmap {
                name: "munmap",
                spans: vec![(0x7000, 0x9000)],
            };
            assert_eq!(call(arch, munmap, &[0x7000, 4097]), unmap);
            assert_eq!(call(arch, munmap, &[0x7001, 4096]), Call::Nothing);
        }
    }

    #[test]
    fn a_length_that_wraps_is_nothing() {
        let munmap = |length| call(abi::X86_64, libc::SYS_munmap, &[0x7000, length]);
        assert_eq!(munmap(u64::MAX), Call::Nothing);
        assert_eq!(munmap(u64::MAX - 8191), Call::Nothing);
        assert_eq!(munmap(0), Call::Nothing);
    }

    #[test]
    fn a_shorter_mapping_loses_its_tail_and_a_moved_one_what_it_covers() {
        let mremap = |flags| {
            call(
                abi::X86_64,
                libc::SYS_mremap,
                &[0x10000, 0x4000, 0x1000, flags, 0x80000],
            )
        };
        let unmap = |spans: &[(u64, u64)]| Call::Unmap {
            name: "mremap",
            spans: spans.to_vec(),
        };
        assert_eq!(mremap(0), unmap(&[(0x11000, 0x14000)]));
        assert_eq!(mremap(3), unmap(&[(0x11000, 0x14000), (0x80000, 0x81000)]));
    }

    #[test]
    fn what_is_behind_pointers_is_read() {
        let unlock = [0_u32, nr::F_UNLCK];
        let pointer = unlock.as_ptr() as u64;
        let deleg = |pointer| {
            call(
                abi::X86_64,
                libc::SYS_fcntl,
                &[5, nr::F_SETDELEG.into(), pointer],
            )
        };
        assert_eq!(deleg(pointer), Call::Unlock { fd: 5 });
        assert_eq!(deleg(0), Call::Nothing);
        let map = [0x7000_u32, 4096, 1, nr::MAP_FIXED];
        assert_eq!(
            call(abi::I386, 90, &[map.as_ptr() as u64]),
            Call::Unmap {
                name: "mmap",
                spans: vec![(0x7000, 0x8000)]
            }
        );
    }

    #[test]
    fn a_range_that_only_marks_closes_nothing() {
        let range = |flags| {
            call(
                abi::X86_64,
                libc::SYS_close_range,
                &[3, u32::MAX.into(), flags],
            )
        };
        assert_eq!(range(4), Call::Nothing);
        assert_eq!(range(0).text(), "close_range(3, ~0)");
    }
}
