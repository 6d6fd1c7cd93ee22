//! A report, all of it at once: a table without lines, raw columns, or one JSON object.

use std::io::Write;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::{WriteError, columns::Column, grid, json};
use crate::{
    entries::Subject,
    record::{Entry, Lost},
    tracer::snapshot::Source,
};

/// How to lay out a table.
pub type Layout = grid::Layout<Column>;

/// What is reported.
pub struct Report {
    pub subject: Subject,
    pub entries: Vec<Entry>,
    pub source: Option<Source>,
    /// Pins are those that a survey found.
    pub is_surveyed: bool,
    pub lost: Vec<Lost>,
}

impl Report {
    /// One JSON object, described by docs/ndjson.schema.json.
    pub fn json(&self, out: &mut impl Write) -> Result<(), WriteError> {
        json::page(self, out)?;
        Ok(out.flush()?)
    }

    /// The same in one line.
    pub fn json_line(&self, out: &mut impl Write) -> Result<(), WriteError> {
        serde_json::to_writer(&mut *out, self).map_err(std::io::Error::from)?;
        out.write_all(b"\n")?;
        Ok(out.flush()?)
    }

    /// The usual columns, and who holds files if any is held.
    fn usual(&self) -> Vec<Column> {
        let mut columns = Column::usual(self.subject).to_vec();
        if self.entries.iter().any(|entry| entry.held_by.is_some()) {
            columns.push(Column::HeldBy);
        }
        columns
    }

    /// Columns, `layout` as asked for.
    pub fn table(&self, layout: &Layout, out: &mut impl Write) -> Result<(), WriteError> {
        layout.write(self.usual(), &self.entries, Column::cell, out)
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self {
            subject,
            entries,
            source,
            is_surveyed,
            lost,
        } = self;
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry(subject.name(), entries)?;
        let monitor = match source {
            Some(Source::Monitor(pid)) => Some(pid),
            Some(Source::Enforcement) | None => None,
        };
        object.serialize_entry("monitor", &monitor)?;
        object.serialize_entry("enforcement", &matches!(source, Some(Source::Enforcement)))?;
        object.serialize_entry("surveyed", is_surveyed)?;
        object.serialize_entry("lost", lost)?;
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::{
        fixtures,
        record::Holder,
        schema,
        sinks::{terminal::Look, text},
    };

    fn report(subject: Subject) -> Report {
        let zombie = fixtures::entry();
        let mut other = fixtures::entry();
        other.owner = fixtures::owner(1_048_577, "ib_write_bw");
        other.file = fixtures::file("/mnt/a b");
        other.age_ms = Some(90_000_000);
        other.source.consumer = Some("rdma_rxe".to_owned());
        if subject == Subject::Leases {
            other.pins = None;
            other.vm_pin_bytes = Some(3 << 20);
            other.cause = None;
            other.source.consumer = None;
            other.holders = Some(vec![
                Holder {
                    process: fixtures::process(982, "fio"),
                    fd: Some(3),
                },
                Holder {
                    process: fixtures::process(983, "fio child"),
                    fd: None,
                },
            ]);
        }
        Report {
            subject,
            entries: vec![zombie, other],
            source: Some(Source::Monitor(812)),
            is_surveyed: false,
            lost: Vec::new(),
        }
    }

    fn layout(width: Option<usize>) -> Layout {
        Layout {
            columns: None,
            headings: true,
            raw: false,
            look: Look {
                width,
                colour: false,
            },
        }
    }

    fn table(report: &Report, layout: &Layout) -> String {
        let mut out = Vec::new();
        report.table(layout, &mut out).expect("a Vec takes it");
        String::from_utf8(out).expect("escaped")
    }

    #[test]
    fn all_columns_go_to_a_pipe() {
        assert_snapshot!(table(&report(Subject::Zombies), &layout(None)), @r#"
        COMMAND         PID KIND  MODE  CAUSE    AGE PINS SIZE CONSUMER CONTEXT       DEV   INODE PATH
        fio             982 lease write unlock 12.3s  256   1M io_uring 15 [io_uring] 0:45 131090 /srv/database/segments/000017.hot.db
        ib_write_bw 1048577 lease write unlock 1d01h  256   1M rdma_rxe 15 [io_uring] 0:45 131090 /mnt/a b
        "#);
    }

    #[test]
    fn a_narrow_terminal_gets_what_matters() {
        let shown = table(&report(Subject::Zombies), &layout(Some(80)));
        assert!(shown.lines().all(|line| text::width(line) <= 80));
        assert_snapshot!(shown, @r#"
        COMMAND         PID MODE  CAUSE    AGE PINS SIZE CONSUMER PATH
        fio             982 write unlock 12.3s  256   1M io_uring /srv/da…/000017.hot.db
        ib_write_bw 1048577 write unlock 1d01h  256   1M rdma_rxe /mnt/a b
        "#);
    }

    #[test]
    fn leases_name_their_holders() {
        assert_snapshot!(table(&report(Subject::Leases), &layout(None)), @r#"
        COMMAND         PID KIND  MODE    AGE  PINS SIZE CONSUMER DEV   INODE PATH                                 HOLDERS
        fio             982 lease write 12.3s   256   1M io_uring 0:45 131090 /srv/database/segments/000017.hot.db ?
        ib_write_bw 1048577 lease write 1d01h ?(3M)   1M ?        0:45 131090 /mnt/a b                             982,fio,3
                                                                                                                   983,fio child,mem
        "#);
    }

    #[test]
    fn stakes_have_a_state() {
        assert_snapshot!(table(&report(Subject::Stakes), &layout(Some(100))), @r#"
        COMMAND         PID STATE  MODE    AGE PINS SIZE CONSUMER CONTEXT       PATH
        fio             982 zombie write 12.3s  256   1M io_uring 15 [io_uring] /srv/data…ents/000017.hot.db
        ib_write_bw 1048577 zombie write 1d01h  256   1M rdma_rxe 15 [io_uring] /mnt/a b
        "#);
    }

    #[test]
    fn raw_columns_are_for_scripts() {
        let columns = vec![Column::Pid, Column::Path, Column::Holders, Column::Releaser];
        let layout = Layout {
            columns: Some(columns),
            headings: false,
            raw: true,
            ..layout(None)
        };
        assert_snapshot!(table(&report(Subject::Leases), &layout), @r#"
        982 /srv/database/segments/000017.hot.db ? 983,fio-child
        1048577 /mnt/a\x20b 982,fio,3\x0a983,fio\x20child,mem 983,fio-child
        "#);
    }

    #[test]
    fn nothing_is_a_line_of_headings_or_nothing() {
        let nothing = Report {
            entries: Vec::new(),
            ..report(Subject::Zombies)
        };
        let shown = table(&nothing, &layout(None));
        assert!(shown.starts_with("COMMAND PID KIND") && shown.lines().count() == 1);
        let bare = Layout {
            headings: false,
            ..layout(None)
        };
        assert_eq!(table(&nothing, &bare), "");
    }

    #[test]
    fn json_keeps_to_the_schema() {
        let validator = schema::validator("report");
        for subject in [Subject::Zombies, Subject::Leases, Subject::Stakes] {
            let mut out = Vec::new();
            report(subject).json(&mut out).expect("a Vec takes it");
            let text = String::from_utf8(out).expect("JSON is UTF-8");
            schema::assert_valid(&validator, &text);
        }
    }
}
