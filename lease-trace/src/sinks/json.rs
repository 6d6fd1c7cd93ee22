//! NDJSON: one object a line, described by docs/ndjson.schema.json.

use std::io::{self, Write};

use serde::Serialize;

use super::{Sink, WriteError};
use crate::record::Record;

/// One object for all there is, over several lines.
pub fn page(value: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    writeln!(out)
}

/// Writes to any `Write`.
pub struct Json<W> {
    out: W,
}

impl<W: Write> Json<W> {
    pub const fn new(out: W) -> Self {
        Self { out }
    }

    #[cfg(test)]
    pub fn into_inner(self) -> W {
        self.out
    }
}

impl<W: Write> Sink for Json<W> {
    fn write(&mut self, record: &Record) -> Result<(), WriteError> {
        serde_json::to_writer(&mut self.out, record).map_err(std::io::Error::from)?;
        Ok(self.out.write_all(b"\n")?)
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        Ok(self.out.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::{fixtures, schema};

    fn lines() -> String {
        let mut sink = Json::new(Vec::new());
        for record in fixtures::records() {
            sink.write(&record).expect("a Vec takes it");
        }
        sink.flush().expect("a Vec takes it");
        String::from_utf8(sink.out).expect("JSON is UTF-8")
    }

    #[test]
    fn every_record_keeps_to_the_schema() {
        let validator = schema::validator("event");
        for line in lines().lines() {
            schema::assert_valid(&validator, line);
        }
    }

    #[test]
    fn one_object_a_line() {
        assert_snapshot!(lines(), @r#"
        {"time":"2026-03-04T08:15:00.001500Z","event":"start","pid":812,"kernel":"6.12.117+deb13-amd64","attach":["generic_setlease: fentry+fexit","lease_modify: fentry","pin_user_pages: fentry+fexit","pin_user_pages_fast: fentry+fexit","unpin_user_page: kprobe"],"cannot":["pins through folio_add_pins: this kernel has no folio_add_pins"],"recovered":"removed a directory that a dead monitor had left","policy":{"mode":"enforce","rules":["rdma-exports"],"generation":2}}
        {"time":"2026-03-04T08:15:01.001500Z","event":"lease-set","pid":982,"comm":"fio","uid":1000,"cgroup":"/system.slice/db.service","unit":"db.service","path":"/tmp/f","dev":"0:45","ino":131090,"lease":{"kind":"lease","mode":"write"}}
        {"time":"2026-03-04T08:15:02.001500Z","event":"zombie","pid":4711,"comm":"rdma-client","uid":1000,"cgroup":"/system.slice/db.service","unit":"db.service","releaser":{"pid":4711,"comm":"rdma-client"},"path":"/srv/database/segments/000017.hot.db","dev":"0:45","ino":131090,"lease":{"kind":"lease","mode":"write","held_ms":10000},"cause":"unlock","pins":256,"consumer":"rdma_rxe","device":"rxe0","context_fd":15,"context":"/dev/infiniband/uverbs0","ends_by_itself":false}
        {"time":"2026-03-04T08:15:03.001500Z","event":"zombie","pid":982,"comm":"fio","uid":1000,"cgroup":"/system.slice/db.service","unit":"db.service","releaser":{"pid":983,"comm":"fio-child"},"breaker":{"pid":77,"comm":"cp"},"path":"/tmp/f","dev":"0:45","ino":131090,"lease":{"kind":"lease","mode":"write"},"cause":"break-timeout","pins":4096,"consumer":"io_uring","context_fd":15,"context":"[io_uring]","ends_by_itself":false}
        {"time":"2026-03-04T08:15:04.001500Z","event":"zombie","pid":1048577,"comm":"ib_write_bw","uid":1000,"cgroup":"/system.slice/db.service","unit":"db.service","releaser":{"pid":1048577,"comm":"ib_write_bw"},"path":"/tmp/a\nb","deleted":true,"dev":"0:45","ino":131090,"lease":{"kind":"lease","mode":"write","held_ms":10000},"cause":"killed","pins":8,"consumer":"vfio","context_fd":15,"context":"/dev/infiniband/uverbs0","ends_by_itself":true}
        {"time":"2026-03-04T08:15:05.001500Z","event":"bare-pin","pid":5,"comm":"xdpsock","uid":1000,"cgroup":"/system.slice/db.service","unit":"db.service","path":"…/f","dev":"0:45","ino":131090,"pins":64}
        {"time":"2026-03-04T08:15:07.001500Z","event":"bare-pin-end","pid":5,"comm":"xdpsock","uid":1000,"cgroup":"/system.slice/db.service","unit":"db.service","releaser":{"pid":6,"comm":"kworker/u8:1"},"path":"…/f","dev":"0:45","ino":131090,"pins":64,"pinned_ms":1500}
        {"time":"2026-03-04T08:15:06.001500Z","event":"orphaned-pin","pid":982,"comm":"fio","uid":1000,"cgroup":"/system.slice/db.service","unit":"db.service","path":"/tmp/f","dev":"0:45","ino":131090,"lease":{"kind":"lease","mode":"write","held_ms":10000},"pins":4096,"consumer":"io_uring","context_fd":15,"context":"[io_uring]","holders":[{"pid":983,"comm":"fio-child","fd":3}]}
        {"time":"2026-03-04T08:15:08.001500Z","event":"orphan-end","pid":982,"comm":"fio","uid":1000,"cgroup":"/system.slice/db.service","unit":"db.service","path":"/tmp/f","dev":"0:45","ino":131090,"lease":{"kind":"lease","mode":"write","held_ms":10000},"pins":4096,"consumer":"io_uring","context_fd":15,"context":"[io_uring]","outcome":"pins-gone","orphaned_ms":2000}
        {"time":"2026-03-04T08:15:14.001500Z","event":"at-rest","pid":4711,"comm":"rdma-client","uid":1000,"cgroup":"/system.slice/db.service","unit":"db.service","releaser":{"pid":77,"comm":"kworker/u8:3"},"path":"/srv/database/segments/000017.hot.db","dev":"0:45","ino":131090,"lease":{"kind":"lease","mode":"write","held_ms":10000},"cause":"unlock","pins":256,"consumer":"rdma_rxe","context_fd":15,"context":"/dev/infiniband/uverbs0","ends_by_itself":false,"zombie_ms":12340}
        {"time":"2026-03-04T08:15:15.001500Z","event":"lease-end","pid":982,"comm":"fio","uid":1000,"cgroup":"/system.slice/db.service","unit":"db.service","releaser":{"pid":982,"comm":"fio"},"path":"/tmp/f","dev":"0:45","ino":131090,"lease":{"kind":"lease","mode":"write","held_ms":10000},"cause":"close"}
        {"time":"2026-03-04T08:15:15.001500Z","event":"denied","pid":4711,"comm":"rdma-client","uid":1000,"cgroup":"/system.slice/db.service","unit":"db.service","releaser":{"pid":4711,"comm":"rdma-client"},"path":"/srv/f","dev":"0:45","ino":131090,"lease":{"kind":"lease","mode":"write","held_ms":10000},"cause":"close","pins":256,"rule":"rdma-exports","action":"deny","outcome":"done","thread":4712,"stack":["lease_modify","generic_setlease"]}
        {"time":"2026-03-04T08:15:15.001500Z","event":"would-kill","pid":4711,"comm":"rdma-client","uid":1000,"cgroup":"/system.slice/db.service","unit":"db.service","releaser":{"pid":4711,"comm":"rdma-client"},"path":"/srv/f","dev":"0:45","ino":131090,"lease":{"kind":"lease","mode":"write","held_ms":10000},"cause":"close","pins":256,"rule":"rdma-exports","action":"kill","outcome":"would","thread":4712,"stack":["lease_modify","generic_setlease"]}
        {"time":"2026-03-04T08:15:15.001500Z","event":"spared","pid":4711,"comm":"rdma-client","uid":1000,"cgroup":"/system.slice/db.service","unit":"db.service","releaser":{"pid":4711,"comm":"rdma-client"},"path":"/srv/f","dev":"0:45","ino":131090,"lease":{"kind":"lease","mode":"write","held_ms":10000},"cause":"close","pins":256,"rule":"rdma-exports","action":"kill","outcome":"bystander","thread":4712,"stack":["lease_modify","generic_setlease"]}
        {"time":"2026-03-04T08:15:15.001500Z","event":"hold-end","pid":4711,"comm":"rdma-client","uid":1000,"cgroup":"/system.slice/db.service","unit":"db.service","releaser":{"pid":4711,"comm":"rdma-client"},"path":"/srv/f","dev":"0:45","ino":131090,"lease":{"kind":"lease","mode":"write","held_ms":10000},"cause":"close","pins":256,"rule":"rdma-exports","action":"hold","outcome":"limit","thread":4712,"stack":["lease_modify","generic_setlease"]}
        {"time":"2026-03-04T08:15:16.001500Z","event":"corrected","path":"/tmp/f","dev":"0:45","ino":131090,"pins_counted":5,"pins_found":0}
        {"time":"2026-03-04T08:15:16.001500Z","event":"lost","what":"notifications found no room in the ring buffer","count":3}
        {"time":"2026-03-04T08:15:20.001500Z","event":"end","events":5,"by_event":{"zombie":3,"at-rest":1,"bare-pin":1},"lost":3,"zombies":1,"cross_check":{"taken":900,"dropped":644,"kernel_taken":903,"kernel_dropped":644,"escaped":3},"rules":{"rdma-exports":{"denied":1,"would-kill":1}}}
        "#);
    }
}
