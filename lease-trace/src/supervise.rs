//! What `lease-trace run` is made of: the calls that can release a lease, held back until no pin
//! would be left uncovered.
//!
//! The command's threads are stopped at those calls by seccomp user notification ([`filter`],
//! [`listener`]); the [`supervisor`], a process of its own, reads each [`call`], finds out which open
//! file descriptions it would let go of ([`release`]) and answers. Should the supervisor die, the
//! [`guardian`] answers in its place. [`mod@start`] puts them side by side.
//!
//! It is a discipline for one's own programs, not a border: what a thread has in its registers is
//! looked at, and another thread can change what it points to. Whatever slips by is a zombie, and
//! is reported as any.

mod call;
mod filter;
mod guardian;
mod judge;
mod listener;
mod nr;
mod outstanding;
mod process;
mod release;
mod start;
mod supervisor;
mod tell;
mod witness;

pub use self::{
    guardian::OnDeath,
    judge::Judge,
    start::{Orders, Room, room, start},
};
