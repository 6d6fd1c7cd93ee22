//! `pins` over memory regions of rdma_rxe, registered before anything of ours is loaded.

use std::process::Command;

use crate::harness::{Actor, Filesystem, LoopMount, Rxe, Scratch, Subject, integer, no_monitor};
use crate::rdma::{MODES, lease_and_register};
use crate::survey::{assert_all_found, assert_row, only_row, pins};

#[test]
fn a_region_is_found_by_the_number_that_rdma_has_for_it() {
    let scratch = Scratch::new();
    each_region_is_found(|name| scratch.file(name));
}

#[test]
fn on_ext4() {
    let mount = LoopMount::new(Filesystem::Ext4);
    each_region_is_found(|name| mount.file(name));
}

#[test]
fn on_xfs() {
    let mount = LoopMount::new(Filesystem::Xfs);
    each_region_is_found(|name| mount.file(name));
}

#[track_caller]
fn each_region_is_found(file: impl Fn(&str) -> String) {
    no_monitor();
    let _rxe = Rxe::ready();
    let mut tried = 0;
    for mode in MODES {
        let actor = Actor::start();
        let path = file(mode);
        if !lease_and_register(&actor, &path, mode) {
            continue;
        }
        tried += 1;
        let ran = pins(&[]);
        let row = only_row(&ran, actor.pid());
        let listed = Command::new("rdma")
            .args(["-j", "resource", "show", "mr"])
            .output();
        let listed = listed.expect("rdma runs");
        let listed: serde_json::Value =
            serde_json::from_slice(&listed.stdout).expect("rdma writes JSON");
        let mine = listed.as_array().expect("a list").iter();
        let mine: Vec<_> = mine.filter(|mr| mr["pid"] == actor.pid()).collect();
        assert_eq!(mine.len(), 1, "{listed}");
        let object = format!("{} mr {}", Rxe::DEVICE, integer(mine[0], "mrn"));
        assert_row(&row, actor.pid(), &Subject::at(&path), &object, "rdma_rxe");
        assert_eq!(row["size_bytes"], mine[0]["mrlen"], "{row} {listed}");
        assert_eq!(row["leased"], "write", "{row}");
        assert_all_found();
    }
    assert!(tried > 0, "no sort of region works");
}

/// Two processes with regions over one file, of which one is then killed.
#[test]
fn of_two_owners_each_has_its_own() {
    no_monitor();
    let _rxe = Rxe::ready();
    let scratch = Scratch::new();
    let path = scratch.file("f");
    let mut first = Actor::start();
    assert!(lease_and_register(&first, &path, "rw"));
    first.ok("setlease f u");
    let second = Actor::start();
    second.ok(&format!("rdma-open d {}", Rxe::DEVICE));
    second.ok(&format!("open f {path} rw,cloexec"));
    second.all(&["mmap m f 1M shared rw", "reg-mr mr d m rw"]);
    let ran = pins(&[&path]);
    for actor in [&first, &second] {
        let row = only_row(&ran, actor.pid());
        assert_eq!(row["path"], path, "{row}");
    }
    assert_all_found();
    let pid = first.pid();
    first.end("kill-self KILL");
    assert!(pins(&[&path]).rows("pins", pid).is_empty());
    only_row(&pins(&[&path]), second.pid());
    assert_all_found();
}

/// More pages than one run of the program looks at, in several regions.
#[test]
fn very_many_regions_are_all_found() {
    const LARGE: i64 = 5;
    const SMALL: i64 = 300;
    no_monitor();
    let _rxe = Rxe::ready();
    let scratch = Scratch::new();
    let actor = Actor::start();
    actor.ok(&format!("rdma-open d {}", Rxe::DEVICE));
    actor.ok(&format!("open f {} rw,creat", scratch.file("f")));
    actor.all(&["write-all f 64M", "mmap m f 64M shared rw"]);
    for number in 0..LARGE {
        actor.ok(&format!("reg-mr large{number} d m rw"));
    }
    for number in 0..SMALL {
        actor.ok(&format!("reg-mr small{number} d m rw 0 8K"));
    }
    let ran = pins(&["-p", &actor.pid().to_string()]);
    let rows = ran.rows("pins", actor.pid());
    let of = |pins: i64| rows.iter().filter(|row| row["pins"] == pins).count() as i64;
    assert_eq!(
        (of(16_384), of(2), rows.len() as i64),
        (LARGE, SMALL, LARGE + SMALL)
    );
    assert_all_found();
}

/// A region of more pages than one run of the program looks at: the next goes on in the middle of it.
#[test]
fn a_region_longer_than_a_run_is_whole() {
    const PAGES: i64 = 272 << 8;
    no_monitor();
    let _rxe = Rxe::ready();
    let scratch = Scratch::new();
    let actor = Actor::start();
    actor.ok(&format!("rdma-open d {}", Rxe::DEVICE));
    actor.ok(&format!("open f {} rw,creat", scratch.file("f")));
    actor.all(&[
        "write-all f 272M",
        "mmap m f 272M shared rw",
        "reg-mr large d m rw",
    ]);
    actor.ok("reg-mr small d m rw 0 8K");
    let rows = pins(&[]).rows("pins", actor.pid());
    let mut counts: Vec<_> = rows.iter().map(|row| integer(row, "pins")).collect();
    counts.sort_unstable();
    assert_eq!(counts, [2, PAGES], "{rows:?}");
    assert_all_found();
}
