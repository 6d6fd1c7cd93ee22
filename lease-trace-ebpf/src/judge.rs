//! Policy and verdict. The only directory that can deny or signal.

pub mod before;
pub mod last_cover;
pub mod moments;
pub mod orphans;
pub mod paths;
pub mod rules;
pub mod verdicts;
