//! The Debian package, under a real dpkg and systemd: installed, used, upgraded, removed, purged.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::{Actor, Scratch, eventually, get, no_monitor, open_lease_and_pin};

/// Two versions with the same program.
const OLD: &str = "/run/guest/old.deb";
const NEW: &str = "/run/guest/new.deb";
const PROGRAM: &str = "/usr/bin/lease-trace";
const POLICY: &str = "/etc/lease-trace/policy.toml";
const DROP_IN: &str = "/etc/systemd/system/lease-trace.service.d";
const IN_THE_KERNEL: &str = "/sys/fs/bpf/lease-trace";

/// What a command says; it must succeed.
#[track_caller]
fn run(program: &str, arguments: &[&str]) -> String {
    let ran = Command::new(program)
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&ran.stdout), text(&ran.stderr));
    assert!(
        ran.status.success(),
        "{program} {arguments:?}: {stdout}{stderr}"
    );
    stdout
}

fn show(unit: &str, property: &str) -> String {
    let said = run(
        "systemctl",
        &["show", "--value", "--property", property, unit],
    );
    said.trim().to_owned()
}

fn version() -> String {
    run(
        "dpkg-query",
        &["--show", "--showformat=${Version}", "lease-trace"],
    )
}

#[test]
fn it_is_installed_used_upgraded_and_purged() {
    no_monitor();
    run("dpkg", &["--install", OLD]);
    let first = version();
    for unit in ["lease-trace", "lease-trace-enforce"] {
        assert_eq!(show(unit, "ActiveState"), "inactive", "{unit} was started");
        assert_eq!(show(unit, "UnitFileState"), "disabled", "{unit}");
    }
    let listed = run("dpkg-query", &["--listfiles", "lease-trace"]);
    for file in [
        "/usr/share/man/man8/lease-trace.8.gz",
        "/usr/share/man/man8/lease-trace-enforce-start.8.gz",
        "/usr/share/bash-completion/completions/lease-trace",
        "/usr/share/lease-trace/grafana/lease-trace.json",
        "/usr/share/lease-trace/prometheus/lease-trace.rules.yml",
    ] {
        assert!(
            listed.lines().any(|line| line == file),
            "no {file} in\n{listed}"
        );
    }
    run(PROGRAM, &["policy", "check"]);

    // The default policy tells, and does nothing.
    run("systemctl", &["start", "lease-trace"]);
    assert_eq!(show("lease-trace-enforce", "ActiveState"), "active");
    let scratch = Scratch::new();
    let actor = Actor::start();
    open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok("setlease f u");
    let told = format!("LEASE_TRACE_PID={}", actor.pid());
    let matches = [
        "--quiet",
        "LEASE_TRACE_EVENT=would-deny",
        "LEASE_TRACE_RULE=zombies",
        &told,
    ];
    assert!(
        eventually(|| !run("journalctl", &matches).is_empty()),
        "no breach in the journal"
    );

    // What docs/service.md says of metrics.
    fs::create_dir_all(DROP_IN).expect("a directory for the unit");
    fs::copy(
        "/usr/share/doc/lease-trace/metrics.conf",
        format!("{DROP_IN}/metrics.conf"),
    )
    .expect("the package has it");
    run("systemctl", &["daemon-reload"]);
    run("systemctl", &["restart", "lease-trace"]);
    let metrics = get("http://127.0.0.1:9464/metrics").expect("metrics");
    assert!(
        metrics.contains("lease_trace_rules{mode=\"monitor\"} 1\n"),
        "{metrics}"
    );
    fs::remove_dir_all(DROP_IN).expect("it is there");
    run("systemctl", &["daemon-reload"]);

    // An upgrade keeps what the administrator wrote and what is in force.
    let edited = fs::read_to_string(POLICY).expect("a policy") + "# ours\n";
    fs::write(POLICY, &edited).expect("writes the policy");
    let (pid, since) = (show("lease-trace", "MainPID"), enforced_since());
    run("dpkg", &["--install", NEW]);
    assert_ne!(version(), first);
    let successor = eventually(|| {
        let now = show("lease-trace", "MainPID");
        now != pid && now != "0" && show("lease-trace", "ActiveState") == "active"
    });
    assert!(successor, "the monitor was not started again");
    assert_eq!(
        enforced_since(),
        since,
        "the enforcement was put in place anew"
    );
    assert_eq!(fs::read_to_string(POLICY).expect("a policy"), edited);

    run("dpkg", &["--remove", "lease-trace"]);
    assert!(
        !Path::new(IN_THE_KERNEL).exists(),
        "something is in the kernel still"
    );
    assert!(!Path::new(PROGRAM).exists());
    assert!(
        Path::new(POLICY).exists(),
        "the policy is the administrator's"
    );
    run("dpkg", &["--purge", "lease-trace"]);
    assert!(!Path::new("/etc/lease-trace").exists());
}

fn enforced_since() -> String {
    let status = run(PROGRAM, &["enforce", "status", "-J"]);
    let status: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    status["since"].to_string()
}
