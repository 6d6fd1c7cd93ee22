//! Orders that wait, because fewer pins are in a file than its owners were counted, or some were not credited to
//! one of them: whose those are that are there is asked of the structures that keep them, as `lease-trace pins`
//! does.

use std::time::{Duration, Instant};

use lease_trace_common::survey::{Part, backing};

use super::Request;
use crate::tracer::{
    self,
    survey::{self, Survey},
};

/// How long a proof of the books is waited for: longer than it takes (`survey/proof.rs`).
const PATIENCE_NS: u64 = 3_000_000_000;
/// A survey goes through the descriptors of all processes.
const BETWEEN: Duration = Duration::from_secs(10);

/// The orders, and when it was asked last.
#[derive(Default)]
pub struct Doubts {
    surveyed: Option<Instant>,
}

/// An order that waits.
pub struct Waiting {
    pub request: Request,
    /// CLOCK_BOOTTIME, ns.
    pub given_ns: u64,
}

impl Doubts {
    /// Those for processes that have pins in the file by what keeps them. The others go on waiting.
    pub fn settled(
        &mut self,
        waiting: Vec<Waiting>,
        now_ns: u64,
    ) -> Result<Vec<Request>, tracer::Error> {
        let is_long = |order: &Waiting| now_ns.saturating_sub(order.given_ns) > PATIENCE_NS;
        let is_recent = self.surveyed.is_some_and(|then| then.elapsed() < BETWEEN);
        if is_recent || !waiting.iter().any(is_long) {
            return Ok(Vec::new());
        }
        let survey = survey::take(None)?;
        self.surveyed = Some(Instant::now());
        let settled = waiting.into_iter().filter(|order| {
            let event = &order.request.event;
            is_long(order) && has_pins(&survey, event.owner.tgid, event.dev, event.ino)
        });
        Ok(settled.map(|order| order.request).collect())
    }
}

/// Whether objects that are this process's, and nobody else's, have pins in this file.
fn has_pins(survey: &Survey, tgid: u32, dev: u32, ino: u64) -> bool {
    survey.objects.iter().any(|object| {
        let is_his = |part: &Part| match part.owner {
            0 => object.tgid == Some(tgid),
            owner => owner == tgid,
        };
        let in_file = |part: &Part| {
            part.backing == backing::FILE && (part.dev, part.ino) == (dev, ino) && part.pins > 0
        };
        !object.is_doubtful
            && object
                .parts
                .iter()
                .any(|pinned| is_his(&pinned.part) && in_file(&pinned.part) && !pinned.is_joint)
    })
}

#[cfg(test)]
mod tests {
    use lease_trace_common::survey::Kind;

    use super::*;
    use crate::tracer::survey::{Owner, Pinned};

    fn survey(tgid: Option<u32>, part: Part, is_joint: bool) -> Survey {
        let pinned = Pinned {
            part,
            driver: None,
            is_shared: false,
            is_joint,
        };
        let owner = Owner {
            kind: Kind::Ring,
            tgid,
            holders: Vec::new(),
            ino: 1,
            parts: vec![pinned],
            is_doubtful: false,
        };
        Survey {
            objects: vec![owner],
            held: [1, 1],
            unreadable: Vec::new(),
        }
    }

    #[test]
    fn pins_are_his_whose_object_keeps_them() {
        let part = Part {
            pins: 4,
            ino: 12,
            dev: 7,
            ..Part::default()
        };
        let his = |survey: &Survey| has_pins(survey, 4711, 7, 12);
        assert!(his(&survey(Some(4711), part, false)));
        assert!(!his(&survey(Some(4712), part, false)));
        assert!(!his(&survey(None, part, false)));
        assert!(
            !his(&survey(Some(4711), part, true)),
            "another has them, too"
        );
        assert!(!his(&survey(Some(4711), Part { ino: 13, ..part }, false)));
        assert!(!his(&survey(Some(4711), Part { pins: 0, ..part }, false)));
        let region = Part {
            owner: 4711,
            ..part
        };
        assert!(his(&survey(Some(1), region, false)));
    }
}
