//! `lease-trace doctor`: what this kernel offers and lacks, each with its reason and remedy.

use std::{
    fmt::Write as _,
    io::{self, BufWriter, Write},
};

use crate::{
    cli::DoctorFlags,
    examination::{self, Examination, Finding, FindingState, Row},
    exit::Exit,
    kernel::release_paths::Answer,
    sinks::{WriteError, json, text},
};

const WIDTH: usize = 80;
const STATE_WIDTH: usize = 8;
const POINT_WIDTH: usize = 34;
/// Where reasons and remedies begin.
const INDENT: usize = 2 + STATE_WIDTH + 1;

pub fn run(flags: &DoctorFlags) -> anyhow::Result<Exit> {
    let examination = examination::examine()?;
    let mut out = BufWriter::new(io::stdout().lock());
    if flags.json {
        json::page(&examination, &mut out).map_err(WriteError)?;
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
        enforcement,
        deniable,
        possible,
    } = examination;
    let mut page = format!("Kernel {kernel}\n");
    for group in groups(findings) {
        page.extend(["\n", group, "\n"]);
        for finding in findings.iter().filter(|finding| finding.group == group) {
            page.push_str(&entry(finding));
        }
    }
    if !enforcement.is_empty() {
        page.push_str(&table(enforcement));
    }
    let whole = *deniable && findings.iter().all(|f| f.state == FindingState::Ok);
    let verdict = text::wrap(verdict(*possible, whole), WIDTH, 0);
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

const ACTIONS: [&str; 4] = ["deny", "hold", "stop", "kill"];
const CELL_WIDTH: usize = 12;
const WAY_WIDTH: usize = 16;
/// Where footnotes begin.
const INDENT_NOTE: usize = 7;

/// Release path by action, with a footnote for each thing that is to be said.
fn table(rows: &[Row]) -> String {
    let mut notes: Vec<String> = Vec::new();
    let heading = line("release path", &ACTIONS.map(str::to_owned));
    let mut page = format!("\nenforcement\n{heading}");
    for row in rows {
        let Row {
            way,
            deny,
            hold,
            stop,
            kill,
        } = row;
        let cells = [deny, hold, stop, kill].map(|answer| cell(answer, &mut notes));
        page.push_str(&line(way.name(), &cells));
    }
    for (number, note) in (1..).zip(&notes) {
        let note = text::wrap(note, WIDTH - INDENT_NOTE, 0);
        let mut mark = format!("({number})");
        for line in note.lines() {
            // Writing to a String cannot fail.
            let _ = writeln!(page, "  {mark:<width$}{line}", width = INDENT_NOTE - 2);
            mark.clear();
        }
    }
    page
}

fn line(way: &str, cells: &[String; 4]) -> String {
    let mut line = format!("  {way:WAY_WIDTH$}");
    for cell in cells {
        let _ = write!(line, "{cell:CELL_WIDTH$}");
    }
    format!("{}\n", line.trim_end())
}

fn cell(answer: &Answer, notes: &mut Vec<String>) -> String {
    let (word, note) = match answer {
        Answer::Yes { how } => ("yes", how.as_deref()),
        Answer::No { why } => ("no", Some(why.as_str())),
        Answer::Ends => (
            "ends",
            Some("the process is ending: there is nothing to do"),
        ),
    };
    let Some(note) = note else {
        return word.to_owned();
    };
    let number = notes.iter().position(|known| known == note);
    let number = number.unwrap_or_else(|| {
        notes.push(note.to_owned());
        notes.len() - 1
    });
    format!("{word} ({})", number + 1)
}

const fn state_name(state: FindingState) -> &'static str {
    match state {
        FindingState::Ok => "ok",
        FindingState::Degraded => "degraded",
        FindingState::Missing => "missing",
    }
}

fn verdict(possible: bool, whole: bool) -> &'static str {
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
    use crate::kernel::release_paths::ReleasePaths;

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
                    reason: Some("no BPF file system is mounted on /sys/fs/bpf".to_owned()),
                    remedy: Some("mount -t bpf bpf /sys/fs/bpf".to_owned()),
                    ..ok("BPF file system", "host", "")
                },
                ok("unpin_user_page_range_dirty_lock", "Pins", "fexit"),
            ],
            enforcement: examination::enforcement(&ReleasePaths::like_debian_12()),
            deniable: false,
            possible: true,
        }
    }

    #[test]
    fn findings_are_grouped_and_fit_eighty_columns() {
        let page = render(&examination());
        assert!(page.lines().all(|line| line.len() <= WIDTH));
        insta::assert_snapshot!(page, @r"
        Kernel 6.1.192-amd64

        Leases
          ok       lease_modify                       fentry
          degraded locks_remove_file                  kprobe
                   there is no BPF trampoline for it: it is not in BTF as a function, so
                   a kprobe is used, which costs more

        Pins
          ok       pin_user_pages_fast                fexit
          ok       unpin_user_page_range_dirty_lock   fexit

        host
          missing  BPF file system
                   no BPF file system is mounted on /sys/fs/bpf
                   Remedy: mount -t bpf bpf /sys/fs/bpf

        enforcement
          release path    deny        hold        stop        kill
          unlock          yes (1)     yes (2)     yes         yes
          close           no (3)      yes         yes         yes
          dup2            no (3)      yes         yes         yes
          close_range     no (3)      yes         yes         yes
          munmap          no (3)      yes         yes         yes
          exec            no (4)      yes         yes         yes
          exit            ends (5)    ends (5)    ends (5)    ends (5)
          killed          ends (5)    ends (5)    ends (5)    ends (5)
          io_uring        no (4)      yes         yes         yes
          break-timeout   no (4)      no (6)      yes         yes
          other           no (4)      yes         yes (7)     yes (7)
          thread-exit     no (4)      yes         yes         yes
          orphaned        no (4)      yes         yes (8)     yes (8)
          (1)  BPF LSM
          (2)  by denying it: a duplicate does not keep what is unlocked
          (3)  the system call is not modifiable; remedy: a newer kernel; 7.3 allows it
          (4)  no kernel lets this be denied
          (5)  the process is ending: there is nothing to do
          (6)  the kernel takes the lease away, whoever keeps the file
          (7)  unless another process released it: then it is only reported
          (8)  by a monitor, which finds it by a walk over descriptors

        lease-trace can find zombies here, with the limits that the reasons above name.
        ");
    }
}
