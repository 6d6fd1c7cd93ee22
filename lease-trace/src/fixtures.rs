//! Made-up records for tests: what a morning on a machine with a few bad clients would bring.

use lease_trace_common::{
    COMM_LEN,
    cause::Cause,
    event::{Event, EventKind},
    lease::{FL_LEASE, Kind, LeaseInfo, known},
    policy::{Action, Mode},
    stake::{Inode, Stake, StakeKey, Task},
};

use crate::{
    clock::Clock,
    record::{
        Corrected, Detail, Dev, End, Entry, File, FilePath, Holder, Lease, Lost, Name, Orphan,
        Owner, PinSource, PolicyInForce, ProcessRef, Record, RuleAction, Start, Transition,
    },
    tracer::{
        cross_check::CrossCheck,
        snapshot::{InodeView, StakeView},
    },
};

const SECOND: u64 = 1_000_000_000;

/// A kernel record of zeroes, to be filled in as far as a test cares.
pub fn blank<R: aya::Pod>() -> R {
    // SAFETY: every bit pattern of a `Pod` is a value, that of zeroes included.
    unsafe { std::mem::zeroed() }
}

/// What process 4711 has in inode 12: a stake with this word.
pub fn stake(word: u64) -> StakeView {
    let mut inode: Inode = blank();
    inode.ino = 12;
    let mut stake: Stake = blank();
    (stake.word, stake.owner.tgid) = (word, 4711);
    StakeView {
        key: StakeKey::new(4711, 9),
        stake,
        inode: InodeView {
            inode: Some(inode),
            path: None,
            breaker: None,
        },
    }
}

/// 100 s after boot it was 2026-03-04 08:15:00 UTC.
pub fn clock() -> Clock {
    Clock::fixed(100 * SECOND, 1_772_612_100 * SECOND as i128)
}

pub fn task(tgid: u32, name: &str) -> Task {
    let mut comm = [0; COMM_LEN];
    comm[..name.len()].copy_from_slice(name.as_bytes());
    Task {
        tgid,
        uid: 1000,
        cgroup: 1,
        comm,
    }
}

/// A notification of this kind about one write lease that client 4711 set 90 s after boot.
pub fn event(kind: EventKind) -> Event {
    let leased = !matches!(kind, EventKind::BarePin | EventKind::BarePinEnd);
    Event {
        time_ns: 100 * SECOND,
        kind: kind as u32,
        dev: 8 << 20 | 1,
        ino: 12,
        inode_id: 1,
        owner: task(4711, "client"),
        releaser: task(4711, "client"),
        lease: LeaseInfo {
            set_ns: 90 * SECOND,
            flags: FL_LEASE,
            mode: 1,
            cause: Cause::Unlock as u32,
            known: if leased { known::LEASED } else { 0 },
        },
        pins: 256,
        since_ns: 95 * SECOND,
        pinned_ns: 92 * SECOND,
        ..blank()
    }
}

/// The bytes of a notification, as they cross the ring buffer.
pub fn raw(event: &Event, path: &[u8]) -> Vec<u8> {
    let event = Event {
        path_len: path.len() as u32,
        ..*event
    };
    // SAFETY: an `Event` is made of integers without padding, so all its bytes may be read.
    let bytes =
        unsafe { std::slice::from_raw_parts((&raw const event).cast::<u8>(), size_of::<Event>()) };
    [bytes, path].concat()
}

pub fn owner(pid: u32, comm: &str) -> Owner {
    Owner {
        process: process(pid, comm),
        uid: Some(1000),
        cgroup: Some("/system.slice/db.service".to_owned()),
        unit: Some("db.service".to_owned()),
        container: None,
    }
}

pub fn process(pid: u32, comm: &str) -> ProcessRef {
    ProcessRef {
        pid,
        comm: comm.to_owned(),
    }
}

pub fn file(path: &str) -> File {
    File {
        path: FilePath::new(path.as_bytes(), 0),
        dev: Some(Dev::new(0, 45)),
        ino: Some(131_090),
    }
}

fn write_lease(held_ms: Option<u64>) -> Lease {
    Lease {
        kind: Kind::Lease,
        mode: "write",
        held_ms,
    }
}

fn source(consumer: &str) -> PinSource {
    PinSource {
        consumer: Some(consumer.to_owned()),
        context_fd: Some(15),
        context: Some(
            if consumer == "io_uring" {
                "[io_uring]"
            } else {
                "/dev/infiniband/uverbs0"
            }
            .to_owned(),
        ),
        ..PinSource::default()
    }
}

fn zombie(owner: Owner, path: &str, cause: Cause, pins: u64, consumer: &str) -> Transition {
    Transition {
        releaser: Some(owner.process.clone()),
        breaker: None,
        owner,
        file: file(path),
        lease: Some(write_lease(Some(10_000))),
        cause: Some(cause),
        pins: Some(pins),
        doubtful: false,
        source: source(consumer),
        ends_by_itself: Some(cause.is_ending()),
        pinned_ms: None,
        zombie_ms: None,
        orphan: Orphan::default(),
        rule_action: None,
    }
}

fn rule_action(action: Action, outcome: &'static str) -> RuleAction {
    RuleAction {
        rule: "rdma-exports".to_owned(),
        action,
        outcome,
        thread: Some(4712),
        stack: vec!["lease_modify".to_owned(), "generic_setlease".to_owned()],
    }
}

/// What rules came to.
fn rule_actions() -> Vec<Record> {
    let act = |seconds, name, action, outcome| {
        let transition = Transition {
            ends_by_itself: None,
            source: PinSource::default(),
            rule_action: Some(rule_action(action, outcome)),
            ..zombie(owner(4711, "rdma-client"), "/srv/f", Cause::Close, 256, "")
        };
        self::transition(seconds, name, transition)
    };
    vec![
        act(15, Name::Denied, Action::Deny, "done"),
        act(15, Name::WouldKill, Action::Kill, "would"),
        act(15, Name::Spared, Action::Kill, "bystander"),
        act(15, Name::HoldEnd, Action::Hold, "limit"),
    ]
}

fn at(seconds: u64, event: Name, detail: Detail) -> Record {
    Record {
        time: clock().at((100 + seconds) * SECOND + 1_500_000),
        event,
        detail,
    }
}

fn transition(seconds: u64, event: Name, transition: Transition) -> Record {
    at(seconds, event, Detail::Transition(Box::new(transition)))
}

/// One run of `monitor`.
pub fn records() -> Vec<Record> {
    let mut records = vec![start()];
    records.extend(transitions());
    records.extend(rule_actions());
    records.extend(end());
    records
}

fn bare() -> Transition {
    Transition {
        releaser: None,
        cause: None,
        lease: None,
        ends_by_itself: None,
        source: PinSource::default(),
        file: File {
            path: FilePath::new(b"/f", lease_trace_common::stake::path_flag::NO_MOUNT),
            ..file("")
        },
        ..zombie(owner(5, "xdpsock"), "", Cause::Close, 64, "")
    }
}

fn transitions() -> Vec<Record> {
    let hot = "/srv/database/segments/000017.hot.db";
    let mut unlocked = zombie(
        owner(4711, "rdma-client"),
        hot,
        Cause::Unlock,
        256,
        "rdma_rxe",
    );
    unlocked.source.device = Some("rxe0".to_owned());
    let mut released = zombie(
        owner(4711, "rdma-client"),
        hot,
        Cause::Unlock,
        256,
        "rdma_rxe",
    );
    released.zombie_ms = Some(12_340);
    released.releaser = Some(process(77, "kworker/u8:3"));
    let mut by_child = zombie(
        owner(982, "fio"),
        "/tmp/f",
        Cause::BreakTimeout,
        4096,
        "io_uring",
    );
    by_child.releaser = Some(process(983, "fio-child"));
    by_child.breaker = Some(process(77, "cp"));
    by_child.lease = Some(write_lease(None));
    let mut killed = zombie(
        owner(1_048_577, "ib_write_bw"),
        "/tmp/a\nb",
        Cause::Killed,
        8,
        "vfio",
    );
    if let Some(path) = &mut killed.file.path {
        path.deleted = true;
    }
    let set = Transition {
        releaser: None,
        cause: None,
        pins: None,
        source: PinSource::default(),
        ends_by_itself: None,
        lease: Some(write_lease(None)),
        ..zombie(owner(982, "fio"), "/tmp/f", Cause::Unlock, 0, "")
    };
    let ended = Transition {
        pins: None,
        source: PinSource::default(),
        ends_by_itself: None,
        ..zombie(owner(982, "fio"), "/tmp/f", Cause::Close, 0, "")
    };
    let bare_end = Transition {
        releaser: Some(process(6, "kworker/u8:1")),
        pinned_ms: Some(1_500),
        ..bare()
    };
    let orphaned = |orphan| Transition {
        releaser: None,
        cause: None,
        ends_by_itself: None,
        orphan,
        ..zombie(owner(982, "fio"), "/tmp/f", Cause::Close, 4096, "io_uring")
    };
    let orphan = orphaned(Orphan {
        holders: Some(vec![Holder {
            process: process(983, "fio-child"),
            fd: Some(3),
        }]),
        ..Orphan::default()
    });
    let orphan_end = orphaned(Orphan {
        end: Some("pins-gone"),
        orphaned_ms: Some(2_000),
        ..Orphan::default()
    });
    vec![
        transition(1, Name::LeaseSet, set),
        transition(2, Name::Zombie, unlocked),
        transition(3, Name::Zombie, by_child),
        transition(4, Name::Zombie, killed),
        transition(5, Name::BarePin, bare()),
        transition(7, Name::BarePinEnd, bare_end),
        transition(6, Name::OrphanedPin, orphan),
        transition(8, Name::OrphanEnd, orphan_end),
        transition(14, Name::AtRest, released),
        transition(15, Name::LeaseEnd, ended),
    ]
}

fn start() -> Record {
    let attach = [
        "generic_setlease: fentry+fexit",
        "lease_modify: fentry",
        "pin_user_pages: fentry+fexit",
        "pin_user_pages_fast: fentry+fexit",
        "unpin_user_page: kprobe",
    ];
    let cannot = "pins through folio_add_pins: this kernel has no folio_add_pins";
    at(
        0,
        Name::Start,
        Detail::Start(Start {
            pid: 812,
            kernel: "6.12.117+deb13-amd64".to_owned(),
            attach: attach.map(str::to_owned).into(),
            cannot: vec![cannot.to_owned()],
            recovered: Some("removed a directory that a dead monitor had left".to_owned()),
            policy: Some(PolicyInForce {
                mode: Mode::Enforce,
                rules: vec!["rdma-exports".to_owned()],
                generation: 2,
            }),
        }),
    )
}

fn end() -> Vec<Record> {
    vec![
        at(
            16,
            Name::Corrected,
            Detail::Corrected(Corrected {
                file: file("/tmp/f"),
                pins_counted: 5,
                pins_found: 0,
            }),
        ),
        at(
            16,
            Name::Lost,
            Detail::Lost(Lost {
                what: "notifications found no room in the ring buffer",
                count: 3,
            }),
        ),
        at(
            20,
            Name::End,
            Detail::End(End {
                events: 5,
                by_event: [(Name::Zombie, 3), (Name::AtRest, 1), (Name::BarePin, 1)].into(),
                lost: 3,
                zombies: 1,
                cross_check: Some(CrossCheck {
                    taken: 900,
                    dropped: 644,
                    kernel_taken: 903,
                    kernel_dropped: 644,
                    escaped: 3,
                }),
                rules: [(
                    "rdma-exports".to_owned(),
                    [("denied".to_owned(), 1), ("would-kill".to_owned(), 1)].into(),
                )]
                .into(),
                left: vec![entry()],
                duration_ms: 20_000,
            }),
        ),
    ]
}

/// A zombie in a report.
pub fn entry() -> Entry {
    Entry {
        owner: owner(982, "fio"),
        releaser: Some(process(983, "fio-child")),
        breaker: None,
        file: file("/srv/database/segments/000017.hot.db"),
        state: Some("zombie"),
        lease: Some(write_lease(Some(61_000))),
        cause: Some(Cause::Unlock),
        leases: Some(0),
        pins: Some(256),
        doubtful: false,
        peak_pins: Some(512),
        vm_pin_bytes: None,
        source: source("io_uring"),
        ends_by_itself: Some(false),
        age_ms: Some(12_340),
        size_bytes: Some(1 << 20),
        holders: None,
        breaking: None,
        held_by: None,
    }
}
