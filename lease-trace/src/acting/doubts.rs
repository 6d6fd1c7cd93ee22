//! Breaches that were let go on doubt: judged again once the books are proved.

use lease_trace_common::{
    event::Event,
    policy::Action,
    stake::{State, state},
};

use crate::tracer::{self, Tracer};

/// One of them.
struct Doubt {
    action: Action,
    event: Event,
    path: Vec<u8>,
    /// A walk over the inodes has begun since.
    is_settled: bool,
}

/// Those that are not judged yet.
#[derive(Default)]
pub struct Doubts(Vec<Doubt>);

impl Doubts {
    pub fn add(&mut self, action: Action, event: &Event, path: Vec<u8>) {
        self.0.push(Doubt {
            action,
            event: *event,
            path,
            is_settled: false,
        });
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a walk finds from here on is newer than those there are.
    pub fn walk_ended(&mut self) {
        for doubt in &mut self.0 {
            doubt.is_settled = true;
        }
    }

    /// Those of inodes whose books were found right, if their pins are there still; the others of these inodes
    /// are forgotten.
    pub fn proved(
        &mut self,
        right: &[u64],
        tracer: &Tracer,
    ) -> Result<Vec<(Action, Event, Vec<u8>)>, tracer::Error> {
        let is_proved = |doubt: &Doubt| doubt.is_settled && right.contains(&doubt.event.inode_id);
        let proved: Vec<_> = self.0.extract_if(.., |doubt| is_proved(doubt)).collect();
        if proved.is_empty() {
            return Ok(Vec::new());
        }
        let stakes = tracer.stakes()?;
        let is_zombie = |event: &Event| {
            stakes.iter().any(|view| {
                (view.key.tgid, view.key.inode) == (event.owner.tgid, event.inode_id)
                    && view.stake.started_ns == event.started_ns
                    && state(view.stake.word) == State::Zombie
            })
        };
        let judged = proved.into_iter().filter(|doubt| is_zombie(&doubt.event));
        Ok(judged
            .map(|doubt| (doubt.action, doubt.event, doubt.path))
            .collect())
    }
}
