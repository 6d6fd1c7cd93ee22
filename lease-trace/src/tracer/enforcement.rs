//! Enforcement that outlives the process: links and maps pinned in bpffs. A monitor that comes
//! later takes over the maps as they are; nothing is attached anew, so nothing is missed.

use std::time::{SystemTime, UNIX_EPOCH};

use aya::maps::{Array, Map, MapData};
use lease_trace_common::{control, count::Count, policy::TextRange};

use super::{
    Options, bpffs, control_map,
    error::Error,
    in_force::{InForce, Plan, PolicyMaps},
    pinned,
    set_up::{self, Links},
};

/// What `enforce start` did.
pub struct Started {
    /// False: it was in place, and has another policy now.
    pub fresh: bool,
    pub in_force: InForce,
    /// What this kernel cannot show, with the reason.
    pub cannot: Vec<String>,
}

/// What is in place.
pub struct Status {
    /// Seconds since the epoch.
    pub since: u64,
    pub in_force: InForce,
    /// Pid of the monitor that reads the ring buffer.
    pub monitor: Option<u32>,
    pub hold_limit_ms: u64,
    /// The consumers that rules name, number 1 first, and where their code is by the policy.
    pub consumers: Vec<String>,
    pub text_ranges: Vec<TextRange>,
    pub links: Vec<String>,
    pub counts: [u64; Count::LEN],
}

/// Puts enforcement in place, or a new policy into the enforcement there is. On an error nothing
/// new stays behind, and a policy in force stays in force.
pub fn start(options: Options, plan: &Plan) -> Result<Started, Error> {
    if pinned::enforced()? {
        // Two policies at once would be written into the same half of the maps.
        let _lock = pinned::locked()?;
        let mut maps = maps()?;
        let deniable = maps.header()?.deniable();
        maps.put_in_force(plan, deniable)?;
        pinned::set_words(&[(control::HOLD_LIMIT, plan.hold_limit_ms)])?;
        let hindered = options.files.map(bpffs::set_mode).transpose()?.flatten();
        return Ok(Started {
            fresh: false,
            in_force: maps.in_force()?,
            cannot: hindered.into_iter().chain(late_bare(plan)).collect(),
        });
    }
    let ready = set_up::set_up(options, Some(plan), Links::Pinned)?;
    let mut maps = maps()?;
    let deniable = ready.denials.as_ref().map_or(0, |denials| denials.deniable);
    maps.put_in_force(plan, deniable)?;
    let in_force = maps.in_force()?;
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    // Until the last of these words it is said to be starting, and to be cut off if this process
    // ends before.
    pinned::set_words(&[
        (control::PID, 0),
        (control::SINCE, since),
        (control::HOLD_LIMIT, plan.hold_limit_ms),
        (control::ENFORCED, control::IN_PLACE),
    ])?;
    let cannot = ready.cannot();
    ready.directory.keep();
    Ok(Started {
        fresh: true,
        in_force,
        cannot,
    })
}

/// The hooks are those that the first policy asked for.
fn late_bare(plan: &Plan) -> Option<String> {
    let is_late = plan.bare_pins && pinned::word(control::JUDGES_RETURNED) == 0;
    is_late.then(|| {
        "`stop` and `kill` for bare pins wait for a monitor: enforcement was started without a rule \
         about them; `lease-trace enforce stop` and start it again"
            .to_owned()
    })
}

/// Removes everything, whatever state it is in; whether there was anything. A monitor that is
/// running on its own keeps what is its own.
pub fn stop() -> Result<bool, Error> {
    pinned::remove_all()
}

/// What is in place; `None`: nothing. An error if it is not whole.
pub fn status() -> Result<Option<Status>, Error> {
    if !pinned::enforced()? {
        return match control_map::busy() {
            Some(starting @ Error::Starting { .. }) => Err(starting),
            _ => pinned::cut_off().map_or(Ok(None), Err),
        };
    }
    let maps = maps()?;
    Ok(Some(Status {
        since: pinned::word(control::SINCE),
        in_force: maps.in_force()?,
        consumers: maps.consumers()?,
        text_ranges: maps.text_ranges()?,
        monitor: pinned::living_owner(),
        hold_limit_ms: pinned::word(control::HOLD_LIMIT),
        links: pinned::links(),
        counts: super::of_monitor()?.counts()?,
    }))
}

/// The pinned maps of the policy.
fn maps() -> Result<PolicyMaps<MapData>, Error> {
    from(super::of_directory)
}

/// The maps of the policy, wherever they come from.
pub fn from(
    mut get: impl FnMut(&'static str) -> Result<Map, Error>,
) -> Result<PolicyMaps<MapData>, Error> {
    let bad = |name: &'static str| {
        move |error: aya::maps::MapError| Error::maps("cannot open the map", name, error)
    };
    Ok(PolicyMaps {
        policy: Array::try_from(get("POLICY")?).map_err(bad("POLICY"))?,
        rules: Array::try_from(get("RULES")?).map_err(bad("RULES"))?,
        text_ranges: Array::try_from(get("TEXT_RANGES")?).map_err(bad("TEXT_RANGES"))?,
        consumers: Array::try_from(get("CONSUMERS")?).map_err(bad("CONSUMERS"))?,
        hits: Array::try_from(get("HITS")?).map_err(bad("HITS"))?,
    })
}
