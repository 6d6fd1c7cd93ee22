//! Who refers to leased files now, asked by a running monitor.

use std::collections::BTreeMap;

use super::{
    Tracer,
    error::Error,
    orphaned::{Held, is_candidate},
    snapshot::{Everybody, Holder, Leased, StakeView},
};

impl Tracer {
    /// The references that the owners of these pins have to leased files, as far as it takes to
    /// tell who of them is covered.
    pub fn holders_of(&self, stakes: &[StakeView], leased: &Leased) -> Result<Vec<Holder>, Error> {
        let mut by_process: BTreeMap<u32, Vec<&StakeView>> = BTreeMap::new();
        for view in stakes.iter().filter(|view| is_candidate(view)) {
            by_process.entry(view.key.tgid).or_default().push(view);
        }
        let mut holders = Vec::new();
        for (tgid, stakes) in by_process {
            let covered = |found: &[Holder]| {
                let held = Held::new(leased, found);
                stakes.iter().all(|view| held.covers(view))
            };
            match self.walker.process(tgid, covered) {
                Ok(found) => holders.extend(found),
                Err(error) => {
                    log::debug!("cannot walk over process {tgid} alone: {error}");
                    return self.walker.all();
                }
            }
        }
        Ok(holders)
    }

    /// Everybody's, and of which leases these are all.
    pub fn everybody(&self) -> Result<Everybody, Error> {
        self.walker.everybody()
    }

    /// Everybody's.
    pub fn holders(&self) -> Result<Vec<Holder>, Error> {
        self.walker.all()
    }
}
