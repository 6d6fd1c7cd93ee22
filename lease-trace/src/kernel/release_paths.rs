//! The release paths of a lease, and which of them this kernel lets be denied: found by loading a program
//! that would.

use lease_trace_common::{
    cause::Cause,
    policy::{Action, DENIABLE, cause_bit},
};
use serde::Serialize;

use super::{
    bpf::Kind,
    btf::Btf,
    denials::{DENIALS, Denial},
    host::{self, Obstacle},
    preemption::Preemption,
    trial::{self, Refusal},
};

/// All release paths that a process can take or be sent.
pub const RELEASE_PATHS: [Cause; 13] = [
    Cause::Unlock,
    Cause::Close,
    Cause::Dup2,
    Cause::CloseRange,
    Cause::Munmap,
    Cause::Exec,
    Cause::Exit,
    Cause::Killed,
    Cause::IoUring,
    Cause::BreakTimeout,
    Cause::Other,
    Cause::ThreadExit,
    Cause::Orphaned,
];

/// Why some release paths cannot be denied, whatever the kernel.
pub const NOWHERE: &str = "no kernel lets this be denied";

/// How a release path is denied where tasks are preempted inside the program.
const MISSES: &str = "fmod_ret, which misses a call where another task was preempted inside it";

/// What makes more ways deniable.
const REMEDY: &str = "a newer kernel; 7.3 allows it";

/// What this kernel lets be done about each release path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleasePaths {
    /// The ways that a hook of ours can deny, on some kernel: how, or why not on this one.
    deny: Vec<(Cause, Result<&'static str, String>)>,
    /// fmod_ret may be missed: a task is preempted inside. A program of the BPF LSM never is.
    misses: bool,
}

/// Whether an action can be had for a release path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "can", rename_all = "lowercase")]
pub enum Answer {
    Yes {
        #[serde(skip_serializing_if = "Option::is_none")]
        how: Option<String>,
    },
    No {
        why: String,
    },
    /// The process is ending: there is nothing to do.
    Ends,
}

impl Answer {
    fn yes() -> Self {
        Self::Yes { how: None }
    }

    fn by(how: &str) -> Self {
        Self::Yes {
            how: Some(how.to_owned()),
        }
    }

    fn no(why: &str) -> Self {
        Self::No {
            why: why.to_owned(),
        }
    }
}

impl ReleasePaths {
    /// Asks the running kernel.
    ///
    /// # Errors
    /// When it cannot be told: there is no BTF, or bpf(2) is refused.
    pub fn of_kernel() -> Result<Self, Obstacle> {
        if let Some(obstacle) = host::capabilities() {
            return Err(obstacle);
        }
        Self::of(&host::btf()?)
    }

    /// The same, for who has read BTF already.
    pub fn of(btf: &Btf) -> Result<Self, Obstacle> {
        let ways = DENIABLE.into_iter();
        let deny = ways.map(|cause| Ok((cause, accepted(btf, cause)?)));
        Ok(Self {
            deny: deny.collect::<Result<_, _>>()?,
            misses: Preemption::ask().may_miss(),
        })
    }

    /// How a release path can be denied, or why not.
    pub fn deny(&self, cause: Cause) -> Result<&'static str, &str> {
        let known = self.deny.iter().find(|(way, _)| *way == cause);
        known.map_or(Err(NOWHERE), |(_, found)| {
            found.as_ref().copied().map_err(String::as_str)
        })
    }

    /// The release paths that can be denied: for [`lease_trace_common::policy::Header::deniable_by`].
    pub fn deniable(&self) -> u32 {
        let deniable = self.deny.iter().filter(|(_, found)| found.is_ok());
        deniable.fold(0, |set, (cause, _)| set | cause_bit(*cause as u32))
    }

    /// Whether everything can be denied that can be on some kernel.
    pub fn is_whole(&self) -> bool {
        let deniable = self.deniable();
        DENIABLE
            .iter()
            .all(|cause| deniable & cause_bit(*cause as u32) != 0)
    }

    /// Whether an action can be had for a release path.
    pub fn can(&self, action: Action, cause: Cause) -> Answer {
        match (action, cause) {
            (_, Cause::Exit | Cause::Killed) => Answer::Ends,
            (Action::Deny, _) => match self.deny(cause) {
                Ok(how) if self.misses && how == Kind::ModifyReturn.name() => Answer::by(MISSES),
                Ok(how) => Answer::by(how),
                Err(why) if DENIABLE.contains(&cause) && cause != Cause::Unlock => {
                    Answer::no(&format!("{why}; remedy: {REMEDY}"))
                }
                Err(why) => Answer::no(why),
            },
            (Action::Hold, Cause::Unlock) => match self.deny(cause) {
                Ok(_) => Answer::by("by denying it: a duplicate does not keep what is unlocked"),
                Err(why) => Answer::no(why),
            },
            (Action::Hold, Cause::BreakTimeout) => {
                Answer::no("the kernel takes the lease away, whoever keeps the file")
            }
            (Action::Stop | Action::Kill, Cause::Other) => {
                Answer::by("unless another process released it: then it is only reported")
            }
            (Action::Report | Action::Stop | Action::Kill, Cause::Orphaned) => {
                Answer::by("by a monitor, which finds it by a walk over descriptors")
            }
            (Action::Report | Action::Hold | Action::Stop | Action::Kill, _) => Answer::yes(),
        }
    }

    #[cfg(test)]
    pub fn like_debian_12() -> Self {
        let refused = || Err("the system call is not modifiable".to_owned());
        let mut deny: Vec<_> = DENIABLE.map(|cause| (cause, refused())).into();
        deny[0] = (Cause::Unlock, Ok("BPF LSM"));
        Self {
            deny,
            misses: false,
        }
    }

    #[cfg(test)]
    pub fn like_linux_7() -> Self {
        let mut ways = Self::like_debian_12();
        for (_, found) in &mut ways.deny[1..] {
            *found = Ok("fmod_ret");
        }
        ways.misses = true;
        ways
    }

    #[cfg(test)]
    pub fn none() -> Self {
        let mut ways = Self::like_debian_12();
        ways.deny[0].1 = Err("this kernel has no function security_file_lock".to_owned());
        ways
    }
}

/// How a release path can be denied: every program that is for it has a hook.
fn accepted(btf: &Btf, cause: Cause) -> Result<Result<&'static str, String>, Obstacle> {
    let mut found = Err(NOWHERE.to_owned());
    for denial in DENIALS.iter().filter(|denial| denial.cause == cause) {
        found = hook(btf, denial)?;
        if found.is_err() {
            break;
        }
    }
    Ok(found)
}

fn hook(btf: &Btf, denial: &Denial) -> Result<Result<&'static str, String>, Obstacle> {
    let mut found = Err(NOWHERE.to_owned());
    for (kind, function) in denial.hooks {
        if *kind == Kind::Lsm && !host::bpf_lsm_is_active() {
            continue;
        }
        match said(trial::denial(btf, *kind, function))? {
            Ok(()) => return Ok(Ok(kind.name())),
            // One reason for all system calls, not one for each name.
            Err(reason) => {
                found = Err(if function.starts_with("__x64_sys_") {
                    reason.replace(&format!("{function}()"), "the system call")
                } else {
                    reason
                });
            }
        }
    }
    Ok(found)
}

/// What the kernel said, unless it did not want to be asked.
fn said(tried: Result<(), Refusal>) -> Result<Result<(), String>, Obstacle> {
    match tried {
        Ok(()) => Ok(Ok(())),
        Err(Refusal::Kernel(reason)) => Ok(Err(reason)),
        Err(Refusal::Privilege) => Err(Obstacle {
            what: "bpf(2) was refused (EPERM)".to_owned(),
            remedy: host::refusal(),
            kernel: false,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_set_has_the_ways_that_can_be_denied() {
        let bits = |causes: &[Cause]| {
            causes
                .iter()
                .fold(0, |set, cause| set | cause_bit(*cause as u32))
        };
        assert_eq!(
            ReleasePaths::like_debian_12().deniable(),
            bits(&[Cause::Unlock])
        );
        assert_eq!(ReleasePaths::like_linux_7().deniable(), bits(&DENIABLE));
        assert_eq!(ReleasePaths::none().deniable(), 0);
        assert!(
            ReleasePaths::like_linux_7().is_whole() && !ReleasePaths::like_debian_12().is_whole()
        );
    }

    #[test]
    fn what_a_preempted_task_hides_is_said() {
        let mut ways = ReleasePaths::like_linux_7();
        let close = |ways: &ReleasePaths| ways.can(Action::Deny, Cause::Close);
        assert_eq!(close(&ways), Answer::by(MISSES));
        assert_eq!(ways.can(Action::Deny, Cause::Unlock), Answer::by("BPF LSM"));
        ways.misses = false;
        assert_eq!(close(&ways), Answer::by("fmod_ret"));
    }

    #[test]
    fn what_no_hook_passes_cannot_be_denied() {
        let ways = ReleasePaths::like_linux_7();
        for cause in RELEASE_PATHS {
            assert_eq!(
                ways.deny(cause).is_ok(),
                DENIABLE.contains(&cause),
                "{cause:?}"
            );
        }
    }
}
