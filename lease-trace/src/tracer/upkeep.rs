//! What a monitor has looked at again and again: the books against the page caches, what is over and no hook saw, what is
//! left of threads, and orphans that rules are about. Each goes on until it cannot.

use std::time::Duration;

use aya::maps::MapData;
use lease_trace_common::stake::StakeKey;

use super::{
    lapsed::Lister,
    left_over::LeftOver,
    maps::Maps,
    orphans::Judge,
    proof::{Look, Prover},
};
use crate::kernel::limits;

pub struct Upkeep {
    prover: Option<Prover>,
    listers: Vec<Lister>,
    left_over: Option<LeftOver>,
    judge: Option<Judge>,
}

impl Upkeep {
    /// Of the directory in bpffs, as far as it has the files.
    pub fn open() -> Self {
        Self {
            prover: Prover::open(),
            listers: Lister::open_all(),
            left_over: LeftOver::open(),
            judge: Judge::open(),
        }
    }

    /// Lets leases and calls end whose end no hook saw, each for this long, and takes out what else is left of threads;
    /// whether all were looked at. What keeps it from that is told once.
    pub fn end_lapsed(&mut self, limit: Duration) -> bool {
        let mut is_whole = true;
        if let Some(Err(error)) = self.left_over.as_mut().map(LeftOver::remove) {
            log::warn!("what a missed hook left of threads is kept from now on: {error}");
            self.left_over = None;
        }
        self.listers.retain_mut(|lister| match lister.look(limit) {
            Ok(whole) => {
                is_whole &= whole;
                true
            }
            Err(error) => {
                log::warn!("{} from now on: {error}", lister.loss());
                false
            }
        });
        is_whole
    }

    /// Has these stakes, whose pins are orphaned, judged by the rules in force. What keeps it from that is told once.
    pub fn judge_orphans(&mut self, mut stakes: Vec<(StakeKey, u64)>) {
        // The pins of a process that has ended are nobody's breach.
        stakes.retain(|(key, _)| limits::has_thread(key.tgid));
        if stakes.is_empty() {
            return;
        }
        if let Some(Err(error)) = self.judge.as_mut().map(|judge| judge.judge(&stakes)) {
            log::warn!("no rule is applied to orphaned pins from now on: {error}");
            self.judge = None;
        }
    }

    /// Holds the books against the page caches for this long; nothing where that cannot be. What keeps it from
    /// that is told once.
    pub fn prove(&mut self, maps: &Maps<MapData>, limit: Duration) -> Option<Look> {
        let prover = self.prover.as_mut().filter(|prover| prover.is_in_place())?;
        let look = prover.look(maps, limit);
        look.inspect_err(|error| {
            log::warn!("counts that a missed hook left wrong stay wrong from now on: {error}");
            self.prover = None;
        })
        .ok()
    }

    /// Files that had fewer pins than are counted, in the last whole look at all of them.
    pub fn doubtful(&self) -> usize {
        self.prover.as_ref().map_or(0, Prover::doubtful)
    }
}
