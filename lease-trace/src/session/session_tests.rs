//! Runs of made-up notifications.

use std::{cell::RefCell, io, rc::Rc};

use serde_json::Value;

use super::*;
use crate::{enrich::cgroup::Cgroups, fixtures, schema, sinks::json::Json};

/// A writer whose text can be read while the session has it.
#[derive(Clone, Default)]
struct Page(Rc<RefCell<Vec<u8>>>);

impl io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Page {
    /// The records so far, each held to the schema.
    fn records(&self) -> Vec<Value> {
        let text = String::from_utf8(self.0.borrow().clone()).expect("JSON is UTF-8");
        let validator = schema::validator("event");
        text.lines()
            .map(|line| {
                schema::assert_valid(&validator, line);
                serde_json::from_str(line).expect("JSON")
            })
            .collect()
    }

    fn events(&self) -> Vec<String> {
        let records = self.records();
        let events = records.iter().filter_map(|record| record["event"].as_str());
        events.map(str::to_owned).collect()
    }
}

fn session(all_events: bool, filter: Filter) -> (Session, Page) {
    let page = Page::default();
    let sink = Box::new(Json::new(page.clone()));
    let names = Names::new(Cgroups::default());
    (Session::new(sink, filter, names, all_events), page)
}

fn notifications() -> Vec<Vec<u8>> {
    [
        EventKind::LeaseSet,
        EventKind::LeaseEnd,
        EventKind::Zombie,
        EventKind::AtRest,
        EventKind::BarePin,
    ]
    .map(|kind| fixtures::raw(&fixtures::event(kind), b"/srv/f"))
    .into()
}

#[test]
fn leases_are_told_only_when_asked_for() {
    let (mut session, page) = session(false, Filter::default());
    session.batch(&notifications()).expect("a Vec takes it");
    assert_eq!(page.events(), ["zombie", "at-rest", "bare-pin"]);
}

#[test]
fn all_events_are_all() {
    let (mut session, page) = session(true, Filter::default());
    session.batch(&notifications()).expect("a Vec takes it");
    assert_eq!(
        page.events(),
        ["lease-set", "lease-end", "zombie", "at-rest", "bare-pin"]
    );
}

#[test]
fn what_the_filter_refuses_is_neither_shown_nor_counted() {
    let asked = crate::filter::Asked {
        path: Some("/no/such/directory".into()),
        ..Default::default()
    };
    let filter = Filter::resolve(&asked, &Cgroups::default()).expect("possible");
    let (mut session, page) = session(true, filter);
    session.batch(&notifications()).expect("a Vec takes it");
    session.end(None, None).expect("a Vec takes it");
    let records = page.records();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0]["events"], 0);
}

#[test]
fn a_run_is_framed_by_start_and_end() {
    let (mut session, page) = session(false, Filter::default());
    let start = Start {
        pid: 1,
        kernel: "6.12".to_owned(),
        attach: vec!["lease_modify: fentry".to_owned()],
        cannot: Vec::new(),
        recovered: None,
        policy: None,
    };
    session.start(start).expect("a Vec takes it");
    session
        .batch(&notifications()[2..3])
        .expect("a Vec takes it");
    session.end(None, None).expect("a Vec takes it");
    assert_eq!(page.events(), ["start", "zombie", "end"]);
    let end = &page.records()[2];
    assert_eq!(end["by_event"], serde_json::json!({"zombie": 1}));
    assert_eq!(end["zombies"], 1, "the ledger's, for want of a snapshot");
}

#[test]
fn losses_are_told_when_they_grow() {
    let (mut session, page) = session(false, Filter::default());
    let mut counts = [0; Count::LEN];
    counts[Count::Events as usize] = 9;
    session.losses(&counts).expect("a Vec takes it");
    counts[Count::LostRing as usize] = 2;
    session.losses(&counts).expect("a Vec takes it");
    session.losses(&counts).expect("a Vec takes it");
    counts[Count::LostRing as usize] = 5;
    session.losses(&counts).expect("a Vec takes it");
    session.end(None, None).expect("a Vec takes it");
    let records = page.records();
    let counted: Vec<_> = records
        .iter()
        .filter_map(|record| record["count"].as_u64())
        .collect();
    assert_eq!(counted, [2, 3]);
    assert_eq!(records[2]["lost"], 5);
}

#[test]
fn notifications_that_cannot_be_read_are_losses() {
    let (mut session, page) = session(false, Filter::default());
    let mut unknown = fixtures::event(EventKind::Zombie);
    unknown.kind = 99;
    let short = notifications()[0][..40].to_vec();
    let batch = [short, fixtures::raw(&unknown, b"/f")];
    session.batch(&batch).expect("a Vec takes it");
    let records = page.records();
    assert_eq!((records.len(), &records[0]["count"]), (1, &Value::from(2)));
}

#[test]
fn a_full_disk_ends_the_run() {
    struct Full;
    impl io::Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let names = Names::new(Cgroups::default());
    let sink = Box::new(Json::new(Full));
    let mut session = Session::new(sink, Filter::default(), names, false);
    let WriteError(error) = session
        .batch(&notifications())
        .expect_err("the disk is full");
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
}
