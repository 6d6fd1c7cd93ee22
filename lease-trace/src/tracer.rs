//! The live side: loads the object, attaches it, adopts older leases, and hands out ring records
//! and snapshots. What the records mean is not decided here.

mod attach;
pub mod bpffs;
mod cast;
pub mod check;
mod control_map;
pub mod cross_check;
mod denial;
#[cfg(test)]
mod depth;
pub mod enforcement;
mod error;
pub mod holdings;
mod hooks;
mod idle;
pub mod in_force;
mod inodes;
mod iterator;
mod kinds;
mod lapsed;
#[cfg(test)]
mod layout;
mod left_over;
mod lock;
mod logs;
pub mod look;
mod maps;
mod notifications;
mod object;
pub mod orphaned;
mod orphans;
mod own_maps;
mod pinned;
pub mod proof;
mod raw;
pub mod reader;
mod references;
mod self_test;
mod set_up;
pub mod snapshot;
pub mod survey;
mod upkeep;
pub mod wakeup;
mod walk;

use std::{collections::BTreeSet, time::Duration};

use aya::maps::{Array, HashMap, Map, MapData};
use lease_trace_common::{
    control,
    count::PerCpu,
    policy::{Header, TextRange},
    stake::{InodeSlot, Stake, StakeKey},
    totals::Totals,
};

pub use self::pinned::{stale, started};
pub use self::{
    attach::{Attachment, Outcome},
    error::Error,
    holdings::Holdings,
    kinds::Host,
    snapshot::Snapshot,
    walk::Over,
};
use self::{
    denial::Denials,
    hooks::Hooks,
    in_force::{InForce, Plan, PolicyMaps},
    inodes::Inodes,
    logs::Logs,
    maps::{Counts, Maps},
    notifications::Notifications,
    object::Purpose,
    own_maps::OwnMaps,
    proof::Look,
    raw::Link,
    set_up::{Links, SetUp},
    upkeep::Upkeep,
    walk::Walker,
};
use crate::kernel::host::Obstacle;

/// Which hooks to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AttachMode {
    /// For each function what misses least on this kernel, and of that what costs least; the next where it is
    /// refused.
    #[default]
    Auto,
    Fentry,
    Kprobe,
    Multi,
}

/// What to trace and how.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub attach: AttachMode,
    /// How many leases, stakes and files there is room for.
    pub capacity: u32,
    /// Short-term pins, too.
    pub pins_all: bool,
    /// All pins are counted, to be held against the kernel's own count.
    pub cross_check: bool,
    /// Notifications of leases set and ended, too.
    pub all_events: bool,
    /// Who may read the files in bpffs; `None`: as it is, or root only.
    pub files: Option<bpffs::Mode>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            attach: AttachMode::default(),
            capacity: CAPACITY,
            pins_all: false,
            cross_check: false,
            all_events: false,
            files: None,
        }
    }
}

/// How many leases, stakes and files there is room for where nobody says.
pub const CAPACITY: u32 = 65_536;

/// A running trace. Dropping it detaches everything and removes the pinned maps, unless it reads
/// those of the enforcement in place, which stays.
pub struct Tracer {
    notifications: Notifications,
    maps: Maps<MapData>,
    policy: PolicyMaps<MapData>,
    attached: Vec<String>,
    cannot: Vec<String>,
    limits: BTreeSet<String>,
    recovered: Option<String>,
    walker: Walker,
    hooks: Hooks,
    logs: Logs,
    upkeep: Upkeep,
    keeper: Keeper,
}

/// What keeps the programs attached.
#[allow(
    dead_code,
    clippy::large_enum_variant,
    reason = "held for what its end does, and there is one of them"
)]
enum Keeper {
    /// This process. Dropped in this order: first the readers' directory goes, then the programs. Of the
    /// object that they are from nothing is needed any more.
    Own(pinned::Directory, Option<Denials>, Vec<Link>),
    /// The enforcement in place.
    InPlace(pinned::Claim),
}

impl Tracer {
    /// Takes over the enforcement in place if there is one; else loads, attaches, pins the maps,
    /// adopts the leases that exist already and puts `plan` in force. Must be called inside a
    /// tokio runtime. On an error nothing new stays attached or pinned.
    pub fn start(options: Options, plan: Option<&Plan>) -> Result<Self, Error> {
        if pinned::enforced()? {
            return match plan {
                Some(_) => Err(Error::PolicyInPlace),
                None => Self::take_over(options),
            };
        }
        let ready = set_up::set_up(options, plan, Links::Own)?;
        let cannot = ready.cannot();
        let SetUp {
            mut object,
            directory,
            recovered,
            attachments,
            denials,
            walker,
            limits,
            ..
        } = ready;
        let mut attached: Vec<String> = attachments
            .iter()
            .filter_map(Attachment::describe)
            .collect();
        let mut policy = enforcement::from(|name| object.maps.take(name))?;
        if let (Some(plan), Some(denials)) = (plan, &denials) {
            attached.extend_from_slice(&denials.attached);
            policy.put_in_force(plan, denials.deniable)?;
            pinned::set_words(&[(control::HOLD_LIMIT, plan.hold_limit_ms)])?;
        }
        let notifications = Notifications::of(object.maps.take("EVENTS")?)?;
        let hooks = Hooks::own(&object, denials.as_ref())?;
        let maps = owned(&mut object.maps)?;
        let links = object.links;
        drop((object.maps, object.raw, object.types));
        give_back();
        Ok(Self {
            notifications,
            maps,
            policy,
            attached,
            cannot,
            limits,
            recovered,
            walker,
            logs: Logs::of(&hooks),
            hooks,
            upkeep: Upkeep::open(),
            keeper: Keeper::Own(directory, denials, links),
        })
    }

    fn take_over(options: Options) -> Result<Self, Error> {
        let claim = pinned::claim()?;
        pinned::set_words(&[(control::ALL_EVENTS, u64::from(options.all_events))])?;
        let hooks = Hooks::in_place()?;
        let hindered = options.files.map(bpffs::set_mode).transpose()?.flatten();
        let limits = limits();
        Ok(Self {
            notifications: Notifications::of(of_directory("EVENTS")?)?,
            maps: of_monitor()?,
            policy: enforcement::from(of_directory)?,
            attached: pinned::links()
                .into_iter()
                .map(|name| format!("{name}: in place"))
                .collect(),
            cannot: limits.iter().cloned().chain(hindered).collect(),
            limits,
            recovered: None,
            walker: pinned::walker()?,
            logs: Logs::of(&hooks),
            hooks,
            upkeep: Upkeep::open(),
            keeper: Keeper::InPlace(claim),
        })
    }

    /// The policy in force and what its rules came to.
    pub fn in_force(&self) -> Result<InForce, Error> {
        self.policy.in_force()
    }

    /// One line for each point that is watched.
    pub fn attached(&self) -> Vec<String> {
        self.attached.clone()
    }

    /// What this kernel cannot show, with the reason.
    pub fn cannot(&self) -> Vec<String> {
        self.cannot.clone()
    }

    /// Of this, what the start found and [`limits`] looks for again.
    pub fn limits(&self) -> &BTreeSet<String> {
        &self.limits
    }

    /// What an earlier monitor left behind and this one removed.
    pub fn recovered(&self) -> Option<&str> {
        self.recovered.as_deref()
    }

    /// Waits for notifications. Safe to cancel: what is not returned is kept.
    pub async fn next(&mut self) -> Vec<Vec<u8>> {
        self.notifications.next().await
    }

    /// The notifications that are there now.
    pub fn drain(&mut self) -> Vec<Vec<u8>> {
        self.notifications.drain()
    }

    /// Enters among the counters how often hooks were missed, and logs what the programs have to say of losses.
    pub fn count_missed(&mut self) -> Result<(), Error> {
        self.logs.flush();
        self.maps.set_lost_hooks(self.hooks.missed()?)
    }

    /// Counters, indexed by `Count`.
    pub fn counts(&self) -> Result<Counts, Error> {
        self.maps.counts()
    }

    /// Whether any file has pins by the books.
    pub fn has_pins(&self) -> Result<bool, Error> {
        Ok(*self.maps.totals()?.pinned != 0)
    }

    /// What is looked at again and again.
    pub const fn upkeep(&mut self) -> &mut Upkeep {
        &mut self.upkeep
    }

    /// Holds the books against the page caches, see [`Upkeep::prove`].
    pub fn prove(&mut self, limit: Duration) -> Option<Look> {
        self.upkeep.prove(&self.maps, limit)
    }

    /// Files that had fewer pins than are counted, in the last whole look at all of them.
    pub fn doubtful(&self) -> Result<usize, Error> {
        Ok(if self.has_pins()? {
            self.upkeep.doubtful()
        } else {
            0
        })
    }

    /// Whether this is the enforcement in place, which was there before and stays.
    pub const fn is_in_place(&self) -> bool {
        matches!(self.keeper, Keeper::InPlace(_))
    }

    /// Rules in force.
    pub fn rules(&self) -> Result<u32, Error> {
        Ok(self.policy.header()?.rules())
    }

    /// Has the code of the consumers that rules name looked up by `find`, and puts the rules in force
    /// again where it is elsewhere than they say; whether it is. Nobody changes the policy meanwhile.
    pub fn move_consumers<E: From<Error>>(
        &mut self,
        find: impl FnOnce(&[String]) -> Result<Vec<TextRange>, E>,
    ) -> Result<bool, E> {
        let _lock = pinned::locked()?;
        let consumers = self.policy.consumers()?;
        if consumers.is_empty() {
            return Ok(false);
        }
        let now = find(&consumers)?;
        if in_force::same_code(&now, &self.policy.text_ranges()?) {
            return Ok(false);
        }
        self.policy.move_consumers(now)?;
        Ok(true)
    }

    /// What each process has in each file now.
    pub fn stakes(&self) -> Result<Vec<snapshot::StakeView>, Error> {
        self.maps.stakes()
    }

    /// Those that are meant.
    pub fn stakes_with(
        &self,
        is_meant: impl Fn(&StakeKey, &Stake) -> bool,
    ) -> Result<Vec<snapshot::StakeView>, Error> {
        self.maps.stakes_with(is_meant)
    }

    /// The leases in force now.
    pub fn leased(&self) -> Result<snapshot::Leased, Error> {
        self.maps.leased()
    }

    /// Leases and stakes now, and how full the maps are.
    pub fn holdings(&self) -> Result<Holdings, Error> {
        self.maps.holdings()
    }

    /// The policy in force, in a word.
    pub fn header(&self) -> Result<Header, Error> {
        self.policy.header()
    }

    /// What the maps say now; holders are not walked.
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        let own = snapshot::Source::Monitor(std::process::id());
        read(&self.maps, idle::Files::now, Vec::new(), Some(own))
    }

    /// Detaches everything and removes the pinned maps.
    pub fn stop(self) {
        drop(self);
    }
}

/// Gives the system back what a start took for a moment: the kernel's types and the object are much
/// more than what a monitor has in the long run, and the allocator would keep it. From now on what is
/// large for a moment (a look at all stakes) is memory of its own, which goes when it is freed.
fn give_back() {
    const LARGE: libc::c_int = 128 << 10;
    // SAFETY: both take numbers; what is freed is what nobody has.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::malloc_trim(0);
    }
}

fn owned(maps: &mut OwnMaps) -> Result<Maps<MapData>, Error> {
    assemble(|name| maps.take(name))
}

/// The maps of the running monitor, or of the enforcement in place.
fn of_monitor() -> Result<Maps<MapData>, Error> {
    assemble(of_directory)
}

fn of_directory(name: &'static str) -> Result<Map, Error> {
    Map::from_map_data(pinned::open(name)?)
        .map_err(|error| Error::maps("cannot open the map", name, error))
}

fn assemble(
    mut get: impl FnMut(&'static str) -> Result<Map, Error>,
) -> Result<Maps<MapData>, Error> {
    let bad = |name: &'static str| {
        move |error: aya::maps::MapError| Error::maps("cannot open the map", name, error)
    };
    Ok(Maps {
        leases: HashMap::try_from(get("LEASES")?).map_err(bad("LEASES"))?,
        stakes: HashMap::try_from(get("STAKES")?).map_err(bad("STAKES"))?,
        inodes: Inodes::of(get(InodeSlot::MAP)?).map_err(bad(InodeSlot::MAP))?,
        paths: HashMap::try_from(get("PATHS")?).map_err(bad("PATHS"))?,
        breakers: HashMap::try_from(get("BREAKERS")?).map_err(bad("BREAKERS"))?,
        counts: Array::try_from(get(PerCpu::MAP)?).map_err(bad(PerCpu::MAP))?,
        totals: Array::try_from(get(Totals::MAP)?).map_err(bad(Totals::MAP))?,
        control: Array::try_from(get("CONTROL")?).map_err(bad("CONTROL"))?,
        key_by_key: pinned::word(control::KPROBES) != 0,
    })
}

/// What is in the place of the directory in bpffs, if that is not lease-trace's.
pub fn stranger() -> Option<Obstacle> {
    match lock::is_own(pinned::directory()) {
        Err(Error::Stranger { directory, what }) => Some(Obstacle {
            what: format!("{directory} {what}"),
            remedy: format!("look at it and remove it: rm -r {directory}"),
            kernel: false,
        }),
        _ => None,
    }
}

/// What keeps the hooks from seeing everything now, apart from what only a start looks for.
pub fn limits() -> BTreeSet<String> {
    set_up::limits(pinned::word(control::KPROBES) != 0)
}

/// How long a held file may be kept after its process let it go, ms, as the policy in force says.
pub fn hold_limit_ms() -> u64 {
    pinned::word(control::HOLD_LIMIT)
}

fn read(
    maps: &Maps<MapData>,
    idle: impl FnOnce() -> idle::Files,
    holders: Vec<snapshot::Holder>,
    source: Option<snapshot::Source>,
) -> Result<Snapshot, Error> {
    let leases = maps.leases(idle)?;
    let mut stakes = maps.stakes()?;
    stakes.extend(idle::stake_views(&leases, &stakes));
    let mut snapshot = Snapshot {
        leases,
        stakes,
        holders,
        counts: maps.counts()?,
        source,
    };
    snapshot.name_breakers(&maps.breakers()?);
    Ok(snapshot)
}

/// For `doctor`: attaches every point for a moment and tells what became of each.
pub fn trial() -> Result<Vec<Attachment>, Error> {
    let purpose = Purpose {
        judges: true,
        tells_of_leases: true,
        ..object::Purpose::default()
    };
    let mut object = object::load(Options::default(), purpose)?;
    let mut attachments = attach::attach(&mut object, AttachMode::Auto, None)?;
    attachments.push(attach::attach_unlocked(
        &mut object,
        AttachMode::Auto,
        None,
    )?);
    attachments.extend(attach::attach_returned(
        &mut object,
        AttachMode::Auto,
        None,
    )?);
    Ok(attachments)
}
