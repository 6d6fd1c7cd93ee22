//! Whole policies.

mod compiled;
mod effect;
mod wrong;

use std::fs;

use lease_trace_common::{
    cause::Cause,
    lease::F_WRLCK,
    policy::{Action, NAME_LEN, Rule, RuleFacts, cause_bit, kind_bit, mode_bit, on},
};

use super::{
    check::{Check, Host, check},
    diagnostic::{Severity, Source},
    effect::Effect,
};
use crate::{enrich::cgroup::Cgroups, kernel::release_paths::ReleasePaths};

fn check_with(text: &str, cgroups: &Cgroups, ways: Option<&ReleasePaths>) -> Check {
    let source = Source {
        name: "policy.toml".to_owned(),
        text: text.to_owned(),
    };
    let host = Host {
        cgroups,
        ways,
        symbols: None,
    };
    check(source, &host)
}

fn on_kernel(text: &str, ways: &ReleasePaths) -> Check {
    check_with(text, &Cgroups::default(), Some(ways))
}

fn on_linux_7(text: &str) -> Check {
    on_kernel(text, &ReleasePaths::like_linux_7())
}

/// One rule with these lines in it, of which `match` is the third.
fn rule(lines: &str) -> String {
    format!("[[rule]]\nname = \"r\"\n{lines}\n")
}

fn said(text: &str) -> String {
    on_linux_7(text).render_said()
}

fn compiled(text: &str) -> Rule {
    let check = on_linux_7(text);
    assert_eq!(check.render_said(), "", "{text}");
    check.accept().expect("fine").rules[0]
}

const REPORT: &str = "action = \"report\"";

fn matching(table: &str) -> String {
    rule(&format!("match = {{ {table} }}\n{REPORT}"))
}
