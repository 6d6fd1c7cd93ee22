//! The code of the consumers that rules name, which moves when modules come and go.

use lease_trace_common::policy::TextRange;

use crate::{
    enrich::symbols::{Modules, Symbols},
    policy::consumers::text_ranges,
    tracer::{Tracer, enforcement::Status, in_force::same_code},
};

/// Looks it up when modules came or went.
#[derive(Default)]
pub struct Moved {
    /// Those of the last look.
    modules: Option<Modules>,
}

impl Moved {
    /// Puts the rules in force again if code of their consumers has moved. What keeps it from that is told
    /// once for each change of the modules.
    pub fn look(&mut self, tracer: &mut Tracer) -> anyhow::Result<()> {
        if tracer.rules()? == 0 {
            return Ok(());
        }
        let now = match Modules::now() {
            Ok(now) if self.modules.as_ref() != Some(&now) => now,
            _ => return Ok(()),
        };
        self.modules = Some(now);
        match tracer.move_consumers(find) {
            Ok(true) => log::warn!(
                "modules came or went: where the code of the rules' consumers is was looked up again"
            ),
            Ok(false) => {}
            Err(error) => log::warn!(
                "modules came or went, and rules with `consumer` may miss theirs: {error:#}"
            ),
        }
        Ok(())
    }
}

/// Whether code of the consumers that rules name is elsewhere than the policy in force says; `None`: not
/// known.
pub fn have_moved(status: &Status) -> Option<bool> {
    if status.consumers.is_empty() {
        return Some(false);
    }
    let now = find(&status.consumers).ok()?;
    Some(!same_code(&now, &status.text_ranges))
}

fn find(consumers: &[String]) -> anyhow::Result<Vec<TextRange>> {
    Ok(text_ranges(&Symbols::load()?, consumers)?)
}
