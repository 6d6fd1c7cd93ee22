//! A Prometheus as Debian has it, which scrapes a monitor, and its checker.

use std::fs;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::harness::{
    Actor, Metrics, Monitor, Scratch, eventually, expect_zombie, get, open_lease_and_pin,
};

const RULES: &str = include_str!("../../../dist/prometheus/lease-trace.rules.yml");
const RULES_TEST: &str = include_str!("../../../dist/prometheus/lease-trace.test.yml");
const DASHBOARD: &str = include_str!("../../../dist/grafana/lease-trace.json");
const API: &str = "http://127.0.0.1:9090/api/v1";

const CONFIG: &str = "
global: { scrape_interval: 1s, evaluation_interval: 1s }
scrape_configs:
  - job_name: lease-trace
    static_configs: [ { targets: [ 127.0.0.1:9464 ] } ]
rule_files: [ lease-trace.rules.yml ]
";

/// A server with the alert rules of dist; ended when dropped.
struct Prometheus(Child);

impl Prometheus {
    fn start(scratch: &Scratch) -> Self {
        fs::write(scratch.file("lease-trace.rules.yml"), RULES).expect("writes the rules");
        fs::write(scratch.file("prometheus.yml"), CONFIG).expect("writes the configuration");
        let process = Command::new("prometheus")
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .args(["--web.listen-address=127.0.0.1:9090"])
            .current_dir(scratch.directory())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("prometheus runs");
        Self(process)
    }

    /// Waits for this answer to a query: the value of its one series.
    #[track_caller]
    #[allow(clippy::unused_self, reason = "only who has started one may ask")]
    fn expect(&self, query: &str, wanted: impl Fn(f64) -> bool) {
        let mut answer = None;
        let there = eventually(|| {
            answer = get(&format!("{API}/query?query={}", escape(query)));
            let Some(text) = &answer else { return false };
            let answer: Value = serde_json::from_str(text).expect("JSON");
            let value = answer["data"]["result"][0]["value"][1].as_str();
            value.is_some_and(|value| wanted(value.parse().expect("a number")))
        });
        assert!(there, "{query}: {answer:?}");
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// As a URL has it.
fn escape(query: &str) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    query.bytes().map(escape).collect()
}

#[track_caller]
fn promtool(arguments: &[&str], directory: &Scratch, stdin: &str) {
    let mut process = Command::new("promtool")
        .args(arguments)
        .current_dir(directory.directory())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool runs");
    let mut input = process.stdin.take().expect("stdin is a pipe");
    input.write_all(stdin.as_bytes()).expect("it reads");
    drop(input);
    let ran = process.wait_with_output().expect("it ends");
    let said = [ran.stdout, ran.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(ran.status.success(), "promtool {arguments:?}: {said}");
}

#[test]
fn it_scrapes_a_monitor_and_finds_nothing_to_complain_of() {
    let scratch = Scratch::new();
    let monitor = Monitor::with(&["--all-events", "--metrics", "9464"]);
    let metrics = Metrics::of(&monitor);
    let prometheus = Prometheus::start(&scratch);
    let actor = Actor::start();
    let file = open_lease_and_pin(&actor, &scratch.file("f"));
    actor.ok("setlease f u");
    expect_zombie(&monitor, actor.pid(), &file, "unlock");
    promtool(&["check", "metrics"], &scratch, &metrics.text());

    prometheus.expect("up{job=\"lease-trace\"}", |up| up > 0.0);
    prometheus.expect("sum(lease_trace_zombies{cause=\"unlock\"})", |zombies| {
        (1.0..2.0).contains(&zombies)
    });
    prometheus.expect("lease_trace_oldest_zombie_age_seconds", |age| age > 1.0);
    prometheus.expect("lease_trace_lost_total{what=\"ring\"}", |lost| lost == 0.0);
    // Every question of the dashboard is one that Prometheus understands.
    for query in queries() {
        let answer = get(&format!("{API}/query?query={}", escape(&query)));
        let answer = answer.unwrap_or_else(|| panic!("refused: {query}"));
        assert!(answer.contains("\"success\""), "{query}: {answer}");
    }
    actor.ok("unregister-buffers ring");
    prometheus.expect("lease_trace_zombie_duration_seconds_count", |count| {
        (1.0..2.0).contains(&count)
    });
}

/// Those of the dashboard, with its variables filled in.
fn queries() -> Vec<String> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    match member {
                        Value::String(query) if name == "expr" => found.push(query.clone()),
                        _ => collect(member, found),
                    }
                }
            }
            Value::Array(members) => members.iter().for_each(|member| collect(member, found)),
            _ => {}
        }
    }
    let dashboard = serde_json::from_str(DASHBOARD).expect("the dashboard is JSON");
    let mut found = Vec::new();
    collect(&dashboard, &mut found);
    assert!(!found.is_empty());
    let filled = found.into_iter().map(|query| {
        query
            .replace("$instance", ".*")
            .replace("$__rate_interval", "1m")
    });
    filled.collect()
}

#[test]
fn the_alert_rules_pass_their_tests() {
    let scratch = Scratch::new();
    for (name, text) in [
        ("lease-trace.rules.yml", RULES),
        ("lease-trace.test.yml", RULES_TEST),
    ] {
        fs::write(scratch.file(name), text).expect("writes it");
    }
    promtool(&["check", "rules", "lease-trace.rules.yml"], &scratch, "");
    promtool(&["test", "rules", "lease-trace.test.yml"], &scratch, "");
}
