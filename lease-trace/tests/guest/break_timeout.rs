//! Leases that somebody wants broken, and a holder that does not react until the kernel has enough.

use std::fs::File;

use crate::harness::{
    Actor, Monitor, PAGES, Scratch, Setting, assert_about, eventually, leases_on,
    open_lease_and_pin, pin_without_lease,
};

#[test]
fn an_ignored_break_ends_the_lease() {
    let _short = Setting::set("fs/lease-break-time", "2");
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let holder = Actor::start();
    let file = open_lease_and_pin(&holder, &scratch.file("f"));
    let other = Actor::start();
    let open = format!("open g {} rw,nonblock", file.path);
    other.err(&open, libc::EWOULDBLOCK);
    monitor.barrier();
    monitor.none_for(holder.pid(), "zombie");
    // Time alone does not end it: the next one who comes along does.
    other.ok("sleep 3000");
    assert!(
        eventually(|| other.attempt(&open).is_ok()),
        "the break never ended"
    );

    let zombie = monitor.expect_of("zombie", holder.pid());
    assert_about(&zombie, holder.pid(), &file);
    assert_eq!(zombie["cause"], "break-timeout", "{zombie}");
    assert_eq!(zombie["pins"], PAGES, "{zombie}");
    assert_ne!(zombie["ends_by_itself"], true, "{zombie}");
    assert_eq!(holder.ok("getlease f"), "u");
    monitor.exactly_one(holder.pid(), "zombie");
}

/// Whoever opens and waits is the one in whose system call the lease ends.
#[test]
fn a_blocked_open_ends_the_lease() {
    let _short = Setting::set("fs/lease-break-time", "2");
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let holder = Actor::start();
    let file = open_lease_and_pin(&holder, &scratch.file("f"));
    let other = Actor::start();
    other.ok(&format!("open g {} rw", file.path));
    let zombie = monitor.expect_of("zombie", holder.pid());
    assert_about(&zombie, holder.pid(), &file);
    assert_eq!(zombie["cause"], "break-timeout", "{zombie}");
}

/// A holder that obeys ends the lease by its own hand.
#[test]
fn an_obeyed_break_is_an_unlock() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let holder = Actor::start();
    let file = open_lease_and_pin(&holder, &scratch.file("f"));
    let other = Actor::start();
    other.err(
        &format!("open g {} rw,nonblock", file.path),
        libc::EWOULDBLOCK,
    );
    holder.ok("setlease f u");
    let zombie = monitor.expect_of("zombie", holder.pid());
    assert_eq!(zombie["cause"], "unlock", "{zombie}");
}

/// A reader breaks a write lease to a read lease only: what times out is half the lease.
#[test]
fn a_readers_break_is_a_downgrade() {
    let _short = Setting::set("fs/lease-break-time", "2");
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let holder = Actor::start();
    let file = pin_without_lease(&holder, &scratch.file("f"));
    holder.ok(&format!("open f {} ro", file.path));
    holder.ok("setlease f w");
    // Blocks for the two seconds.
    drop(File::open(&file.path).expect("opened in the end"));
    assert_eq!(leases_on(&file), [("LEASE".to_owned(), "READ".to_owned())]);
    monitor.barrier();
    monitor.none_for(holder.pid(), "lease-end");
    monitor.none_for(holder.pid(), "zombie");
}
