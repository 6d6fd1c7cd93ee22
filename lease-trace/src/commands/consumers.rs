//! The code of the consumers that rules name, which moves when modules come and go.

use lease_trace_common::policy::TextRange;

use crate::{
    enrich::symbols::{Modules, Symbols},
    policy::consumers::text_ranges,
    tracer::{Tracer, enforcement::Status, in_force::same_code},
};

/// Looks it up when modules came or went, or another policy is in force.
#[derive(Default)]
pub struct Moved {
    /// The modules and the policy's generation, when it was last looked up.
    looked_up: Option<(Modules, u32)>,
}

impl Moved {
    /// Puts the rules in force again if code of their consumers has moved.
    pub fn look(&mut self, tracer: &mut Tracer) -> anyhow::Result<()> {
        if tracer.rules()? == 0 {
            return Ok(());
        }
        let generation = tracer.header()?.generation();
        let now = match Modules::now() {
            Ok(now) => (now, generation),
            Err(_) => return Ok(()),
        };
        if self.looked_up.as_ref() == Some(&now) {
            return Ok(());
        }
        match tracer.move_consumers(find) {
            Ok(true) => log::warn!(
                "modules came or went: the code of the rules' consumers was looked up again"
            ),
            Ok(false) => {}
            Err(error) => log::warn!(
                "modules came or went, and rules with `consumer` may miss theirs: {error:#}"
            ),
        }
        // By now it may be in force once more, with another generation.
        self.looked_up = Some((now.0, tracer.header()?.generation()));
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
