//! The policy in force, and its rules. Which of them matches is found by `judge`.

use lease_trace_common::policy::{Header, RULES as RULES_LEN, Rule, index};

use crate::{
    bpf::config::{CONFIG, constant},
    state::maps::{POLICY, RULES},
};

/// The policy in force; one without rules if there is none.
#[inline(always)]
pub fn header() -> Header {
    if constant(&CONFIG.policy) == 0 {
        return Header(0);
    }
    Header(POLICY.get(index::HEADER).copied().unwrap_or(0))
}

/// When it was put in force, by the clock of [`crate::bpf::task::now`].
#[inline(always)]
pub fn since() -> u64 {
    POLICY.get(index::SINCE).copied().unwrap_or(0)
}

/// A rule of the bank that a header names.
#[inline(always)]
pub fn rule<'a>(header: Header, number: u32) -> Option<&'a Rule> {
    RULES.get(header.bank() * RULES_LEN + (number & (RULES_LEN - 1)))
}

/// The rule that matched, with the header of the policy it is from.
#[derive(Clone, Copy)]
pub struct Match(pub Header);

impl Match {
    /// From what [`find`] returned.
    #[inline(always)]
    pub fn of(word: u64) -> Option<Self> {
        if word == 0 {
            None
        } else {
            Some(Self(Header(word)))
        }
    }

    /// Number of the rule in its bank.
    #[inline(always)]
    pub fn number(self) -> u32 {
        self.0.rules() - 1
    }

    #[inline(always)]
    pub fn rule<'a>(self) -> Option<&'a Rule> {
        rule(self.0, self.number())
    }
}
