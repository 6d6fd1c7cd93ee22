//! The rows of the table: what was measured, and the goal of each.

use super::measured::Measured;

/// One row.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub what: &'static str,
    /// By which its limit is known.
    pub key: &'static str,
    /// The kernel alone.
    pub base: Option<f64>,
    pub ours: f64,
    pub bpftrace: Option<f64>,
    /// What is held against the goal.
    pub held: Held,
    /// The most that `held` should be; none: it is listed.
    pub goal: Option<f64>,
}

/// What a row's goal is about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Held {
    /// lease-trace's part above the kernel alone, over bpftrace's.
    Added(f64),
    /// lease-trace over something else.
    Times(f64),
    /// Bytes.
    Bytes(f64),
    /// A number.
    Number(f64),
}

impl Held {
    pub const fn value(self) -> f64 {
        match self {
            Self::Added(value) | Self::Times(value) | Self::Bytes(value) | Self::Number(value) => {
                value
            }
        }
    }

    /// The same kind of value.
    pub const fn with(self, value: f64) -> Self {
        match self {
            Self::Added(_) => Self::Added(value),
            Self::Times(_) => Self::Times(value),
            Self::Bytes(_) => Self::Bytes(value),
            Self::Number(_) => Self::Number(value),
        }
    }
}

const MIB: f64 = 1_048_576.0;

/// What two runs of the same may differ by: a tick of the timer, the place of a page.
const SAME: f64 = 1.03;

/// All rows there are figures for.
pub fn of(measured: &Measured) -> Vec<Row> {
    [
        pins(measured),
        untracked(measured),
        leases(measured),
        sizes(measured),
    ]
    .concat()
}

/// What is tracked, and pins that are not.
fn pins(measured: &Measured) -> Vec<Row> {
    let against = |name, by, key, what, goal| added(measured, (name, by), key, what, goal);
    let (file, anonymous) = ("pins-file", "pins-anonymous");
    let by_process = "bpftrace-by-process";
    let rows = [
        against(file, "bpftrace", file, "file pin+unpin, a page", 1.0),
        over_base(measured, file, "pins-file-added", 242.0),
        empty(measured, file, "pins-file-empty", |all, base| {
            Held::Number(all - base)
        }),
        against(
            file,
            by_process,
            "pins-file-by-process",
            "- counted by process",
            1.0,
        ),
        against(anonymous, "bpftrace", anonymous, "anonymous, a page", 0.7),
        over_base(measured, anonymous, "pins-anonymous-added", 168.0),
        empty(measured, anonymous, "pins-anonymous-empty", |all, base| {
            Held::Number(all - base)
        }),
        against(
            anonymous,
            by_process,
            "pins-anonymous-by-process",
            "- counted by process",
            0.7,
        ),
        over_kernel(
            measured,
            ("rdma", "lease-trace"),
            "rdma",
            "RDMA region of 64 MiB",
            1.1,
        ),
        empty(measured, "rdma", "rdma-empty", times),
    ];
    rows.into_iter().flatten().collect()
}

/// Calls that have nothing to do with leases or long-term pins.
fn untracked(measured: &Measured) -> Vec<Row> {
    let plain = |name, what, goal| over_kernel(measured, (name, "lease-trace"), name, what, goal);
    let enforced =
        |name, key, what| over_kernel(measured, (name, "enforced-10000"), key, what, 1.05);
    let grown = |name, key| {
        let leases = ["enforced-10", "enforced-10000"];
        growth(measured, name, leases, key, "- 10,000 leases / 10")
    };
    let rows = [
        plain("read", "O_DIRECT 4 KiB read", 1.03),
        empty(measured, "read", "read-empty", times),
        plain("close", "close(2), no lease", 1.02),
        plain("fcntl", "fcntl(2), no lease", 1.02),
        enforced("read", "read-enforced", "read, enforced"),
        grown("read", "read-growth"),
        enforced("close", "close-enforced", "close, enforced"),
        grown("close", "close-growth"),
        enforced("fcntl", "fcntl-enforced", "fcntl, enforced"),
        grown("fcntl", "fcntl-growth"),
        enforced("ioctl", "ioctl-enforced", "ioctl, enforced"),
    ];
    rows.into_iter().flatten().collect()
}

fn leases(measured: &Measured) -> Vec<Row> {
    let grown = |name, key, what| growth(measured, name, ["10", "10000"], key, what);
    let rows = [
        over_kernel(
            measured,
            ("lease", "lease-trace"),
            "lease",
            "lease set + unlock",
            2.0,
        ),
        empty(measured, "lease", "lease-empty", times),
        told(measured),
        grown("unlock", "unlock-growth", "unlock, 10,000 / 10"),
        grown("zombie", "zombie-growth", "zombie, 10,000 / 10"),
        by_pins(measured),
    ];
    rows.into_iter().flatten().collect()
}

/// Memory, floods, the start.
fn sizes(measured: &Measured) -> Vec<Row> {
    let rows = [
        figure(
            measured,
            "bytes-stake",
            "stake, lease, path",
            Held::Bytes,
            None,
        ),
        figure(
            measured,
            "bytes-idle",
            "a lease without pins",
            Held::Bytes,
            Some(280.0),
        ),
        figure(measured, "bytes-lease", "one more lease", Held::Bytes, None),
        figure(
            measured,
            "bytes-gib",
            "1 GiB in 4 KiB pages",
            Held::Bytes,
            Some(4096.0),
        ),
        figure(measured, "maps", "maps, empty", Held::Bytes, None),
        figure(
            measured,
            "resident",
            "10,000 leases, resident",
            Held::Bytes,
            Some(20.0 * MIB),
        ),
        figure(
            measured,
            "resident-zombies",
            "- after 1,000 zombies",
            Held::Bytes,
            None,
        ),
        figure(
            measured,
            "flood-zombies-lost",
            "flood, zombies untold",
            Held::Number,
            Some(0.0),
        ),
        figure(
            measured,
            "flood-unaccounted",
            "flood: not accounted",
            Held::Number,
            Some(0.0),
        ),
        figure(
            measured,
            "flood-lost",
            "flood: counted as lost",
            Held::Number,
            None,
        ),
        figure(
            measured,
            "flood-rate",
            "flood: events in 1e9",
            Held::Number,
            None,
        ),
        figure(
            measured,
            "flood-instructions",
            "monitor, an event",
            Held::Number,
            None,
        ),
        start(measured),
    ];
    rows.into_iter().flatten().collect()
}

fn row(what: &'static str, key: &'static str, ours: f64, held: Held, goal: f64) -> Row {
    Row {
        what,
        key,
        base: None,
        ours,
        bpftrace: None,
        held,
        goal: Some(goal),
    }
}

fn added(
    measured: &Measured,
    (name, rival): (&str, &str),
    key: &'static str,
    what: &'static str,
    goal: f64,
) -> Option<Row> {
    let get = |by| measured.get(name, by);
    let (base, ours, rival) = (get("kernel")?, get("lease-trace")?, get(rival)?);
    Some(Row {
        base: Some(base),
        bpftrace: Some(rival),
        ..row(
            what,
            key,
            ours,
            Held::Added((ours - base) / (rival - base)),
            goal,
        )
    })
}

/// What is added to the kernel alone, in instructions, against a figure: what bpftrace with kfunc probes
/// added when the goals were set, or a part of that.
fn over_base(measured: &Measured, name: &str, key: &'static str, goal: f64) -> Option<Row> {
    let get = |by| measured.get(name, by);
    let added = get("lease-trace")? - get("kernel")?;
    Some(row("- added", key, added, Held::Number(added), goal))
}

/// The least that it can be: with programs that do nothing in the same places.
fn empty(
    measured: &Measured,
    name: &str,
    key: &'static str,
    held: fn(f64, f64) -> Held,
) -> Option<Row> {
    let (base, all) = (measured.get(name, "kernel")?, measured.get(name, "empty")?);
    let held = held(all, base);
    let shown = match held {
        Held::Number(added) => added,
        _ => all,
    };
    Some(Row {
        goal: None,
        ..row("- empty programs", key, shown, held, 0.0)
    })
}

fn times(all: f64, base: f64) -> Held {
    Held::Times(all / base)
}

fn over_kernel(
    measured: &Measured,
    (name, by): (&str, &str),
    key: &'static str,
    what: &'static str,
    goal: f64,
) -> Option<Row> {
    let (base, ours) = (measured.get(name, "kernel")?, measured.get(name, by)?);
    Some(Row {
        base: Some(base),
        bpftrace: measured
            .get(name, "bpftrace")
            .filter(|_| by == "lease-trace"),
        ..row(what, key, ours, Held::Times(ours / base), goal)
    })
}

fn growth(
    measured: &Measured,
    name: &str,
    [few, many]: [&str; 2],
    key: &'static str,
    what: &'static str,
) -> Option<Row> {
    let (few, many) = (measured.get(name, few)?, measured.get(name, many)?);
    Some(row(what, key, many, Held::Times(many / few), SAME))
}

/// With a record in the ring for each; its reader stands still meanwhile.
fn told(measured: &Measured) -> Option<Row> {
    let (base, ours) = (
        measured.get("lease", "kernel")?,
        measured.get("lease-told", "lease-trace")?,
    );
    Some(Row {
        base: Some(base),
        ..row(
            "- both told",
            "lease-told",
            ours,
            Held::Times(ours / base),
            2.0,
        )
    })
}

fn by_pins(measured: &Measured) -> Option<Row> {
    let by_pins = measured.by_number("zombie-pins");
    let ((_, few), (_, many)) = (by_pins.first()?, by_pins.last()?);
    Some(row(
        "zombie, most pins / one",
        "pins-growth",
        *many,
        Held::Times(many / few),
        SAME,
    ))
}

/// A figure that is shown as it is, and held to a goal where there is one.
fn figure(
    measured: &Measured,
    key: &'static str,
    what: &'static str,
    held: fn(f64) -> Held,
    goal: Option<f64>,
) -> Option<Row> {
    let value = measured.get(key, "lease-trace")?;
    Some(Row {
        goal,
        ..row(what, key, value, held(value), 0.0)
    })
}

fn start(measured: &Measured) -> Option<Row> {
    let (ours, rival) = (
        measured.get("start", "lease-trace")?,
        measured.get("start", "bpftrace")?,
    );
    Some(Row {
        bpftrace: Some(rival),
        ..row(
            "start, from exec",
            "start",
            ours,
            Held::Times(ours / rival),
            1.0 / 3.0,
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(figures: &[(&str, &str, f64)]) -> Measured {
        let mut measured = Measured::default();
        for (name, by, value) in figures {
            let of_name = measured.figures.entry((*name).to_owned()).or_default();
            of_name.insert((*by).to_owned(), *value);
        }
        measured
    }

    #[test]
    fn what_is_added_is_held_against_what_bpftrace_adds() {
        let measured = measured(&[
            ("pins-file", "kernel", 400.0),
            ("pins-file", "lease-trace", 600.0),
            ("pins-file", "bpftrace", 650.0),
        ]);
        let rows = of(&measured);
        let held: Vec<_> = rows.iter().map(|row| (row.held, row.goal)).collect();
        assert_eq!(
            held,
            [
                (Held::Added(0.8), Some(1.0)),
                (Held::Number(200.0), Some(242.0))
            ]
        );
    }

    #[test]
    fn the_most_pins_are_held_against_the_fewest() {
        let measured = measured(&[
            ("zombie-pins", "1", 100.0),
            ("zombie-pins", "1048576", 101.0),
        ]);
        assert_eq!(of(&measured)[0].held, Held::Times(1.01));
    }
}
