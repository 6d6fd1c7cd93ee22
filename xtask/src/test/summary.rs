//! The end of a test run: a table of what ran where, the failures by name, and one plain last line.

use std::{cmp::Reverse, collections::BTreeMap, process::ExitCode, time::Duration};

use comfy_table::{CellAlignment, Table, presets};

use super::libtest::Tally;

/// One run of a test program, or of all the host's.
#[derive(Clone, Debug)]
pub struct Row {
    pub kernel: String,
    pub userland: String,
    pub attach: String,
    pub tally: Tally,
    pub took: Duration,
    /// What each test took, if that is known.
    pub times: Vec<(String, Duration)>,
    pub failures: Vec<String>,
    /// Why the run as such failed, if it did.
    pub trouble: Option<String>,
    /// The last lines of the console, if the guest did not end by itself.
    pub console: Option<String>,
    /// What a reader should know of a run that may have passed.
    pub remarks: Vec<String>,
}

impl Row {
    /// Failed tests; a run that failed as such counts as one.
    fn failed(&self) -> u32 {
        self.tally.failed + u32::from(self.tally.failed == 0 && self.trouble.is_some())
    }

    /// Puts what came of its failed tests when they were run again in the place of the failures.
    pub fn replace(&mut self, second: &Self) {
        self.tally.passed += second.tally.passed;
        self.tally.failed = self.tally.failed.saturating_sub(second.tally.passed);
        self.took += second.took;
        self.times.extend_from_slice(&second.times);
        let passed = |name: &String| {
            second.times.iter().any(|(ran, _)| ran == name) && !second.failures.contains(name)
        };
        self.failures.retain(|name| !passed(name));
    }

    /// A run without a single test is no success, unless a filter may be the reason.
    fn checked(&self, filter: Option<&str>) -> Self {
        let mut row = self.clone();
        if row.trouble.is_none() && filter.is_none() && row.tally.passed + row.tally.failed == 0 {
            row.trouble = Some("ran no test".to_owned());
        }
        row
    }
}

pub fn print(rows: &[Row], filter: Option<&str>) -> ExitCode {
    let rows: Vec<Row> = rows.iter().map(|row| row.checked(filter)).collect();
    let (passed, failed) = totals(&rows);
    println!("\n{}", table(&rows));
    if let Some(slowest) = slowest(&rows) {
        println!("slowest, seconds over all runs: {slowest}");
    }
    for row in &rows {
        let Row {
            kernel,
            userland,
            attach,
            failures,
            trouble,
            console,
            remarks,
            ..
        } = row;
        for remark in remarks {
            println!("on {kernel}, {userland}, {attach}: {remark}");
        }
        if let Some(console) = console {
            println!("the last lines of the console of {kernel}, {userland}, {attach}:\n{console}");
        }
        for failure in failures.iter().chain(trouble) {
            println!("FAILED on {kernel}, {userland}, {attach}: {failure}");
        }
    }
    if let (0, Some(filter)) = (passed + failed, filter) {
        println!("no test has {filter} in its name");
    }
    println!("\n{passed} passed, {failed} failed");
    ExitCode::from(u8::from(failed > 0))
}

/// Where the time goes, once there is enough of it to ask.
fn slowest(rows: &[Row]) -> Option<String> {
    const SHOWN: usize = 15;
    let mut sums: BTreeMap<&str, Duration> = BTreeMap::new();
    for (name, took) in rows.iter().flat_map(|row| &row.times) {
        *sums.entry(name).or_default() += *took;
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(_, took)| Reverse(*took));
    let shown: Vec<_> = sums
        .iter()
        .take(SHOWN)
        .map(|(name, took)| format!("{name} {:.0}", took.as_secs_f32()))
        .collect();
    (sums.len() > SHOWN).then(|| shown.join(", "))
}

fn totals(rows: &[Row]) -> (u32, u32) {
    (
        rows.iter().map(|row| row.tally.passed).sum(),
        rows.iter().map(Row::failed).sum(),
    )
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    table.set_header([
        "KERNEL", "USERLAND", "ATTACH", "PASSED", "FAILED", "IGNORED", "SECONDS",
    ]);
    for row in rows {
        table.add_row([
            row.kernel.clone(),
            row.userland.clone(),
            row.attach.clone(),
            row.tally.passed.to_string(),
            row.failed().to_string(),
            row.tally.ignored.to_string(),
            format!("{:.1}", row.took.as_secs_f32()),
        ]);
    }
    for column in table.column_iter_mut().skip(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(passed: u32, failed: u32, trouble: Option<&str>) -> Row {
        Row {
            kernel: "6.12".to_owned(),
            userland: "initramfs".to_owned(),
            attach: "auto".to_owned(),
            tally: Tally {
                passed,
                failed,
                ignored: 1,
            },
            took: Duration::from_millis(1250),
            times: vec![("unlock".to_owned(), Duration::from_secs(1))],
            failures: Vec::new(),
            trouble: trouble.map(str::to_owned),
            console: None,
            remarks: Vec::new(),
        }
    }

    #[test]
    fn a_run_that_broke_off_counts_as_a_failure_once() {
        let rows = [
            row(3, 0, None),
            row(2, 1, Some("exit status 101")),
            row(1, 0, Some("kernel panic")),
        ];
        assert_eq!(totals(&rows), (6, 2));
    }

    #[test]
    fn a_second_run_stands_for_the_failures_of_the_first() {
        let mut first = row(3, 2, None);
        first.failures = vec!["a".to_owned(), "b".to_owned()];
        let mut second = row(1, 1, None);
        second.times = ["a", "b"]
            .map(|name| (name.to_owned(), Duration::ZERO))
            .to_vec();
        second.failures = vec!["b".to_owned()];
        first.replace(&second);
        assert_eq!(first.failures, ["b"]);
        assert_eq!(totals(&[first.clone()]), (4, 1));
        // Of a second run that broke off, nothing is known of the rest.
        first.replace(&row(0, 0, Some("kernel panic")));
        assert_eq!(first.failures, ["b"]);
        assert_eq!(totals(&[first]), (4, 1));
    }

    #[test]
    fn no_test_is_a_failure_unless_filtered() {
        assert_eq!(totals(&[row(0, 0, None).checked(None)]), (0, 1));
        assert_eq!(totals(&[row(0, 0, None).checked(Some("x"))]), (0, 0));
    }

    #[test]
    fn the_table_has_a_line_a_run() {
        let text = table(&[row(3, 0, None)]).to_string();
        let line = text.lines().nth(1).unwrap();
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, ["6.12", "initramfs", "auto", "3", "0", "1", "1.2"]);
    }
}
