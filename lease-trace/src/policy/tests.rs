//! Whole policies: what is refused and how it is told, what is compiled, what is explained.

use std::fs;

use lease_trace_common::{
    cause::Cause,
    lease::F_WRLCK,
    policy::{Action, Facts, NAME_LEN, Rule, cause_bit, kind_bit, mode_bit, on},
};

use super::{
    check::{Check, Host, check},
    diagnostic::{Severity, Source},
    effect::Effect,
};
use crate::{enrich::cgroup::Cgroups, kernel::ways::Ways};

fn check_with(text: &str, cgroups: &Cgroups, ways: Option<&Ways>) -> Check {
    let source = Source {
        name: "policy.toml".to_owned(),
        text: text.to_owned(),
    };
    let host = Host {
        cgroups,
        ways,
        symbols: None,
    };
    check(source, &host)
}

fn on_kernel(text: &str, ways: &Ways) -> Check {
    check_with(text, &Cgroups::default(), Some(ways))
}

fn on_linux_7(text: &str) -> Check {
    on_kernel(text, &Ways::like_linux_7())
}

/// One rule with these lines in it, of which `match` is the third.
fn rule(lines: &str) -> String {
    format!("[[rule]]\nname = \"r\"\n{lines}\n")
}

fn said(text: &str) -> String {
    on_linux_7(text).render_said()
}

fn compiled(text: &str) -> Rule {
    let check = on_linux_7(text);
    assert_eq!(check.render_said(), "", "{text}");
    check.accept().expect("fine").rules[0]
}

const REPORT: &str = "action = \"report\"";

fn matching(table: &str) -> String {
    rule(&format!("match = {{ {table} }}\n{REPORT}"))
}

/// What is said of policies that are wrong, each of them refused.
fn told(wrong: &[&str]) -> String {
    let said = wrong.iter().map(|text| {
        let check = on_linux_7(text);
        assert_eq!(check.severity(), Some(Severity::Error), "{text}");
        assert!(check.compiled.is_none(), "{text}");
        check.render_said()
    });
    said.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_wrong_form_of_a_file_is_told_with_its_place() {
    let wrong: &[&str] = &[
        "mode = \"enforce",
        "mode = enforce",
        "mode = \"strict\"",
        "mode = \"monitor\"\nmode = \"enforce\"",
        "hold_limit = \"5min\"",
        "hold_limit_ms = \"5min\"",
        "hold_limit_ms = -1",
        "[rule]\nname = \"r\"",
        "[[rule]",
        "[[rules]]",
        "[[rule]]\nname = \"r\"",
        "[[rule]]\naction = \"kill\"",
    ];
    insta::assert_snapshot!(told(wrong), @r#"
    policy.toml:1:16: invalid basic string; write `"`
     1 | mode = "enforce
       |                ^

    policy.toml:1:8: string values must be quoted; write it in quotes
     1 | mode = enforce
       |        ^^^^^^^

    policy.toml:1:8: unknown word `strict`; write `monitor` or `enforce`
     1 | mode = "strict"
       |        ^^^^^^^^

    policy.toml:2:1: duplicate key; keep one of them
     2 | mode = "enforce"
       | ^^^^

    policy.toml:1:1: unknown key `hold_limit`; write one of `mode`, `hold_limit_ms`,
      `rule`
     1 | hold_limit = "5min"
       | ^^^^^^^^^^

    policy.toml:1:17: invalid type: string "5min"; write a whole number, 0 or more
     1 | hold_limit_ms = "5min"
       |                 ^^^^^^

    policy.toml:1:17: invalid value: integer `-1`; write a whole number, 0 or more
     1 | hold_limit_ms = -1
       |                 ^^

    policy.toml:1:1: invalid type: map; write [[rule]], in two brackets
     1 | [rule]
       | ^^^^^^

    policy.toml:1:8: unclosed array table; write `]`
     1 | [[rule]
       |        ^

    policy.toml:1:3: unknown key `rules`; write one of `mode`, `hold_limit_ms`,
      `rule`
     1 | [[rules]]
       |   ^^^^^

    policy.toml:1:1: missing key `action`; add action = "report", "deny", "hold",
      "stop" or "kill"
     1 | [[rule]]
       | ^^^^^^^^

    policy.toml:1:1: missing key `name`; add name = "..."
     1 | [[rule]]
       | ^^^^^^^^
    "#);
}

#[test]
fn the_wrong_form_of_a_rule_is_told_with_its_place() {
    let wrong: &[&str] = &[
        &rule("action = \"deney\""),
        &rule("action = [\"deny\"]"),
        &rule("action = \"kill\"\nactions = 1"),
        &rule("on = \"ghost\"\naction = \"kill\""),
        &rule("on = [\"zombie\", 1]\naction = \"kill\""),
        &rule("grace = \"2s\"\naction = \"kill\""),
        &rule("grace_ms = 1.5\naction = \"kill\""),
    ];
    insta::assert_snapshot!(told(wrong), @r#"
    policy.toml:3:10: unknown word `deney`; write one of `report`, `deny`, `hold`,
      `stop`, `kill`
     3 | action = "deney"
       |          ^^^^^^^

    policy.toml:3:10: this is no word; write one word in quotes
     3 | action = ["deny"]
       |          ^^^^^^^^

    policy.toml:4:1: unknown key `actions`; write one of `name`, `on`, `match`,
      `action`, `otherwise`, `grace_ms`
     4 | actions = 1
       | ^^^^^^^

    policy.toml:3:6: unknown word `ghost`; write `zombie` or `bare-pin`
     3 | on = "ghost"
       |      ^^^^^^^

    policy.toml:3:17: this is no word; write one word in quotes
     3 | on = ["zombie", 1]
       |                 ^

    policy.toml:3:1: unknown key `grace`; write one of `name`, `on`, `match`,
      `action`, `otherwise`, `grace_ms`
     3 | grace = "2s"
       | ^^^^^

    policy.toml:3:12: invalid type: floating point `1.5`; write a whole number, 0 or
      more
     3 | grace_ms = 1.5
       |            ^^^
    "#);
}

#[test]
fn the_wrong_form_of_a_match_is_told_with_its_place() {
    let wrong: &[&str] = &[
        &matching("paths = \"/srv\""),
        &matching("path = 1"),
        &matching("uid = 1.5"),
        &matching("lease = \"exclusive\""),
        &matching("kind = [\"lease\", \"lock\"]"),
        &matching("kind = 4"),
        &matching("cause = \"shutdown\""),
        &matching("cause = [\"close\", \"shutdown\"]"),
        &matching("min_pins = -4"),
    ];
    insta::assert_snapshot!(told(wrong), @r#"
    policy.toml:3:11: unknown key `paths`; write one of `path`, `cgroup`, `uid`,
      `gid`, `comm`, `lease`, `kind`, `consumer`, `cause`, `min_pins`
     3 | match = { paths = "/srv" }
       |           ^^^^^

    policy.toml:3:18: invalid type: integer `1`; write it in quotes
     3 | match = { path = 1 }
       |                  ^

    policy.toml:3:17: invalid type: floating point `1.5`; write a number, a range
      such as "1000-1999", or a name
     3 | match = { uid = 1.5 }
       |                 ^^^

    policy.toml:3:19: unknown word `exclusive`; write `read` or `write`
     3 | match = { lease = "exclusive" }
       |                   ^^^^^^^^^^^

    policy.toml:3:28: unknown word `lock`; write one of `lease`, `deleg`, `layout`
     3 | match = { kind = ["lease", "lock"] }
       |                            ^^^^^^

    policy.toml:3:18: invalid type: integer `4`; write a word in quotes, or a list
      of them
     3 | match = { kind = 4 }
       |                  ^

    policy.toml:3:19: unknown word `shutdown`; write one of `unlock`, `close`,
      `dup2`, `close_range`, `munmap`, `exec`, `exit`, `killed`, `io_uring`,
      `break-timeout`, `kernel`, `other`
     3 | match = { cause = "shutdown" }
       |                   ^^^^^^^^^^

    policy.toml:3:29: unknown word `shutdown`; write one of `unlock`, `close`,
      `dup2`, `close_range`, `munmap`, `exec`, `exit`, `killed`, `io_uring`,
      `break-timeout`, `kernel`, `other`
     3 | match = { cause = ["close", "shutdown"] }
       |                             ^^^^^^^^^^

    policy.toml:3:22: invalid value: integer `-4`; write a whole number, 0 or more
     3 | match = { min_pins = -4 }
       |                      ^^
    "#);
}

#[test]
fn the_wrong_meaning_of_a_rule_is_told_with_its_place() {
    let wrong: &[&str] = &[
        "hold_limit_ms = 0\n[[rule]]\nname = \"r\"\naction = \"kill\"",
        "[[rule]]\nname = \"r d\"\naction = \"kill\"",
        "[[rule]]\nname = \"\"\naction = \"kill\"",
        "[[rule]]\nname = \"a-name-of-thirty-two-characters-\"\naction = \"kill\"",
        &rule("action = \"kill\"\n\n[[rule]]\nname = \"r\"\naction = \"stop\""),
        &rule("on = []\naction = \"kill\""),
        &rule("action = \"kill\"\notherwise = \"stop\""),
        &rule("action = \"hold\"\notherwise = \"hold\""),
        &rule("action = \"hold\"\notherwise = \"deny\""),
        &rule(
            "on = \"bare-pin\"\nmatch = { lease = \"write\", kind = \"lease\", cause = \"close\" }\naction = \"kill\"",
        ),
    ];
    insta::assert_snapshot!(told(wrong), @r#"
    policy.toml:1:17: a hold of 0 ms is none; write the milliseconds a file may be
      held, or leave `hold_limit_ms` out
     1 | hold_limit_ms = 0
       |                 ^

    policy.toml:2:8: `r d` is no name for a rule; write 1 to 31 of A-Z a-z 0-9 . _ -
     2 | name = "r d"
       |        ^^^^^

    policy.toml:2:8: `` is no name for a rule; write 1 to 31 of A-Z a-z 0-9 . _ -
     2 | name = ""
       |        ^^

    policy.toml:2:8: `a-name-of-thirty-two-characters-` is no name for a rule; write
      1 to 31 of A-Z a-z 0-9 . _ -
     2 | name = "a-name-of-thirty-two-characters-"
       |        ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^

    policy.toml:6:8: a rule before has the name r, too; give each rule a name of its
      own
     6 | name = "r"
       |        ^^^

    policy.toml:3:6: an empty list; name at least one, or leave the key out
     3 | on = []
       |      ^^

    policy.toml:4:13: `otherwise` is for deny and hold; kill can always be had;
      leave it out
     4 | otherwise = "stop"
       |             ^^^^^^

    policy.toml:4:13: `hold` is the action itself; write "kill", "stop" or "report"
     4 | otherwise = "hold"
       |             ^^^^^^

    policy.toml:4:13: what cannot be held cannot be denied, either; write "kill",
      "stop" or "report"
     4 | otherwise = "deny"
       |             ^^^^^^

    policy.toml:4:19: a bare pin has no lease, so `lease` says nothing about it;
      leave it out, or add "zombie" to `on`
     4 | match = { lease = "write", kind = "lease", cause = "close" }
       |                   ^^^^^^^

    policy.toml:4:35: a bare pin has no lease, so `kind` says nothing about it;
      leave it out, or add "zombie" to `on`
     4 | match = { lease = "write", kind = "lease", cause = "close" }
       |                                   ^^^^^^^

    policy.toml:4:52: a bare pin has no lease, so `cause` says nothing about it;
      leave it out, or add "zombie" to `on`
     4 | match = { lease = "write", kind = "lease", cause = "close" }
       |                                                    ^^^^^^^
    "#);
}

#[test]
fn the_wrong_meaning_of_a_match_is_told_with_its_place() {
    let wrong: &[&str] = &[
        &matching("path = \"srv\""),
        &matching("path = \"/no/such/folder\""),
        &matching("cgroup = \"/system.slice\""),
        &matching("uid = -1"),
        &matching("uid = \"nobody-at-all\""),
        &matching("gid = \"20-10\""),
        &matching("comm = \"a*b\""),
        &matching("comm = \"\""),
        &matching("kind = []"),
        &matching("cause = []"),
        &matching("cause = [\"close\", \"kernel\"]"),
        &matching("cause = \"kernel\""),
        &matching("consumer = \"\""),
        &matching("consumer = [\"io_uring\", \"io uring\"]"),
        &matching("consumer = \"vhost_net\""),
        &matching("consumer = \"rdma-rxe\""),
        &matching("min_pins = 0"),
    ];
    insta::assert_snapshot!(told(wrong), @r#"
    policy.toml:3:18: a relative path; write one that begins with a slash
     3 | match = { path = "srv" }
       |                  ^^^^^

    policy.toml:3:18: cannot open /no/such/folder: No such file or directory (os
      error 2); write a path that exists when the policy is loaded
     3 | match = { path = "/no/such/folder" }
       |                  ^^^^^^^^^^^^^^^^^

    policy.toml:3:20: this host has no unified cgroup hierarchy (cgroup2); leave the
      cgroup out
     3 | match = { cgroup = "/system.slice" }
       |                    ^^^^^^^^^^^^^^^

    policy.toml:3:17: this is no user id; write a number from 0 to 4294967294
     3 | match = { uid = -1 }
       |                 ^^

    policy.toml:3:17: there is no user `nobody-at-all` here; write a name that
      `getent` knows, a number or a range such as "1000-1999"
     3 | match = { uid = "nobody-at-all" }
       |                 ^^^^^^^^^^^^^^^

    policy.toml:3:17: the range 20-10 is empty; write the lower number first
     3 | match = { gid = "20-10" }
       |                 ^^^^^^^

    policy.toml:3:18: `*` stands before the end; write one `*` at the end only, and
      `?` for any one byte
     3 | match = { comm = "a*b" }
       |                  ^^^^^

    policy.toml:3:18: the pattern is empty; leave `comm` out to match every process
     3 | match = { comm = "" }
       |                  ^^

    policy.toml:3:18: an empty list; name at least one, or leave the key out
     3 | match = { kind = [] }
       |                  ^^

    policy.toml:3:19: an empty list; name at least one, or leave the key out
     3 | match = { cause = [] }
       |                   ^^

    policy.toml:3:29: a lease of the kernel's own (nfsd) is never touched; leave
      `kernel` out
     3 | match = { cause = ["close", "kernel"] }
       |                             ^^^^^^^^

    policy.toml:3:19: a lease of the kernel's own (nfsd) is never touched; leave
      `kernel` out
     3 | match = { cause = "kernel" }
       |                   ^^^^^^^^

    policy.toml:3:22: `` is no name of a consumer; write it as CONSUMER in
      `lease-trace report` shows it
     3 | match = { consumer = "" }
       |                      ^^

    policy.toml:3:35: `io uring` is no name of a consumer; write it as CONSUMER in
      `lease-trace report` shows it
     3 | match = { consumer = ["io_uring", "io uring"] }
       |                                   ^^^^^^^^^^

    policy.toml:3:22: no consumer is called vhost_net; write "vhost"
     3 | match = { consumer = "vhost_net" }
       |                      ^^^^^^^^^^^

    policy.toml:3:22: no consumer is called rdma-rxe; write "rdma_rxe"
     3 | match = { consumer = "rdma-rxe" }
       |                      ^^^^^^^^^^

    policy.toml:3:22: there is no breach without a pin; write 1 or more, or leave
      `min_pins` out
     3 | match = { min_pins = 0 }
       |                      ^
    "#);
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let text =
        rule("match = { comm = \"a*b\", min_pins = 0, cause = \"kernel\" }\naction = \"kill\"");
    assert_eq!(on_linux_7(&text).said.len(), 3);
}

#[test]
fn a_policy_has_so_many_rules_and_consumers() {
    let rules = |count: u32| -> String {
        let rule = |i| format!("[[rule]]\nname = \"r{i}\"\nmatch.uid = {i}\n{REPORT}\n");
        (0..count).map(rule).collect()
    };
    assert_eq!(said(&rules(32)), "");
    insta::assert_snapshot!(said(&rules(33)), @r#"
    policy.toml:130:8: this is rule 33 of at most 32; write one rule for what
      several do
     130 | name = "r32"
         |        ^^^^^
    "#);
    let consumers = |count: u32| {
        let names: Vec<_> = (0..count).map(|i| format!("\"no_such_{i}\"")).collect();
        let check = on_linux_7(&matching(&format!("consumer = [{}]", names.join(", "))));
        check.severity()
    };
    assert_eq!(
        consumers(62),
        Some(Severity::Warning),
        "no such modules are loaded"
    );
    assert_eq!(consumers(63), Some(Severity::Error));
}

#[test]
fn without_keys_a_rule_matches_every_zombie() {
    let mut expected = Rule {
        grace_ms: 2000,
        action: Action::Kill as u32,
        ..Rule::ANY
    };
    expected.name[0] = b'r';
    assert_eq!(compiled(&rule("action = \"kill\"")), expected);
}

#[test]
fn every_key_has_its_field() {
    let root = tempfile::tempdir().expect("a temporary folder");
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
otherwise = \"kill\"
grace_ms = 500

[[rule]]
name = \"second\"
match.consumer = [\"xdp\", \"vfio\"]
action = \"report\"
";
    let check = check_with(text, &cgroups, Some(&Ways::like_linux_7()));
    assert_eq!(check.render_said(), "");
    let policy = check.accept().expect("fine");
    assert!(policy.enforce && policy.holds && policy.bare_pins);
    assert_eq!(policy.hold_limit_ms, 1000);
    assert_eq!(policy.consumers, ["io_uring", "xdp", "vfio"]);
    let [first, second] = policy.rules.as_slice() else {
        panic!("two rules");
    };
    let service = cgroups
        .locate("/system.slice/app.service".as_ref())
        .expect("exists");
    let proc = super::resolve::place("/proc".as_ref()).expect("exists");
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
        otherwise: Action::Kill as u32,
        on: on::ZOMBIE | on::BARE_PIN,
        kinds: 1 | 4,
        modes: mode_bit(F_WRLCK),
        causes: cause_bit(Cause::Close as u32) | cause_bit(Cause::Unlock as u32),
        row: 0,
        padding: 0,
    };
    assert_eq!(*first, expected);
    assert_eq!(second.consumers, 0b1100);
}

#[test]
fn a_comm_is_compared_as_the_kernel_has_it() {
    let rule = compiled(&matching("comm = \"ib_?rite\""));
    let facts = |name: &str| {
        let mut comm = [0; lease_trace_common::COMM_LEN];
        comm[..name.len()].copy_from_slice(name.as_bytes());
        Facts {
            on: on::ZOMBIE,
            kind: kind_bit(lease_trace_common::lease::Kind::Lease),
            mode: mode_bit(F_WRLCK),
            cause: cause_bit(Cause::Close as u32),
            pins: 1,
            uid: 0,
            gid: 0,
            comm: super::comm::words(&comm),
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
otherwise = \"kill\"

[[rule]]
name = \"rings\"
on = [\"zombie\", \"bare-pin\"]
match = { consumer = \"io_uring\", uid = \"1000-1999\", cause = [\"close\", \"unlock\"] }
action = \"hold\"
otherwise = \"report\"

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
    rdma-exports: when a process whose name begins with "ib_" lets go of a write lease on a file below /proc while it holds at least 4 pins on it, the release is denied; where it cannot be, the process is killed.
    rings: when a process of users 1000 to 1999 lets go of a lease on a file by close or unlock while it holds pins taken through io_uring on it, or holds long-term pins taken through io_uring on such a file that no lease covers, the file is held until the pins are gone; where it cannot be, it is reported.
    bare: when a process of group 20 named "db" holds at least 1 long-term pin on a file that no lease covers, the process is stopped.
    rest: when a process whose name is like "w?rk" lets go of a lease or delegation on a file while it holds pins on it, it is reported.
    "#);
    let monitor = EXAMPLE.replace("enforce", "monitor");
    insta::assert_snapshot!(sentences(&monitor), @r#"
    rdma-exports: when a process whose name begins with "ib_" lets go of a write lease on a file below /proc while it holds at least 4 pins on it, the release would be denied; where it cannot be, the process would be killed.
    rings: when a process of users 1000 to 1999 lets go of a lease on a file by close or unlock while it holds pins taken through io_uring on it, or holds long-term pins taken through io_uring on such a file that no lease covers, the file would be held until the pins are gone; where it cannot be, it is reported.
    bare: when a process of group 20 named "db" holds at least 1 long-term pin on a file that no lease covers, the process would be stopped.
    rest: when a process whose name is like "w?rk" lets go of a lease or delegation on a file while it holds pins on it, it is reported.
    "#);
}

/// What a policy of one rule comes to: a letter for each way out.
fn ways(lines: &str, ways: Option<&Ways>) -> String {
    let check = check_with(&rule(lines), &Cgroups::default(), ways);
    let at = check.rules.into_iter().flat_map(|rule| rule.ways);
    at.map(|at| match at.effect {
        Effect::Denied => 'D',
        Effect::Held => 'H',
        Effect::Stopped => 'S',
        Effect::Killed => 'K',
        Effect::Reported => 'R',
        Effect::Impossible => '!',
        Effect::Unknown => '?',
        Effect::Nothing => '-',
        Effect::Unmatched => '.',
    })
    .collect()
}

#[test]
fn what_each_rule_comes_to_on_each_kernel() {
    let rules = [
        "action = \"report\"",
        "action = \"deny\"",
        "action = \"deny\"\notherwise = \"report\"",
        "action = \"deny\"\notherwise = \"hold\"",
        "action = \"deny\"\notherwise = \"stop\"",
        "action = \"deny\"\notherwise = \"kill\"",
        "action = \"hold\"",
        "action = \"hold\"\notherwise = \"report\"",
        "action = \"hold\"\notherwise = \"kill\"",
        "action = \"stop\"",
        "action = \"kill\"",
    ];
    let kernels = [
        Some(Ways::like_linux_7()),
        Some(Ways::like_debian_12()),
        Some(Ways::none()),
        None,
    ];
    let mut page = String::new();
    for rule in rules {
        let on = "on = [\"zombie\", \"bare-pin\"]\n";
        let row = kernels
            .each_ref()
            .map(|kernel| ways(&format!("{on}{rule}"), kernel.as_ref()));
        let words = rule
            .replace("action = ", "")
            .replace("\notherwise =", " else")
            .replace('"', "");
        page.extend([&format!("{words:16} "), row.join(" ").as_str(), "\n"]);
    }
    // unlock close dup2 close_range munmap exec exit killed io_uring break-timeout other bare-pin
    insta::assert_snapshot!(page, @r#"
    report           RRRRRR--RRRR RRRRRR--RRRR RRRRRR--RRRR RRRRRR--RRRR
    deny             DDDDD!--!!!! D!!!!!--!!!! !!!!!!--!!!! ?????!--!!!!
    deny else report DDDDDR--RRRR DRRRRR--RRRR RRRRRR--RRRR ?????R--RRRR
    deny else hold   DDDDDH--H!H! DHHHHH--H!H! !HHHHH--H!H! ?????H--H!H!
    deny else stop   DDDDDS--SSSS DSSSSS--SSSS SSSSSS--SSSS ?????S--SSSS
    deny else kill   DDDDDK--KKKK DKKKKK--KKKK KKKKKK--KKKK ?????K--KKKK
    hold             DHHHHH--H!H! DHHHHH--H!H! !HHHHH--H!H! ?HHHHH--H!H!
    hold else report DHHHHH--HRHR DHHHHH--HRHR RHHHHH--HRHR ?HHHHH--HRHR
    hold else kill   DHHHHH--HKHK DHHHHH--HKHK KHHHHH--HKHK ?HHHHH--HKHK
    stop             SSSSSS--SSSS SSSSSS--SSSS SSSSSS--SSSS SSSSSS--SSSS
    kill             KKKKKK--KKKK KKKKKK--KKKK KKKKKK--KKKK KKKKKK--KKKK
    "#);
}

#[test]
fn what_cannot_be_had_is_refused() {
    let rules = [
        "action = \"deny\"",
        "match.cause = [\"unlock\", \"close\"]\naction = \"deny\"",
        "action = \"hold\"",
        "action = \"deny\"\notherwise = \"hold\"",
        "on = \"bare-pin\"\naction = \"deny\"",
        "on = [\"zombie\", \"bare-pin\"]\naction = \"hold\"",
    ];
    let ways = Ways::like_debian_12();
    let page = rules.map(|lines| on_kernel(&rule(lines), &ways).render_said());
    insta::assert_snapshot!(page.join("\n"), @r#"
    policy.toml:3:10: rule r: deny cannot be had for exec, io_uring, break-timeout,
      other: no kernel lets this be denied; write otherwise = "kill" (or "stop" or
      "report"), or name in `cause` only ways out where it can
     3 | action = "deny"
       |          ^^^^^^

    policy.toml:3:10: rule r: on this kernel, deny cannot be had for close, dup2,
      close_range, munmap: the system call is not modifiable; write otherwise =
      "kill" (or "stop" or "report"), or name in `cause` only ways out where it can
     3 | action = "deny"
       |          ^^^^^^

    policy.toml:4:10: rule r: on this kernel, deny cannot be had for close: the
      system call is not modifiable; write otherwise = "kill" (or "stop" or
      "report"), or name in `cause` only ways out where it can
     4 | action = "deny"
       |          ^^^^^^

    policy.toml:3:10: rule r: hold cannot be had for break-timeout: the kernel takes
      the lease away, whoever keeps the file; write otherwise = "kill" (or "stop" or
      "report"), or name in `cause` only ways out where it can
     3 | action = "hold"
       |          ^^^^^^

    policy.toml:4:13: rule r: neither deny nor hold can be had for break-timeout: no
      kernel lets this be denied; write otherwise = "kill" (or "stop" or "report"),
      or name in `cause` only ways out where it can
     4 | otherwise = "hold"
       |             ^^^^^^

    policy.toml:4:10: rule r: deny cannot be had for bare-pin: there is no release
      to deny and no lease to hold; write otherwise = "kill" (or "stop" or
      "report"), or leave "bare-pin" out of `on`
     4 | action = "deny"
       |          ^^^^^^

    policy.toml:4:10: rule r: hold cannot be had for break-timeout, bare-pin: the
      kernel takes the lease away, whoever keeps the file; there is no release to
      deny and no lease to hold; write otherwise = "kill" (or "stop" or "report"),
      or name in `cause` only ways out where it can and leave "bare-pin" out of `on`
     4 | action = "hold"
       |          ^^^^^^
    "#);
    let only_close = rule("match.cause = \"close\"\naction = \"deny\"");
    assert_eq!(
        on_kernel(&only_close, &ways).severity(),
        Some(Severity::Kernel)
    );
    assert_eq!(on_linux_7(&only_close).severity(), None);
    let helped = rule("match.cause = \"unlock\"\naction = \"hold\"\notherwise = \"kill\"");
    assert_eq!(on_kernel(&helped, &Ways::none()).severity(), None);
}

#[test]
fn the_status_tells_the_file_from_the_kernel() {
    let accept = |lines: &str| {
        let check = on_kernel(&rule(lines), &Ways::like_debian_12());
        check.accept().map_err(|error| error.is_unsupported())
    };
    assert_eq!(accept("action = \"deny\"").map(|_| ()), Err(false));
    let close = "match.cause = \"close\"\naction = \"deny\"";
    assert_eq!(accept(close).map(|_| ()), Err(true));
    assert!(accept(&format!("{close}\notherwise = \"kill\"")).is_ok());
}

#[test]
fn a_kernel_that_could_not_be_asked_refuses_nothing_by_itself() {
    let unasked = |lines: &str| check_with(&rule(lines), &Cgroups::default(), None).severity();
    let close = "match.cause = \"close\"\naction = \"deny\"";
    assert_eq!(unasked(close), None);
    assert_eq!(
        unasked("action = \"deny\""),
        Some(Severity::Error),
        "exec, on no kernel"
    );
}

#[test]
fn a_policy_without_rules_is_said() {
    insta::assert_snapshot!(said("mode = \"enforce\"\n"), @r#"
    policy.toml:1:1: warning: there is no rule, so nothing is ever done; write a
      [[rule]]
     1 | mode = "enforce"
       | ^
    "#);
    assert!(on_linux_7("").accept().is_ok());
}

/// Whether the second rule is said to be out of reach behind the first.
fn shadowed(first: &str, second: &str) -> bool {
    let text = format!(
        "[[rule]]\nname = \"first\"\n{first}\n{REPORT}\n[[rule]]\nname = \"second\"\n{second}\n\
         {REPORT}\n"
    );
    let check = on_linux_7(&text);
    assert!(check.compiled.is_some(), "{}", check.render_said());
    check.severity() == Some(Severity::Warning)
}

#[test]
fn a_rule_out_of_reach_is_said() {
    let narrower = [
        "match.uid = 1000",
        "match.gid = 1000",
        "match.comm = \"db\"",
        "match.lease = \"write\"",
        "match.kind = \"deleg\"",
        "match.cause = \"close\"",
        "match.consumer = \"io_uring\"",
        "match.min_pins = 4",
        "match.path = \"/proc\"",
    ];
    for rule in narrower {
        assert!(shadowed("", rule), "everything before {rule}");
        assert!(shadowed(rule, rule), "{rule} twice");
        assert!(!shadowed(rule, ""), "{rule} before everything");
        for other in narrower {
            assert_eq!(
                shadowed(rule, other),
                rule == other,
                "{rule} before {other}"
            );
        }
    }
    let pairs = [
        ("match.uid = \"1000-1999\"", "match.uid = \"1500-1600\""),
        ("match.comm = \"ib_*\"", "match.comm = \"ib_write*\""),
        ("match.comm = \"ib_*\"", "match.comm = \"ib_w?ite\""),
        (
            "match.cause = [\"close\", \"dup2\"]",
            "match.cause = \"dup2\"",
        ),
        (
            "match.consumer = [\"xdp\", \"vfio\"]",
            "match.consumer = \"vfio\"",
        ),
        ("match.path = \"/proc\"", "match.path = \"/proc/sys\""),
        ("on = [\"zombie\", \"bare-pin\"]", "on = \"bare-pin\""),
        (
            "on = [\"zombie\", \"bare-pin\"]\nmatch.cause = \"close\"",
            "on = \"bare-pin\"",
        ),
    ];
    for (wide, narrow) in pairs {
        assert!(shadowed(wide, narrow), "{wide} before {narrow}");
        assert!(!shadowed(narrow, wide), "{narrow} before {wide}");
    }
    assert!(!shadowed("", "on = \"bare-pin\""));
}
