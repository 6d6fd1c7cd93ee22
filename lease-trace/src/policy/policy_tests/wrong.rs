//! What is refused, and how it is told.

use super::*;

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
        "mode = \"audit\"\nmode = \"enforce\"",
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

    policy.toml:1:8: unknown word `strict`; write `audit` or `enforce`
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
      `action`, `fallback`, `mode`, `grace_ms`
     4 | actions = 1
       | ^^^^^^^

    policy.toml:3:6: unknown word `ghost`; write `zombie` or `bare-pin`
     3 | on = "ghost"
       |      ^^^^^^^

    policy.toml:3:17: this is no word; write one word in quotes
     3 | on = ["zombie", 1]
       |                 ^

    policy.toml:3:1: unknown key `grace`; write one of `name`, `on`, `match`,
      `action`, `fallback`, `mode`, `grace_ms`
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
      `break-timeout`, `kernel`, `other`, `thread-exit`, `orphaned`
     3 | match = { cause = "shutdown" }
       |                   ^^^^^^^^^^

    policy.toml:3:29: unknown word `shutdown`; write one of `unlock`, `close`,
      `dup2`, `close_range`, `munmap`, `exec`, `exit`, `killed`, `io_uring`,
      `break-timeout`, `kernel`, `other`, `thread-exit`, `orphaned`
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
        &rule("action = \"kill\"\nfallback = \"stop\""),
        &rule("action = \"hold\"\nfallback = \"hold\""),
        &rule("action = \"hold\"\nfallback = \"deny\""),
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

    policy.toml:4:12: `fallback` is for deny and hold; kill can always be had; leave
      it out
     4 | fallback = "stop"
       |            ^^^^^^

    policy.toml:4:12: `hold` is the action itself; write "kill", "stop" or "report"
     4 | fallback = "hold"
       |            ^^^^^^

    policy.toml:4:12: what cannot be held cannot be denied, either; write "kill",
      "stop" or "report"
     4 | fallback = "deny"
       |            ^^^^^^

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
        &matching("path = \"/no/such/directory\""),
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

    policy.toml:3:18: cannot open /no/such/directory: No such file or directory (os
      error 2); write a path that exists when the policy is loaded
     3 | match = { path = "/no/such/directory" }
       |                  ^^^^^^^^^^^^^^^^^^^^

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
fn old_forms_are_understood_and_a_word_is_said() {
    let old =
        "mode = 'monitor'\n[[rule]]\nname = \"r\"\naction = \"deny\"\n\"otherwise\"= \"kill\"\n";
    let check = on_linux_7(old);
    insta::assert_snapshot!(check.render_said(), @r#"
    policy.toml:1:8: warning: mode "monitor" is the old form; write "audit"
     1 | mode = 'monitor'
       |        ^^^^^^^^^

    policy.toml:5:2: warning: `otherwise` is the old form; write `fallback`
     5 | "otherwise"= "kill"
       |  ^^^^^^^^^
    "#);
    assert_eq!(check.severity(), Some(Severity::Warning));
    let new = on_linux_7(&rule("action = \"deny\"\nfallback = \"kill\""));
    assert_eq!(new.render_said(), "");
    assert_eq!(check.rules[0].ways, new.rules[0].ways);
    let of_rule = on_linux_7(&rule("mode = \"monitor\"\naction = \"kill\""));
    insta::assert_snapshot!(of_rule.render_said(), @r#"
    policy.toml:3:8: warning: mode "monitor" is the old form; write "audit"
     3 | mode = "monitor"
       |        ^^^^^^^^^
    "#);
    let both = rule("action = \"deny\"\notherwise = \"kill\"\nfallback = \"kill\"");
    insta::assert_snapshot!(told(&[&both]), @r"
    policy.toml:1:1: duplicate key `fallback`; keep one of them
     1 | [[rule]]
       | ^^^^^^^^
    ");
}
