//! `lease-trace generate`: what a package has beside the program, made from the command line itself
//! so that it cannot differ: a man page for each command, and completions.

use std::{fs, path::Path};

use anyhow::Context as _;
use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::{
    cli::{Cli, GenerateFlags},
    exit::Exit,
};

/// System administration.
const SECTION: &str = "8";
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

pub fn run(flags: &GenerateFlags) -> anyhow::Result<Exit> {
    let (man, completions) = (
        flags.directory.join("man"),
        flags.directory.join("completions"),
    );
    for directory in [&man, &completions] {
        fs::create_dir_all(directory)
            .with_context(|| format!("cannot create {}", directory.display()))?;
    }
    let mut command = Cli::command();
    command.build();
    pages(&command, &man)?;
    for shell in SHELLS {
        let mut text = Vec::new();
        let mut command = Cli::command();
        clap_complete::generate(shell, &mut command, "lease-trace", &mut text);
        write(&completions.join(name(shell)), &text)?;
    }
    Ok(Exit::Done)
}

/// What a shell looks for.
fn name(shell: Shell) -> &'static str {
    match shell {
        Shell::Zsh => "_lease-trace",
        Shell::Fish => "lease-trace.fish",
        _ => "lease-trace",
    }
}

/// The page of a command and those of its own commands.
fn pages(command: &Command, directory: &Path) -> anyhow::Result<()> {
    let page = Man::new(command.clone())
        .section(SECTION)
        .source(concat!("lease-trace ", env!("CARGO_PKG_VERSION")))
        .manual("lease-trace");
    let mut text = Vec::new();
    page.render(&mut text)?;
    write(&directory.join(page.get_filename()), &text)?;
    let shown = |command: &&Command| !command.is_hide_set() && command.get_name() != "help";
    command
        .get_subcommands()
        .filter(shown)
        .try_for_each(|command| pages(command, directory))
}

fn write(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_command_has_a_page_and_each_shell_its_completions() {
        let directory = tempfile::tempdir().expect("a directory");
        let flags = GenerateFlags {
            directory: directory.path().to_owned(),
        };
        assert_eq!(run(&flags).expect("it can write"), Exit::Done);
        let list = |name: &str| {
            let entries = fs::read_dir(directory.path().join(name)).expect("it is there");
            let mut names: Vec<_> = entries
                .map(|entry| {
                    entry
                        .expect("readable")
                        .file_name()
                        .into_string()
                        .expect("UTF-8")
                })
                .collect();
            names.sort_unstable();
            names.join(" ")
        };
        insta::assert_snapshot!(list("man"), @"lease-trace-doctor.8 lease-trace-enforce-start.8 lease-trace-enforce-status.8 lease-trace-enforce-stop.8 lease-trace-enforce.8 lease-trace-monitor.8 lease-trace-pins.8 lease-trace-plot.8 lease-trace-policy-check.8 lease-trace-policy-test.8 lease-trace-policy.8 lease-trace-record.8 lease-trace-report.8 lease-trace-run.8 lease-trace-top.8 lease-trace-why.8 lease-trace.8");
        insta::assert_snapshot!(list("completions"), @"_lease-trace lease-trace lease-trace.fish");
        let page = fs::read_to_string(directory.path().join("man/lease-trace-monitor.8"));
        let page = page.expect("UTF-8");
        assert!(page.contains(".TH lease-trace-monitor 8"), "{page}");
        assert!(
            page.contains("all\\-events") && page.contains("Exit status"),
            "{page}"
        );
        let bash = fs::read_to_string(directory.path().join("completions/lease-trace"));
        assert!(bash.expect("UTF-8").contains("--all-events"));
    }
}
