//! What a storm came to, and what of it must not be.

use serde_json::Value;

use super::{held::Held, quiet::Books};
use crate::harness::integer;

/// What its processes did and what became of them, by their own account.
#[derive(Default)]
pub struct Figures {
    registered: i64,
    right: i64,
    right_refused: i64,
    /// Releases in the wrong order that the kernel let through.
    pub wrong: i64,
    /// And that it refused.
    pub wrong_refused: i64,
    /// Children that had pins under their parent's lease, and releases of these while they had.
    heirs: i64,
    pub heirs_wrong: i64,
    heirs_killed: i64,
    heirs_stopped: i64,
    errors: i64,
    /// Killed, stopped or ended by themselves.
    gone: i64,
    all: String,
}

impl Figures {
    /// `NAME=NUMBER ...`, as the client answers.
    pub fn read(answer: &str) -> Self {
        let of = |name: &str| -> i64 {
            let mut words = answer.split(' ').filter_map(|word| word.split_once('='));
            let value = words.find_map(|(found, value)| (found == name).then_some(value));
            let value = value.and_then(|value| value.parse().ok());
            value.unwrap_or_else(|| panic!("no {name} in {answer}"))
        };
        Self {
            registered: of("registered"),
            right: of("right"),
            right_refused: of("right-refused"),
            wrong: of("wrong"),
            wrong_refused: of("wrong-refused"),
            heirs: of("heirs"),
            heirs_wrong: of("heirs-wrong"),
            heirs_killed: of("heirs-killed"),
            heirs_stopped: of("heirs-stopped"),
            errors: of("errors"),
            gone: of("killed") + of("stopped") + of("exited"),
            all: answer.to_owned(),
        }
    }
}

#[derive(Default)]
pub struct Found {
    pub done: Figures,
    /// Looks that found something wrong, while all had what they have and when they had given it back, and of how many.
    wrong_while_held: Vec<String>,
    left: Vec<String>,
    looks: usize,
    /// Breaches of those that let go in the wrong order, and of those that did not.
    pub told: i64,
    pub told_of_right: i64,
    /// The report's list.
    pub lost: Value,
    /// Hooks missed, as the kernel counts them, where that is known.
    pub missed: Option<i64>,
}

/// Tables that are never full here: a few dozen files, processes and leases.
const ROOMY: [&str; 4] = ["LEASES", "INODES", "STAKES", "COVERS"];

impl Found {
    pub fn add(&mut self, books: &Books) {
        self.looks += 1;
        if !books.are_clear() || books.kernel_pins != 0 || books.locks != 0 {
            self.left.push(books.to_string());
        }
    }

    pub fn add_held(&mut self, held: &Held) {
        self.looks += 1;
        if !held.differences.is_empty() {
            self.wrong_while_held.push(held.to_string());
        }
    }

    /// The books while all paused, and when all was given back. Where the kernel missed hooks, and that is told, they may
    /// be wrong while all pause: pins that were not counted are not found. Nothing is left of them, all the same.
    pub fn wrong_books(&self) -> Vec<String> {
        let mut wrong = self.left.clone();
        if self.missed.unwrap_or_default() == 0 {
            wrong.extend_from_slice(&self.wrong_while_held);
        } else if self.told_missed() == 0 {
            return vec!["hooks were missed, which is not told".to_owned()];
        }
        if wrong.is_empty() {
            return Vec::new();
        }
        vec![format!(
            "{} of {} times the books were wrong when all was quiet:\n    {}",
            wrong.len(),
            self.looks,
            wrong.join("\n    ")
        )]
    }

    /// What was done to those who let go in the right order; and whether there was anything to see.
    pub fn wrong_fates(&self) -> Vec<String> {
        let Figures {
            registered,
            right,
            right_refused,
            heirs,
            heirs_killed,
            heirs_stopped,
            errors,
            gone,
            all,
            ..
        } = &self.done;
        let mut wrong = Vec::new();
        if *right_refused > 0 {
            wrong.push(format!(
                "{right_refused} right releases were refused, {right} not"
            ));
        }
        if *gone > 0 {
            wrong.push(format!(
                "{gone} processes were killed, stopped or ended: {all}"
            ));
        }
        if heirs_killed + heirs_stopped > 0 {
            wrong.push(format!(
                "of {heirs} heirs {heirs_killed} were killed and {heirs_stopped} stopped, whose pins leases covered"
            ));
        }
        if *errors > 0 {
            wrong.push(format!("{errors} calls failed: {all}"));
        }
        if *registered == 0 || *heirs == 0 || *right == 0 && *right_refused == 0 {
            wrong.push(format!("nothing was done: {all}"));
        }
        wrong
    }

    /// How many hooks are told as missed.
    pub fn told_missed(&self) -> i64 {
        let lost = self.lost.as_array().expect("a list").iter();
        let missed = lost.filter(|lost| {
            let what = lost["what"].as_str().unwrap_or_default();
            what.starts_with("hooks were missed")
        });
        missed.map(|lost| integer(lost, "count")).sum()
    }

    /// Breaches that were not told, and those that were none: no more than hooks were missed.
    pub fn wrong_events(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if (self.told - self.done.wrong).abs() > self.missed.unwrap_or_default() {
            wrong.push(format!("{} breaches, {} told", self.done.wrong, self.told));
        }
        if self.told_of_right > 0 {
            wrong.push(format!(
                "{} right releases were told as breaches",
                self.told_of_right
            ));
        }
        wrong
    }

    /// Losses that were none: of room where there is plenty, and of hooks that the kernel did not pass.
    pub fn wrong_losses(&self) -> Vec<String> {
        let lost = self.lost.as_array().expect("a list").iter();
        let mut wrong = Vec::new();
        for lost in lost {
            let (what, count) = (
                lost["what"].as_str().unwrap_or_default(),
                integer(lost, "count"),
            );
            let no_room = what.contains("no room in the")
                && ROOMY
                    .iter()
                    .any(|map| what.ends_with(&format!("{map} map")));
            let missed = what.starts_with("hooks were missed")
                && self.missed.is_some_and(|missed| count > missed);
            if no_room || missed {
                wrong.push(format!("told as lost, and was not: {count} {what}"));
            }
        }
        wrong
    }
}
