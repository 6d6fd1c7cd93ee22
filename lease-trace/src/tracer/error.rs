//! Why tracing is not possible.

use std::io;

use aya::{
    maps::MapError,
    programs::{ProgramError, links::LinkError},
    sys::SyscallError,
};
use thiserror::Error;

use crate::kernel::host::{self, Obstacle};

#[derive(Debug, Error)]
pub enum Error {
    #[error("{0}")]
    Obstacle(Obstacle),
    /// Neither fentry nor kprobe is possible for a required point.
    #[error(
        "cannot watch {function}: {reason}; without it {loss}. The kernel needs \
         CONFIG_FUNCTION_TRACER with BTF, or CONFIG_KPROBES (`lease-trace doctor` shows both)"
    )]
    Point {
        function: &'static str,
        reason: String,
        loss: &'static str,
    },
    /// bpf(2) said EPERM although the capabilities are there.
    #[error("{call} was refused (EPERM): {}", host::refusal())]
    Refused { call: String },
    #[error("cannot load the BPF object: {0}")]
    Load(String),
    #[error("{operation} {object}: {reason}")]
    Maps {
        operation: &'static str,
        object: String,
        reason: String,
    },
    #[error(
        "a monitor is running already (pid {pid}); `lease-trace report` reads its stakes, or stop \
         it first"
    )]
    AlreadyRunning { pid: u32 },
    #[error(
        "enforcement is being put in place (pid {pid}); wait until that has ended, and try again"
    )]
    Starting { pid: u32 },
    /// What is attached and is no whole enforcement.
    #[error(
        "an `enforce start` or `enforce stop` was cut off: {links} of its hooks are left in the \
         kernel, where its policy may be in force; `lease-trace enforce stop` removes them, \
         `lease-trace enforce start` begins anew"
    )]
    CutOff { links: usize },
    #[error(
        "another lease-trace is about to begin or to end and does not get on with it; end it, and \
         try again"
    )]
    Locked,
    /// The directory in bpffs is not what lease-trace makes there.
    #[error(
        "{directory} {what}: somebody else made it. Look at it and remove it (`rm -r {directory}`); \
         nobody but root should write there (`mount -o remount,mode=0700 /sys/fs/bpf`)"
    )]
    Stranger { directory: String, what: String },
    #[error(
        "what runs is another version of lease-trace, whose maps this one cannot read: use that \
         version, or end its monitor, `lease-trace enforce stop`, and start again"
    )]
    OtherLayout,
    #[error(
        "enforcement is in place with a policy of its own; change it with `lease-trace enforce \
         start --policy FILE`, and leave --policy out here"
    )]
    PolicyInPlace,
    #[error("no enforcement is in place; `lease-trace enforce start` puts it in place")]
    NotEnforced,
    #[error("cannot walk the open files of all tasks: {0}")]
    Walk(String),
    #[error("cannot read the kernel's own count of pins: {0}; run it as root")]
    Vmstat(io::Error),
    #[error(
        "pins come and go all the time, so that the two counts cannot be compared; try again when \
         there is less to do"
    )]
    Busy,
    #[error(
        "the programs of the enforcement in place count no pins for a cross-check; use `lease-trace \
         doctor --cross-check`"
    )]
    CrossCheckInPlace,
    #[error("cannot wait for events: {0}")]
    Wait(io::Error),
}

impl Error {
    /// This kernel cannot do it, whoever asks (exit status 3).
    pub fn is_unsupported(&self) -> bool {
        match self {
            Self::Obstacle(obstacle) => obstacle.kernel,
            Self::Point { .. } => true,
            _ => false,
        }
    }

    pub fn maps(
        operation: &'static str,
        object: impl Into<String>,
        reason: impl std::fmt::Display,
    ) -> Self {
        Self::Maps {
            operation,
            object: object.into(),
            reason: format!("{reason}"),
        }
    }
}

impl From<Obstacle> for Error {
    fn from(obstacle: Obstacle) -> Self {
        Self::Obstacle(obstacle)
    }
}

impl From<MapError> for Error {
    fn from(error: MapError) -> Self {
        if is_eperm(&error) {
            return Self::Refused {
                call: "bpf(2) for making maps".to_owned(),
            };
        }
        Self::Load(chain(&error))
    }
}

/// Whether EPERM is at the bottom.
pub fn is_eperm(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut current = Some(error);
    while let Some(error) = current {
        let io = error
            .downcast_ref::<io::Error>()
            .or_else(|| {
                error
                    .downcast_ref::<SyscallError>()
                    .map(|error| &error.io_error)
            })
            .or_else(|| match error.downcast_ref::<ProgramError>() {
                Some(ProgramError::LoadError { io_error, .. }) => Some(io_error),
                _ => None,
            })
            .or_else(|| match error.downcast_ref::<MapError>() {
                Some(MapError::CreateError { io_error, .. }) => Some(io_error),
                _ => None,
            })
            .or_else(|| match error.downcast_ref::<LinkError>() {
                Some(LinkError::SyscallError(error)) => Some(&error.io_error),
                _ => None,
            });
        if io.is_some_and(|error| error.raw_os_error() == Some(libc::EPERM)) {
            return true;
        }
        current = error.source();
    }
    false
}

/// An error and its sources on one line, without repeating what is contained already.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut current = error.source();
    while let Some(source) = current {
        let more = source.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        current = source.source();
    }
    // The kernel's own ENOTSUPP, which libc has no words for: a trampoline for more arguments
    // than this kernel's trampolines take (arch/x86/net/bpf_jit_comp.c).
    text.replace(
        "Unknown error 524 (os error 524)",
        "not supported by this kernel (ENOTSUPP)",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of the errors that people meet; a variant more asks for a row more.
    #[test]
    fn each_message_is_explained() {
        let page = include_str!("../../../docs/troubleshooting.md");
        let obstacle = |what: &str| Obstacle {
            what: what.to_owned(),
            remedy: String::new(),
            kernel: true,
        };
        let lacks = "loading BPF programs needs CAP_BPF and CAP_PERFMON";
        let errors = [
            Error::Obstacle(obstacle(lacks)),
            Error::Point {
                function: "FUNCTION",
                reason: "...".to_owned(),
                loss: "",
            },
            Error::Refused {
                call: "...".to_owned(),
            },
            Error::Load("...".to_owned()),
            Error::AlreadyRunning { pid: 0 },
            Error::Starting { pid: 0 },
            Error::CutOff { links: 0 },
            Error::Locked,
            Error::Stranger {
                directory: "/sys/fs/bpf/lease-trace".to_owned(),
                what: "belongs to uid N and not to root".to_owned(),
            },
            Error::OtherLayout,
            Error::PolicyInPlace,
            Error::NotEnforced,
            Error::Walk("...".to_owned()),
            Error::Vmstat(io::Error::other("")),
            Error::Busy,
            Error::CrossCheckInPlace,
            Error::Wait(io::Error::other("...")),
        ];
        for error in errors {
            let message = error.to_string().replace("pid 0", "pid N");
            // The page has the part that says what it is.
            let part = message.split([';', ',']).next().unwrap_or_default();
            let part = part.split(": ").next().unwrap_or_default();
            assert!(page.contains(part), "{part}");
        }
    }
}
