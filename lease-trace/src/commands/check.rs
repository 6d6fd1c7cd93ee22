//! `lease-trace doctor --check`: whether the books are right, in themselves and by what the kernel has pinned.

use std::{
    collections::BTreeSet,
    io::{self, BufWriter, Write},
    thread,
    time::Duration,
};

use serde::Serialize;

use crate::{
    cli::DoctorFlags,
    exit::Exit,
    kernel::limits,
    record::Dev,
    sinks::{WriteError, json, text},
    tracer::check::{Books, Rule, Subject, Violation},
};

/// Between two looks.
const STEP: Duration = Duration::from_millis(100);
/// What is wrong must be so in so many looks, with the same figures: what is just being changed is not
/// the same in all of them.
const LASTING: usize = 5;
const WIDTH: usize = 80;

/// What a check came to.
#[derive(Debug, Serialize)]
struct Finding {
    inodes: usize,
    stakes: usize,
    leases: usize,
    /// Files with pins of which the page cache was seen.
    compared: usize,
    violations: Vec<Told>,
}

/// A violation as it is told.
#[derive(Debug, Serialize)]
struct Told {
    #[serde(flatten)]
    violation: Violation,
    text: String,
}

pub fn run(flags: &DoctorFlags) -> anyhow::Result<Exit> {
    let Some(mut books) = Books::open()? else {
        anyhow::bail!(
            "nothing to check: no monitor runs here and no enforcement is in place; start one of them"
        );
    };
    let mut lasting: Option<BTreeSet<Violation>> = None;
    let mut look = books.look()?;
    let compared = look.cached.len();
    for turn in 0..LASTING {
        if turn > 0 {
            thread::sleep(STEP);
            look = books.look()?;
        }
        let now = look.violations(limits::has_thread);
        lasting = Some(match lasting {
            Some(before) => before.intersection(&now).cloned().collect(),
            None => now,
        });
    }
    let violations: Vec<_> = lasting.into_iter().flatten().map(Told::of).collect();
    let exit = if violations.is_empty() {
        Exit::Done
    } else {
        Exit::Wrong
    };
    let finding = Finding {
        inodes: look.inodes.len(),
        stakes: look.stakes.len(),
        leases: look.leases.len(),
        compared,
        violations,
    };
    let mut out = BufWriter::new(io::stdout().lock());
    finding.write(flags.json, &mut out).map_err(WriteError)?;
    Ok(exit)
}

impl Told {
    fn of(violation: Violation) -> Self {
        let text = format!("{}: {}", subject(&violation.subject), what(&violation));
        Self { violation, text }
    }
}

fn subject(subject: &Subject) -> String {
    match subject {
        Subject::Inode { dev, ino } => format!("inode {ino} on {}", Dev(*dev)),
        Subject::Process { tgid, inode_id } => format!("process {tgid}, inode record {inode_id}"),
        Subject::Thread { tid } => format!("thread {tid}"),
        Subject::User { counter } => format!("users with counter {counter}"),
        Subject::Everything => "all inodes".to_owned(),
    }
}

fn what(violation: &Violation) -> String {
    let Violation {
        rule,
        found,
        expected,
        ..
    } = violation;
    match rule {
        Rule::Pins => {
            format!("it counts {found} pins, and its stakes and what nobody owns {expected}")
        }
        Rule::Owed => format!("{found} releases are owed, and it has {expected} pins"),
        Rule::Owners => format!("owners of pins are counted as {found}, and are {expected}"),
        Rule::Idle => "a lease of it is not counted, though it has pins, or had some".to_owned(),
        Rule::Leases => format!("it counts {found} leases, and {expected} are in force"),
        Rule::Batch => format!("{found} pins were dropped by the batch, and it has {expected}"),
        Rule::Stake => "the stake is in an inode of which there is no record".to_owned(),
        Rule::Told => format!("{found} changes are still to be told"),
        Rule::Folios => {
            format!("folios out of the page cache have {found} pins, and it has {expected}")
        }
        Rule::Totals => format!("the total says {found}, and there are {expected}"),
        Rule::Shares => {
            format!("{found} entries of a table are counted in the share, and there are {expected}")
        }
        Rule::Calls => "a call is kept of it, and there is no such thread".to_owned(),
        Rule::Notes => "a note for it is kept, and there is no such thread".to_owned(),
        Rule::Stacks => "a stack is kept of it, and there is no such thread".to_owned(),
        Rule::Covers => {
            format!("it counts {found} leases of others that cover it, and there are {expected}")
        }
        Rule::Covering => {
            format!("{found} leases of others that cover it are not in force")
        }
        Rule::PageCache => format!("it counts {found} pins, and the kernel has {expected} there"),
    }
}

impl Finding {
    fn write(&self, json: bool, out: &mut impl Write) -> io::Result<()> {
        if json {
            json::page(self, out)?;
            return out.flush();
        }
        let Self {
            inodes,
            stakes,
            leases,
            compared,
            violations,
        } = self;
        for told in violations {
            writeln!(out, "{}", text::wrap(&told.text, WIDTH, 2))?;
        }
        let verdict = match violations.len() {
            0 => "the books are right".to_owned(),
            1 => "1 thing is wrong".to_owned(),
            n => format!("{n} things are wrong"),
        };
        writeln!(
            out,
            "inodes: {inodes} ({compared} compared), stakes: {stakes}, leases: {leases}; {verdict}"
        )?;
        out.flush()
    }
}
