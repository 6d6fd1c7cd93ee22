//! Records in, pictures out.

use insta::assert_snapshot;
use proptest::prelude::*;

use super::{
    follow::{Edge, Kind},
    html,
    read::read,
    svg,
    timeline::{self, Timeline},
};
use crate::{fixtures, sinks::Sink as _, sinks::json::Json};

/// Second of the record at which an event comes, its name, and more members.
fn line(second: &str, event: &str, more: &str) -> String {
    format!(
        r#"{{"time":"2026-03-04T08:15:{second}Z","event":"{event}","pid":4711,"comm":"db","path":"/srv/a.db","dev":"0:45","ino":7{more}}}"#
    )
}

fn timeline_of(lines: &[String]) -> Timeline {
    let text = lines.join("\n") + "\n";
    timeline::of(&read(text.as_bytes()), timeline::ROWS)
}

/// A start, a zombie, its rest, an end.
fn usual() -> Vec<String> {
    vec![
        line("00.000000", "start", r#","kernel":"6.12""#),
        line(
            "01.000000",
            "lease-set",
            r#","lease":{"kind":"lease","mode":"write"}"#,
        ),
        line(
            "05.000000",
            "lease-end",
            r#","lease":{"kind":"lease","mode":"write","held_ms":4000},"cause":"unlock""#,
        ),
        line(
            "05.000100",
            "zombie",
            r#","lease":{"kind":"lease","mode":"write","held_ms":4000},"cause":"unlock","pins":256,"consumer":"io_uring","pinned_ms":2500"#,
        ),
        line(
            "09.000100",
            "at-rest",
            r#","lease":{"kind":"lease","mode":"write","held_ms":4000},"cause":"unlock","pins":256,"consumer":"io_uring","zombie_ms":4000"#,
        ),
        // `audit` is what `cross_check` was called once.
        line(
            "10.000000",
            "end",
            r#","audit":{"taken":256,"dropped":256,"kernel_taken":256,"kernel_dropped":256,"escaped":0}"#,
        ),
    ]
}

/// Kind, beginning and end of each bar, in ms of the record.
fn bars(timeline: &Timeline) -> Vec<(Kind, String, String)> {
    let edge = |edge| match edge {
        Edge::At(at) => ((at - timeline.begin) / 1_000).to_string(),
        Edge::Unseen(at) => format!("?{}", (at - timeline.begin) / 1_000),
        Edge::Beyond => "beyond".to_owned(),
    };
    let bars = timeline.strips.iter().flat_map(|strip| &strip.bars);
    bars.map(|bar| (bar.kind, edge(bar.from), edge(bar.to)))
        .collect()
}

fn expected(bars: &[(Kind, &str, &str)]) -> Vec<(Kind, String, String)> {
    let owned = bars.iter();
    owned
        .map(|(kind, from, to)| (*kind, (*from).to_owned(), (*to).to_owned()))
        .collect()
}

#[test]
fn a_zombie_has_a_lease_then_pins_then_red() {
    let timeline = timeline_of(&usual());
    let wanted = [
        (Kind::Lease, "1000", "5000"),
        (Kind::Covered, "2500", "5000"),
        (Kind::Zombie, "5000", "9000"),
    ];
    assert_eq!(bars(&timeline), expected(&wanted));
    assert_eq!((timeline.zombies, timeline.remaining), (1, 0));
    assert!(timeline.notes.is_empty(), "{:?}", timeline.notes);
}

#[test]
fn the_order_of_zombie_and_lease_end_does_not_matter() {
    let mut lines = usual();
    lines.swap(2, 3);
    assert_eq!(bars(&timeline_of(&lines)), bars(&timeline_of(&usual())));
}

#[test]
fn what_the_record_does_not_know_stays_open() {
    // Found by the monitor; no word of when the pins were taken; no end.
    let lease = r#","lease":{"kind":"lease","mode":"write"}"#;
    let lines = [
        line("00.900000", "lease-set", lease),
        line("01.000000", "start", ""),
        line("05.000000", "zombie", &format!(r#"{lease},"pins":1"#)),
        line("08.000000", "lost", r#","what":"notifications","count":2"#),
        line("09.000000", "lost", r#","what":"notifications","count":3"#),
    ];
    let timeline = timeline_of(&lines);
    let wanted = [
        (Kind::Lease, "beyond", "4000"),
        (Kind::Covered, "?4000", "4000"),
        (Kind::Zombie, "4000", "beyond"),
    ];
    assert_eq!(bars(&timeline), expected(&wanted));
    assert_eq!(timeline.remaining, 1);
    let notes = timeline.notes.join("\n");
    assert_snapshot!(notes, @r"
    notifications: 5
    the record has no end: its monitor was cut off, or still runs
    ");
}

#[test]
fn a_row_has_as_many_zombies_as_there_were() {
    let mut lines = usual();
    lines.truncate(5);
    let again = usual()[1..5].join("\n").replace(":15:0", ":16:0");
    lines.push(again);
    let timeline = timeline_of(&lines);
    assert_eq!(timeline.strips.len(), 1);
    assert_eq!(timeline.zombies, 2);
    assert_eq!(bars(&timeline).len(), 6);
}

#[test]
fn zombies_alone_say_when_it_all_began() {
    let timeline = timeline_of(&usual()[4..5]);
    assert_eq!(bars(&timeline), expected(&[(Kind::Zombie, "4000", "8000")]));
}

#[test]
fn orphans_bare_pins_and_two_leases() {
    let lease = r#","lease":{"kind":"lease","mode":"read"}"#;
    let timeline = timeline_of(&[
        line("00.000000", "start", ""),
        line("01.000000", "bare-pin", r#","pins":3"#),
        line("02.000000", "lease-set", lease),
        line("03.000000", "lease-set", lease),
        line(
            "04.000000",
            "lease-end",
            r#","lease":{"kind":"lease","mode":"read","held_ms":1000}"#,
        ),
        line("05.000000", "orphaned-pin", r#","pins":3"#),
        line("06.000000", "orphan-end", r#","orphaned_ms":1000"#),
        line("07.000000", "end", ""),
    ]);
    let wanted = [
        (Kind::Lease, "2000", "beyond"),
        (Kind::Bare, "1000", "?1000"),
        (Kind::Orphaned, "5000", "6000"),
    ];
    assert_eq!(bars(&timeline), expected(&wanted));
}

#[test]
fn breaches_come_first_and_what_has_no_room_is_told() {
    let lease = r#","lease":{"kind":"lease","mode":"read"}"#;
    let mut lines = vec![line("00.000000", "start", "")];
    for pid in 1..=5 {
        let set = line("01.000000", "lease-set", lease);
        lines.push(set.replace("4711", &pid.to_string()));
    }
    lines.push(line("02.000000", "zombie", lease));
    let text = lines.join("\n");
    let timeline = timeline::of(&read(text.as_bytes()), 2);
    let pids: Vec<_> = timeline.strips.iter().map(|strip| strip.pid).collect();
    assert_eq!(pids, [4711, 1]);
    assert!(
        timeline
            .notes
            .iter()
            .any(|note| note.starts_with("4 rows not shown"))
    );
}

#[test]
fn a_picture() {
    let mut lines = usual();
    lines.insert(5, line("09.500000", "denied", r#","rule":"exports""#));
    let picture = svg::draw(&timeline_of(&lines));
    assert_snapshot!(picture);
}

#[test]
fn all_that_the_monitor_writes_can_be_drawn() {
    let mut sink = Json::new(Vec::new());
    for record in fixtures::records() {
        sink.write(&record).expect("a Vec takes it");
    }
    let reading = read(&sink.into_inner());
    assert_eq!((reading.unknown, reading.unreadable), (0, 0));
    let timeline = timeline::of(&reading, timeline::ROWS);
    assert_well_formed(&svg::draw(&timeline));
    assert_eq!(timeline.zombies, 3);
}

#[test]
fn a_page_holds_the_picture_and_asks_nobody() {
    let timeline = timeline_of(&usual());
    let page = html::draw(&timeline);
    assert!(page.contains(&svg::draw(&timeline)));
    assert!(page.contains("default-src 'none'"));
    let elsewhere = page.replace("http://www.w3.org/2000/svg", "");
    assert!(!elsewhere.contains("://"), "no address but the name space");
    assert!(!elsewhere.contains("<!-- ") && !elsewhere.contains("/* script"));
}

fn assert_well_formed(picture: &str) {
    let parsed = roxmltree::Document::parse(picture);
    let parsed = parsed.unwrap_or_else(|error| panic!("{error}\n{picture}"));
    assert_eq!(parsed.root_element().tag_name().name(), "svg");
}

fn any_line() -> impl Strategy<Value = String> {
    let names = prop::sample::select(vec![
        "start",
        "lease-set",
        "lease-end",
        "zombie",
        "at-rest",
        "bare-pin",
        "orphaned-pin",
        "orphan-end",
        "denied",
        "overdue",
        "lost",
        "end",
        "ghost",
    ]);
    let number = || prop::option::of(prop_oneof![0_u64..20_000, any::<u64>()]);
    let word = || any::<String>();
    (
        names,
        0_u8..60,
        1_u32..4,
        word(),
        prop::option::of(word()),
        number(),
        number(),
        number(),
        word(),
    )
        .prop_map(
            |(event, second, pid, comm, path, held, lasted, pinned, other)| {
                let object = serde_json::json!({
                    "time": format!("2026-03-04T08:15:{second:02}Z"), "event": event, "pid": pid,
                    "comm": comm, "path": path, "ino": 7,
                    "lease": { "kind": other, "mode": other, "held_ms": held },
                    "cause": other, "pins": pinned, "consumer": path, "rule": other,
                    "zombie_ms": lasted, "orphaned_ms": lasted, "pinned_ms": pinned,
                    "what": other, "count": held.unwrap_or(1), "kernel": other,
                });
                object.to_string()
            },
        )
}

proptest! {
    #[test]
    fn whatever_happens_the_picture_is_xml(lines in prop::collection::vec(any_line(), 0..24)) {
        let timeline = timeline_of(&lines);
        let picture = svg::draw(&timeline);
        assert_well_formed(&picture);
        prop_assert!(!picture.contains("NaN") && !picture.contains("inf"));
        for strip in &timeline.strips {
            for bar in &strip.bars {
                if let (Edge::At(from), Edge::At(to)) = (bar.from, bar.to) {
                    prop_assert!(from <= to && to <= timeline.end);
                }
            }
        }
    }
}
