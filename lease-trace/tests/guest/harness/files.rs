//! The files in bpffs, read.

use std::{collections::BTreeSet, fs};

use serde_json::Value;

/// Where they are.
pub const FILES: &str = "/sys/fs/bpf/lease-trace";

/// What a file says, as words.
pub struct Text {
    pub header: Vec<String>,
    pub rows: Vec<Vec<String>>,
}

impl Text {
    pub fn of(file: &str) -> Self {
        let path = format!("{FILES}/{file}");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        Self::read(&text)
    }

    fn read(text: &str) -> Self {
        assert!(text.ends_with('\n'), "{text}");
        let mut lines = text
            .lines()
            .map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        let header = lines.next().expect("a header");
        let rows: Vec<_> = lines.collect();
        for row in &rows {
            assert_eq!(row.len(), header.len(), "{row:?}\n{text}");
            assert_ne!(row, &header, "{text}");
        }
        Self { header, rows }
    }

    pub fn column(&self, name: &str) -> usize {
        let at = self.header.iter().position(|column| column == name);
        at.unwrap_or_else(|| panic!("no {name} in {:?}", self.header))
    }

    /// These columns of all rows, as a set of lines.
    pub fn lines(&self, columns: &[&str]) -> BTreeSet<String> {
        let at: Vec<_> = columns.iter().map(|name| self.column(name)).collect();
        let line = |row: &Vec<String>| {
            let words: Vec<_> = at.iter().map(|at| row[*at].as_str()).collect();
            words.join(" ")
        };
        let lines: BTreeSet<_> = self.rows.iter().map(line).collect();
        assert_eq!(lines.len(), self.rows.len(), "a row came twice");
        lines
    }

    /// The row of one process.
    pub fn row(&self, pid: i64) -> &[String] {
        let (pid, at) = (pid.to_string(), self.column("PID"));
        let mut rows = self.rows.iter().filter(|row| row[at] == pid);
        let row = rows.next().unwrap_or_else(|| panic!("{pid} has no row"));
        assert!(rows.next().is_none(), "{pid} has several rows");
        row
    }

    pub fn number(&self, pid: i64, column: &str) -> u64 {
        let word = &self.row(pid)[self.column(column)];
        word.parse().unwrap_or_else(|_| panic!("{column}: {word}"))
    }
}

/// The kernel, naming the consumer of a zombie's pins by itself, says the same as the monitor does.
/// They may be gone by now.
pub fn assert_file_agrees(zombie: &Value) {
    let text = Text::of("zombies");
    let words = |value: &Value| value.to_string().trim_matches('"').to_owned();
    let key = ["PID", "DEV", "INODE"].map(|name| text.column(name));
    let meant = [&zombie["pid"], &zombie["dev"], &zombie["ino"]].map(words);
    for row in &text.rows {
        if key.map(|at| row[at].clone()) == meant {
            let consumer = &row[text.column("CONSUMER")];
            assert_eq!(consumer, &words(&zombie["consumer"]), "{row:?}");
        }
    }
}
