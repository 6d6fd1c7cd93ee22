//! What is said on stderr while a command runs: each call that is not just let through.

use lease_trace_common::stake::pins;

pub use crate::sinks::terminal::say;

use super::{call::Call, process::Caller};
use crate::{
    enrich::{Names, process},
    record::FilePath,
    sinks::text,
    tracer::snapshot::StakeView,
};

/// `client[4711]`.
pub fn who(tgid: u32) -> String {
    let comm = process::comm(tgid).unwrap_or_else(|| "?".to_owned());
    format!("{}[{tgid}]", text::escape(comm.as_bytes()))
}

/// `close(10) of client[4711]`, and of which thread, if not the first.
pub fn call(call: &Call, caller: Caller) -> String {
    let Caller { tid, tgid } = caller;
    let thread = if tid == tgid {
        String::new()
    } else {
        format!(" (thread {tid})")
    };
    format!("{} of {}{thread}", call.text(), who(tgid))
}

/// `256 pins on /srv/f through io_uring (11 [io_uring])`, and whose, if not the caller's.
pub fn pinned(stake: &StakeView, caller: u32, names: &mut Names) -> String {
    let owner = stake.key.tgid;
    let of = if owner == caller {
        String::new()
    } else {
        format!(" of {}", who(owner))
    };
    let path = stake.inode.path.as_deref().and_then(FilePath::of);
    let (path, deleted) = text::path(path.as_ref());
    let source = names.source(owner, &stake.stake.stack, &stake.stake.context);
    let through = source.consumer.as_deref().map_or_else(String::new, |name| {
        let context = text::context(&source).map_or_else(String::new, |fd| format!(" ({fd})"));
        format!(" through {}{context}", text::escape(name.as_bytes()))
    });
    let count = text::counted(pins(stake.stake.word), "pin");
    format!("{count}{of} on {path}{deleted}{through}")
}
