//! From a policy file to what the tracer puts in force.

use std::{
    io::{self, Write as _},
    path::Path,
};

use anyhow::Context as _;

use crate::{
    enrich::{cgroup::Cgroups, symbols::Symbols},
    kernel::release_paths::ReleasePaths,
    policy::{self, Compiled, Host, consumers},
    tracer::{self, in_force::Plan},
};

/// Reads, checks and compiles a policy for this kernel. What it warns of goes to stderr.
pub fn read(path: &Path) -> anyhow::Result<Plan> {
    let ways = ReleasePaths::of_kernel().map_err(tracer::Error::from)?;
    let symbols = Symbols::load();
    let compiled = compile(path, Some(&ways), symbols.as_ref().ok())?;
    let text_ranges = if compiled.consumers.is_empty() {
        Vec::new()
    } else {
        let symbols = symbols.context("the policy names consumers")?;
        consumers::text_ranges(&symbols, &compiled.consumers)?
    };
    Ok(Plan {
        holds: compiled.holds,
        bare_pins: compiled.bare_pins,
        hold_limit_ms: compiled.hold_limit_ms,
        rules: compiled.rules,
        consumers: compiled.consumers,
        text_ranges,
    })
}

/// The same up to the rules. Without `ways` nothing is said of what this kernel can deny.
pub fn compile(
    path: &Path,
    ways: Option<&ReleasePaths>,
    symbols: Option<&Symbols>,
) -> anyhow::Result<Compiled> {
    let check = policy::read(
        path,
        &Host {
            cgroups: &Cgroups::of_host(),
            ways,
            symbols,
        },
    )?;
    let warnings = check.render_said();
    let compiled = check.accept()?;
    if !warnings.is_empty() {
        // Nobody is left to tell if stderr is closed, too.
        let _ = writeln!(io::stderr(), "{}", warnings.trim_end());
    }
    Ok(compiled)
}
