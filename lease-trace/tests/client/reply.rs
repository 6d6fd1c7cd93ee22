//! What a command answers: values, or the kernel's refusal with the errno's name.

use std::fmt::{self, Display, Write as _};
use std::io::{self, Write as _};

/// The outcome of one command.
pub type Reply = Result<Answer, Failure>;

/// What a command that worked has to say.
pub enum Answer {
    /// `ok`, and the values that go with it.
    Values(String),
    /// Lines for a reader, before the `ok`.
    Text(String),
    /// Another actor's answer, passed on as it came.
    Verbatim(String),
    /// Nothing: in the child, where `fork` was somebody else's command.
    Silent,
}

/// Why a command did not work.
#[derive(Debug)]
pub enum Failure {
    /// The kernel said no to the operation named.
    Kernel { errno: i32, operation: String },
    /// The command was never put to the kernel.
    Usage(String),
}

impl Failure {
    /// What the kernel said to a call that keeps errno in an error of its own.
    pub fn of(error: &io::Error, operation: impl Into<String>) -> Self {
        Self::Kernel {
            errno: error.raw_os_error().unwrap_or(0),
            operation: operation.into(),
        }
    }

    /// Whether the kernel said this.
    pub fn is(&self, expected: i32) -> bool {
        matches!(self, Self::Kernel { errno, .. } if *errno == expected)
    }
}

/// A bare `ok`.
pub const DONE: Reply = Ok(Answer::Values(String::new()));

/// `ok` with a value.
pub fn value(value: impl Display) -> Answer {
    Answer::Values(value.to_string())
}

/// A command that cannot be performed as it was written.
pub fn usage<T>(message: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Usage(message.into()))
}

/// Writes one answer. If nobody reads any more, there is nobody to tell either.
pub fn say(reply: &Reply) {
    let mut text = String::new();
    let written = match reply {
        Ok(Answer::Silent) => return,
        Ok(Answer::Values(values)) if values.is_empty() => writeln!(text, "ok"),
        Ok(Answer::Values(values)) => writeln!(text, "ok {values}"),
        Ok(Answer::Text(lines)) => writeln!(text, "{lines}ok"),
        Ok(Answer::Verbatim(line)) => writeln!(text, "{line}"),
        Err(failure) => writeln!(text, "error {failure}"),
    };
    let mut out = io::stdout().lock();
    if written.is_err() || out.write_all(text.as_bytes()).is_err() || out.flush().is_err() {
        std::process::exit(1);
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel { errno, operation } => {
                // std spells it "Text (os error N)"; the number stands in its own column here.
                let text = io::Error::from_raw_os_error(*errno).to_string();
                let text = text.split(" (os error").next().unwrap_or_default();
                write!(f, "{} {errno} {operation}: {text}", errno_name(*errno))
            }
            Self::Usage(message) => write!(f, "USAGE 0 {message}"),
        }
    }
}

macro_rules! names {
    ($($name:ident)*) => {
        /// The errnos that scenarios meet; any other is shown as its number.
        pub fn errno_name(errno: i32) -> String {
            match errno {
                $(libc::$name => stringify!($name).to_owned(),)*
                other => format!("E{other}"),
            }
        }
    };
}

names! {
    E2BIG EACCES EAGAIN EBADF EBADFD EBUSY ECHILD ECONNRESET EEXIST EFAULT EFBIG EINTR EINVAL EIO
    EISDIR ELOOP EMFILE EMSGSIZE ENETDOWN ENETUNREACH ENFILE ENODEV ENOENT ENOLCK ENOMEM ENOSPC
    ENOSYS ENOTCONN ENOTDIR ENOTTY ENXIO EOPNOTSUPP EOVERFLOW EPERM EPIPE EROFS ESRCH ETIMEDOUT
    ETXTBSY EXDEV
}
