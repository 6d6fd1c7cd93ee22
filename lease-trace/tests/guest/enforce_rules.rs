//! What a rule matches: each condition with somebody who meets it, and somebody who does not and
//! sees no difference.

use std::fs;

use crate::harness::{
    Actor, BindMount, Enforcement, Scratch, Subject, leases_on, open_lease_and_pin,
};

/// A condition, and how an actor comes to meet it or not, before it opens anything.
struct Condition {
    name: &'static str,
    text: &'static str,
    met: &'static [&'static str],
    unmet: &'static [&'static str],
}

/// Conditions on the process.
const OF_PROCESSES: [Condition; 4] = [
    Condition {
        name: "uid",
        text: "match.uid = \"1000-1999\"",
        met: &["setuid 1000"],
        unmet: &["setuid 2000"],
    },
    Condition {
        name: "comm",
        text: "match.comm = \"culp*\"",
        met: &["comm culprit"],
        unmet: &["comm bystander"],
    },
    Condition {
        name: "min-pins",
        text: "match.min_pins = 256",
        met: &[],
        unmet: &["fewer"],
    },
    Condition {
        name: "kind",
        text: "match.kind = \"lease\"",
        met: &[],
        unmet: &["deleg"],
    },
];

/// Conditions that a write lease under a ring's pins does not meet.
const UNMET: [(&str, &str); 4] = [
    ("read", "match.lease = \"read\""),
    ("deleg", "match.kind = \"deleg\""),
    ("xdp", "match.consumer = \"xdp\""),
    ("many", "match.min_pins = 257"),
];

/// Conditions that it meets.
const MET: [(&str, &str); 4] = [
    ("write", "match.lease = \"write\""),
    ("lease", "match.kind = [\"lease\", \"deleg\"]"),
    ("ring", "match.consumer = [\"xdp\", \"io_uring\"]"),
    ("unlock", "match.cause = \"unlock\""),
];

/// A rule that denies an unlock below a directory, on one more condition.
fn rule(scratch: &Scratch, name: &str, condition: &str) -> String {
    fs::create_dir(scratch.file(name)).expect("a directory");
    fs::set_permissions(scratch.file(name), world_writable()).expect("its mode");
    format!(
        "[[rule]]\nname = \"{name}\"\nmatch.path = \"{}\"\n{condition}\naction = \"deny\"\n\
         fallback = \"kill\"\n",
        scratch.file(name)
    )
}

fn world_writable() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o777)
}

/// The unlock is refused, and the lease is there.
#[track_caller]
fn is_denied(actor: &Actor, file: &Subject) {
    actor.err("setlease f u", libc::EBUSY);
    assert_eq!(leases_on(file).len(), 1);
    actor.all(&["unregister-buffers ring", "setlease f u"]);
}

#[test]
fn the_lease_and_its_pins() {
    let scratch = Scratch::new();
    let mut policy = "mode = \"enforce\"\n".to_owned();
    for (name, condition) in UNMET.iter().chain(&MET) {
        policy += &rule(&scratch, name, condition);
    }
    let enforcement = Enforcement::start(&policy);
    for (name, condition) in MET {
        let actor = Actor::start();
        let file = open_lease_and_pin(&actor, &scratch.file(&format!("{name}/f")));
        eprintln!("{condition}");
        is_denied(&actor, &file);
        assert_eq!(enforcement.hits(name)["denied"], 1, "{condition}");
    }
    for (name, condition) in UNMET {
        let actor = Actor::start();
        let file = open_lease_and_pin(&actor, &scratch.file(&format!("{name}/f")));
        eprintln!("{condition}");
        actor.ok("setlease f u");
        assert!(leases_on(&file).is_empty());
        assert_eq!(enforcement.hits(name), serde_json::json!({}), "{condition}");
    }
}

#[test]
fn the_process() {
    let scratch = Scratch::new();
    let mut policy = "mode = \"enforce\"\n".to_owned();
    for condition in &OF_PROCESSES {
        policy += &rule(&scratch, condition.name, condition.text);
    }
    let _enforcement = Enforcement::start(&policy);
    for Condition {
        name,
        text,
        met,
        unmet,
    } in &OF_PROCESSES
    {
        eprintln!("{text}");
        let actor = Actor::start();
        actor.all(met);
        let file = open_lease_and_pin(&actor, &scratch.file(&format!("{name}/met")));
        is_denied(&actor, &file);

        let actor = Actor::start();
        let path = scratch.file(&format!("{name}/unmet"));
        match *unmet {
            ["fewer"] => {
                open_lease_and_pin(&actor, &path);
                actor.ok("unregister-buffers ring");
                actor.ok("register-buffers ring m 0 64K");
            }
            ["deleg"] => {
                open_lease_and_pin(&actor, &path);
                actor.all(&["unregister-buffers ring", "setlease f u"]);
                if actor.attempt("setdeleg f w").is_err() {
                    continue;
                }
                actor.all(&["register-buffers ring m", "setdeleg f u"]);
                continue;
            }
            commands => {
                actor.all(commands);
                open_lease_and_pin(&actor, &path);
            }
        }
        actor.ok("setlease f u");
    }
}

#[test]
fn the_cgroup_and_those_below() {
    let scratch = Scratch::new();
    let group = "/sys/fs/cgroup/lease-trace-test";
    fs::create_dir_all(format!("{group}/below")).expect("cgroups");
    let policy = rule(&scratch, "group", "match.cgroup = \"/lease-trace-test\"");
    let enforcement = Enforcement::start(&format!("mode = \"enforce\"\n{policy}"));
    for (inside, denied) in [
        (group, true),
        (&format!("{group}/below"), true),
        ("", false),
    ] {
        let actor = Actor::start();
        if !inside.is_empty() {
            let members = format!("{inside}/cgroup.procs");
            fs::write(members, actor.pid().to_string()).expect("moved into the cgroup");
        }
        let file = open_lease_and_pin(&actor, &scratch.file(&format!("group/{}", actor.pid())));
        if denied {
            is_denied(&actor, &file);
        } else {
            actor.ok("setlease f u");
        }
    }
    assert_eq!(enforcement.hits("group")["denied"], 2);
    fs::remove_dir(format!("{group}/below")).expect("nobody is in it");
    fs::remove_dir(group).expect("nobody is in it");
}

/// The directory counts, not its name: neither a bind mount nor a rename hides a file below it.
#[test]
fn the_directory_whatever_it_is_called() {
    let scratch = Scratch::new();
    let policy = rule(&scratch, "served", "");
    let _enforcement = Enforcement::start(&format!("mode = \"enforce\"\n{policy}"));
    let served = |name: &str| scratch.file(&format!("served/{name}"));

    let bind = BindMount::of(scratch.directory());
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &bind.file("served/f"));
    is_denied(&actor, &file);
    let below = BindMount::of(served("").as_ref());
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &below.file("g"));
    is_denied(&actor, &file);

    fs::create_dir(served("a")).expect("a directory");
    let actor = Actor::start();
    let mut file = open_lease_and_pin(&actor, &served("a/f"));
    fs::rename(served("a/f"), served("a/g")).expect("the file is renamed");
    fs::rename(served("a"), served("b")).expect("its directory is renamed");
    fs::rename(scratch.file("served"), scratch.file("moved")).expect("the rule's is renamed");
    file.path = scratch.file("moved/b/g");
    is_denied(&actor, &file);
}

/// A rule's path is where the file was when its lease was set, or when it was first pinned: moved out after that, it is
/// the rule's, and moved in it is not.
#[test]
fn the_directory_that_the_file_was_in() {
    let scratch = Scratch::new();
    let policy = rule(&scratch, "served", "");
    let enforcement = Enforcement::start(&format!("mode = \"enforce\"\n{policy}"));
    let (inside, outside) = (scratch.file("served/f"), scratch.file("f"));
    let move_to = |from: &str, to: &str| fs::rename(from, to).expect("it is moved");
    let open = |path: &str| {
        let actor = Actor::start();
        actor.ok(&format!("open f {path} rw,creat"));
        actor.all(&["truncate f 1M", "mmap m f 1M shared rw", "uring ring"]);
        (actor, Subject::as_mounted(path))
    };

    // After both.
    let (actor, file) = open(&inside);
    actor.all(&["setlease f w", "register-buffers ring m"]);
    move_to(&inside, &outside);
    is_denied(&actor, &file);
    fs::remove_file(&outside).expect("it is removed");

    // Between the two, in either order.
    for [first, second] in [
        ["setlease f w", "register-buffers ring m"],
        ["register-buffers ring m", "setlease f w"],
    ] {
        let (actor, file) = open(&inside);
        actor.ok(first);
        move_to(&inside, &outside);
        actor.ok(second);
        eprintln!("{first}");
        if first == "setlease f w" {
            is_denied(&actor, &file);
        } else {
            // Its first pins were bare, which no rule here is about: it is where it is when it comes to be leased.
            actor.all(&["setlease f u", "unregister-buffers ring"]);
        }
        fs::remove_file(&outside).expect("it is removed");
    }

    // Unlinked.
    let (actor, file) = open(&inside);
    actor.all(&["setlease f w", "register-buffers ring m"]);
    fs::remove_file(&inside).expect("it is removed");
    actor.err("setlease f u", libc::EBUSY);
    assert_eq!(leases_on(&file).len(), 1);
    actor.all(&["unregister-buffers ring", "setlease f u"]);
    assert_eq!(enforcement.hits("served")["denied"], 3);

    // Moved in later.
    let (actor, file) = open(&outside);
    actor.all(&["setlease f w", "register-buffers ring m"]);
    move_to(&outside, &inside);
    actor.ok("setlease f u");
    assert!(leases_on(&file).is_empty());
    fs::remove_file(&inside).expect("it is removed");

    // Under the same policy put in force anew it is where it is.
    let (actor, file) = open(&inside);
    actor.all(&["setlease f w", "register-buffers ring m"]);
    move_to(&inside, &outside);
    enforcement.replace(&format!("mode = \"enforce\"\n{policy}"));
    actor.ok("setlease f u");
    assert!(leases_on(&file).is_empty());
}

#[test]
fn the_first_of_two_that_overlap() {
    let scratch = Scratch::new();
    let inner = rule(&scratch, "inner", "");
    let outer = format!(
        "[[rule]]\nname = \"outer\"\nmatch.path = \"{}\"\naction = \"report\"\n",
        scratch.directory().display()
    );
    let enforcement = Enforcement::start(&format!("mode = \"enforce\"\n{inner}{outer}"));
    let lease = |path: &str| {
        let actor = Actor::start();
        let file = open_lease_and_pin(&actor, &scratch.file(path));
        (actor, file)
    };
    let (actor, file) = lease("inner/a");
    is_denied(&actor, &file);
    lease("b").0.ok("setlease f u");
    assert_eq!(enforcement.hits("inner")["denied"], 1);
    assert_eq!(enforcement.hits("outer")["reported"], 1);

    enforcement
        .replace(&format!("mode = \"enforce\"\n{outer}{inner}"))
        .says(&["inner never matches"]);
    lease("inner/c").0.ok("setlease f u");
    // Counted on from the policy before.
    assert_eq!(enforcement.hits("outer")["reported"], 2);
    assert_eq!(enforcement.hits("inner")["denied"], 1);
}

/// A rule on trial tells what it would do of each breach, denied or not, and takes none from the rules in force.
#[test]
fn one_on_trial_beside_those_in_force() {
    let scratch = Scratch::new();
    let inner = rule(&scratch, "inner", "");
    let trial = format!(
        "[[rule]]\nname = \"trial\"\nmode = \"audit\"\nmatch.path = \"{}\"\naction = \"kill\"\n",
        scratch.directory().display()
    );
    let enforcement = Enforcement::start(&format!("mode = \"enforce\"\n{trial}{inner}"));
    let monitor = enforcement.monitor();
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("inner/f"));
    is_denied(&actor, &file);
    let other = Actor::start();
    open_lease_and_pin(&other, &scratch.file("g"));
    other.ok("setlease f u");
    let would = serde_json::json!({ "would-kill": 2 });
    assert_eq!(enforcement.hits("trial"), would);
    assert_eq!(
        enforcement.hits("inner"),
        serde_json::json!({ "denied": 1 })
    );
    let denied = monitor.expect_of("denied", actor.pid());
    assert_eq!(
        (&denied["rule"], &denied["outcome"]),
        (&"inner".into(), &"done".into())
    );
    for pid in [actor.pid(), other.pid()] {
        let told = monitor.expect_of("would-kill", pid);
        assert_eq!(
            (&told["rule"], &told["outcome"]),
            (&"trial".into(), &"would".into())
        );
    }
    let status = enforcement.status();
    let modes = status["rules"].as_array().expect("a list").iter();
    let modes: Vec<_> = modes.map(|rule| rule["mode"].as_str()).collect();
    assert_eq!(modes, [Some("monitor"), Some("enforce")]);

    // The other way round: one in force in a policy that only audits.
    let armed = inner.replace("action", "mode = \"enforce\"\naction");
    let watching = trial.replace("mode = \"audit\"\n", "");
    enforcement.replace(&format!("{watching}{armed}"));
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("inner/h"));
    is_denied(&actor, &file);
    assert_eq!(enforcement.hits("trial")["would-kill"], 3);
}

/// What a lease is when it goes counts, not what it was when the first pin was taken.
#[test]
fn a_lease_that_became_another_is_judged_as_what_it_is() {
    let scratch = Scratch::new();
    let rule = |mode: &str| {
        format!(
            "[[rule]]\nname = \"{mode}\"\nmatch.path = \"{}\"\nmatch.lease = \"{mode}\"\n\
             action = \"deny\"\nfallback = \"report\"\n",
            scratch.file(mode)
        )
    };
    for mode in ["write", "read"] {
        fs::create_dir(scratch.file(mode)).expect("a directory");
    }
    let _enforcement = Enforcement::start(&format!(
        "mode = \"enforce\"\n{}{}",
        rule("write"),
        rule("read")
    ));
    for (mode, is_denied) in [("write", false), ("read", true)] {
        let actor = Actor::start();
        let path = scratch.file(&format!("{mode}/f"));
        actor.ok(&format!("open pinned {path} rw,creat"));
        actor.all(&["write-all pinned 1M", "mmap m pinned 1M shared rw"]);
        actor.all(&["uring ring", "register-buffers ring m"]);
        actor.all(&["munmap m", "close pinned"]);
        actor.ok(&format!("open f {path} ro"));
        actor.all(&["setlease f w", "setlease f r"]);
        if is_denied {
            actor.err("setlease f u", libc::EBUSY);
            actor.ok("unregister-buffers ring");
        }
        actor.ok("setlease f u");
    }
}

/// A process is known by its name now and by the one that it had when it took its first pins.
#[test]
fn the_process_under_either_name() {
    let scratch = Scratch::new();
    let named = rule(&scratch, "named", "match.comm = \"culp*\"");
    let _enforcement = Enforcement::start(&format!("mode = \"enforce\"\n{named}"));
    for (number, [before, after]) in [
        ["client", "culprit"],
        ["culprit", "bystander"],
        ["client", "bystander"],
    ]
    .into_iter()
    .enumerate()
    {
        let actor = Actor::start();
        actor.ok(&format!("comm {before}"));
        let file = open_lease_and_pin(&actor, &scratch.file(&format!("named/{number}")));
        actor.ok(&format!("comm {after}"));
        if [before, after].contains(&"culprit") {
            is_denied(&actor, &file);
        } else {
            actor.all(&["setlease f u", "unregister-buffers ring"]);
        }
    }
}
