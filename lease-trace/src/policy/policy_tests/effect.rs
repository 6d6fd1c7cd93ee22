//! What rules come to on each kernel, and which are out of reach.

use super::*;

/// What a policy of one rule comes to: a letter for each release path.
fn ways(lines: &str, ways: Option<&ReleasePaths>) -> String {
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
        "action = \"deny\"\nfallback = \"report\"",
        "action = \"deny\"\nfallback = \"hold\"",
        "action = \"deny\"\nfallback = \"stop\"",
        "action = \"deny\"\nfallback = \"kill\"",
        "action = \"hold\"",
        "action = \"hold\"\nfallback = \"report\"",
        "action = \"hold\"\nfallback = \"kill\"",
        "action = \"stop\"",
        "action = \"kill\"",
    ];
    let kernels = [
        Some(ReleasePaths::like_linux_7()),
        Some(ReleasePaths::like_debian_12()),
        Some(ReleasePaths::none()),
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
            .replace("\nfallback =", " else")
            .replace('"', "");
        page.extend([&format!("{words:16} "), row.join(" ").as_str(), "\n"]);
    }
    // unlock close dup2 close_range munmap exec exit killed io_uring break-timeout other thread-exit orphaned bare-pin
    insta::assert_snapshot!(page, @r#"
    report           RRRRRR--R.RRRR RRRRRR--R.RRRR RRRRRR--R.RRRR RRRRRR--R.RRRR
    deny             DDDDD!--!.!!!! D!!!!!--!.!!!! !!!!!!--!.!!!! ?????!--!.!!!!
    deny else report DDDDDR--R.RRRR DRRRRR--R.RRRR RRRRRR--R.RRRR ?????R--R.RRRR
    deny else hold   DDDDDH--H.HHH! DHHHHH--H.HHH! !HHHHH--H.HHH! ?????H--H.HHH!
    deny else stop   DDDDDS--S.SSSS DSSSSS--S.SSSS SSSSSS--S.SSSS ?????S--S.SSSS
    deny else kill   DDDDDK--K.KKKK DKKKKK--K.KKKK KKKKKK--K.KKKK ?????K--K.KKKK
    hold             DHHHHH--H.HHH! DHHHHH--H.HHH! !HHHHH--H.HHH! ?HHHHH--H.HHH!
    hold else report DHHHHH--H.HHHR DHHHHH--H.HHHR RHHHHH--H.HHHR ?HHHHH--H.HHHR
    hold else kill   DHHHHH--H.HHHK DHHHHH--H.HHHK KHHHHH--H.HHHK ?HHHHH--H.HHHK
    stop             SSSSSS--S.SSSS SSSSSS--S.SSSS SSSSSS--S.SSSS SSSSSS--S.SSSS
    kill             KKKKKK--K.KKKK KKKKKK--K.KKKK KKKKKK--K.KKKK KKKKKK--K.KKKK
    "#);
}

#[test]
fn what_cannot_be_had_is_refused() {
    let rules = [
        "action = \"deny\"",
        "match.cause = [\"unlock\", \"close\"]\naction = \"deny\"",
        "match.cause = [\"close\", \"break-timeout\"]\naction = \"hold\"",
        "match.cause = \"break-timeout\"\naction = \"deny\"\nfallback = \"hold\"",
        "on = \"bare-pin\"\naction = \"deny\"",
        "on = [\"zombie\", \"bare-pin\"]\naction = \"hold\"",
    ];
    let ways = ReleasePaths::like_debian_12();
    let page = rules.map(|lines| on_kernel(&rule(lines), &ways).render_said());
    insta::assert_snapshot!(page.join("\n"), @r#"
    policy.toml:3:10: rule r: deny cannot be had for exec, io_uring, other,
      thread-exit, orphaned: no kernel lets this be denied; write fallback = "kill"
      (or "stop" or "report"), or name in `cause` only release paths where it can
     3 | action = "deny"
       |          ^^^^^^

    policy.toml:3:10: rule r: on this kernel, deny cannot be had for close, dup2,
      close_range, munmap: the system call is not modifiable; write fallback =
      "kill" (or "stop" or "report"), or name in `cause` only release paths where it
      can
     3 | action = "deny"
       |          ^^^^^^

    policy.toml:4:10: rule r: on this kernel, deny cannot be had for close: the
      system call is not modifiable; write fallback = "kill" (or "stop" or
      "report"), or name in `cause` only release paths where it can
     4 | action = "deny"
       |          ^^^^^^

    policy.toml:4:10: rule r: hold cannot be had for break-timeout: the kernel takes
      the lease away, whoever keeps the file; write fallback = "kill" (or "stop" or
      "report"), or name in `cause` only release paths where it can
     4 | action = "hold"
       |          ^^^^^^

    policy.toml:5:12: rule r: neither deny nor hold can be had for break-timeout: no
      kernel lets this be denied; write fallback = "kill" (or "stop" or "report"),
      or name in `cause` only release paths where it can
     5 | fallback = "hold"
       |            ^^^^^^

    policy.toml:4:10: rule r: deny cannot be had for bare-pin: there is no release
      to deny and no lease to hold; write fallback = "kill" (or "stop" or "report"),
      or leave "bare-pin" out of `on`
     4 | action = "deny"
       |          ^^^^^^

    policy.toml:4:10: rule r: hold cannot be had for bare-pin: there is no release
      to deny and no lease to hold; write fallback = "kill" (or "stop" or "report"),
      or leave "bare-pin" out of `on`
     4 | action = "hold"
       |          ^^^^^^
    "#);
    let only_close = rule("match.cause = \"close\"\naction = \"deny\"");
    assert_eq!(
        on_kernel(&only_close, &ways).severity(),
        Some(Severity::Kernel)
    );
    assert_eq!(on_linux_7(&only_close).severity(), None);
    let helped = rule("match.cause = \"unlock\"\naction = \"hold\"\nfallback = \"kill\"");
    assert_eq!(on_kernel(&helped, &ReleasePaths::none()).severity(), None);
}

#[test]
fn the_status_tells_the_file_from_the_kernel() {
    let accept = |lines: &str| {
        let check = on_kernel(&rule(lines), &ReleasePaths::like_debian_12());
        check.accept().map_err(|error| error.is_unsupported())
    };
    assert_eq!(accept("action = \"deny\"").map(|_| ()), Err(false));
    let close = "match.cause = \"close\"\naction = \"deny\"";
    assert_eq!(accept(close).map(|_| ()), Err(true));
    assert!(accept(&format!("{close}\nfallback = \"kill\"")).is_ok());
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
    // A rule on trial takes nothing from those in force, nor they from it.
    assert!(!shadowed("mode = \"enforce\"", "mode = \"audit\""));
    assert!(!shadowed("mode = \"audit\"", "mode = \"enforce\""));
    assert!(shadowed("mode = \"audit\"", ""), "the policy's is audit");
}
