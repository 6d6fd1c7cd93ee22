//! Sinks: what becomes of records. They write what they are given and decide nothing.

pub mod columns;
mod grid;
pub mod journal;
pub mod json;
pub mod metrics;
pub mod pins;
pub mod report;
pub mod sentence;
pub mod table;
pub mod terminal;
pub mod text;
pub mod top;
mod words;

use std::io;

use crate::record::Record;

/// A format for the records of `monitor`.
pub trait Sink {
    fn write(&mut self, record: &Record) -> Result<(), WriteError>;

    /// Hands over everything written so far.
    fn flush(&mut self) -> Result<(), WriteError>;
}

/// Each record to each of them.
pub struct Several(pub Vec<Box<dyn Sink>>);

impl Sink for Several {
    fn write(&mut self, record: &Record) -> Result<(), WriteError> {
        self.0.iter_mut().try_for_each(|sink| sink.write(record))
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        self.0.iter_mut().try_for_each(|sink| sink.flush())
    }
}

/// The output took no more: a closed pipe, which is a success, or a full disk, which is not.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the output: {0}; make room there, or send it elsewhere")]
pub struct WriteError(pub io::Error);

impl From<io::Error> for WriteError {
    fn from(error: io::Error) -> Self {
        Self(error)
    }
}
