//! The kernel's own leases: delegations and pNFS layouts that nfsd grants to its clients.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{Actor, Enforcement, Monitor, Nfs, Rxe, Subject, eventually, leases_on, text};

/// Far less than any timeout of a break, which is 45 s for a lease and 10 s for this server.
const AT_ONCE: Duration = Duration::from_secs(8);

/// Pins in the file that live in a memory region alone: no mapping, no descriptor, no lease.
fn pin(actor: &Actor, path: &str) {
    actor.ok(&format!("rdma-open d {}", Rxe::DEVICE));
    actor.ok(&format!("open f {path} rw,cloexec"));
    actor.ok("mmap m f 1M shared rw");
    if actor.attempt("reg-mr mr d m rw").is_err() {
        actor.all(&["munmap m", "mmap m f 1M shared ro", "reg-mr mr d m ro"]);
    }
    actor.all(&["munmap m", "close f"]);
}

#[track_caller]
fn expect(monitor: &Monitor, event: &str, kind: &str, file: &Subject) -> Value {
    let record = monitor.expect(event, |record| {
        record["ino"] == file.ino && record["lease"]["kind"] == kind
    });
    assert_eq!(record["path"], file.path.as_str(), "{record}");
    assert_eq!(record["dev"], file.dev.as_str(), "{record}");
    assert_eq!(text(&record, "comm"), "nfsd", "{record}");
    record
}

/// Waits for the end of a lease of the kernel's: nfsd lets go, and is no culprit.
#[track_caller]
fn expect_end(monitor: &Monitor, kind: &str, file: &Subject) {
    let end = expect(monitor, "lease-end", kind, file);
    assert_eq!(end["cause"], "kernel", "{end}");
    assert_eq!(end["releaser"]["comm"], "nfsd", "{end}");
}

/// Under a rule that denies and kills, and with somebody's pins in the file: what nfsd grants is
/// recalled and returned as if there were no rule, and the pins' owner is no zombie of it.
#[test]
fn delegations_and_layouts_come_and_go_untouched() {
    Rxe::ready();
    let nfs = Nfs::start();
    for name in ["a", "b"] {
        std::fs::write(nfs.here(name), vec![1; 1 << 20]).expect("a file");
    }
    let file = Subject::at(&nfs.here("a"));
    let enforcement = Enforcement::start(
        "mode = \"enforce\"\n[[rule]]\nname = \"r\"\naction = \"deny\"\nfallback = \"kill\"\n",
    );
    let monitor = enforcement.monitor();
    let owner = Actor::start();
    pin(&owner, &file.path);

    let reader = Actor::start();
    let read = |name: &str| {
        reader.ok(&format!("open f {} ro", nfs.there(name)));
        reader.all(&["mmap m f 1M shared ro", "touch m"]);
    };
    read("a");
    expect(&monitor, "lease-set", "deleg", &file);
    let granted = ("DELEG".to_owned(), "READ".to_owned());
    assert!(
        leases_on(&file).contains(&granted),
        "{:?}",
        leases_on(&file)
    );
    // The client asks for a layout, finds no such disk of its own, and gives it back.
    expect(&monitor, "lease-set", "layout", &file);
    expect_end(&monitor, "layout", &file);

    // Recalled: somebody wants to write.
    let began = Instant::now();
    let writer = Actor::start();
    writer.ok(&format!("open w {} rw", file.path));
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    expect_end(&monitor, "deleg", &file);
    assert!(leases_on(&file).is_empty());
    writer.ok("close w");

    // Returned: the client unmounts. The server grants none for a while on what it had to recall.
    reader.all(&["munmap m", "close f"]);
    let other = Subject::at(&nfs.here("b"));
    read("b");
    expect(&monitor, "lease-set", "deleg", &other);
    reader.all(&["munmap m", "close f"]);
    nfs.unmount();
    expect_end(&monitor, "deleg", &other);
    assert!(eventually(|| leases_on(&other).is_empty()));

    monitor.barrier();
    monitor.none_for(owner.pid(), "zombie");
    for event in ["denied", "killed", "stopped", "held"] {
        monitor.none_for(owner.pid(), event);
    }
    assert_eq!(enforcement.hits("r"), serde_json::json!({}));
    assert_eq!(Nfs::threads(), 2, "nfsd lives on");
    nfs.mount();
    owner.ok("dereg-mr mr");
}
