//! The table that people read: 80 columns, a row for each piece of work, with its goal.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::{
    limits::OfKernel,
    measured::Measured,
    rows::{Held, Row},
};

const WIDTH: u16 = 80;

/// A row held against its goal and limit.
pub struct HeldRow<'a> {
    row: &'a Row,
    limit: Option<f64>,
}

impl HeldRow<'_> {
    fn is_over_goal(&self) -> bool {
        self.row
            .goal
            .is_some_and(|goal| self.row.held.value() > goal)
    }

    /// Over the goal, and over the limit that it is held to instead.
    pub fn fails(&self) -> bool {
        self.is_over_goal() && self.limit.is_none_or(|limit| self.row.held.value() > limit)
    }

    fn verdict(&self) -> String {
        match (self.row.goal, self.is_over_goal(), self.limit) {
            (None, ..) => String::new(),
            (_, false, _) => "ok".to_owned(),
            (_, _, Some(limit)) if !self.fails() => {
                match self.row.held {
                    // Limits have two decimals.
                    Held::Times(_) => format!("over {limit:.2}"),
                    held => format!("over {}", value(held.with(limit))),
                }
            }
            _ => "FAILED".to_owned(),
        }
    }
}

pub fn held<'a>(rows: &'a [Row], limits: &OfKernel) -> Vec<HeldRow<'a>> {
    rows.iter()
        .map(|row| HeldRow {
            row,
            limit: limits.get(row.key).copied(),
        })
        .collect()
}

pub fn render(rows: &[HeldRow<'_>]) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(["WORK", "KERNEL", "TRACED", "BPFTRACE", "RATIO", "GOAL", ""]);
    for held in rows {
        let row = held.row;
        let of = |number: Option<f64>| number.map_or_else(String::new, count);
        table.add_row([
            row.what.to_owned(),
            of(row.base),
            match row.held {
                Held::Bytes(_) => String::new(),
                _ => count(row.ours),
            },
            of(row.bpftrace),
            match row.held {
                Held::Number(_) => String::new(),
                held => value(held),
            },
            row.goal
                .map_or_else(String::new, |goal| value(row.held.with(goal))),
            held.verdict(),
        ]);
    }
    let columns = table.column_iter_mut().enumerate();
    for (number, column) in columns {
        column.set_padding((0, 1));
        if (1..6).contains(&number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// What each program cost the verifier, and what it takes by the kernel's own count.
pub fn programs(measured: &Measured) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_width(WIDTH)
        .set_header(["PROGRAM", "VERIFIED", "LOAD", "A RUN"]);
    let with = |prefix: &'static str| {
        let all = measured.figures.keys();
        all.filter_map(move |name| name.strip_prefix(prefix))
    };
    for program in with("load-") {
        let of = |what: &str| {
            let figure = measured.get(&format!("{what}-{program}"), "lease-trace");
            figure.map_or_else(String::new, count)
        };
        table.add_row([program.to_owned(), of("verified"), of("load"), of("run")]);
    }
    for column in 1..4 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

/// Calls with as much to look at as there can be, by what the scenario calls them (bench/worst.rs).
const WORST: [(&str, &str); 9] = [
    ("lease-set", "set a lease, pins of others"),
    ("lease-end", "end a lease, pins of others"),
    ("stakes", "the same, 64,000 stakes"),
    ("pin", "pin beside another's lease"),
    ("close-range", "close_range(2)"),
    ("munmap", "munmap(2)"),
    ("unlock", "unlock"),
    ("pins", "pin page by page"),
    ("deep", "set a lease, rules with a path"),
];

/// The table of these.
pub fn worst(measured: &Measured) -> String {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_width(WIDTH)
        .set_header(["CALL", "KERNEL", "ENFORCED"]);
    for (name, what) in WORST {
        let of = |by| {
            measured
                .get(&format!("worst-{name}"), by)
                .map_or_else(String::new, count)
        };
        table.add_row([what.to_owned(), of("kernel"), of("lease-trace")]);
    }
    for column in 1..3 {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

fn value(held: Held) -> String {
    match held {
        Held::Added(value) => format!("{:.0} %", value * 100.0),
        Held::Times(value) => format!("{value:.3}"),
        Held::Bytes(value) => bytes(value),
        Held::Number(value) => count(value),
    }
}

/// `2,776 B`, `39.1 MiB`
fn bytes(value: f64) -> String {
    const MIB: f64 = 1_048_576.0;
    if value < MIB {
        format!("{} B", count(value))
    } else {
        format!("{:.1} MiB", value / MIB)
    }
}

/// `1,234`, `123,456`, `12.35 M`
fn count(value: f64) -> String {
    if value.abs() >= 1e6 {
        return format!("{:.2} M", value / 1e6);
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < -0.5 {
        format!("-{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: f64, goal: Option<f64>) -> Row {
        Row {
            what: "file pin+unpin, a page",
            key: "rdma",
            base: Some(12_345_678.0),
            ours: 13_456_789.0,
            bpftrace: Some(14_567_890.0),
            held: Held::Times(value),
            goal,
        }
    }

    #[test]
    fn a_row_over_its_goal_fails_unless_it_keeps_its_limit() {
        let limits = OfKernel::from([("rdma".to_owned(), 3.0)]);
        let fails = |value, goal, limits| held(&[row(value, goal)], limits)[0].fails();
        let none = OfKernel::new();
        assert!(!fails(1.9, Some(2.0), &none));
        assert!(fails(2.1, Some(2.0), &none));
        assert!(!fails(2.1, Some(2.0), &limits));
        assert!(fails(3.1, Some(2.0), &limits));
        assert!(!fails(9.0, None, &none));
    }

    #[test]
    fn the_table_fits_a_terminal() {
        let rows = [row(2.1, Some(2.0)), row(1.0, Some(2.0))];
        let limits = OfKernel::from([("rdma".to_owned(), 3.0)]);
        let text = render(&held(&rows, &limits));
        assert!(text.contains("over 3.00"), "{text}");
        assert_eq!(text.lines().count(), 1 + rows.len(), "{text}");
        assert!(
            text.lines()
                .all(|line| line.chars().count() <= usize::from(WIDTH)),
            "{text}"
        );
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(count(123_456.4), "123,456");
        assert_eq!(count(-12.0), "-12");
        assert_eq!(count(999.0), "999");
        assert_eq!(count(12_345_678.0), "12.35 M");
    }
}
