//! Paths: what a record calls the file, whatever has become of it.

use std::fs;

use crate::harness::{
    Actor, BindMount, Monitor, Scratch, Subject, Tool, assert_about, expect_zombie,
    open_lease_and_pin, text,
};

#[test]
fn a_file_below_another_mount_has_its_whole_path() {
    let outer = Scratch::new();
    let inner = BindMount::of(outer.directory());
    let monitor = Monitor::start();
    let actor = Actor::start();
    fs::create_dir(outer.file("a")).expect("a directory");
    // Leased through the bind mount, so that is where it was seen; the file itself is the same.
    let file = open_lease_and_pin(&actor, &inner.file("a/f"));
    assert_eq!(file.ino, Subject::at(&outer.file("a/f")).ino);
    actor.ok("setlease f u");
    expect_zombie(&monitor, actor.pid(), &file, "unlock");
}

#[test]
fn a_mount_within_a_mount_is_crossed() {
    let outer = Scratch::new();
    let within = Scratch::within(outer.directory(), "within");
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &within.file("f"));
    actor.ok("setlease f u");
    expect_zombie(&monitor, actor.pid(), &file, "unlock");
}

/// The name by which it was leased is the name by which its user knows it.
#[test]
fn a_renamed_and_an_unlinked_file_keep_the_name_they_were_leased_by() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    fs::rename(&file.path, scratch.file("renamed")).expect("renamed");
    fs::remove_file(scratch.file("renamed")).expect("unlinked");
    actor.ok("setlease f u");
    expect_zombie(&monitor, actor.pid(), &file, "unlock");
}

#[test]
fn a_process_that_is_gone_leaves_path_and_name() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let program = scratch.file("vanishing-act");
    let mut actor = Actor::start_as(program.as_ref());
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.end("kill-self KILL");
    fs::remove_file(&file.path).expect("unlinked");
    let zombie = monitor.expect_of("zombie", actor.pid());
    assert_about(&zombie, actor.pid(), &file);
    assert_eq!(zombie["comm"], "vanishing-act", "{zombie}");
}

/// Names are bytes: whatever they hold, the output stays one line of valid JSON, and a table row.
#[test]
fn an_unusual_name_is_kept() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("\"quoted\"\\\u{1b}[31m-ünï"));
    actor.ok("setlease f u");
    expect_zombie(&monitor, actor.pid(), &file, "unlock");
    let table = Tool::run(&["report"]).exits(1);
    assert!(
        !table.stdout.contains('\u{1b}'),
        "a name must not control a terminal\n{table}"
    );
}

#[test]
fn a_deep_path_is_kept_or_marked_as_cut() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let actor = Actor::start();
    let deep = ["a-directory-with-a-long-name"; 40].join("/");
    fs::create_dir_all(scratch.file(&deep)).expect("directories");
    let file = open_lease_and_pin(&actor, &scratch.file(&format!("{deep}/f")));
    actor.ok("setlease f u");
    let zombie = monitor.expect_of("zombie", actor.pid());
    assert_eq!(zombie["ino"], file.ino, "{zombie}");
    let shown = text(&zombie, "path");
    let cut = shown.strip_prefix('…');
    assert!(
        cut.map_or(shown == file.path, |end| file.path.ends_with(end)),
        "{zombie}"
    );
}
