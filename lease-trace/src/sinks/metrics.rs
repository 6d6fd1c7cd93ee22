//! Metrics for Prometheus; docs/metrics.md has each with its meaning.
//!
//! What happened is counted as its records pass ([`counted`]); what there is now is read from the
//! maps when somebody asks ([`current`]). [`server`] hands the text out. Labels are words of a
//! bounded number, never paths, names of processes or pids.

pub mod address;
mod counted;
pub mod current;
pub mod server;
mod words;

use std::{cell::RefCell, rc::Rc};

use hyper::body::Bytes;
use prometheus_client::{
    encoding::{EncodeLabelSet, prometheus_text, text},
    metrics::info::Info,
    registry::Registry,
};

use self::{counted::Counted, current::Current, server::Page, words::Words};
use super::{Sink, WriteError};
use crate::record::Record;

/// Begins every name.
const PREFIX: &str = "lease_trace";

/// All metrics of a run.
pub struct Metrics {
    registry: Registry,
    counted: Counted,
    current: Current,
    consumers: Words,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

impl Metrics {
    /// `points`: watched, and not to be watched here; `None` where that is not known.
    pub fn new(points: Option<(usize, usize)>) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let build = Build {
            version: env!("CARGO_PKG_VERSION"),
        };
        registry.register("build", "The lease-trace that runs", Info::new(build));
        let current = Current::register(&mut registry, points);
        let counted = Counted::register(&mut registry);
        Self {
            registry,
            counted,
            current,
            consumers: Words::of_consumers(),
        }
    }

    /// Enters what there is now. `consumer` names who asked for the pins of a stack.
    pub fn enter(
        &mut self,
        figures: &current::Figures<'_>,
        consumer: impl FnMut(&current::Stack) -> Option<String>,
    ) {
        self.current.enter(figures, &mut self.consumers, consumer);
        self.counted.lost.enter(figures.counts);
    }

    /// The text of all of them, in both forms.
    pub fn page(&self) -> Result<Page, std::fmt::Error> {
        let (mut open, mut plain) = (String::new(), String::new());
        text::encode(&mut open, &self.registry)?;
        prometheus_text::encode(&mut plain, &self.registry)?;
        Ok(Page {
            open: Bytes::from(open),
            plain: Bytes::from(plain),
        })
    }
}

/// The metrics as one of the sinks of a session, which the event loop reads, too.
impl Sink for Rc<RefCell<Metrics>> {
    fn write(&mut self, record: &Record) -> Result<(), WriteError> {
        let Metrics {
            counted, consumers, ..
        } = &mut *self.borrow_mut();
        counted.enter(record, consumers);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        Ok(())
    }
}

#[cfg(test)]
mod metrics_tests;
