//! The rules in force and what they came to, in words.

use std::collections::BTreeMap;

use lease_trace_common::{policy::Action, verdict::Outcome};

use crate::{
    record::PolicyInForce,
    tracer::in_force::{InForce, RuleInForce},
};

pub fn name(rule: &RuleInForce) -> String {
    String::from_utf8_lossy(rule.rule.name()).into_owned()
}

/// The policy in force; `None` without rules.
pub fn describe(in_force: &InForce) -> Option<PolicyInForce> {
    (!in_force.rules.is_empty()).then(|| PolicyInForce {
        mode: in_force.header.mode(),
        rules: in_force.rules.iter().map(name).collect(),
        generation: in_force.header.generation(),
    })
}

/// `denied` 3, `would-kill` 1 and the like, since the rule was put in force.
pub fn hits(rule: &RuleInForce) -> BTreeMap<String, u64> {
    let mut hits = BTreeMap::new();
    for (action, outcome, count) in &rule.hits {
        *hits.entry(hit(*action, *outcome)).or_default() += count;
    }
    hits
}

/// The same in a sentence.
pub fn hits_in_words(hits: &BTreeMap<String, u64>) -> String {
    if hits.is_empty() {
        return "no hits".to_owned();
    }
    let hits: Vec<_> = hits
        .iter()
        .map(|(what, count)| format!("{what} {count}"))
        .collect();
    hits.join(", ")
}

fn hit(action: Action, outcome: Outcome) -> String {
    let done = match action {
        Action::Report => "reported",
        Action::Deny => "denied",
        Action::Hold => "held",
        Action::Stop => "stopped",
        Action::Kill => "killed",
    };
    match outcome {
        Outcome::Done => done.to_owned(),
        Outcome::Would => format!("would-{}", action.name()),
        Outcome::HandedOver => format!("{done}-by-monitor"),
        Outcome::Spared => "spared".to_owned(),
        Outcome::Bystander => "bystander".to_owned(),
        Outcome::Failed => format!("{}-failed", action.name()),
        Outcome::Ending => "ending".to_owned(),
    }
}
