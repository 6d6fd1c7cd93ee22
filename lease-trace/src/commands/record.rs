//! `lease-trace record`: a monitor of everything, whose records go to a file.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    path::Path,
};

use anyhow::Context as _;

use super::{monitor, say};
use crate::{
    cli::{CrossCheckFlags, FilesFlags, Format, MonitorFlags, RecordFlags},
    exit::Exit,
    sinks::{Sink, json::Json},
};

pub fn run(flags: &RecordFlags) -> anyhow::Result<Exit> {
    let RecordFlags {
        file,
        filter,
        duration,
        pins,
        attach,
        capacity,
    } = flags;
    let monitor = MonitorFlags {
        output: Format::Json,
        all_events: true,
        filter: filter.clone(),
        duration: duration.clone(),
        pins: *pins,
        cross_check: CrossCheckFlags::default(),
        policy: None,
        metrics: None,
        attach: attach.clone(),
        files: FilesFlags::default(),
        capacity: capacity.clone(),
    };
    let exit = monitor::run_into(&monitor, |_| {
        let out = BufWriter::new(Replaced::open(file)?);
        Ok(Box::new(Json::new(out)) as Box<dyn Sink>)
    })?;
    let file = file.display();
    say(&format!(
        "the record is in {file}; draw it: lease-trace plot {file} -o timeline.svg"
    ));
    Ok(exit)
}

/// A file that loses its old contents when the first new ones come, so that a monitor that cannot
/// start leaves an older record alone.
struct Replaced {
    file: File,
    begun: bool,
}

impl Replaced {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(false);
        let file = options
            .open(path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { file, begun: false })
    }
}

impl Write for Replaced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A pipe or a terminal has no length to set.
        if !self.begun && self.file.metadata()?.is_file() {
            self.file.set_len(0)?;
        }
        self.begun = true;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_record_goes_when_a_new_one_comes() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("record");
        let contents = || std::fs::read_to_string(&path).expect("reads");
        std::fs::write(&path, "an old record").expect("writes");
        let mut file = Replaced::open(&path).expect("opens");
        assert_eq!(contents(), "an old record");
        file.write_all(b"new").expect("writes");
        file.write_all(b"er").expect("writes");
        assert_eq!(contents(), "newer");
    }
}
