//! The text of a morning's records and of made-up maps.

use lease_trace_common::{
    count::Count,
    lease::{Lease, LeaseInfo},
    policy::Header,
    stake::{LEASE, PIN, Stake, ZOMBIE},
};

use super::{current::Figures, *};
use crate::{
    fixtures::{self, blank},
    tracer::holdings::{Fill, Holdings},
};

const SECOND: u64 = 1_000_000_000;

fn zombie(seconds: u64, frame: u64) -> Stake {
    let mut stake = Stake {
        word: (256 * PIN) | ZOMBIE,
        released_ns: (100 - seconds) * SECOND,
        lease: fixtures::event(lease_trace_common::event::EventKind::Zombie).lease,
        ..blank()
    };
    stake.stack[0] = frame;
    stake
}

fn holdings() -> Holdings {
    let lease = |mode| Lease {
        info: LeaseInfo {
            mode,
            ..fixtures::event(lease_trace_common::event::EventKind::LeaseSet).lease
        },
        ..blank()
    };
    Holdings {
        leases: vec![lease(0), lease(1), lease(1)],
        stakes: vec![
            zombie(5, 1),
            zombie(90, 1),
            zombie(7, 0),
            Stake {
                word: (64 * PIN) | LEASE,
                ..blank()
            },
            Stake {
                word: LEASE,
                ..blank()
            },
        ],
        fill: vec![Fill {
            map: "LEASES",
            entries: 3,
            max_entries: 65_536,
        }],
    }
}

fn counts() -> [u64; Count::LEN] {
    let mut counts = [0; Count::LEN];
    counts[Count::LostRing as usize] = 3;
    counts[Count::Pinned as usize] = 1000;
    counts[Count::Unpinned as usize] = 168;
    counts
}

fn metrics() -> Rc<RefCell<Metrics>> {
    let metrics = Rc::new(RefCell::new(Metrics::new(Some((23, 1)))));
    let mut sink = Rc::clone(&metrics);
    for record in fixtures::records() {
        sink.write(&record).expect("nothing is written");
    }
    let figures = Figures {
        holdings: &holdings(),
        counts: &counts(),
        policy: Header::new(2, 0, 1).of_modes(true, false),
        held: 1,
        doubtful: 2,
        escaped: Some(3),
        now_ns: 100 * SECOND,
    };
    metrics.borrow_mut().enter(&figures, |stack| {
        (stack[0] != 0).then(|| "io_uring".to_owned())
    });
    metrics
}

fn text(page: &Bytes) -> String {
    String::from_utf8(page.to_vec()).expect("metrics are UTF-8")
}

/// The samples of a metric come in any order.
fn sorted(text: &str) -> String {
    let mut lines: Vec<(usize, &str)> = Vec::new();
    let mut metric = 0;
    for line in text.lines() {
        metric += usize::from(line.starts_with("# HELP") || line == "# EOF");
        lines.push((metric, line));
    }
    // Those of a histogram are in the order of their bounds.
    lines.sort_by_key(|(metric, line)| {
        let free = !line.starts_with('#') && !line.contains("_seconds");
        (*metric, free.then_some(*line))
    });
    let lines: Vec<_> = lines.into_iter().map(|(_, line)| line).collect();
    lines.join("\n")
}

#[test]
fn openmetrics() {
    let page = metrics().borrow().page().expect("metrics have a text");
    let text = sorted(&text(&page.open));
    insta::assert_snapshot!(text.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
}

#[test]
fn the_text_format_has_the_same_figures() {
    let page = metrics().borrow().page().expect("metrics have a text");
    let samples = |text: &str| {
        // The two write the bounds of buckets differently.
        let lines = text
            .lines()
            .filter(|line| !line.starts_with('#') && !line.contains("_bucket{"));
        let mut lines: Vec<_> = lines.map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let plain = text(&page.plain);
    assert_eq!(samples(&plain), samples(&text(&page.open)));
    assert!(
        plain.contains("# TYPE lease_trace_lost_total counter\n"),
        "{plain}"
    );
}

#[test]
fn what_is_over_is_not_shown_any_longer() {
    let metrics = metrics();
    let figures = Figures {
        holdings: &Holdings::default(),
        counts: &counts(),
        policy: Header::new(3, 1, 0),
        held: 0,
        doubtful: 0,
        escaped: None,
        now_ns: 101 * SECOND,
    };
    metrics.borrow_mut().enter(&figures, |_| None);
    let page = metrics.borrow().page().expect("metrics have a text");
    let open = text(&page.open);
    assert!(!open.contains("lease_trace_zombies{"), "{open}");
    for line in [
        "lease_trace_stakes{state=\"zombie\"} 0",
        "lease_trace_oldest_zombie_age_seconds 0.0",
        "lease_trace_rules{mode=\"monitor\"} 0",
        "lease_trace_zombies_born_total{cause=\"killed\",consumer=\"vfio\"} 1",
    ] {
        assert!(open.lines().any(|found| found == line), "no {line}\n{open}");
    }
}

/// Every metric is described, and nothing else is.
#[test]
fn each_metric_is_in_the_documentation() {
    let page = metrics().borrow().page().expect("metrics have a text");
    let plain = text(&page.plain);
    let documented = include_str!("../../../../docs/metrics.md");
    let mut names: Vec<_> = plain
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    let mut described: Vec<_> = documented
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
        .filter(|name| name.starts_with(PREFIX))
        .collect();
    names.sort_unstable();
    described.sort_unstable();
    assert_eq!(names, described);
    for what in plain
        .lines()
        .filter_map(|line| line.split("what=\"").nth(1))
    {
        let what = what.split('"').next().expect("a value");
        assert!(documented.contains(&format!("| `{what}` |")), "{what}");
    }
}
