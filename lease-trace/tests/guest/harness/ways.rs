//! The ways out of a lease, and what holds the pins meanwhile.

use super::actor::Fate;
use super::{Actor, Rxe, Scratch, Setting, Subject, open_lease_and_pin};

/// What an actor holds its pins with: the slots `f`, `m`, and `ring` or `d` and `mr`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Registered buffers of a ring, over a file on tmpfs.
    Ring,
    /// A memory region of rdma_rxe, read-only where the kernel allows it, over a file on ext4.
    Region,
}

/// One way for a lease to go.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub name: &'static str,
    /// What the tool calls it.
    pub cause: &'static str,
    who: Who,
    before: &'static [&'static str],
    command: &'static str,
}

/// Who lets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Owner,
    /// A forked child, without pins of its own.
    Child,
    /// Somebody who wants the file, and the kernel, which loses patience.
    Breaker,
}

const fn by_owner(
    name: &'static str,
    cause: &'static str,
    before: &'static [&'static str],
    command: &'static str,
) -> Way {
    Way {
        name,
        cause,
        who: Who::Owner,
        before,
        command,
    }
}

const WAYS: &[Way] = &[
    by_owner("unlock", "unlock", &[], "setlease f u"),
    by_owner("unlock of a delegation", "unlock", &[], "setdeleg f u"),
    by_owner("close", "close", &["munmap m"], "close f"),
    by_owner("dup2", "dup2", &["munmap m", "memfd o 4K"], "dup2 o f"),
    by_owner("dup3", "dup2", &["munmap m", "memfd o 4K"], "dup3 o f"),
    by_owner(
        "close_range",
        "close_range",
        &["munmap m"],
        "close_range f f",
    ),
    by_owner("munmap", "munmap", &["close f"], "munmap m"),
    by_owner(
        "exec",
        "exec",
        &["munmap m", "cloexec ring off"],
        "exec-self",
    ),
    by_owner("exit", "exit", &[], "exit 3"),
    by_owner("SIGKILL", "killed", &[], "kill-self KILL"),
    by_owner(
        "a ring's fixed file",
        "io_uring",
        &["munmap m", "register-files ring f", "close f"],
        "unregister-files ring",
    ),
    Way {
        name: "a child's unlock",
        cause: "unlock",
        who: Who::Child,
        before: &["fork child"],
        command: "child: setlease f u",
    },
    Way {
        name: "a receiver's close",
        cause: "close",
        who: Who::Child,
        before: &[
            "munmap m",
            "fork child",
            "child: close f",
            "send-fd f child",
            "close f",
            "child: recv-fd g parent",
        ],
        command: "child: close g",
    },
    Way {
        name: "a break that is ignored",
        cause: "break-timeout",
        who: Who::Breaker,
        before: &[],
        command: "",
    },
];

/// The ways that this kernel has and that this holder's pins outlive.
pub fn ways(holder: Holder) -> Vec<Way> {
    let delegations = has_delegations();
    let fits = |way: &&Way| match holder {
        Holder::Ring => delegations || !way.command.contains("deleg"),
        Holder::Region => {
            let ring = |command: &&str| command.contains("ring");
            !way.command.contains("deleg") && !way.before.iter().chain(&[way.command]).any(ring)
        }
    };
    WAYS.iter().filter(fits).copied().collect()
}

fn has_delegations() -> bool {
    let scratch = Scratch::new();
    let actor = Actor::start();
    actor.ok(&format!("open f {} rw,creat", scratch.file("f")));
    match actor.attempt("setdeleg f w") {
        Ok(_) => true,
        Err(refusal) => {
            assert_eq!(refusal.errno, libc::EINVAL, "{refusal}");
            false
        }
    }
}

impl Way {
    /// The process itself is going away.
    pub fn ends(&self) -> bool {
        matches!(self.cause, "exit" | "killed")
    }

    /// Somebody else than the owner of the pins lets go.
    pub fn is_others(&self) -> bool {
        self.who != Who::Owner
    }

    /// Everything up to the release. Says whether the pins were taken anew.
    pub fn prepare(&self, actor: &Actor) -> bool {
        let delegation = self.command.starts_with("setdeleg");
        if delegation {
            actor.all(&["unregister-buffers ring", "setlease f u"]);
            actor.all(&["setdeleg f w", "register-buffers ring m"]);
        }
        actor.all(self.before);
        delegation
    }

    /// The release, and what becomes of the one who tries it.
    pub fn take(&self, actor: &mut Actor, file: &Subject) -> Fate {
        if self.who == Who::Breaker {
            let _short = Setting::set("fs/lease-break-time", "1");
            // Waits until the kernel takes the lease away.
            return Actor::start().fate(&format!("open g {} rw", file.path));
        }
        actor.fate(self.command)
    }
}

impl Holder {
    /// A lease and pins under it, on a new file.
    pub fn open(self, actor: &Actor, path: &str) -> Subject {
        match self {
            Self::Ring => open_lease_and_pin(actor, path),
            Self::Region => {
                actor.ok(&format!("rdma-open d {}", Rxe::DEVICE));
                actor.ok(&format!("open f {path} rw,creat,cloexec"));
                actor.all(&["write-all f 1M", "setlease f w", "mmap m f 1M shared rw"]);
                if actor.attempt("reg-mr mr d m rw").is_err() {
                    actor.all(&["munmap m", "mmap m f 1M shared ro", "reg-mr mr d m ro"]);
                }
                Subject::at(path)
            }
        }
    }

    /// The command that drops the pins.
    pub const fn unpin(self) -> &'static str {
        match self {
            Self::Ring => "unregister-buffers ring",
            Self::Region => "dereg-mr mr",
        }
    }
}
