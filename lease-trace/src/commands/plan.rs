//! From a policy file to what the tracer puts in force.

use std::path::Path;

use crate::tracer::policy::Plan;

/// Reads, checks and compiles a policy. What it warns of goes to stderr.
pub fn read(path: &Path) -> anyhow::Result<Plan> {
    let text = std::fs::read_to_string(path)?;
    let mut plan = Plan {
        enforce: true,
        hold_limit_ms: 300_000,
        ..Plan::default()
    };
    let mut rule = lease_trace_common::policy::Rule::ANY;
    for line in text.lines() {
        let (k, v) = line.split_once('=').unwrap();
        match k {
            "action" => rule.action = v.parse()?,
            "otherwise" => rule.otherwise = v.parse()?,
            "mode" => plan.enforce = v == "enforce",
            "on" => {
                rule.on = v.parse()?;
                plan.bare_pins = rule.on & 2 != 0;
            }
            _ => {}
        }
    }
    rule.name[0] = b't';
    plan.holds = rule.action == 2 || rule.otherwise == 2;
    plan.rules.push(rule);
    Ok(plan)
}
