//! What is compiled, and how it is explained.

use super::*;

#[test]
fn without_keys_a_rule_matches_every_zombie_but_of_breaks() {
    let mut expected = Rule {
        // The mode of a policy that names none.
        audits: 1,
        causes: lease_trace_common::policy::USUAL_CAUSES,
        grace_ms: 2000,
        action: Action::Kill as u32,
        ..Rule::ANY
    };
    expected.name[0] = b'r';
    assert_eq!(compiled(&rule("action = \"kill\"")), expected);
}

#[test]
fn every_key_has_its_field() {
    let root = tempfile::tempdir().expect("a temporary directory");
    fs::create_dir_all(root.path().join("system.slice/app.service")).expect("creates");
    let cgroups = Cgroups::at(root.path());
    let text = "\
mode = \"enforce\"
hold_limit_ms = 1000

[[rule]]
name = \"rdma.exports_1\"
on = [\"zombie\", \"bare-pin\"]
match = { path = \"/proc\", cgroup = \"/system.slice/app.service\", uid = \"1000-1999\", gid = 0, \
comm = \"ib_*\", lease = \"write\", kind = [\"lease\", \"layout\"], \
consumer = [\"io_uring\", \"xdp\"], cause = [\"close\", \"unlock\"], min_pins = 4 }
action = \"hold\"
fallback = \"kill\"
grace_ms = 500

[[rule]]
name = \"second\"
match.consumer = [\"xdp\", \"vfio\"]
action = \"report\"
";
    let check = check_with(text, &cgroups, Some(&ReleasePaths::like_linux_7()));
    assert_eq!(check.render_said(), "");
    let policy = check.accept().expect("fine");
    assert!(policy.holds && policy.bare_pins);
    assert_eq!(policy.hold_limit_ms, 1000);
    assert_eq!(policy.consumers, ["io_uring", "xdp", "vfio"]);
    let [first, second] = policy.rules.as_slice() else {
        panic!("two rules");
    };
    let service = cgroups
        .locate("/system.slice/app.service".as_ref())
        .expect("exists");
    let proc = crate::policy::resolve::place("/proc".as_ref()).expect("exists");
    let mut name = [0; NAME_LEN];
    name[..14].copy_from_slice(b"rdma.exports_1");
    let expected = Rule {
        name,
        grace_ms: 500,
        min_pins: 4,
        comm_mask: [0x00ff_ffff, 0],
        comm_bits: [u64::from_le_bytes(*b"ib_\0\0\0\0\0"), 0],
        cgroup: service.id,
        path_ino: proc.ino,
        consumers: 0b110,
        path_dev: proc.dev,
        cgroup_level: 2,
        uid: [1000, 1999],
        gid: [0, 0],
        action: Action::Hold as u32,
        fallback: Action::Kill as u32,
        on: on::ZOMBIE | on::BARE_PIN,
        kinds: 1 | 4,
        modes: mode_bit(F_WRLCK),
        causes: cause_bit(Cause::Close as u32) | cause_bit(Cause::Unlock as u32),
        row: 0,
        audits: 0,
    };
    assert_eq!(*first, expected);
    assert_eq!(second.consumers, 0b1100);
}

#[test]
fn a_rule_has_the_mode_of_its_policy_or_its_own() {
    let text = "mode = \"MODE\"\n\
                [[rule]]\nname = \"a\"\nmode = \"audit\"\naction = \"kill\"\n\
                [[rule]]\nname = \"b\"\nmode = \"enforce\"\naction = \"kill\"\n\
                [[rule]]\nname = \"c\"\nmatch.uid = 7\naction = \"kill\"\n";
    for (mode, expected) in [("audit", [1, 0, 1]), ("enforce", [1, 0, 0])] {
        let check = on_linux_7(&text.replace("MODE", mode));
        let sentences = check.rules.iter().map(|rule| rule.sentence.clone());
        let would = sentences.map(|sentence| u32::from(sentence.contains("would be killed")));
        assert_eq!(would.collect::<Vec<_>>(), expected, "{mode}");
        let policy = check.accept().expect("fine");
        let audits = policy.rules.iter().map(|rule| rule.audits);
        assert_eq!(audits.collect::<Vec<_>>(), expected, "{mode}");
    }
}

#[test]
fn a_comm_is_compared_as_the_kernel_has_it() {
    let rule = compiled(&matching("comm = \"ib_?rite\""));
    let facts = |name: &str| {
        let mut comm = [0; lease_trace_common::COMM_LEN];
        comm[..name.len()].copy_from_slice(name.as_bytes());
        RuleFacts {
            on: on::ZOMBIE,
            kind: kind_bit(lease_trace_common::lease::Kind::Lease),
            mode: mode_bit(F_WRLCK),
            cause: cause_bit(Cause::Close as u32),
            pins: 1,
            uid: 0,
            gid: 0,
            comm: crate::policy::comm::words(&comm),
            comm_before: [0; 2],
        }
    };
    assert!(rule.admits(&facts("ib_write")));
    assert!(!rule.admits(&facts("ib_writer")));
    assert!(!rule.admits(&facts("ib_read")));
}

const EXAMPLE: &str = "\
mode = \"enforce\"

[[rule]]
name = \"rdma-exports\"
match = { path = \"/proc\", comm = \"ib_*\", lease = \"write\", min_pins = 4 }
action = \"deny\"
fallback = \"kill\"

[[rule]]
name = \"rings\"
on = [\"zombie\", \"bare-pin\"]
match = { consumer = \"io_uring\", uid = \"1000-1999\", cause = [\"close\", \"unlock\"] }
action = \"hold\"
fallback = \"report\"

[[rule]]
name = \"bare\"
on = \"bare-pin\"
match = { gid = 20, comm = \"db\", min_pins = 1 }
action = \"stop\"

[[rule]]
name = \"rest\"
match = { kind = [\"lease\", \"deleg\"], comm = \"w?rk\" }
action = \"report\"
";

#[test]
fn a_rule_is_a_sentence() {
    let sentences = |text: &str| {
        let rules = on_linux_7(text).rules.into_iter();
        let sentences: Vec<_> = rules.map(|rule| rule.sentence).collect();
        sentences.join("\n")
    };
    insta::assert_snapshot!(sentences(EXAMPLE), @r#"
    rdma-exports: when a process whose name begins with "ib_" releases a write lease on a file below /proc while it holds at least 4 pins on it, the release is denied; where it cannot be, the process is killed.
    rings: when a process of users 1000 to 1999 releases a lease on a file by close or unlock while it holds pins taken through io_uring on it, or holds long-term pins taken through io_uring on such a file that no lease covers, the file is held until the pins are gone; where it cannot be, it is reported.
    bare: when a process of group 20 named "db" holds at least 1 long-term pin on a file that no lease covers, the process is stopped.
    rest: when a process whose name is like "w?rk" releases a lease or delegation on a file while it holds pins on it, it is reported.
    "#);
    let audit = EXAMPLE.replace("enforce", "audit");
    insta::assert_snapshot!(sentences(&audit), @r#"
    rdma-exports: when a process whose name begins with "ib_" releases a write lease on a file below /proc while it holds at least 4 pins on it, the release would be denied; where it cannot be, the process would be killed.
    rings: when a process of users 1000 to 1999 releases a lease on a file by close or unlock while it holds pins taken through io_uring on it, or holds long-term pins taken through io_uring on such a file that no lease covers, the file would be held until the pins are gone; where it cannot be, it is reported.
    bare: when a process of group 20 named "db" holds at least 1 long-term pin on a file that no lease covers, the process would be stopped.
    rest: when a process whose name is like "w?rk" releases a lease or delegation on a file while it holds pins on it, it is reported.
    "#);
}
