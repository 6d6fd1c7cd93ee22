//! The release paths of a lease, and what holds the pins meanwhile.

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
pub struct ReleasePath {
    pub name: &'static str,
    /// What the tool calls it.
    pub cause: &'static str,
    who: Who,
    /// `HOLD` stands for the descriptor that holds the pins.
    before: &'static [&'static str],
    command: &'static str,
}

/// Who lets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Owner,
    /// The owner, through the 32-bit entry, where system calls are denied on no kernel.
    Owner32,
    /// A thread that io_uring made in the owner: the command may be answered first.
    Worker,
    /// A forked child, without pins of its own.
    Child,
    /// A kworker, some time after the owner's command.
    Kworker,
    /// Somebody who wants the file, and the kernel, which loses patience.
    Breaker,
}

const fn by(
    who: Who,
    name: &'static str,
    cause: &'static str,
    before: &'static [&'static str],
    command: &'static str,
) -> ReleasePath {
    ReleasePath {
        name,
        cause,
        who,
        before,
        command,
    }
}

const fn by_owner(
    name: &'static str,
    cause: &'static str,
    before: &'static [&'static str],
    command: &'static str,
) -> ReleasePath {
    by(Who::Owner, name, cause, before, command)
}

const RELEASE_PATHS: &[ReleasePath] = &[
    by_owner("unlock", "unlock", &[], "setlease f u"),
    by_owner("32-bit unlock", "unlock", &[], "setlease-32 f u"),
    by_owner("unlock of x32", "unlock", &[], "setlease-x32 f u"),
    by_owner(
        "unlock by a wide number",
        "unlock",
        &[],
        "setlease-wide f u",
    ),
    by_owner("unlock of a delegation", "unlock", &[], "setdeleg f u"),
    by_owner("close", "close", &["munmap m"], "close f"),
    by(
        Who::Owner32,
        "32-bit close",
        "close",
        &["munmap m"],
        "close-32 f",
    ),
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
        "mmap over it",
        "munmap",
        &["close f", "memfd o 1M"],
        "mmap-over m 0 o 1M shared ro",
    ),
    by_owner(
        "mremap over it",
        "munmap",
        &["close f", "mmap-anon o 1M private"],
        "mremap-over o m",
    ),
    by_owner(
        "mremap that drops it",
        "munmap",
        &[
            "munmap m",
            "mmap-anon o 2M private",
            "mmap-over o 1M f 1M shared ro",
            "close f",
        ],
        "mremap o 1M",
    ),
    by_owner(
        "exec",
        "exec",
        &["munmap m", "cloexec HOLD off"],
        "exec-self",
    ),
    by_owner("exit", "exit", &[], "exit 3"),
    by_owner("SIGKILL", "killed", &[], "kill-self KILL"),
    by_owner(
        "a close in a ring",
        "io_uring",
        &["munmap m"],
        "uring-close f caller",
    ),
    by(
        Who::Worker,
        "a close by a ring's worker",
        "io_uring",
        &["munmap m"],
        "uring-close f worker",
    ),
    by_owner(
        "a ring's fixed file",
        "io_uring",
        &[
            "munmap m",
            "uring files",
            "register-files files f",
            "close f",
        ],
        "unregister-files files",
    ),
    by(
        Who::Kworker,
        "the end of a ring with the file",
        "other",
        &[
            "munmap m",
            "uring files",
            "register-files files f",
            "close f",
        ],
        "close files",
    ),
    by(
        Who::Child,
        "a child's unlock",
        "unlock",
        &["fork child"],
        "child: setlease f u",
    ),
    by(
        Who::Child,
        "a receiver's close",
        "close",
        &[
            "munmap m",
            "fork child",
            "child: close f",
            "send-fd f child",
            "close f",
            "child: recv-fd g parent",
        ],
        "child: close g",
    ),
    by(
        Who::Breaker,
        "a break that is ignored",
        "break-timeout",
        &[],
        "",
    ),
];

/// The ways that this kernel has.
pub fn release_paths() -> Vec<ReleasePath> {
    let (delegations, x32) = (has_delegations(), has_x32());
    let fits = |way: &&ReleasePath| {
        (delegations || !way.command.contains("deleg")) && (x32 || !way.command.contains("x32"))
    };
    RELEASE_PATHS.iter().filter(fits).copied().collect()
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

/// Debian has x32 where the command line says so.
fn has_x32() -> bool {
    let scratch = Scratch::new();
    let actor = Actor::start();
    actor.ok(&format!("open f {} rw,creat", scratch.file("f")));
    match actor.attempt("setlease-x32 f w") {
        Ok(_) => true,
        Err(refusal) => {
            assert_eq!(refusal.errno, libc::ENOSYS, "{refusal}");
            false
        }
    }
}

impl ReleasePath {
    /// The process itself is going away.
    pub fn ends(&self) -> bool {
        matches!(self.cause, "exit" | "killed")
    }

    /// A process lets go that has no pins.
    pub fn is_bystanders(&self) -> bool {
        self.who == Who::Child
    }

    /// The kernel lets go by itself, and the monitor sends the signal.
    pub fn is_kernels(&self) -> bool {
        matches!(self.who, Who::Kworker | Who::Breaker)
    }

    /// The owner itself makes a call that can be denied where the ways with this cause can.
    pub fn is_own_call_of(&self, cause: &str) -> bool {
        self.who == Who::Owner && self.cause == cause
    }

    /// Another thread lets go, so the owner may see its command done before the signal.
    pub fn is_beside(&self) -> bool {
        self.who == Who::Worker
    }

    /// Some time after the command.
    pub fn is_late(&self) -> bool {
        matches!(self.who, Who::Kworker | Who::Worker)
    }

    /// Through an entry that is not denied on any kernel.
    pub fn passes_by(&self) -> bool {
        self.who == Who::Owner32
    }

    /// Everything up to the release. Says whether the pins were taken anew.
    pub fn prepare(&self, actor: &Actor, holder: Holder) -> bool {
        let delegation = self.command.starts_with("setdeleg");
        if delegation {
            actor.all(&[holder.unpin(), "setlease f u", "setdeleg f w"]);
            holder.pin(actor);
        }
        for command in self.before {
            actor.ok(&command.replace("HOLD", holder.descriptor()));
        }
        delegation
    }

    /// The command that drops the pins afterwards.
    pub fn unpin(&self, holder: Holder) -> &'static str {
        match holder {
            // The new program knows of the descriptor only.
            Holder::Region if self.cause == "exec" => "close d",
            _ => holder.unpin(),
        }
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

    /// Takes the pins again.
    fn pin(self, actor: &Actor) {
        match self {
            Self::Ring => _ = actor.ok("register-buffers ring m"),
            Self::Region => {
                if actor.attempt("reg-mr mr d m rw").is_err() {
                    actor.ok("reg-mr mr d m ro");
                }
            }
        }
    }

    /// The slot of the descriptor that holds the pins.
    pub const fn descriptor(self) -> &'static str {
        match self {
            Self::Ring => "ring",
            Self::Region => "d",
        }
    }

    /// The command that drops the pins.
    const fn unpin(self) -> &'static str {
        match self {
            Self::Ring => "unregister-buffers ring",
            Self::Region => "dereg-mr mr",
        }
    }
}
