//! `lease-trace monitor --metrics`: what is told over HTTP, held against what the actors did.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

use crate::harness::{
    Actor, Leftovers, Metrics, Monitor, Scratch, Tool, expect_rest, expect_zombie,
    open_lease_and_pin,
};

/// An unlock is denied, every other release path is only told.
const DENY_UNLOCK: &str = "mode = \"enforce\"\n[[rule]]\nname = \"stay\"\naction = \"deny\"\n\
                           fallback = \"report\"\nmatch = { cause = \"unlock\" }\n";

#[test]
fn a_denial_a_zombie_and_its_rest_are_counted() {
    let scratch = Scratch::new();
    let policy = scratch.file("policy.toml");
    std::fs::write(&policy, DENY_UNLOCK).expect("writes the policy");
    let monitor = Monitor::with(&["--all-events", "--metrics", "0", "--policy", &policy]);
    let metrics = Metrics::of(&monitor);
    metrics.expect("lease_trace_stakes{state=\"zombie\"} 0");
    metrics.expect("lease_trace_oldest_zombie_age_seconds 0.0");
    metrics.expect("lease_trace_rules{mode=\"enforce\"} 1");
    let leases = metrics.value("lease_trace_map_entries{map=\"LEASES\"}");

    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    metrics.expect("lease_trace_pins{state=\"covered\"} 256");
    metrics.expect(&format!(
        "lease_trace_map_entries{{map=\"LEASES\"}} {}",
        leases + 1.0
    ));
    actor.err("setlease f u", libc::EBUSY);
    monitor.expect_of("denied", actor.pid());
    metrics.expect("lease_trace_actions_total{rule=\"stay\",action=\"deny\",outcome=\"done\"} 1");

    actor.all(&["close f", "munmap m"]);
    expect_zombie(&monitor, actor.pid(), &file, "munmap");
    metrics.expect("lease_trace_zombies{cause=\"munmap\",consumer=\"io_uring\"} 1");
    metrics.expect("lease_trace_zombies_born_total{cause=\"munmap\",consumer=\"io_uring\"} 1");
    metrics.expect("lease_trace_pins{state=\"zombie\"} 256");
    assert!(metrics.value("lease_trace_oldest_zombie_age_seconds") > 0.0);

    actor.ok("unregister-buffers ring");
    expect_rest(&monitor, actor.pid(), &file);
    metrics.expect("lease_trace_stakes{state=\"zombie\"} 0");
    metrics.expect("lease_trace_zombie_duration_seconds_count 1");
    metrics.expect("lease_trace_zombies_born_total{cause=\"munmap\",consumer=\"io_uring\"} 1");
    let text = metrics.text();
    let lost = text
        .lines()
        .filter(|line| line.starts_with("lease_trace_lost_total{"));
    assert!(lost.clone().count() >= 10, "{text}");
    assert!(lost.clone().all(|line| line.ends_with(" 0")), "{text}");
    let labels = text.lines().filter_map(|line| line.split_once('{'));
    let labels = labels.filter_map(|(_, rest)| rest.rsplit_once('}'));
    let gone = |word: &str| {
        let has = labels.clone().any(|(labels, _)| labels.contains(word));
        assert!(!has, "{word} in a label\n{text}");
    };
    gone(scratch.directory().to_str().expect("UTF-8"));
    gone(&actor.pid().to_string());
    assert_eq!(monitor.stop().status.code(), Some(0));
}

/// Before anything is attached.
#[test]
fn a_place_that_cannot_be_had_is_refused_at_once() {
    let leftovers = Leftovers::before();
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = taken.local_addr().expect("an address").port().to_string();
    Tool::run(&["monitor", "-d", "1s", "--metrics", &port])
        .exits(2)
        .says(&["cannot offer metrics at 127.0.0.1", "in use", "--metrics"]);
    drop(taken);
    Tool::new(&["monitor", "-d", "1s", "--metrics", "80"])
        .before(drop_low_ports)
        .finish()
        .exits(2)
        .says(&["127.0.0.1:80", "denied", "CAP_NET_BIND_SERVICE"]);
    Tool::run(&["monitor", "-d", "1s", "--metrics", "localhost"])
        .exits(2)
        .says(&["neither a port nor an address"]);
    Tool::run(&["monitor", "-d", "1s", "--metrics", "9464", "-p", "1"])
        .exits(2)
        .says(&["cannot be used with"]);
    leftovers.assert_none();
}

fn drop_low_ports() -> io::Result<()> {
    const CAP_NET_BIND_SERVICE: libc::c_ulong = 10;
    // SAFETY: takes numbers; exec then gives root no more than the bounding set has.
    if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, CAP_NET_BIND_SERVICE, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
