//! Maps and words: what is known. No notifications, no policy, no walks over kernel structures.

pub mod calls;
pub mod cross_check;
pub mod inodes;
pub mod leases;
pub mod losses;
pub mod maps;
pub mod policy;
pub mod shares;
pub mod stakes;
mod words;
