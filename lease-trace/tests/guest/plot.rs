//! A record of a real zombie, and the picture of it.

use std::fs;
use std::process::Stdio;

use crate::harness::{Actor, Scratch, Tool, eventually, interrupt, no_monitor, open_lease_and_pin};

/// A record of one zombie and its rest, and whose it was.
pub fn record_a_zombie(scratch: &Scratch) -> (String, i64) {
    no_monitor();
    let record = scratch.file("record.ndjson");
    let has = |words: &str| fs::read_to_string(&record).is_ok_and(|text| text.contains(words));
    let recorder = Tool::new(&["record", &record]).spawn();
    assert!(eventually(|| has(r#""event":"start""#)), "it records");

    let actor = Actor::start();
    let path = scratch.file("segment<1>.db");
    open_lease_and_pin(&actor, &path);
    actor.ok("sleep 300");
    actor.ok("setlease f u");
    assert!(eventually(|| has(r#""event":"zombie""#)), "a zombie");
    actor.ok("sleep 300");
    actor.ok("unregister-buffers ring");
    assert!(eventually(|| has(r#""event":"at-rest""#)), "its rest");
    interrupt(&recorder, libc::SIGINT);
    let ran = recorder.wait_with_output().expect("a child");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(
        ran.status.success() && said.contains("lease-trace plot"),
        "{said}"
    );

    (record, actor.pid())
}

#[test]
fn a_zombie_is_red() {
    let scratch = Scratch::new();
    let (record, pid) = record_a_zombie(&scratch);
    let picture = scratch.file("timeline.svg");
    Tool::run(&["plot", &record, "-o", &picture]).exits(0);
    let picture = fs::read_to_string(&picture).expect("a picture");
    println!("{picture}");
    let red = picture
        .lines()
        .find(|line| line.contains(r#"data-kind="zombie""#) && line.contains(&format!("[{pid}]")));
    let red = red.expect("a red bar of the actor");
    assert!(red.contains("segment&lt;1&gt;.db"), "{red}");
    assert!(red.contains("the lease went by unlock"), "{red}");
    assert!(!picture.contains("has no end"), "{picture}");
    let green = picture
        .lines()
        .find(|line| line.contains(r#"data-kind="covered""#));
    let green = green.expect("its pins under the lease");
    assert!(!green.contains("start not known"), "{green}");

    // From a pipe, as a page, with what is missing said.
    let text = fs::read_to_string(&record).expect("a record");
    let half = text.rsplit_once(r#""event":"end""#).expect("an end").0;
    fs::write(&record, half).expect("writes");
    let input = fs::File::open(&record).expect("opens");
    let page = Tool::new(&["plot", "-", "--html"]).stdin(Stdio::from(input));
    let page = page.finish().exits(0).stdout;
    assert!(page.starts_with("<!DOCTYPE html>"), "{page}");
    assert!(page.contains("the record has no end"), "{page}");
}
