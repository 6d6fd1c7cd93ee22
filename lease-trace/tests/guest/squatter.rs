//! Squatters: leases that stand in somebody's way, or stood for long, without any pin under them.
//! And who else has a file open or mapped.

use crate::harness::{Actor, Monitor, Scratch, Setting, Tool, expect_zombie, open_lease_and_pin};

/// The pids of the squatters that this report shows.
fn squatters(typed: &str) -> Vec<i64> {
    let report = Tool::run(&["report", "stakes", typed, "-J"]).exits(0);
    let rows = report.json()["stakes"].as_array().cloned();
    let rows = rows.unwrap_or_else(|| panic!("no stakes\n{report}"));
    for row in &rows {
        assert_eq!(row["pins"], 0, "{report}");
        assert_eq!(row["state"], "leased", "{report}");
    }
    rows.iter().filter_map(|row| row["pid"].as_i64()).collect()
}

#[test]
fn who_holds_a_lease_that_somebody_wants_is_one() {
    let _long = Setting::set("fs/lease-break-time", "45");
    let scratch = Scratch::new();
    let _monitor = Monitor::start();
    let (wanted, unwanted, pinned, other) = (
        Actor::start(),
        Actor::start(),
        Actor::start(),
        Actor::start(),
    );
    for (actor, name) in [(&wanted, "wanted"), (&unwanted, "unwanted")] {
        actor.ok(&format!("open f {} rw,creat", scratch.file(name)));
        actor.ok("setlease f w");
    }
    open_lease_and_pin(&pinned, &scratch.file("pinned"));
    assert!(squatters("--squatters").is_empty());
    for name in ["wanted", "pinned"] {
        let open = format!("open g {} rw,nonblock", scratch.file(name));
        other.err(&open, libc::EWOULDBLOCK);
    }
    assert_eq!(squatters("--squatters"), [wanted.pid()]);
    assert_eq!(squatters("--squatters=1h"), [wanted.pid()]);
    unwanted.ok("sleep 1100");
    let mut both = vec![wanted.pid(), unwanted.pid()];
    both.sort_unstable();
    let mut found = squatters("--squatters=1s");
    found.sort_unstable();
    assert_eq!(found, both);
    let table = Tool::run(&["report", "stakes", "--squatters", "-r", "-n"]).exits(0);
    let breaker = format!("{},client", other.pid());
    assert!(table.stdout.contains(&breaker), "{breaker}\n{table}");
    Tool::run(&["report", "--squatters"])
        .exits(2)
        .says(&["report stakes"]);
}

/// Whoever else has the file of a zombie open or mapped is named, lease or no lease.
#[test]
fn everybody_else_with_the_file_is_named() {
    let scratch = Scratch::new();
    let monitor = Monitor::start();
    let (actor, reader, mapper) = (Actor::start(), Actor::start(), Actor::start());
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok("setlease f u");
    expect_zombie(&monitor, actor.pid(), &file, "unlock");
    reader.ok(&format!("open g {} ro", file.path));
    mapper.ok(&format!("open g {} ro", file.path));
    mapper.all(&["mmap m g 1M shared ro", "close g"]);
    for (list, status) in [("zombies", 1), ("stakes", 0)] {
        let report = Tool::run(&["report", list, "-J"]).exits(status);
        let row = &report.rows(list, actor.pid())[0];
        let holders = row["holders"].as_array().cloned().unwrap_or_default();
        let pids: Vec<_> = holders
            .iter()
            .map(|holder| (holder["pid"].as_i64(), holder["fd"].is_null()))
            .collect();
        let mut expected = vec![(Some(reader.pid()), false), (Some(mapper.pid()), true)];
        expected.sort_unstable();
        assert_eq!(pids, expected, "{report}");
    }
    let table = Tool::run(&["report", "-o", "+HOLDERS"]).exits(1);
    let by_mapping = format!("{},client,mem", mapper.pid());
    assert!(table.stdout.contains(&by_mapping), "{by_mapping}\n{table}");
}
