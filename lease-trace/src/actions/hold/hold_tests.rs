//! Real leases on real files; the service manager is a stand-in.

use std::{
    fs::File,
    os::{
        fd::{AsFd as _, BorrowedFd},
        unix::fs::MetadataExt as _,
    },
};

use lease_trace_common::event::EventKind;

use super::*;
use crate::{fixtures, service::service_tests::StandIn, tracer};

const LEASE: &str = "actions::hold::hold_tests";

/// A new file with a write lease, and what asks to hold it for the process of this pid.
fn leased_file(pid: u32) -> (File, Wanted) {
    let file = tempfile::tempfile_in("/dev/shm").expect("a file in memory");
    // SAFETY: fcntl with a number.
    let set = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_WRLCK) };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
    let wanted = wanted(&file, pid);
    assert!(has_lease(file.as_fd(), &wanted));
    (file, wanted)
}

fn wanted(file: &File, pid: u32) -> Wanted {
    const TICK_NS: u64 = 10_000_000;
    let about = file.metadata().expect("a file");
    let mut event = fixtures::event(EventKind::Hold);
    event.dev = libc::major(about.dev()) << 20 | libc::minor(about.dev());
    event.ino = about.ino();
    event.owner.tgid = pid;
    event.started_ns = tracer::started(pid).unwrap_or(0) * TICK_NS;
    Wanted {
        event,
        path: b"/f".to_vec(),
    }
}

fn has_lease(file: BorrowedFd<'_>, wanted: &Wanted) -> bool {
    is_leased("self", file.as_raw_fd(), &wanted.event)
}

fn outcomes(done: &[ActionTaken]) -> Vec<(Name, &'static str)> {
    done.iter().map(|done| (done.name, done.outcome)).collect()
}

fn handed(name: &str, file: &File) -> Vec<Handed> {
    vec![Handed {
        name: name.to_owned(),
        file: file.try_clone().expect("a duplicate").into(),
    }]
}

/// A user's files are held until he has a quarter of the places; others' and root's still are.
#[test]
fn a_user_leaves_places_for_others() {
    let mut holds = Holds::default();
    let mut event = fixtures::event(EventKind::Hold);
    event.owner.uid = 1000;
    for number in 0..MOST as u64 / share::PARTS {
        assert!(!holds.has_share(1000));
        event.inode_id = number;
        holds.hold(&event, b"/f", Vec::new());
    }
    assert!(holds.has_share(1000));
    assert!(!holds.has_share(1001));
    assert!(!holds.has_share(0));
}

#[test]
fn a_lease_is_found_among_the_locks_of_a_description() {
    let line = "lock:\t1: LEASE  ACTIVE    WRITE 4711 08:01:12 0 EOF";
    let event = fixtures::event(EventKind::Hold);
    assert!(is_lease(line) && line.contains(&super::file(&event)));
    assert!(!is_lease(
        "lock:\t1: FLOCK  ADVISORY  WRITE 4711 08:01:12 0 EOF"
    ));
    assert!(
        !"lock:\t1: LEASE  ACTIVE    WRITE 4711 08:01:123 0 EOF".contains(&super::file(&event))
    );
}

#[test]
fn what_a_stake_asks_for_is_held_without_a_notification() {
    let (file, wanted) = leased_file(std::process::id());
    let key = wanted.event.stake();
    let mut holds = Holds::default();
    let wanted = [wanted];
    let done = holds.reconcile(&wanted, Vec::new(), 7);
    assert_eq!(outcomes(&done), [(Name::Held, "done")]);
    drop(file);
    let held = &holds.held[&key].files[0];
    assert!(has_lease(held.as_fd(), &wanted[0]));
    assert!(holds.reconcile(&wanted, Vec::new(), 8).is_empty());
    let done = holds.reconcile(&[], Vec::new(), 9);
    assert_eq!(outcomes(&done), [(Name::HoldEnd, "pins-gone")]);
    assert_eq!(holds.len(), 0);
}

#[test]
fn a_hold_that_comes_too_late_is_told_once() {
    let (file, wanted) = leased_file(std::process::id());
    drop(file);
    let mut holds = Holds::default();
    let wanted = [wanted];
    let done = holds.reconcile(&wanted, Vec::new(), 7);
    assert_eq!(outcomes(&done), [(Name::Failed, "too-late")]);
    assert!(holds.reconcile(&wanted, Vec::new(), 8).is_empty());
}

#[test]
fn what_was_handed_over_is_taken_back_only_with_its_lease() {
    let (file, wanted) = leased_file(1);
    let name = super::name(wanted.event.stake());
    let other = tempfile::tempfile_in("/dev/shm").expect("a file in memory");
    let wanted = [wanted];
    let mut holds = Holds::default();
    let done = holds.reconcile(&wanted, handed(&name, &other), 7);
    assert_eq!(outcomes(&done), [(Name::Failed, "too-late")]);
    let mut holds = Holds::default();
    let done = holds.reconcile(&wanted, handed(&name, &file), 7);
    assert_eq!(outcomes(&done), [(Name::Held, "taken-back")]);
}

/// The store has a description once, under the name of the first stake that it is held for.
#[test]
fn two_stakes_can_be_held_by_one_description() {
    let (file, mut second) = leased_file(1);
    let name = format!("hold-4711-{}", second.event.inode_id);
    second.event.owner.tgid = 4712;
    let mut holds = Holds::default();
    let done = holds.reconcile(&[second], handed(&name, &file), 7);
    assert_eq!(outcomes(&done), [(Name::Held, "taken-back")]);
}

#[test]
fn notifications_older_than_the_stakes_are_known() {
    let mut holds = Holds::default();
    holds.reconcile(&[], Vec::new(), 7);
    let mut event = fixtures::event(EventKind::Unhold);
    event.time_ns = 6;
    assert!(holds.is_old(&event));
    event.time_ns = 7;
    assert!(!holds.is_old(&event));
}

#[test]
fn names_in_the_store_are_read_back() {
    assert_eq!(super::name(StakeKey::new(4711, 9)), "hold-4711-9");
    assert_eq!(parse("hold-4711-9"), Some(StakeKey::new(4711, 9)));
    assert_eq!(parse("socket"), None);
}

/// One monitor holds a file and dies; the next one takes it back and lets it go.
#[test]
fn a_hold_outlives_its_monitor() {
    let manager = StandIn::new();
    let mut told = manager.run(&format!("{LEASE}::first_monitor"), &[], None);
    let [kept] = &mut told[..] else {
        panic!("{} messages", told.len());
    };
    assert_eq!(kept.text, "FDSTORE=1\nFDNAME=hold-4711-1\n");
    let file = File::from(kept.files.remove(0));
    let asked = wanted(&file, 4711);
    assert!(has_lease(file.as_fd(), &asked), "the lease is gone");

    let kept = Some(("hold-4711-1", &file));
    let told = manager.run(&format!("{LEASE}::second_monitor"), &[], kept);
    let texts: Vec<_> = told.iter().map(|told| told.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "FDSTORE=1\nFDNAME=hold-4711-1\n",
            "FDSTOREREMOVE=1\nFDNAME=hold-4711-1\n"
        ]
    );
}

#[test]
#[ignore = "run by a_hold_outlives_its_monitor"]
fn first_monitor() {
    let (file, mut wanted) = leased_file(std::process::id());
    wanted.event.owner.tgid = 4711;
    let mut holds = Holds::default();
    holds.keep_in(Store::of_manager());
    holds
        .store
        .keep(&super::name(wanted.event.stake()), &[file.into()]);
}

#[test]
#[ignore = "run by a_hold_outlives_its_monitor"]
fn second_monitor() {
    let handed = crate::service::Service::find().take_handed();
    let file = File::from(handed[0].file.try_clone().expect("a duplicate"));
    let asked = [wanted(&file, 4711)];
    drop(file);
    let mut holds = Holds::default();
    holds.keep_in(Store::of_manager());
    let done = holds.reconcile(&asked, handed, 7);
    assert_eq!(outcomes(&done), [(Name::Held, "taken-back")]);
    let held = holds.let_go(&asked[0].event).expect("it is held");
    assert!(held.files.is_empty());
}
