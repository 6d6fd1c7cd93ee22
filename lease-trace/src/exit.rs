//! The exit status: a contract with scripts, decided in this one place.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use crate::{policy, sinks::WriteError, tracer};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It did what was asked.
    Done,
    /// It did, and there are zombies (`report` and `report zombies` only).
    Zombies,
    /// It did, and pins escape what lease-trace watches (`doctor --cross-check` only).
    Escaped,
    /// It did, and the books are not right (`doctor --check`), or not all pins were found (`pins --check`).
    Wrong,
    /// It could not: wrong usage, no permission, a full disk.
    Error,
    /// This kernel cannot do it.
    Unsupported,
    /// The command cannot be executed, or there is none of this name (`run` only; as env(1)).
    NotExecutable,
    NoCommand,
}

impl Exit {
    pub const fn status(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Zombies | Self::Escaped | Self::Wrong => 1,
            Self::Error => 2,
            Self::Unsupported => 3,
            Self::NotExecutable => 126,
            Self::NoCommand => 127,
        }
    }

    /// What an error that reached the top stands for. A reader that closed its pipe has all it
    /// wanted, so that is a success.
    pub fn of(error: &anyhow::Error) -> Self {
        for cause in error.chain() {
            if let Some(WriteError(io)) = cause.downcast_ref() {
                return if io.kind() == io::ErrorKind::BrokenPipe {
                    Self::Done
                } else {
                    Self::Error
                };
            }
            let unsupported = cause
                .downcast_ref()
                .map(tracer::Error::is_unsupported)
                .or_else(|| cause.downcast_ref().map(policy::Error::is_unsupported));
            match unsupported {
                Some(true) => return Self::Unsupported,
                Some(false) => return Self::Error,
                None => {}
            }
        }
        Self::Error
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.status())
    }
}

/// Says on stderr what went wrong, if anything did, and what to exit with.
pub fn conclude(result: anyhow::Result<Exit>) -> Exit {
    match result {
        Ok(exit) => exit,
        Err(error) => {
            let exit = Exit::of(&error);
            if exit != Exit::Done {
                // Nobody is left to tell if stderr is closed, too.
                let _ = writeln!(io::stderr(), "lease-trace: {error:#}");
            }
            exit
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_error(kind: io::ErrorKind) -> anyhow::Error {
        anyhow::Error::from(WriteError(kind.into())).context("while monitoring")
    }

    #[test]
    fn a_closed_pipe_is_a_success() {
        assert_eq!(
            Exit::of(&write_error(io::ErrorKind::BrokenPipe)),
            Exit::Done
        );
    }

    #[test]
    fn a_full_disk_is_an_error() {
        let error = write_error(io::ErrorKind::StorageFull);
        assert_eq!(Exit::of(&error), Exit::Error);
    }

    #[test]
    fn anything_else_is_an_error() {
        assert_eq!(Exit::of(&anyhow::anyhow!("no such pid")), Exit::Error);
    }
}
