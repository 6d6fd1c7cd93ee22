//! `lease-trace doctor`: what this kernel offers and lacks, each with its reason and remedy.

use std::io::{self, BufWriter, Write};

use crate::{
    cli::DoctorFlags,
    exit::Exit,
    kernel::doctor::{self, Examination, Finding, FindingState},
    sinks::{WriteError, text},
};

const WIDTH: usize = 80;
const STATE_WIDTH: usize = 8;
const POINT_WIDTH: usize = 34;
/// Where reasons and remedies begin.
const INDENT: usize = 2 + STATE_WIDTH + 1;

pub fn run(flags: &DoctorFlags) -> anyhow::Result<Exit> {
    let examination = doctor::examine()?;
    let mut out = BufWriter::new(io::stdout().lock());
    if flags.json {
        serde_json::to_writer_pretty(&mut out, &examination)
            .map_err(|error| WriteError(error.into()))?;
        writeln!(out).map_err(WriteError)?;
    } else {
        out.write_all(render(&examination).as_bytes())
            .map_err(WriteError)?;
    }
    out.flush().map_err(WriteError)?;
    Ok(if examination.possible {
        Exit::Done
    } else {
        Exit::Unsupported
    })
}

fn render(examination: &Examination) -> String {
    let Examination {
        kernel,
        findings,
        possible,
    } = examination;
    let mut page = format!("Kernel {kernel}\n");
    for group in groups(findings) {
        page.extend(["\n", group, "\n"]);
        for finding in findings.iter().filter(|finding| finding.group == group) {
            page.push_str(&entry(finding));
        }
    }
    let verdict = text::wrap(verdict(*possible, findings), WIDTH, 0);
    page + "
" + &verdict
        + "
"
}

/// The groups, in the order of their first appearance.
fn groups(findings: &[Finding]) -> Vec<&'static str> {
    let mut groups = Vec::new();
    for finding in findings {
        if !groups.contains(&finding.group) {
            groups.push(finding.group);
        }
    }
    groups
}

fn entry(finding: &Finding) -> String {
    let Finding {
        point,
        group: _,
        state,
        how,
        reason,
        remedy,
    } = finding;
    let head = format!(
        "  {:STATE_WIDTH$} {point:POINT_WIDTH$} {how}",
        state_name(*state)
    );
    let mut lines = format!("{}\n", head.trim_end());
    let notes = [
        reason.clone(),
        remedy.as_ref().map(|remedy| format!("Remedy: {remedy}")),
    ];
    for note in notes.into_iter().flatten() {
        let note = text::wrap(&note, WIDTH - INDENT, 0);
        for line in note.lines() {
            lines.extend([" ".repeat(INDENT).as_str(), line, "\n"]);
        }
    }
    lines
}

const fn state_name(state: FindingState) -> &'static str {
    match state {
        FindingState::Ok => "ok",
        FindingState::Degraded => "degraded",
        FindingState::Missing => "missing",
    }
}

fn verdict(possible: bool, findings: &[Finding]) -> &'static str {
    let whole = findings
        .iter()
        .all(|finding| finding.state == FindingState::Ok);
    match (possible, whole) {
        (false, _) => "lease-trace cannot find zombies here: see what is missing above.",
        (true, true) => "lease-trace can do all it does here.",
        (true, false) => {
            "lease-trace can find zombies here, with the limits that the reasons above name."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examination() -> Examination {
        let ok = |point: &str, group, how: &str| Finding {
            point: point.to_owned(),
            group,
            state: FindingState::Ok,
            how: how.to_owned(),
            reason: None,
            remedy: None,
        };
        Examination {
            kernel: "6.1.192-amd64".to_owned(),
            findings: vec![
                ok("lease_modify", "Leases", "fentry"),
                Finding {
                    state: FindingState::Degraded,
                    reason: Some(
                        "there is no BPF trampoline for it: it is not in BTF as a function, so \
                         a kprobe is used, which costs more"
                            .to_owned(),
                    ),
                    ..ok("locks_remove_file", "Leases", "kprobe")
                },
                ok("pin_user_pages_fast", "Pins", "fexit"),
                Finding {
                    state: FindingState::Missing,
                    reason: Some("close(2) cannot be denied".to_owned()),
                    remedy: Some(
                        "build the kernel with CONFIG_FUNCTION_ERROR_INJECTION=y".to_owned(),
                    ),
                    ..ok("__x64_sys_close", "Enforcement", "")
                },
                ok("unpin_user_page_range_dirty_lock", "Pins", "fexit"),
            ],
            possible: true,
        }
    }

    #[test]
    fn findings_are_grouped_and_fit_eighty_columns() {
        let page = render(&examination());
        assert!(page.lines().all(|line| line.len() <= WIDTH));
        insta::assert_snapshot!(page, @r#"
        Kernel 6.1.192-amd64

        Leases
          ok       lease_modify                       fentry
          degraded locks_remove_file                  kprobe
                   there is no BPF trampoline for it: it is not in BTF as a function, so
                   a kprobe is used, which costs more

        Pins
          ok       pin_user_pages_fast                fexit
          ok       unpin_user_page_range_dirty_lock   fexit

        Enforcement
          missing  __x64_sys_close
                   close(2) cannot be denied
                   Remedy: build the kernel with CONFIG_FUNCTION_ERROR_INJECTION=y

        lease-trace can find zombies here, with the limits that the reasons above name.
        "#);
    }
}
